use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

/// `--security-opt` as the daemon takes it, and whether the system paths are to be open.
pub(super) fn options(given: &[String]) -> anyhow::Result<(Vec<String>, bool)> {
    let (mut all, mut open_paths) = (Vec::new(), false);
    for option in given {
        let (name, value) = match option.split_once('=') {
            Some(pair) => pair,
            None if option == "no-new-privileges" => (option.as_str(), ""),
            None => option.split_once(':').unwrap_or((option, "")),
        };
        ensure!(!value.is_empty() || name == "no-new-privileges", "invalid --security-opt: {option:?}");
        match (name, value) {
            ("systempaths", "unconfined") => open_paths = true,
            ("seccomp", "unconfined" | "builtin") => all.push(option.clone()),
            ("seccomp", path) => {
                let opening = || format!("opening seccomp profile ({path}) failed: open {path}");
                let text = std::fs::read(path).with_context(opening)?;
                let compacting = || format!("compacting json for seccomp profile ({path}) failed");
                let profile: Value = serde_json::from_slice(&text).with_context(compacting)?;
                all.push(format!("seccomp={profile}"));
            }
            _ => all.push(option.clone()),
        }
    }
    Ok((all, open_paths))
}

/// Reads `no`, `always`, `unless-stopped`, `on-failure[:times]`.
pub(crate) fn restart_policy(text: &str) -> anyhow::Result<Value> {
    if text.is_empty() {
        return Ok(json!({ "Name": "no", "MaximumRetryCount": 0 }));
    }
    let (name, times) = match text.split_once(':') {
        Some((name, times)) => (name, Some(times)),
        None => (text, None),
    };
    ensure!(!name.is_empty(), "invalid restart policy format: no policy provided before colon");
    let times = match times.map(str::parse::<i64>) {
        None => 0,
        Some(Ok(times)) => times,
        Some(Err(_)) => bail!("invalid restart policy format: maximum retry count must be an integer"),
    };
    Ok(json!({ "Name": name, "MaximumRetryCount": times }))
}
