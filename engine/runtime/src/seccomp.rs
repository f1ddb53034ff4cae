//! The system call filter: an allow-list equal in effect to Docker 28's default profile (moby
//! `profiles/seccomp/default_linux.go`) for the machine's own architecture.
//!
//! Two filters are installed: the allow-list, which answers EPERM to everything else, and, for containers without
//! CAP_SYS_ADMIN, one that answers ENOSYS to clone3, so that C libraries fall back to clone, whose flags a filter can
//! read. Of two filters that both refuse, the one installed last gives the error number (seccomp(2)).

use std::collections::BTreeMap;

use engine_sys::seccomp::Instruction;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::capabilities::Capabilities;
use crate::error::SetupError;
use crate::spec::{Seccomp, Security};

/// Compiled filters, in the order of installation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters(Vec<Vec<Instruction>>);

impl Filters {
    pub(crate) fn compile(security: &Security) -> Result<Self, SetupError> {
        if security.seccomp == Seccomp::Unconfined {
            return Ok(Self::default());
        }
        let invalid =
            |e: seccompiler::BackendError| SetupError::Invalid(format!("compile the seccomp filter: {e}"));
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(invalid)?;
        let eperm = SeccompAction::Errno(rustix::io::Errno::PERM.raw_os_error() as u32);
        let enosys = SeccompAction::Errno(rustix::io::Errno::NOSYS.raw_os_error() as u32);
        let rules = rules(security.capabilities).map_err(invalid)?;
        let mut filters = vec![compile(rules, eperm, SeccompAction::Allow, arch).map_err(invalid)?];
        if !security.capabilities.contains(Capabilities::named("SYS_ADMIN")) {
            let clone3 = BTreeMap::from([(libc_number(Call::Clone3), Vec::new())]);
            filters.push(compile(clone3, SeccompAction::Allow, enosys, arch).map_err(invalid)?);
        }
        Ok(Self(filters))
    }

    /// Installs them for the calling thread.
    pub(crate) fn install(&self) -> std::io::Result<()> {
        self.0.iter().try_for_each(|program| engine_sys::seccomp::install(program))
    }
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    on_match: SeccompAction,
    arch: TargetArch,
) -> Result<Vec<Instruction>, seccompiler::BackendError> {
    let program: BpfProgram = SeccompFilter::new(rules, otherwise, on_match, arch)?.try_into()?;
    Ok(program.iter().map(|i| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect())
}

fn rules(capabilities: Capabilities) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let has = |name: &str| capabilities.contains(Capabilities::named(name));
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut allow = |numbers: &[i64]| rules.extend(numbers.iter().map(|&n| (n, Vec::new())));
    allow(table::ALWAYS);
    allow(table::ALWAYS_LEGACY);
    for (capability, numbers) in table::BY_CAPABILITY {
        if has(capability) {
            allow(numbers);
        }
    }
    let argument = |op, value| SeccompCondition::new(0, SeccompCmpArgLen::Dword, op, value);
    let one = |condition| SeccompRule::new(vec![condition]);
    // AF_VSOCK reaches the hypervisor, past every network namespace.
    rules.insert(libc_number(Call::Socket), vec![one(argument(SeccompCmpOp::Ne, AF_VSOCK)?)?]);
    let personalities = PERSONALITIES.iter().map(|&p| one(argument(SeccompCmpOp::Eq, p)?));
    rules.insert(libc_number(Call::Personality), personalities.collect::<Result<_, _>>()?);
    if !has("SYS_ADMIN") {
        let no_namespaces =
            SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(NAMESPACE_FLAGS), 0)?;
        rules.insert(libc_number(Call::Clone), vec![one(no_namespaces)?]);
    }
    Ok(rules)
}

/// sys/socket.h.
const AF_VSOCK: u64 = 40;
/// Linux, 32-bit addresses (PER_LINUX32), without them and with UNAME26, and asking for the current one.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x20000, 0x20008, 0xffff_ffff];
/// CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET (linux/sched.h).
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

enum Call {
    Clone,
    Clone3,
    Personality,
    Socket,
}

fn libc_number(call: Call) -> i64 {
    match call {
        Call::Clone => libc::SYS_clone,
        Call::Clone3 => libc::SYS_clone3,
        Call::Personality => libc::SYS_personality,
        Call::Socket => libc::SYS_socket,
    }
}

/// System call numbers, by what allows them.
mod table {
    use libc::*;

    /// Missing from the libc crate (asm/unistd_64.h, asm-generic/unistd.h).
    const IO_PGETEVENTS: i64 = if cfg!(target_arch = "x86_64") { 333 } else { 292 };

    pub(super) const ALWAYS: &[i64] = &[
        SYS_accept,
        SYS_accept4,
        SYS_adjtimex,
        SYS_bind,
        SYS_brk,
        SYS_capget,
        SYS_capset,
        SYS_chdir,
        SYS_clock_adjtime,
        SYS_clock_getres,
        SYS_clock_gettime,
        SYS_clock_nanosleep,
        SYS_close,
        SYS_close_range,
        SYS_connect,
        SYS_copy_file_range,
        SYS_dup,
        SYS_dup3,
        SYS_epoll_create1,
        SYS_epoll_ctl,
        SYS_epoll_pwait,
        SYS_epoll_pwait2,
        SYS_eventfd2,
        SYS_execve,
        SYS_execveat,
        SYS_exit,
        SYS_exit_group,
        SYS_faccessat,
        SYS_faccessat2,
        SYS_fadvise64,
        SYS_fallocate,
        SYS_fanotify_mark,
        SYS_fchdir,
        SYS_fchmod,
        SYS_fchmodat,
        SYS_fchown,
        SYS_fchownat,
        SYS_fcntl,
        SYS_fdatasync,
        SYS_fgetxattr,
        SYS_flistxattr,
        SYS_flock,
        SYS_fremovexattr,
        SYS_fsetxattr,
        SYS_fstat,
        SYS_fstatfs,
        SYS_fsync,
        SYS_ftruncate,
        SYS_futex,
        SYS_futex_waitv,
        SYS_getcpu,
        SYS_getcwd,
        SYS_getdents64,
        SYS_getegid,
        SYS_geteuid,
        SYS_getgid,
        SYS_getgroups,
        SYS_getitimer,
        SYS_getpeername,
        SYS_getpgid,
        SYS_getpid,
        SYS_getppid,
        SYS_getpriority,
        SYS_getrandom,
        SYS_getresgid,
        SYS_getresuid,
        SYS_getrlimit,
        SYS_get_robust_list,
        SYS_getrusage,
        SYS_getsid,
        SYS_getsockname,
        SYS_getsockopt,
        SYS_gettid,
        SYS_gettimeofday,
        SYS_getuid,
        SYS_getxattr,
        SYS_inotify_add_watch,
        SYS_inotify_init1,
        SYS_inotify_rm_watch,
        SYS_io_cancel,
        SYS_ioctl,
        SYS_io_destroy,
        SYS_io_getevents,
        IO_PGETEVENTS,
        SYS_ioprio_get,
        SYS_ioprio_set,
        SYS_io_setup,
        SYS_io_submit,
        SYS_kill,
        SYS_landlock_add_rule,
        SYS_landlock_create_ruleset,
        SYS_landlock_restrict_self,
        SYS_lgetxattr,
        SYS_linkat,
        SYS_listen,
        SYS_listxattr,
        SYS_llistxattr,
        SYS_lremovexattr,
        SYS_lseek,
        SYS_lsetxattr,
        SYS_madvise,
        SYS_membarrier,
        SYS_memfd_create,
        SYS_memfd_secret,
        SYS_mincore,
        SYS_mkdirat,
        SYS_mknodat,
        SYS_mlock,
        SYS_mlock2,
        SYS_mlockall,
        SYS_mmap,
        SYS_mprotect,
        SYS_mq_getsetattr,
        SYS_mq_notify,
        SYS_mq_open,
        SYS_mq_timedreceive,
        SYS_mq_timedsend,
        SYS_mq_unlink,
        SYS_mremap,
        SYS_msgctl,
        SYS_msgget,
        SYS_msgrcv,
        SYS_msgsnd,
        SYS_msync,
        SYS_munlock,
        SYS_munlockall,
        SYS_munmap,
        SYS_name_to_handle_at,
        SYS_nanosleep,
        SYS_newfstatat,
        SYS_openat,
        SYS_openat2,
        SYS_pidfd_open,
        SYS_pidfd_send_signal,
        SYS_pipe2,
        SYS_pkey_alloc,
        SYS_pkey_free,
        SYS_pkey_mprotect,
        SYS_ppoll,
        SYS_prctl,
        SYS_pread64,
        SYS_preadv,
        SYS_preadv2,
        SYS_prlimit64,
        SYS_process_mrelease,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
        SYS_pselect6,
        SYS_ptrace,
        SYS_pwrite64,
        SYS_pwritev,
        SYS_pwritev2,
        SYS_read,
        SYS_readahead,
        SYS_readlinkat,
        SYS_readv,
        SYS_recvfrom,
        SYS_recvmmsg,
        SYS_recvmsg,
        SYS_remap_file_pages,
        SYS_removexattr,
        SYS_renameat,
        SYS_renameat2,
        SYS_restart_syscall,
        SYS_rseq,
        SYS_rt_sigaction,
        SYS_rt_sigpending,
        SYS_rt_sigprocmask,
        SYS_rt_sigqueueinfo,
        SYS_rt_sigreturn,
        SYS_rt_sigsuspend,
        SYS_rt_sigtimedwait,
        SYS_rt_tgsigqueueinfo,
        SYS_sched_getaffinity,
        SYS_sched_getattr,
        SYS_sched_getparam,
        SYS_sched_get_priority_max,
        SYS_sched_get_priority_min,
        SYS_sched_getscheduler,
        SYS_sched_rr_get_interval,
        SYS_sched_setaffinity,
        SYS_sched_setattr,
        SYS_sched_setparam,
        SYS_sched_setscheduler,
        SYS_sched_yield,
        SYS_seccomp,
        SYS_semctl,
        SYS_semget,
        SYS_semop,
        SYS_semtimedop,
        SYS_sendfile,
        SYS_sendmmsg,
        SYS_sendmsg,
        SYS_sendto,
        SYS_setfsgid,
        SYS_setfsuid,
        SYS_setgid,
        SYS_setgroups,
        SYS_setitimer,
        SYS_setpgid,
        SYS_setpriority,
        SYS_setregid,
        SYS_setresgid,
        SYS_setresuid,
        SYS_setreuid,
        SYS_setrlimit,
        SYS_set_robust_list,
        SYS_setsid,
        SYS_setsockopt,
        SYS_set_tid_address,
        SYS_setuid,
        SYS_setxattr,
        SYS_shmat,
        SYS_shmctl,
        SYS_shmdt,
        SYS_shmget,
        SYS_shutdown,
        SYS_sigaltstack,
        SYS_signalfd4,
        SYS_socketpair,
        SYS_splice,
        SYS_statfs,
        SYS_statx,
        SYS_symlinkat,
        SYS_sync,
        SYS_sync_file_range,
        SYS_syncfs,
        SYS_sysinfo,
        SYS_tee,
        SYS_tgkill,
        SYS_timer_create,
        SYS_timer_delete,
        SYS_timer_getoverrun,
        SYS_timer_gettime,
        SYS_timer_settime,
        SYS_timerfd_create,
        SYS_timerfd_gettime,
        SYS_timerfd_settime,
        SYS_times,
        SYS_tkill,
        SYS_truncate,
        SYS_umask,
        SYS_uname,
        SYS_unlinkat,
        SYS_utimensat,
        SYS_vmsplice,
        SYS_wait4,
        SYS_waitid,
        SYS_write,
        SYS_writev,
        // Newer than the C library headers: the numbers are the same on every architecture.
        451, // cachestat
        452, // fchmodat2
        453, // map_shadow_stack
        454, // futex_wake
        455, // futex_wait
        456, // futex_requeue
        462, // mseal
    ];

    /// What newer architectures never had.
    #[cfg(target_arch = "x86_64")]
    pub(super) const ALWAYS_LEGACY: &[i64] = &[
        SYS_access,
        SYS_alarm,
        SYS_arch_prctl,
        SYS_chmod,
        SYS_chown,
        SYS_creat,
        SYS_dup2,
        SYS_epoll_create,
        SYS_epoll_ctl_old,
        SYS_epoll_wait,
        SYS_epoll_wait_old,
        SYS_eventfd,
        SYS_fork,
        SYS_futimesat,
        SYS_getdents,
        SYS_getpgrp,
        SYS_get_thread_area,
        SYS_inotify_init,
        SYS_lchown,
        SYS_link,
        SYS_lstat,
        SYS_mkdir,
        SYS_mknod,
        SYS_modify_ldt,
        SYS_open,
        SYS_pause,
        SYS_pipe,
        SYS_poll,
        SYS_readlink,
        SYS_rename,
        SYS_rmdir,
        SYS_select,
        SYS_set_thread_area,
        SYS_signalfd,
        SYS_stat,
        SYS_symlink,
        SYS_time,
        SYS_unlink,
        SYS_utime,
        SYS_utimes,
        SYS_vfork,
    ];
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) const ALWAYS_LEGACY: &[i64] = &[];

    pub(super) const BY_CAPABILITY: &[(&str, &[i64])] = &[
        ("DAC_READ_SEARCH", &[SYS_open_by_handle_at]),
        (
            "SYS_ADMIN",
            &[
                SYS_bpf,
                SYS_clone,
                SYS_clone3,
                SYS_fanotify_init,
                SYS_fsconfig,
                SYS_fsmount,
                SYS_fsopen,
                SYS_fspick,
                SYS_lookup_dcookie,
                SYS_mount,
                SYS_mount_setattr,
                SYS_move_mount,
                SYS_open_tree,
                SYS_perf_event_open,
                SYS_quotactl,
                443,
                SYS_setdomainname,
                SYS_sethostname,
                SYS_setns,
                SYS_syslog,
                SYS_umount2,
                SYS_unshare,
            ],
        ),
        ("SYS_BOOT", &[SYS_reboot]),
        ("SYS_CHROOT", &[SYS_chroot]),
        ("SYS_MODULE", &[SYS_delete_module, SYS_init_module, SYS_finit_module]),
        ("SYS_PACCT", &[SYS_acct]),
        ("SYS_PTRACE", &[SYS_kcmp, SYS_pidfd_getfd, SYS_process_madvise]),
        ("SYS_TIME", &[SYS_settimeofday, SYS_clock_settime]),
        ("SYS_TTY_CONFIG", &[SYS_vhangup]),
        ("SYS_NICE", &[SYS_get_mempolicy, SYS_mbind, SYS_set_mempolicy, 450]),
        ("SYSLOG", &[SYS_syslog]),
        ("BPF", &[SYS_bpf]),
        ("PERFMON", &[SYS_perf_event_open]),
        #[cfg(target_arch = "x86_64")]
        ("SYS_RAWIO", &[SYS_iopl, SYS_ioperm]),
    ];
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
        assert!(!rules(Capabilities::default_set()).unwrap().contains_key(&libc::SYS_mount));
        assert!(rules(Capabilities::all()).unwrap().contains_key(&libc::SYS_mount));
    }
}
