//! Real repositories for tests, made by git itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// An empty repository whose branch is `main`.
pub(crate) fn repository() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q", "-b", "main"]);
    dir
}

/// Commits all that there is; the commit's hash.
pub(crate) fn commit_all(root: &Path) -> String {
    git(root, &["add", "-A"]);
    git(root, &["commit", "-q", "--allow-empty", "-m", "change"]);
    git(root, &["rev-parse", "HEAD"])
}

/// Writes a file below `root`, and the directories on the way.
pub(crate) fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Runs git without the settings of whoever runs the tests; what it prints, without the last line end.
#[track_caller]
pub(crate) fn git(root: &Path, args: &[&str]) -> String {
    let settings = ["user.name=t", "user.email=t@example.com", "protocol.file.allow=always", "gc.auto=0"];
    let output = Command::new("git")
        .current_dir(root)
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
