//! What could be left of a dead run, and that none of it is.

use std::fs;
use std::path::Path;
use std::process::Command;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::machine::{Machine, eventually};

/// What a cache's directory is called: a SHA-256.
const CACHE_NAME_LENGTH: usize = 64;
/// The directories that are empty when nothing runs.
const DIRECTORIES: [&str; 5] =
    ["root/containers", "root/images/staging", "run/containers", "run/networks", "run/sessions"];

/// Fails unless nothing of any run is left. Where the kernel clears up after the last process of a namespace has
/// ended, it is given time.
pub(crate) fn nothing_is_left(machine: &Machine) {
    eventually(&mut || {
        let mut left = processes(machine);
        left.extend(mounts(machine));
        left.extend(interfaces(machine));
        left.extend(cgroups(machine));
        if left.is_empty() { Ok(()) } else { Err(format!("left behind:\n{}", left.join("\n"))) }
    });
    let mut left = directories(machine);
    left.extend(rules(machine));
    left.extend(rows(machine));
    assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
}

/// Processes that hold anything of the root: a supervisor its lock, a container its root file system and working
/// directory; and by their words: the test's scripts name the machine's instance.
pub(crate) fn processes(machine: &Machine) -> Vec<String> {
    let (marker, root) = (machine.instance(), machine.path().to_str().unwrap().to_owned());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let own = pid == std::process::id() || machine.daemon_pid() == Some(pid);
        if own || !Path::new(&format!("/proc/{pid}/exe")).exists() {
            continue;
        }
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let mounts = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        let holds = fs::read_dir(entry.path().join("fd")).into_iter().flatten().filter_map(Result::ok);
        let mut held = holds.filter_map(|fd| fs::read_link(fd.path()).ok());
        if command.contains(&marker)
            || groups.contains(&format!("lighter-{marker}"))
            || mounts.contains(&root)
            || command.starts_with("lighter-supervisor") && held.any(|path| path.starts_with(&root))
        {
            found.push(format!("process {pid}: {command}"));
        }
    }
    found
}

/// The supervisors of a root: each holds the lock in its container's run directory.
pub(crate) fn supervisors(machine: &Machine) -> Vec<i32> {
    let processes = processes(machine);
    let of = |line: &String| {
        let (pid, command) = line.strip_prefix("process ")?.split_once(": ")?;
        command.starts_with("lighter-supervisor").then(|| pid.parse().ok()).flatten()
    };
    processes.iter().filter_map(of).collect()
}

pub(crate) fn mounts(machine: &Machine) -> Vec<String> {
    let path = machine.path().to_str().unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    // The root itself may be a mount of the test's.
    let own = format!(" {} ", machine.root().display());
    mounts.lines().filter(|m| m.contains(path) && !m.contains(&own)).map(|m| format!("mount {m}")).collect()
}

pub(crate) fn interfaces(machine: &Machine) -> Vec<String> {
    let listing = output("ip", &["-details", "link", "show"]);
    let alias = format!("lighter:{}", machine.instance());
    listing.lines().filter(|line| line.contains(&alias)).map(|line| format!("interface {line}")).collect()
}

fn cgroups(machine: &Machine) -> Vec<String> {
    let name = format!("lighter-{}", machine.instance());
    let mut found = Vec::new();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().filter_map(Result::ok).map(|e| e.path());
    for hierarchy in hierarchies.chain(["/sys/fs/cgroup".into()]) {
        // The directory above the containers' may stand, empty, until the root is opened next.
        let containers = fs::read_dir(hierarchy.join(&name)).into_iter().flatten().filter_map(Result::ok);
        let containers = containers.map(|entry| entry.path()).filter(|path| path.is_dir());
        found.extend(containers.map(|path| format!("cgroup {}", path.display())));
    }
    found
}

fn directories(machine: &Machine) -> Vec<String> {
    let mut found = Vec::new();
    for name in DIRECTORIES {
        let dir = match name.split_once('/').unwrap() {
            ("root", rest) => machine.root().join(rest),
            (_, rest) => machine.run_dir().join(rest),
        };
        let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
        found.extend(entries.map(|entry| entry.path().display().to_string()));
    }
    let caches = fs::read_dir(machine.root().join("caches")).into_iter().flatten().filter_map(Result::ok);
    let aside = caches.filter(|entry| entry.file_name().len() != CACHE_NAME_LENGTH);
    found.extend(aside.map(|entry| entry.path().display().to_string()));
    found
}

/// Elements of the root's table.
fn rules(machine: &Machine) -> Vec<String> {
    let table = format!("lighter_{}", machine.instance());
    let listing = Command::new("nft").args(["list", "table", "inet", &table]).output().unwrap();
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    listing.lines().filter(|line| line.contains("elements")).map(|line| format!("nft {line}")).collect()
}

fn rows(machine: &Machine) -> Vec<String> {
    let path = machine.root().join("catalog.db");
    if !path.exists() {
        return Vec::new();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut catalog = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        let mut found = Vec::new();
        for table in ["sessions", "networks", "containers", "endpoints", "volumes"] {
            // The network called bridge is made on first use and stays.
            let whose = if table == "networks" { "WHERE name <> 'bridge'" } else { "" };
            let query = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table} {whose}"));
            let count: i64 = sqlx::query_scalar(query).fetch_one(&mut catalog).await.unwrap();
            if count > 0 {
                found.push(format!("{count} rows of {table}"));
            }
        }
        catalog.close().await.unwrap();
        found
    })
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
