use std::io::Write;
use std::sync::{Mutex, PoisonError};

use super::narration::{Line, Narrator};
use super::sanitize::Colors;
use crate::event::{Event, Reporter};

/// Writes a run as plain lines, `[job | step] text`, each in one piece: for pipes, files and logs.
#[derive(Debug)]
pub struct PlainReporter<W> {
    state: Mutex<State<W>>,
}

#[derive(Debug)]
struct State<W> {
    narrator: Narrator,
    out: W,
}

impl<W: Write + Send> PlainReporter<W> {
    /// Reports to `out`, which is flushed after each event. Should it fail (a closed pipe), the run goes on unseen.
    pub fn new(out: W) -> Self {
        Self { state: Mutex::new(State { narrator: Narrator::new(Colors::Strip), out }) }
    }
}

impl<W: Write + Send> Reporter for PlainReporter<W> {
    fn report(&self, event: Event) {
        // Whoever panicked with the lock held left at worst half a line.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let text: String = state.narrator.tell(&event).iter().map(render).collect();
        if !text.is_empty() {
            // Nobody is left to tell if the output is gone.
            let _ = state.out.write_all(text.as_bytes()).and_then(|()| state.out.flush());
        }
    }
}

fn render(line: &Line) -> String {
    match &line.prefix {
        Some((_, prefix)) => format!("[{prefix}] {}\n", line.text),
        None => format!("{}\n", line.text),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::output::test_run;

    fn written(events: Vec<Event>) -> String {
        let reporter = PlainReporter::new(Vec::new());
        for event in events {
            reporter.report(event);
        }
        String::from_utf8(reporter.state.into_inner().unwrap().out).unwrap()
    }

    #[test]
    fn tells_a_whole_run() {
        insta::assert_snapshot!(written(test_run::whole()));
    }

    #[test]
    fn tells_a_cancelled_run() {
        insta::assert_snapshot!(written(test_run::cancelled()));
    }

    #[test]
    fn tells_of_jobs_that_were_not_announced() {
        insta::assert_snapshot!(written(test_run::unannounced()));
    }

    #[test]
    fn lines_of_parallel_jobs_never_mix() {
        let jobs = 4;
        let reporter = Arc::new(PlainReporter::new(Vec::new()));
        std::thread::scope(|scope| {
            for job in 0..jobs {
                let reporter = Arc::clone(&reporter);
                scope.spawn(move || {
                    for _ in 0..200 {
                        for piece in ["one ", "two ", "three\n"] {
                            reporter.report(test_run::output(&format!("job{job}"), "step", piece));
                        }
                    }
                });
            }
        });
        let reporter = Arc::into_inner(reporter).unwrap();
        let text = String::from_utf8(reporter.state.into_inner().unwrap().out).unwrap();
        for job in 0..jobs {
            let line = format!("[job{job} | step] one two three");
            assert_eq!(text.lines().filter(|l| *l == line).count(), 200);
        }
        assert_eq!(text.lines().count(), jobs * 200);
    }

    #[test]
    fn a_closed_pipe_stops_nothing() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
        }
        let reporter = PlainReporter::new(Closed);
        for event in test_run::whole() {
            reporter.report(event);
        }
    }
}
