//! A disk that is full.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use tests::World;

use crate::left::nothing_is_left;
use crate::machine::{Machine, text};

/// A small file system, unmounted at the end.
pub(crate) struct Disk(pub(crate) PathBuf);

/// What takes a disk's space away.
const BALLAST: &str = "ballast";

impl Disk {
    pub(crate) fn mount(world: &World, mebibytes: u32) -> Self {
        let dir = world.dir("disk");
        let size = format!("size={mebibytes}m");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "lighter-test"]).arg(&dir).status();
        assert!(status.unwrap().success());
        Self(dir)
    }

    /// Leaves room for so many bytes.
    pub(crate) fn fill_but(&self, bytes: u64) {
        self.free();
        let file = File::create(self.0.join(BALLAST)).unwrap();
        let room = rustix::fs::statvfs(&self.0).unwrap();
        let length = (room.f_bavail * room.f_frsize).saturating_sub(bytes);
        if length > 0 {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length).unwrap();
        }
    }

    /// Gives the room back.
    pub(crate) fn free(&self) {
        let path = self.0.join(BALLAST);
        if path.exists() {
            // Emptied, not only removed: another test's child that has not executed its program yet may have it open.
            File::create(&path).unwrap();
            fs::remove_file(path).unwrap();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left() {
    let world = World::new();
    let disk = Disk::mount(&world, 24);
    let machine = Machine::with_root(disk.0.clone());
    machine.import();
    let pipeline = machine.checkout(
        "big",
        &[
            ("pipeline.yaml", "image: {build: .}\njobs: {it: {network: none, steps: [{run: echo built}]}}\n"),
            ("Dockerfile", "FROM busybox:latest\nCOPY big /big\nCOPY big /again\n"),
        ],
    );
    fs::write(pipeline.with_file_name("big"), vec![7; 30 << 20]).unwrap();
    let output = machine.run(&pipeline);
    nothing_is_left(&machine);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("No space left on device"), "{}", text(&output));
    assert!(text(&output).contains(disk.0.to_str().unwrap()), "{}", text(&output));
    assert!(text(&output).contains("free space"), "{}", text(&output));
    machine.sweep_by_a_run();
}
