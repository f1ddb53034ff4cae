use std::os::fd::AsFd;
use std::process::ExitCode;

use engine::Engine;
use engine::runtime::ExecStreams;
use engine::runtime::spec::Process;

use super::streams::{Streams, terminal_size};
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Give it a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Keep standard input open.
    #[arg(short, long)]
    interactive: bool,
    /// Set an environment variable.
    #[arg(short, long)]
    env: Vec<String>,
    /// Working directory.
    #[arg(short, long)]
    workdir: Option<String>,
    /// User and group.
    #[arg(short, long)]
    user: Option<String>,
    /// The container.
    container: String,
    /// Command and arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

pub(crate) async fn run(engine: &Engine, args: Args) -> anyhow::Result<ExitCode> {
    let container = engine.container(&args.container).await?;
    let defaults = engine.process_defaults(&container)?;
    let mut env = defaults.env;
    env.extend(args.env);
    let process = Process {
        args: args.command,
        env,
        cwd: args.workdir.unwrap_or(defaults.cwd),
        user: args.user.unwrap_or(defaults.user),
        groups: Vec::new(),
        terminal: args.tty,
        stdin: args.interactive,
        stdin_stays: false,
    };
    if !args.tty {
        let stdin = if args.interactive {
            std::io::stdin().as_fd().try_clone_to_owned()?
        } else {
            std::fs::File::open("/dev/null")?.into()
        };
        let streams = [
            stdin,
            std::io::stdout().as_fd().try_clone_to_owned()?,
            std::io::stderr().as_fd().try_clone_to_owned()?,
        ];
        let process = engine.exec(container.id, process, false, ExecStreams::Direct(streams)).await?;
        return Ok(output::exit(process.wait().await?.code));
    }
    let (streams, socket) = Streams::attach(true, true)?;
    let process = engine.exec(container.id, process, false, ExecStreams::Terminal(socket)).await?;
    if let Some((rows, columns)) = terminal_size() {
        process.resize(rows, columns)?;
    }
    let exit = process.wait().await?;
    streams.finish()?;
    Ok(output::exit(exit.code))
}
