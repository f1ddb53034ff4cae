//! What the daemon tells while it pulls, pushes, loads or builds: bars on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::io::{self, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::client::{ClientError, JsonLines};
use crate::streams;

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    Stderr,
    /// Nowhere; errors are told all the same.
    Nowhere,
}

/// Shows progress until its end; `watch` sees every line, those for programs (`aux`) included.
pub(crate) async fn show(
    mut lines: JsonLines<'_>,
    target: Target,
    mut watch: impl FnMut(&Value),
) -> Result<(), ClientError> {
    let mut display = Display::new(target);
    while let Some(line) = lines.next().await? {
        if let Some(message) = line["errorDetail"]["message"].as_str().or_else(|| line["error"].as_str()) {
            display.finish();
            return Err(ClientError::Progress(message.to_owned()));
        }
        watch(&line);
        if line["aux"].is_null() {
            display.line(&line)?;
        }
    }
    display.finish();
    Ok(())
}

enum Display {
    Lines(Box<dyn Write>),
    Bars { all: MultiProgress, bars: HashMap<String, ProgressBar>, out: Box<dyn Write> },
    Nothing,
}

impl Display {
    fn new(target: Target) -> Self {
        let (terminal, out, draw): (bool, Box<dyn Write>, fn() -> ProgressDrawTarget) = match target {
            Target::Nowhere => return Self::Nothing,
            Target::Stdout => {
                (streams::stdout_is_terminal(), Box::new(io::stdout()), ProgressDrawTarget::stdout)
            }
            Target::Stderr => {
                (rustix::termios::isatty(io::stderr()), Box::new(io::stderr()), ProgressDrawTarget::stderr)
            }
        };
        match terminal {
            true => Self::Bars { all: MultiProgress::with_draw_target(draw()), bars: HashMap::new(), out },
            false => Self::Lines(out),
        }
    }

    fn line(&mut self, line: &Value) -> io::Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Lines(out) => match plain(line) {
                Some(text) => {
                    out.write_all(text.as_bytes())?;
                    out.flush()
                }
                None => Ok(()),
            },
            Self::Bars { all, bars, out } => {
                let Some(id) = line["id"].as_str().filter(|id| !id.is_empty() && line["stream"].is_null())
                else {
                    let text = plain(line).unwrap_or_default();
                    // Bars go away for a moment, so that lines stay above them.
                    return all.suspend(|| {
                        out.write_all(text.as_bytes())?;
                        out.flush()
                    });
                };
                let bar = bars.entry(id.to_owned()).or_insert_with(|| {
                    let bar = all.add(ProgressBar::new(0));
                    bar.set_prefix(id.to_owned());
                    bar
                });
                show_bar(bar, line);
                Ok(())
            }
        }
    }

    /// Leaves what is shown where it is.
    fn finish(&mut self) {
        if let Self::Bars { bars, .. } = self {
            bars.values().for_each(ProgressBar::abandon);
        }
    }
}

fn show_bar(bar: &ProgressBar, line: &Value) {
    let (current, total) = (
        line["progressDetail"]["current"].as_u64().unwrap_or(0),
        line["progressDetail"]["total"].as_u64().unwrap_or(0),
    );
    let template = match (current, total) {
        (0, _) => "{prefix}: {msg}",
        (_, 0) => "{prefix}: {msg}  {bytes}",
        _ => "{prefix}: {msg}  [{bar:50}]  {bytes}/{total_bytes}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_length(total.max(current));
    bar.set_position(current);
    bar.set_message(line["status"].as_str().unwrap_or_default().to_owned());
}

/// A line where there is no terminal; none for steps of a bar.
fn plain(line: &Value) -> Option<String> {
    if let Some(text) = line["stream"].as_str() {
        return Some(text.to_owned());
    }
    if line["progressDetail"]["current"].as_u64().is_some_and(|current| current > 0) {
        return None;
    }
    let status = line["status"].as_str()?;
    Some(match line["id"].as_str().filter(|id| !id.is_empty()) {
        Some(id) => format!("{id}: {status}\n"),
        None => format!("{status}\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::plain;
    use serde_json::json;

    #[test]
    fn lines_are_those_of_docker_without_a_terminal() {
        let lines = [
            json!({"status": "Pulling from library/busybox", "id": "1.36"}),
            json!({"status": "Downloading", "id": "ab", "progressDetail": {"current": 5, "total": 10}}),
            json!({"status": "Pull complete", "id": "ab", "progressDetail": {}}),
            json!({"status": "Digest: sha256:00"}),
            json!({"stream": "Step 1/1 : FROM scratch\n"}),
        ];
        insta::assert_snapshot!(lines.iter().filter_map(plain).collect::<String>(), @r"
        1.36: Pulling from library/busybox
        ab: Pull complete
        Digest: sha256:00
        Step 1/1 : FROM scratch
        ");
    }
}
