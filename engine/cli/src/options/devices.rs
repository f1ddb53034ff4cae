use serde_json::{Value, json};

use super::{csv, pairs};
use crate::units::parse_size;

/// Reads `source[:target][:permissions]`.
pub(super) fn device(text: &str) -> Result<Value, String> {
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 || parts[0].is_empty() {
        return Err(format!("bad format for path: {text}"));
    }
    let (target, permissions) = match parts.as_slice() {
        [_, mode] if is_mode(mode) => (parts[0], *mode),
        [_, target] => (*target, "rwm"),
        [_, _, mode] if !is_mode(mode) => return Err(format!("bad mode specified: {mode}")),
        [_, target, mode] => (*target, *mode),
        _ => (parts[0], "rwm"),
    };
    if !target.starts_with('/') {
        return Err(format!("{target} is not an absolute path"));
    }
    Ok(json!({ "PathOnHost": parts[0], "PathInContainer": target, "CgroupPermissions": permissions }))
}

/// Whether it is a device of the Container Device Interface: `vendor.org/class=name`.
pub(super) fn is_cdi(text: &str) -> bool {
    text.split_once('=').is_some_and(|(kind, name)| {
        !name.is_empty() && !kind.starts_with('/') && kind.split('/').count() == 2
    })
}

fn is_mode(text: &str) -> bool {
    let once = |mode: char| text.matches(mode).count() <= 1;
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c) && once(c))
}

/// Checks `type major:minor mode`.
pub(super) fn cgroup_rule(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(' ').collect();
    let number = |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let fine = matches!(parts.as_slice(), [kind, numbers, mode]
        if matches!(*kind, "a" | "b" | "c") && is_mode(mode)
            && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor)));
    if fine { Ok(text.to_owned()) } else { Err(format!("invalid device cgroup format '{text}'")) }
}

/// Reads `/dev/path:weight`.
pub(super) fn weight(text: &str) -> Result<Value, String> {
    let (path, weight) = path_and(text)?;
    let number = weight.parse::<u16>().ok().filter(|w| *w == 0 || (10..=1000).contains(w));
    let number = number.ok_or_else(|| format!("invalid weight for device: {text}"))?;
    Ok(json!({ "Path": path, "Weight": number }))
}

/// Reads `/dev/path:bytes a second`.
pub(super) fn bytes_rate(text: &str) -> Result<Value, String> {
    let invalid = || {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a \
             positive integer. Unit is optional and can be kb, mb, or gb"
        )
    };
    let (path, rate) = path_and(text)?;
    Ok(json!({ "Path": path, "Rate": parse_size(rate).map_err(|_| invalid())? }))
}

/// Reads `/dev/path:operations a second`.
pub(super) fn operations_rate(text: &str) -> Result<Value, String> {
    let invalid = || {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive \
             integer"
        )
    };
    let (path, rate) = path_and(text)?;
    Ok(json!({ "Path": path, "Rate": rate.parse::<u64>().map_err(|_| invalid())? }))
}

fn path_and(text: &str) -> Result<(&str, &str), String> {
    let (path, value) =
        text.split_once(':').filter(|(path, _)| !path.is_empty()).ok_or(format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path, value))
}

/// Reads `all`, a number, or `device=…,capabilities=…`.
pub(super) fn gpus(text: &str) -> Result<Value, String> {
    let count = |text: &str| match text {
        "all" => Ok(-1),
        _ => text.parse::<i64>().map_err(|_| {
            format!("invalid count ({text}): value must be either \"all\" or an integer: invalid syntax")
        }),
    };
    let mut seen: Vec<String> = Vec::new();
    let (mut driver, mut number, mut devices) = ("".to_owned(), None, Vec::new());
    let (mut capabilities, mut options) = (vec!["gpu".to_owned()], json!({}));
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        if seen.iter().any(|known| known == key) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        seen.push(key.to_owned());
        let list = || value.split(',').map(str::to_owned);
        match key {
            "driver" => driver = value.to_owned(),
            "count" => number = Some(count(value)?),
            "device" => devices = list().collect(),
            "capabilities" => capabilities = list().chain(["gpu".to_owned()]).collect(),
            "options" => options = pairs(&csv::fields(value)?).into(),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    let number = number.unwrap_or(i64::from(devices.is_empty()));
    Ok(json!({
        "Driver": driver, "Count": number, "DeviceIDs": devices, "Capabilities": [capabilities], "Options": options,
    }))
}

/// Reads `name=soft[:hard]`.
pub(crate) fn ulimit(text: &str) -> Result<Value, String> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let Some((name, values)) = text.split_once('=') else {
        return Err(format!("invalid ulimit argument: {text}"));
    };
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        text.parse::<i64>().map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
    };
    let parts: Vec<&str> = values.split(':').collect();
    let (soft, hard) = match parts.as_slice() {
        [one] => (number(one)?, number(one)?),
        [soft, hard] => (number(soft)?, number(hard)?),
        _ => {
            return Err(format!(
                "too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(json!({ "Name": name, "Soft": soft, "Hard": hard }))
}
