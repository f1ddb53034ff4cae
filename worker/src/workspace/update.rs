//! Making a tree what the checkout is, from what it was.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};

use super::copy::{Copier, in_parallel};
use super::index::{FileStat, Index, Record};
use super::{At, SnapshotError, git_dir, list};
use crate::source;

/// How the checkout's files have come to differ from the tree's.
#[derive(Default)]
struct Changes {
    /// Those that are as they were, and what is to be known of them.
    kept: Vec<Record>,
    /// Those that are new or have changed.
    copied: Vec<PathBuf>,
    /// Those of the tree that the checkout does not have.
    removed: Vec<PathBuf>,
}

/// Updates the tree at `dir`, which is as `before` says, to the checkout at `root`; what it is then. `except` is no
/// part of the checkout. After an error the tree is worth nothing.
pub(super) fn update(
    root: &Path,
    dir: &Path,
    except: &Path,
    before: Index,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Index, SnapshotError> {
    let now = clock_gettime(ClockId::Realtime);
    let listing = list::list(root, except)?;
    let copier = Copier::open(root, dir)?;
    let changes = compare(&copier, before.files, listing.files)?;
    for repository in before.repositories.iter().filter(|old| !listing.repositories.contains(old)) {
        let path = dir.join(repository).join(list::DOT_GIT);
        fs::remove_dir_all(&path).at("remove", &path)?;
        copier.remove_empty(repository)?;
    }
    in_parallel(changes.removed.len(), |n| copier.remove(&changes.removed[n]))?;
    parents(&changes.removed).try_for_each(|parent| copier.remove_empty(parent))?;
    make_directories(&copier, &changes.copied)?;
    let copied = in_parallel(changes.copied.len(), |n| {
        if cancelled() { Err(SnapshotError::Cancelled) } else { copier.copy(&changes.copied[n]) }
    })?;
    let copied = changes.copied.into_iter().zip(copied);
    let copied = copied
        .filter_map(|(path, stat)| stat.map(|stat| Record { path, settled: stat.is_settled(now), stat }));
    let mut files = merge(changes.kept, copied.collect());
    files.shrink_to_fit();
    let mut bytes = files.iter().map(|file| file.stat.size()).sum();
    for repository in &listing.repositories {
        let opened = source::open(&root.join(repository))?;
        bytes += git_dir::update(&opened, &dir.join(repository).join(list::DOT_GIT))?;
    }
    Ok(Index { bytes, repositories: listing.repositories, files })
}

/// What is to be believed of a tree without an index, which is made if absent: that there are files, all to be copied
/// again. They are not removed for that because ext4 makes as many new ones slowly (see [`Copier::copy`]).
pub(super) fn unknown(tree: &Path) -> Result<Index, SnapshotError> {
    match fs::DirBuilder::new().mode(0o755).create(tree) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.at("create", tree).map(|()| Index::default()),
    }
    let mut files = Vec::new();
    collect(tree, Path::new(""), &mut files)?;
    files.sort_unstable_by(|a, b| list::order(&a.path, &b.path));
    Ok(Index { files, ..Index::default() })
}

/// Finds the files below a directory of a tree; empty directories and git's own, whose objects may be torn, go.
fn collect(tree: &Path, dir: &Path, files: &mut Vec<Record>) -> Result<(), SnapshotError> {
    let path = tree.join(dir);
    let entries: Vec<_> = fs::read_dir(&path).and_then(Iterator::collect).at("list", &path)?;
    for entry in entries {
        let (own, relative) = (entry.path(), dir.join(entry.file_name()));
        if !entry.file_type().at("inspect", &own)?.is_dir() {
            files.push(Record { path: relative, stat: FileStat::default(), settled: false });
        } else if entry.file_name() == list::DOT_GIT {
            fs::remove_dir_all(&own).at("remove", &own)?;
        } else {
            let before = files.len();
            collect(tree, &relative, files)?;
            if files.len() == before {
                fs::remove_dir(&own).at("remove", &own)?;
            }
        }
    }
    Ok(())
}

/// Tells what has changed; both lists are in order.
fn compare(copier: &Copier<'_>, before: Vec<Record>, paths: Vec<PathBuf>) -> Result<Changes, SnapshotError> {
    let stats: Vec<Option<FileStat>> = in_parallel(paths.len(), |n| copier.inspect(&paths[n]))?;
    let mut changes = Changes::default();
    let mut before = before.into_iter().peekable();
    for (path, stat) in paths.into_iter().zip(stats) {
        while let Some(gone) = before.next_if(|record| list::order(&record.path, &path).is_lt()) {
            changes.removed.push(gone.path);
        }
        match (before.next_if(|record| record.path == path), stat) {
            (Some(record), Some(stat)) if record.settled && record.stat == stat => changes.kept.push(record),
            (_, Some(_)) => changes.copied.push(path),
            (Some(record), None) => changes.removed.push(record.path),
            (None, None) => {}
        }
    }
    changes.removed.extend(before.map(|record| record.path));
    Ok(changes)
}

/// Makes the directories that files are in.
fn make_directories(copier: &Copier<'_>, files: &[PathBuf]) -> Result<(), SnapshotError> {
    let mut made = std::collections::BTreeSet::from([Path::new("")]);
    for parent in parents(files) {
        let absent: Vec<&Path> = parent.ancestors().take_while(|dir| !made.contains(dir)).collect();
        for dir in absent.into_iter().rev() {
            copier.make_directory(dir)?;
            made.insert(dir);
        }
    }
    Ok(())
}

/// The directories of files, each once for as many files of it as follow each other.
fn parents(files: &[PathBuf]) -> impl Iterator<Item = &Path> {
    let mut last = Path::new("");
    files.iter().filter_map(move |file| {
        let parent = file.parent().filter(|&parent| parent != last)?;
        last = parent;
        Some(parent)
    })
}

/// Puts two lists in order into one.
fn merge(mut one: Vec<Record>, other: Vec<Record>) -> Vec<Record> {
    one.extend(other);
    // Two runs that are in order already, which this finds.
    one.sort_by(|a, b| list::order(&a.path, &b.path));
    one
}
