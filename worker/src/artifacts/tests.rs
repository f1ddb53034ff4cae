use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

/// A container's root with a workspace in it, and a place for artifacts.
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/workspace")).unwrap();
        Self { dir }
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("root/workspace")
    }

    fn to(&self) -> PathBuf {
        self.dir.path().join("kept/job")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn keep(&self, patterns: &[&str]) -> Result<Kept, ArtifactError> {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let inside = Inside::new(File::open(self.dir.path().join("root")).unwrap().into());
        keep(&inside, Path::new("/workspace"), &Patterns::new(&patterns)?, &self.to())
    }

    #[track_caller]
    fn check(&self, patterns: &[&str], expected: &[&str], unmatched: &[&str]) {
        let kept = self.keep(patterns).unwrap();
        let files: Vec<_> = kept.files.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(files, expected);
        assert_eq!(kept.unmatched, unmatched);
        for file in expected {
            assert!(self.to().join(file).symlink_metadata().is_ok(), "{file}");
        }
    }
}

#[test]
fn keeps_what_matches_with_its_mode() {
    let world = World::new();
    world.write("report/a.xml", "aa");
    world.write("report/deep/b.txt", "b");
    world.write("other.txt", "no");
    fs::set_permissions(world.work().join("report/a.xml"), PermissionsExt::from_mode(0o4750)).unwrap();
    world.check(&["report", "*.none"], &["report/a.xml", "report/deep/b.txt"], &["*.none"]);
    assert!(!world.to().join("other.txt").exists());
    let mode = fs::metadata(world.to().join("report/a.xml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
    assert_eq!(world.keep(&["report/"]).unwrap().bytes, 3);
}

#[test]
fn wildcards_mean_what_they_do_elsewhere() {
    let world = World::new();
    for path in ["x.xml", "d/x.xml", "a/z", "a/b/c/z", "a/b/y"] {
        world.write(path, "");
    }
    world.check(&["*.xml"], &["x.xml"], &[]);
    world.check(&["**/*.xml"], &["d/x.xml", "x.xml"], &[]);
    world.check(&["a/**/z", "./d/"], &["a/b/c/z", "a/z", "d/x.xml"], &[]);
    world.check(&["{d,a}/[xz]*"], &["a/z", "d/x.xml"], &[]);
    world.check(&["."], &["a/b/c/z", "a/b/y", "a/z", "d/x.xml", "x.xml"], &[]);
}

#[test]
fn the_last_pattern_decides() {
    let world = World::new();
    for path in ["out/a.log", "out/tmp/b", "out/tmp/keep"] {
        world.write(path, "");
    }
    world.check(&["out", "!out/tmp", "!none"], &["out/a.log"], &[]);
    world.check(&["out", "!out/tmp", "out/tmp/keep"], &["out/a.log", "out/tmp/keep"], &[]);
    world.check(&["!out/a.log", "out"], &["out/a.log", "out/tmp/b", "out/tmp/keep"], &[]);
}

#[test]
fn follows_no_link_of_the_job() {
    let world = World::new();
    fs::write(world.dir.path().join("secret"), "outside").unwrap();
    fs::create_dir(world.work().join("report")).unwrap();
    symlink(world.dir.path().join("secret"), world.work().join("report/leak")).unwrap();
    symlink(world.dir.path(), world.work().join("away")).unwrap();
    world.check(&["report", "away", "away/secret"], &["away", "report/leak"], &["away/secret"]);
    assert!(fs::symlink_metadata(world.to().join("report/leak")).unwrap().is_symlink());
}

#[test]
fn follows_no_link_that_an_earlier_run_left() {
    let world = World::new();
    let outside = world.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, world.work().join("report")).unwrap();
    symlink(outside.join("file"), world.work().join("file")).unwrap();
    world.check(&["report", "file"], &["file", "report"], &[]);
    for link in ["report", "file"] {
        fs::remove_file(world.work().join(link)).unwrap();
    }
    world.write("report/evil", "x");
    world.write("file", "x");
    world.check(&["report", "file"], &["file", "report/evil"], &[]);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn opens_what_was_kept_but_no_link() {
    let world = World::new();
    world.write("report/a.xml", "<a/>");
    symlink("a.xml", world.work().join("report/link.xml")).unwrap();
    world.check(&["report"], &["report/a.xml", "report/link.xml"], &[]);
    let opened = open(&world.to(), Path::new("report/a.xml")).unwrap();
    assert_eq!(io::read_to_string(opened).unwrap(), "<a/>");
    let error = open(&world.to(), Path::new("report/link.xml")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
}

#[test]
fn a_link_in_the_place_of_the_jobs_directory_is_refused() {
    let world = World::new();
    world.write("file", "x");
    let outside = world.dir.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir(world.dir.path().join("kept")).unwrap();
    symlink(&outside, world.to()).unwrap();
    assert!(matches!(world.keep(&["file"]), Err(ArtifactError::Destination { .. })));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn the_checkouts_own_directory_is_not_behind_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let made = own_directory(dir.path()).unwrap();
    assert_eq!(own_directory(dir.path()).unwrap(), made);
    assert!(made.is_dir());
    assert_eq!(fs::read_to_string(dir.path().join(".lighter/.gitignore")).unwrap(), "*\n");
    for link in [".lighter", ".lighter/.gitignore", ".lighter/artifacts"] {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("passwd"), "root").unwrap();
        let target =
            if link.ends_with("ignore") { outside.path().join("passwd") } else { outside.path().into() };
        fs::create_dir_all(dir.path().join(link).parent().unwrap()).unwrap();
        symlink(target, dir.path().join(link)).unwrap();
        let error = own_directory(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with(&format!("{link} for artifacts")), "{error}");
        assert_eq!(fs::read_to_string(outside.path().join("passwd")).unwrap(), "root");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}

#[test]
fn replaces_files_but_no_trees() {
    let world = World::new();
    world.write("a", "1");
    world.check(&["a"], &["a"], &[]);
    world.write("a", "2");
    world.check(&["a"], &["a"], &[]);
    assert_eq!(fs::read_to_string(world.to().join("a")).unwrap(), "2");
    fs::remove_file(world.work().join("a")).unwrap();
    world.write("a/b", "3");
    world.check(&["a"], &["a/b"], &[]);
    fs::remove_dir_all(world.work().join("a")).unwrap();
    world.write("a", "4");
    let error = world.keep(&["a"]).unwrap_err();
    assert_eq!(error.to_string(), "failed to create artifact a");
}

#[test]
fn special_files_are_passed_over() {
    let world = World::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.work().join("pipe"),
        FileType::Fifo,
        Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    world.check(&["pipe"], &[], &["pipe"]);
    assert!(!world.to().exists());
}

#[test]
fn sizes_are_limited() {
    let world = World::new();
    world.write("sparse", "");
    File::options().write(true).open(world.work().join("sparse")).unwrap().set_len(BYTES_MAX + 1).unwrap();
    let error = world.keep(&["sparse"]).unwrap_err();
    assert_eq!(error.to_string(), "artifacts of more than 16 GiB at sparse");
    assert!(!world.to().exists());
}

#[test]
fn a_bad_pattern_is_named() {
    let error = Patterns::new(&["a[".to_owned()]).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        ("artifact pattern \"a[\"", ErrorKind::InvalidArgument)
    );
}
