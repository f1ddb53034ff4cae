//! Whether and when a container that has ended is started again, as Docker does (moby, `daemon/internal/restartmanager`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use engine_types::ErrorKind;
use serde::{Deserialize, Serialize};

/// The pause before the first restart; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A container that has run for so long starts over with the first pause.
const STEADY: Duration = Duration::from_secs(10);

/// What happens when a container ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It is restarted unless it was stopped; after a boot even then.
    Always,
    /// It is restarted unless it was stopped.
    UnlessStopped,
    /// It is restarted if it failed, so many times in all; without a number without end.
    OnFailure(Option<u32>),
}

/// A text that is no restart policy, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseRestartPolicyError {
    /// Nothing stands before the colon.
    #[error("invalid restart policy format: no policy provided before colon")]
    NoPolicy,
    /// What stands behind the colon is no number.
    #[error("invalid restart policy format: maximum retry count must be an integer")]
    NotANumber,
    /// It is a negative one.
    #[error("invalid restart policy: maximum retry count cannot be negative")]
    Negative,
    /// It stands behind another policy.
    #[error("invalid restart policy: maximum retry count can only be used with 'on-failure'")]
    NotOnFailure,
    /// There is no such policy.
    #[error(
        "invalid restart policy: unknown policy '{0}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
    )]
    Unknown(String),
}

impl ParseRestartPolicyError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

impl FromStr for RestartPolicy {
    type Err = ParseRestartPolicyError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (name, retries) = match s.split_once(':') {
            Some(("", _)) => return Err(ParseRestartPolicyError::NoPolicy),
            Some((name, text)) => {
                (name, Some(text.parse::<i32>().map_err(|_| ParseRestartPolicyError::NotANumber)?))
            }
            None => (s, None),
        };
        let policy = match name {
            "" | "no" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => {
                let retries = retries.map(u32::try_from).transpose();
                let retries = retries.map_err(|_| ParseRestartPolicyError::Negative)?;
                return Ok(Self::OnFailure(retries.filter(|&count| count != 0)));
            }
            _ => return Err(ParseRestartPolicyError::Unknown(name.to_owned())),
        };
        if retries.is_some_and(|count| count != 0) {
            return Err(ParseRestartPolicyError::NotOnFailure);
        }
        Ok(policy)
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
            Self::OnFailure(None) => f.write_str("on-failure"),
            Self::OnFailure(Some(retries)) => write!(f, "on-failure:{retries}"),
        }
    }
}

/// The restarts of one container since it was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restarts {
    policy: RestartPolicy,
    /// How many there were.
    pub(crate) count: u32,
    pause: Duration,
}

impl Restarts {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        Self { policy, count: 0, pause: Duration::ZERO }
    }

    /// Follows another policy from now on.
    pub(crate) fn set_policy(&mut self, policy: RestartPolicy) {
        self.policy = policy;
    }

    /// Counts an end: the pause until the container is to be restarted, `None` if it is not. `stopped` says that
    /// somebody wants it to stay down.
    pub(crate) fn after(&mut self, code: i32, stopped: bool, ran: Duration) -> Option<Duration> {
        let restart = match self.policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure(most) => code != 0 && most.is_none_or(|most| self.count < most),
        };
        if stopped || !restart {
            return None;
        }
        let before = if ran >= STEADY { Duration::ZERO } else { self.pause };
        self.pause = (before * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.count += 1;
        Some(self.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(5);

    #[test]
    fn pauses_double_up_to_a_minute_and_start_over_after_a_steady_run() {
        let mut restarts = Restarts::new(RestartPolicy::Always);
        let mut pause = |ran| restarts.after(0, false, ran).unwrap().as_millis();
        let pauses: Vec<u128> = (0..11).map(|_| pause(MOMENT)).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000]);
        assert_eq!((pause(STEADY), pause(MOMENT)), (100, 200));
    }

    #[test]
    fn each_policy_knows_which_ends_it_takes() {
        let after = |policy: &str, code, stopped| {
            Restarts::new(policy.parse().unwrap()).after(code, stopped, MOMENT).is_some()
        };
        let ends = [(0, false), (1, false), (137, true)];
        let all = |policy| ends.map(|(code, stopped)| after(policy, code, stopped));
        assert_eq!(all("no"), [false, false, false]);
        assert_eq!(all("always"), [true, true, false]);
        assert_eq!(all("unless-stopped"), [true, true, false]);
        assert_eq!(all("on-failure"), [false, true, false]);
    }

    #[test]
    fn failures_are_restarted_as_often_as_allowed() {
        let mut restarts = Restarts::new("on-failure:2".parse().unwrap());
        let again = [(); 3].map(|()| restarts.after(1, false, MOMENT).is_some());
        assert_eq!((again, restarts.count), ([true, true, false], 2));
    }

    #[test]
    fn policies_are_read_and_refused_as_docker_does() {
        for text in ["no", "always", "unless-stopped", "on-failure", "on-failure:3"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        assert_eq!("on-failure:0".parse(), Ok(RestartPolicy::OnFailure(None)));
        for (text, says) in [
            (":3", "invalid restart policy format: no policy provided before colon"),
            ("on-failure:x", "invalid restart policy format: maximum retry count must be an integer"),
            ("on-failure:-1", "invalid restart policy: maximum retry count cannot be negative"),
            ("always:3", "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
            (
                "sometimes",
                "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or \
                 'unless-stopped'",
            ),
        ] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap_err().to_string(), says);
        }
    }
}
