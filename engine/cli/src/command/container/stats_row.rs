//! What Docker makes of a container's counters.

use serde_json::Value;

use crate::format::Row;
use crate::units::{binary_bytes, short_bytes, short_id};

/// A row of `stats`.
pub(super) fn row(container: &str, stats: &Value, truncate: bool) -> Row {
    let id = stats["id"].as_str().unwrap_or(container);
    let name = stats["name"].as_str().unwrap_or_default().trim_start_matches('/');
    let (used, limit) = (memory(&stats["memory_stats"]), number(&stats["memory_stats"]["limit"]));
    let share = if limit > 0.0 { used / limit * 100.0 } else { 0.0 };
    let (mut received, mut sent) = (0.0, 0.0);
    for (_, network) in stats["networks"].as_object().into_iter().flatten() {
        received += number(&network["rx_bytes"]);
        sent += number(&network["tx_bytes"]);
    }
    let (read, written) = blocks(&stats["blkio_stats"]["io_service_bytes_recursive"]);
    let pids = number(&stats["pids_stats"]["current"]);
    Row::new([
        ("BlockIO", format!("{} / {}", short_bytes(read), short_bytes(written)).into()),
        ("CPUPerc", format!("{:.2}%", processors(stats)).into()),
        ("Container", container.into()),
        ("ID", (if truncate { short_id(id) } else { id }).into()),
        ("MemPerc", format!("{share:.2}%").into()),
        ("MemUsage", format!("{} / {}", binary_bytes(used), binary_bytes(limit)).into()),
        ("Name", name.into()),
        ("NetIO", format!("{} / {}", short_bytes(received), short_bytes(sent)).into()),
        ("PIDs", format!("{pids}").into()),
    ])
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

/// The share of a processor that was used between two readings; 200% is two of them.
fn processors(stats: &Value) -> f64 {
    let (now, before) = (&stats["cpu_stats"], &stats["precpu_stats"]);
    let difference = |path: &str| {
        let of = |stats: &Value| number(stats.pointer(path).unwrap_or(&Value::Null));
        of(now) - of(before)
    };
    let (used, all) = (difference("/cpu_usage/total_usage"), difference("/system_cpu_usage"));
    let mut count = number(&now["online_cpus"]);
    if count == 0.0 {
        count = now["cpu_usage"]["percpu_usage"].as_array().map_or(1.0, |all| all.len() as f64);
    }
    if used > 0.0 && all > 0.0 { used / all * count * 100.0 } else { 0.0 }
}

/// Memory without what the kernel would give back first: on cgroup v1 `total_inactive_file`, on v2 `inactive_file`.
fn memory(stats: &Value) -> f64 {
    let usage = number(&stats["usage"]);
    for name in ["total_inactive_file", "inactive_file"] {
        if let Some(cache) = stats["stats"][name].as_f64()
            && cache < usage
        {
            return usage - cache;
        }
    }
    usage
}

fn blocks(entries: &Value) -> (f64, f64) {
    let (mut read, mut written) = (0.0, 0.0);
    for entry in entries.as_array().into_iter().flatten() {
        match entry["op"].as_str().unwrap_or_default().to_lowercase().as_str() {
            "read" => read += number(&entry["value"]),
            "write" => written += number(&entry["value"]),
            _ => {}
        }
    }
    (read, written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counters_become_shares() {
        let stats = json!({
            "id": "ab".repeat(32), "name": "/web",
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 3_145_728, "limit": 1_073_741_824, "stats": {"inactive_file": 1_048_576}},
            "networks": {"eth0": {"rx_bytes": 1500, "tx_bytes": 90}},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"op": "read", "value": 4096}, {"op": "Write", "value": 8192}, {"op": "read", "value": 4096}]},
            "pids_stats": {"current": 3},
        });
        let row = row("web", &stats, true);
        insta::assert_snapshot!(Value::Object(row.fields), @r#"{"BlockIO":"8.19kB / 8.19kB","CPUPerc":"40.00%","Container":"web","ID":"abababababab","MemPerc":"0.20%","MemUsage":"2MiB / 1GiB","Name":"web","NetIO":"1.5kB / 90B","PIDs":"3"}"#);
    }
}
