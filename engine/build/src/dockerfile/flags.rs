use std::ops::Range;

use parse_dockerfile::Flag;

use super::Check;
use super::Command;
use crate::diagnostic::{Diagnostic, Place};
use crate::error::{Problem, nearest};

/// The flags of one instruction, taken one by one; what is left over is an error.
pub(super) struct Flags<'a, 'b> {
    instruction: &'static str,
    known: &'static [&'static str],
    flags: Vec<&'a Flag<'b>>,
    place: &'a Place,
}

/// A flag's value and where it stands.
pub(super) struct Value {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

impl<'a, 'b> Flags<'a, 'b> {
    /// Checks that every flag is known and stands once.
    pub(super) fn new(
        instruction: &'static str,
        known: &'static [&'static str],
        flags: impl IntoIterator<Item = &'a Flag<'b>>,
        place: &'a Place,
    ) -> Result<Self, Diagnostic> {
        let flags: Vec<_> = flags.into_iter().collect();
        for (i, flag) in flags.iter().enumerate() {
            let name = &*flag.name.value;
            let at = place.at(flag.flag_span());
            if !known.contains(&name) {
                let near = nearest(name, known.iter().copied()).map(|near| format!("--{near}"));
                return Err(at.problem(Problem::UnknownFlag { instruction, flag: name.to_owned(), near }));
            }
            if flags[..i].iter().any(|other| other.name.value == flag.name.value) {
                return Err(at.problem(Problem::Syntax(format!("duplicate flag specified: --{name}"))));
            }
        }
        Ok(Self { instruction, known, flags, place })
    }

    /// Takes a flag that has a value.
    pub(super) fn value(&mut self, name: &'static str) -> Result<Option<Value>, Diagnostic> {
        let Some(flag) = self.take(name) else { return Ok(None) };
        match &flag.value {
            Some(value) if !value.value.is_empty() => {
                Ok(Some(Value { text: value.value.clone().into_owned(), span: flag.span() }))
            }
            _ => Err(self
                .place
                .at(flag.span())
                .problem(Problem::Syntax(format!("missing a value on flag: --{name}")))),
        }
    }

    /// Takes a flag that is true by standing there.
    pub(super) fn switch(&mut self, name: &'static str) -> Result<bool, Diagnostic> {
        let Some(flag) = self.take(name) else { return Ok(false) };
        match flag.value.as_ref().map(|value| &*value.value) {
            None | Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(self.place.at(flag.span()).problem(Problem::Syntax(format!(
                "expecting boolean value for flag --{name}, not: {other}"
            )))),
        }
    }

    /// Refuses flags of the reference that this builder lacks.
    pub(super) fn refuse_rest(self) -> Result<(), Diagnostic> {
        debug_assert!(self.flags.iter().all(|flag| self.known.contains(&&*flag.name.value)));
        match self.flags.first() {
            None => Ok(()),
            Some(flag) => Err(self
                .place
                .at(flag.flag_span())
                .problem(Problem::Unsupported(format!("{} --{}", self.instruction, flag.name.value)))),
        }
    }

    fn take(&mut self, name: &str) -> Option<&'a Flag<'b>> {
        let at = self.flags.iter().position(|flag| flag.name.value == name)?;
        Some(self.flags.remove(at))
    }

    /// Takes the flags of `HEALTHCHECK CMD`.
    pub(super) fn check(&mut self, command: Command) -> Result<Check, Diagnostic> {
        let mut duration = |name| match self.value(name)? {
            None => Ok(0),
            Some(value) => parse_duration(&value.text)
                .and_then(|ns| match ns {
                    0 | 1_000_000.. => Ok(ns),
                    _ => Err(format!("interval {:?} cannot be less than 1ms", value.text)),
                })
                .map_err(|reason| self.place.at(value.span).problem(Problem::Syntax(reason))),
        };
        let interval = duration("interval")?;
        let timeout = duration("timeout")?;
        let start_period = duration("start-period")?;
        let start_interval = duration("start-interval")?;
        let retries = match self.value("retries")? {
            None => 0,
            Some(value) => value.text.parse::<u32>().map(i64::from).map_err(|_| {
                let reason = format!("--retries must be a number of at least 0, not {:?}", value.text);
                self.place.at(value.span).problem(Problem::Syntax(reason))
            })?,
        };
        Ok(Check::Command { command, interval, timeout, start_period, start_interval, retries })
    }
}

/// Reads a duration as Go writes them, in nanoseconds: `1h30m`, `1.5s`, `100ms`.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid duration {text:?}: expected a number and a unit, such as 30s or 1m30s");
    if text == "0" {
        return Ok(0);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let nanoseconds = match &rest[..unit] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(invalid()),
        };
        total += number * nanoseconds;
        rest = &rest[unit..];
    }
    // The largest duration Go holds is below i64::MAX nanoseconds; a float that large converts saturating.
    if text.is_empty() || total >= i64::MAX as f64 { Err(invalid()) } else { Ok(total as i64) }
}
