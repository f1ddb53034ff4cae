//! Commands on containers.

pub(crate) mod attach;
pub(crate) mod commit;
pub(crate) mod cp;
mod cp_paths;
pub(crate) mod create;
pub(crate) mod diff;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod prune;
pub(crate) mod ps;
mod ps_ports;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stats;
mod stats_row;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod unpause;
pub(crate) mod update;
pub(crate) mod wait;

use serde_json::Value;

use crate::client::{Client, ClientError};
use crate::context::Context;
use crate::failure::Failure;
use crate::streams::{self, DEFAULT_DETACH_KEYS, DetachKeys};

/// The path of a container.
pub(crate) fn path(name: &str) -> Result<String, ClientError> {
    Ok(format!("/containers/{}", super::named("container", name)?))
}

/// The keys that detach: given, configured or usual, as text and as what to look for.
pub(crate) fn detach_keys(
    context: &Context,
    given: Option<&str>,
) -> anyhow::Result<(Option<String>, Option<DetachKeys>)> {
    let text = given.or_else(|| context.config.text("detachKeys"));
    let keys = DetachKeys::parse(text.unwrap_or(DEFAULT_DETACH_KEYS))?;
    Ok((text.map(str::to_owned), keys))
}

/// A terminal of a container's that is given input here needs one here.
pub(crate) fn check_terminal(stdin: bool, tty: bool) -> anyhow::Result<()> {
    if stdin && tty && !streams::stdin_is_terminal() {
        return Err(Failure::new(1, "the input device is not a TTY").into());
    }
    Ok(())
}

/// Begins to wait for a container's end; the daemon knows of it when this returns.
pub(crate) async fn begin_wait<'a>(
    client: &'a Client,
    path: &str,
    condition: &str,
) -> Result<impl Future<Output = Result<i32, ClientError>> + use<'a>, ClientError> {
    let answer = client.post(format!("{path}/wait")).query("condition", condition).send().await?;
    Ok(async move {
        let answer = answer.value().await?;
        if let Some(message) = answer["Error"]["Message"].as_str().filter(|message| !message.is_empty()) {
            return Err(ClientError::Progress(message.to_owned()));
        }
        Ok(exit_code(&answer["StatusCode"]))
    })
}

/// An exit code in an answer.
pub(crate) fn exit_code(value: &Value) -> i32 {
    value.as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(1)
}
