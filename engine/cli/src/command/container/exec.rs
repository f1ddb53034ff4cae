use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{check_terminal, detach_keys, exit_code};
use crate::client::ClientError;
use crate::context::Context;
use crate::failure::{Failure, start_code};
use crate::options::{environment, variable};
use crate::output;
use crate::streams::{self, End};

/// Execute a command in a running container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = variable)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    user: String,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    workdir: String,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let client = &context.client;
    let container = super::path(&args.container)?;
    let (keys_text, keys) = detach_keys(context, args.detach_keys.as_deref())?;
    if !args.detach {
        check_terminal(args.interactive, args.tty)?;
    }
    let attached = !args.detach;
    let mut body = json!({
        "User": args.user,
        "Privileged": args.privileged,
        "Tty": args.tty,
        "AttachStdin": attached && args.interactive,
        "AttachStdout": attached,
        "AttachStderr": attached,
        "DetachKeys": keys_text.unwrap_or_default(),
        "Env": environment(&args.env_file, &args.env)?,
        "WorkingDir": args.workdir,
        "Cmd": args.command,
    });
    if let (true, Some((rows, columns))) = (args.tty, streams::size()) {
        body["ConsoleSize"] = json!([rows, columns]);
    }
    let created = client.post(format!("{container}/exec")).json(&body).value().await?;
    let path = format!("/exec/{}", created["Id"].as_str().unwrap_or_default());
    let start = client.post(format!("{path}/start")).json(&json!({ "Detach": args.detach, "Tty": args.tty }));
    let failed = |error: ClientError| Failure::new(exec_code(&error), error.to_string());
    if args.detach {
        start.done().await.map_err(failed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let connection = start.hijack().await.map_err(failed)?;
    let joined = super::run::join(connection, args.interactive, args.tty, keys);
    let resized = async {
        if args.tty && streams::stdout_is_terminal() {
            return streams::follow_size(client, &path).await;
        }
        std::future::pending().await
    };
    let end = tokio::select! {
        biased;
        end = joined => end?,
        error = resized => return Err(error.err().map_or_else(|| anyhow::anyhow!("the terminal's size"), Into::into)),
    };
    if end == End::Detached {
        return Ok(ExitCode::SUCCESS);
    }
    let ended = client.get(format!("{path}/json")).value().await?;
    Ok(output::exit(exit_code(&ended["ExitCode"])))
}

/// 126 and 127 tell of the program, 1 of everything else.
fn exec_code(error: &ClientError) -> u8 {
    match start_code(error) {
        code @ (126 | 127) => code,
        _ => 1,
    }
}
