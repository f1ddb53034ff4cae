//! From a process that stands in the container's namespaces to the program: identity, limits, filter, exec.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::CapabilitySets;

use super::user::{self, User};
use crate::capabilities::Capabilities;
use crate::error::{Context, SetupError, Step};
use crate::seccomp::Filters;
use crate::spec::{Process, Resources, Security};

/// Docker's `PATH` for images that set none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that a process still needs once it is in the container.
pub(crate) struct Launch<'a> {
    pub(crate) process: &'a Process,
    pub(crate) security: &'a Security,
    pub(crate) resources: &'a Resources,
    pub(crate) filters: &'a Filters,
}

/// Takes on the process's identity and limits and executes it; returns only failures.
pub(super) fn execute(launch: &Launch<'_>) -> Result<Infallible, SetupError> {
    let user = become_user(launch)?;
    let env = environment(launch.process, &user);
    let args = c_strings(&launch.process.args)?;
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    engine_sys::signal::reset().step(Step::Signals)?;
    engine_sys::process::close_on_exec_from(3).step(Step::Stdio)?;
    Err(execute_in_path(&launch.process.args, path, &args, &c_strings(&env)?))
}

/// Changes directory, limits, filter, user and capabilities, in the order in which each is still allowed.
pub(super) fn become_user(launch: &Launch<'_>) -> Result<User, SetupError> {
    let user = user::resolve(Path::new("/etc"), &launch.process.user, &launch.process.groups)?;
    enter_directory(&launch.process.cwd)?;
    set_rlimits(launch.resources)?;
    let capabilities = available(launch.security.capabilities)?;
    drop_from_bounding_set(capabilities)?;
    if launch.security.no_new_privileges {
        rustix::thread::set_no_new_privs(true).step(Step::NoNewPrivileges)?;
    }
    // As root with CAP_SYS_ADMIN still: without no_new_privs the kernel takes a filter from nobody else. All calls
    // from here to execve are on the allow-list.
    launch.filters.install().step(Step::Seccomp)?;
    let groups: Vec<Gid> = user.groups.iter().map(|&id| Gid::from_raw(id)).collect();
    rustix::thread::set_thread_groups(&groups).step(Step::Groups)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).step(Step::UserId)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).step(Step::UserId)?;
    let kept = if user.uid == 0 { capabilities } else { Capabilities::NONE };
    let set = kept.to_rustix();
    let sets = CapabilitySets {
        effective: set,
        permitted: set,
        inheritable: rustix::thread::CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).step(Step::Capabilities)?;
    // Changing ids clears it (prctl(2), PR_SET_PDEATHSIG).
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).step(Step::UserId)?;
    Ok(user)
}

/// What is asked for as far as this process itself has it: an engine in a sandbox may lack some.
fn available(asked: Capabilities) -> Result<Capabilities, SetupError> {
    let own = rustix::thread::capabilities(None).step(Step::Capabilities)?;
    Ok(asked.intersection(Capabilities::from_bits(own.permitted.bits())))
}

pub(super) fn drop_from_bounding_set(keep: Capabilities) -> Result<(), SetupError> {
    for number in 0..u64::BITS {
        let one = Capabilities::from_bits(1 << number);
        if keep.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one.to_rustix()) {
            Ok(()) => {}
            Err(Errno::INVAL) => break, // past the last one that this kernel knows
            Err(e) => return Err(e).step(Step::Capabilities),
        }
    }
    Ok(())
}

fn enter_directory(cwd: &str) -> Result<(), SetupError> {
    let path = Path::new(if cwd.is_empty() { "/" } else { cwd });
    match rustix::process::chdir(path) {
        Err(Errno::NOENT) => fs::create_dir_all(path)
            .and_then(|()| Ok(rustix::process::chdir(path)?))
            .step_at(Step::WorkingDirectory, path),
        result => result.step_at(Step::WorkingDirectory, path),
    }
}

fn set_rlimits(resources: &Resources) -> Result<(), SetupError> {
    for (name, &(current, maximum)) in &resources.rlimits {
        let resource =
            resource(name).ok_or_else(|| SetupError::Invalid(format!("invalid ulimit type: {name}")))?;
        rustix::process::setrlimit(resource, Rlimit { current, maximum }).step_at(Step::Rlimit, name)?;
    }
    Ok(())
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

fn environment(process: &Process, user: &User) -> Vec<String> {
    let mut env = process.env.clone();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    env
}

fn c_strings(strings: &[String]) -> Result<Vec<CString>, SetupError> {
    let convert = |s: &String| {
        CString::new(s.as_str())
            .map_err(|_| SetupError::Invalid(format!("a zero byte in the argument or variable {s:?}")))
    };
    strings.iter().map(convert).collect()
}

/// Tries the program in each directory of the path, as execvp(3) does: a directory where it may not be executed does
/// not end the search, but is what is reported if nothing else is found.
fn execute_in_path(args: &[String], path: &str, argv: &[CString], env: &[CString]) -> SetupError {
    let Some(program) = args.first() else { return SetupError::Invalid("no command specified".to_owned()) };
    let candidates: Vec<String> = if program.contains('/') {
        vec![program.clone()]
    } else {
        path.split(':').map(|dir| format!("{}/{program}", if dir.is_empty() { "." } else { dir })).collect()
    };
    let mut failure = SetupError::CommandNotFound { program: program.clone() };
    for candidate in candidates {
        let Ok(candidate) = CString::new(candidate) else { break };
        let error = engine_sys::exec::execve(&candidate, argv, env);
        if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
            let errno = error.raw_os_error().unwrap_or_default();
            failure = SetupError::CommandNotExecutable { program: program.clone(), errno };
        }
    }
    failure
}

/// Makes descriptors 0, 1 and 2 of three others, and, with a terminal, that terminal the controlling one.
pub(super) fn connect_stdio(streams: [OwnedFd; 3], terminal: bool) -> Result<(), SetupError> {
    let connect = || {
        rustix::process::setsid()?;
        let [stdin, stdout, stderr] = &streams;
        rustix::stdio::dup2_stdin(stdin)?;
        rustix::stdio::dup2_stdout(stdout)?;
        rustix::stdio::dup2_stderr(stderr)?;
        if terminal {
            rustix::process::ioctl_tiocsctty(stdin)?;
        }
        Ok::<(), Errno>(())
    };
    connect().step(Step::Stdio)
}
