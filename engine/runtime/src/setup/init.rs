//! The built-in init: PID 1 of containers that ask for one. Reaps orphans, forwards signals, ends with its process.
//! Without a process it lives until a signal ends it.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use engine_sys::process::{Child, Namespaces};
use engine_sys::signal::SignalFd;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use rustix::thread::CapabilitySets;

use super::process::{self, Launch};
use crate::capabilities::Capabilities;
use crate::error::{Context, SetupError, Step};
use crate::protocol::Connection;

/// Runs the process, if there is one, looks after it, and ends with the container's exit code; returns only failures.
///
/// It never goes back to code that holds descriptors: [`prepare`] has closed them.
pub(super) fn run(
    launch: &Launch<'_>,
    streams: [OwnedFd; 3],
    terminal: bool,
    supervisor: Connection,
) -> Result<Infallible, SetupError> {
    let child = if launch.process.args.is_empty() {
        None
    } else {
        Some(start(launch, streams, terminal, &supervisor)?)
    };
    // The supervisor takes the end of this connection for success, so the child's copy must be the last.
    drop(supervisor);
    let signals = prepare(launch.security.capabilities)?;
    let main = child.as_ref().and_then(|child| Pid::from_raw(child.pid));
    loop {
        let mut poll = [PollFd::new(&signals, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut poll, None)).step(Step::Signals)?;
        while let Some(number) = signals.read().step(Step::Signals)? {
            if number == Signal::CHILD.as_raw() {
                if let Some(code) = reap(main) {
                    engine_sys::process::exit_now(code);
                }
            } else if let Some(code) = handle(number, main) {
                engine_sys::process::exit_now(code);
            }
        }
    }
}

fn start(
    launch: &Launch<'_>,
    streams: [OwnedFd; 3],
    terminal: bool,
    supervisor: &Connection,
) -> Result<Child, SetupError> {
    // Blocked before the fork, so that no child's end is missed.
    engine_sys::signal::block_all().step(Step::Signals)?;
    engine_sys::process::spawn(Namespaces::default(), None, || {
        let failed = process::connect_stdio(streams, terminal).and_then(|()| process::execute(launch));
        match failed {
            Ok(never) => match never {},
            Err(error) => {
                let code = error.exit_code();
                let _ = supervisor.send(&super::FromChild::Failed(error), &[]);
                code
            }
        }
    })
    .step(Step::Fork)
}

/// Lets go of all that the supervisor's fork handed down, and of all privileges but that of signalling.
fn prepare(container: Capabilities) -> Result<SignalFd, SetupError> {
    engine_sys::signal::block_all().step(Step::Signals)?;
    let signals = SignalFd::all().step(Step::Signals)?;
    engine_sys::process::close_inherited_except(&[signals.as_fd()]).step(Step::Stdio)?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").step(Step::Stdio)?;
    let connect = || {
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)
    };
    connect().step(Step::Stdio)?;
    let _ = rustix::thread::set_name(c"init");
    process::drop_from_bounding_set(container)?;
    let own = rustix::thread::capabilities(None).step(Step::Capabilities)?;
    let kill =
        Capabilities::named("KILL").intersection(Capabilities::from_bits(own.permitted.bits())).to_rustix();
    let none = rustix::thread::CapabilitySet::empty();
    let sets = CapabilitySets { effective: kill, permitted: kill, inheritable: none };
    rustix::thread::set_capabilities(None, sets).step(Step::Capabilities)?;
    Ok(signals)
}

/// Collects every ended child; the exit code once the main one is among them.
fn reap(main: Option<Pid>) -> Option<i32> {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if Some(pid) == main {
            return Some(exit_code(status));
        }
    }
    None
}

fn exit_code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|n| 128 + n)).unwrap_or(255)
}

/// Forwards a signal to the main process; alone, ends as an ordinary program would.
fn handle(number: i32, main: Option<Pid>) -> Option<i32> {
    let signal = Signal::from_named_raw(number)?;
    match main {
        Some(pid) => {
            let _ = rustix::process::kill_process(pid, signal); // it may just have ended
            None
        }
        None => {
            matches!(signal, Signal::TERM | Signal::INT | Signal::QUIT | Signal::HUP).then_some(128 + number)
        }
    }
}
