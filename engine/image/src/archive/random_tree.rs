//! Random trees of files for property tests.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

/// A file of a random tree.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    File { content: Vec<u8>, hole: bool },
    Symlink(String),
    Fifo,
    HardLink,
    Directory(Tree),
}

/// A directory's files by name.
pub(crate) type Tree = BTreeMap<String, (Node, Attributes)>;

#[derive(Debug, Clone)]
pub(crate) struct Attributes {
    mode: u32,
    uid: u32,
    mtime: (i64, i64),
    xattr: Option<Vec<u8>>,
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let uid = prop_oneof![Just(0), Just(1000), Just(3_000_000_000)];
    // ext4 with small inodes ends in 2038 and begins in 1901.
    let mtime = (-2_000_000_000..2_000_000_000_i64, prop_oneof![Just(0), 0..1_000_000_000_i64]);
    (0..0o10000_u32, uid, mtime, proptest::option::of(proptest::collection::vec(any::<u8>(), 1..40)))
        .prop_map(|(mode, uid, mtime, xattr)| Attributes { mode, uid, mtime, xattr })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]", "\\PC{1,8}", "[a-z]{150,200}"]
        .prop_map(|name| name.replace(['/', '\0'], "_"))
        .prop_filter("not a name", |name| !matches!(name.as_str(), "." | "..") && name.len() <= 255)
}

pub(crate) fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (proptest::collection::vec(any::<u8>(), 0..2000), any::<bool>())
            .prop_map(|(content, hole)| Node::File { content, hole }),
        "[a-z./]{1,120}".prop_map(Node::Symlink),
        Just(Node::Fifo),
        Just(Node::HardLink),
    ];
    let node = leaf.prop_recursive(3, 24, 6, |inner| {
        proptest::collection::btree_map(name(), (inner, attributes()), 0..6).prop_map(Node::Directory)
    });
    proptest::collection::btree_map(name(), (node, attributes()), 0..8)
}

/// Makes the tree on disk; a hard link goes to the last file before it.
pub(crate) fn make(dir: &Path, tree: &Tree, last: &mut Option<std::path::PathBuf>) {
    for (name, (node, attributes)) in tree {
        let path = dir.join(name);
        match node {
            Node::File { content, hole } => {
                fs::write(&path, content).unwrap();
                if *hole {
                    File::options()
                        .write(true)
                        .open(&path)
                        .unwrap()
                        .set_len(content.len() as u64 + 300_000)
                        .unwrap();
                }
                *last = Some(path.clone());
            }
            Node::Symlink(target) => symlink(target, &path).unwrap(),
            Node::Fifo => {
                rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
            }
            Node::HardLink => match last {
                Some(last) => fs::hard_link(last, &path).unwrap(),
                None => continue,
            },
            Node::Directory(children) => {
                fs::create_dir(&path).unwrap();
                make(&path, children, last);
            }
        }
        give(&path, node, attributes);
    }
}

fn give(path: &Path, node: &Node, attributes: &Attributes) {
    let (uid, gid) =
        (rustix::fs::Uid::from_raw(attributes.uid), rustix::fs::Gid::from_raw(attributes.uid / 2));
    let nofollow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(CWD, path, Some(uid), Some(gid), nofollow).unwrap();
    if !matches!(node, Node::Symlink(_)) {
        fs::set_permissions(path, fs::Permissions::from_mode(attributes.mode)).unwrap();
        let name = if matches!(node, Node::Fifo) { "trusted.test" } else { "user.test" };
        if let Some(value) = &attributes.xattr {
            rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
        }
    }
    let time = rustix::fs::Timespec { tv_sec: attributes.mtime.0, tv_nsec: attributes.mtime.1 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, nofollow).unwrap();
}

/// What is on disk, by path; files with several names by the first of them.
pub(crate) fn read_back(root: &Path) -> BTreeMap<std::path::PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut first_names = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                waiting.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort_unstable();
    for path in paths {
        let meta = path.symlink_metadata().unwrap();
        let relative = path.strip_prefix(root).unwrap().to_owned();
        let first = first_names.entry(meta.ino()).or_insert_with(|| relative.clone()).clone();
        let mut content = Vec::new();
        if meta.is_file() {
            File::open(&path).unwrap().read_to_end(&mut content).unwrap();
        } else if meta.is_symlink() {
            content = fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec();
        }
        let mut value = [0; 64];
        let xattrs = ["user.test", "trusted.test"].map(|name| {
            rustix::fs::lgetxattr(&path, name, &mut value[..]).ok().map(|length| value[..length].to_vec())
        });
        let about = format!(
            "{first:?} {:o} {} {} {}.{} {} {xattrs:?} {content:?}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.nlink() * u64::from(!meta.is_dir()),
        );
        found.insert(relative, about);
    }
    found
}
