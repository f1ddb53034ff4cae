//! Overlays in a container belong to its user, whatever the file system below can do for that.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use engine_runtime::spec::{Mount, MountSource};

use crate::runtime::Box;

/// What the container's user finds and does: `ann` of the test image.
const SCRIPT: &str = "cd /ov; find . -exec stat -c '%u:%g' {} + | sort -u; echo new > dir/file; ./run; \
                      rm link; mkdir made; stat -c '%u:%g' dir/file made; cat dir/file";

/// Runs [`SCRIPT`] over files of root below `lower`; what the container has changed, by name.
#[track_caller]
fn check(world: &Box, lower: &Path) -> Vec<String> {
    fs::create_dir_all(lower.join("dir/deep")).unwrap();
    fs::write(lower.join("dir/file"), "old\n").unwrap();
    fs::write(lower.join("dir/deep/other"), "").unwrap();
    fs::write(lower.join("run"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(lower.join("run"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    symlink("/nowhere", lower.join("link")).unwrap();
    let upper = world.world.dir("ou");
    let mut spec = world.spec(&["sh", "-ec", SCRIPT]);
    spec.process.user = "ann".to_owned();
    let source = MountSource::Overlay {
        lower: vec![lower.to_owned()],
        upper: upper.clone(),
        work: world.world.dir("ow"),
    };
    spec.mounts.push(Mount { target: "/ov".into(), source, read_only: false });
    let (code, log) = world.run(&spec);
    assert_eq!((code, log.as_str()), (0, "1000:100\nran\n1000:100\n1000:100\nnew\n"));
    assert_eq!(fs::read_to_string(lower.join("dir/file")).unwrap(), "old\n");
    assert_eq!(lower.join("dir/file").metadata().unwrap().uid(), 0);
    let mut changed: Vec<String> =
        fs::read_dir(upper).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    changed.sort();
    changed
}

#[test]
fn files_are_not_copied_to_change_their_owner() {
    let world = Box::new();
    assert_eq!(check(&world, &world.world.dir("lower")), ["dir", "link", "made"]);
}

/// A file system that cannot show other owners, unmounted at the end.
struct Ramfs(PathBuf);

impl Drop for Ramfs {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn where_other_owners_cannot_be_shown_files_are_given_away() {
    let world = Box::new();
    let dir = world.world.dir("ramfs");
    let status = Command::new("mount").args(["-t", "ramfs", "lighter-test"]).arg(&dir).status().unwrap();
    assert!(status.success());
    let ramfs = Ramfs(dir);
    assert_eq!(check(&world, &ramfs.0.join("lower")), ["dir", "link", "made", "run"]);
}

#[test]
fn a_user_who_is_not_in_the_image_is_named() {
    let world = Box::new();
    let mut spec = world.spec(&["true"]);
    spec.process.user = "bob".to_owned();
    let source = MountSource::Overlay {
        lower: vec![world.world.dir("lower")],
        upper: world.world.dir("ou"),
        work: world.world.dir("ow"),
    };
    spec.mounts.push(Mount { target: "/ov".into(), source, read_only: false });
    let error = world.start(&spec).unwrap_err().to_string();
    assert_eq!(error, "unable to find user bob: no matching entries in passwd file");
}
