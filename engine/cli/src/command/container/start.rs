use std::process::ExitCode;

use tokio::sync::Notify;

use super::{begin_wait, check_terminal, detach_keys};
use crate::command::{Errors, for_each};
use crate::context::Context;
use crate::output;
use crate::streams::{self, End};

/// Start one or more stopped containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
    /// Proxy received signals to the process (default true)
    #[arg(long, value_name = "bool", action = clap::ArgAction::Set, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    sig_proxy: bool,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let client = &context.client;
    if !args.attach && !args.interactive {
        return for_each(&args.containers, async |name| {
            client.post(format!("{}/start", super::path(name)?)).done().await.map(drop)
        })
        .await;
    }
    anyhow::ensure!(args.containers.len() == 1, "you cannot start and attach multiple containers at once");
    let path = super::path(&args.containers[0])?;
    let found = client.get(format!("{path}/json")).value().await?;
    let tty = found["Config"]["Tty"] == true;
    let stdin = args.interactive && found["Config"]["OpenStdin"] == true;
    check_terminal(stdin, tty)?;
    let (keys_text, keys) = detach_keys(context, args.detach_keys.as_deref())?;
    let attach = client.post(format!("{path}/attach")).flag("stream", true).flag("stdin", stdin);
    let attach = attach.flag("stdout", true).flag("stderr", true).maybe("detachKeys", keys_text);
    let condition = if found["HostConfig"]["AutoRemove"] == true { "removed" } else { "next-exit" };
    let (connection, ended) = tokio::try_join!(attach.hijack(), begin_wait(client, &path, condition))?;
    let started = Notify::new();
    let lives = async {
        let mut errors = Errors::default();
        if errors.keep(client.post(format!("{path}/start")).done().await)?.is_none() {
            return errors.finish();
        }
        started.notify_one();
        match super::run::join(connection, stdin, tty, keys).await? {
            End::Detached => Ok(ExitCode::SUCCESS),
            End::Closed | End::Unread => Ok(output::exit(ended.await?)),
        }
    };
    let resized = async {
        if tty && streams::stdout_is_terminal() {
            started.notified().await;
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
    tokio::select! {
        biased;
        code = lives => code,
        watched = async { tokio::try_join!(resized, signalled) } => {
            watched?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
