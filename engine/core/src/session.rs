use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use engine_types::SessionId;
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::engine::Engine;
use crate::error::{At, Error};

/// What one running process makes for itself: containers, networks, volumes and scratch files that the next
/// [`Engine::open`] takes down if this process dies before [`Session::end`].
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    dir: PathBuf,
    lock_path: PathBuf,
    /// Locked as long as this process lives.
    _lock: OwnedFd,
}

impl Session {
    /// Its id, for configurations.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// A directory for scratch files on the file system of the engine's root.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Engine {
    /// Begins a session.
    pub async fn begin_session(&self) -> Result<Session, Error> {
        let id = SessionId::from_random(crate::engine::random()?);
        let lock_path = self.session_lock(id);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let lock = rustix::fs::open(&lock_path, flags, Mode::from_raw_mode(0o600)).at(&lock_path)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).at(&lock_path)?;
        self.catalog().insert_session(id).await?;
        let dir = self.session_dir(id);
        fs::create_dir_all(&dir).at(&dir)?;
        Ok(Session { id, dir, lock_path, _lock: lock })
    }

    /// Takes down everything that is left of a session, and the session.
    pub async fn end_session(&self, session: Session) -> Result<(), Error> {
        self.take_down(session.id).await?;
        remove_file(&session.lock_path)
    }

    /// Takes down the sessions of dead processes.
    pub(crate) async fn sweep_sessions(&self) -> Result<(), Error> {
        for id in self.catalog().sessions().await? {
            let path = self.session_lock(id);
            let lock = match rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
                Ok(lock) => Some(lock),
                Err(rustix::io::Errno::NOENT) => None, // the machine was restarted
                Err(e) => return Err(e).at(&path),
            };
            if let Some(lock) = &lock {
                match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => {}
                    Err(rustix::io::Errno::WOULDBLOCK) => continue, // alive, or being swept by someone else
                    Err(e) => return Err(e).at(&path),
                }
            }
            tracing::info!(session = %id.short(), "taking down what a dead process left");
            self.take_down(id).await?;
            remove_file(&path)?;
        }
        Ok(())
    }

    /// Goes on past failures, so that one stubborn object does not keep the rest; returns the first.
    async fn take_down(&self, id: SessionId) -> Result<(), Error> {
        let mut first = Ok(());
        let mut keep = |result: Result<(), Error>| {
            if first.is_ok() {
                first = result;
            }
        };
        let containers = self.catalog().containers_of(id).await?;
        let mut removals = tokio::task::JoinSet::new();
        for container in containers {
            let engine = self.clone();
            removals.spawn(async move { engine.remove_container(&container.to_string(), true).await });
        }
        while let Some(removed) = removals.join_next().await {
            match removed {
                // Someone else may have removed it meanwhile.
                Ok(Err(Error::NoSuchContainer(_)) | Ok(())) => {}
                Ok(Err(e)) => keep(Err(e)),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        for network in self.catalog().networks_of(id).await? {
            keep(self.remove_network(&network.to_string()).await);
        }
        for volume in self.catalog().volumes_of(id).await? {
            keep(self.remove_volume(&volume).await);
        }
        let dir = self.session_dir(id);
        keep(remove_dir(&dir));
        first?;
        self.catalog().delete_session(id).await
    }
}

/// Removes a file; one that is gone is as good.
fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at(path),
        _ => Ok(()),
    }
}

/// Removes a directory with all in it; one that is gone is as good.
pub(crate) fn remove_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at(path),
        _ => Ok(()),
    }
}
