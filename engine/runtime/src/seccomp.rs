//! The system call filter: an allow-list equal in effect to Docker 28's default profile (`calls.rs`), for the
//! machine's own programs and for 32-bit ones.
//!
//! Two filters are installed: the allow-list, which answers EPERM to everything else, and, for containers without
//! CAP_SYS_ADMIN, one that answers ENOSYS to clone3, so that C libraries fall back to clone, whose flags a filter can
//! read. Of two filters that both refuse, the one installed last gives the error number (seccomp(2)).

mod calls;

use std::collections::BTreeMap;

use engine_sys::seccomp::Instruction;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::capabilities::Capabilities;
use crate::error::SetupError;
use crate::spec::{Seccomp, Security};

use calls::Calls;

/// sys/socket.h.
const AF_VSOCK: u64 = 40;
/// Linux, 32-bit addresses (PER_LINUX32), without them and with UNAME26, and asking for the current one.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x20000, 0x20008, 0xffff_ffff];
/// CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET (linux/sched.h).
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
/// Where `struct seccomp_data` has the architecture (linux/seccomp.h), in bytes.
const ARCH_OFFSET: u32 = 4;
/// Load a word, jump if equal, jump (linux/bpf_common.h: BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JA).
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP: u16 = 0x05;

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
        Self::build(calls, security.capabilities)
            .map_err(|e| SetupError::Invalid(format!("compile the seccomp filter: {e}")))
    }

    /// Installs them for the calling thread.
    pub(crate) fn install(&self) -> std::io::Result<()> {
        self.0.iter().try_for_each(|program| engine_sys::seccomp::install(program))
    }

    fn build(calls: [&Calls; 2], capabilities: Capabilities) -> Result<Self, BackendError> {
        let errno = |errno: rustix::io::Errno| SeccompAction::Errno(errno.raw_os_error() as u32);
        let [own, compat] = calls.map(|calls| {
            let (eperm, allow) = (errno(rustix::io::Errno::PERM), SeccompAction::Allow);
            compile(calls, rules(calls, capabilities)?, eperm, allow)
        });
        let mut filters = vec![either(calls[0].audit_arch, own?, compat?)];
        if !capabilities.contains(Capabilities::named("SYS_ADMIN")) {
            let [own, compat] = calls.map(|calls| {
                let clone3 = BTreeMap::from([(calls.clone3, Vec::new())]);
                compile(calls, clone3, SeccompAction::Allow, errno(rustix::io::Errno::NOSYS))
            });
            filters.push(either(calls[0].audit_arch, own?, compat?));
        }
        Ok(Self(filters))
    }
}

/// A program for one architecture; it kills whoever calls in another's.
fn compile(
    calls: &Calls,
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    on_match: SeccompAction,
) -> Result<Vec<Instruction>, BackendError> {
    let known = TargetArch::try_from(std::env::consts::ARCH)?;
    let program: BpfProgram = SeccompFilter::new(rules, otherwise, on_match, known)?.try_into()?;
    let mut program: Vec<Instruction> =
        program.iter().map(|i| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
    // The library knows no 32-bit architectures. Theirs differ in the number compared first, and in the calls'.
    if let Some(comparison) = program.get_mut(1).filter(|i| i.code == JUMP_IF_EQUAL) {
        comparison.k = calls.audit_arch;
    }
    Ok(program)
}

/// The first program for calls of this architecture, the second for all others. The way to the second is too far for
/// a conditional jump.
fn either(audit_arch: u32, first: Vec<Instruction>, second: Vec<Instruction>) -> Vec<Instruction> {
    let dispatch = [
        Instruction { code: LOAD, jt: 0, jf: 0, k: ARCH_OFFSET },
        Instruction { code: JUMP_IF_EQUAL, jt: 1, jf: 0, k: audit_arch },
        Instruction { code: JUMP, jt: 0, jf: 0, k: first.len() as u32 },
    ];
    dispatch.into_iter().chain(first).chain(second).collect()
}

fn rules(calls: &Calls, capabilities: Capabilities) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let has = |name: &str| capabilities.contains(Capabilities::named(name));
    let by_capability = calls.by_capability.iter().filter(|(name, _)| has(name)).map(|(_, numbers)| numbers);
    let allowed = calls.always.iter().chain(by_capability).copied().flatten();
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = allowed.map(|&number| (number, Vec::new())).collect();
    let argument = |op, value| SeccompCondition::new(0, SeccompCmpArgLen::Dword, op, value);
    let one = |condition| SeccompRule::new(vec![condition]);
    // AF_VSOCK reaches the hypervisor, past every network namespace.
    rules.insert(calls.socket, vec![one(argument(SeccompCmpOp::Ne, AF_VSOCK)?)?]);
    let personalities = PERSONALITIES.iter().map(|&p| one(argument(SeccompCmpOp::Eq, p)?));
    rules.insert(calls.personality, personalities.collect::<Result<_, _>>()?);
    if !has("SYS_ADMIN") {
        let no_namespaces =
            SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(NAMESPACE_FLAGS), 0)?;
        rules.insert(calls.clone, vec![one(no_namespaces)?]);
    }
    Ok(rules)
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
    fn each_architecture_is_compared_once_for_each_of_its_programs() {
        let calls = calls::of(std::env::consts::ARCH).unwrap();
        for program in &Filters::build(calls, Capabilities::default_set()).unwrap().0 {
            let compared =
                |arch: u32| program.iter().filter(|i| i.code == JUMP_IF_EQUAL && i.k == arch).count();
            assert_eq!(calls.map(|calls| compared(calls.audit_arch)), [2, 1]);
        }
    }

    #[test]
    fn mounting_takes_sys_admin() {
        for calls in calls::of("x86_64").unwrap() {
            let mount = if calls.audit_arch == 0x4000_0003 { 21 } else { 165 };
            assert!(!rules(calls, Capabilities::default_set()).unwrap().contains_key(&mount));
            assert!(rules(calls, Capabilities::all()).unwrap().contains_key(&mount));
        }
    }
}
