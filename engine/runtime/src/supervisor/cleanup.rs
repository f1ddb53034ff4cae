use std::io::{self, Write};
use std::process::{Command, Stdio};

use super::child;
use crate::spec::HostCommand;

/// Takes back, when it is dropped, what the container had of the host's.
pub(super) struct Cleanup<'a>(Option<&'a HostCommand>);

impl<'a> Cleanup<'a> {
    pub(super) fn new(command: Option<&'a HostCommand>) -> Self {
        Self(command)
    }
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let Some(command) = self.0 else { return };
        // What it fails to take back is swept when the engine is opened next; there is nobody left to tell. It fails
        // where there is nothing to take back any more, too.
        let _ = child::leave_pid_namespace().and_then(|()| run(command));
    }
}

fn run(command: &HostCommand) -> io::Result<()> {
    let mut child = Command::new(&command.program)
        .args(&command.args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(command.input.as_bytes())?;
    }
    child.wait()?;
    Ok(())
}
