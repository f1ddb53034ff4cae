use serde_json::{Value, json};

use crate::act::Host;
use crate::parse::Version;

/// Whose API this is, to clients that show it.
const ENGINE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// `version`.
pub(crate) fn version(host: &Host) -> Value {
    let (newest, oldest) = (Version::NEWEST.to_string(), Version::OLDEST.to_string());
    json!({
        "Platform": { "Name": "Lighter" },
        "Version": ENGINE_VERSION,
        "ApiVersion": newest,
        "MinAPIVersion": oldest,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": host.architecture,
        "KernelVersion": host.kernel,
        "BuildTime": "",
        "Components": [{
            "Name": "Engine",
            "Version": ENGINE_VERSION,
            "Details": {
                "ApiVersion": newest, "MinAPIVersion": oldest, "Arch": host.architecture, "Os": "linux",
                "KernelVersion": host.kernel, "Experimental": "false", "GitCommit": "", "GoVersion": "",
                "BuildTime": "",
            },
        }],
    })
}

/// `info`.
pub(crate) fn info(host: &Host) -> Value {
    super::merged([state(host), abilities(host), machine(host)])
}

/// What is on the engine now.
fn state(host: &Host) -> Value {
    json!({
        "ID": host.id,
        "Containers": host.running + host.stopped,
        "ContainersRunning": host.running,
        "ContainersPaused": 0,
        "ContainersStopped": host.stopped,
        "Images": host.images,
        "Driver": "overlay2",
        "DriverStatus": [],
        "Debug": false,
        "NFd": 0,
        "NGoroutines": 0,
        "NEventsListener": 0,
        "SystemTime": host.time.to_string(),
        "DockerRootDir": host.root,
        "Labels": [],
        "Warnings": null,
    })
}

/// What the engine can do.
fn abilities(host: &Host) -> Value {
    json!({
        "Plugins": { "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["journald", "json-file", "local", "syslog"] },
        "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true,
        "CPUSet": true, "PidsLimit": true, "IPv4Forwarding": true, "OomKillDisable": false,
        "LoggingDriver": host.log_driver,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": host.cgroup_version,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": { "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"], "IndexConfigs": {}, "Mirrors": null },
        "GenericResources": null,
        "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
        "ExperimentalBuild": false,
        "ServerVersion": ENGINE_VERSION,
        "Runtimes": { "lighter": { "path": "lighter-supervisor" } },
        "DefaultRuntime": "lighter",
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null,
        },
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "lighter-supervisor",
        "ContainerdCommit": { "ID": "" }, "RuncCommit": { "ID": "" }, "InitCommit": { "ID": "" },
        "SecurityOptions": ["name=seccomp,profile=builtin"],
    })
}

/// What it runs on.
fn machine(host: &Host) -> Value {
    json!({
        "KernelVersion": host.kernel,
        "OperatingSystem": host.system,
        "OSVersion": host.system_version,
        "OSType": "linux",
        "Architecture": host.machine,
        "NCPU": host.cpus,
        "MemTotal": host.memory,
        "Name": host.name,
    })
}
