//! Usage and errors as Docker's command tells them.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use crate::output;

/// The code for an option that is wrong.
const BAD_OPTION: i32 = 125;
/// The column where lines of help end.
const WIDTH: usize = 80;

/// Adapts a command and all below it to what Docker's takes: `--flag=false`, the last of several values, values that
/// begin with a hyphen, `-h` for other things than help.
pub(crate) fn adapt(command: Command) -> Command {
    let adapted = command
        .disable_help_flag(true)
        .args_override_self(true)
        .arg(Arg::new("help").long("help").action(ArgAction::Help).help("Print usage").global(false))
        .mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .value_parser(go_bool)
                .num_args(0..=1)
                .require_equals(true)
                .default_value("false")
                .default_missing_value("true")
                .hide_default_value(true)
                .value_name("bool"),
            ArgAction::Set | ArgAction::Append if !arg.is_positional() => arg.allow_hyphen_values(true),
            _ => arg,
        });
    adapted.mut_subcommands(adapt)
}

/// Reads what Go's `strconv.ParseBool` reads.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// The command that arguments name, with the words that led to it.
pub(crate) fn find<'a>(root: &'a Command, arguments: &[String]) -> (String, &'a Command) {
    let (mut path, mut command) = (root.get_name().to_owned(), root);
    let mut skip = false;
    for argument in arguments.iter().skip(1) {
        if std::mem::take(&mut skip) {
            continue;
        }
        if argument.starts_with('-') {
            // The value of an option before the command is no command.
            skip = takes_value(command, argument);
            continue;
        }
        match command.find_subcommand(argument) {
            Some(found) => {
                path = format!("{path} {}", found.get_name());
                command = found;
            }
            None => break,
        }
    }
    (path, command)
}

fn takes_value(command: &Command, argument: &str) -> bool {
    if argument.contains('=') {
        return false;
    }
    let name = argument.trim_start_matches('-');
    let found = command.get_arguments().find(|arg| {
        let mut letters = name.chars();
        let short = letters.next().filter(|_| letters.next().is_none());
        arg.get_long() == Some(name) || (short.is_some() && arg.get_short() == short)
    });
    found.is_some_and(|arg| {
        matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_require_equals_set()
    })
}

/// `Usage:  engine run [OPTIONS] IMAGE [COMMAND] [ARG...]`
fn usage(path: &str, command: &Command) -> String {
    if command.has_subcommands() {
        let options = if path.contains(' ') { "" } else { " [OPTIONS]" };
        return format!("Usage:  {path}{options} COMMAND");
    }
    let mut text = format!("Usage:  {path}");
    if command.get_opts().any(|arg| arg.get_id() != "help" && !arg.is_hide_set()) {
        text.push_str(" [OPTIONS]");
    }
    for arg in command.get_positionals() {
        let name = arg.get_value_names().and_then(|names| names.first()).map_or("ARG", |name| name.as_str());
        let many = matches!(arg.get_action(), ArgAction::Append) || arg.is_trailing_var_arg_set();
        let one = if arg.is_required_set() { name.to_owned() } else { format!("[{name}]") };
        text.push(' ');
        text.push_str(&one);
        match (many, name) {
            (true, "COMMAND") => text.push_str(" [ARG...]"),
            (true, _) => text.push_str(&format!(" [{name}...]")),
            _ => {}
        }
    }
    text
}

/// What `--help` prints.
pub(crate) fn help(path: &str, command: &Command) -> String {
    let mut text = usage(path, command);
    if let Some(about) = command.get_about() {
        text.push_str(&format!("\n\n{about}\n"));
    }
    let aliases: Vec<String> = command
        .get_visible_aliases()
        .map(|alias| {
            path.rsplit_once(' ').map_or_else(|| alias.to_owned(), |(parent, _)| format!("{parent} {alias}"))
        })
        .collect();
    if !aliases.is_empty() {
        text.push_str(&format!("\nAliases:\n  {}, {path}\n", aliases.join(", ")));
    }
    if command.has_subcommands() {
        let mut all: Vec<&Command> = command.get_subcommands().filter(|c| !c.is_hide_set()).collect();
        let (groups, mut plain): (Vec<&Command>, Vec<&Command>) =
            all.drain(..).partition(|command| command.has_subcommands());
        plain.sort_by_key(|command| command.get_name());
        list(
            &mut text,
            if groups.is_empty() { "Commands" } else { "Management Commands" },
            if groups.is_empty() { &[] } else { &groups },
        );
        list(&mut text, "Commands", &plain);
    }
    let mut options: Vec<&Arg> =
        command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()).collect();
    options.sort_by_key(|arg| arg.get_long().map(str::to_owned));
    if options.iter().any(|arg| arg.get_id() != "help") {
        let title = if path.contains(' ') { "Options" } else { "Global Options" };
        text.push_str(&format!("\n{title}:\n"));
        let heads: Vec<String> = options.iter().map(|arg| head(arg)).collect();
        let width = heads.iter().map(String::len).max().unwrap_or(0);
        for (arg, head) in options.iter().zip(&heads) {
            describe(&mut text, head, width, &description(arg));
        }
    }
    if command.has_subcommands() {
        text.push_str(&format!("\nRun '{path} COMMAND --help' for more information on a command.\n"));
    }
    text
}

fn list(text: &mut String, title: &str, commands: &[&Command]) {
    if commands.is_empty() {
        return;
    }
    text.push_str(&format!("\n{title}:\n"));
    let width = commands.iter().map(|command| command.get_name().len()).max().unwrap_or(0);
    for command in commands {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("  {:width$}   {about}\n", command.get_name()));
    }
}

/// `-e, --env list`
fn head(arg: &Arg) -> String {
    let mut head = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("  -{short}, --{long}"),
        (_, Some(long)) => format!("      --{long}"),
        (Some(short), None) => format!("  -{short}"),
        (None, None) => String::new(),
    };
    let name = arg.get_value_names().and_then(|names| names.first());
    if let Some(name) = name.filter(|name| name.as_str() != "bool" && arg.get_action().takes_values()) {
        head.push_str(&format!(" {name}"));
    }
    head
}

fn description(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let of_bool = arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == "bool"));
    if !defaults.is_empty() && !of_bool && !arg.is_hide_default_value_set() {
        let default = defaults.join(",");
        let number = default.parse::<i64>().is_ok();
        text.push_str(&if number {
            format!(" (default {default})")
        } else {
            format!(" (default {default:?})")
        });
    }
    text
}

/// A line of help, broken between words where it would be too long.
fn describe(text: &mut String, head: &str, width: usize, about: &str) {
    let mut line = format!("{head:width$}   ");
    let indent = width + 3;
    let mut column = indent;
    for (n, word) in about.split_whitespace().enumerate() {
        if n > 0 && column + 1 + word.len() > WIDTH.max(indent + 20) {
            line.push_str(&format!("\n{:indent$}", ""));
            column = indent;
        } else if n > 0 {
            line.push(' ');
            column += 1;
        }
        line.push_str(word);
        column += word.len();
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// Tells what is wrong with arguments, as Docker does, and the exit code for it.
pub(crate) fn refuse(root: &Command, arguments: &[String], error: &clap::Error) -> ExitCode {
    let (path, command) = find(root, arguments);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A reader that has gone wants no help.
            let _ = output::text(&help(&path, command));
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayVersion => {
            let _ = output::text(&error.to_string());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let (message, code) = message(&path, command, error);
    let usage = if command.has_subcommands() && !path.contains(' ') {
        String::new()
    } else {
        format!("\n\n{}", usage(&path, command))
    };
    let see = if message.contains(" requires at least ") { "See" } else { "Run" };
    output::complain(format_args!("{message}{usage}\n\n{see} '{path} --help' for more information"));
    output::exit(code)
}

fn message(path: &str, command: &Command, error: &clap::Error) -> (String, i32) {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.first().cloned().unwrap_or_default(),
        _ => String::new(),
    };
    let program = path.split(' ').next().unwrap_or(path);
    let argument = text(ContextKind::InvalidArg);
    let positional = !argument.starts_with('-');
    match error.kind() {
        ErrorKind::UnknownArgument if !positional => {
            let name = argument.split('=').next().unwrap_or(&argument).to_owned();
            match name.strip_prefix("--") {
                Some(_) => (format!("unknown flag: {name}"), BAD_OPTION),
                None => {
                    let letter = name.trim_start_matches('-').chars().next().unwrap_or_default();
                    (format!("unknown shorthand flag: '{letter}' in {name}"), BAD_OPTION)
                }
            }
        }
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues if !command.has_subcommands() => {
            (format!("{program}: '{path}' {}", accepted(command)), 1)
        }
        ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument => {
            let word = text(ContextKind::InvalidSubcommand);
            let word = if word.is_empty() { argument } else { word };
            (format!("{program}: unknown command: {path} {word}"), 1)
        }
        ErrorKind::MissingRequiredArgument => (format!("{program}: '{path}' {}", accepted(command)), 1),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let value = text(ContextKind::InvalidValue);
            let flag = flag(command, &argument);
            if value.is_empty() && !positional {
                return (
                    format!("flag needs an argument: {argument}")
                        .replace(" <", "\u{0}")
                        .split('\u{0}')
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                    BAD_OPTION,
                );
            }
            let reason = std::error::Error::source(error).map(ToString::to_string);
            let reason = reason.unwrap_or_else(|| "invalid value".to_owned());
            (
                format!("invalid argument {value:?} for {flag:?} flag: {}", go_reason(&value, &reason)),
                BAD_OPTION,
            )
        }
        _ => {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            (text.lines().next().unwrap_or_default().to_owned(), BAD_OPTION)
        }
    }
}

/// What Go's parsers say where Rust's say something else.
fn go_reason(value: &str, reason: &str) -> String {
    if reason.contains("invalid digit") {
        return format!("strconv.ParseInt: parsing {value:?}: invalid syntax");
    }
    if reason.contains("too large") || reason.contains("too small") {
        return format!("strconv.ParseInt: parsing {value:?}: value out of range");
    }
    if reason.contains("IPv4") || reason.contains("IPv6") {
        return format!("invalid string being converted to IP address: {value}");
    }
    reason.to_owned()
}

/// `-m, --memory` of `--memory <bytes>`.
fn flag(command: &Command, argument: &str) -> String {
    let name = argument.split([' ', '=', '[']).next().unwrap_or(argument);
    let found =
        command.get_arguments().find(|arg| arg.get_long().is_some_and(|long| name == format!("--{long}")));
    match found.and_then(Arg::get_short) {
        Some(short) => format!("-{short}, {name}"),
        None => name.to_owned(),
    }
}

/// How many arguments there may be, in Docker's words.
fn accepted(command: &Command) -> String {
    let all: Vec<&Arg> = command.get_positionals().collect();
    let least = all.iter().filter(|arg| arg.is_required_set()).count();
    let many = all.iter().any(|arg| matches!(arg.get_action(), ArgAction::Append));
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    match (least, all.len(), many) {
        (0, 0, _) => "accepts no arguments".to_owned(),
        (least, _, true) => format!("requires at least {least} argument{}", plural(least)),
        (least, most, false) if least == most => format!("requires {least} argument{}", plural(least)),
        (0, most, false) => format!("requires at most {most} argument{}", plural(most)),
        (least, most, false) => format!("requires at least {least} and at most {most} arguments"),
    }
}
