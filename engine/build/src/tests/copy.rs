use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn context(world: &World) {
    world.file("a.txt", "a");
    world.file("b.txt", "b");
    world.file("dir/one", "1");
    world.file("dir/sub/two", "2");
    symlink("one", world.request.context.join("dir/link")).unwrap();
    symlink("a.txt", world.request.context.join("link.txt")).unwrap();
    let script = world.file("bin/run", "#!");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Builds `FROM base` with these instructions and compares what the new layers hold.
async fn check(instructions: &str, expected: &[&str]) {
    let world = World::new();
    context(&world);
    let built = world.build(&format!("FROM base\n{instructions}\n")).await;
    assert_eq!(world.added(&built), expected, "{instructions}");
    assert_eq!(world.staged(), 0);
}

#[tokio::test]
async fn files_and_directories_go_where_docker_puts_them() {
    let dir = ["/new/link -> one", "/new/one 644 0:0 1", "/new/sub/ 755 0:0", "/new/sub/two 644 0:0 2"];
    let new = [&["/new/ 755 0:0"], &dir[..]].concat();
    check("COPY a.txt /x", &["/x 644 0:0 a"]).await;
    check("COPY a.txt /x/", &["/x/ 755 0:0", "/x/a.txt 644 0:0 a"]).await;
    check("COPY a.txt /srv", &["/srv/ 755 0:0", "/srv/a.txt 644 0:0 a"]).await;
    check("COPY a.txt x", &["/x 644 0:0 a"]).await;
    check("COPY a.txt .", &["/a.txt 644 0:0 a"]).await;
    check("COPY a.txt /p/q/r", &["/p/ 755 0:0", "/p/q/ 755 0:0", "/p/q/r 644 0:0 a"]).await;
    check("COPY a.txt b.txt /x/", &["/x/ 755 0:0", "/x/a.txt 644 0:0 a", "/x/b.txt 644 0:0 b"]).await;
    check(
        "COPY [\"a.txt\", \"b.txt\", \"/srv/\"]",
        &["/srv/ 755 0:0", "/srv/a.txt 644 0:0 a", "/srv/b.txt 644 0:0 b"],
    )
    .await;
    check("COPY dir /new", &new).await;
    check("COPY dir/ /new/", &new).await;
    check("COPY ./dir/. /new", &new).await;
    check("COPY /dir /new", &new).await;
    check("COPY ../dir /new", &new).await;
    check(
        "COPY *.txt /x/",
        &["/x/ 755 0:0", "/x/a.txt 644 0:0 a", "/x/b.txt 644 0:0 b", "/x/link.txt 644 0:0 a"],
    )
    .await;
    check(
        "COPY [ab].txt d?r/o* /x/",
        &["/x/ 755 0:0", "/x/a.txt 644 0:0 a", "/x/b.txt 644 0:0 b", "/x/one 644 0:0 1"],
    )
    .await;
    check("COPY a.txt nothing* /x/", &["/x/ 755 0:0", "/x/a.txt 644 0:0 a"]).await;
    check("COPY link.txt /x", &["/x 644 0:0 a"]).await;
    check("COPY dir/sub /x\nCOPY a.txt /x/two", &["/x/ 755 0:0", "/x/two 644 0:0 a"]).await;
    check("COPY --link bin/run /x", &["/x 755 0:0 #!"]).await;
}

#[tokio::test]
async fn owners_and_modes_are_as_asked() {
    check("COPY --chown=app a.txt /n/x", &["/n/ 755 1000:1001", "/n/x 644 1000:1001 a"]).await;
    check("COPY --chown=app:staff a.txt /x", &["/x 644 1000:50 a"]).await;
    check("COPY --chown=7 a.txt /x", &["/x 644 7:7 a"]).await;
    check("COPY --chown=7:8 a.txt /x", &["/x 644 7:8 a"]).await;
    check("COPY --chown=:staff a.txt /x", &["/x 644 0:50 a"]).await;
    check("ARG M=640\nCOPY --chmod=$M a.txt /x", &["/x 640 0:0 a"]).await;
    check("COPY --chmod=0700 dir/sub /x", &["/x/ 755 0:0", "/x/two 700 0:0 2"]).await;
    check("COPY --chmod=4755 bin/run /x", &["/x 4755 0:0 #!"]).await;
    check("COPY --chown=app a.txt /srv/", &["/srv/ 755 0:0", "/srv/a.txt 644 1000:1001 a"]).await;
}

#[tokio::test]
async fn paths_lead_through_the_links_of_lower_layers() {
    check("COPY a.txt /lib/x", &["/usr/ 755 0:0", "/usr/lib/ 755 0:0", "/usr/lib/x 644 0:0 a"]).await;
    check("WORKDIR /lib/deep", &["/usr/ 755 0:0", "/usr/lib/ 755 0:0", "/usr/lib/deep/ 755 0:0"]).await;
}

#[tokio::test]
async fn existing_directories_keep_what_they_are() {
    let world = World::new();
    world.image(
        "other",
        ImageConfig::default(),
        &[
            &|root| {
                fs::create_dir_all(root.join("keep/sub")).unwrap();
                fs::write(root.join("keep/old"), "old").unwrap();
                fs::set_permissions(root.join("keep"), fs::Permissions::from_mode(0o1777)).unwrap();
                std::os::unix::fs::chown(root.join("keep"), Some(3), Some(4)).unwrap();
            },
            &|_| {},
        ],
    );
    world.file("new", "new");
    let built = world.build("FROM other\nCOPY new /keep/\n").await;
    let dirs = world.store.layer_dirs(&built.image);
    let mut found = BTreeMap::new();
    list(&dirs[0], &dirs[0], &mut found);
    assert_eq!(found.into_values().collect::<Vec<_>>(), ["/keep/ 1777 3:4", "/keep/new 644 0:0 new"]);
    let root = world.root(&built.image);
    let keep = root.resolve(Path::new("/keep"), true).unwrap().node.unwrap().dir.unwrap();
    let names: Vec<_> = keep.entries().unwrap().into_keys().collect();
    assert_eq!(names, ["new", "old", "sub"], "the directory is merged, not opaque");
}

#[tokio::test]
async fn copies_from_stages_keep_owners_and_honour_whiteouts() {
    let world = World::new();
    world.image(
        "layered",
        ImageConfig::default(),
        &[
            &|root| {
                fs::create_dir_all(root.join("d/opaque")).unwrap();
                for name in ["d/gone", "d/kept", "d/opaque/below"] {
                    fs::write(root.join(name), name).unwrap();
                }
                std::os::unix::fs::chown(root.join("d/kept"), Some(5), Some(6)).unwrap();
            },
            &|root| {
                fs::create_dir_all(root.join("d/opaque")).unwrap();
                let char_device = rustix::fs::FileType::CharacterDevice;
                let mode = rustix::fs::Mode::empty();
                rustix::fs::mknodat(rustix::fs::CWD, root.join("d/gone"), char_device, mode, 0).unwrap();
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::lsetxattr(root.join("d/opaque"), "trusted.overlay.opaque", b"y", flags).unwrap();
            },
        ],
    );
    let built = world.build("FROM base\nCOPY --from=layered /d /n\n").await;
    assert_eq!(world.added(&built), ["/n/ 755 0:0", "/n/kept 644 5:6 d/kept", "/n/opaque/ 755 0:0"]);
}

#[tokio::test]
async fn ignored_files_do_not_exist() {
    let world = World::new();
    context(&world);
    world.file(".dockerignore", "*.txt\n!b.txt\ndir\n!dir/sub\n.dockerignore\nDockerfile\n");
    let built = world.build("FROM base\nCOPY . /x\n").await;
    assert_eq!(
        world.added(&built),
        [
            "/x/ 755 0:0",
            "/x/b.txt 644 0:0 b",
            "/x/bin/ 755 0:0",
            "/x/bin/run 755 0:0 #!",
            "/x/dir/ 755 0:0",
            "/x/dir/sub/ 755 0:0",
            "/x/dir/sub/two 644 0:0 2",
        ]
    );
    world.file("Dockerfile.dockerignore", "*\n!a.txt\n");
    let built = world.build("FROM base\nCOPY . /x\n").await;
    assert_eq!(
        world.added(&built),
        ["/x/ 755 0:0", "/x/a.txt 644 0:0 a"],
        "the Dockerfile's own list comes first"
    );
}

#[tokio::test]
async fn no_link_leads_out_of_the_context() {
    let world = World::new();
    fs::write(world.dir.path().join("secret"), "secret").unwrap();
    symlink("../secret", world.request.context.join("out")).unwrap();
    symlink(world.dir.path(), world.request.context.join("outdir")).unwrap();
    for source in ["out", "outdir/secret", "../secret", "outdir"] {
        let error =
            world.dockerfile(&format!("FROM base\nCOPY {source} /x\n")).try_build().await.unwrap_err();
        assert!(error.to_string().contains("not found in the build context"), "{source}: {error}");
    }
}

#[tokio::test]
async fn hard_links_stay_links() {
    use std::os::unix::fs::MetadataExt;
    let world = World::new();
    let first = world.file("d/first", "x");
    fs::hard_link(&first, world.request.context.join("d/second")).unwrap();
    let built = world.build("FROM base\nCOPY d /d\n").await;
    let root = world.root(&built.image);
    let inode = |path: &str| root.resolve(Path::new(path), true).unwrap().node.unwrap().meta.ino();
    assert_eq!(inode("/d/first"), inode("/d/second"));
}

#[tokio::test]
async fn add_unpacks_archives_and_only_those() {
    let world = World::new();
    context(&world);
    let tree = world.dir.path().join("tree");
    fs::create_dir_all(tree.join("lib")).unwrap();
    fs::write(tree.join("lib/inner"), "inner").unwrap();
    let options = engine_image::archive::PackOptions::default();
    let tar = engine_image::archive::pack(&tree, options, Vec::new()).unwrap().out;
    fs::write(world.request.context.join("files.tar"), tar).unwrap();
    let built = world.build("FROM base\nADD files.tar /x\nADD a.txt /\nADD files.tar /\n").await;
    assert_eq!(
        world.added(&built),
        [
            "/a.txt 644 0:0 a",
            "/lib/ 755 0:0",
            "/lib/inner 644 0:0 inner",
            "/x/ 755 0:0",
            "/x/lib/ 755 0:0",
            "/x/lib/inner 644 0:0 inner",
        ]
    );
    let built = world.build("FROM base\nCOPY files.tar /x\n").await;
    assert!(world.root(&built.image).resolve(Path::new("/x"), true).unwrap().node.unwrap().meta.is_file());
}

#[tokio::test]
async fn times_are_those_of_the_files() {
    use std::os::unix::fs::MetadataExt;
    let world = World::new();
    let file = world.file("d/f", "x");
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 7);
    for path in [&file, &world.request.context.join("d")] {
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
    let built = world.build("FROM base\nCOPY d /n\nCOPY d/f /added/\n").await;
    for path in ["/n", "/n/f", "/added/f"] {
        let meta = world.root(&built.image).resolve(Path::new(path), true).unwrap().node.unwrap().meta;
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000_000_000, 7), "{path}");
    }
}
