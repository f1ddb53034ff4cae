//! What is kept from one run to the next, and that nobody can tell.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tempfile::TempDir;

use super::tests::Store;
use super::{Snapshot, index};
use crate::test_git::{commit_all, git, repository, write};

/// Longer than it takes until a file counts as settled.
const LONG_AGO: Duration = Duration::from_secs(60);

/// All of a tree but what is git's: modes, and contents or targets.
fn contents(snapshot: &Snapshot) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let bytes = if meta.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if meta.is_dir() {
                if path.file_name().unwrap() == ".git" {
                    continue;
                }
                walk(root, &path, found);
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (meta.mode(), bytes));
        }
    }
    let mut found = BTreeMap::new();
    walk(snapshot.path(), snapshot.path(), &mut found);
    found
}

/// Makes the store believe that all files had last changed long before they were read.
fn settle(snapshot: &Snapshot) {
    let dir = snapshot.path().parent().unwrap();
    let boot_id = index::boot_id(Path::new("/proc")).unwrap();
    let mut known = index::Index::load(dir, &boot_id).unwrap();
    known.files.iter_mut().for_each(|file| file.settled = true);
    known.store(dir, &boot_id).unwrap();
}

#[test]
fn only_what_has_changed_is_copied_again() {
    let root = repository();
    for file in ["same", "dir/changed", "dir/touched", "gone/deep/file", "mode"] {
        write(root.path(), file, "as it was");
    }
    symlink("same", root.path().join("link")).unwrap();
    commit_all(root.path());
    let store = Store::new();
    let first = store.take(root.path());
    settle(&first);
    // Nobody else may write there; this shows what is left alone.
    fs::write(first.path().join("same"), "left alone").unwrap();
    let link = first.path().join("link").symlink_metadata().unwrap().ino();
    drop(first);
    write(root.path(), "dir/changed", "new");
    File::open(root.path().join("dir/touched")).unwrap().set_modified(SystemTime::now() + LONG_AGO).unwrap();
    fs::remove_dir_all(root.path().join("gone")).unwrap();
    fs::set_permissions(root.path().join("mode"), Permissions::from_mode(0o755)).unwrap();
    write(root.path(), "added/file", "new");
    let second = store.take(root.path());
    assert_eq!(fs::read(second.path().join("same")).unwrap(), b"left alone");
    assert_eq!(second.path().join("link").symlink_metadata().unwrap().ino(), link);
    let modified = |path: &Path| path.join("dir/touched").metadata().unwrap().modified().unwrap();
    assert_eq!(modified(second.path()), modified(root.path()));
    assert_eq!(fs::read(second.path().join("dir/changed")).unwrap(), b"new");
    assert!(!second.path().join("gone").exists() && second.path().join("added/file").exists());
    assert_eq!(second.path().join("mode").metadata().unwrap().mode() & 0o777, 0o755);
    assert_eq!(store.kept().len(), 1);
}

#[test]
fn a_change_that_the_clock_does_not_show_is_seen() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "file", "one");
    let store = Store::new();
    let first = store.take(root.path());
    // As a change in the same tick would leave it: the index holds the very times that the file has now.
    let dir = first.path().parent().unwrap().to_owned();
    drop(first);
    write(root.path(), "file", "two");
    let boot_id = index::boot_id(Path::new("/proc")).unwrap();
    let mut known = index::Index::load(&dir, &boot_id).unwrap();
    let now = rustix::fs::stat(root.path().join("file")).unwrap();
    known.files[0].stat = index::FileStat::new(&now);
    known.store(&dir, &boot_id).unwrap();
    let second = store.take(root.path());
    assert_eq!(fs::read(second.path().join("file")).unwrap(), b"two");
}

#[test]
fn runs_at_the_same_time_have_their_own() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "file", "one");
    let store = Store::new();
    let first = store.take(root.path());
    write(root.path(), "file", "two");
    let second = store.take(root.path());
    assert_ne!(first.path(), second.path());
    assert_eq!(fs::read(first.path().join("file")).unwrap(), b"one");
    assert_eq!(fs::read(second.path().join("file")).unwrap(), b"two");
    let path = first.path().to_owned();
    drop(first);
    assert_eq!(store.take(root.path()).path(), path);
    assert_eq!(fs::read(path.join("file")).unwrap(), b"two");
    // The same name elsewhere is another checkout.
    let other = tempfile::tempdir().unwrap();
    assert!(store.take(other.path()).files().is_empty());
    assert_eq!(store.kept().len(), 3);
}

#[test]
fn what_a_killed_run_left_is_made_anew_or_removed() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "file", "one");
    let store = Store::new();
    let first = store.take(root.path());
    let (other, third) = (tempfile::tempdir().unwrap(), store.take(root.path()));
    for snapshot in [&first, &third] {
        fs::remove_file(snapshot.path().with_file_name(index::FILE)).unwrap();
        for half in ["half", "file", "empty/empty/x", "dir/more", ".git/objects/ab/torn"] {
            write(snapshot.path(), half, "longer than it will be");
        }
        fs::remove_file(snapshot.path().join("empty/empty/x")).unwrap();
    }
    drop(first);
    write(root.path(), "empty", "not a directory");
    write(root.path(), "dir/file", "two");
    let first = store.take(root.path());
    let new = Store::new();
    assert_eq!(contents(&first), contents(&new.take(root.path())));
    assert!(!first.path().join(".git").exists());
    // The third is still in use.
    assert!(third.path().exists());
    let path = third.path().to_owned();
    drop(third);
    store.take(other.path());
    assert!(!path.exists() && first.path().exists());
}

#[test]
fn one_that_is_not_used_for_long_goes() {
    let (old, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::new();
    let path = store.take(old.path()).path().with_file_name(index::FILE);
    let day = Duration::from_secs(24 * 60 * 60);
    let aged = |days: u32| File::open(&path).unwrap().set_modified(SystemTime::now() - day * days).unwrap();
    aged(13);
    store.take(root.path());
    assert!(path.exists());
    aged(15);
    store.take(root.path());
    assert!(!path.exists());
    assert_eq!(store.kept().len(), 1);
}

#[test]
fn history_is_brought_up_to_date() {
    let root = repository();
    write(root.path(), "a", "1");
    write(root.path(), ".gitignore", "lib/\n");
    commit_all(root.path());
    let store = Store::new();
    drop(store.take(root.path()));
    write(root.path(), "a", "2");
    git(root.path(), &["branch", "gone"]);
    commit_all(root.path());
    git(root.path(), &["tag", "v2"]);
    drop(store.take(root.path()));
    git(root.path(), &["branch", "-D", "gone"]);
    git(root.path(), &["repack", "-adq", "--write-midx"]);
    git(root.path(), &["prune-packed"]);
    let snapshot = store.take(root.path());
    assert_eq!(git(snapshot.path(), &["describe", "--tags"]), "v2");
    assert_eq!(git(snapshot.path(), &["branch", "--list", "gone"]), "");
    assert_eq!(git(snapshot.path(), &["fsck"]), "");
    assert_eq!(git(snapshot.path(), &["count-objects"]), "0 objects, 0 kilobytes");
}

#[test]
fn a_submodule_may_come_and_go() {
    let library = repository();
    write(library.path(), "lib.c", "int x;");
    commit_all(library.path());
    let root = repository();
    write(root.path(), "main.c", "");
    commit_all(root.path());
    let store = Store::new();
    drop(store.take(root.path()));
    git(root.path(), &["submodule", "add", "-q", library.path().to_str().unwrap(), "deps/lib"]);
    let snapshot = store.take(root.path());
    assert_eq!(git(&snapshot.path().join("deps/lib"), &["status", "--porcelain"]), "");
    drop(snapshot);
    git(root.path(), &["rm", "-qf", "deps/lib"]);
    let snapshot = store.take(root.path());
    assert!(!snapshot.path().join("deps").exists());
    assert_eq!(
        git(snapshot.path(), &["status", "--porcelain"]),
        git(root.path(), &["status", "--porcelain"])
    );
}

#[test]
fn objects_of_another_user_are_copied() {
    let root = repository();
    write(root.path(), "a", "1");
    let commit = commit_all(root.path());
    let object = format!(".git/objects/{}/{}", &commit[..2], &commit[2..]);
    let original = root.path().join(&object);
    std::os::unix::fs::chown(&original, Some(12_345), None).unwrap();
    let store = Store::new();
    let snapshot = store.take(root.path());
    let meta = snapshot.path().join(&object).metadata().unwrap();
    assert_eq!((meta.uid(), meta.nlink(), meta.mode() & 0o777), (0, 1, 0o444));
    assert_eq!(git(snapshot.path(), &["fsck"]), "");
}

/// Something done to a checkout between two runs.
#[derive(Debug, Clone)]
enum Edit {
    Write(String, u8),
    Link(String, String),
    Remove(String),
    Executable(String, bool),
    Ignore(String),
}

/// Few names, so that files, directories and links take each other's places.
fn path() -> impl Strategy<Value = String> {
    "[ab](/[ab](/[ab])?)?"
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (path(), 0..4u8).prop_map(|(path, byte)| Edit::Write(path, byte)),
        1 => (path(), path()).prop_map(|(path, target)| Edit::Link(path, target)),
        2 => path().prop_map(Edit::Remove),
        1 => (path(), any::<bool>()).prop_map(|(path, is)| Edit::Executable(path, is)),
        1 => path().prop_map(Edit::Ignore),
    ]
}

/// Does it, as far as it can be done. What is written gets a time of its own: the file system may give a new file an old
/// one's inode in the same tick of its clock.
fn apply(root: &TempDir, edit: &Edit, clock: &mut SystemTime) {
    *clock += Duration::from_secs(1);
    let remove = |path: &Path| {
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
    };
    let make_room = |path: &Path| {
        remove(path);
        let parent = path.parent().unwrap();
        for dir in parent.ancestors().take_while(|dir| *dir != root.path()) {
            if dir.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
                remove(dir);
            }
        }
        fs::create_dir_all(parent).unwrap();
    };
    match edit {
        Edit::Write(path, byte) => {
            let path = root.path().join(path);
            make_room(&path);
            fs::write(&path, [*byte; 3]).unwrap();
            File::open(&path).unwrap().set_modified(*clock).unwrap();
        }
        Edit::Link(path, target) => {
            let path = root.path().join(path);
            make_room(&path);
            symlink(target, &path).unwrap();
            let seconds = clock.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            let time = rustix::fs::Timespec { tv_sec: seconds as i64, tv_nsec: 0 };
            let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(rustix::fs::CWD, &path, &times, flags).unwrap();
        }
        Edit::Remove(path) => remove(&root.path().join(path)),
        Edit::Executable(path, is) => {
            let path = root.path().join(path);
            if path.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
                let mode = if *is { 0o755 } else { 0o644 };
                fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            }
        }
        Edit::Ignore(path) => write(root.path(), ".gitignore", &format!("/{path}\n")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// However a checkout changes, what is kept becomes what would be copied from nothing.
    #[test]
    fn an_updated_snapshot_is_as_a_new_one(runs in prop::collection::vec(prop::collection::vec(edit(), 0..8), 1..5)) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new();
        let mut clock = SystemTime::UNIX_EPOCH;
        for edits in runs {
            edits.iter().for_each(|edit| apply(&root, edit, &mut clock));
            let (kept, other) = (store.take(root.path()), Store::new());
            let new = other.take(root.path());
            prop_assert_eq!(kept.files(), new.files());
            prop_assert_eq!(contents(&kept), contents(&new));
            settle(&kept);
        }
    }
}
