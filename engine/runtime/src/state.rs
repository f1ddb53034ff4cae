//! `state.json`: what became of a container, written by its supervisor, read by anyone.
//!
//! The file stands in the container's state directory. It is written aside and renamed, so a reader sees the old or
//! the new state, never half of one.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::health::Health;

const FILE: &str = "state.json";
/// Where the next one is written.
const ASIDE: &str = "state.json.new";
/// The room of one that has no long story of health checks to tell, in bytes.
const RESERVED: usize = 1024;

/// What became of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where it is in its life.
    pub status: Status,
    /// The first process in the host's PID namespace, while it runs.
    pub pid: Option<i32>,
    /// When the first process started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its exit code, 128+n if signal n killed it.
    pub exit_code: Option<i32>,
    /// Whether the kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// How often it was restarted since it was started.
    #[serde(default)]
    pub restart_count: u32,
    /// Whether somebody wanted it to end, and to stay down.
    #[serde(default)]
    pub stopped: bool,
    /// Whether its processes are frozen.
    #[serde(default)]
    pub paused: bool,
    /// Why it could not be restarted.
    #[serde(default)]
    pub error: Option<String>,
    /// What its probes have told, if it has any.
    #[serde(default)]
    pub health: Option<Health>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The first process runs, provided that the supervisor does.
    Running,
    /// It has ended, and the supervisor, provided that it lives, will start it again.
    Restarting,
    /// It has ended.
    Exited,
}

/// A state file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Reading or writing failed.
    #[error("{path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what a supervisor writes.
    #[error("{path} is damaged")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl State {
    /// Reads the state of the container with this state directory; `None` if it was never started.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, StateError> {
        let path = state_dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|source| StateError::Format { path, source })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Io { path, source }),
        }
    }

    pub(crate) fn store(&self, state_dir: &Path) -> Result<(), StateError> {
        let path = state_dir.join(FILE);
        let bytes =
            serde_json::to_vec(self).map_err(|source| StateError::Format { path: path.clone(), source })?;
        // The next may have some more to say.
        let room = bytes.len() + RESERVED;
        write_aside(state_dir, bytes)
            .and_then(|aside| fs::rename(aside, &path))
            // Room for the next state, while there is some: a container that fills the disk must not be the one whose
            // end is not recorded.
            .and_then(|()| if self.status == Status::Exited { Ok(()) } else { reserve(state_dir, room) })
            .map_err(|source| StateError::Io { path, source })
    }
}

fn reserve(state_dir: &Path, room: usize) -> io::Result<()> {
    write_aside(state_dir, vec![b' '; room]).map(drop)
}

/// Writes over what is there, so that a file system which has given the room need not give it again. JSON ends where
/// the spaces begin.
fn write_aside(state_dir: &Path, mut bytes: Vec<u8>) -> io::Result<PathBuf> {
    let path = state_dir.join(ASIDE);
    bytes.resize(bytes.len().max(RESERVED), b' ');
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
    file.write_all(&bytes)?;
    file.set_len(bytes.len() as u64)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_through_the_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::load(dir.path()).unwrap(), None);
        let state = State {
            status: Status::Exited,
            pid: None,
            started_at: Some(Timestamp::UNIX_EPOCH),
            finished_at: Some(Timestamp::UNIX_EPOCH),
            exit_code: Some(137),
            oom_killed: true,
            restart_count: 2,
            stopped: true,
            paused: false,
            error: None,
            health: None,
        };
        state.store(dir.path()).unwrap();
        assert_eq!(State::load(dir.path()).unwrap(), Some(state));
    }

    #[test]
    fn what_was_reserved_is_what_is_written() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        reserve(dir.path(), RESERVED).unwrap();
        let reserved = fs::metadata(dir.path().join(ASIDE)).unwrap();
        let state = State {
            status: Status::Running,
            pid: Some(7),
            started_at: None,
            finished_at: None,
            exit_code: None,
            oom_killed: false,
            restart_count: 0,
            stopped: false,
            paused: false,
            error: None,
            health: None,
        };
        state.store(dir.path()).unwrap();
        let stored = fs::metadata(dir.path().join(FILE)).unwrap();
        assert_eq!((stored.ino(), stored.len()), (reserved.ino(), RESERVED as u64));
        assert_eq!(State::load(dir.path()).unwrap(), Some(state));
    }

    #[test]
    fn names_a_damaged_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(State::load(dir.path()).unwrap_err().to_string().ends_with("state.json is damaged"));
    }
}
