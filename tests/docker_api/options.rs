//! Options of containers: what each does inside, and that it is shown as it was given.

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

use super::daemon::{Daemon, remove, start, wait};
use super::networks::{make, sh, unmake};

/// Makes and starts a container of busybox from a body's members.
fn run(daemon: &Daemon, name: &str, mut body: Value) -> Value {
    body["Image"] = json!("busybox");
    if body["Cmd"].is_null() {
        body["Cmd"] = json!(["sleep", "1000"]);
    }
    if body["HostConfig"]["NetworkMode"].is_null() {
        body["HostConfig"]["NetworkMode"] = json!("none");
    }
    let made = daemon.ask("POST", &format!("/containers/create?name={name}"), &body.to_string());
    assert_eq!(made.status, 201, "{made:?}");
    let started = daemon.ask("POST", &format!("/containers/{name}/start"), "");
    assert_eq!(started.status, 204, "{started:?}");
    serde_json::from_str(&made.body).unwrap()
}

fn seen(daemon: &Daemon, name: &str) -> Value {
    serde_json::from_str(&daemon.ask("GET", &format!("/containers/{name}/json"), "").body).unwrap()
}

#[tokio::test]
async fn what_is_asked_for_is_shown_as_it_was_given() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let host = json!({
        "GroupAdd": ["29", "30"], "Memory": 64 << 20, "MemoryReservation": 32 << 20, "MemorySwap": -1,
        "CpuShares": 512, "CpuPeriod": 50000, "CpuQuota": 25000, "PidsLimit": 50, "OomScoreAdj": 100,
        "CapAdd": ["CAP_NET_ADMIN"], "CapDrop": ["CAP_CHOWN"], "SecurityOpt": ["no-new-privileges"],
        "UTSMode": "host", "CgroupnsMode": "host", "IpcMode": "shareable", "ShmSize": 1 << 20,
        "Ulimits": [{"Name": "nofile", "Hard": 100, "Soft": 50}], "Annotations": {"a": "b"}, "Runtime": "runc",
        "MaskedPaths": ["/proc/version"], "Init": true, "Sysctls": {"kernel.shmmni": "99"},
        "Devices": [{"PathOnHost": "/dev/zero", "PathInContainer": "/dev/nought", "CgroupPermissions": "r"}],
    });
    let body = json!({
        "HostConfig": host, "Domainname": "shop.example", "StopSignal": "SIGUSR1", "StopTimeout": 7,
        "AttachStdin": true, "OpenStdin": true, "StdinOnce": true, "User": "1000",
    });
    run(&daemon, "all", body.clone());
    let seen = seen(&daemon, "all");
    for (name, given) in host.as_object().unwrap() {
        assert_eq!(&seen["HostConfig"][name], given, "{name}");
    }
    for name in ["Domainname", "StopSignal", "StopTimeout", "AttachStdin", "OpenStdin", "StdinOnce", "User"] {
        assert_eq!(seen["Config"][name], body[name], "{name}");
    }
    assert_eq!(
        (&seen["Config"]["AttachStdout"], &seen["HostConfig"]["NetworkMode"]),
        (&json!(false), &json!("none"))
    );
    let text = "id -G; cat /proc/sys/kernel/shmmni; head -c 1 /dev/nought | wc -c; wc -c < /proc/version; \
                grep -E 'NoNewPrivs|CapBnd' /proc/self/status; hostname; df -k /dev/shm | tail -1 | awk '{print $2}'; \
                cat /proc/1/oom_score_adj";
    let hosts = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (out, _) = sh(&docker, "all", text).await;
    let expected =
        format!("0 29 30\n99\n1\n0\nCapBnd:\t00000000a80435fa\nNoNewPrivs:\t1\n{hosts}\n1024\n100");
    assert_eq!(out, expected);
    remove(&docker, "all").await;
    daemon.finish();
}

#[tokio::test]
async fn a_privileged_container_has_what_the_host_has() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    run(&daemon, "host", json!({"HostConfig": {"Privileged": true, "PidMode": "host"}}));
    let text = "mount -t tmpfs none /tmp && echo mounted; grep -E 'CapBnd|Seccomp:' /proc/self/status; \
                test -e /proc/$DAEMON && echo seen; ls /dev";
    let (out, _) = sh(&docker, "host", &text.replace("$DAEMON", &daemon.pid().to_string())).await;
    // As far as this host has them itself.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = status.lines().find(|line| line.starts_with("CapBnd")).unwrap();
    for expected in ["mounted", own, "Seccomp:\t0", "seen"] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    let hosts = std::fs::read_dir("/dev").unwrap().flatten().filter(|entry| {
        use std::os::unix::fs::FileTypeExt as _;
        let kind = entry.file_type().unwrap();
        kind.is_char_device() || kind.is_block_device()
    });
    for device in hosts.map(|entry| entry.file_name().into_string().unwrap()).filter(|name| name != "console")
    {
        assert!(out.lines().any(|line| line == device), "{device}: {out}");
    }
    remove(&docker, "host").await;
    daemon.finish();
}

#[tokio::test]
async fn containers_share_processes_and_memory() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    run(&daemon, "first", json!({"HostConfig": {"IpcMode": "shareable"}}));
    run(&daemon, "private", json!({}));
    run(&daemon, "none", json!({"HostConfig": {"IpcMode": "none"}}));
    let host = json!({"IpcMode": "container:first", "PidMode": "container:first", "RestartPolicy": {"Name": "always"}});
    run(&daemon, "second", json!({ "HostConfig": host }));
    assert_eq!(sh(&docker, "first", "echo shared > /dev/shm/file; readlink /proc/self/ns/ipc").await.1, 0);
    let (first, _) = sh(&docker, "first", "readlink /proc/1/ns/ipc; readlink /proc/1/ns/pid").await;
    let (second, _) = sh(&docker, "second", "readlink /proc/self/ns/ipc; readlink /proc/self/ns/pid").await;
    assert_eq!(first, second);
    let text = "cat /dev/shm/file; ps | grep -c '[s]leep 1000'";
    assert_eq!(sh(&docker, "second", text).await.0, "shared\n2");
    assert_eq!(sh(&docker, "none", "grep -c /dev/shm /proc/mounts").await.0, "0");
    // A further life of it joins the same.
    assert_eq!(sh(&docker, "second", "kill -9 $(pidof sleep | cut -d' ' -f1)").await.1, 0);
    let again = async {
        while seen(&daemon, "second")["RestartCount"] == 0
            || seen(&daemon, "second")["State"]["Status"] != "running"
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), again).await.unwrap();
    assert_eq!(sh(&docker, "second", text).await.0, "shared\n2");

    let refused = |host: Value| {
        let body = json!({"Image": "busybox", "HostConfig": host});
        daemon.ask("POST", "/containers/create", &body.to_string())
    };
    for (host, status, says) in [
        (json!({"IpcMode": "container:private"}), 400, "non-shareable IPC (hint: use IpcMode:shareable"),
        (json!({"IpcMode": "ours"}), 400, "invalid IPC mode: ours"),
        (json!({"PidMode": "container:"}), 400, "invalid PID mode"),
        (json!({"PidMode": "container:nobody"}), 400, "No such container: nobody"),
        (json!({"UTSMode": "mine"}), 400, "invalid UTS mode: mine"),
        (json!({"UsernsMode": "own"}), 400, "invalid user namespace mode: own"),
        (json!({"Sysctls": {"vm.swappiness": "1"}}), 400, "is not in a separate kernel namespace"),
        (
            json!({"NetworkMode": "host", "Sysctls": {"net.core.somaxconn": "1"}}),
            400,
            "separate kernel namespace",
        ),
        (json!({"Runtime": "runsc"}), 400, "unknown or invalid runtime name: runsc"),
        (json!({"StorageOpt": {"size": "1G"}}), 400, "--storage-opt is supported only for overlay over xfs"),
        (
            json!({"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]}),
            400,
            "could not select device driver \\\"\\\" with capabilities: [[gpu]]",
        ),
    ] {
        let refused = refused(host);
        assert_eq!((refused.status, refused.body.contains(says)), (status, true), "{says}: {refused:?}");
    }
    for name in ["second", "first", "private", "none"] {
        remove(&docker, name).await;
    }
    daemon.finish();
}

#[tokio::test]
async fn an_in_memory_file_system_is_as_asked_for() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let tmpfs = json!({"/plain": "", "/own": "exec,size=1m,mode=700,uid=1000,gid=29"});
    run(&daemon, "box", json!({"HostConfig": {"Tmpfs": tmpfs}}));
    assert_eq!(seen(&daemon, "box")["HostConfig"]["Tmpfs"], tmpfs);
    let (mounts, _) = sh(&docker, "box", "grep -E ' /(plain|own) ' /proc/mounts | sort").await;
    let expected = "tmpfs /own tmpfs rw,nosuid,nodev,relatime,size=1024k,mode=700,uid=1000,gid=29 0 0\n\
                    tmpfs /plain tmpfs rw,nosuid,nodev,noexec,relatime 0 0";
    // Newer kernels have a further word.
    assert_eq!(mounts.replace(",inode64", ""), expected);
    remove(&docker, "box").await;
    let body = json!({"Image": "busybox", "HostConfig": {"Tmpfs": {"/x": "size=much"}}});
    let refused = daemon.ask("POST", "/containers/create", &body.to_string());
    assert_eq!((refused.status, refused.body.contains("invalid tmpfs option")), (400, true), "{refused:?}");
    daemon.finish();
}

#[tokio::test]
async fn a_seccomp_profile_decides_what_may_be_called() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    });
    run(&daemon, "kept", json!({"HostConfig": {"SecurityOpt": [format!("seccomp={profile}")]}}));
    let (out, code) = sh(&docker, "kept", "touch /x && chmod 700 /x").await;
    assert!(code != 0 && out.contains("Function not implemented"), "{out}");
    remove(&docker, "kept").await;
    let body = json!({"Image": "busybox", "HostConfig": {"SecurityOpt": ["seccomp={"]}});
    let refused = daemon.ask("POST", "/containers/create", &body.to_string());
    assert_eq!(refused.status, 400, "{refused:?}");
    daemon.finish();
}

#[tokio::test]
async fn a_device_that_is_not_there_fails_the_start() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let body = json!({
        "Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none", "Devices": [{"PathOnHost": "/dev/nowhere"}]},
    });
    let made = daemon.ask("POST", "/containers/create?name=xx", &body.to_string());
    assert_eq!(made.status, 201, "{made:?}");
    let failed = start(&docker, "xx").await.unwrap_err().to_string();
    assert!(
        failed.contains("error gathering device information while adding custom device \"/dev/nowhere\""),
        "{failed}"
    );
    remove(&docker, "xx").await;
    daemon.finish();
}

#[tokio::test]
async fn standard_input_stays_open_for_the_next_unless_it_is_for_one() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    let say = |name: &str, text: &str| {
        let path = format!("/containers/{name}/attach?stream=1&stdin=1&stdout=1");
        let mut stream = daemon.send("POST", &path, upgrade, "");
        let mut heard = Vec::new();
        // The head's end.
        while !heard.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            heard.push(byte[0]);
        }
        stream.write_all(text.as_bytes()).unwrap();
        let mut echo = vec![0; 8 + text.len()];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(&echo[8..], text.as_bytes());
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream
    };
    run(&daemon, "many", json!({"Cmd": ["cat"], "OpenStdin": true}));
    for text in ["one\n", "two\n"] {
        drop(say("many", text));
    }
    assert_eq!(seen(&daemon, "many")["State"]["Running"], true);
    run(&daemon, "once", json!({"Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true}));
    let stream = say("once", "all\n");
    assert_eq!(wait(&docker, "once").await, 0);
    drop(stream);
    for name in ["many", "once"] {
        remove(&docker, name).await;
    }
    daemon.finish();
}

#[tokio::test]
async fn what_has_no_effect_is_warned_of() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    make(&daemon, &[("shop", "")]);
    let host = json!({"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": "1"}]}});
    let made = run(&daemon, "host", json!({ "HostConfig": host }));
    assert_eq!(made["Warnings"], json!(["Published ports are discarded when using host network mode"]));
    let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "shop", "OomKillDisable": true}});
    let made = daemon.ask("POST", "/containers/create?name=made", &body.to_string());
    assert_eq!(made.status, 201);
    let warnings = serde_json::from_str::<Value>(&made.body).unwrap()["Warnings"].to_string();
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let says = if v2 { "OomKillDisable discarded" } else { "OOM killer is disabled for the container" };
    assert!(warnings.contains(says), "{warnings}");
    for name in ["host", "made"] {
        remove(&docker, name).await;
    }
    unmake(daemon, &["shop"]).await;
}
