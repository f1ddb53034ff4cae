use std::process::ExitCode;

use super::{begin_wait, check_terminal, detach_keys, exit_code};
use crate::context::Context;
use crate::output;
use crate::streams::{self, End};

/// Attach local standard input, output, and error streams to a running container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process (default true)
    #[arg(long, value_name = "bool", action = clap::ArgAction::Set, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    sig_proxy: bool,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let client = &context.client;
    let path = super::path(&args.container)?;
    let found = client.get(format!("{path}/json")).value().await?;
    let state = &found["State"];
    anyhow::ensure!(state["Running"] == true, "cannot attach to a stopped container, start it first");
    anyhow::ensure!(state["Paused"] != true, "cannot attach to a paused container, unpause it first");
    anyhow::ensure!(
        state["Restarting"] != true,
        "cannot attach to a restarting container, wait until it is running"
    );
    let tty = found["Config"]["Tty"] == true;
    let stdin = !args.no_stdin && found["Config"]["OpenStdin"] == true;
    check_terminal(stdin, tty)?;
    let (keys_text, keys) = detach_keys(context, args.detach_keys.as_deref())?;
    let ended = begin_wait(client, &path, "not-running").await?;
    let attach = client.post(format!("{path}/attach")).flag("stream", true).flag("stdin", stdin);
    let attach = attach.flag("stdout", true).flag("stderr", true).maybe("detachKeys", keys_text);
    let connection = attach.hijack().await?;
    let resized = async {
        if tty && streams::stdout_is_terminal() {
            return streams::follow_size(client, &path).await;
        }
        std::future::pending().await
    };
    let signalled = async {
        if args.sig_proxy && !tty {
            return streams::forward(client, &path).await;
        }
        std::future::pending().await
    };
    let end = tokio::select! {
        biased;
        end = super::run::join(connection, stdin, tty, keys) => end?,
        watched = async { tokio::try_join!(resized, signalled) } => {
            watched?;
            End::Detached
        }
    };
    if end == End::Detached {
        return Ok(ExitCode::SUCCESS);
    }
    // One that is to be restarted runs again, perhaps; its last exit code is what counts here.
    let found = client.get(format!("{path}/json")).value().await;
    match found {
        Ok(found) if found["State"]["Running"] != true => {
            Ok(output::exit(exit_code(&found["State"]["ExitCode"])))
        }
        _ => Ok(output::exit(ended.await?)),
    }
}
