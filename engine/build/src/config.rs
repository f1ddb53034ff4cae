//! What instructions that write no files do to the image's configuration.

use std::collections::BTreeMap;

use engine_image::{ContainerConfig, Healthcheck, History, ImageConfig};

use crate::dockerfile::{Action, Arg, Check, Command};
use crate::error::Problem;
use crate::expand::expand;
use crate::platform;

/// What shells find programs by where the image says nothing; Docker's default.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Set for every `RUN` when given from outside, without `ARG`, and then no part of the cache's key (Dockerfile
/// reference, "Predefined ARGs").
const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];
/// What BuildKit notes with its steps.
const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// The configuration of a stage while it is built.
#[derive(Debug, Clone)]
pub(crate) struct StageConfig {
    pub(crate) image: ImageConfig,
    /// What commands and variables see, `NAME=value`: `ENV`s and `ARG`s, of which the last to be set wins, as in
    /// BuildKit. Stages that start from this one see it too.
    env: Vec<String>,
    /// The `ARG`s declared so far, in order, with their values.
    args: Vec<(String, Option<String>)>,
    /// `CMD` stands in this stage, so that `ENTRYPOINT` does not reset it.
    cmd_set: bool,
}

/// Values from outside the stage.
#[derive(Debug)]
pub(crate) struct Outside<'a> {
    pub(crate) args: &'a BTreeMap<String, String>,
    pub(crate) global_args: &'a BTreeMap<String, String>,
    pub(crate) escape: char,
}

impl StageConfig {
    /// Continues from an image; `None` is `scratch`.
    pub(crate) fn new(base: Option<&ImageConfig>) -> Self {
        let mut image = base.cloned().unwrap_or_else(|| ImageConfig {
            architecture: platform::architecture().to_owned(),
            os: platform::OS.to_owned(),
            config: ContainerConfig { working_dir: "/".to_owned(), ..ContainerConfig::default() },
            ..ImageConfig::default()
        });
        let env = &mut image.config.env;
        if !env.iter().any(|entry| entry.starts_with("PATH=")) {
            env.push(DEFAULT_PATH.to_owned());
        }
        let env = image.config.env.clone();
        Self { image, env, args: Vec::new(), cmd_set: false }
    }

    /// Changes an image's configuration, to which nothing is added by itself.
    pub(crate) fn bare(image: &ImageConfig) -> Self {
        let env = image.config.env.clone();
        Self { image: image.clone(), env, args: Vec::new(), cmd_set: false }
    }

    /// Continues from another stage.
    pub(crate) fn after(stage: &Self) -> Self {
        Self { env: stage.env.clone(), ..Self::new(Some(&stage.image)) }
    }

    /// Takes the triggers that the base has for this build.
    pub(crate) fn take_triggers(&mut self) -> Vec<String> {
        std::mem::take(&mut self.image.config.on_build)
    }

    /// Expands the variables of a word.
    pub(crate) fn expand(&self, word: &str, outside: &Outside<'_>) -> Result<String, Problem> {
        expand(word, outside.escape, &|name| self.variable(name))
            .map_err(|reason| Problem::Expand { word: word.to_owned(), reason })
    }

    /// What a variable stands for.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.env.iter().find_map(|entry| value_of(entry, name)).map(str::to_owned)
    }

    /// The variables of commands, `NAME=value`.
    pub(crate) fn env(&self) -> &[String] {
        &self.env
    }

    /// The `ARG`s as the history shows them beside a command.
    pub(crate) fn shown_args(&self) -> Vec<String> {
        let value = |value: &Option<String>| value.clone().unwrap_or_default();
        self.args.iter().map(|(name, v)| format!("{name}={}", value(v))).collect()
    }

    /// The proxies given from outside, `NAME=value`, in both spellings: programs differ in which they read.
    pub(crate) fn proxies(&self, outside: &Outside<'_>) -> Vec<String> {
        let given = |name: &str| outside.args.get(name).map(|value| (name.to_owned(), value.clone()));
        let other = |name: &str| match outside.args.get(&name.to_uppercase()) {
            Some(value) => Some((name.to_owned(), value.clone())),
            None => outside.args.get(&name.to_lowercase()).map(|value| (name.to_owned(), value.clone())),
        };
        let proxies = PROXY_ARGS.iter().filter_map(|name| given(name).or_else(|| other(name)));
        let proxies = proxies.filter(|(name, _)| self.variable(name).is_none());
        proxies.map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// A command with the shell that it asks for.
    pub(crate) fn command(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(args) => args.clone(),
            Command::Shell(line) => self.shell_command(line),
        }
    }

    /// A script for the image's shell.
    pub(crate) fn shell_command(&self, script: &str) -> Vec<String> {
        let mut args = match &self.image.config.shell {
            Some(shell) => shell.clone(),
            None => DEFAULT_SHELL.map(str::to_owned).to_vec(),
        };
        args.push(script.to_owned());
        args
    }

    /// The working directory, absolute.
    pub(crate) fn working_dir(&self) -> &str {
        match &*self.image.config.working_dir {
            "" => "/",
            dir => dir,
        }
    }

    /// Moves to a directory relative to the one before.
    pub(crate) fn set_working_dir(&mut self, dir: &str) {
        let joined =
            if dir.starts_with('/') { dir.to_owned() } else { format!("{}/{dir}", self.working_dir()) };
        self.image.config.working_dir = format!("/{}", crate::ignore::clean(&joined));
    }

    /// Notes what made the next layer, or changed the configuration only.
    pub(crate) fn add_history(&mut self, created_by: String, created: Option<String>, empty_layer: bool) {
        let created = created.or_else(|| self.image.created.clone());
        let comment = Some(HISTORY_COMMENT.to_owned());
        let created_by = Some(created_by);
        self.image.history.push(History { created, created_by, author: None, comment, empty_layer });
    }

    /// Does what an instruction other than `RUN`, `COPY`, `ADD` and `WORKDIR` does.
    pub(crate) fn apply(
        &mut self,
        action: &Action,
        text: &str,
        outside: &Outside<'_>,
    ) -> Result<(), Problem> {
        let created_by = match action {
            Action::Env(pairs) => {
                let pairs = self.expand_pairs(pairs, outside)?;
                let shown: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
                for (name, value) in pairs {
                    self.set_env(&name, &value);
                }
                format!("ENV {}", shown.join(" "))
            }
            Action::Label(pairs) => {
                let pairs = self.expand_pairs(pairs, outside)?;
                let shown: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
                self.image.config.labels.extend(pairs);
                format!("LABEL {}", shown.join(" "))
            }
            Action::Arg(args) => format!("ARG {}", self.declare(args, outside)?.join(" ")),
            Action::User(user) => {
                self.image.config.user = self.expand(user, outside)?;
                format!("USER {}", self.image.config.user)
            }
            Action::Expose(ports) => {
                let ports = self.expand_list(ports, outside)?;
                for port in &ports {
                    self.expose(port)?;
                }
                format!("EXPOSE {}", ports.join(" "))
            }
            Action::Volume(volumes) => {
                let volumes = self.expand_list(volumes, outside)?;
                for volume in &volumes {
                    if volume.is_empty() {
                        return Err(Problem::Syntax(
                            "VOLUME specified can not be an empty string".to_owned(),
                        ));
                    }
                    self.image.config.volumes.insert(volume.clone(), Default::default());
                }
                format!("VOLUME [{}]", volumes.join(" "))
            }
            Action::StopSignal(signal) => {
                let signal = self.expand(signal, outside)?;
                check_signal(&signal)?;
                self.image.config.stop_signal = Some(signal.clone());
                format!("STOPSIGNAL {signal}")
            }
            other => return self.apply_commands(other, text),
        };
        self.add_history(created_by, None, true);
        Ok(())
    }

    /// The instructions in which nothing is expanded.
    fn apply_commands(&mut self, action: &Action, text: &str) -> Result<(), Problem> {
        let created_by = match action {
            Action::Cmd(command) => {
                let cmd = self.command(command);
                let shown = format!("CMD {}", go_list(&cmd));
                self.image.config.cmd = Some(cmd).filter(|cmd| !cmd.is_empty());
                self.image.config.args_escaped = true;
                self.cmd_set = true;
                shown
            }
            Action::Entrypoint(command) => {
                let entrypoint = self.command(command);
                let shown = format!("ENTRYPOINT {}", go_list(&entrypoint));
                self.image.config.entrypoint = Some(entrypoint).filter(|entrypoint| !entrypoint.is_empty());
                // The base's arguments were meant for the base's program.
                if !self.cmd_set {
                    self.image.config.cmd = None;
                }
                shown
            }
            Action::Shell(shell) => {
                self.image.config.shell = Some(shell.clone());
                format!("SHELL [{}]", shell.join(" "))
            }
            Action::Healthcheck(check) => {
                self.image.config.healthcheck = Some(self.healthcheck(check));
                text.to_owned()
            }
            Action::OnBuild(trigger) => {
                self.image.config.on_build.push(trigger.clone());
                return Ok(());
            }
            Action::Maintainer(author) => {
                self.image.author = Some(author.clone());
                format!("MAINTAINER {author}")
            }
            _ => text.to_owned(),
        };
        self.add_history(created_by, None, true);
        Ok(())
    }

    fn healthcheck(&self, check: &Check) -> Healthcheck {
        match check {
            Check::None => Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() },
            Check::Command { command, interval, timeout, start_period, start_interval, retries } => {
                let test = match command {
                    Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
                    Command::Exec(args) => {
                        std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect()
                    }
                };
                Healthcheck {
                    test,
                    interval: *interval,
                    timeout: *timeout,
                    start_period: *start_period,
                    start_interval: *start_interval,
                    retries: *retries,
                }
            }
        }
    }

    fn set_env(&mut self, name: &str, value: &str) {
        set_variable(&mut self.image.config.env, name, value);
        set_variable(&mut self.env, name, value);
    }

    /// Declares `ARG`s and gives them as the history shows them: without the values from outside.
    fn declare(&mut self, args: &[Arg], outside: &Outside<'_>) -> Result<Vec<String>, Problem> {
        let mut shown = Vec::new();
        for Arg { name, default } in args {
            let name = self.expand(name, outside)?;
            let default = default.as_deref().map(|default| self.expand(default, outside)).transpose()?;
            let global = || outside.global_args.get(&name).cloned();
            shown.push(default.as_ref().map_or_else(|| name.clone(), |default| format!("{name}={default}")));
            let value = outside.args.get(&name).cloned().or(default);
            let value = value.or_else(global).or_else(|| platform::arg(&name));
            if let Some(value) = &value {
                set_variable(&mut self.env, &name, value);
            }
            self.args.push((name, value));
        }
        Ok(shown)
    }

    fn expose(&mut self, port: &str) -> Result<(), Problem> {
        let refused = || Problem::Syntax(format!("invalid containerPort: {port}"));
        let (range, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let protocol = protocol.to_lowercase();
        if !matches!(&*protocol, "tcp" | "udp" | "sctp") {
            return Err(Problem::Syntax(format!("invalid proto: {protocol}")));
        }
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(refused);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(refused());
        }
        for port in first..=last {
            self.image.config.exposed_ports.insert(format!("{port}/{protocol}"), Default::default());
        }
        Ok(())
    }

    fn expand_list(&self, words: &[String], outside: &Outside<'_>) -> Result<Vec<String>, Problem> {
        words.iter().map(|word| self.expand(word, outside)).collect()
    }

    fn expand_pairs(
        &self,
        pairs: &[(String, String)],
        outside: &Outside<'_>,
    ) -> Result<Vec<(String, String)>, Problem> {
        let expand = |word: &String| self.expand(word, outside);
        pairs.iter().map(|(name, value)| Ok((expand(name)?, expand(value)?))).collect()
    }
}

/// The value in `NAME=value` if it has this name.
fn value_of<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    entry.strip_prefix(name)?.strip_prefix('=')
}

fn set_variable(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match env.iter_mut().find(|entry| value_of(entry, name).is_some()) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// A list as Go's `%q` prints it, for the history.
fn go_list(args: &[String]) -> String {
    let quoted: Vec<_> = args.iter().map(|arg| format!("{arg:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// A number from 1 to 64, or a name with or without `SIG`.
fn check_signal(signal: &str) -> Result<(), Problem> {
    const NAMES: &[&str] = &[
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
    ];
    let upper = signal.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = match signal.parse::<u8>() {
        Ok(number) => (1..=64).contains(&number),
        Err(_) => NAMES.contains(&name) || name.starts_with("RTMIN") || name.starts_with("RTMAX"),
    };
    if known { Ok(()) } else { Err(Problem::Syntax(format!("invalid signal: {signal}"))) }
}
