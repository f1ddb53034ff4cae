use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use engine::image::Platform;
use jiff::Timestamp;

use super::Daemon;
use crate::error::ApiError;

/// Bytes of a block as stat(2) counts them.
const BLOCK: u64 = 512;

/// The machine and the engine on it.
#[derive(Debug)]
pub(crate) struct Host {
    /// Stays the same for a root directory on a machine.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kernel: String,
    /// In the kernel's words: `x86_64`.
    pub(crate) machine: String,
    /// In Go's words: `amd64`.
    pub(crate) architecture: String,
    pub(crate) system: String,
    pub(crate) system_version: String,
    pub(crate) cgroup_version: &'static str,
    pub(crate) cpus: usize,
    /// In bytes.
    pub(crate) memory: u64,
    pub(crate) root: PathBuf,
    pub(crate) time: Timestamp,
    pub(crate) running: usize,
    pub(crate) stopped: usize,
    pub(crate) images: usize,
    /// Of containers that name none.
    pub(crate) log_driver: &'static str,
}

impl Daemon {
    /// Bytes on disk of a directory.
    pub(crate) async fn size_of(directory: PathBuf) -> u64 {
        super::blocking(move || disk_usage(&directory)).await
    }

    pub(crate) async fn host(&self) -> Result<Host, ApiError> {
        let paths = self.engine().paths();
        let uname = rustix::system::uname();
        let release = os_release(&paths.etc.join("os-release"));
        let field = |name: &str| release.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let containers = self.engine().containers().await?;
        let running = containers.iter().filter(|c| c.running).count();
        let machine_id = fs::read_to_string(paths.etc.join("machine-id")).unwrap_or_default();
        let unified = paths.cgroup.join("cgroup.controllers").exists();
        Ok(Host {
            id: format!("{}:{}", machine_id.trim(), paths.root.display()),
            name: uname.nodename().to_string_lossy().into_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            machine: uname.machine().to_string_lossy().into_owned(),
            architecture: Platform::host().architecture,
            system: field("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
            system_version: field("VERSION_ID").unwrap_or_default(),
            cgroup_version: if unified { "2" } else { "1" },
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory(&paths.proc_file("meminfo")),
            root: paths.root.clone(),
            time: Timestamp::now(),
            running,
            stopped: containers.len() - running,
            images: self.images().await?.len(),
            log_driver: self.engine().settings().logging.name(),
        })
    }
}

/// `NAME="value"` lines; none where there is no such file.
fn os_release(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

/// Bytes of memory that the host has.
pub(super) fn memory(meminfo: &Path) -> u64 {
    let text = fs::read_to_string(meminfo).unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Bytes on disk of a directory and all in it. What vanishes meanwhile does not count, nor what cannot be read.
pub(super) fn disk_usage(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let own = metadata.blocks() * BLOCK;
    if !metadata.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| disk_usage(&entry.path())).sum::<u64>() + own
}
