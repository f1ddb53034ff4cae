//! When layers and images are the same, and which steps run again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::builder::{Base, Builder as _};
use crate::ours::Ours;
use serde_json::Value;

const DOCKERFILE: &str = "FROM busybox
ARG used=1
COPY first /first
COPY second /second
RUN echo $used >/used
";

/// A context and our engine.
struct Project {
    ours: Ours,
    dir: PathBuf,
}

/// What a build made.
#[derive(Debug)]
struct Made {
    id: String,
    layers: Vec<String>,
    /// Whether each of the three steps came from the cache.
    cached: Vec<bool>,
}

impl Project {
    fn new() -> Self {
        let ours = Ours::new(&Base::new());
        let dir = ours.world.dir("project");
        let project = Self { ours, dir };
        project.write("Dockerfile", DOCKERFILE);
        project.write("first", "1");
        project.write("second", "2");
        project
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.dir.join(name), content).unwrap();
    }

    fn build(&self, flags: &[&str]) -> Made {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let output = self.ours.build(&self.dir, "made", &flags);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let said = String::from_utf8(output.stderr).unwrap();
        let cached = |n: u32| said.contains(&format!("[stage-0 {n}/4] cached"));
        Made { layers: self.layers(&id), id, cached: (2..5).map(cached).collect() }
    }

    fn layers(&self, id: &str) -> Vec<String> {
        let hex = id.strip_prefix("sha256:").unwrap();
        let config = fs::read(self.ours.world.root().join("images/blobs/sha256").join(hex)).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        let layers = config["rootfs"]["diff_ids"].as_array().unwrap();
        layers.iter().map(|layer| layer.as_str().unwrap().to_owned()).collect()
    }
}

fn touch(path: &Path, time: SystemTime) {
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_build_from_the_cache_is_the_same_image() {
    let project = Project::new();
    let first = project.build(&[]);
    assert_eq!(first.cached, [false; 3]);
    let again = project.build(&[]);
    assert_eq!((again.cached, again.id), (vec![true; 3], first.id));
}

#[test]
fn a_build_without_the_cache_has_the_same_copied_layers() {
    let project = Project::new();
    let first = project.build(&[]);
    let again = project.build(&["--no-cache"]);
    assert_eq!(again.cached, [false; 3]);
    assert_eq!(again.layers[..3], first.layers[..3], "the base and what is copied with its own time");
    assert_eq!(project.build(&[]).id, again.id, "the newer result is remembered");
}

#[test]
fn only_steps_that_depend_on_a_change_run_again() {
    let project = Project::new();
    let first = project.build(&[]);

    touch(&project.dir.join("first"), SystemTime::UNIX_EPOCH);
    touch(&project.dir.join("second"), SystemTime::UNIX_EPOCH);
    project.write("unrelated", "new");
    let touched = project.build(&[]);
    assert_eq!((touched.cached, &touched.id), (vec![true; 3], &first.id), "times and other files");
    assert_eq!(project.build(&["--build-arg", "unknown=1"]).id, first.id, "an argument nobody declares");

    project.write("second", "changed");
    let changed = project.build(&[]);
    assert_eq!(changed.cached, [true, false, false], "a file that the second copy reads");
    assert_eq!(changed.layers[..2], first.layers[..2]);
    project.write("second", "2");
    assert_eq!(project.build(&[]).id, first.id, "what was before is still known");

    assert_eq!(
        project.build(&["--build-arg", "used=2"]).cached,
        [true, true, false],
        "an argument a command sees"
    );
    assert_eq!(project.build(&["--build-arg", "used=1"]).id, first.id, "its default, given");
    assert_ne!(project.build(&["--label", "new=1"]).id, first.id, "a label is part of the image");
}
