use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use engine::image::archive::Owner;
use engine::types::Paths;

use super::*;
use crate::workspace::SnapshotStore;

const HOME: &str = "/home/ann";

/// A store, and roots of containers to save from and restore to.
struct World {
    dir: TempDir,
    store: CacheStore,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = CacheStore::open(dir.path().join("caches"), "shop").unwrap();
        Self { dir, store }
    }

    fn root(&self, name: &str) -> PathBuf {
        let root = self.dir.path().join(name);
        fs::create_dir_all(root.join("workspace")).unwrap();
        root
    }

    fn write(&self, root: &str, path: &str, text: &str) {
        let path = self.root(root).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, root: &str, path: &str) -> Option<String> {
        fs::read_to_string(self.root(root).join(path)).ok()
    }

    fn inside(&self, root: &str) -> Inside {
        Inside::new(File::open(self.root(root)).unwrap().into())
    }

    fn save(&self, root: &str, key: &str, paths: &[&str]) -> Result<bool, CacheError> {
        self.store.save(&self.inside(root), Path::new(HOME), key, &strings(paths))
    }

    fn restore(&self, root: &str, key: &str, paths: &[&str]) -> Result<bool, CacheError> {
        self.store.restore(&self.inside(root), &ann(), key, &strings(paths))
    }

    fn archive(&self, key: &str, paths: &[&str]) -> PathBuf {
        self.store.dir(key, &strings(paths)).join("0.tar.zst")
    }

    /// What is in the store, complete or not.
    fn entries(&self) -> usize {
        fs::read_dir(&self.store.root).unwrap().count()
    }
}

fn ann() -> Account {
    Account { owner: Owner { uid: 1000, gid: 100 }, home: HOME.into() }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn what_was_saved_is_restored_elsewhere() {
    let world = World::new();
    let paths = ["target", "~/.cargo/registry", "/var/cache/apt", "Cargo.lock", "absent"];
    world.write("a", "workspace/target/deep/o", "object");
    world.write("a", "home/ann/.cargo/registry/i", "index");
    world.write("a", "var/cache/apt/p", "package");
    world.write("a", "workspace/Cargo.lock", "lock");
    let tool = world.root("a").join("workspace/target/deep/o");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o751)).unwrap();
    symlink("/nowhere", world.root("a").join("workspace/target/link")).unwrap();
    assert!(!world.restore("b", "k", &paths).unwrap());
    assert!(world.save("a", "k", &paths).unwrap());
    assert!(world.restore("b", "k", &paths).unwrap());
    assert_eq!(world.read("b", "workspace/target/deep/o").unwrap(), "object");
    assert_eq!(world.read("b", "home/ann/.cargo/registry/i").unwrap(), "index");
    assert_eq!(world.read("b", "var/cache/apt/p").unwrap(), "package");
    assert_eq!(world.read("b", "workspace/Cargo.lock").unwrap(), "lock");
    let restored = world.root("b").join("workspace/target");
    assert_eq!(restored.join("deep/o").metadata().unwrap().mode() & 0o7777, 0o751);
    for path in ["workspace/target/deep/o", "workspace/target/link", "home/ann/.cargo", "var/cache/apt/p"] {
        let meta = world.root("b").join(path).symlink_metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1000, 100), "{path}");
    }
    assert_eq!(fs::read_link(restored.join("link")).unwrap(), Path::new("/nowhere"));
    assert_eq!(world.entries(), 1);
}

#[test]
fn a_key_stands_for_one_content_of_one_repository_and_list_of_paths() {
    let world = World::new();
    world.write("a", "workspace/f", "1");
    assert!(world.save("a", "k", &["f"]).unwrap());
    world.write("a", "workspace/f", "2");
    assert!(!world.save("a", "k", &["f"]).unwrap());
    assert!(world.restore("b", "k", &["f"]).unwrap());
    assert_eq!(world.read("b", "workspace/f").unwrap(), "1");
    assert!(!world.restore("b", "other", &["f"]).unwrap());
    assert!(!world.restore("b", "k", &["f", "g"]).unwrap());
    let other = CacheStore::open(world.store.root.clone(), "other").unwrap();
    assert!(!other.restore(&world.inside("b"), &ann(), "k", &strings(&["f"])).unwrap());
}

#[test]
fn links_of_the_container_lead_nowhere_else() {
    let world = World::new();
    fs::create_dir(world.dir.path().join("outside")).unwrap();
    world.write("a", "home/ann/x/f", "1");
    world.save("a", "k", &["~/x/f"]).unwrap();
    fs::create_dir_all(world.root("b").join("home/ann")).unwrap();
    symlink("../../../outside", world.root("b").join("home/ann/x")).unwrap();
    // In the container the link dangles.
    assert!(matches!(world.restore("b", "k", &["~/x/f"]), Err(CacheError::Io { .. })));
    fs::create_dir(world.root("b").join("outside")).unwrap();
    assert!(world.restore("b", "k", &["~/x/f"]).unwrap());
    assert_eq!(world.read("b", "outside/f").unwrap(), "1");
    assert_eq!(fs::read_dir(world.dir.path().join("outside")).unwrap().count(), 0);
}

#[test]
fn a_damaged_entry_is_removed() {
    let world = World::new();
    world.write("a", "workspace/f", &"text ".repeat(1000));
    for damage in [&b"garbage"[..], b""] {
        world.save("a", "k", &["f"]).unwrap();
        fs::write(world.archive("k", &["f"]), damage).unwrap();
        let error = world.restore("b", "k", &["f"]).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.kind()),
            ("cache k was damaged and is removed", ErrorKind::Corrupt)
        );
        assert_eq!(world.entries(), 0);
        assert!(!world.restore("b", "k", &["f"]).unwrap());
    }
}

#[test]
fn a_flipped_bit_is_noticed() {
    let world = World::new();
    let noise: String = (0..2000_u32).map(|i| char::from(b'a' + (i * i % 26) as u8)).collect();
    world.write("a", "workspace/f", &noise);
    world.save("a", "k", &["f"]).unwrap();
    let path = world.archive("k", &["f"]);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(world.restore("b", "k", &["f"]), Err(CacheError::Damaged { .. })));
}

#[test]
fn a_place_that_cannot_be_written_is_not_the_entrys_fault() {
    let world = World::new();
    world.write("a", "workspace/d/f", "1");
    world.save("a", "k", &["d/f"]).unwrap();
    world.write("b", "workspace/d", "a file in the place of the directory");
    assert!(matches!(world.restore("b", "k", &["d/f"]), Err(CacheError::Io { .. })));
    assert_eq!(world.entries(), 1);
}

#[test]
fn the_least_recently_used_make_room() {
    let mut world = World::new();
    world.write("a", "workspace/f", "1");
    for key in ["old", "used", "older"] {
        world.save("a", key, &["f"]).unwrap();
    }
    let age = |key: &str, seconds| {
        let dir = File::open(world.store.dir(key, &strings(&["f"]))).unwrap();
        dir.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    };
    age("older", 1);
    age("used", 2);
    age("old", 3);
    assert!(world.restore("b", "used", &["f"]).unwrap());
    world.store.max_bytes = 2 * fs::metadata(world.archive("old", &["f"])).unwrap().len();
    world.save("a", "new", &["f"]).unwrap();
    let left: Vec<bool> =
        ["older", "old", "used", "new"].map(|key| world.archive(key, &["f"]).exists()).to_vec();
    assert_eq!(left, [false, false, true, true]);
    assert_eq!(world.entries(), 2);
}

#[test]
fn what_is_read_is_not_taken_away() {
    let mut world = World::new();
    world.write("a", "workspace/f", "1");
    world.save("a", "read", &["f"]).unwrap();
    let reader = open_dir(&world.store.dir("read", &strings(&["f"]))).unwrap();
    rustix::fs::flock(&reader, FlockOperation::LockShared).unwrap();
    world.store.max_bytes = 0;
    world.save("a", "new", &["f"]).unwrap();
    assert!(world.archive("read", &["f"]).exists());
}

#[test]
fn a_failed_save_leaves_nothing() {
    let world = World::new();
    world.write("a", "workspace/f", "1");
    world.write("a", "workspace/file", "no directory");
    assert!(world.save("a", "k", &["f", "file/below"]).is_err());
    assert_eq!(world.entries(), 0);
}

#[test]
fn what_the_dead_left_is_swept_and_what_the_living_write_is_not() {
    let world = World::new();
    let living = world.store.aside().unwrap();
    let dead = world.store.root.join(".new-dead");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("0.tar.zst"), "half").unwrap();
    CacheStore::open(world.store.root.clone(), "shop").unwrap();
    assert!(!dead.exists() && living.dir.path().exists());
}

#[test]
fn savers_at_the_same_time_agree() {
    let world = World::new();
    world.write("a", "workspace/f", "1");
    let saved: usize = std::thread::scope(|scope| {
        let savers: Vec<_> = (0..8).map(|_| scope.spawn(|| world.save("a", "k", &["f"]).unwrap())).collect();
        savers.into_iter().map(|saver| usize::from(saver.join().unwrap())).sum()
    });
    assert_eq!((saved, world.entries()), (1, 1));
    assert!(world.restore("b", "k", &["f"]).unwrap());
}

#[test]
fn hashes_follow_names_contents_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = SnapshotStore::open(&Paths::host(dir.path(), dir.path())).unwrap();
    let hash = |files: &[(&str, &str)], link: Option<&str>, pattern: &str| {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            crate::test_git::write(root.path(), path, text);
        }
        if let Some(target) = link {
            symlink(target, root.path().join("link.lock")).unwrap();
        }
        let snapshot = snapshots.take(root.path(), &|| false).unwrap();
        hash_files(&snapshot, pattern).unwrap()
    };
    let first = hash(&[("a.lock", "1"), ("b/c.lock", "2"), ("other", "x")], None, "**/*.lock");
    assert_eq!(first.len(), 64);
    assert_eq!(first, hash(&[("a.lock", "1"), ("b/c.lock", "2"), ("other", "y")], None, "**/*.lock"));
    for other in [
        hash(&[("a.lock", "2"), ("b/c.lock", "1")], None, "**/*.lock"),
        hash(&[("a.lock", "1"), ("b/d.lock", "2")], None, "**/*.lock"),
        hash(&[("a.lock", "1"), ("b/c.lock", "2")], None, "*.lock"),
        hash(&[("a.lock", "1"), ("b/c.lock", "2")], Some("x"), "**/*.lock"),
    ] {
        assert_ne!(first, other);
    }
    assert_eq!(hash(&[("a.lock", "1")], None, "none"), "");
}
