use std::ops::Range;
use std::sync::Arc;

use parse_dockerfile::{self as syntax, HealthcheckArguments, JsonOrStringArray, UnescapedString};

use super::flags::Flags;
use super::prepare::{Prepared, escape_of, prepare};
use super::words::{join_lines, pairs, split_words};
use super::{Action, Arg, Check, Command, Copy, CopySource, Dockerfile, Instruction, Run, Stage};
use crate::diagnostic::{Diagnostic, Place, Source};
use crate::error::{Problem, nearest};

const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a Dockerfile; `name` is what errors call it.
///
/// # Errors
/// What is wrong with its first bad line.
pub(crate) fn parse(name: &str, text: &str) -> Result<Dockerfile, Diagnostic> {
    // A byte-order mark, as editors on Windows write it, is no part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Arc::new(Source { name: name.to_owned(), text: text.to_owned() });
    let prepared = prepare(text).map_err(|unclosed| {
        let message = format!("unterminated here-document: no line {:?} follows", unclosed.word);
        Place { source: Arc::clone(&source), span: unclosed.span }.problem(Problem::Syntax(message))
    })?;
    let whole = Place { source: Arc::clone(&source), span: 0..0 };
    let refused = |e: &syntax::Error| crate_error(&whole, e);
    let iter = syntax::parse_iter(&prepared.text).map_err(|e| refused(&e))?;
    let escape = escape_of(&prepared.text);
    let lowering = Lowering { source, prepared: &prepared, escape };
    let mut file = Dockerfile { global_args: Vec::new(), stages: Vec::new(), escape };
    for parsed in iter {
        let parsed = parsed.map_err(|e| refused(&e))?;
        match (parsed, file.stages.last_mut()) {
            (syntax::Instruction::From(from), _) => {
                let stage = lowering.stage(&from)?;
                check_stage_name(&stage)?;
                file.stages.push(stage);
            }
            (syntax::Instruction::Arg(arg), None) => {
                let place = lowering.place(arg.arg.span.start..arg.arguments.span.end);
                for arg in lowering.args(&place, &arg.arguments)? {
                    file.global_args.push((place.clone(), arg));
                }
            }
            (other, Some(stage)) => stage.instructions.push(lowering.instruction(&other)?),
            (_, None) => {
                return Err(whole.problem(Problem::Syntax("no build stage in current context".into())));
            }
        }
    }
    Ok(file)
}

/// Reads an instruction that a base image wants to be run; `name` is what errors call it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_trigger(name: &str, trigger: &str) -> Result<Instruction, Diagnostic> {
    // The parser takes instructions only after a FROM, and has no text for an empty trigger.
    const HEAD: &str = "FROM scratch\n";
    let shift = |mut diagnostic: Diagnostic| {
        diagnostic.location.line = diagnostic.location.line.saturating_sub(1).max(1);
        diagnostic
    };
    let mut file = parse(name, &format!("{HEAD}{trigger}\n")).map_err(shift)?;
    let only = file.stages.pop().filter(|_| file.stages.is_empty());
    match only.map(|mut stage| (stage.instructions.pop(), stage.instructions.is_empty())) {
        Some((Some(mut instruction), true)) => {
            let source = Source { name: name.to_owned(), text: trigger.to_owned() };
            let move_span = |span: &Range<usize>| span.start - HEAD.len()..span.end - HEAD.len();
            let span = move_span(&instruction.place.span);
            instruction.place = Place { source: Arc::new(source), span };
            if let Action::Copy(copy) = &mut instruction.action {
                copy.spans = copy.spans.iter().map(move_span).collect();
                copy.flag_spans =
                    copy.flag_spans.iter().map(|(name, span)| (*name, move_span(span))).collect();
            }
            Ok(instruction)
        }
        _ => {
            let source = Arc::new(Source { name: name.to_owned(), text: trigger.to_owned() });
            let place = Place { span: 0..trigger.len(), source };
            Err(place.problem(Problem::Syntax("a trigger must be one instruction".to_owned())))
        }
    }
}

/// Places the parser crate's error: its line is right, its column is not (0.1.9 gives the offset of the line).
fn crate_error(whole: &Place, error: &syntax::Error) -> Diagnostic {
    let text = &whole.source.text;
    let message = format!("{error:#}");
    if error.line() == 0 {
        return whole.problem(Problem::Syntax("no FROM instruction: the file has no build stage".to_owned()));
    }
    let line_start: usize = text.split_inclusive('\n').take(error.line() - 1).map(str::len).sum();
    let line = text[line_start.min(text.len())..].lines().next().unwrap_or_default();
    let start = line_start + line.len() - line.trim_start().len();
    let word = line.split_whitespace().next().unwrap_or_default();
    if message.starts_with("unknown instruction") {
        let near = nearest(&word.to_uppercase(), INSTRUCTIONS);
        let problem = Problem::UnknownInstruction { word: word.to_owned(), near };
        return whole.at(start..start + word.len()).problem(problem);
    }
    let problem = match &*message {
        "expected FROM" => format!("no build stage in current context: {word} stands before the first FROM"),
        "expected JSON array" => {
            format!("{} requires the arguments to be in JSON form", word.to_uppercase())
        }
        "ONBUILD ONBUILD is not allowed" => "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
        _ => message,
    };
    whole.at(start..start + line.trim().len()).problem(Problem::Syntax(problem))
}

fn check_stage_name(stage: &Stage) -> Result<(), Diagnostic> {
    let Some(name) = &stage.name else { return Ok(()) };
    let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    if !valid {
        let message = format!(
            "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
        );
        return Err(stage.place.problem(Problem::Syntax(message)));
    }
    Ok(())
}

struct Lowering<'a> {
    source: Arc<Source>,
    prepared: &'a Prepared,
    escape: char,
}

impl Lowering<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        Place { source: Arc::clone(&self.source), span }
    }

    fn stage(&self, from: &syntax::FromInstruction<'_>) -> Result<Stage, Diagnostic> {
        let end = from.as_.as_ref().map_or(from.image.span.end, |(_, name)| name.span.end);
        let place = self.place(from.from.span.start..end);
        let mut flags = Flags::new("FROM", &["platform"], &from.options, &place)?;
        let platform = flags.value("platform")?.map(|value| value.text);
        let name = from.as_.as_ref().map(|(_, name)| name.value.to_lowercase());
        Ok(Stage {
            name,
            image: from.image.value.clone().into_owned(),
            platform,
            image_place: place.at(from.image.span.clone()),
            place,
            instructions: Vec::new(),
        })
    }

    fn instruction(&self, parsed: &syntax::Instruction<'_>) -> Result<Instruction, Diagnostic> {
        let span = span_of(parsed);
        let place = self.place(span.clone());
        let action = self.action(parsed, &place)?;
        let text = join_lines(&self.source.text[span], self.escape);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Instruction { action, place, text })
    }

    fn action(&self, parsed: &syntax::Instruction<'_>, place: &Place) -> Result<Action, Diagnostic> {
        use syntax::Instruction as I;
        let text = |value: &UnescapedString<'_>| value.value.clone().into_owned();
        let list = |values: &[UnescapedString<'_>]| values.iter().map(text).collect::<Vec<_>>();
        let syntax = |message: String| place.problem(Problem::Syntax(message));
        Ok(match parsed {
            I::Run(run) => Action::Run(self.run(run, place)?),
            I::Copy(copy) => Action::Copy(self.copy(false, &copy.options, &copy.src, &copy.dest, place)?),
            I::Add(add) => Action::Copy(self.copy(true, &add.options, &add.src, &add.dest, place)?),
            I::Env(env) => Action::Env(pairs("ENV", &env.arguments.value, self.escape).map_err(syntax)?),
            I::Label(label) => {
                Action::Label(pairs("LABEL", &label.arguments.value, self.escape).map_err(syntax)?)
            }
            I::Arg(arg) => Action::Arg(self.args(place, &arg.arguments)?),
            I::Workdir(workdir) => Action::Workdir(text(&workdir.arguments)),
            I::User(user) => Action::User(text(&user.arguments)),
            I::Expose(expose) => Action::Expose(list(&expose.arguments)),
            I::Cmd(cmd) if self.prepared.empty_entrypoints.contains(&cmd.cmd.span.start) => {
                Action::Entrypoint(Command::Exec(Vec::new()))
            }
            I::Cmd(cmd) => Action::Cmd(self.command(&cmd.arguments)),
            I::Entrypoint(entrypoint) => Action::Entrypoint(self.command(&entrypoint.arguments)),
            I::Volume(volume) => Action::Volume(match &volume.arguments {
                JsonOrStringArray::Json(values) => list(&values.value),
                JsonOrStringArray::String(values) => list(values),
            }),
            I::Shell(shell) => Action::Shell(list(&shell.arguments)),
            I::Stopsignal(signal) => Action::StopSignal(text(&signal.arguments)),
            I::Healthcheck(check) => Action::Healthcheck(self.check(check, place)?),
            I::Onbuild(onbuild) => Action::OnBuild(self.trigger(onbuild, place)?),
            I::Maintainer(maintainer) => Action::Maintainer(text(&maintainer.name)),
            other => return Err(syntax(format!("unexpected instruction {:?}", span_of(other)))),
        })
    }

    fn run(&self, run: &syntax::RunInstruction<'_>, place: &Place) -> Result<Run, Diagnostic> {
        const KNOWN: &[&str] = &["mount", "network", "security", "device"];
        Flags::new("RUN", KNOWN, &run.options, place)?.refuse_rest()?;
        let command = self.command(&run.arguments);
        let Command::Shell(line) = command else { return Ok(Run::Command(command)) };
        if line.is_empty() {
            let message = "RUN instruction requires at least one argument".to_owned();
            return Err(place.problem(Problem::Syntax(message)));
        }
        let start = run.run.span.start;
        let Some(docs) = self.prepared.here_docs.iter().find(|docs| docs.instruction.contains(&start)) else {
            return Ok(Run::Command(Command::Shell(line)));
        };
        let alone = line.starts_with("<<") && !line.contains(char::is_whitespace);
        match &docs.content {
            Some(content) if alone && content.starts_with("#!") => {
                let name = docs.words.concat();
                if name.contains('/') {
                    let message = format!("a here-document cannot be a program of the name {name:?}");
                    return Err(place.problem(Problem::Syntax(message)));
                }
                Ok(Run::Program { name, content: content.clone() })
            }
            Some(content) if alone => Ok(Run::Script(content.clone())),
            _ => {
                let bodies = &self.source.text[docs.bodies.clone()];
                Ok(Run::Command(Command::Shell(format!("{line}\n{bodies}"))))
            }
        }
    }

    fn command(&self, command: &syntax::Command<'_>) -> Command {
        match command {
            syntax::Command::Exec(args) => {
                Command::Exec(args.value.iter().map(|arg| arg.value.clone().into_owned()).collect())
            }
            syntax::Command::Shell(line) => {
                let line = join_lines(&self.source.text[line.span.clone()], self.escape);
                Command::Shell(line.trim().to_owned())
            }
            // The enum may grow; nothing else exists in the reference.
            _ => Command::Shell(String::new()),
        }
    }

    fn copy(
        &self,
        add: bool,
        options: &[syntax::Flag<'_>],
        sources: &[syntax::Source<'_>],
        destination: &UnescapedString<'_>,
        place: &Place,
    ) -> Result<Copy, Diagnostic> {
        const COPY: &[&str] = &["from", "chown", "chmod", "link", "parents", "exclude"];
        const ADD: &[&str] = &["chown", "chmod", "link", "keep-git-dir", "checksum", "exclude", "unpack"];
        let (keyword, known) = if add { ("ADD", ADD) } else { ("COPY", COPY) };
        let flag_spans = options
            .iter()
            .filter_map(|flag| known.iter().find(|name| **name == flag.name.value).map(|n| (*n, flag.span())))
            .collect();
        let mut flags = Flags::new(keyword, known, options, place)?;
        let from = flags.value("from")?.map(|value| value.text);
        let chown = flags.value("chown")?.map(|value| value.text);
        let chmod = flags.value("chmod")?.map(|value| value.text);
        // Layers here never depend on those below, which is all that --link asks for.
        flags.switch("link")?;
        flags.refuse_rest()?;
        let (mut out, mut spans) = (Vec::new(), Vec::new());
        let start = place.span.start;
        let docs = self.prepared.here_docs.iter().find(|docs| docs.instruction.contains(&start));
        let mut names = docs.map(|docs| docs.words.iter()).into_iter().flatten();
        for source in sources {
            match source {
                syntax::Source::Path(path) => {
                    spans.push(path.span.clone());
                    out.push(CopySource::Path(path.value.clone().into_owned()));
                }
                syntax::Source::HereDoc(doc) => {
                    spans.push(place.span.clone());
                    let name = names.next().cloned().unwrap_or_default();
                    let content = doc.value.clone().into_owned();
                    out.push(CopySource::Inline { name, content, expand: doc.expand });
                }
                _ => {}
            }
        }
        spans.push(destination.span.clone());
        let destination = destination.value.clone().into_owned();
        Ok(Copy { add, from, chown, chmod, sources: out, destination, spans, flag_spans })
    }

    fn args(&self, place: &Place, text: &UnescapedString<'_>) -> Result<Vec<Arg>, Diagnostic> {
        let arg = |word: String| {
            let (name, default) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            if name.is_empty() {
                return Err(place.problem(Problem::Syntax("ARG names can not be blank".to_owned())));
            }
            Ok(Arg { name, default })
        };
        split_words(&text.value, self.escape).into_iter().map(arg).collect()
    }

    fn check(&self, check: &syntax::HealthcheckInstruction<'_>, place: &Place) -> Result<Check, Diagnostic> {
        const KNOWN: &[&str] = &["interval", "timeout", "start-period", "start-interval", "retries"];
        let mut flags = Flags::new("HEALTHCHECK", KNOWN, &check.options, place)?;
        let HealthcheckArguments::Cmd { arguments, .. } = &check.arguments else {
            return match check.options.first() {
                None => Ok(Check::None),
                Some(flag) => Err(place
                    .at(flag.flag_span())
                    .problem(Problem::Syntax("HEALTHCHECK NONE takes no flags".to_owned()))),
            };
        };
        let command = self.command(arguments);
        if command == Command::Shell(String::new()) {
            return Err(place.problem(Problem::Syntax("missing command after HEALTHCHECK CMD".to_owned())));
        }
        flags.check(command)
    }

    fn trigger(&self, onbuild: &syntax::OnbuildInstruction<'_>, place: &Place) -> Result<String, Diagnostic> {
        use syntax::Instruction as I;
        let inner = &onbuild.instruction;
        if let I::From(_) | I::Maintainer(_) = **inner {
            let word = if matches!(**inner, I::From(_)) { "FROM" } else { "MAINTAINER" };
            let message = format!("{word} isn't allowed as an ONBUILD trigger");
            return Err(place.problem(Problem::Syntax(message)));
        }
        let inner = span_of(inner);
        // Checked here, where it stands, and not only in the builds that will run it.
        self.action(&onbuild.instruction, &place.at(inner.clone()))?;
        let mut trigger = join_lines(&self.source.text[inner.clone()], self.escape);
        let docs = self.prepared.here_docs.iter().find(|docs| docs.instruction.contains(&inner.start));
        if let Some(docs) = docs {
            trigger.push('\n');
            trigger.push_str(&self.source.text[docs.bodies.clone()]);
        }
        Ok(trigger)
    }
}

/// From the keyword to the last character, here-documents not counted.
fn span_of(instruction: &syntax::Instruction<'_>) -> Range<usize> {
    use syntax::Instruction as I;
    let command = |command: &syntax::Command<'_>, start: usize| match command {
        syntax::Command::Exec(args) => args.span.end,
        syntax::Command::Shell(line) => line.span.end,
        _ => start,
    };
    let last = |values: &[UnescapedString<'_>], start: usize| values.last().map_or(start, |v| v.span.end);
    let (keyword, end) = match instruction {
        I::Add(i) => (&i.add, i.dest.span.end),
        I::Arg(i) => (&i.arg, i.arguments.span.end),
        I::Cmd(i) => (&i.cmd, command(&i.arguments, i.cmd.span.end)),
        I::Copy(i) => (&i.copy, i.dest.span.end),
        I::Entrypoint(i) => (&i.entrypoint, command(&i.arguments, i.entrypoint.span.end)),
        I::Env(i) => (&i.env, i.arguments.span.end),
        I::Expose(i) => (&i.expose, last(&i.arguments, i.expose.span.end)),
        I::From(i) => (&i.from, i.image.span.end),
        I::Healthcheck(i) => match &i.arguments {
            HealthcheckArguments::Cmd { arguments, cmd, .. } => {
                (&i.healthcheck, command(arguments, cmd.span.end))
            }
            HealthcheckArguments::None { none, .. } => (&i.healthcheck, none.span.end),
            _ => (&i.healthcheck, i.healthcheck.span.end),
        },
        I::Label(i) => (&i.label, i.arguments.span.end),
        I::Maintainer(i) => (&i.maintainer, i.name.span.end),
        I::Onbuild(i) => (&i.onbuild, span_of(&i.instruction).end),
        I::Run(i) => (&i.run, command(&i.arguments, i.run.span.end)),
        // The closing bracket stands behind the last argument's quote.
        I::Shell(i) => (&i.shell, last(&i.arguments, i.shell.span.end)),
        I::Stopsignal(i) => (&i.stopsignal, i.arguments.span.end),
        I::User(i) => (&i.user, i.arguments.span.end),
        I::Volume(i) => match &i.arguments {
            JsonOrStringArray::Json(values) => (&i.volume, values.span.end),
            JsonOrStringArray::String(values) => (&i.volume, last(values, i.volume.span.end)),
        },
        I::Workdir(i) => (&i.workdir, i.arguments.span.end),
        _ => return 0..0,
    };
    keyword.span.start..end.max(keyword.span.end)
}
