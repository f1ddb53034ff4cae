//! Which stages a build needs, and what each starts from.

use std::collections::BTreeMap;

use engine_types::Reference;

use crate::diagnostic::Diagnostic;
use crate::dockerfile::{Action, Arg, Dockerfile, Stage};
use crate::error::{BuildError, Problem, nearest};
use crate::expand::expand;
use crate::platform;

/// A Dockerfile with its stages sorted out.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) file: Dockerfile,
    /// What each stage starts from, by the number of the stage.
    pub(crate) bases: Vec<Base>,
    /// The stages that the target needs, itself included, in the file's order.
    pub(crate) needed: Vec<usize>,
    pub(crate) target: usize,
    /// The values of `ARG`s before the first `FROM`, for stages that declare them again.
    pub(crate) global_args: BTreeMap<String, String>,
}

/// What a stage starts from, or `COPY --from` reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    Scratch,
    Stage(usize),
    Image(Reference),
}

impl Plan {
    /// Sorts out the stages; `args` are the values given from outside.
    pub(crate) fn new(
        file: Dockerfile,
        target: Option<&str>,
        args: &BTreeMap<String, String>,
    ) -> Result<Self, BuildError> {
        let global_args = global_args(&file, args)?;
        let lookup = |name: &str| global_args.get(name).cloned().or_else(|| platform::arg(name));
        let mut bases = Vec::new();
        for (number, stage) in file.stages.iter().enumerate() {
            bases.push(base(&file, number, stage, &lookup)?);
        }
        let target = match target {
            None => file.stages.len() - 1,
            Some(name) => find_stage(&file.stages, name).ok_or_else(|| BuildError::UnknownTarget {
                target: name.to_owned(),
                near: nearest(name, stage_names(&file.stages)),
            })?,
        };
        let mut needed = vec![false; file.stages.len()];
        let mut todo = vec![target];
        while let Some(number) = todo.pop() {
            if std::mem::replace(&mut needed[number], true) {
                continue;
            }
            todo.extend(match &bases[number] {
                Base::Stage(base) => Some(*base),
                _ => None,
            });
            for instruction in &file.stages[number].instructions {
                if let Action::Copy(copy) = &instruction.action
                    && let Some(from) = &copy.from
                {
                    let span = copy.flag_span("from").unwrap_or(instruction.place.span.clone());
                    let from = copy_base(&file.stages, number, from)
                        .map_err(|problem| instruction.place.at(span).problem(problem))?;
                    todo.extend(if let Base::Stage(base) = from { Some(base) } else { None });
                }
            }
        }
        let needed = (0..needed.len()).filter(|&number| needed[number]).collect();
        Ok(Self { file, bases, needed, target, global_args })
    }

    /// The number of a needed stage's `FROM` among the instructions of all needed stages, from one, and how many those
    /// are.
    pub(crate) fn instructions(&self, number: usize) -> (usize, usize) {
        let length = |&stage: &usize| 1 + self.file.stages[stage].instructions.len();
        let before = self.needed.iter().filter(|&&stage| stage < number);
        (1 + before.map(length).sum::<usize>(), self.needed.iter().map(length).sum())
    }

    /// How progress calls a stage.
    pub(crate) fn stage_name(&self, number: usize) -> String {
        self.file.stages[number].name.clone().unwrap_or_else(|| format!("stage-{number}"))
    }
}

/// What `COPY --from` in the stage `number` names: an earlier stage by name or number, or an image.
pub(crate) fn copy_base(stages: &[Stage], number: usize, from: &str) -> Result<Base, Problem> {
    let unknown = || Problem::UnknownStage {
        name: from.to_owned(),
        near: nearest(from, stage_names(&stages[..number])),
    };
    // A name may be given again: of those above, the last is meant.
    match find_stage(&stages[..number], from).or_else(|| find_stage(stages, from)) {
        Some(found) if found < number => Ok(Base::Stage(found)),
        Some(found) if found == number => {
            Err(Problem::Syntax(format!("--from={from} is the stage itself: circular dependency")))
        }
        Some(_) => {
            Err(Problem::Syntax(format!("--from={from} is a later stage: only earlier ones can be read")))
        }
        None if from.parse::<usize>().is_ok() => Err(unknown()),
        None if from == "scratch" => Ok(Base::Scratch),
        None => from.parse().map(Base::Image).map_err(|_| unknown()),
    }
}

/// The earlier stage that was probably meant by the name of an image that cannot be had.
pub(crate) fn near_stage(stages: &[Stage], number: usize, name: &str) -> Option<String> {
    nearest(name, stage_names(&stages[..number]))
}

fn stage_names(stages: &[Stage]) -> impl Iterator<Item = &str> {
    stages.iter().filter_map(|stage| stage.name.as_deref())
}

fn find_stage(stages: &[Stage], name: &str) -> Option<usize> {
    let lower = name.to_lowercase();
    let by_name = stages.iter().rposition(|stage| stage.name.as_deref() == Some(&lower));
    by_name.or_else(|| name.parse().ok().filter(|&number| number < stages.len()))
}

fn global_args(
    file: &Dockerfile,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Diagnostic> {
    let mut values = BTreeMap::new();
    for (place, Arg { name, default }) in &file.global_args {
        let value = match (given.get(name), default) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(default)) => {
                let lookup = |name: &str| values.get(name).cloned().or_else(|| platform::arg(name));
                let expanded = expand(default, file.escape, &lookup);
                Some(
                    expanded
                        .map_err(|reason| place.problem(Problem::Expand { word: default.clone(), reason }))?,
                )
            }
            (None, None) => None,
        };
        values.extend(value.map(|value| (name.clone(), value)));
    }
    Ok(values)
}

fn base(
    file: &Dockerfile,
    number: usize,
    stage: &Stage,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Base, Diagnostic> {
    let at = |problem| stage.image_place.problem(problem);
    let expanded = |word: &str| {
        expand(word, file.escape, lookup)
            .map_err(|reason| at(Problem::Expand { word: word.to_owned(), reason }))
    };
    if let Some(wanted) = &stage.platform {
        let wanted = expanded(wanted)?;
        if !wanted.is_empty() && !platform::is_host(&wanted) {
            let message = format!("FROM --platform={wanted} on {}", platform::host());
            return Err(stage.place.problem(Problem::Unsupported(message)));
        }
    }
    let name = expanded(&stage.image)?;
    if name.is_empty() {
        return Err(at(Problem::BlankBase { word: stage.image.clone() }));
    }
    if name == "scratch" {
        return Ok(Base::Scratch);
    }
    // Unlike --from, FROM knows stages by name only.
    let lower = name.to_lowercase();
    if let Some(base) = file.stages[..number].iter().rposition(|s| s.name.as_deref() == Some(&lower)) {
        return Ok(Base::Stage(base));
    }
    name.parse().map(Base::Image).map_err(|e: engine_types::ParseReferenceError| {
        at(Problem::Syntax(format!("failed to parse the image's name {name:?}: {e}")))
    })
}
