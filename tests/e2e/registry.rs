//! Pulls from Debian's docker-registry, filled by skopeo.

mod server;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use engine_image::archive::{PackOptions, pack};
use engine_image::{
    ArchiveFormat, Credentials, Image, ImageConfig, ImageStore, PullError, PullEvent, PullOptions,
    Registries, StoreError,
};
use engine_types::{ErrorKind, Reference};
use rustix::fs::{CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use tempfile::TempDir;

pub(crate) use server::Registry;

/// What one connection through the cutting proxy may carry, in bytes.
const CUT_AFTER_BYTES: u64 = 300 * 1024;

fn name_at(address: SocketAddr, repository: &str) -> Reference {
    format!("{address}/{repository}").parse().unwrap()
}

/// A store of its own, with the proc file system of this machine.
struct Store {
    dir: TempDir,
    store: ImageStore,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&dir.path().join("images"), Path::new("/proc")).unwrap();
        Self { dir, store }
    }

    fn nothing_is_left(&self) {
        for name in ["staging", "layers", "images", "references"] {
            let left: Vec<_> = fs::read_dir(self.dir.path().join("images").join(name)).unwrap().collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

/// The image that the tests pull, its files, and the docker-archive to push it from.
struct Sample {
    dir: TempDir,
    source: Store,
    image: Image,
}

impl Sample {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("rootfs");
        make_tree(&root);
        let tar = pack(&root, PackOptions::default(), Vec::new()).unwrap().out;
        let source = Store::new();
        let mut config =
            ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
        config.config.env = vec!["A=b".into()];
        let base = source.store.import(&tar[..], config.clone(), None).unwrap();
        let staged = source.store.stage().unwrap();
        fs::write(staged.upper().join("second"), "layer").unwrap();
        rustix::fs::mknodat(CWD, staged.upper().join("gone"), FileType::CharacterDevice, Mode::empty(), 0)
            .unwrap();
        let hashed = staged.hash().unwrap();
        let layer = source.store.adopt(staged, Some(base.layers[0].chain_id), hashed).unwrap();
        config.rootfs.diff_ids = vec![base.layers[0].diff_id, layer.diff_id];
        let image = source.store.put_image(&config).unwrap();
        let mut archive = File::create(dir.path().join("image.tar")).unwrap();
        let names = vec!["sample:1".parse().unwrap()];
        source.store.save(&[(image.clone(), names)], &mut archive, ArchiveFormat::Docker).unwrap();
        Self { dir, source, image }
    }

    fn archive(&self) -> PathBuf {
        self.dir.path().join("image.tar")
    }

    #[track_caller]
    fn check(&self, store: &ImageStore, pulled: &Image) {
        assert_eq!(pulled.id, self.image.id);
        assert_eq!(pulled.config, self.image.config);
        let dirs = store.layer_dirs(pulled);
        assert_eq!(tree(&dirs[1]), tree(&self.dir.path().join("rootfs")));
        assert_eq!(tree(&dirs[0]), tree(&self.source.store.layer_dirs(&self.image)[0]));
    }
}

/// Some of everything that a file system can hold.
fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("dir/deep")).unwrap();
    fs::write(root.join("dir/file"), "text").unwrap();
    fs::hard_link(root.join("dir/file"), root.join("link")).unwrap();
    symlink("/dir/file", root.join("absolute")).unwrap();
    symlink("..", root.join("dir/up")).unwrap();
    fs::write(root.join("gone"), "").unwrap();
    fs::write(root.join("setuid"), "x").unwrap();
    rustix::fs::chown(
        root.join("setuid").as_path(),
        Some(Uid::from_raw(1000)),
        Some(Gid::from_raw(3_000_000)),
    )
    .expect("the e2e suite must run as root");
    fs::set_permissions(root.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(root.join("dir/deep"), fs::Permissions::from_mode(0o1777)).unwrap();
    // cap_net_raw+ep, as in linux/capability.h, struct vfs_cap_data.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(root.join("dir/file"), "security.capability", &capability, XattrFlags::empty())
        .unwrap();
    rustix::fs::setxattr(root.join("dir"), "user.note", b"a=b\nc", XattrFlags::empty()).unwrap();
    let null = rustix::fs::makedev(1, 3);
    let mode = Mode::from_raw_mode(0o620);
    rustix::fs::mknodat(CWD, root.join("null"), FileType::CharacterDevice, mode, null).unwrap();
    rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, mode, 0).unwrap();
    fs::write(root.join("n".repeat(250)), "long").unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    rustix::io::pwrite(&sparse, b"end", (8 << 20) - 3).unwrap();
    let mut noise = vec![0; 2 << 20];
    File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    fs::write(root.join("noise"), noise).unwrap();
    let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, root.join("dir/file"), &times, rustix::fs::AtFlags::empty()).unwrap();
    rustix::fs::utimensat(CWD, root.join("dir"), &times, rustix::fs::AtFlags::empty()).unwrap();
}

/// Everything about each file below `root` that a layer carries.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let kind = meta.file_type();
            let content = if kind.is_file() {
                format!("{:?} holes={}", fs::read(&path).unwrap(), meta.blocks() * 512 < meta.len() / 2)
            } else if kind.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if kind.is_char_device() {
                format!("device {}", meta.rdev())
            } else {
                String::new()
            };
            let links = if kind.is_dir() { 0 } else { meta.nlink() };
            let (mode, uid, gid) = (meta.mode(), meta.uid(), meta.gid());
            let (seconds, nanoseconds) = (meta.mtime(), meta.mtime_nsec());
            let xattrs = if kind.is_symlink() { Vec::new() } else { xattrs(&path) };
            // A whiteout's own time and mode mean nothing and are not carried.
            let about = if kind.is_char_device() && meta.rdev() == 0 {
                "whiteout".to_owned()
            } else {
                format!("{mode:o} {uid} {gid} {seconds}.{nanoseconds} {links} {xattrs:?} {content}")
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), about);
            if kind.is_dir() {
                waiting.push(path);
            }
        }
    }
    found
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = [0; 4096];
    let length = rustix::fs::listxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|&b| b == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = [0; 4096];
            let length =
                rustix::fs::getxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// Pulls and gives what was told meanwhile.
async fn pull(
    store: &ImageStore,
    name: &Reference,
    registries: Registries,
) -> (Result<Image, PullError>, Vec<PullEvent>) {
    let events = Mutex::new(Vec::new());
    let options = PullOptions { registries, platform: None };
    let result = store.pull(name, &options, &|event| events.lock().unwrap().push(event)).await;
    (result, events.into_inner().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_what_skopeo_pushed_to_the_last_attribute() {
    let (registry, sample) = (Registry::start(false), Sample::new());
    registry.push(&sample.archive(), "app:gzip", &[]);
    registry.push(&sample.archive(), "app:zstd", &["--dest-compress-format=zstd", "--format=oci"]);
    for tag in ["app:gzip", "app:zstd"] {
        let target = Store::new();
        let (image, events) = pull(&target.store, &registry.name(tag), Registries::default()).await;
        let image = image.unwrap();
        sample.check(&target.store, &image);
        let done = events.iter().filter(|event| matches!(event, PullEvent::LayerDone { .. })).count();
        assert_eq!(done, 2, "{events:?}");

        let (again, events) = pull(&target.store, &registry.name(tag), Registries::default()).await;
        assert_eq!(again.unwrap(), image);
        assert!(matches!(events.last(), Some(PullEvent::Done { up_to_date: true, .. })), "{events:?}");
        let Some(PullEvent::Done { digest, .. }) = events.last() else { unreachable!() };
        let pinned = registry.name("app").with_digest(*digest);
        assert_eq!(target.store.resolve(&pinned.to_string()).unwrap().id, image.id);
        let (by_digest, _) = pull(&Store::new().store, &pinned, Registries::default()).await;
        assert_eq!(by_digest.unwrap().id, image.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_the_image_for_this_machine_out_of_an_index() {
    let (registry, sample) = (Registry::start(false), Sample::new());
    registry.push(&sample.archive(), "app:amd64", &["--format=oci"]);
    let target = Store::new();
    let (_, events) = pull(&target.store, &registry.name("app:amd64"), Registries::default()).await;
    let Some(PullEvent::Done { digest, .. }) = events.last() else { panic!("{events:?}") };
    let size = fs::metadata(registry.blob(&digest.hex())).unwrap().len();
    let index = |architecture: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
            {{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{size},
            "platform":{{"os":"linux","architecture":"{architecture}"}}}}]}}"#
        )
    };
    let media_type = "application/vnd.oci.image.index.v1+json";
    let host = engine_image::Platform::host().architecture;
    registry.put_manifest("app", "here", media_type, &index(&host));
    registry.put_manifest("app", "elsewhere", media_type, &index("s390x"));
    let target = Store::new();
    let (image, _) = pull(&target.store, &registry.name("app:here"), Registries::default()).await;
    sample.check(&target.store, &image.unwrap());
    let (image, _) = pull(&target.store, &registry.name("app:elsewhere"), Registries::default()).await;
    let error = image.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let expected = format!("no matching manifest for linux/{host} in the manifest list entries of");
    assert!(error.to_string().starts_with(&expected), "{error}");
}

/// Passes connections on and cuts each, counted from 1, after so many bytes of answer. Without `ranges` it hides the
/// client's wish for a part, as a registry that knows none would.
fn cutting_proxy(
    upstream: SocketAddr,
    cut_after: impl Fn(u64) -> u64 + Send + 'static,
    ranges: bool,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let cuts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&cuts);
    std::thread::spawn(move || {
        for (number, client) in (1..).zip(listener.incoming()) {
            let cut_after = cut_after(number);
            let client = client.unwrap();
            let server = TcpStream::connect(upstream).unwrap();
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                if ranges {
                    _ = io::copy(&mut from_client, &mut to_server);
                } else {
                    pass_without_ranges(from_client, &to_server);
                }
            });
            let counter = Arc::clone(&counter);
            std::thread::spawn(move || {
                let passed = io::copy(&mut (&server).take(cut_after), &mut &client);
                if passed.is_ok_and(|passed| passed == cut_after) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                _ = client.shutdown(Shutdown::Both);
                _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    (address, cuts)
}

fn pass_without_ranges(from: TcpStream, mut to: &TcpStream) {
    for line in BufReader::new(from).split(b'\n') {
        let Ok(mut line) = line else { return };
        if line.to_ascii_lowercase().starts_with(b"range:") {
            line.splice(.."range".len(), *b"x-none");
        }
        line.push(b'\n');
        if to.write_all(&line).is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resumes_where_the_connection_broke() {
    let (registry, sample) = (Registry::start(false), Sample::new());
    registry.push(&sample.archive(), "app:1", &[]);
    let (proxy, cuts) = cutting_proxy(registry.address, |_| CUT_AFTER_BYTES, true);
    let target = Store::new();
    let (image, events) = pull(&target.store, &name_at(proxy, "app:1"), Registries::default()).await;
    sample.check(&target.store, &image.unwrap());
    // Two megabytes of noise need seven connections; starting over would never end.
    assert!(cuts.load(Ordering::Relaxed) >= 6, "{events:?}");
    assert!(
        events.iter().any(|event| matches!(event, PullEvent::LayerResumed { received, .. } if *received > 0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_over_where_the_registry_knows_no_ranges() {
    let (registry, sample) = (Registry::start(false), Sample::new());
    registry.push(&sample.archive(), "app:1", &[]);
    let (proxy, cuts) = cutting_proxy(registry.address, |number| number * CUT_AFTER_BYTES, false);
    let target = Store::new();
    let (image, events) = pull(&target.store, &name_at(proxy, "app:1"), Registries::default()).await;
    sample.check(&target.store, &image.unwrap());
    assert!(cuts.load(Ordering::Relaxed) > 0, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pulled_over_what_was_built_here_it_is_saved_as_the_registry_has_it() {
    let (registry, sample) = (Registry::start(false), Sample::new());
    registry.push(&sample.archive(), "app:1", &["--format=oci"]);
    let store = &sample.source.store;
    let (image, events) = pull(store, &registry.name("app:1"), Registries::default()).await;
    let Some(PullEvent::Done { digest, up_to_date: true }) = events.last() else { panic!("{events:?}") };
    let path = sample.dir.path().join("oci.tar");
    let names = vec![registry.name("app:1")];
    store.save(&[(image.unwrap(), names)], File::create(&path).unwrap(), ArchiveFormat::Oci).unwrap();
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "inspect", "--format", "{{.Digest}}"])
        .arg(format!("oci-archive:{}", path.display()))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), digest.to_string(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_may_have_one_layer_twice_and_a_damaged_blob_is_fetched_again() {
    let (registry, sample) = (Registry::start(false), Sample::new());
    let store = &sample.source.store;
    let mut config = sample.image.config.clone();
    let mut parent = sample.image.layers[1].chain_id;
    for _ in 0..2 {
        let staged = store.stage().unwrap();
        let hashed = staged.hash().unwrap();
        parent = store.adopt(staged, Some(parent), hashed).unwrap().chain_id;
        config.rootfs.diff_ids.push(hashed.diff_id);
    }
    let image = store.put_image(&config).unwrap();
    let archive = sample.dir.path().join("twice.tar");
    let names = vec!["twice:1".parse().unwrap()];
    store.save(&[(image.clone(), names)], File::create(&archive).unwrap(), ArchiveFormat::Docker).unwrap();
    registry.push(&archive, "twice:1", &[]);
    let target = Store::new();
    let pulled = pull(&target.store, &registry.name("twice:1"), Registries::default()).await.0.unwrap();
    assert_eq!((pulled.id, pulled.layers.len()), (image.id, 4));

    // The layers are gone but for their blobs, and the largest of those is damaged.
    let images = target.dir.path().join("images");
    fs::remove_dir_all(images.join("layers")).unwrap();
    fs::create_dir(images.join("layers")).unwrap();
    let blob = pulled.layers[0].blob.as_ref().unwrap();
    fs::write(images.join("blobs/sha256").join(blob.digest.hex()), "damaged").unwrap();
    let again = pull(&target.store, &registry.name("twice:1"), Registries::default()).await.0.unwrap();
    assert_eq!(again, pulled);
    assert_eq!(tree(&target.store.layer_dirs(&again)[3]), tree(&sample.dir.path().join("rootfs")));
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_up_on_a_connection_that_always_breaks() {
    let (registry, sample) = (Registry::start(false), Sample::new());
    registry.push(&sample.archive(), "app:1", &[]);
    let (proxy, _) = cutting_proxy(registry.address, |_| 10, true);
    let target = Store::new();
    let (image, _) = pull(&target.store, &name_at(proxy, "app:1"), Registries::default()).await;
    let error = image.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(error.to_string(), format!("failed to reach registry {proxy}"));
    target.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_refused_and_nothing_is_left() {
    let (registry, sample) = (Registry::start(false), Sample::new());
    registry.push(&sample.archive(), "app:1", &[]);
    let whole = Store::new();
    let (image, _) = pull(&whole.store, &registry.name("app:1"), Registries::default()).await;
    for layer in [0, 1] {
        let blob = image.as_ref().unwrap().layers[layer].blob.as_ref().unwrap();
        let path = registry.blob(&blob.digest.hex());
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 0x10;
        fs::write(&path, bad).unwrap();
        let target = Store::new();
        let (result, _) = pull(&target.store, &registry.name("app:1"), Registries::default()).await;
        let error = result.unwrap_err();
        let PullError::Store(StoreError::Digest { expected, .. }) = &error else { panic!("{error:?}") };
        assert_eq!((*expected, error.kind()), (blob.digest, ErrorKind::Corrupt));
        fs::write(&path, good).unwrap();
        let staging = fs::read_dir(target.dir.path().join("images/staging")).unwrap().count();
        assert_eq!(staging, 0);
        assert!(target.store.list().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asks_mirrors_first_and_falls_back() {
    let (registry, mirror, sample) = (Registry::start(false), Registry::start(false), Sample::new());
    registry.push(&sample.archive(), "library/app:1", &[]);
    // Docker Hub by name, answered by its mirror alone.
    let mirrors = |of: &str, addresses: Vec<String>| Registries {
        mirrors: BTreeMap::from([(of.to_owned(), addresses)]),
        ..Registries::default()
    };
    let target = Store::new();
    let hub = mirrors("docker.io", vec![format!("http://{}", registry.address)]);
    let (image, _) = pull(&target.store, &"app:1".parse().unwrap(), hub).await;
    sample.check(&target.store, &image.unwrap());
    assert_eq!(target.store.resolve("app:1").unwrap().id, sample.image.id);

    // A mirror that nobody listens on, one without the image, then the registry itself.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let host = registry.address.to_string();
    let fallback = mirrors(&host, vec![dead.to_string(), mirror.address.to_string()]);
    let target = Store::new();
    let (image, events) = pull(&target.store, &registry.name("library/app:1"), fallback).await;
    sample.check(&target.store, &image.unwrap());
    let failed = events.iter().filter_map(|event| match event {
        PullEvent::MirrorFailed { registry, .. } => Some(registry.clone()),
        _ => None,
    });
    assert_eq!(failed.collect::<Vec<_>>(), [dead.to_string(), mirror.address.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_auth_needs_the_right_password() {
    let (registry, sample) = (Registry::start(true), Sample::new());
    registry.push(&sample.archive(), "app:1", &["--dest-creds=user:secret"]);
    let with = |password: &str| Registries {
        credentials: BTreeMap::from([(
            registry.address.to_string(),
            Credentials { username: "user".into(), password: password.into() },
        )]),
        ..Registries::default()
    };
    let target = Store::new();
    for registries in [Registries::default(), with("wrong")] {
        let (image, _) = pull(&target.store, &registry.name("app:1"), registries).await;
        let error = image.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error:?}");
        let expected = format!("pull access denied for {}/app", registry.address);
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    target.nothing_is_left();
    let (image, _) = pull(&target.store, &registry.name("app:1"), with("secret")).await;
    sample.check(&target.store, &image.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_is_unknown_and_who_cannot_be_reached() {
    let (registry, target) = (Registry::start(false), Store::new());
    let name = registry.name("none:1");
    let (image, _) = pull(&target.store, &name, Registries::default()).await;
    let error = image.unwrap_err();
    assert_eq!(error.to_string(), format!("manifest for {name} not found: manifest unknown"));
    assert_eq!(error.kind(), ErrorKind::NotFound);

    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (image, _) = pull(&target.store, &name_at(dead, "app"), Registries::default()).await;
    let error = image.unwrap_err();
    assert_eq!(
        (error.to_string(), error.kind()),
        (format!("failed to reach registry {dead}"), ErrorKind::Unavailable,)
    );
    target.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_reads_what_we_save() {
    let (registry, sample) = (Registry::start(false), Sample::new());
    registry.push(&sample.archive(), "app:1", &[]);
    let target = Store::new();
    let (image, _) = pull(&target.store, &registry.name("app:1"), Registries::default()).await;
    let image = image.unwrap();
    for (format, transport) in
        [(ArchiveFormat::Docker, "docker-archive"), (ArchiveFormat::Oci, "oci-archive")]
    {
        let path = target.dir.path().join(transport);
        let names = vec![registry.name("app:1")];
        target.store.save(&[(image.clone(), names)], File::create(&path).unwrap(), format).unwrap();
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "inspect", "--config", "--raw"])
            .arg(format!("{transport}:{}", path.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(ImageConfig::from_slice(&output.stdout).unwrap(), image.config);
    }
}
