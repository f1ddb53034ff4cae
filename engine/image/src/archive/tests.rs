use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use engine_types::ErrorKind;
use proptest::prelude::*;
use rustix::fs::XattrFlags;
use tar::{EntryType, Header};
use tempfile::{TempDir, tempdir};

use super::random_tree::{make, read_back, tree};
use super::*;

/// One entry of a hand-made archive.
struct Made<'a> {
    name: &'a [u8],
    kind: EntryType,
    link: &'a [u8],
    content: &'a [u8],
}

fn file<'a>(name: &'a str, content: &'a str) -> Made<'a> {
    Made { name: name.as_bytes(), kind: EntryType::Regular, link: b"", content: content.as_bytes() }
}

fn entry<'a>(name: &'a str, kind: EntryType, link: &'a str) -> Made<'a> {
    Made { name: name.as_bytes(), kind, link: link.as_bytes(), content: b"" }
}

/// Writes headers as a hostile maker would: without any of a library's checks.
fn archive(entries: &[Made<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for made in entries {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..made.name.len()].copy_from_slice(made.name);
        old.linkname[..made.link.len()].copy_from_slice(made.link);
        header.set_entry_type(made.kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(made.content.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(made.content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A directory to unpack into, beside a file that must never change.
fn target() -> (TempDir, std::path::PathBuf) {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("outside"), "untouched").unwrap();
    let target = dir.path().join("target");
    fs::create_dir(&target).unwrap();
    (dir, target)
}

/// Unpacks, expects the error's text, and sees that nothing outside was touched.
#[track_caller]
fn check_refused(bytes: &[u8], options: &UnpackOptions, kind: ErrorKind, expected: &str) {
    let (dir, target) = target();
    let error = unpack(bytes, &target, options).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.kind(), kind);
    assert_eq!(fs::read_to_string(dir.path().join("outside")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

fn unpacked(entries: &[Made<'_>], options: &UnpackOptions) -> (TempDir, std::path::PathBuf) {
    let (dir, target) = target();
    unpack(&archive(entries)[..], &target, options).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("outside")).unwrap(), "untouched");
    (dir, target)
}

#[test]
fn refuses_names_that_leave() {
    let options = UnpackOptions::default();
    let refuse = |name: &str, reason: &str| {
        let expected = format!("unsafe archive entry {name:?}: the path {reason}");
        check_refused(&archive(&[file(name, "x")]), &options, ErrorKind::InvalidArgument, &expected);
    };
    refuse("/outside", "is absolute");
    refuse("../outside", "contains \"..\"");
    refuse("a/../../outside", "contains \"..\"");
}

#[test]
fn a_layer_may_name_its_files_from_the_root_but_not_above() {
    let options = UnpackOptions::layer(Limits::default());
    let (_dir, target) = unpacked(&[file("/etc/hostname", "x")], &options);
    assert_eq!(fs::read_to_string(target.join("etc/hostname")).unwrap(), "x");
    let expected = "unsafe archive entry \"/../outside\": the path contains \"..\"";
    check_refused(&archive(&[file("/../outside", "x")]), &options, ErrorKind::InvalidArgument, expected);
}

#[test]
fn links_are_followed_only_inside() {
    let rooted = UnpackOptions { rooted: true, ..UnpackOptions::default() };
    for up in ["..", "/", "/.."] {
        let entries =
            [entry("up", EntryType::Symlink, up), file("up/outside", "bad"), file("up/dir/x", "bad")];
        let expected = "unsafe archive entry \"up/outside\": the path leads out through a symbolic link";
        check_refused(&archive(&entries), &UnpackOptions::default(), ErrorKind::InvalidArgument, expected);
        let (_dir, target) = unpacked(&entries, &rooted);
        assert_eq!(
            fs::read_to_string(target.join("outside")).unwrap(),
            "bad",
            "the link means the root here"
        );
        assert!(target.join("dir/x").exists());
    }
    let entries =
        [entry("d", EntryType::Directory, ""), entry("in", EntryType::Symlink, "d"), file("in/x", "")];
    let (_dir, target) = unpacked(&entries, &UnpackOptions::default());
    assert!(target.join("d/x").exists());
    let entries = [entry("loop", EntryType::Symlink, "loop"), file("loop/x", "")];
    let expected = "unsafe archive entry \"loop/x\": the path leads through too many or magic symbolic links";
    check_refused(&archive(&entries), &rooted, ErrorKind::InvalidArgument, expected);
}

#[test]
fn a_file_in_place_of_a_link_replaces_the_link() {
    let entries = [entry("a", EntryType::Symlink, "../outside"), file("a", "bad")];
    let (_dir, target) = unpacked(&entries, &UnpackOptions::default());
    assert!(target.join("a").symlink_metadata().unwrap().is_file());
}

#[test]
fn hard_links_stay_inside() {
    let options = UnpackOptions::default();
    let refuse = |link: &str, expected: &str| {
        let bytes = archive(&[file("f", "x"), entry("l", EntryType::Link, link)]);
        check_refused(&bytes, &options, ErrorKind::InvalidArgument, expected);
    };
    refuse("../outside", "unsafe archive entry \"l\": hard link to \"../outside\": the path contains \"..\"");
    refuse("/etc/passwd", "unsafe archive entry \"l\": hard link to \"/etc/passwd\": the path is absolute");
    refuse("l", "unsafe archive entry \"l\": hard link to itself");
    refuse(".", "unsafe archive entry \"l\": hard link to the root directory");
    let absent = archive(&[entry("up", EntryType::Symlink, ".."), entry("l", EntryType::Link, "up/outside")]);
    let expected = "unsafe archive entry \"l\": the path leads out through a symbolic link";
    check_refused(&absent, &options, ErrorKind::InvalidArgument, expected);
}

#[test]
fn a_hard_link_to_a_symbolic_link_links_the_link() {
    let entries = [entry("s", EntryType::Symlink, "../outside"), entry("l", EntryType::Link, "s")];
    let (_dir, target) = unpacked(&entries, &UnpackOptions::default());
    assert_eq!(fs::read_link(target.join("l")).unwrap(), Path::new("../outside"));
}

#[test]
fn devices_only_where_allowed() {
    let bytes = archive(&[entry("null", EntryType::Char, "")]);
    let expected = "archive entry \"null\" is a device, which is not allowed here";
    check_refused(&bytes, &UnpackOptions::default(), ErrorKind::InvalidArgument, expected);
    let options = UnpackOptions { devices: true, ..UnpackOptions::default() };
    let (_dir, target) = unpacked(&[entry("null", EntryType::Char, "")], &options);
    assert_eq!(target.join("null").metadata().unwrap().rdev(), rustix::fs::makedev(1, 3));
}

#[test]
fn stops_at_its_limits() {
    let limits = Limits { bytes: 4096, entries: 2 };
    let options = UnpackOptions { limits, ..UnpackOptions::default() };
    let big = "x".repeat(5000);
    let expected = "archive exceeds the limit of 4096 bytes at entry \"big\"";
    check_refused(&archive(&[file("big", &big)]), &options, ErrorKind::InvalidArgument, expected);
    let expected = "archive exceeds the limit of 2 entries at entry \"c\"";
    let many = archive(&[file("a", ""), file("b", ""), file("c", "")]);
    check_refused(&many, &options, ErrorKind::InvalidArgument, expected);
}

#[test]
fn extension_headers_have_a_limit_of_their_own() {
    for kind in [EntryType::XHeader, EntryType::XGlobalHeader, EntryType::GNULongName, EntryType::GNULongLink]
    {
        let mut bytes = archive(&[entry("x", kind, "")]);
        // A claim of 8 GiB without the bytes: nothing may be reserved for it.
        bytes[124..136].copy_from_slice(b"77777777777\0");
        set_checksum(&mut bytes);
        let expected = "malformed archive after entry \"\": tar extension header of 8589934591 bytes at byte 0; \
                        the limit is 1048576 bytes";
        check_refused(&bytes, &UnpackOptions::default(), ErrorKind::Corrupt, expected);
    }
}

fn set_checksum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header[..512].iter().map(|&b| u32::from(b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn names_and_records_that_make_no_sense() {
    let long = format!("{}/x", "d".repeat(5000));
    let name = Made { name: b"L", kind: EntryType::GNULongName, link: b"", content: long.as_bytes() };
    let shown = "d".repeat(256);
    let expected = format!("unsafe archive entry {shown:?}: the path is longer than 4096 bytes");
    let options = UnpackOptions::default();
    check_refused(&archive(&[name, file("x", "")]), &options, ErrorKind::InvalidArgument, &expected);
    for bad in [
        "9999999999 path=x\n",
        "x path=y\n",
        "6 p=\n",
        "0 a=b\n",
        "99999999999999999999999 a=b\n",
        "7 size\n",
    ] {
        let name = Made { name: b"P", kind: EntryType::XHeader, link: b"", content: bad.as_bytes() };
        let expected = "malformed archive after entry \"\": malformed tar header at byte 0: PAX record";
        check_refused(&archive(&[name, file("x", "")]), &options, ErrorKind::Corrupt, expected);
    }
    let overflow = "29 size=18446744073709551615\n";
    let name = Made { name: b"P", kind: EntryType::XHeader, link: b"", content: overflow.as_bytes() };
    let expected = "malformed archive after entry \"\": malformed tar header at byte 1024: size";
    check_refused(&archive(&[name, file("x", "")]), &options, ErrorKind::Corrupt, expected);
}

#[test]
fn truncation_anywhere_but_between_entries_is_an_error() {
    let bytes = archive(&[file("a", "content"), file("b", &"x".repeat(600))]);
    for length in 0..bytes.len() - 1024 {
        let (_dir, target) = target();
        let result = unpack(&bytes[..length], &target, &UnpackOptions::default());
        // An archive may lack its end marker and its last padding, as with Docker; file data is never cut.
        let whole = length == 0 || (512 + 7..=1024).contains(&length) || length >= 1024 + 512 + 600;
        assert_eq!(result.is_ok(), whole, "{length}: {result:?}");
    }
}

#[test]
fn whiteouts_become_overlayfs_s_and_back() {
    let entries = [
        file(".wh.gone", ""),
        entry("dir", EntryType::Directory, ""),
        file("dir/.wh..wh..opq", ""),
        file("dir/kept", "x"),
        file(".wh..wh.plnk", ""),
    ];
    let (_dir, target) = unpacked(&entries, &UnpackOptions::layer(Limits::default()));
    let gone = target.join("gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(xattr(&target.join("dir"), OPAQUE_XATTR), b"y");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 2);

    let options = PackOptions { whiteouts: Whiteouts::Overlay, ..PackOptions::default() };
    let packed = pack(&target, options, Vec::new()).unwrap().out;
    let mut names = Vec::new();
    for entry in tar::Archive::new(&packed[..]).entries().unwrap() {
        names.push(entry.unwrap().path().unwrap().display().to_string());
    }
    assert_eq!(names, ["dir/", "dir/.wh..wh..opq", "dir/kept", ".wh.gone"]);
}

#[test]
fn a_whiteout_never_hides_what_its_own_layer_brings() {
    let options = UnpackOptions::layer(Limits::default());
    let directory = entry("d", EntryType::Directory, "");
    for entries in [[file(".wh.d", ""), directory], [entry("d", EntryType::Directory, ""), file(".wh.d", "")]]
    {
        let (_dir, target) = unpacked(&entries, &options);
        assert!(target.join("d").is_dir());
        assert_eq!(xattr(&target.join("d"), OPAQUE_XATTR), b"y", "what lies below is hidden");
    }
    let (_dir, target) = unpacked(&[file("f", "x"), file(".wh.f", "")], &options);
    assert_eq!(fs::read_to_string(target.join("f")).unwrap(), "x");
    for bad in [".wh.", ".wh..", ".wh..."] {
        let expected = format!("unsafe archive entry {bad:?}: a whiteout of no file");
        check_refused(&archive(&[file(bad, "")]), &options, ErrorKind::InvalidArgument, &expected);
    }
}

#[test]
fn overlayfs_s_own_attributes_do_not_pass() {
    let record = |name: &str, value: &str| {
        let rest = format!(" SCHILY.xattr.{name}={value}\n");
        format!("{}{rest}", rest.len() + 2)
    };
    let records = record("trusted.overlay.redirect", "/other") + &record("user.kept", "yes");
    let pax = Made { name: b"P", kind: EntryType::XHeader, link: b"", content: records.as_bytes() };
    let (_dir, target) = unpacked(&[pax, file("f", "x")], &UnpackOptions::layer(Limits::default()));
    assert_eq!(xattr(&target.join("f"), "user.kept"), b"yes");
    let redirect =
        rustix::fs::getxattr(target.join("f").as_path(), "trusted.overlay.redirect", &mut [0; 64][..]);
    assert_eq!(redirect, Err(rustix::io::Errno::NODATA));
}

#[test]
fn refuses_a_layer_that_depends_on_those_below() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("moved")).unwrap();
    let flags = XattrFlags::empty();
    rustix::fs::setxattr(dir.path().join("moved"), "trusted.overlay.redirect", b"old", flags).unwrap();
    let options = PackOptions { whiteouts: Whiteouts::Overlay, ..PackOptions::default() };
    let error = pack(dir.path(), options, Vec::new()).unwrap_err();
    let expected = "\"moved\" cannot be archived: it depends on its lower layers (trusted.overlay.redirect)";
    assert_eq!((error.to_string().as_str(), error.kind()), (expected, ErrorKind::Unsupported));
}

fn xattr(path: &Path, name: &str) -> Vec<u8> {
    let mut value = [0; 256];
    let length = rustix::fs::getxattr(path, name, &mut value[..]).unwrap();
    value[..length].to_vec()
}

#[test]
fn an_owner_can_be_given_to_all() {
    let (_dir, target) = target();
    let owner = Some(Owner { uid: 1000, gid: 2000 });
    let options = UnpackOptions { owner, ..UnpackOptions::default() };
    let entries =
        [entry("d", EntryType::Directory, ""), file("d/f", ""), entry("l", EntryType::Symlink, "x")];
    unpack(&archive(&entries)[..], &target, &options).unwrap();
    for name in ["d", "d/f", "l"] {
        let meta = target.join(name).symlink_metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1000, 2000), "{name}");
    }
}

#[test]
fn reads_every_compression() {
    let bytes = archive(&[file("f", "text")]);
    let write = |mut out: Box<dyn std::io::Write>| out.write_all(&bytes).unwrap();
    let dir = tempdir().unwrap();
    let path = dir.path().join("compressed");
    let create = || File::create(&path).unwrap();
    for compression in ["gzip", "zstd", "bzip2", "xz"] {
        match compression {
            "gzip" => write(Box::new(flate2::write::GzEncoder::new(create(), flate2::Compression::fast()))),
            "zstd" => write(Box::new(zstd::Encoder::new(create(), 1).unwrap().auto_finish())),
            "bzip2" => write(Box::new(bzip2::write::BzEncoder::new(create(), bzip2::Compression::fast()))),
            _ => write(Box::new(liblzma::write::XzEncoder::new(create(), 1))),
        }
        let (_dir, target) = target();
        unpack(File::open(&path).unwrap(), &target, &UnpackOptions::default()).unwrap();
        assert_eq!(fs::read_to_string(target.join("f")).unwrap(), "text", "{compression}");
    }
}

/// GNU tar makes the sparse files: the old format and the one with the map in the data.
#[test]
fn reads_gnu_tar_s_sparse_files() {
    let dir = tempdir().unwrap();
    let sparse = File::create(dir.path().join("sparse")).unwrap();
    sparse.set_len(4 << 20).unwrap();
    for (n, offset) in (0..40_u64).map(|n| (n, n * 100_000)) {
        rustix::io::pwrite(&sparse, format!("piece {n}").as_bytes(), offset).unwrap();
    }
    for format in ["--format=gnu", "--format=pax"] {
        let output = std::process::Command::new("tar")
            .args([format, "-cS", "-C"])
            .arg(dir.path())
            .arg("sparse")
            .output()
            .expect("tar must be installed");
        assert!(output.status.success() && output.stdout.len() < 2 << 20, "tar made no sparse entry");
        let (_dir, target) = target();
        unpack(&output.stdout[..], &target, &UnpackOptions::default()).unwrap();
        assert!(fs::read(target.join("sparse")).unwrap() == fs::read(dir.path().join("sparse")).unwrap());
        let meta = target.join("sparse").metadata().unwrap();
        assert!(meta.blocks() * 512 < meta.len(), "{format}: the holes are gone");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_comes_back(tree in tree()) {
        let (source, target) = (tempdir().unwrap(), tempdir().unwrap());
        make(source.path(), &tree, &mut None);
        let packed = pack(source.path(), PackOptions::default(), Vec::new()).unwrap().out;
        unpack(&packed[..], target.path(), &UnpackOptions::default()).unwrap();
        prop_assert_eq!(read_back(target.path()), read_back(source.path()));
        let again = pack(target.path(), PackOptions::default(), Vec::new()).unwrap().out;
        prop_assert!(again == packed, "the same tree gave other bytes");
    }

    #[test]
    fn damage_is_an_error_or_harmless_but_never_a_panic(
        tree in tree(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        fix_checksums in any::<bool>(),
    ) {
        let source = tempdir().unwrap();
        make(source.path(), &tree, &mut None);
        let mut packed = pack(source.path(), PackOptions::default(), Vec::new()).unwrap().out;
        for (place, byte) in damage {
            let place = place.index(packed.len());
            packed[place] = byte;
            let block = place / 512 * 512;
            if fix_checksums && packed.len() - block >= 512 {
                set_checksum(&mut packed[block..block + 512]);
            }
        }
        let (dir, target) = self::target();
        let limits = Limits { bytes: 64 << 20, entries: 1000 };
        let options = UnpackOptions { limits, ..UnpackOptions::default() };
        _ = unpack(&packed[..], &target, &options);
        prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        prop_assert_eq!(fs::read_to_string(dir.path().join("outside")).unwrap(), "untouched");
    }
}
