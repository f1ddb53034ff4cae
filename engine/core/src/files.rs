//! The files of containers, for whoever copies them in or out. Every path is resolved by the kernel within the
//! container's root directory, so that none of its links leads out.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use engine_image::archive::{Owner, PackError, PackOptions, Packer, UnpackError, UnpackOptions, unpack_into};
use engine_runtime::spec::{Mount as MountSpec, MountSource, Rootfs};
use engine_runtime::{Claim, assemble, assemble_to_read, resolve_user};
use engine_types::{ContainerId, ErrorKind};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;

use crate::container::{Container, MountKind};
use crate::engine::{Engine, blocking};
use crate::error::{At, Error};

/// The longest passwd or group file that is read, in bytes.
const ACCOUNTS_MAX: u64 = 4 << 20;
/// How long others may hold the files of a container that does not run: its supervisor that is about to be gone, whoever
/// copies as well. The pause before they are asked again begins so and doubles each time.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A container's files as it sees them, mounts included.
#[derive(Debug)]
pub struct ContainerFiles {
    root: OwnedFd,
    mounts: Vec<PathBuf>,
    /// Keeps one that does not run from being started meanwhile.
    _claim: Option<Claim>,
}

/// A container's root file system, to be archived.
#[derive(Debug)]
pub struct ExportRoot(OwnedFd);

impl ExportRoot {
    /// Writes all of it as an archive.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn write(&self, out: impl Write) -> Result<(), FilesError> {
        let mut packer = Packer::new(out, PackOptions::default());
        packer.add_contents_from(self.0.as_fd())?;
        packer.finish()?;
        Ok(())
    }
}

/// A file of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// Its name in its directory; `/` for the root.
    pub name: OsString,
    /// Bytes.
    pub size: u64,
    /// As stat(2) has it, the kind of file included.
    pub mode: u32,
    /// Its last modification, in seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
    /// Where a symbolic link leads, from the root.
    pub link: Option<PathBuf>,
}

/// Why files of a container could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// There is no such file.
    #[error("no such file: {0:?}")]
    NotFound(PathBuf),
    /// It is no directory, and what is to be unpacked goes into one.
    #[error("extraction point is not a directory")]
    NotDirectory,
    /// The path, with `/.` at its end, is no directory.
    #[error("{0:?} is not a directory")]
    Trailing(PathBuf),
    /// Nothing may be written there.
    #[error("{0} is marked read-only")]
    ReadOnly(&'static str),
    /// A path cannot be looked up.
    #[error("failed to look up {path:?}")]
    Lookup {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The container's user is in neither of its files.
    #[error("failed to find the container's user")]
    User(#[source] Box<engine_runtime::SetupError>),
    /// The archive could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The archive could not be made.
    #[error(transparent)]
    Pack(#[from] PackError),
}

impl FilesError {
    /// What the error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) | Self::Trailing(_) => ErrorKind::NotFound,
            Self::NotDirectory | Self::User(_) => ErrorKind::InvalidArgument,
            Self::ReadOnly(_) => ErrorKind::Forbidden,
            Self::Lookup { .. } => ErrorKind::Internal,
            Self::Unpack(e) => e.kind(),
            Self::Pack(e) => e.kind(),
        }
    }
}

/// Where a path leads: a name in an open directory.
struct Place {
    parent: OwnedFd,
    name: OsString,
    /// The name that an archive gives it.
    shown: PathBuf,
    stat: Stat,
    /// Resolved but for its last link, from the root.
    directory: PathBuf,
}

impl Engine {
    /// The files of a container, whether it runs or not. To be dropped soon: one that does not run cannot be started
    /// meanwhile.
    pub async fn container_files(&self, id: ContainerId) -> Result<ContainerFiles, Error> {
        let container = self.container(&id.to_string()).await?;
        let mounts = container.config.mounts.iter().map(|mount| mount.target.clone()).collect();
        let (deadline, mut pause) = (tokio::time::Instant::now() + CLAIM_TIMEOUT, FIRST_PAUSE);
        let run_dir = self.run_dir(id);
        let claim = loop {
            match self.container_root(id).await {
                Ok(root) => return Ok(ContainerFiles { root, mounts, _claim: None }),
                Err(Error::NotRunning(_)) => {}
                Err(error) => return Err(error),
            }
            match engine_runtime::claim(&run_dir).at(&run_dir)? {
                Some(claim) => break claim,
                None if tokio::time::Instant::now() >= deadline => {
                    return Err(Error::Running(container.name));
                }
                None => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        for mount in &container.config.mounts {
            if let MountKind::Volume(name) = &mount.kind {
                self.create_volume(name, container.config.session).await?;
            }
        }
        let engine = self.clone();
        let root = blocking(move || engine.assembled(&container)).await?;
        Ok(ContainerFiles { root, mounts, _claim: Some(claim) })
    }

    /// The root file system of a container, without what is mounted in it.
    pub async fn export_root(&self, id: ContainerId) -> Result<ExportRoot, Error> {
        let container = self.container(&id.to_string()).await?;
        let image = self.images().get(container.config.image)?;
        let mut layers = vec![self.upper_dir(id)];
        layers.extend(self.images().layer_dirs(&image));
        let at = self.state_dir(id).join("export");
        blocking(move || {
            let root = assemble_to_read(&layers, &at).map_err(|e| Error::Files(Box::new(e)));
            // Nothing is mounted on it any more; another export may be about to.
            let _ = std::fs::remove_dir(&at);
            Ok(ExportRoot(root?))
        })
        .await
    }

    fn assembled(&self, container: &Container) -> Result<OwnedFd, Error> {
        let image = self.images().get(container.config.image)?;
        let state_dir = self.state_dir(container.id);
        let rootfs = Rootfs {
            layers: self.images().layer_dirs(&image),
            upper: state_dir.join("upper"),
            work: state_dir.join("work"),
            read_only: container.config.read_only,
            volatile: container.config.volatile,
        };
        let mounts = container.config.mounts.iter().map(|mount| self.mount(&state_dir, mount));
        let mounts: Vec<MountSpec> = mounts.collect::<Result<_, _>>()?;
        // What is not there now can neither be read nor written.
        let there = |mount: &MountSpec| match &mount.source {
            MountSource::Bind { source, .. } => source.exists(),
            _ => true,
        };
        let mounts: Vec<MountSpec> = mounts.into_iter().filter(there).collect();
        assemble(&rootfs, &mounts, &state_dir.join("rootfs")).map_err(|e| Error::Files(Box::new(e)))
    }
}

impl ContainerFiles {
    /// What is at a path. A link at its end is told itself, unless the path ends with a slash or dot.
    ///
    /// # Errors
    /// [`FilesError::NotFound`]; [`FilesError::Trailing`].
    pub fn stat(&self, path: &str) -> Result<PathStat, FilesError> {
        let place = self.locate(path)?;
        let stat = &place.stat;
        let link = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&place.parent, &place.name, Vec::new());
                let target = target.map_err(|e| lookup(path, e))?;
                Some(clean(&place.directory.join(OsStr::from_bytes(target.as_bytes()))))
            }
            _ => None,
        };
        let name = match place.name.as_bytes() {
            b"." => place.directory.file_name().unwrap_or(OsStr::new("/")).to_owned(),
            _ => place.name,
        };
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        Ok(PathStat {
            name,
            size,
            mode: stat.st_mode,
            modified: (stat.st_mtime, stat.st_mtime_nsec as i64),
            link,
        })
    }

    /// Writes what is at a path as an archive, whose names begin with the path's last part.
    ///
    /// # Errors
    /// As [`ContainerFiles::stat`], and those of reading.
    pub fn pack(&self, path: &str, out: impl Write) -> Result<(), FilesError> {
        let place = self.locate(path)?;
        let mut packer = Packer::new(out, PackOptions::default());
        packer.add_from(place.parent.as_fd(), &place.name, &place.shown)?;
        packer.finish()?;
        Ok(())
    }

    /// Checks that an archive can be unpacked into the directory at a path.
    ///
    /// # Errors
    /// [`FilesError::NotFound`], [`FilesError::NotDirectory`], [`FilesError::ReadOnly`].
    pub fn check_target(&self, path: &str) -> Result<(), FilesError> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd = self.open(&inside(path), flags).map_err(|e| lookup(path, e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| lookup(path, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(FilesError::NotDirectory);
        }
        let file_system = rustix::fs::fstatvfs(&fd).map_err(|e| lookup(path, e))?;
        if file_system.f_flag.contains(StatVfsMountFlags::RDONLY) {
            let path = Path::new("/").join(inside(path));
            let mounted = self.mounts.iter().any(|mount| path.starts_with(mount));
            let what = if mounted { "mounted volume" } else { "container rootfs" };
            return Err(FilesError::ReadOnly(what));
        }
        Ok(())
    }

    /// Unpacks an uncompressed archive into the directory at a path, which [`ContainerFiles::check_target`] has passed.
    ///
    /// # Errors
    /// Those of the archive and of writing; what was unpacked before stays.
    pub fn unpack(
        &self,
        path: &str,
        source: impl Read,
        keep_kinds: bool,
        owner: Option<Owner>,
    ) -> Result<(), FilesError> {
        let root = self.open(Path::new(""), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC);
        let root = root.map_err(|e| lookup(path, e))?;
        let options = UnpackOptions {
            owner,
            devices: true,
            rooted: true,
            below: inside(path),
            keep_kinds,
            ..UnpackOptions::default()
        };
        unpack_into(source, root, &options)?;
        Ok(())
    }

    /// Who a user of the container is, by its own passwd and group files.
    ///
    /// # Errors
    /// [`FilesError::User`].
    pub fn owner(&self, user: &str) -> Result<Owner, FilesError> {
        let (passwd, group) = (self.text("etc/passwd")?, self.text("etc/group")?);
        let user = resolve_user(&passwd, &group, user, &[]).map_err(|e| FilesError::User(Box::new(e)))?;
        Ok(Owner { uid: user.uid, gid: user.gid })
    }

    /// A text file; empty if there is none.
    fn text(&self, path: &str) -> Result<String, FilesError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match self.open(Path::new(path), flags) {
            Err(Errno::NOENT) => return Ok(String::new()),
            file => std::fs::File::from(file.map_err(|e| lookup(path, e))?),
        };
        let mut bytes = Vec::new();
        let read = file.take(ACCOUNTS_MAX).read_to_end(&mut bytes);
        read.map_err(|source| FilesError::Lookup { path: path.into(), source })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn locate(&self, path: &str) -> Result<Place, FilesError> {
        let inside = inside(path);
        let follows = path.ends_with('/') || path.ends_with("/.") || path == ".";
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let shown = match inside.file_name() {
            _ if path.ends_with("/.") || path == "." => PathBuf::from("."),
            Some(name) => PathBuf::from(name),
            None => PathBuf::from("/"),
        };
        let (directory, name) = match (inside.parent(), inside.file_name()) {
            (Some(parent), Some(name)) if !follows => (parent.to_owned(), name.to_owned()),
            _ => (inside.clone(), OsString::from(".")),
        };
        let parent = self.open(&directory, flags).map_err(|e| match e {
            Errno::NOTDIR if follows => FilesError::Trailing(path.into()),
            e => lookup(path, e),
        })?;
        let stat =
            rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| lookup(path, e))?;
        Ok(Place { parent, name, shown, stat, directory: Path::new("/").join(directory) })
    }

    /// Opens a path as a process inside would find it (openat2(2), RESOLVE_IN_ROOT).
    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let open = || rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve);
        loop {
            match rustix::io::retry_on_intr(open) {
                // Something was renamed meanwhile, so that the kernel cannot tell whether it has left the root.
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
    }
}

fn lookup(path: &str, error: Errno) -> FilesError {
    match error {
        Errno::NOENT | Errno::NOTDIR => FilesError::NotFound(path.into()),
        e => FilesError::Lookup { path: path.into(), source: e.into() },
    }
}

/// A path from the root without its first slash, dots and doubled slashes, as Go's `path.Clean`.
fn inside(path: &str) -> PathBuf {
    clean(Path::new(path)).strip_prefix("/").map(Path::to_owned).unwrap_or_default()
}

fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}
