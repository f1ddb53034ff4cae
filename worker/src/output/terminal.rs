use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use pipelines::JobId;

use super::narration::{BUILD, Line, Narrator, Tone, phase_text};
use super::sanitize::{Colors, RESET, label};
use super::units;
use crate::event::{Event, Reporter};

/// How often spinners turn and clocks advance.
const TICK: Duration = Duration::from_millis(100);
/// The widest that the column of job names gets, in characters.
const NAME_MAX: usize = 24;
/// Where terminals have their tab stops, in columns.
const TAB: usize = 8;
/// What jobs' prefixes are told apart by, as SGR codes; red, yellow and green mean something already.
const JOB_COLORS: [&str; 6] = ["36", "35", "34", "96", "95", "94"];

/// Shows a run on a terminal: its lines scroll by, and below them stands a line for each job that runs, with what
/// it is doing, for how long, and a bar while it pulls or builds.
#[derive(Debug)]
pub struct TerminalReporter {
    state: Mutex<View>,
}

impl TerminalReporter {
    /// Reports to standard output, in colour unless `NO_COLOR` is set (no-color.org) or the terminal is dumb.
    pub fn new() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let color = set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb");
        Self::with_view(View::new(ProgressDrawTarget::stdout(), color, Instant::now, Some(TICK)))
    }

    fn with_view(view: View) -> Self {
        Self { state: Mutex::new(view) }
    }
}

impl Default for TerminalReporter {
    fn default() -> Self {
        Self::new()
    }
}

impl Reporter for TerminalReporter {
    fn report(&self, event: Event) {
        // Whoever panicked with the lock held left at worst an old message in a bar.
        self.state.lock().unwrap_or_else(PoisonError::into_inner).show(&event);
    }
}

#[derive(Debug)]
struct View {
    narrator: Narrator,
    multi: MultiProgress,
    color: bool,
    now: fn() -> Instant,
    /// How often bars move by themselves, if they do.
    tick: Option<Duration>,
    name_width: usize,
    running: BTreeMap<JobId, RunningJob>,
}

/// A job's line in the live part.
#[derive(Debug)]
struct RunningJob {
    bar: ProgressBar,
    started: Instant,
    gauge: Gauge,
    activity: String,
    /// Whose unfinished line is shown beside the activity: the step that runs, or the build.
    source: Option<Arc<str>>,
}

/// What a job's line ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gauge {
    None,
    Bytes,
    Steps,
}

impl View {
    fn new(target: ProgressDrawTarget, color: bool, now: fn() -> Instant, tick: Option<Duration>) -> Self {
        let narrator = Narrator::new(if color { Colors::Keep } else { Colors::Strip });
        let multi = MultiProgress::with_draw_target(target);
        Self { narrator, multi, color, now, tick, name_width: 0, running: BTreeMap::new() }
    }

    fn show(&mut self, event: &Event) {
        let lines = self.narrator.tell(event);
        match event {
            Event::RunStarted { jobs, .. } => {
                let widest = jobs.iter().map(|(_, name)| name.chars().count()).max().unwrap_or(0);
                self.name_width = widest.min(NAME_MAX);
            }
            Event::JobStarted { job, .. } => self.begin(job),
            Event::JobEnded { job, .. } => self.end(job),
            Event::RunEnded { .. } => {
                let jobs: Vec<JobId> = self.running.keys().cloned().collect();
                jobs.iter().for_each(|job| self.end(job));
            }
            _ => {}
        }
        self.print(&lines);
        self.update(event);
    }

    /// Prints lines above the live part.
    fn print(&self, lines: &[Line]) {
        if !lines.is_empty() {
            let lines: Vec<String> = lines.iter().map(|line| render(line, self.color)).collect();
            // Nobody is left to tell if the terminal is gone.
            let _ = self.multi.println(lines.join("\n"));
        }
    }

    fn begin(&mut self, job: &JobId) {
        self.end(job);
        let (_, name) = self.narrator.name(job);
        let bar = ProgressBar::no_length().with_prefix(name.to_owned());
        let started = (self.now)();
        bar.set_style(self.style(Gauge::None, started));
        let bar = self.multi.add(bar);
        if let Some(tick) = self.tick {
            bar.enable_steady_tick(tick);
        }
        let running =
            RunningJob { bar, started, gauge: Gauge::None, activity: "starting".into(), source: None };
        self.running.insert(job.clone(), running);
        self.turn_to(job, Gauge::None, "starting".into(), None);
    }

    fn end(&mut self, job: &JobId) {
        if let Some(running) = self.running.remove(job) {
            running.bar.finish_and_clear();
            self.multi.remove(&running.bar);
        }
    }

    fn update(&mut self, event: &Event) {
        match event {
            Event::Phase { job, phase } => self.turn_to(job, Gauge::None, phase_text(phase), None),
            Event::PullProgress { job, image, received, total } => {
                self.turn_to(job, Gauge::Bytes, format!("pulling {}", label(image)), None);
                self.measure(job, *received, *total);
            }
            Event::BuildStep { job, number, total, text, .. } => {
                self.turn_to(
                    job,
                    Gauge::Steps,
                    format!("building {number}/{total}: {}", label(text)),
                    Some(BUILD.into()),
                );
                // Those that are done: the one that begins is not.
                self.measure(job, number.saturating_sub(1) as u64, *total as u64);
            }
            Event::StepStarted { job, step } => {
                self.turn_to(job, Gauge::None, label(step), Some(Arc::clone(step)));
            }
            Event::Output { job, source, stderr, .. } => {
                let unfinished = self.narrator.current(job, source, *stderr);
                if let Some(running) = self.running.get(job).filter(|r| r.source.as_ref() == Some(source)) {
                    running.describe(&unfinished);
                }
            }
            _ => {}
        }
    }

    fn turn_to(&mut self, job: &JobId, gauge: Gauge, activity: String, source: Option<Arc<str>>) {
        let Some(running) = self.running.get(job) else { return };
        let style = (running.gauge != gauge).then(|| self.style(gauge, running.started));
        let Some(running) = self.running.get_mut(job) else { return };
        if let Some(style) = style {
            running.bar.set_style(style);
        }
        (running.gauge, running.activity, running.source) = (gauge, activity, source);
        running.describe("");
    }

    fn measure(&self, job: &JobId, position: u64, length: u64) {
        if let Some(running) = self.running.get(job) {
            running.bar.set_length(length);
            running.bar.set_position(position);
        }
    }

    fn style(&self, gauge: Gauge, started: Instant) -> ProgressStyle {
        let (cyan, bold) = if self.color { (":.cyan", ".bold") } else { ("", "") };
        let bar = if self.color { "[{bar:20.cyan}]" } else { "[{bar:20}]" };
        let gauge = match gauge {
            Gauge::None => String::new(),
            Gauge::Bytes => format!(" {bar} {{received}}"),
            Gauge::Steps => format!(" {bar}"),
        };
        let width = self.name_width;
        let template =
            format!("{{spinner{cyan}}} {{prefix:{width}!{bold}}} {{took:>7}}  {{wide_msg}}{gauge}");
        let now = self.now;
        ProgressStyle::with_template(&template)
            .expect("only the width varies, and it is a number")
            .progress_chars("=> ")
            .with_key("took", move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                // Writing to a String cannot fail.
                let _ = out.write_str(&units::clock(now().saturating_duration_since(started)));
            })
            .with_key("received", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let total = units::bytes(state.len().unwrap_or(0));
                let _ = write!(out, "{}/{total}", units::bytes(state.pos()));
            })
    }
}

impl RunningJob {
    fn describe(&self, unfinished: &str) {
        let text = match unfinished.trim() {
            "" => self.activity.clone(),
            unfinished => format!("{}: {unfinished}", self.activity),
        };
        self.bar.set_message(text);
    }
}

fn render(line: &Line, color: bool) -> String {
    let text = expand_tabs(&line.text);
    let code = match line.tone {
        _ if !color => None,
        Tone::Output => None,
        Tone::Quiet => Some("2"),
        Tone::Good => Some("32"),
        Tone::Warning => Some("33"),
        Tone::Bad => Some("31"),
    };
    let text = match code {
        Some(code) if !text.is_empty() => format!("\x1b[{code}m{text}{RESET}"),
        _ => text,
    };
    match &line.prefix {
        Some((place, prefix)) if color => {
            let code = JOB_COLORS[place % JOB_COLORS.len()];
            format!("\x1b[{code}m[{prefix}]{RESET} {text}")
        }
        Some((_, prefix)) => format!("[{prefix}] {text}"),
        None => text,
    }
}

/// Tabs into spaces: the live part below must know how many rows a line takes, and cannot measure a tab.
fn expand_tabs(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut column, mut in_escape) = (0, false);
    for c in text.chars() {
        if c == '\t' {
            let spaces = TAB - column % TAB;
            out.extend(std::iter::repeat_n(' ', spaces));
            column += spaces;
            continue;
        }
        out.push(c);
        match c {
            '\x1b' => in_escape = true,
            'm' if in_escape => in_escape = false,
            _ if !in_escape => column += 1,
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use indicatif::InMemoryTerm;
    use pipelines::JobOutcome;

    use super::*;
    use crate::event::Phase;
    use crate::output::test_run;

    const WIDTH: u16 = 100;

    fn stopped_clock() -> Instant {
        static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);
        *NOW
    }

    fn shown_on(rows: u16, width: u16, color: bool, events: Vec<Event>) -> InMemoryTerm {
        let terminal = InMemoryTerm::new(rows, width);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let reporter = TerminalReporter::with_view(View::new(target, color, stopped_clock, None));
        for event in events {
            reporter.report(event);
        }
        // Bars that are dropped are cleared: a run that is still going is looked at before.
        std::mem::forget(reporter);
        terminal
    }

    fn shown(events: Vec<Event>) -> String {
        shown_on(60, WIDTH, false, events).contents()
    }

    #[test]
    fn shows_what_runs_below_what_was_written() {
        insta::assert_snapshot!(shown(vec![
            test_run::run_started(&[
                ("lint", "lint"),
                ("test.1", "test (PG=15)"),
                ("test.2", "test (PG=16)"),
                ("docs", "docs")
            ]),
            test_run::job_started("lint", 1),
            test_run::job_started("test.1", 1),
            test_run::job_started("test.2", 1),
            test_run::job_started("docs", 1),
            test_run::phase("docs", Phase::TearDown),
            test_run::pull("lint", 12_300_000, 40_000_000),
            test_run::build_step("test.1", 2, "RUN apt-get install -y build-essential", false),
            test_run::step_started("test.2", "unit"),
            test_run::output("test.2", "unit", "a\tb\nmaking 10%\rmaking 50%"),
            test_run::job_ended("docs", JobOutcome::Succeeded, 1000, None),
        ]));
    }

    #[test]
    fn leaves_only_lines_and_the_summary_behind() {
        insta::assert_snapshot!(shown(test_run::whole()));
    }

    #[test]
    fn colors_lines_by_job_and_outcome() {
        let terminal = shown_on(60, WIDTH, true, test_run::whole());
        let text = String::from_utf8(terminal.contents_formatted()).unwrap();
        insta::assert_snapshot!(text.replace('\x1b', "␛"));
    }

    #[test]
    fn a_long_activity_takes_one_row() {
        let terminal = shown_on(
            10,
            60,
            false,
            vec![
                test_run::run_started(&[("lint", "lint")]),
                test_run::job_started("lint", 1),
                test_run::build_step("lint", 1, &"RUN something long ".repeat(20), false),
            ],
        );
        insta::assert_snapshot!(terminal.contents());
    }

    #[test]
    fn a_finished_line_replaces_its_progress() {
        let text = shown(vec![
            test_run::run_started(&[("lint", "lint")]),
            test_run::job_started("lint", 1),
            test_run::step_started("lint", "get"),
            test_run::output("lint", "get", "50%\r"),
            test_run::output("lint", "get", "100%\n"),
        ]);
        assert!(text.contains("[lint | get] 100%\n"), "{text}");
        assert!(!text.contains("50%"), "{text}");
        assert!(text.ends_with("0s  get"), "{text}");
    }

    #[test]
    fn tabs_end_at_stops_whatever_the_colors() {
        assert_eq!(expand_tabs("a\tb"), "a       b");
        assert_eq!(expand_tabs("\x1b[31ma\x1b[0m\tb"), "\x1b[31ma\x1b[0m       b");
        assert_eq!(expand_tabs("12345678\t|"), "12345678        |");
    }
}
