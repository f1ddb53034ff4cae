//! What a container may do: `--privileged`, `--cap-add`, `--security-opt`, `--device` and their like.

use std::path::PathBuf;

use engine::DeviceMapping;
use engine::runtime::Capabilities;
use engine::runtime::spec::{DeviceAccess, DeviceRule, Seccomp, Security};
use serde::Deserialize;
use serde_json::Value;

use crate::error::ApiError;

/// Members of `HostConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Privileges {
    privileged: bool,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    security_opt: Vec<String>,
    masked_paths: Option<Vec<PathBuf>>,
    readonly_paths: Option<Vec<PathBuf>>,
    devices: Vec<Device>,
    device_cgroup_rules: Vec<String>,
    device_requests: Vec<DeviceRequest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Device {
    path_on_host: PathBuf,
    path_in_container: PathBuf,
    cgroup_permissions: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DeviceRequest {
    driver: String,
    capabilities: Vec<Vec<String>>,
}

impl Privileges {
    pub(super) fn security(&self) -> Result<Security, ApiError> {
        if let Some(request) = self.device_requests.first() {
            return Err(no_driver(request));
        }
        let mut security = Security { capabilities: self.capabilities()?, ..Security::default() };
        for option in &self.security_opt {
            apply_option(option, &mut security)?;
        }
        if let Some(paths) = &self.masked_paths {
            security.masked_paths.clone_from(paths);
        }
        if let Some(paths) = &self.readonly_paths {
            security.read_only_paths.clone_from(paths);
        }
        for rule in &self.device_cgroup_rules {
            let invalid = || ApiError::Invalid(format!("invalid device cgroup rule format: '{rule}'"));
            security.device_rules.extend(device_rules(rule).ok_or_else(invalid)?);
        }
        if self.privileged {
            security.capabilities = Capabilities::all();
            security.seccomp = Seccomp::Unconfined;
            security.masked_paths.clear();
            security.read_only_paths.clear();
            security.all_devices = true;
            security.writable_sys = true;
        }
        Ok(security)
    }

    pub(super) fn devices(&self) -> Result<Vec<DeviceMapping>, ApiError> {
        let mapping = |device: &Device| {
            let host = device.path_on_host.clone();
            if !host.is_absolute() {
                return Err(ApiError::Invalid(format!(
                    "invalid device path {}: it is not absolute",
                    host.display()
                )));
            }
            let given = device.path_in_container.clone();
            let container = if given.as_os_str().is_empty() { host.clone() } else { given };
            let permissions = Some(device.cgroup_permissions.as_str()).filter(|text| !text.is_empty());
            let access = access(permissions.unwrap_or("rwm"));
            let invalid = || ApiError::Invalid(format!("invalid device mode: {}", device.cgroup_permissions));
            Ok(DeviceMapping { host, container, access: access.ok_or_else(invalid)? })
        };
        self.devices.iter().map(mapping).collect()
    }

    /// As Docker: `--cap-drop ALL --cap-add X` is X alone, and `--cap-add ALL --cap-drop X` all but X.
    fn capabilities(&self) -> Result<Capabilities, ApiError> {
        let named = |option: &str, names: &[String]| {
            names.iter().try_fold(Capabilities::NONE, |set, name| {
                let parsed: Result<Capabilities, _> = name.parse();
                let unknown = || format!("invalid {option}: unknown capability: {name:?}");
                parsed.map(|one| set.with(one)).map_err(|_| ApiError::Invalid(unknown()))
            })
        };
        let (add, drop) = (named("CapAdd", &self.cap_add)?, named("CapDrop", &self.cap_drop)?);
        let all = Capabilities::all();
        Ok(if drop == all {
            add
        } else if add == all {
            all.without(drop)
        } else {
            Capabilities::default_set().with(add).without(drop)
        })
    }
}

fn apply_option(option: &str, security: &mut Security) -> Result<(), ApiError> {
    let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
    match (name, value) {
        ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
        // Where the host has no such module, its labels have no effect.
        ("no-new-privileges", "false") | ("seccomp", "builtin") | ("label" | "apparmor", _) => {}
        ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
        ("systempaths", "unconfined") => {
            security.masked_paths.clear();
            security.read_only_paths.clear();
        }
        ("seccomp", profile) => {
            let broken =
                |e: serde_json::Error| ApiError::Invalid(format!("decoding seccomp profile failed: {e}"));
            let profile: Value = serde_json::from_str(profile).map_err(broken)?;
            security.seccomp = Seccomp::Profile(profile.to_string());
        }
        _ => return Err(ApiError::Invalid(format!("invalid --security-opt 2: {option:?}"))),
    }
    Ok(())
}

/// What a Docker without a driver for such devices says.
fn no_driver(request: &DeviceRequest) -> ApiError {
    let sets: Vec<String> = request.capabilities.iter().map(|set| format!("[{}]", set.join(" "))).collect();
    let text = format!(
        "could not select device driver {:?} with capabilities: [{}]",
        request.driver,
        sets.join(" ")
    );
    ApiError::Invalid(text)
}

/// `c 1:3 rwm`, `b 8:* r`, `a *:* rwm`.
fn device_rules(text: &str) -> Option<Vec<DeviceRule>> {
    let mut words = text.split(' ');
    let (kind, numbers, permissions) = (words.next()?, words.next()?, words.next()?);
    let (major, minor) = numbers.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let (major, minor, access) = (number(major)?, number(minor)?, access(permissions)?);
    let kinds: &[bool] = match kind {
        "c" => &[false],
        "b" => &[true],
        "a" => &[false, true],
        _ => return None,
    };
    let rules = kinds.iter().map(|&block| DeviceRule { block, major, minor, access }).collect();
    words.next().is_none().then_some(rules)
}

fn access(text: &str) -> Option<DeviceAccess> {
    let mut access = DeviceAccess { read: false, write: false, mknod: false };
    for letter in text.chars() {
        let place = match letter {
            'r' => &mut access.read,
            'w' => &mut access.write,
            'm' => &mut access.mknod,
            _ => return None,
        };
        if std::mem::replace(place, true) {
            return None;
        }
    }
    (!text.is_empty()).then_some(access)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(privileges: Value) -> Result<Security, String> {
        let privileges: Privileges = serde_json::from_value(privileges).unwrap();
        privileges.security().map_err(|e| e.message())
    }

    #[test]
    fn options_are_read() {
        let read = read(json!({
            "SecurityOpt": ["no-new-privileges", "label=disable", "apparmor=unconfined"],
            "MaskedPaths": ["/proc/kcore"], "DeviceCgroupRules": ["a *:* r", "c 10:200 rwm"],
        }))
        .unwrap();
        assert!(read.no_new_privileges);
        assert_eq!(read.masked_paths, [PathBuf::from("/proc/kcore")]);
        assert_eq!(read.device_rules.len(), 3);
        assert_eq!((read.device_rules[2].major, read.device_rules[2].minor), (Some(10), Some(200)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (privileges, says) in [
            (json!({"CapAdd": ["FLY"]}), "unknown capability: \"FLY\""),
            (json!({"SecurityOpt": ["magic=1"]}), "invalid --security-opt 2"),
            (json!({"SecurityOpt": ["seccomp={"]}), "decoding seccomp profile failed"),
            (json!({"DeviceCgroupRules": ["c 1:3 x"]}), "invalid device cgroup rule format: 'c 1:3 x'"),
            (
                json!({"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]}),
                "could not select device driver \"\" with capabilities: [[gpu]]",
            ),
        ] {
            let refused = read(privileges).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
        let devices = |device: Value| {
            let privileges: Privileges = serde_json::from_value(json!({ "Devices": [device] })).unwrap();
            privileges.devices()
        };
        assert!(devices(json!({"PathOnHost": "/dev/null", "CgroupPermissions": "rx"})).is_err());
        assert!(devices(json!({"PathOnHost": "null"})).is_err());
        assert_eq!(
            devices(json!({"PathOnHost": "/dev/null"})).unwrap()[0].container,
            PathBuf::from("/dev/null")
        );
    }
}
