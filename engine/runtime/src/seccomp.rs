//! The system call filter: an allow-list equal in effect to Docker 28's default profile (`calls.rs`), for the
//! machine's own programs and for 32-bit ones.
//!
//! Two filters are installed: the allow-list, which answers EPERM to everything else, and, for containers without
//! CAP_SYS_ADMIN, one that answers ENOSYS to clone3, so that C libraries fall back to clone, whose flags a filter can
//! read. Of two filters that both refuse, the one installed last gives the error number (seccomp(2)).

mod calls;
mod profile;
mod program;

use std::collections::BTreeMap;

use engine_sys::seccomp::Instruction;
use rustix::io::Errno;

use crate::capabilities::Capabilities;
use crate::error::SetupError;
use crate::spec::{Seccomp, Security};

use calls::Calls;
use program::{Action, Condition, Rules, assemble};

/// sys/socket.h.
const AF_VSOCK: u32 = 40;
/// Linux, 32-bit addresses (PER_LINUX32), without them and with UNAME26, and asking for the current one.
const PERSONALITIES: [u32; 5] = [0x0, 0x0008, 0x20000, 0x20008, 0xffff_ffff];
/// CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET (linux/sched.h).
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;

/// Compiled filters, in the order of installation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters(Vec<Vec<Instruction>>);

impl Filters {
    pub(crate) fn compile(security: &Security) -> Result<Self, SetupError> {
        if security.seccomp == Seccomp::Unconfined {
            return Ok(Self::default());
        }
        let architecture = std::env::consts::ARCH;
        let calls = calls::of(architecture).ok_or_else(|| {
            SetupError::Invalid(format!("no seccomp profile for {architecture}: run with seccomp=unconfined"))
        })?;
        match &security.seccomp {
            Seccomp::Profile(text) => Ok(Self(vec![profile::compile(text, calls, security.capabilities)?])),
            _ => Ok(Self::of(calls, security.capabilities)),
        }
    }

    /// Installs them for the calling thread.
    pub(crate) fn install(&self) -> std::io::Result<()> {
        self.0.iter().try_for_each(|program| engine_sys::seccomp::install(program))
    }

    fn of(calls: [&Calls; 2], capabilities: Capabilities) -> Self {
        let mut filters = vec![assemble(&calls.map(|calls| allowed(calls, capabilities)))];
        if !capabilities.contains(Capabilities::named("SYS_ADMIN")) {
            filters.push(assemble(&calls.map(without_clone3)));
        }
        Self(filters)
    }
}

fn allowed(calls: &Calls, capabilities: Capabilities) -> Rules {
    let has = |name: &str| capabilities.contains(Capabilities::named(name));
    let by_capability = calls.by_capability.iter().filter(|(name, _)| has(name)).map(|(_, numbers)| numbers);
    let numbers = calls.always.iter().chain(by_capability).copied().flatten();
    let mut rules: BTreeMap<u32, Condition> = numbers.map(|&number| (number, Condition::None)).collect();
    // AF_VSOCK reaches the hypervisor, past every network namespace.
    rules.insert(calls.socket, Condition::Not(AF_VSOCK));
    rules.insert(calls.personality, Condition::OneOf(&PERSONALITIES));
    if !has("SYS_ADMIN") {
        rules.insert(calls.clone, Condition::Without(NAMESPACE_FLAGS));
    }
    Rules {
        audit_arch: calls.audit_arch,
        calls: rules,
        matched: Action::Allow,
        otherwise: Action::Errno(Errno::PERM),
    }
}

fn without_clone3(calls: &Calls) -> Rules {
    Rules {
        audit_arch: calls.audit_arch,
        calls: BTreeMap::from([(calls.clone3, Condition::None)]),
        matched: Action::Errno(Errno::NOSYS),
        otherwise: Action::Allow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiles_for_every_set_of_capabilities() {
        for capabilities in [Capabilities::NONE, Capabilities::default_set(), Capabilities::all()] {
            let security = Security { capabilities, ..Security::default() };
            let filters = Filters::compile(&security).unwrap();
            let wants_clone3 = !capabilities.contains(Capabilities::named("SYS_ADMIN"));
            assert_eq!(filters.0.len(), 1 + usize::from(wants_clone3));
            assert!(filters.0.iter().all(|program| program.len() < 4096), "BPF_MAXINSNS");
        }
    }

    #[test]
    fn mounting_takes_sys_admin() {
        for (calls, mount) in calls::of("x86_64").unwrap().into_iter().zip([165, 21]) {
            assert!(!allowed(calls, Capabilities::default_set()).calls.contains_key(&mount));
            assert!(allowed(calls, Capabilities::all()).calls.contains_key(&mount));
        }
    }
}
