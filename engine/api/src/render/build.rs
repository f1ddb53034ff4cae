//! The progress of a build, as Docker's classic builder tells it.

use std::collections::BTreeMap;

use engine::CachedLayer;
use engine::build::{BuildEvent, Stream};
use engine_types::{ImageId, Reference};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Digits of an id that are shown.
const SHORT: usize = 12;
/// Terminals show in red what a command wrote to its standard error.
const RED: &str = "\u{1b}[91m";
const PLAIN: &str = "\u{1b}[0m";

/// Puts what the stages of a build tell at the same time one stage after the other.
#[derive(Debug)]
pub(crate) struct BuildLines {
    quiet: bool,
    /// The number of the instruction that is told next.
    next: usize,
    /// The stage that is told now.
    front: Option<usize>,
    stages: BTreeMap<usize, Stage>,
}

#[derive(Debug, Default)]
struct Stage {
    /// The number of its first instruction.
    first: usize,
    /// The number of its latest.
    latest: usize,
    /// What waits for the stages before it.
    waiting: Vec<Value>,
    ended: bool,
    /// The beginnings of characters that are not complete yet, of both streams.
    partial: [Vec<u8>; 2],
}

impl BuildLines {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, next: 1, front: None, stages: BTreeMap::new() }
    }

    /// What is to be told now that this has happened.
    pub(crate) fn take(&mut self, event: BuildEvent) -> Vec<Value> {
        let Some((stage, lines)) = self.lines_of(event) else { return Vec::new() };
        let Some(state) = self.stages.get_mut(&stage) else { return Vec::new() };
        state.waiting.extend(lines);
        let mut told = Vec::new();
        loop {
            if self.front.is_none() {
                let is_next = |(_, stage): &(&usize, &Stage)| stage.first == self.next;
                self.front = self.stages.iter().find(is_next).map(|(&number, _)| number);
            }
            let Some(front) = self.front.and_then(|front| self.stages.get_mut(&front)) else { break };
            told.append(&mut front.waiting);
            if !front.ended {
                break;
            }
            self.next = front.latest + 1;
            self.front = None;
        }
        if self.quiet { Vec::new() } else { told }
    }

    fn lines_of(&mut self, event: BuildEvent) -> Option<(usize, Vec<Value>)> {
        match event {
            BuildEvent::Instruction { stage, number, total, text } => {
                let state = self.stages.entry(stage).or_insert(Stage { first: number, ..Stage::default() });
                state.latest = number;
                let step = format!("Step {number}/{total} : {text}");
                Some((stage, vec![stream(step), stream("\n")]))
            }
            BuildEvent::Cached(step) => Some((step.stage_number, vec![stream(" ---> Using cache\n")])),
            BuildEvent::Output { step, stream: from, bytes } => {
                let state = self.stages.get_mut(&step.stage_number)?;
                let partial = &mut state.partial[usize::from(from == Stream::Stderr)];
                let text = text(partial, &bytes);
                if text.is_empty() {
                    return None;
                }
                let shown = if from == Stream::Stderr { format!("{RED}{text}{PLAIN}") } else { text };
                Some((step.stage_number, vec![stream(shown)]))
            }
            BuildEvent::Reached { stage, state: digits, last } => {
                let short = digits.get(..SHORT).unwrap_or(&digits);
                let state = self.stages.get_mut(&stage)?;
                state.ended = last;
                Some((stage, vec![stream(format!(" ---> {short}\n"))]))
            }
            BuildEvent::Started(_)
            | BuildEvent::Done { .. }
            | BuildEvent::Failed(_)
            | BuildEvent::Exporting => None,
        }
    }

    /// What is told once all is done.
    pub(crate) fn built(&self, image: ImageId, tags: &[Reference]) -> Vec<Value> {
        if self.quiet {
            return vec![stream(format!("{image}\n"))];
        }
        let aux = json!({ "aux": { "ID": image.to_string() } });
        let built = stream(format!("Successfully built {}\n", image.0.short()));
        let tagged = tags.iter().map(|tag| stream(format!("Successfully tagged {tag}\n")));
        [aux, built].into_iter().chain(tagged).collect()
    }
}

/// An entry of the build cache in `system/df`.
pub(crate) fn cached_layer(layer: &CachedLayer) -> Value {
    let step = &layer.step;
    json!({
        "ID": step.id,
        "Parents": null,
        "Type": "regular",
        "Description": step.description,
        "InUse": false,
        "Shared": layer.shared,
        "Size": layer.bytes,
        "CreatedAt": step.created,
        "LastUsedAt": super::time(Timestamp::try_from(step.last_used).ok()),
        "UsageCount": 1,
    })
}

fn stream(text: impl Into<String>) -> Value {
    json!({ "stream": text.into() })
}

/// The text of some bytes after `partial`, which keeps the beginning of a character at their end.
fn text(partial: &mut Vec<u8>, bytes: &[u8]) -> String {
    partial.extend_from_slice(bytes);
    let keep = match std::str::from_utf8(partial) {
        // Nothing is wrong but that the end is missing.
        Err(error) if error.error_len().is_none() => partial.len() - error.valid_up_to(),
        _ => 0,
    };
    let rest = partial.split_off(partial.len() - keep);
    let whole = std::mem::replace(partial, rest);
    String::from_utf8_lossy(&whole).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(stage: usize, number: usize, text: &str) -> BuildEvent {
        BuildEvent::Instruction { stage, number, total: 4, text: text.to_owned() }
    }

    fn reached(stage: usize, state: &str, last: bool) -> BuildEvent {
        BuildEvent::Reached { stage, state: state.to_owned(), last }
    }

    #[test]
    fn stages_that_are_built_at_once_are_told_one_after_the_other() {
        let mut lines = BuildLines::new(false);
        let events = [
            instruction(0, 1, "FROM a"),
            instruction(2, 3, "FROM b"),
            reached(2, "b", false),
            reached(0, "0123456789abcdef", false),
            instruction(2, 4, "ENV"),
            reached(2, "c", true),
            instruction(0, 2, "RUN x"),
            reached(0, "d", true),
        ];
        let told: Vec<Value> = events.into_iter().flat_map(|event| lines.take(event)).collect();
        let text: String = told.iter().map(|line| line["stream"].as_str().unwrap()).collect();
        assert_eq!(
            text,
            "Step 1/4 : FROM a\n ---> 0123456789ab\nStep 2/4 : RUN x\n ---> d\n\
             Step 3/4 : FROM b\n ---> b\nStep 4/4 : ENV\n ---> c\n"
        );
    }

    #[test]
    fn characters_may_come_in_pieces() {
        let mut partial = Vec::new();
        let bytes = "aä€".as_bytes();
        let told: Vec<String> = bytes.chunks(1).map(|byte| text(&mut partial, byte)).collect();
        assert_eq!(told.concat(), "aä€");
        assert_eq!(text(&mut partial, b"\xff!"), "\u{fffd}!");
    }
}
