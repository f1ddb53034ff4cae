//! The engine's commands with ever more room on the disk, from none to enough: each time they fail with the path and
//! what to do, or succeed; nothing is left of a failure; and with room again everything works.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tests::{World, built, expect_success};

use crate::disk::Disk;
use crate::left::nothing_is_left;
use crate::machine::{Machine, text};
use crate::slow_registry::SlowRegistry;

/// A page of the disk, the least that makes a difference.
const PAGE: u64 = 4096;
/// How much more room each round has than the one before, once there is some: rounds cost time.
const GROWTH_PERCENT: u64 = 30;
/// Enough for anything here.
const ENOUGH: u64 = 12 << 20;

/// A disk with an engine's root on it, and what commands run on it.
struct Crowded {
    machine: Machine,
    disk: Disk,
    _world: World,
}

impl Crowded {
    fn new() -> Self {
        let world = World::new();
        let disk = Disk::mount(&world, 32);
        let root = disk.0.join("root");
        fs::create_dir(&root).unwrap();
        let machine = Machine::with_root(root);
        Self { machine, disk, _world: world }
    }

    /// The same, its catalog made.
    fn opened() -> Self {
        let crowded = Self::new();
        expect_success(&mut crowded.engine(&["images"]));
        crowded
    }

    /// Runs a command with ever more room until it succeeds twice, removing what it made each time.
    fn with_ever_more_room(&self, codes: &[i32], command: &dyn Fn() -> Command) {
        let at_first = self.kept();
        let (mut room, mut failures, mut successes) = (0, 0, 0);
        while successes < 2 {
            assert!(room < ENOUGH, "never succeeded");
            self.disk.fill_but(room);
            let output = command().output().unwrap();
            self.disk.free();
            if output.status.success() {
                successes += 1;
            } else {
                failures += 1;
                self.assert_clear(&output, codes, room);
                assert_eq!(self.list("staging"), BTreeSet::new(), "with {room} bytes: {}", text(&output));
            }
            // What cannot even be removed on a full disk, rows of the catalog, goes with the next who opens the engine.
            self.machine.open();
            self.remove_containers();
            self.remove_images(&at_first);
            nothing_is_left(&self.machine);
            room = (room + PAGE).max((room + room * GROWTH_PERCENT / 100) / PAGE * PAGE);
        }
        assert!(failures > 3, "the disk was hardly ever full");
        // Steps that succeeded are there for the next build, until they are forgotten.
        let cache = self.machine.root().join("build-cache");
        if cache.exists() {
            fs::remove_dir_all(cache).unwrap();
        }
        // Removing any image takes away the layers that none has.
        let empty = self.machine.path().join("empty.tar");
        expect_success(Command::new("tar").args(["--files-from", "/dev/null", "-cf"]).arg(&empty));
        expect_success(self.engine(&["import"]).arg(&empty).arg("empty"));
        self.remove_image("empty");
        assert_eq!(self.kept(), at_first, "left in the image store");
    }

    /// The error names a path on the disk and says what to do.
    fn assert_clear(&self, output: &Output, codes: &[i32], room: u64) {
        let said = text(output);
        let code = output.status.code().unwrap();
        assert!(codes.contains(&code), "with {room} bytes, {code}: {said}");
        for words in [self.disk.0.to_str().unwrap(), "free space"] {
            assert!(said.contains(words), "with {room} bytes, without {words:?}: {said}");
        }
        assert!(
            ["o space left on device", "disk is full"].iter().any(|words| said.contains(words)),
            "with {room} bytes: {said}"
        );
    }

    /// What the image store holds.
    fn kept(&self) -> BTreeSet<PathBuf> {
        let names = ["images", "references", "staging", "layers", "blobs/sha256"];
        names.into_iter().flat_map(|name| self.list(name)).collect()
    }

    fn list(&self, name: &str) -> BTreeSet<PathBuf> {
        let entries = fs::read_dir(self.machine.root().join("images").join(name));
        entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    }

    fn engine(&self, args: &[&str]) -> Command {
        self.machine.engine(args)
    }

    /// How a daemon ended that found no room to begin; none if it came to listen.
    fn daemon_is_refused(&self) -> Option<Output> {
        let mut command = self.machine.command("engine");
        command.arg("daemon").arg("-H").arg(format!("unix://{}", self.machine.socket().display()));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (mut said, mut line) = (BufReader::new(child.stderr.take().unwrap()), String::new());
        while said.read_line(&mut line).unwrap() > 0 {
            if line.contains("listening at") {
                child.kill().unwrap();
                child.wait().unwrap();
                return None;
            }
        }
        let status = child.wait().unwrap();
        Some(Output { status, stdout: Vec::new(), stderr: line.into_bytes() })
    }

    fn remove_image(&self, name: &str) {
        expect_success(&mut self.engine(&["rmi", name]));
    }

    /// Containers that were made but not started, or ended, are there to be looked at, as with Docker.
    fn remove_containers(&self) {
        let listed = expect_success(&mut self.engine(&["ps", "--all", "--quiet"])).stdout;
        for id in String::from_utf8(listed).unwrap().lines() {
            expect_success(&mut self.engine(&["rm", id]));
        }
    }

    /// Removes the images that were not there at first.
    fn remove_images(&self, at_first: &BTreeSet<PathBuf>) {
        for image in self.list("images").difference(at_first) {
            self.remove_image(image.file_stem().unwrap().to_str().unwrap());
        }
    }

    fn archive() -> PathBuf {
        built("engine").parent().unwrap().with_file_name("images/busybox.tar")
    }

    fn context(&self, dockerfile: &str, file: &[u8]) -> PathBuf {
        let dir = self.machine.checkout("context", &[("Dockerfile", dockerfile)]);
        fs::write(dir.with_file_name("file"), file).unwrap();
        dir.parent().unwrap().to_owned()
    }

    fn build(&self, context: &Path) -> Command {
        let mut command = self.engine(&["build", "--no-cache", "--tag", "new:1"]);
        command.arg(context);
        command
    }
}

#[test]
fn the_first_use_of_a_root_on_a_full_disk() {
    let mut failures = 0;
    // Each round begins with an empty disk: what was made by half is used by the next command, too.
    for room in (0..).step_by(4 * PAGE as usize) {
        let crowded = Crowded::new();
        crowded.disk.fill_but(room);
        let refused = crowded.daemon_is_refused();
        crowded.disk.free();
        expect_success(&mut crowded.engine(&["images"]));
        let Some(output) = refused else { break };
        crowded.assert_clear(&output, &[125], room);
        failures += 1;
    }
    assert!(failures > 3, "the disk was hardly ever full");
}

#[test]
fn an_import_onto_a_full_disk() {
    let crowded = Crowded::opened();
    let import = || {
        let mut command = crowded.engine(&["import"]);
        command.arg(Crowded::archive()).arg("new:1");
        command
    };
    crowded.with_ever_more_room(&[1], &import);
}

#[test]
fn a_load_onto_a_full_disk() {
    let crowded = Crowded::opened();
    crowded.machine.import();
    let archive = crowded.machine.path().join("saved.tar");
    expect_success(crowded.engine(&["save", "--output"]).arg(&archive).arg("busybox:latest"));
    crowded.remove_image("busybox:latest");
    let load = || {
        let mut command = crowded.engine(&["load", "--input"]);
        command.arg(&archive);
        command
    };
    crowded.with_ever_more_room(&[1], &load);
}

#[test]
fn a_pull_onto_a_full_disk() {
    let crowded = Crowded::opened();
    crowded.machine.import();
    let archive = crowded.machine.path().join("saved.tar");
    expect_success(crowded.engine(&["save", "--output"]).arg(&archive).arg("busybox:latest"));
    crowded.remove_image("busybox:latest");
    let registry = SlowRegistry::start();
    let name = registry.push(&archive, "new:1");
    let pull = || crowded.engine(&["pull", &name]);
    crowded.with_ever_more_room(&[1], &pull);
}

#[test]
fn a_copy_of_a_build_onto_a_full_disk() {
    let crowded = Crowded::opened();
    crowded.machine.import();
    let context = crowded.context("FROM busybox:latest\nCOPY file /copied\n", &[7; 100_000]);
    crowded.with_ever_more_room(&[1], &|| crowded.build(&context));
}

#[test]
fn a_command_of_a_build_onto_a_full_disk() {
    let crowded = Crowded::opened();
    crowded.machine.import();
    let pipeline = crowded.machine.checkout(
        "project",
        &[
            ("Dockerfile", "FROM busybox:latest\nRUN head -c 100000 /dev/zero >/written\n"),
            (
                "pipeline.yaml",
                "image: {build: .}\njobs: {it: {network: none, steps: [{run: echo all is well}]}}\n",
            ),
        ],
    );
    let run = || {
        let mut command = crowded.machine.command("worker");
        command.arg("run").arg(&pipeline);
        command
    };
    crowded.with_ever_more_room(&[1], &run);
}

#[test]
fn a_container_started_on_a_full_disk() {
    let crowded = Crowded::opened();
    crowded.machine.import();
    let run = || crowded.engine(&["run", "--name", "one", "--network", "none", "busybox:latest", "true"]);
    crowded.with_ever_more_room(&[125], &run);
}
