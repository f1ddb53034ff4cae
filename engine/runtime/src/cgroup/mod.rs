//! cgroups: v2, v1, and the hybrid layout, in which v1 has the controllers and v2 only names processes.
//!
//! A container's directory is `<parent>/<id>` in each hierarchy used, `parent` being one directory for an engine
//! root. An exec's processes have a directory of their own below it, so that they can be killed as one.

mod control;
mod devices;
mod discard;
mod meter;
mod v1;
mod v2;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine_types::Paths;

use crate::capabilities::Capabilities;
use crate::error::{Context, SetupError, Step};
use crate::spec::{Resources, Security};

pub use meter::{BlockIo, CpuUsage, MemoryUsage, Meter, Usage};

/// How long a directory whose last process was just killed is tried to be removed: the kernel empties it shortly
/// after the parent learned of the exit, later where the machine is busy.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before it is tried again: it begins so and doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// Where this host has its cgroup hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchies {
    /// All controllers in one tree.
    V2 {
        /// Its mount point.
        root: PathBuf,
    },
    /// One tree a controller, as on v1 and hybrid hosts.
    V1 {
        /// Mount points by controller name; two controllers may share one.
        controllers: BTreeMap<String, PathBuf>,
    },
    /// No usable hierarchy: nothing is limited or counted.
    None,
}

impl Hierarchies {
    /// Reads the mount table; only what is mounted below `paths.cgroup` counts.
    pub fn detect(paths: &Paths) -> io::Result<Self> {
        let mountinfo = fs::read_to_string(paths.proc_file("self/mountinfo"))?;
        Ok(Self::parse(&mountinfo, &paths.cgroup))
    }

    /// Parses proc(5)'s mountinfo: the mount point is the fifth field; behind a lone `-` stand the file system's
    /// type, its source and the options, among which v1 names its controllers.
    fn parse(mountinfo: &str, below: &Path) -> Self {
        let mut controllers = BTreeMap::new();
        let mut unified = None;
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(mount_point) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut right = right.split(' ');
            let (fs_type, options) = (right.next().unwrap_or_default(), right.nth(1).unwrap_or_default());
            if !mount_point.starts_with(below) {
                continue;
            }
            match fs_type {
                "cgroup2" => unified = Some(mount_point),
                "cgroup" => {
                    let known = options.split(',').filter(|option| v1::CONTROLLERS.contains(option));
                    controllers.extend(known.map(|name| (name.to_owned(), mount_point.clone())));
                }
                _ => {}
            }
        }
        match unified {
            _ if !controllers.is_empty() => Self::V1 { controllers },
            Some(root) => Self::V2 { root },
            None => Self::None,
        }
    }

    /// Removes the directories of all containers below `parent` that `claim` gives, killing what still runs in them;
    /// the claim is held meanwhile. `parent` itself stays for the next container: making it anew costs as much as the
    /// container's.
    pub fn sweep<C>(&self, parent: &str, claim: impl Fn(&str) -> Option<C>) -> io::Result<()> {
        let parents: Vec<PathBuf> = self.roots().into_iter().map(|root| root.join(parent)).collect();
        let found = parents.iter().flat_map(|parent| subdirectories(parent));
        let ids: BTreeSet<OsString> = found.filter_map(|dir| Some(dir.file_name()?.to_owned())).collect();
        for id in ids {
            let Some(_claim) = id.to_str().and_then(&claim) else { continue };
            for dir in parents.iter().map(|parent| parent.join(&id)).filter(|dir| dir.exists()) {
                kill_tree(&dir)?;
                remove_tree(&dir)?;
            }
        }
        Ok(())
    }

    fn roots(&self) -> Vec<&Path> {
        match self {
            Self::V2 { root } => vec![root],
            Self::V1 { controllers } => {
                let mut roots: Vec<&Path> = controllers.values().map(PathBuf::as_path).collect();
                roots.sort_unstable();
                roots.dedup();
                roots
            }
            Self::None => Vec::new(),
        }
    }
}

/// What a warning says of a host that cannot keep a container to its device list.
const NO_LIST: &str = "devices are limited by taking mknod away, not by a list";
const EBUSY: i32 = rustix::io::Errno::BUSY.raw_os_error();
const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();
const ENODEV: i32 = rustix::io::Errno::NODEV.raw_os_error();

/// A container's directories; removed on drop.
#[derive(Debug)]
pub(crate) struct Cgroup {
    layout: Layout,
    /// Whether the kernel refuses what is not on the device list.
    limits_devices: bool,
}

#[derive(Debug)]
enum Layout {
    V2 { dir: PathBuf, handle: OwnedFd },
    V1 { dirs: BTreeMap<PathBuf, Vec<String>> },
    None,
}

impl Cgroup {
    /// Makes the directories and sets the limits. What this host cannot do and nobody asked for becomes a warning.
    pub(crate) fn create(
        hierarchies: &Hierarchies,
        parent: &str,
        id: &str,
        resources: &Resources,
        security: &Security,
        warnings: &mut Vec<String>,
    ) -> Result<Self, SetupError> {
        match hierarchies {
            Hierarchies::V2 { root } => {
                let parent = root.join(parent);
                let dir = parent.join(id);
                create_in(&parent, &dir)?;
                let handle = open_dir(&dir).step_at(Step::Cgroup, &dir)?;
                let layout = Layout::V2 { dir: dir.clone(), handle };
                let mut cgroup = Self { layout, limits_devices: false };
                v2::delegate(root)?;
                v2::delegate(&parent)?;
                v2::apply(&dir, resources)?;
                let Layout::V2 { handle, .. } = &cgroup.layout else { return Ok(cgroup) };
                if !security.all_devices {
                    let program = devices::program(&devices::allowed(security));
                    match engine_sys::bpf::attach_device_program(handle_fd(handle), &program) {
                        Ok(()) => cgroup.limits_devices = true,
                        Err(e) => warnings.push(format!("{NO_LIST}: the BPF program was refused: {e}")),
                    }
                }
                Ok(cgroup)
            }
            Hierarchies::V1 { controllers } => {
                let dirs = v1::make_dirs(controllers, parent, id, resources)?;
                let mut cgroup = Self { layout: Layout::V1 { dirs }, limits_devices: false };
                if let Layout::V1 { dirs } = &cgroup.layout {
                    v1::apply(dirs, resources, warnings)?;
                    if !security.all_devices {
                        cgroup.limits_devices = v1::allow_devices(dirs, &devices::allowed(security))?;
                        if !cgroup.limits_devices {
                            warnings.push(format!(
                                "{NO_LIST}: this host has no devices cgroup controller mounted"
                            ));
                        }
                    }
                }
                Ok(cgroup)
            }
            Hierarchies::None => {
                warnings.push(format!("{NO_LIST}, nor anything else: no cgroup hierarchy is mounted"));
                Ok(Self { layout: Layout::None, limits_devices: false })
            }
        }
    }

    /// Whether the kernel refuses what is not on the device list.
    pub(crate) fn limits_devices(&self) -> bool {
        self.limits_devices
    }

    /// What a process in here may do: where nothing keeps it to the device list, it makes no nodes, or it would have the
    /// host's disks.
    pub(crate) fn capabilities(&self, security: &Security) -> Capabilities {
        if self.limits_devices || security.all_devices {
            security.capabilities
        } else {
            security.capabilities.without(Capabilities::named("MKNOD"))
        }
    }

    /// The directory to clone the first process into; v2 only.
    pub(crate) fn clone_target(&self) -> Option<BorrowedFd<'_>> {
        match &self.layout {
            Layout::V2 { handle, .. } => Some(handle_fd(handle)),
            _ => None,
        }
    }

    /// Opens what the calling process must write to in order to enter: v1 only. To be opened before the mount
    /// namespace changes, used by [`Entry::enter`].
    pub(crate) fn entry(&self, exec: Option<&ExecGroup>) -> Result<Entry, SetupError> {
        let Layout::V1 { dirs } = &self.layout else { return Ok(Entry(Vec::new())) };
        let mut files = Vec::new();
        for dir in dirs.keys() {
            let own = exec.filter(|group| group.dir.parent() == Some(dir)).map(|group| &group.dir);
            let path = own.unwrap_or(dir).join("tasks");
            files.push(fs::OpenOptions::new().write(true).open(&path).step_at(Step::Cgroup, path)?);
        }
        Ok(Entry(files))
    }

    /// Makes a directory for one exec's processes.
    pub(crate) fn exec_group(&self, number: u64) -> Result<Option<ExecGroup>, SetupError> {
        let base = match &self.layout {
            Layout::V2 { dir, .. } => dir,
            Layout::V1 { dirs } => {
                match dirs.iter().find(|(_, names)| names.iter().any(|n| n == "freezer")) {
                    Some((dir, _)) => dir,
                    None => return Ok(None),
                }
            }
            Layout::None => return Ok(None),
        };
        let dir = base.join(format!("exec-{number}"));
        fs::create_dir(&dir).step_at(Step::Cgroup, &dir)?;
        let clone_into = matches!(self.layout, Layout::V2 { .. });
        let handle = clone_into.then(|| open_dir(&dir)).transpose().step_at(Step::Cgroup, &dir)?;
        Ok(Some(ExecGroup { dir, handle }))
    }

    /// Directories to show inside as `/sys/fs/cgroup`, by controller; v1 only.
    pub(crate) fn v1_dirs(&self) -> Option<&BTreeMap<PathBuf, Vec<String>>> {
        match &self.layout {
            Layout::V1 { dirs } => Some(dirs),
            _ => None,
        }
    }

    /// Whether the host has cgroup v2 controllers.
    pub(crate) fn is_v2(&self) -> bool {
        matches!(self.layout, Layout::V2 { .. })
    }

    /// How often the kernel's OOM killer has struck here (`oom_kill` in memory.events or memory.oom_control).
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = match &self.layout {
            Layout::V2 { dir, .. } => dir.join("memory.events"),
            Layout::V1 { dirs } => match dirs.iter().find(|(_, names)| names.iter().any(|n| n == "memory")) {
                Some((dir, _)) => dir.join("memory.oom_control"),
                None => return 0,
            },
            Layout::None => return 0,
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        count.unwrap_or_default()
    }

    /// Kills every process in it.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.dirs().into_iter().try_for_each(kill_tree)
    }

    fn dirs(&self) -> Vec<&Path> {
        match &self.layout {
            Layout::V2 { dir, .. } => vec![dir],
            Layout::V1 { dirs } => dirs.keys().map(PathBuf::as_path).collect(),
            Layout::None => Vec::new(),
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for dir in self.dirs() {
            // What stays, the next sweep removes; there is nobody to tell.
            let _ = remove_tree(dir);
        }
    }
}

/// The directory of one exec's processes; removed on drop.
#[derive(Debug)]
pub(crate) struct ExecGroup {
    dir: PathBuf,
    handle: Option<OwnedFd>,
}

impl ExecGroup {
    /// The directory to clone into; v2 only.
    pub(crate) fn clone_target(&self) -> Option<BorrowedFd<'_>> {
        self.handle.as_ref().map(handle_fd)
    }

    /// Sends a signal to every process in it.
    pub(crate) fn signal(&self, number: i32) -> io::Result<()> {
        if number == rustix::process::Signal::KILL.as_raw() {
            kill_tree(&self.dir)
        } else {
            signal_all(&self.dir, number)
        }
    }
}

impl Drop for ExecGroup {
    fn drop(&mut self) {
        // A background process that the exec left behind keeps the directory; it goes with the container's.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Open files through which a process moves itself into the v1 hierarchies.
#[derive(Debug)]
pub(crate) struct Entry(Vec<fs::File>);

impl Entry {
    /// Moves the calling, single-threaded process. Writing `0` to `tasks` moves only the caller and so spares the
    /// kernel its global lock with an RCU grace period, 12-20 ms, which a write of another's pid to `cgroup.procs`
    /// costs (kernel/cgroup/cgroup.c, cgroup_procs_write_start).
    pub(crate) fn enter(self) -> io::Result<()> {
        use std::io::Write;
        self.0.into_iter().try_for_each(|mut file| file.write_all(b"0"))
    }
}

/// The number of a disk as the kernel's files have it.
fn disk(path: &Path) -> Result<String, SetupError> {
    let found = rustix::fs::stat(path).step_at(Step::CgroupLimit, path)?;
    if !rustix::fs::FileType::from_raw_mode(found.st_mode).is_block_device() {
        return Err(SetupError::Invalid(format!("{} is not a block device", path.display())));
    }
    Ok(format!("{}:{}", rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev)))
}

fn handle_fd(handle: &OwnedFd) -> BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(handle)
}

fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Kills all processes of a directory and those below: by `cgroup.kill` (v2, Linux 5.14), else frozen first where
/// there is a freezer, so that none forks away, else again and again until none is left.
fn kill_tree(dir: &Path) -> io::Result<()> {
    match fs::write(dir.join("cgroup.kill"), "1") {
        Ok(()) => return Ok(()),
        Err(e) if e.raw_os_error() == Some(ENODEV) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.kind() == io::ErrorKind::PermissionDenied => {}
        Err(e) => return Err(e),
    }
    for child in subdirectories(dir) {
        kill_tree(&child)?;
    }
    let freezer = dir.join("freezer.state");
    let frozen = freezer.exists() && fs::write(&freezer, "FROZEN").is_ok();
    let result = signal_all(dir, rustix::process::Signal::KILL.as_raw());
    if frozen {
        gone_is_fine(fs::write(&freezer, "THAWED"))?;
    }
    result
}

/// The processes of a directory and of those below; none of one that is gone.
fn processes(dir: &Path) -> io::Result<Vec<i32>> {
    let mut pids = own_processes(dir)?;
    for child in subdirectories(dir) {
        pids.extend(processes(&child)?);
    }
    Ok(pids)
}

fn own_processes(dir: &Path) -> io::Result<Vec<i32>> {
    match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(procs) => Ok(procs.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(e) if is_gone(&e) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

fn signal_all(dir: &Path, number: i32) -> io::Result<()> {
    let Some(signal) = rustix::process::Signal::from_named_raw(number) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    for pid in own_processes(dir)?.into_iter().filter_map(rustix::process::Pid::from_raw) {
        match rustix::process::kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let (started, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        match fs::remove_dir(dir) {
            Err(e) if e.raw_os_error() == Some(EBUSY) && started.elapsed() < REMOVE_TIMEOUT => {}
            result => return gone_is_fine(result),
        }
        // Either has directories below, or its last process is just going.
        let children = subdirectories(dir);
        if children.is_empty() {
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        children.iter().try_for_each(|child| remove_tree(child))?;
    }
}

/// By what the directory's listing says: to look at one of the many files of a cgroup makes the kernel make an inode.
fn is_dir(entry: &fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// Whether a cgroup was removed, by somebody else, before or while its file was used.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ENOENT | ENODEV))
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|e| if is_gone(&e) { Ok(()) } else { Err(e) })
}

/// Makes a container's directory, and `parent` above it if absent.
fn create_in(parent: &Path, dir: &Path) -> Result<(), SetupError> {
    match fs::create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(parent).step_at(Step::Cgroup, parent)?;
            fs::create_dir(dir).step_at(Step::Cgroup, dir)
        }
        result => result.step_at(Step::Cgroup, dir),
    }
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter(is_dir).map(|e| e.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 20 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd
";

    #[test]
    fn hybrid_hosts_count_as_v1() {
        let Hierarchies::V1 { controllers } = Hierarchies::parse(HYBRID, Path::new("/sys/fs/cgroup")) else {
            panic!("not v1");
        };
        assert_eq!(controllers.keys().collect::<Vec<_>>(), ["cpu", "cpuacct", "memory"]);
        assert_eq!(controllers["cpu"], controllers["cpuacct"]);
    }

    #[test]
    fn v2_alone_is_v2_and_other_places_do_not_count() {
        let line = "31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let root = PathBuf::from("/sys/fs/cgroup");
        assert_eq!(Hierarchies::parse(line, &root), Hierarchies::V2 { root: root.clone() });
        assert_eq!(Hierarchies::parse(line, Path::new("/elsewhere")), Hierarchies::None);
        assert_eq!(Hierarchies::parse("", &root), Hierarchies::None);
    }
}
