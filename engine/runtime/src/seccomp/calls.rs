//! System calls by name, as Docker 28's default profile lists them (moby `profiles/seccomp/default.json`), and their
//! numbers on each architecture.

use syscalls::{aarch64, arm, x86, x86_64};

/// The profile's calls on one architecture.
#[derive(Debug)]
pub(super) struct Calls {
    /// What the kernel calls the architecture in `seccomp_data.arch` (AUDIT_ARCH_*, linux/audit.h).
    pub(super) audit_arch: u32,
    /// Allowed to everybody.
    pub(super) always: &'static [&'static [u32]],
    /// Allowed to those with a capability.
    pub(super) by_capability: &'static [(&'static str, &'static [u32])],
    pub(super) clone: u32,
    pub(super) clone3: u32,
    pub(super) personality: u32,
    pub(super) socket: u32,
}

/// What runs on a machine of an architecture: its own programs, and 32-bit ones. `None` for one without a table.
pub(super) fn of(architecture: &str) -> Option<[&'static Calls; 2]> {
    match architecture {
        "x86_64" => Some([&X86_64, &X86]),
        "aarch64" => Some([&AARCH64, &ARM]),
        _ => None,
    }
}

macro_rules! numbers {
    ($arch:ident: $($name:ident)*) => { &[$($arch::Sysno::$name as u32),*] };
}

/// Fills in what all architectures have. `own`, and what is added to a capability's calls, exists on this one only.
macro_rules! calls {
    (
        $arch:ident, $audit_arch:expr,
        own: [$($own:ident)*], numbered: [$($numbered:expr),*],
        SYS_ADMIN: [$($admin:ident)*], SYS_TIME: [$($time:ident)*], SYS_RAWIO: [$($raw:ident)*]
    ) => {
        Calls {
            audit_arch: $audit_arch,
            always: &[
                numbers!($arch:
                    accept4 adjtimex bind brk cachestat capget capset chdir clock_adjtime clock_getres
                    clock_gettime clock_nanosleep close close_range connect copy_file_range dup dup3
                    epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 eventfd2 execve execveat exit
                    exit_group faccessat faccessat2 fallocate fanotify_mark fchdir fchmod fchmodat
                    fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fremovexattr
                    fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv
                    futex_wake get_robust_list getcpu getcwd getdents64 getegid geteuid getgid getgroups
                    getitimer getpeername getpgid getpid getppid getpriority getrandom getresgid
                    getresuid getrusage getsid getsockname getsockopt gettid gettimeofday getuid
                    getxattr inotify_add_watch inotify_init1 inotify_rm_watch io_cancel io_destroy
                    io_getevents io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set kill
                    landlock_add_rule landlock_create_ruleset landlock_restrict_self lgetxattr linkat
                    listen listxattr llistxattr lremovexattr lseek lsetxattr madvise map_shadow_stack
                    membarrier memfd_create mincore mkdirat mknodat mlock mlock2 mlockall mprotect
                    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap mseal
                    msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at
                    nanosleep openat openat2 pidfd_open pidfd_send_signal pipe2 pkey_alloc pkey_free
                    pkey_mprotect ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease
                    process_vm_readv process_vm_writev pselect6 ptrace pwrite64 pwritev pwritev2 read
                    readahead readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr
                    renameat renameat2 restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask
                    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo
                    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
                    sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity
                    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp semctl semget
                    sendfile sendmmsg sendmsg sendto set_robust_list set_tid_address setfsgid setfsuid
                    setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid
                    setrlimit setsid setsockopt setuid setxattr shmat shmctl shmdt shmget shutdown
                    sigaltstack signalfd4 socketpair splice statfs statx symlinkat sync syncfs sysinfo
                    tee tgkill timer_create timer_delete timer_getoverrun timer_gettime timer_settime
                    timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname
                    unlinkat utimensat vmsplice wait4 waitid write writev
                ),
                numbers!($arch: $($own)*),
                &[$($numbered),*],
            ],
            by_capability: &[
                ("DAC_READ_SEARCH", numbers!($arch: open_by_handle_at)),
                ("SYS_ADMIN", numbers!($arch:
                    bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount
                    mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
                    sethostname setns syslog umount2 unshare $($admin)*
                )),
                ("SYS_BOOT", numbers!($arch: reboot)),
                ("SYS_CHROOT", numbers!($arch: chroot)),
                ("SYS_MODULE", numbers!($arch: delete_module init_module finit_module)),
                ("SYS_PACCT", numbers!($arch: acct)),
                ("SYS_PTRACE", numbers!($arch: kcmp pidfd_getfd process_madvise)),
                ("SYS_RAWIO", numbers!($arch: $($raw)*)),
                ("SYS_TIME", numbers!($arch: settimeofday clock_settime $($time)*)),
                ("SYS_TTY_CONFIG", numbers!($arch: vhangup)),
                ("SYS_NICE", numbers!($arch: get_mempolicy mbind set_mempolicy set_mempolicy_home_node)),
                ("SYSLOG", numbers!($arch: syslog)),
                ("BPF", numbers!($arch: bpf)),
                ("PERFMON", numbers!($arch: perf_event_open)),
            ],
            clone: $arch::Sysno::clone as u32,
            clone3: $arch::Sysno::clone3 as u32,
            personality: $arch::Sysno::personality as u32,
            socket: $arch::Sysno::socket as u32,
        }
    };
}

static X86_64: Calls = calls!(
    x86_64, 0xc000_003e,
    own: [
            accept access alarm arch_prctl chmod chown creat dup2 epoll_create epoll_ctl_old epoll_wait
            epoll_wait_old eventfd fadvise64 fork futimesat get_thread_area getdents getpgrp getrlimit
            inotify_init lchown link lstat memfd_secret mkdir mknod mmap modify_ldt newfstatat open
            pause pipe poll readlink rename rmdir select semop semtimedop set_thread_area signalfd stat
            symlink sync_file_range time unlink utime utimes vfork
    ],
    numbered: [],
    SYS_ADMIN: [], SYS_TIME: [], SYS_RAWIO: [iopl ioperm]
);

static X86: Calls = calls!(
    x86, 0x4000_0003,
    own: [
            _llseek _newselect access alarm arch_prctl chmod chown chown32 clock_adjtime64
            clock_getres_time64 clock_gettime64 clock_nanosleep_time64 creat dup2 epoll_create
            epoll_wait eventfd fadvise64 fadvise64_64 fchown32 fcntl64 fork fstat64 fstatat64 fstatfs64
            ftruncate64 futex_time64 futimesat get_thread_area getdents getegid32 geteuid32 getgid32
            getgroups32 getpgrp getresgid32 getresuid32 getrlimit getuid32 inotify_init
            io_pgetevents_time64 ipc lchown lchown32 link lstat lstat64 memfd_secret mkdir mknod mmap
            mmap2 modify_ldt mq_timedreceive_time64 mq_timedsend_time64 open pause pipe poll
            ppoll_time64 pselect6_time64 readlink recvmmsg_time64 rename rmdir rt_sigtimedwait_time64
            sched_rr_get_interval_time64 select semtimedop_time64 sendfile64 set_thread_area setfsgid32
            setfsuid32 setgid32 setgroups32 setregid32 setresgid32 setresuid32 setreuid32 setuid32
            signalfd sigprocmask sigreturn socketcall stat stat64 statfs64 symlink sync_file_range time
            timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 truncate64 ugetrlimit
            unlink utime utimensat_time64 utimes vfork waitpid
    ],
    numbered: [],
    SYS_ADMIN: [umount], SYS_TIME: [stime clock_settime64], SYS_RAWIO: [iopl ioperm]
);

static AARCH64: Calls = calls!(
    aarch64, 0xc000_00b7,
    own: [
            accept clock_adjtime64 clock_getres_time64 clock_gettime64 clock_nanosleep_time64 fadvise64
            fstatat futex_time64 getrlimit io_pgetevents_time64 memfd_secret mmap mq_timedreceive_time64
            mq_timedsend_time64 ppoll_time64 pselect6_time64 recvmmsg_time64 rt_sigtimedwait_time64
            sched_rr_get_interval_time64 semop semtimedop semtimedop_time64 sync_file_range
            timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 utimensat_time64
    ],
    numbered: [],
    SYS_ADMIN: [], SYS_TIME: [], SYS_RAWIO: []
);

static ARM: Calls = calls!(
    arm, 0x4000_0028,
    own: [
            _llseek _newselect accept access arm_fadvise64_64 arm_sync_file_range chmod chown chown32
            clock_adjtime64 clock_getres_time64 clock_gettime64 clock_nanosleep_time64 creat dup2
            epoll_create epoll_wait eventfd fchown32 fcntl64 fork fstat64 fstatat64 fstatfs64
            ftruncate64 futex_time64 futimesat getdents getegid32 geteuid32 getgid32 getgroups32 getpgrp
            getresgid32 getresuid32 getuid32 inotify_init io_pgetevents_time64 lchown lchown32 link
            lstat lstat64 mkdir mknod mmap2 mq_timedreceive_time64 mq_timedsend_time64 open pause pipe
            poll ppoll_time64 pselect6_time64 readlink recv recvmmsg_time64 rename rmdir
            rt_sigtimedwait_time64 sched_rr_get_interval_time64 semop semtimedop semtimedop_time64 send
            sendfile64 setfsgid32 setfsuid32 setgid32 setgroups32 setregid32 setresgid32 setresuid32
            setreuid32 setuid32 signalfd sigprocmask sigreturn stat stat64 statfs64 symlink
            timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 truncate64 ugetrlimit
            unlink utimensat_time64 utimes vfork
    ],
    // breakpoint, cacheflush, set_tls (arch/arm/include/uapi/asm/unistd.h)
    numbered: [0x0f_0001, 0x0f_0002, 0x0f_0005],
    SYS_ADMIN: [], SYS_TIME: [clock_settime64], SYS_RAWIO: []
);
