use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine_types::SessionId;
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::engine::{Engine, blocking};
use crate::error::{At, Error};

/// How long a directory that somebody still writes to is tried to be removed, and the pause in between.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);
const REMOVE_PAUSE: Duration = Duration::from_millis(2);

/// How long the copy of a dead process's lock may be in the way, and the pause in between. Only a process in another
/// PID namespace, which looks dead from here, is in the way for longer.
const COPY_TIMEOUT: Duration = Duration::from_secs(2);
const COPY_PAUSE: Duration = Duration::from_millis(1);

/// What one running process makes for itself: containers, networks and volumes that the next
/// [`Engine::open`] takes down if this process dies before [`Session::end`].
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    lock_path: PathBuf,
    /// Locked as long as this process lives.
    _lock: OwnedFd,
}

impl Session {
    /// Its id, for configurations.
    pub fn id(&self) -> SessionId {
        self.id
    }
}

impl Engine {
    /// Begins a session.
    pub async fn begin_session(&self) -> Result<Session, Error> {
        let id = SessionId::from_random(crate::engine::random()?);
        let lock_path = self.session_lock(id);
        // A sweep that comes between the file's creation and its lock takes it for a dead session's.
        let lock = loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
            let lock = rustix::fs::open(&lock_path, flags, Mode::from_raw_mode(0o600)).at(&lock_path)?;
            rustix::fs::flock(&lock, FlockOperation::LockExclusive).at(&lock_path)?;
            if !is_unlinked(&lock).at(&lock_path)? {
                break lock;
            }
        };
        sign(&lock).at(&lock_path)?;
        if let Err(error) = self.catalog().insert_session(id).await {
            // Nobody would tell of this file until the next sweep.
            _ = remove_file(&lock_path);
            return Err(error);
        }
        Ok(Session { id, lock_path, _lock: lock })
    }

    /// Makes a directory for what a session writes and nobody needs after it.
    pub fn session_scratch(&self, session: &Session) -> Result<PathBuf, Error> {
        let dir = self.session_dir(session.id);
        fs::create_dir_all(&dir).at(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).at(&dir)?;
        Ok(dir)
    }

    /// Takes down everything that is left of a session, and the session.
    pub async fn end_session(&self, session: Session) -> Result<(), Error> {
        self.take_down(session.id).await?;
        remove_file(&session.lock_path)
    }

    /// Takes down the sessions of dead processes. What cannot be taken down now is left to the next sweep: it must not
    /// keep anybody from working.
    pub(crate) async fn sweep_sessions(&self) -> Result<(), Error> {
        let mut ids: BTreeSet<SessionId> = self.catalog().sessions().await?.into_iter().collect();
        // A process may die before its session's row is made, and after it is deleted.
        ids.extend(self.locked_sessions()?);
        let mut any = false;
        for id in ids {
            if let Some(_lock) = self.lock_of_dead(id).await? {
                tracing::info!(session = %id.short(), "taking down what a dead process left");
                any = true;
                let swept = self.take_down(id).await;
                match swept.and_then(|()| remove_file(&self.session_lock(id))) {
                    Ok(()) => {}
                    Err(error) => {
                        let error: &(dyn std::error::Error + 'static) = &error;
                        let session = id.short();
                        tracing::warn!(
                            error,
                            session,
                            "what a killed run left stays until the next one can remove it"
                        );
                    }
                }
            }
        }
        if any {
            // A build's container has written to its staged layer until now.
            self.images().sweep()?;
        }
        Ok(())
    }

    /// The sessions that have a lock file.
    fn locked_sessions(&self) -> Result<Vec<SessionId>, Error> {
        let dir = self.paths().run.join("sessions");
        let mut ids = Vec::new();
        for entry in fs::read_dir(&dir).at(&dir)? {
            let name = entry.at(&dir)?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".lock"));
            ids.extend(id.and_then(|id| id.parse::<SessionId>().ok()));
        }
        Ok(ids)
    }

    /// Locks a session whose process is dead; `None` if it is alive, or being swept by someone else. The file is made
    /// if it is gone, as after a restart of the machine, so that of two sweepers one waits for its turn.
    async fn lock_of_dead(&self, id: SessionId) -> Result<Option<OwnedFd>, Error> {
        let path = self.session_lock(id);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let lock = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).at(&path)?;
        let deadline = Instant::now() + COPY_TIMEOUT;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_unlinked(&lock).at(&path)? => return Ok(None),
                Ok(()) => break,
                // A child that the dead process had just forked holds a copy until it executes its program.
                Err(rustix::io::Errno::WOULDBLOCK)
                    if self.signer_is_dead(&path) && Instant::now() < deadline =>
                {
                    tokio::time::sleep(COPY_PAUSE).await;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(e) => return Err(e).at(&path),
            }
        }
        sign(&lock).at(&path)?;
        Ok(Some(lock))
    }

    /// Whether the process that locked this file last is known to be gone.
    fn signer_is_dead(&self, lock: &Path) -> bool {
        let pid = fs::read_to_string(lock).ok().and_then(|text| text.parse::<u32>().ok());
        pid.is_some_and(|pid| !self.paths().proc_file(pid.to_string()).exists())
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
        let scratch = self.session_dir(id);
        keep(blocking(move || remove_dir(&scratch)).await);
        first?;
        self.catalog().delete_session(id).await
    }
}

/// Notes in a lock file that this process has locked it.
fn sign(lock: &OwnedFd) -> std::io::Result<()> {
    rustix::fs::ftruncate(lock, 0)?;
    rustix::io::pwrite(lock, std::process::id().to_string().as_bytes(), 0)?;
    Ok(())
}

/// Whether the file that a descriptor stands for has no name any more.
fn is_unlinked(file: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(rustix::fs::fstat(file)?.st_nlink == 0)
}

/// Removes a file; one that is gone is as good.
fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).at(path),
        _ => Ok(()),
    }
}

/// Removes a directory with all in it; one that is gone is as good. Blocks while dying processes of a container still
/// write to it: the kernel ends them some time after their supervisor.
pub(crate) fn remove_dir(path: &Path) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        match fs::remove_dir_all(path) {
            Err(e) if e.kind() == ErrorKind::NotFound && !path.exists() => return Ok(()),
            Err(e) if is_being_written(&e) && started.elapsed() < REMOVE_TIMEOUT => {
                std::thread::sleep(REMOVE_PAUSE);
            }
            result => return result.at(path),
        }
    }
}

/// Whether somebody else made, removed or used a file of the directory while it was being removed.
fn is_being_written(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy | ErrorKind::NotFound)
}
