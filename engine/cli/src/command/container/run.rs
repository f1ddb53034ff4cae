use std::process::ExitCode;

use serde_json::Value;
use tokio::sync::Notify;

use super::create::{create, with_hint};
use super::{begin_wait, check_terminal, detach_keys};
use crate::client::{ClientError, Hijacked};
use crate::context::Context;
use crate::failure::{Failure, start_code};
use crate::options::ContainerOptions;
use crate::output;
use crate::streams::{self, DetachKeys, End, Joined, RawMode};

/// Create and run a new container from an image
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Proxy received signals to the process (default true)
    #[arg(long, value_name = "bool", action = clap::ArgAction::Set, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    sig_proxy: bool,
    #[command(flatten)]
    options: ContainerOptions,
    /// Suppress the pull output
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The code for a container that was not started, unless its program is to blame.
const NOT_STARTED: u8 = 125;

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let told = |error: anyhow::Error| match error.downcast_ref::<Failure>() {
        Some(_) => error,
        None => {
            let code = error.downcast_ref::<ClientError>().map_or(NOT_STARTED, start_code);
            with_hint(&error, "run", code)
        }
    };
    let [stdin, ..] = args.options.attached();
    if !args.detach {
        check_terminal(stdin, args.options.tty)?;
    } else if !args.options.attach.is_empty() {
        let text = "conflicting options: cannot specify both --attach and --detach";
        return Err(Failure::new(1, text).into());
    }
    let body =
        args.options.body(&args.image, &args.command, args.detach, &context.proxies()).map_err(told)?;
    let id = create(context, &args.options, &args.image, &body, args.quiet).await.map_err(told)?;
    let path = format!("/containers/{id}");
    if args.detach {
        context.client.post(format!("{path}/start")).done().await.map_err(|error| told(error.into()))?;
        output::line(id)?;
        return Ok(ExitCode::SUCCESS);
    }
    foreground(context, args, &body, &path).await.map_err(told)
}

/// Runs a container whose streams are here; its exit code.
async fn foreground(context: &Context, args: &Args, body: &Value, path: &str) -> anyhow::Result<ExitCode> {
    let client = &context.client;
    let (keys_text, keys) = detach_keys(context, args.detach_keys.as_deref())?;
    let tty = args.options.tty;
    let [stdin, stdout, stderr] = args.options.attached();
    let condition = if args.options.rm { "removed" } else { "next-exit" };
    let connection = async {
        let attach = client.post(format!("{path}/attach")).flag("stream", true);
        let attach = attach.flag("stdin", stdin).flag("stdout", stdout).flag("stderr", stderr);
        attach.maybe("detachKeys", keys_text).hijack().await
    };
    let (connection, ended) = tokio::try_join!(connection, begin_wait(client, path, condition))?;
    let started = Notify::new();
    let lives = async {
        client.post(format!("{path}/start")).done().await?;
        started.notify_one();
        if join(connection, stdin && body["OpenStdin"] == true, tty, keys).await? == End::Detached {
            return Ok(None);
        }
        Ok::<_, anyhow::Error>(Some(ended.await?))
    };
    let resized = async {
        if tty && streams::stdout_is_terminal() {
            started.notified().await;
            return streams::follow_size(client, path).await;
        }
        std::future::pending().await
    };
    let signalled = async {
        if args.sig_proxy && !tty {
            return streams::forward(client, path).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        code = lives => Ok(code?.map_or(ExitCode::SUCCESS, output::exit)),
        error = resized => Err(unwatched(error)),
        error = signalled => Err(unwatched(error)),
    }
}

/// Signals are watched for as long as it takes, unless that fails.
fn unwatched(result: std::io::Result<()>) -> anyhow::Error {
    result.err().map_or_else(|| anyhow::anyhow!("signals are not watched any more"), Into::into)
}

/// Joins this process's streams with a container's until it ends or the user leaves.
pub(super) async fn join(
    connection: Hijacked,
    stdin: bool,
    terminal: bool,
    keys: Option<DetachKeys>,
) -> anyhow::Result<End> {
    let raw = if stdin && terminal { RawMode::enter()? } else { None };
    let detach_keys = if terminal { keys } else { None };
    let end = streams::join(connection, Joined { stdin, terminal, detach_keys }).await?;
    drop(raw);
    if end == End::Detached {
        output::complain("read escape sequence");
    }
    Ok(end)
}
