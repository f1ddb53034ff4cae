//! `engine cp`, `diff`, `export` and `commit`.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use tests::expect_success;

use crate::host::Host;

#[test]
fn files_are_copied_both_ways_by_dockers_rules() {
    let host = Host::new();
    host.says(&["run", "-d", "--name", "web", "busybox:latest", "sleep", "1000"]);
    let dir = host.0.dir("files");
    fs::create_dir(dir.join("source")).unwrap();
    fs::write(dir.join("source/file"), "text").unwrap();
    std::os::unix::fs::symlink("file", dir.join("source/link")).unwrap();
    let here = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let shows = |path: &str| host.says(&["exec", "web", "ls", path]);
    host.says(&["cp", &here("source"), "web:/new"]);
    assert_eq!(shows("/new"), "file\nlink");
    host.says(&["cp", &here("source"), "web:/new"]);
    assert_eq!(shows("/new"), "file\nlink\nsource");
    host.says(&["cp", &here("source/file"), "web:/renamed"]);
    assert_eq!(host.says(&["exec", "web", "cat", "/renamed"]), "text");
    host.says(&["cp", "web:/new/.", &here("contents")]);
    assert!(dir.join("contents/source/file").is_file() && dir.join("contents/link").is_symlink());
    host.says(&["cp", "web:/renamed", &here("file")]);
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");
    for (from, to, says) in [
        ("/no/such/file", "web:/", "lstat /no/such/file: no such file or directory"),
        ("web:/nope", here("x").as_str(), "Could not find the file /nope in container web"),
        (here("source").as_str(), "web:/renamed", "cannot copy directory"),
        ("web:/renamed", "/no/such/dir/x", "invalid output path: directory \"/no/such/dir\" does not exist"),
        ("web:/a", "web:/b", "copying between containers is not supported"),
        ("a", "b", "must specify at least one container source"),
    ] {
        host.fails(&["cp", from, to]).assert_code(1).assert_says(&[says]);
    }
    let archive = expect_success(&mut host.engine(&["cp", "web:/new", "-"])).stdout;
    let mut unpack = host.engine(&["cp", "-", "web:/tmp"]);
    let mut child = unpack.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&archive).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(shows("/tmp/new"), "file\nlink\nsource");
}

#[test]
fn what_a_container_changed_is_told_exported_and_made_an_image() {
    let host = Host::new();
    host.fails(&["run", "--name", "done", "busybox:latest", "sh", "-c", "echo made >/made"]).assert_code(0);
    assert!(host.says(&["diff", "done"]).lines().any(|line| line == "A /made"));
    let archive = host.0.path().join("all.tar");
    host.says(&["export", "-o", archive.to_str().unwrap(), "done"]);
    let listed = expect_success(std::process::Command::new("tar").arg("-tf").arg(&archive)).stdout;
    assert!(String::from_utf8_lossy(&listed).lines().any(|line| line == "made"));
    let id = host.says(&["commit", "-a", "Ann", "-m", "why", "-c", "ENV A=1", "done", "kept:1"]);
    assert_eq!(
        host.says(&["inspect", "-f", "{{.Id}} {{.Author}} {{.Comment}}", "kept:1"]),
        format!("{id} Ann why")
    );
    assert_eq!(host.says(&["run", "--rm", "kept:1", "sh", "-c", "cat /made; echo $A"]), "made\n1");
}
