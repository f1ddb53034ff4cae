//! From a health check as Docker writes it to the runtime's.

use std::time::Duration;

use engine_image::Healthcheck;
use engine_runtime::HealthCheck;
use engine_types::ErrorKind;

/// The shell of checks in shell form where the image names none; Docker's.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// The shortest time that may be asked for, in nanoseconds.
const SHORTEST: i64 = 1_000_000;

/// A health check that makes no sense, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HealthCheckError {
    /// A time below a millisecond.
    #[error("{0} in Healthcheck cannot be less than 1ms")]
    TooShort(&'static str),
    /// A negative number of retries.
    #[error("Retries in Healthcheck cannot be negative")]
    Retries,
    /// The test begins with no known word.
    #[error("Unknown healthcheck type '{0}' (expected 'CMD')")]
    Kind(String),
}

impl HealthCheckError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// The check of a container whose image has the check `image` and the shell `shell`, and that asks for `asked`: what
/// that leaves empty or zero is as in the image, and as Docker has it where the image says nothing. `None` if there is
/// none, or `asked` or the image wants none.
pub fn resolve_health(
    image: Option<&Healthcheck>,
    shell: Option<&[String]>,
    asked: &Healthcheck,
) -> Result<Option<HealthCheck>, HealthCheckError> {
    validate(asked)?;
    let inherited = Healthcheck::default();
    let image = image.unwrap_or(&inherited);
    let test = if asked.test.is_empty() { &image.test } else { &asked.test };
    let args = match test.split_first() {
        None => return Ok(None),
        Some((kind, _)) if kind == "NONE" => return Ok(None),
        Some((kind, args)) if kind == "CMD" => args.to_vec(),
        Some((kind, script)) if kind == "CMD-SHELL" => {
            let shell = shell.map_or_else(|| SHELL.map(String::from).to_vec(), <[String]>::to_vec);
            shell.into_iter().chain(script.first().cloned()).collect()
        }
        Some((kind, _)) => return Err(HealthCheckError::Kind(kind.clone())),
    };
    let default = HealthCheck::new(args);
    let time = |asked: i64, image: i64, default: Duration| {
        let chosen = [asked, image].into_iter().filter_map(|ns| u64::try_from(ns).ok()).find(|&ns| ns != 0);
        chosen.map_or(default, Duration::from_nanos)
    };
    let retries = [asked.retries, image.retries].into_iter().find(|&count| count > 0);
    Ok(Some(HealthCheck {
        interval: time(asked.interval, image.interval, default.interval),
        timeout: time(asked.timeout, image.timeout, default.timeout),
        start_period: time(asked.start_period, image.start_period, default.start_period),
        start_interval: time(asked.start_interval, image.start_interval, default.start_interval),
        retries: retries.and_then(|count| u32::try_from(count).ok()).unwrap_or(default.retries),
        args: default.args,
    }))
}

fn validate(asked: &Healthcheck) -> Result<(), HealthCheckError> {
    for (name, time) in [
        ("Interval", asked.interval),
        ("Timeout", asked.timeout),
        ("StartPeriod", asked.start_period),
        ("StartInterval", asked.start_interval),
    ] {
        if time != 0 && time < SHORTEST {
            return Err(HealthCheckError::TooShort(name));
        }
    }
    if asked.retries < 0 { Err(HealthCheckError::Retries) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn test(words: &[&str]) -> Healthcheck {
        Healthcheck { test: words.iter().map(ToString::to_string).collect(), ..Healthcheck::default() }
    }

    fn resolve(image: Option<&Healthcheck>, asked: &Healthcheck) -> Option<HealthCheck> {
        resolve_health(image, None, asked).unwrap()
    }

    #[test]
    fn what_is_not_asked_for_is_the_images() {
        let image = Healthcheck { interval: 7 * SECOND, retries: 9, ..test(&["CMD", "probe", "it"]) };
        let check =
            resolve(Some(&image), &Healthcheck { timeout: SECOND, ..Healthcheck::default() }).unwrap();
        assert_eq!(check.args, ["probe", "it"]);
        assert_eq!((check.interval.as_secs(), check.timeout.as_secs(), check.retries), (7, 1, 9));
        assert_eq!((check.start_period.as_secs(), check.start_interval.as_secs()), (0, 5));
    }

    #[test]
    fn a_script_runs_in_the_images_shell() {
        let asked = test(&["CMD-SHELL", "curl -f x || exit 1"]);
        assert_eq!(resolve(None, &asked).unwrap().args, ["/bin/sh", "-c", "curl -f x || exit 1"]);
        let shell = ["/bin/bash", "-ec"].map(String::from);
        let check = resolve_health(None, Some(&shell), &asked).unwrap().unwrap();
        assert_eq!(check.args, ["/bin/bash", "-ec", "curl -f x || exit 1"]);
    }

    #[test]
    fn none_is_none() {
        let image = test(&["CMD", "probe"]);
        assert_eq!(resolve(Some(&image), &test(&["NONE"])), None);
        assert_eq!(resolve(Some(&test(&["NONE"])), &Healthcheck::default()), None);
        assert_eq!(resolve(None, &Healthcheck { retries: 3, ..Healthcheck::default() }), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_dockers_words() {
        let check = |asked: Healthcheck| resolve_health(None, None, &asked).unwrap_err().to_string();
        let short = Healthcheck { start_period: 999_999, ..Healthcheck::default() };
        assert_eq!(check(short), "StartPeriod in Healthcheck cannot be less than 1ms");
        assert_eq!(
            check(Healthcheck { retries: -1, ..Healthcheck::default() }),
            "Retries in Healthcheck cannot be negative"
        );
        assert_eq!(check(test(&["RUN", "x"])), "Unknown healthcheck type 'RUN' (expected 'CMD')");
    }
}
