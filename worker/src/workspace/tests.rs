use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use engine::types::Paths;
use tempfile::TempDir;

use super::*;
use crate::test_git::{commit_all, git, repository, write};

/// A store of snapshots in a directory of its own.
pub(super) struct Store {
    dir: TempDir,
}

impl Store {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn open(&self) -> SnapshotStore {
        SnapshotStore::open(&Paths::host(self.dir.path(), self.dir.path())).unwrap()
    }

    pub(super) fn take(&self, root: &Path) -> Snapshot {
        self.open().take(root, &|| false).unwrap()
    }

    /// The names of the snapshots that are there.
    pub(super) fn kept(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("snapshots")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// A copy, and the store that it is in.
fn take(root: &Path) -> (Store, Snapshot) {
    let store = Store::new();
    let snapshot = store.take(root);
    (store, snapshot)
}

#[track_caller]
fn check_files(snapshot: &Snapshot, expected: &[&str]) {
    let files: Vec<&str> = snapshot.files().iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(files, expected);
    for file in expected {
        assert!(snapshot.path().join(file).symlink_metadata().is_ok(), "{file}");
    }
}

#[test]
fn carries_what_is_dirty_but_not_what_is_ignored() {
    let root = repository();
    let root = root.path();
    write(root, ".gitignore", "target/\n*.log\n");
    write(root, "src/main.rs", "old");
    write(root, "gone.txt", "");
    write(root, "kept.log", "tracked though ignored");
    git(root, &["add", "-f", "kept.log"]);
    commit_all(root);
    write(root, "src/main.rs", "new");
    write(root, "src/added.rs", "untracked");
    write(root, "target/debug/big", "junk");
    write(root, "x.log", "junk");
    fs::create_dir(root.join("empty")).unwrap();
    fs::remove_file(root.join("gone.txt")).unwrap();
    let (_dir, snapshot) = take(root);
    check_files(&snapshot, &[".gitignore", "kept.log", "src/added.rs", "src/main.rs"]);
    assert_eq!(fs::read_to_string(snapshot.path().join("src/main.rs")).unwrap(), "new");
    for absent in ["target", "x.log", "gone.txt", "empty"] {
        assert!(!snapshot.path().join(absent).exists(), "{absent}");
    }
    let status = git(snapshot.path(), &["status", "--porcelain"]);
    assert_eq!(status, git(root, &["status", "--porcelain"]));
}

#[test]
fn keeps_links_times_and_executable_bits() {
    let root = repository();
    let root = root.path();
    write(root, "run.sh", "#!/bin/sh\n");
    write(root, "private", "x");
    write(root, "dir/file", "x");
    fs::set_permissions(root.join("run.sh"), Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(root.join("private"), Permissions::from_mode(0o600)).unwrap();
    symlink("dir", root.join("link")).unwrap();
    symlink("/nowhere", root.join("dangling")).unwrap();
    let (_dir, snapshot) = take(root);
    check_files(&snapshot, &["dangling", "dir/file", "link", "private", "run.sh"]);
    let meta = |path: &str| snapshot.path().join(path).symlink_metadata().unwrap();
    assert_eq!(meta("run.sh").mode() & 0o7777, 0o755);
    assert_eq!(meta("private").mode() & 0o7777, 0o644);
    assert_eq!(fs::read_link(snapshot.path().join("dangling")).unwrap(), Path::new("/nowhere"));
    let original = root.join("run.sh").metadata().unwrap();
    assert_eq!(meta("run.sh").modified().unwrap(), original.modified().unwrap());
    assert_ne!(meta("run.sh").ino(), original.ino());
}

#[test]
fn a_tracked_file_behind_a_link_is_deleted() {
    let root = repository();
    let root = root.path();
    write(root, "dir/file", "tracked");
    commit_all(root);
    fs::remove_dir_all(root.join("dir")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "file", "outside");
    symlink(outside.path(), root.join("dir")).unwrap();
    let (_dir, snapshot) = take(root);
    check_files(&snapshot, &["dir"]);
    assert!(snapshot.path().join("dir").is_symlink());
}

#[test]
fn history_comes_along() {
    let root = repository();
    let root = root.path();
    write(root, "a", "1");
    commit_all(root);
    git(root, &["tag", "-m", "one", "v1"]);
    git(root, &["branch", "tmp_branch"]);
    git(root, &["pack-refs", "--all"]);
    write(root, "a", "2");
    commit_all(root);
    write(root, ".git/hooks/pre-commit", "#!/bin/sh\nexit 1\n");
    write(root, ".git/index.lock", "");
    git(root, &["config", "remote.origin.url", "https://token@example.com/me/shop"]);
    git(root, &["config", "http.https://example.com/.extraheader", "AUTHORIZATION: basic token"]);
    let (_dir, snapshot) = take(root);
    fs::remove_file(root.join(".git/index.lock")).unwrap();
    let describe = ["describe", "--dirty"];
    assert_eq!(git(snapshot.path(), &describe), git(root, &describe));
    assert_eq!(git(snapshot.path(), &["log", "--format=%H"]), git(root, &["log", "--format=%H"]));
    assert_eq!(git(snapshot.path(), &["branch", "--list", "tmp_branch"]).trim(), "tmp_branch");
    assert_eq!(git(snapshot.path(), &["fsck"]), "");
    let own = snapshot.path().join(".git");
    assert!(!own.join("hooks").exists() && !own.join("index.lock").exists());
    let config = fs::read_to_string(own.join("config")).unwrap();
    assert!(config.contains("https://example.com/me/shop") && !config.contains("token"), "{config}");
}

#[test]
fn a_linked_worktree_becomes_a_repository_of_its_own() {
    let main = repository();
    write(main.path(), "a", "1");
    commit_all(main.path());
    git(main.path(), &["tag", "v1"]);
    let other = tempfile::tempdir().unwrap();
    let root = other.path().join("wt");
    git(main.path(), &["worktree", "add", "-q", "-b", "next", root.to_str().unwrap()]);
    write(&root, "b", "2");
    let commit = commit_all(&root);
    let (_dir, snapshot) = take(&root);
    drop((main, other));
    assert!(snapshot.path().join(".git").is_dir());
    assert_eq!(git(snapshot.path(), &["rev-parse", "HEAD"]), commit);
    assert_eq!(git(snapshot.path(), &["branch", "--show-current"]), "next");
    assert_eq!(git(snapshot.path(), &["status", "--porcelain"]), "");
    assert!(git(snapshot.path(), &["describe", "--tags"]).starts_with("v1-1-g"));
}

#[test]
fn submodules_and_alternates_come_along() {
    let library = repository();
    write(library.path(), "lib.c", "int x;");
    commit_all(library.path());
    let shop = repository();
    write(shop.path(), "main.c", "");
    git(shop.path(), &["submodule", "add", "-q", library.path().to_str().unwrap(), "deps/lib"]);
    commit_all(shop.path());
    let clones = tempfile::tempdir().unwrap();
    let root = clones.path().join("shop");
    let from = shop.path().to_str().unwrap();
    git(clones.path(), &["clone", "-q", "--shared", "--recurse-submodules", from, "shop"]);
    write(&root, "deps/lib/lib.c", "int y;");
    let (_dir, snapshot) = take(&root);
    drop((library, shop, clones));
    check_files(&snapshot, &[".gitmodules", "deps/lib/lib.c", "main.c"]);
    assert_eq!(git(snapshot.path(), &["status", "--porcelain"]), " M deps/lib");
    assert_eq!(git(&snapshot.path().join("deps/lib"), &["status", "--porcelain"]), " M lib.c");
    assert_eq!(git(snapshot.path(), &["fsck"]), "");
}

#[test]
fn works_outside_a_repository_and_into_the_checkout_itself() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "a", "1");
    write(root.path(), "junk/b", "2");
    write(root.path(), ".gitignore", "junk\n");
    write(root.path(), "engine/images/big", "not a source");
    let engine = root.path().join("engine");
    let store = SnapshotStore::open(&Paths::host(&engine, &engine)).unwrap();
    let snapshot = store.take(root.path(), &|| false).unwrap();
    check_files(&snapshot, &[".gitignore", "a"]);
    assert!(!snapshot.path().join(".git").exists());
}

#[test]
fn a_failure_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join(".git"), "gitdir: /absent\n").unwrap();
    let store = Store::new();
    let error = store.open().take(root.path(), &|| false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(store.kept(), [""; 0]);
    let absent = store.dir.path().join("absent");
    let error = SnapshotStore::open(&Paths::host(&absent, &absent)).unwrap_err();
    assert!(error.to_string().starts_with("failed to create /"), "{error}");
}

#[test]
fn one_that_is_cancelled_is_completed_by_the_next() {
    let root = repository();
    write(root.path(), "a", "1");
    write(root.path(), "dir/b", "2");
    let store = Store::new();
    let error = store.open().take(root.path(), &|| true).unwrap_err();
    assert_eq!((error.kind(), store.kept().len()), (ErrorKind::Cancelled, 1));
    fs::remove_dir_all(root.path().join("dir")).unwrap();
    write(root.path(), "dir", "a file now");
    check_files(&store.take(root.path()), &["a", "dir"]);
    assert_eq!(store.kept().len(), 1);
}
