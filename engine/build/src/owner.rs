use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use engine_image::archive::Owner;

use crate::error::Problem;
use crate::rootfs::Dir;

/// A passwd or group file longer than this is cut: some images bring hostile ones.
const FILE_MAX_BYTES: u64 = 16 << 20;

/// Finds whom `--chown` names; names are looked up in the image's own files.
///
/// As in BuildKit, a user's name without a group brings its own group, a number without a group is its own group.
pub(crate) fn resolve(value: &str, root: &Dir) -> Result<Owner, Problem> {
    let (user, group) = match value.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (value, None),
    };
    let unknown = |what, name: &str, file| Problem::UnknownOwner {
        value: value.to_owned(),
        what,
        name: name.to_owned(),
        file,
    };
    let (uid, own_gid) = match user.parse::<u32>() {
        Ok(uid) => (uid, uid),
        Err(_) if user.is_empty() => (0, 0),
        Err(_) => {
            let fields = find(root, "/etc/passwd", user)?;
            let id = |i: usize| fields.as_ref().and_then(|fields| fields.get(i)?.parse::<u32>().ok());
            id(2).zip(id(3)).ok_or_else(|| unknown("user", user, "/etc/passwd"))?
        }
    };
    let gid = match group {
        None => own_gid,
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => {
                let fields = find(root, "/etc/group", group)?;
                let gid = fields.and_then(|fields| fields.get(2)?.parse().ok());
                gid.ok_or_else(|| unknown("group", group, "/etc/group"))?
            }
        },
    };
    Ok(Owner { uid, gid })
}

/// The fields of the first line that begins with this name.
fn find(root: &Dir, path: &str, name: &str) -> Result<Option<Vec<String>>, Problem> {
    let resolved = root.resolve(Path::new(path), true)?;
    let Some(node) = resolved.node.filter(|node| node.meta.is_file()) else { return Ok(None) };
    let failed = |source: io::Error| Problem::Io { action: "read", path: node.path.clone(), source };
    let file = std::fs::File::open(&node.path).map_err(failed)?;
    for line in BufReader::new(file.take(FILE_MAX_BYTES)).split(b'\n') {
        let line = line.map_err(failed)?;
        let line = String::from_utf8_lossy(&line);
        let fields: Vec<_> = line.trim().split(':').map(str::to_owned).collect();
        if fields[0] == name {
            return Ok(Some(fields));
        }
    }
    Ok(None)
}
