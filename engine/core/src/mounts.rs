//! What containers have mounted besides their image, and what volumes get of it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use engine_image::Image;
use engine_image::archive::{PackOptions, Packer, UnpackOptions, unpack_into};
use engine_runtime::assemble_to_read;
use engine_runtime::spec::{Mount as MountSpec, MountSource, Propagation};
use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::container::{Mount, MountKind};
use crate::engine::{Engine, blocking};
use crate::error::{At, Error};
use crate::files::FilesError;
use crate::volume::VolumeDevice;

impl Engine {
    pub(crate) fn mount(&self, state_dir: &Path, mount: &Mount) -> Result<MountSpec, Error> {
        let (target, options) = (mount.target.clone(), &mount.options);
        let mut read_only = mount.read_only;
        let source = match &mount.kind {
            MountKind::Bind(source) => MountSource::Bind {
                source: source.clone(),
                recursive: !options.non_recursive,
                propagation: options.propagation,
            },
            MountKind::Volume(name) => {
                let data = self.volume_dir(name).join("_data");
                match (self.volume_device(name)?, &options.subpath) {
                    (Some(device), _) => {
                        read_only |= device.read_only();
                        device.source()
                    }
                    (None, Some(path)) => MountSource::Within { base: data, path: path.clone() },
                    (None, None) => {
                        let propagation = Propagation::Private;
                        MountSource::Bind { source: data, recursive: true, propagation }
                    }
                }
            }
            MountKind::Tmpfs(size) => {
                let mode = options.mode.unwrap_or(0o1777);
                let (allowed, settings) = (options.allowed, options.settings.clone());
                MountSource::Tmpfs { size: *size, mode, allowed, settings }
            }
            MountKind::Overlay(lower) => {
                // One directory a target; the target names it, made flat.
                let name = mount.target.to_string_lossy().replace('/', "%");
                let (upper, work) = (
                    state_dir.join("overlays").join(&name).join("upper"),
                    state_dir.join("overlays").join(&name).join("work"),
                );
                for dir in [&upper, &work] {
                    fs::create_dir_all(dir).at(dir)?;
                }
                MountSource::Overlay { lower: vec![lower.clone()], upper, work }
            }
        };
        Ok(MountSpec { target, source, read_only })
    }

    fn volume_device(&self, name: &str) -> Result<Option<VolumeDevice>, Error> {
        let options = self.volume_options(name)?;
        if options.is_empty() { Ok(None) } else { VolumeDevice::parse(&options).map(Some) }
    }

    /// Copies what an image has where a volume is to be mounted into the volume, if that is empty: its files with their
    /// owners and modes, and those of the directory. One that is kept elsewhere stays as it is.
    pub async fn populate_volume(&self, name: &str, image: &Image, target: &Path) -> Result<(), Error> {
        if self.volume_device(name)?.is_some() {
            return Ok(());
        }
        let data = self.volume_dir(name).join("_data");
        let layers = self.images().layer_dirs(image);
        let (at, target) = (self.volume_dir(name).join("image"), target.to_owned());
        blocking(move || {
            // Of two containers that are the first, one copies.
            let directory = File::open(&data).at(&data)?;
            rustix::fs::flock(&directory, FlockOperation::LockExclusive).at(&data)?;
            if fs::read_dir(&data).at(&data)?.next().is_some() {
                return Ok(());
            }
            let root = assemble_to_read(&layers, &at).map_err(|e| Error::Files(Box::new(e)));
            let _ = fs::remove_dir(&at); // nothing is mounted on it any more
            let Some(source) = directory_in(&root?, &target).at(&target)? else { return Ok(()) };
            copy(&source, directory.into()).map_err(|e| Error::Copy(Box::new(e)))
        })
        .await
    }
}

/// A directory of an image as its containers would find it; `None` if there is none.
fn directory_in(root: &OwnedFd, path: &Path) -> io::Result<Option<OwnedFd>> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        directory => Ok(Some(directory?)),
    }
}

/// Copies a directory's content and attributes.
fn copy(from: &OwnedFd, to: OwnedFd) -> Result<(), FilesError> {
    let (reader, writer) =
        io::pipe().map_err(|source| FilesError::Lookup { path: PathBuf::from("pipe"), source })?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let mut packer = Packer::new(io::BufWriter::new(writer), PackOptions::default());
            packer.add_from(from.as_fd(), ".".as_ref(), Path::new("."))?;
            packer.finish().map(drop)
        });
        let options = UnpackOptions { devices: true, rooted: true, ..UnpackOptions::default() };
        let unpacked = unpack_into(reader, to, &options);
        // An archive that was not finished is why it could not be read.
        packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        unpacked?;
        Ok(())
    })
}
