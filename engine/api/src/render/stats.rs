use serde_json::{Map, Value, json};

use engine::runtime::{BlockIo, CpuUsage};

use super::time;
use crate::act::{Interface, Running, Sample};
use crate::parse::Version;

/// `containers/{id}/stats`; `before` is what its times are compared with.
pub(crate) fn stats(now: &Sample, before: Option<&Sample>, version: Version) -> Value {
    let running = now.running.as_ref();
    let usage = running.map(|running| &running.usage);
    let io = |entries: fn(&engine::runtime::Usage) -> &Vec<BlockIo>| match usage.map(entries) {
        Some(entries) if !entries.is_empty() => entries.iter().map(block_io).collect(),
        _ => Value::Null,
    };
    let mut value = json!({
        "id": now.id.to_string(),
        "name": format!("/{}", now.name),
        "read": time(running.map(|_| now.time)),
        "preread": time(before.filter(|before| before.running.is_some()).map(|before| before.time)),
        "pids_stats": usage.map_or_else(|| json!({}), |usage| {
            // Docker writes the largest number for no limit.
            json!({ "current": usage.pids, "limit": usage.pids_limit.unwrap_or(u64::MAX) })
        }),
        "blkio_stats": {
            "io_service_bytes_recursive": io(|usage| &usage.io_bytes),
            "io_serviced_recursive": io(|usage| &usage.io_requests),
            "io_queue_recursive": null,
            "io_service_time_recursive": null,
            "io_wait_time_recursive": null,
            "io_merged_recursive": null,
            "io_time_recursive": null,
            "sectors_recursive": null,
        },
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu(running),
        "precpu_stats": cpu(before.and_then(|before| before.running.as_ref())),
        "memory_stats": running.map_or_else(|| json!({}), memory),
    });
    if version >= Version(1, 51) {
        value["os_type"] = json!("linux");
    }
    let interfaces = running.map(|running| running.interfaces.as_slice()).unwrap_or_default();
    if !interfaces.is_empty() {
        let all: Map<String, Value> =
            interfaces.iter().map(|interface| (interface.name.clone(), traffic(interface))).collect();
        value["networks"] = Value::Object(all);
    }
    value
}

fn block_io(entry: &BlockIo) -> Value {
    json!({ "major": entry.major, "minor": entry.minor, "op": entry.operation, "value": entry.value })
}

fn cpu(running: Option<&Running>) -> Value {
    let none = CpuUsage::default();
    let usage = running.map_or(&none, |running| &running.usage.cpu);
    let mut value = json!({
        "cpu_usage": {
            "total_usage": usage.total,
            "usage_in_kernelmode": usage.kernel,
            "usage_in_usermode": usage.user,
        },
        "throttling_data": {
            "periods": usage.periods,
            "throttled_periods": usage.throttled_periods,
            "throttled_time": usage.throttled,
        },
    });
    if !usage.each.is_empty() {
        value["cpu_usage"]["percpu_usage"] = json!(usage.each);
    }
    if let Some(running) = running {
        value["system_cpu_usage"] = json!(running.host_cpu);
        value["online_cpus"] = json!(running.processors);
    }
    value
}

fn memory(running: &Running) -> Value {
    let memory = &running.usage.memory;
    let mut value = json!({
        "usage": memory.usage,
        "stats": memory.stat,
        "limit": memory.limit.unwrap_or(running.host_memory).min(running.host_memory),
    });
    if let Some(max) = memory.max {
        value["max_usage"] = json!(max);
    }
    if memory.failures > 0 {
        value["failcnt"] = json!(memory.failures);
    }
    value
}

fn traffic(interface: &Interface) -> Value {
    let mut value = json!({});
    for (direction, numbers) in [("rx", interface.received), ("tx", interface.sent)] {
        for (what, number) in ["bytes", "packets", "errors", "dropped"].into_iter().zip(numbers) {
            value[format!("{direction}_{what}")] = json!(number);
        }
    }
    value
}
