//! A repository's `.git` directory, so that `git describe` and its like work in a job.
//!
//! What a linked worktree, a submodule or a clone with alternates has elsewhere is brought together in one directory.
//! Objects never change and are hard links where they can be (on one file system, and root's); references, the index
//! and the head are copied. Hooks, reflogs, other worktrees, submodules' repositories (each is copied into its own
//! checkout) and unfinished files are left out. So are settings that could run programs or hold credentials: a job has the secrets that it names.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{Config, Repository};
use rustix::io::Errno;

use super::{At, SnapshotError};

/// Files at the top that are about this place, not about the commit.
const LEFT_OUT: [&str; 7] =
    ["config", "config.worktree", "commondir", "gitdir", "locked", "gc.pid", "gc.log"];
/// Files at the top that linked worktrees share (gitrepository-layout(5)).
const SHARED: [&str; 2] = ["packed-refs", "shallow"];
/// Where objects are, and below it where packs of them are.
const OBJECTS: &str = "objects";
const PACK: &str = "pack";
/// How deep alternates of alternates are followed, as git does.
const MAX_ALTERNATES_DEPTH: usize = 5;
/// The settings that are kept, by section and name; `*` stands for all names.
const SETTINGS: [(&str, &[&str]); 5] = [
    (
        "core",
        &[
            "repositoryformatversion",
            "filemode",
            "bare",
            "symlinks",
            "ignorecase",
            "precomposeunicode",
            "autocrlf",
            "eol",
            "safecrlf",
            "sparsecheckout",
            "sparsecheckoutcone",
            "abbrev",
            "quotepath",
        ],
    ),
    (
        "extensions",
        &["objectformat", "refstorage", "partialclone", "noop", "preciousobjects", "compatobjectformat"],
    ),
    ("remote", &["url", "fetch", "tagopt", "promisor", "partialclonefilter"]),
    ("branch", &["remote", "merge"]),
    ("submodule", &["url", "active"]),
];

/// Makes `dest` a self-contained copy of a repository's git directory; what its packs and objects take in bytes. Objects
/// that are there already stay, everything else, which is little, is made anew.
pub(super) fn update(repository: &Repository, dest: &Path) -> Result<u64, SnapshotError> {
    let (own, common) = (repository.path(), repository.commondir());
    fs::create_dir_all(dest).at("create", dest)?;
    for entry in children(dest)?.iter().filter(|entry| entry.file_name() != OBJECTS) {
        remove(entry)?;
    }
    if own != common {
        for name in SHARED {
            copy_if_exists(&common.join(name), &dest.join(name))?;
        }
        copy_tree(&common.join("refs"), &dest.join("refs"))?;
        copy_tree(&common.join("info"), &dest.join("info"))?;
    }
    for entry in children(own)? {
        let (name, path) = (entry.file_name(), entry.path());
        let is_file = entry.file_type().at("inspect", &path)?.is_file();
        if is_file && !is_unfinished(&name) && !LEFT_OUT.iter().any(|left_out| name == *left_out) {
            copy_if_exists(&path, &dest.join(&name))?;
        }
    }
    // Without `refs` git does not take the directory for a repository.
    fs::create_dir_all(dest.join("refs")).at("create", dest)?;
    copy_tree(&own.join("refs"), &dest.join("refs"))?;
    copy_tree(&own.join("info"), &dest.join("info"))?;
    let bytes = update_objects(&common.join(OBJECTS), &dest.join(OBJECTS))?;
    let files = [common.join("config"), own.join("config.worktree")];
    let path = dest.join("config");
    fs::write(&path, config(&files)?).at("write", &path)?;
    Ok(bytes)
}

/// Makes one object directory what another and its alternates are together; what it takes in bytes.
fn update_objects(from: &Path, to: &Path) -> Result<u64, SnapshotError> {
    let mut wanted = BTreeMap::new();
    collect_objects(from, 0, &mut wanted)?;
    fs::create_dir_all(to).at("create", to)?;
    for directory in children(to)? {
        let name = directory.file_name();
        if !wanted.contains_key(&name) {
            remove(&directory)?;
            continue;
        }
        for entry in children(&directory.path())? {
            let file = entry.file_name();
            let kept = never_changes(&name, &file) && wanted[&name].contains_key(&file);
            if !kept {
                remove(&entry)?;
            } else if let Some(files) = wanted.get_mut(&name) {
                // It need not be brought; what it takes is counted below.
                files.insert(file, None);
            }
        }
    }
    let mut bytes = 0;
    for (name, files) in &wanted {
        let directory = to.join(name);
        fs::create_dir_all(&directory).at("create", &directory)?;
        for (file, origin) in files {
            let path = directory.join(file);
            match origin {
                Some(origin) if origin.is_dir() => copy_tree(origin, &path)?,
                Some(origin) => link(origin, &path)?,
                None => {}
            }
            // Loose objects are as many as they are small.
            if name == PACK {
                bytes += fs::metadata(&path).map_or(0, |meta| meta.len());
            }
        }
    }
    Ok(bytes)
}

/// The files of an object directory's subdirectories, by their names, and where each is; `None` once it is there.
type Objects = BTreeMap<OsString, BTreeMap<OsString, Option<PathBuf>>>;

/// Finds what is in one object directory and in its alternates.
fn collect_objects(from: &Path, depth: usize, wanted: &mut Objects) -> Result<(), SnapshotError> {
    for directory in children(from)? {
        let (name, path) = (directory.file_name(), directory.path());
        // `info` and the multi-pack index describe one directory; they do not hold for several together.
        let joined = depth > 0 && name == "info";
        if !directory.file_type().at("inspect", &path)?.is_dir() || joined {
            continue;
        }
        let files = wanted.entry(name).or_default();
        for entry in children(&path)? {
            let file = entry.file_name();
            let own = depth == 0 || !file.as_bytes().starts_with(b"multi-pack-index");
            if own && file != "alternates" && !is_unfinished(&file) {
                files.entry(file).or_insert_with(|| Some(entry.path()));
            }
        }
    }
    let alternates = from.join("info/alternates");
    let lines = match fs::read(&alternates) {
        Ok(lines) => lines,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).at("read", &alternates),
    };
    if depth == MAX_ALTERNATES_DEPTH {
        return Ok(());
    }
    for line in lines.split(|&b| b == b'\n').filter(|line| !line.is_empty() && line[0] != b'#') {
        collect_objects(&from.join(OsStr::from_bytes(line)), depth + 1, wanted)?;
    }
    Ok(())
}

/// Whether a file of an object directory has its contents' hash in its name: loose objects and packs.
fn never_changes(directory: &OsStr, file: &OsStr) -> bool {
    directory.len() == 2 || (directory == PACK && file.as_bytes().starts_with(b"pack-"))
}

fn remove(entry: &fs::DirEntry) -> Result<(), SnapshotError> {
    let path = entry.path();
    let is_dir = entry.file_type().at("inspect", &path)?.is_dir();
    let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    removed.at("remove", &path)
}

/// Links a file that never changes, or copies it to another file system. One that is not root's is copied as well: all
/// that a job has in its workspace is to belong to the job's user, and a link would be the owner's.
fn link(from: &Path, to: &Path) -> Result<(), SnapshotError> {
    let is_roots = match rustix::fs::lstat(from) {
        Ok(stat) => stat.st_uid == 0 && stat.st_gid == 0,
        // Removed by a repack meanwhile.
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e).at("inspect", from),
    };
    if !is_roots {
        return copy_if_exists(from, to);
    }
    match rustix::fs::link(from, to) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP) => copy_if_exists(from, to),
        Err(e) => Err(e).at("link", from),
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), SnapshotError> {
    if !from.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(to).at("create", to)?;
    for entry in children(from)? {
        let (name, path) = (entry.file_name(), entry.path());
        if entry.file_type().at("inspect", &path)?.is_dir() {
            copy_tree(&path, &to.join(&name))?;
        } else if !is_lock(&name) {
            copy_if_exists(&path, &to.join(&name))?;
        }
    }
    Ok(())
}

fn copy_if_exists(from: &Path, to: &Path) -> Result<(), SnapshotError> {
    match fs::copy(from, to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        copied => copied.map(drop).at("copy", from),
    }
}

fn children(dir: &Path) -> Result<Vec<fs::DirEntry>, SnapshotError> {
    fs::read_dir(dir).and_then(Iterator::collect).at("list", dir)
}

/// Locks, and objects that git writes aside before it renames them.
fn is_unfinished(name: &OsStr) -> bool {
    is_lock(name) || name.as_bytes().starts_with(b"tmp_")
}

/// No reference can have such a name (git-check-ref-format(1)).
fn is_lock(name: &OsStr) -> bool {
    name.as_bytes().ends_with(b".lock")
}

/// The settings of [`SETTINGS`] in these files, of which any may be absent, as a new file's text.
fn config(files: &[PathBuf]) -> Result<String, SnapshotError> {
    let mut text = String::new();
    for path in files.iter().filter(|path| path.exists()) {
        let failed = |source| SnapshotError::Git { path: path.clone(), source };
        let config = Config::open(path).map_err(failed)?;
        let mut entries = config.entries(None).map_err(failed)?;
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            let (Ok(key), true) = (entry.name(), entry.has_value()) else { continue };
            let Ok(value) = entry.value() else { continue };
            push_setting(&mut text, key, value);
        }
    }
    Ok(text)
}

fn push_setting(text: &mut String, key: &str, value: &str) {
    let (Some((section, _)), Some((head, name))) = (key.split_once('.'), key.rsplit_once('.')) else {
        return;
    };
    if !SETTINGS.iter().any(|(kept, names)| *kept == section && names.contains(&name)) {
        return;
    }
    let value = match name {
        "url" => without_credentials(value),
        // Of a worktree's main repository, which may have none.
        "bare" => "false".to_owned(),
        _ => value.to_owned(),
    };
    let header = match head.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')) {
        Some(subsection) => format!("[{section} \"{}\"]", escaped(subsection)),
        None => format!("[{section}]"),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{header}\n\t{name} = \"{}\"", escaped(&value));
}

/// Escapes as git-config(1) has it, "Syntax".
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// An address without its password, or without its user where that may be a token.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Some((user, host)) = authority.rsplit_once('@') else { return url.to_owned() };
    match user.split(':').next() {
        Some(user) if scheme.contains("ssh") => format!("{scheme}://{user}@{host}{path}"),
        _ => format!("{scheme}://{host}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_credentials() {
        let check = |url: &str, expected: &str| assert_eq!(without_credentials(url), expected);
        check("https://token@host/o/r.git", "https://host/o/r.git");
        check("https://u:p@ss@host:8443/o/r", "https://host:8443/o/r");
        check("ssh://git:pw@host/o/r", "ssh://git@host/o/r");
        check("https://host/o/r@v1", "https://host/o/r@v1");
        check("git@host:o/r.git", "git@host:o/r.git");
        check("/srv/r.git", "/srv/r.git");
    }
}
