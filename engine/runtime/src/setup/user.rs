//! Users and groups by the image's own passwd and group files, as Docker resolves them.

use std::fs;
use std::io;
use std::path::Path;

use super::root::{Root, magic_path};
use crate::error::{Context, SetupError, Step};

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory; `/` if none is known.
    pub home: String,
}

/// Resolves `user`, `user:group`, `uid` or `uid:gid` and additional groups, by the files below `etc`. A missing file
/// is an empty one.
pub(crate) fn resolve(etc: &Path, user: &str, additional: &[String]) -> Result<User, SetupError> {
    let passwd = read(&etc.join("passwd"))?;
    let group = read(&etc.join("group"))?;
    resolve_in(&passwd, &group, user, additional)
}

/// Resolves a user as [`resolve`] does, in a root file system that is not entered yet.
pub(super) fn resolve_within(root: &Root, user: &str) -> Result<User, SetupError> {
    let read_within = |path: &str| match root.resolve(Path::new(path)) {
        Ok(file) => read(&magic_path(&file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e).step_at(Step::Passwd, path),
    };
    resolve_in(&read_within("/etc/passwd")?, &read_within("/etc/group")?, user, &[])
}

fn read(path: &Path) -> Result<String, SetupError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e).step_at(Step::Passwd, path),
    }
}

/// Resolves `user`, `user:group`, `uid` or `uid:gid` (empty is root) and additional groups by the text of a passwd and a
/// group file, as Docker does.
///
/// # Errors
/// [`SetupError::NoSuchUser`] and [`SetupError::NoSuchGroup`] for names that are in neither.
pub fn resolve_in(passwd: &str, group: &str, user: &str, additional: &[String]) -> Result<User, SetupError> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let entry = passwd.lines().map(fields).find(|f| f.first() == Some(&name) || f.get(2) == Some(&name));
    let field = |n: usize| entry.as_ref().and_then(|f| f.get(n).copied());
    let uid = match field(2) {
        Some(uid) => uid.parse().ok(),
        None => name.parse().ok(),
    };
    let uid = uid.ok_or_else(|| SetupError::NoSuchUser(name.to_owned()))?;
    let gid = match group_name {
        Some(wanted) => group_id(group, wanted)?,
        None => field(3).and_then(|gid| gid.parse().ok()).unwrap_or(0),
    };
    let mut groups = Vec::new();
    if let (Some(login), None) = (field(0), group_name) {
        let memberships =
            group.lines().map(fields).filter(|f| f.get(3).is_some_and(|m| m.split(',').any(|n| n == login)));
        groups.extend(memberships.filter_map(|f| f.get(2)?.parse::<u32>().ok()));
    }
    for wanted in additional {
        groups.push(group_id(group, wanted)?);
    }
    groups.sort_unstable();
    groups.dedup();
    let home = field(5).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    Ok(User { uid, gid, groups, home })
}

fn group_id(group: &str, wanted: &str) -> Result<u32, SetupError> {
    let entry = group.lines().map(fields).find(|f| f.first() == Some(&wanted) || f.get(2) == Some(&wanted));
    let id = entry.as_ref().and_then(|f| f.get(2).copied()).unwrap_or(wanted);
    id.parse().map_err(|_| SetupError::NoSuchGroup(wanted.to_owned()))
}

fn fields(line: &str) -> Vec<&str> {
    line.trim_end().split(':').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root,ann\naudio:x:29:ann\n";

    #[track_caller]
    fn check(user: &str, additional: &[&str], expected: (u32, u32, &[u32], &str)) {
        let additional: Vec<String> = additional.iter().map(ToString::to_string).collect();
        let got = resolve_in(PASSWD, GROUP, user, &additional).unwrap();
        assert_eq!((got.uid, got.gid, got.groups.as_slice(), got.home.as_str()), expected);
    }

    #[test]
    fn resolves_as_docker_does() {
        check("", &[], (0, 0, &[10], "/root"));
        check("ann", &[], (1000, 100, &[10, 29], "/home/ann"));
        check("1000", &[], (1000, 100, &[10, 29], "/home/ann"));
        check("ann:wheel", &[], (1000, 10, &[], "/home/ann"));
        check("1234", &[], (1234, 0, &[], "/"));
        check("1234:5678", &[], (1234, 5678, &[], "/"));
        check("ann", &["audio", "77"], (1000, 100, &[10, 29, 77], "/home/ann"));
    }

    #[test]
    fn names_the_unknown() {
        let error = resolve_in(PASSWD, GROUP, "bob", &[]).unwrap_err();
        assert_eq!(error.to_string(), "unable to find user bob: no matching entries in passwd file");
        let error = resolve_in(PASSWD, GROUP, "ann:nope", &[]).unwrap_err();
        assert_eq!(error.to_string(), "unable to find group nope: no matching entries in group file");
    }
}
