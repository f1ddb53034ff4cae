use std::collections::HashSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use engine_types::{ErrorKind, Reference};
use tempfile::TempDir;

use super::*;
use crate::archive::{PackOptions, pack};
use crate::config::ImageConfig;

/// A store with a fake proc file system, so that tests can boot at will.
struct Fixture {
    dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(fixture.dir.path().join("proc/sys/kernel/random")).unwrap();
        fixture.boot("first");
        fixture
    }

    fn boot(&self, id: &str) {
        fs::write(self.dir.path().join("proc/sys/kernel/random/boot_id"), format!("{id}\n")).unwrap();
    }

    fn open(&self) -> ImageStore {
        ImageStore::open(&self.dir.path().join("store"), &self.dir.path().join("proc")).unwrap()
    }

    fn staging_is_empty(&self) {
        let left: Vec<_> = fs::read_dir(self.dir.path().join("store/staging")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn rootfs(text: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("bin")).unwrap();
    fs::write(dir.path().join("bin/sh"), text).unwrap();
    symlink("sh", dir.path().join("bin/ash")).unwrap();
    pack(dir.path(), PackOptions::default(), Vec::new()).unwrap().out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut out, bytes).unwrap();
    out.finish().unwrap()
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn import(store: &ImageStore, text: &str, tag: &str) -> Image {
    store.import(&rootfs(text)[..], ImageConfig::default(), Some(&name(tag))).unwrap()
}

/// An image with a layer that a build made on top.
fn build(store: &ImageStore, base: &Image, file: &str) -> Image {
    let staged = store.stage().unwrap();
    fs::write(staged.upper().join(file), "built").unwrap();
    let hashed = staged.hash().unwrap();
    let parent = base.layers.last().map(|layer| layer.chain_id);
    let layer = store.adopt(staged, parent, hashed).unwrap();
    let mut config = base.config.clone();
    config.rootfs.diff_ids.push(layer.diff_id);
    store.put_image(&config).unwrap()
}

#[test]
fn imports_plain_and_compressed_archives_alike() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let tar = rootfs("one");
    let plain = store.import(&tar[..], ImageConfig::default(), None).unwrap();
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    io::Write::write_all(&mut bzip2, &tar).unwrap();
    for compressed in [gzip(&tar), zstd, bzip2.finish().unwrap()] {
        let image = store.import(&compressed[..], ImageConfig::default(), None).unwrap();
        assert_eq!(image.id, plain.id);
    }
    let dir = &store.layer_dirs(&plain)[0];
    assert_eq!(fs::read_to_string(dir.join("bin/sh")).unwrap(), "one");
    assert_eq!(fs::read_link(dir.join("bin/ash")).unwrap(), Path::new("sh"));
    assert_eq!(plain.file_bytes, 3);
    fixture.staging_is_empty();
}

#[test]
fn a_failed_import_leaves_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let whole = gzip(&rootfs("text"));
    let error = store.import(&whole[..whole.len() / 2], ImageConfig::default(), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    let error = store.import(&b"no archive at all, whatever it is called"[..], ImageConfig::default(), None);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt);
    fixture.staging_is_empty();
    for dir in ["blobs/sha256", "layers", "images"] {
        assert!(names_in(&store.path(dir)).unwrap().is_empty(), "{dir}");
    }
}

#[test]
fn a_gzip_bomb_stops_at_the_limit() {
    let fixture = Fixture::new();
    let limits = Limits { bytes: 1 << 20, entries: 100 };
    let (root, proc) = (fixture.dir.path().join("store"), fixture.dir.path().join("proc"));
    let store = ImageStore::with_limits(&root, &proc, limits).unwrap();
    let bomb = gzip(&rootfs(&"\0".repeat(8 << 20)));
    let error = store.import(&bomb[..], ImageConfig::default(), None).unwrap_err();
    let StoreError::Unpack(error) = error else { panic!("{error:?}") };
    assert_eq!(error.to_string(), r#"archive exceeds the limit of 1048576 bytes at entry "bin/sh""#);
    fixture.staging_is_empty();
}

#[test]
fn resolves_names_ids_and_prefixes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = import(&store, "one", "busybox:1");
    let hex = image.id.0.hex();
    for found in
        ["busybox:1", "docker.io/library/busybox:1", &hex, &format!("sha256:{hex}"), &hex[..12], &hex[..1]]
    {
        assert_eq!(store.resolve(found).unwrap().id, image.id, "{found}");
    }
    let pinned = name("busybox").with_digest(sha256(b"manifest"));
    store.tag(image.id, &pinned).unwrap();
    assert_eq!(store.resolve(&pinned.to_string()).unwrap().id, image.id);
    let with_tag = format!("busybox:other@{}", sha256(b"manifest"));
    assert_eq!(store.resolve(&with_tag).unwrap().id, image.id);

    let error = store.resolve("busybox").unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        ("No such image: busybox:latest", ErrorKind::NotFound)
    );
    assert_eq!(store.resolve("UPPER").unwrap_err().to_string(), "No such image: UPPER");
}

#[test]
fn an_ambiguous_prefix_is_no_image() {
    let fixture = Fixture::new();
    let store = fixture.open();
    // Seventeen images have two whose ids begin with the same digit, which no name here is.
    let ids: Vec<_> = (0..17).map(|n| import(&store, &n.to_string(), "z").id.0.hex()).collect();
    let first = |hex: &String| hex[..1].to_owned();
    let twice = ids.iter().map(first).find(|digit| ids.iter().filter(|id| id.starts_with(digit)).count() > 1);
    assert_eq!(store.resolve(&twice.unwrap()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn the_last_tag_takes_its_digests_along() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = import(&store, "one", "a:1");
    store.tag(image.id, &name("a:2")).unwrap();
    store.tag(image.id, &name("b")).unwrap();
    store.tag(image.id, &name("a").with_digest(sha256(b"m"))).unwrap();
    let names = || {
        let summary = store.list().unwrap().remove(0);
        summary.references.iter().chain(&summary.digests).map(Reference::familiar_name).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["a", "a", "b", "a"]);
    store.untag(&name("a:1")).unwrap();
    assert_eq!(names(), ["a", "b", "a"]);
    store.untag(&name("a:2")).unwrap();
    assert_eq!(names(), ["b"]);
    assert_eq!(store.untag(&name("a:2")).unwrap_err().to_string(), "No such image: a:2");
}

#[test]
fn collects_only_what_nobody_needs() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let base = import(&store, "one", "base");
    let built = build(&store, &base, "new");
    assert_eq!(store.collect(&HashSet::new()).unwrap(), Reclaimed::default());

    store.remove(built.id).unwrap();
    let tip = built.layers[1].chain_id;
    // A container still runs on the built layer: its layers stay, the configuration goes.
    let reclaimed = store.collect(&HashSet::from([tip])).unwrap();
    assert_eq!((reclaimed.layers, reclaimed.blobs), (0, 1));
    assert_eq!(store.collect(&HashSet::new()).unwrap().layers, 1);
    assert_eq!(store.resolve("base").unwrap(), base);

    let hold = store.hold().unwrap();
    store.remove(base.id).unwrap();
    assert!(store.collect(&HashSet::new()).unwrap().postponed);
    drop(hold);
    let reclaimed = store.collect(&HashSet::new()).unwrap();
    assert_eq!((reclaimed.layers, reclaimed.blobs), (1, 2));
    assert!(names_in(&store.path("blobs/sha256")).unwrap().is_empty());
    fixture.staging_is_empty();
}

#[test]
fn adopting_the_same_layer_twice_keeps_the_first() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let base = import(&store, "one", "base");
    let first = build(&store, &base, "new");
    let inode = fs::metadata(&store.layer_dirs(&first)[0]).unwrap().ino();
    let second = store.stage().unwrap();
    fs::write(second.upper().join("new"), "built").unwrap();
    filetime_of(&store.layer_dirs(&first)[0].join("new"), &second.upper().join("new"));
    let hashed = second.hash().unwrap();
    let parent = base.layers.last().map(|layer| layer.chain_id);
    let layer = store.adopt(second, parent, hashed).unwrap();
    assert_eq!(layer.chain_id, first.layers[1].chain_id);
    assert_eq!(fs::metadata(&layer.path).unwrap().ino(), inode);
    fixture.staging_is_empty();
}

/// Gives `target` the times of `source`.
fn filetime_of(source: &Path, target: &Path) {
    let times = fs::FileTimes::new().set_modified(fs::metadata(source).unwrap().modified().unwrap());
    File::options().write(true).open(target).unwrap().set_times(times).unwrap();
}

#[test]
fn saves_and_loads_both_formats_with_the_same_ids() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let imported =
        store.import(&gzip(&rootfs("one"))[..], ImageConfig::default(), Some(&name("base:1"))).unwrap();
    let built = build(&store, &imported, "new");
    store.tag(built.id, &name("localhost:5000/app:2")).unwrap();
    let images =
        [(imported.clone(), vec![name("base:1")]), (built.clone(), vec![name("localhost:5000/app:2")])];
    for format in [ArchiveFormat::Docker, ArchiveFormat::Oci] {
        let mut archive = Vec::new();
        store.save(&images, &mut archive, format).unwrap();
        for archive in [gzip(&archive), zstd::encode_all(&archive[..], 1).unwrap(), archive] {
            let other = Fixture::new();
            let loaded = other.open().load(&archive[..]).unwrap();
            let ids: Vec<_> = loaded.iter().map(|l| l.image.id).collect();
            assert_eq!(ids, [imported.id, built.id]);
            assert_eq!(loaded[1].references, [name("localhost:5000/app:2")]);
            let again = other.open().resolve("localhost:5000/app:2").unwrap();
            let chains = |image: &Image| image.layers.iter().map(|l| l.chain_id).collect::<Vec<_>>();
            assert_eq!(chains(&again), chains(&built));
            assert_eq!(fs::read(other.open().layer_dirs(&again)[0].join("new")).unwrap(), b"built");
            other.staging_is_empty();
        }
    }
}

#[test]
fn refuses_to_save_a_layer_that_changed_on_disk() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let built = build(&store, &import(&store, "one", "base"), "new");
    fs::write(store.layer_dirs(&built)[0].join("new"), "other").unwrap();
    let error = store.save(&[(built, vec![])], io::sink(), ArchiveFormat::Oci).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
}

#[test]
fn refuses_archives_that_are_no_images_or_lie() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let error = store.load(&rootfs("one")[..]).unwrap_err();
    assert!(matches!(error, LoadError::NotAnArchive), "{error:?}");

    let image = import(&store, "one", "base");
    let mut archive = Vec::new();
    store.save(&[(image, vec![name("base")])], &mut archive, ArchiveFormat::Oci).unwrap();
    let place = archive.windows(3).position(|window| window == b"one").unwrap();
    archive[place] ^= 1;
    let other = Fixture::new();
    let error = other.open().load(&archive[..]).unwrap_err();
    assert!(matches!(error, LoadError::Store(StoreError::Digest { .. })), "{error:?}");
    other.staging_is_empty();
}

#[test]
fn a_link_in_an_image_archive_cannot_name_a_file_of_the_host() {
    let fixture = Fixture::new();
    let outside = fixture.dir.path().join("secret");
    fs::write(&outside, r#"[{"Config":"c","RepoTags":null,"Layers":[]}]"#).unwrap();
    let dir = tempfile::tempdir().unwrap();
    symlink(&outside, dir.path().join("manifest.json")).unwrap();
    let archive = pack(dir.path(), PackOptions::default(), Vec::new()).unwrap().out;
    let error = fixture.open().load(&archive[..]).unwrap_err();
    assert!(matches!(error, LoadError::NotAnArchive), "{error:?}");
}

#[test]
fn sweeps_what_the_dead_left_and_nothing_of_the_living() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let alive = store.stage().unwrap();
    let dead = fixture.dir.path().join("store/staging/dead");
    fs::create_dir_all(dead.join("layer/diff/x")).unwrap();
    fs::set_permissions(dead.join("layer/diff"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::write(fixture.dir.path().join("store/staging/dead-file"), "").unwrap();
    fixture.open();
    assert!(alive.upper().is_dir());
    assert!(!dead.exists());
    drop(alive);
    fixture.staging_is_empty();
}

#[test]
fn after_a_power_cut_unsynced_layers_are_made_again_or_dropped() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let synced = import(&store, "synced", "synced");
    store.sync().unwrap();
    let imported = import(&store, "imported", "imported");
    let built = build(&store, &imported, "new");
    store.tag(built.id, &name("built")).unwrap();
    let torn = store.layer_dirs(&imported)[0].join("bin/sh");
    fs::write(&torn, "").unwrap();
    let kept = fs::metadata(&store.layer_dirs(&synced)[0]).unwrap().ino();
    let half_written = store.blob_path(sha256(b"whole"));
    fs::write(&half_written, "who").unwrap();

    assert_eq!(fs::read(fixture.open().layer_dirs(&imported)[0].join("bin/sh")).unwrap(), b"");
    fixture.boot("second");
    let store = fixture.open();
    assert_eq!(fs::read(&torn).unwrap(), b"imported");
    assert_eq!(store.resolve("imported").unwrap(), imported);
    assert_eq!(fs::metadata(&store.layer_dirs(&synced)[0]).unwrap().ino(), kept);
    assert_eq!(store.resolve("built").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.list().unwrap().len(), 2);
    assert!(!half_written.exists());
    fixture.staging_is_empty();
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 16, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_committed_layer_is_the_same_after_save_and_load(tree in crate::archive::random_tree::tree()) {
        use crate::archive::random_tree::{make, read_back};
        let fixture = Fixture::new();
        let store = fixture.open();
        let staged = store.stage().unwrap();
        make(&staged.upper(), &tree, &mut None);
        let hashed = staged.hash().unwrap();
        let layer = store.adopt(staged, None, hashed).unwrap();
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids.push(layer.diff_id);
        let image = store.put_image(&config).unwrap();
        let mut archive = Vec::new();
        store.save(&[(image.clone(), vec![name("a")])], &mut archive, ArchiveFormat::Oci).unwrap();
        let other = Fixture::new();
        let loaded = other.open().load(&archive[..]).unwrap().remove(0).image;
        proptest::prop_assert_eq!(loaded.id, image.id);
        proptest::prop_assert_eq!(loaded.layers[0].chain_id, image.layers[0].chain_id);
        proptest::prop_assert_eq!(read_back(&other.open().layer_dirs(&loaded)[0]), read_back(&layer.path));
    }
}
