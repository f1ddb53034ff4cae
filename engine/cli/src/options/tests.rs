use clap::{Args as _, Command, FromArgMatches as _};
use serde_json::{Value, json};

use super::ContainerOptions;

fn options(words: &[&str]) -> Result<ContainerOptions, String> {
    let command = crate::help::adapt(ContainerOptions::augment_args(Command::new("run")));
    let matches = command.try_get_matches_from(["run"].iter().chain(words));
    matches
        .map_err(|error| error.to_string())
        .map(|matches| ContainerOptions::from_arg_matches(&matches).unwrap())
}

/// The body for options of a foreground `run` of `echo hi`.
fn body(words: &[&str]) -> Result<Value, String> {
    let options = options(words)?;
    options.body("busybox", &["echo".to_owned(), "hi".to_owned()], false, &[]).map_err(|e| e.to_string())
}

#[track_caller]
fn check(words: &[&str], path: &str, wanted: Value) {
    let body = body(words).unwrap();
    assert_eq!(body.pointer(path).unwrap_or(&Value::Null), &wanted, "{words:?} {path}");
}

#[track_caller]
fn refused(words: &[&str], says: &str) {
    let error = body(words).unwrap_err();
    assert!(error.contains(says), "{words:?}: {error}");
}

#[test]
fn nothing_but_what_is_asked_for_is_sent() {
    insta::assert_snapshot!(body(&[]).unwrap(), @r#"{"AttachStdin":false,"AttachStdout":true,"AttachStderr":true,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Cmd":["echo","hi"],"Image":"busybox","HostConfig":{"NetworkMode":"default","RestartPolicy":{"Name":"no","MaximumRetryCount":0}},"NetworkingConfig":{"EndpointsConfig":{}}}"#);
}

#[test]
fn streams_are_attached_as_asked() {
    let streams = |words: &[&str]| {
        let body = body(words).unwrap();
        ["AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"].map(|name| body[name] == true)
    };
    assert_eq!(streams(&["-it"]), [true, true, true, true]);
    assert_eq!(streams(&["-a", "STDERR"]), [false, false, true, false]);
    assert_eq!(streams(&["-i", "-a", "stdout"]), [true, true, false, true]);
    refused(&["-a", "std"], "valid streams are STDIN, STDOUT and STDERR");
    let detached = options(&["-i"]).unwrap().body("busybox", &[], true, &[]).unwrap();
    assert_eq!(
        ["AttachStdin", "StdinOnce", "OpenStdin"].map(|name| detached[name] == true),
        [false, false, true]
    );
}

#[test]
fn flags_take_values_as_gos_do() {
    check(&["--rm=false", "--init=true", "--read-only=1"], "/HostConfig/Init", json!(true));
    check(&["--rm", "--rm=false"], "/HostConfig/AutoRemove", Value::Null);
    check(&["-e", "-x=1"], "/Env", json!(["-x=1"]));
    check(&["--entrypoint", "-c"], "/Entrypoint", json!(["-c"]));
    check(&["--entrypoint="], "/Entrypoint", json!([""]));
    check(&["--name", "a", "--hostname", "x", "-h", "y"], "/Hostname", json!("y"));
    refused(&["--rm=maybe"], "strconv.ParseBool: parsing \"maybe\": invalid syntax");
}

#[test]
fn ports_are_read() {
    let bindings = |words: &[&str]| body(words).unwrap()["HostConfig"]["PortBindings"].to_string();
    let published = [
        "80",
        "8080:80",
        "127.0.0.1:8081:80",
        "127.0.0.1::80/udp",
        "1000-1001:90-91",
        "2000-2009:70",
        "[::1]:53:53/UDP",
    ];
    let words: Vec<&str> = published.iter().flat_map(|text| ["-p", text]).collect();
    insta::assert_snapshot!(bindings(&words), @r#"{"53/udp":[{"HostIp":"::1","HostPort":"53"}],"70/tcp":[{"HostIp":"","HostPort":"2000-2009"}],"80/tcp":[{"HostIp":"","HostPort":""},{"HostIp":"","HostPort":"8080"},{"HostIp":"127.0.0.1","HostPort":"8081"}],"80/udp":[{"HostIp":"127.0.0.1","HostPort":""}],"90/tcp":[{"HostIp":"","HostPort":"1000"}],"91/tcp":[{"HostIp":"","HostPort":"1001"}]}"#);
    assert_eq!(
        bindings(&["-p", "target=80,published=8080"]),
        r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}"#
    );
    check(
        &["-p", "80", "--expose", "90-91/udp"],
        "/ExposedPorts",
        json!({"80/tcp": {}, "90/udp": {}, "91/udp": {}}),
    );
    refused(&["-p", "x:80"], "invalid hostPort: x");
    refused(&["-p", "80/icmp"], "invalid proto: icmp");
    refused(&["-p", "1-2:3-5"], "invalid ranges specified for container and host Ports: 3-5 and 1-2");
    refused(&["-p", "1.2.3:1:80"], "invalid IP address: 1.2.3");
    refused(&["-p", "1:70000"], "invalid containerPort: 70000");
    refused(&["--expose", "1:2"], "invalid port format for --expose: 1:2");
}

#[test]
fn mounts_are_read() {
    let here = std::env::current_dir().unwrap();
    check(
        &["-v", "/a:/b:ro", "-v", "data:/data", "-v", "./sub/../x:/x", "-v", "/anonymous"],
        "/HostConfig/Binds",
        json!(["/a:/b:ro", "data:/data", format!("{}/x:/x", here.display())]),
    );
    check(&["-v", "/anonymous"], "/Volumes", json!({"/anonymous": {}}));
    check(
        &["--tmpfs", "/run:size=1m", "--tmpfs", "/tmp"],
        "/HostConfig/Tmpfs",
        json!({"/run": "size=1m", "/tmp": ""}),
    );
    let mount = |text: &str| body(&["--mount", text]).map(|body| body["HostConfig"]["Mounts"][0].clone());
    assert_eq!(
        mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave").unwrap(),
        json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true, "BindOptions": {"Propagation": "rslave"}})
    );
    assert_eq!(
        mount("source=data,target=/d,volume-nocopy,volume-label=a=b,\"volume-opt=o=x,y\"").unwrap(),
        json!({"Type": "volume", "Source": "data", "Target": "/d", "VolumeOptions": {
            "NoCopy": true, "Labels": {"a": "b"}, "DriverConfig": {"Options": {"o": "x,y"}}}})
    );
    assert_eq!(
        mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap(),
        json!({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}})
    );
    for (text, says) in [
        ("type=bind,src=/a", "target is required"),
        ("type=tmpfs,target=/t,volume-nocopy", "cannot mix 'volume-*' options with mount type 'tmpfs'"),
        ("target=/t,color=red", "unknown option 'color' in 'color=red'"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("target=/t,readonly=maybe", "invalid boolean value"),
        ("target= /t", "value should not have whitespace"),
    ] {
        refused(&["--mount", text], says);
    }
}

#[test]
fn networks_are_read() {
    let endpoints =
        |words: &[&str]| body(words).map(|body| body["NetworkingConfig"]["EndpointsConfig"].clone());
    check(&["--net", "shop"], "/HostConfig/NetworkMode", json!("shop"));
    assert_eq!(endpoints(&["--net", "shop"]).unwrap(), json!({}));
    assert_eq!(
        endpoints(&["--network", "name=shop,alias=db,ip=10.0.0.5", "--network", "other"]).unwrap(),
        json!({"shop": {"IPAMConfig": {"IPv4Address": "10.0.0.5"}, "Aliases": ["db"]}, "other": {}})
    );
    assert_eq!(
        endpoints(&[
            "--net",
            "shop",
            "--network-alias",
            "db",
            "--link",
            "a:b",
            "--mac-address",
            "02:42:ac:11:00:02"
        ])
        .unwrap(),
        json!({"shop": {"Links": ["a:b"], "Aliases": ["db"], "MacAddress": "02:42:ac:11:00:02"}})
    );
    check(&["--link", "a:b"], "/HostConfig/Links", json!(["a:b"]));
    for (words, says) in [
        (&["--net", "host", "--net", "shop"][..], "cannot attach both user-defined and non-user-defined"),
        (&["--net", "shop", "--net", "shop"], "network \"shop\" is specified multiple times"),
        (&["--network-alias", "x"], "network-scoped aliases are only supported for user-defined networks"),
        (&["--mac-address", "zz"], "zz is not a valid mac address"),
        (&["--net", "name=a,alias=b", "--network-alias", "c"], "--network-alias and per-network alias"),
        (&["--link", "a:b:c"], "bad format for links: a:b:c"),
    ] {
        refused(words, says);
    }
}

#[test]
fn limits_and_devices_are_read() {
    let host = |words: &[&str]| body(words).unwrap()["HostConfig"].clone();
    let words = [
        "-m",
        "64m",
        "--memory-swap",
        "-1",
        "--cpus",
        "1.5",
        "--pids-limit",
        "-1",
        "--ulimit",
        "nofile=10:20",
        "--shm-size",
        "1g",
        "--oom-score-adj",
        "-5",
        "--blkio-weight-device",
        "/dev/sda:100",
        "--device-read-bps",
        "/dev/sda:1mb",
    ];
    let limits = host(&words);
    for (name, wanted) in [
        ("Memory", json!(64 << 20)),
        ("MemorySwap", json!(-1)),
        ("NanoCpus", json!(1_500_000_000)),
        ("PidsLimit", json!(-1)),
        ("Ulimits", json!([{"Name": "nofile", "Soft": 10, "Hard": 20}])),
        ("ShmSize", json!(1 << 30)),
        ("OomScoreAdj", json!(-5)),
        ("BlkioWeightDevice", json!([{"Path": "/dev/sda", "Weight": 100}])),
        ("BlkioDeviceReadBps", json!([{"Path": "/dev/sda", "Rate": 1 << 20}])),
    ] {
        assert_eq!(limits[name], wanted, "{name}");
    }
    let devices = host(&["--device", "/dev/fuse", "--device", "/dev/a:/dev/b:r", "--gpus", "all"]);
    assert_eq!(
        devices["Devices"][1],
        json!({"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"})
    );
    assert_eq!(devices["DeviceRequests"][0]["Count"], -1);
    refused(&["-m", "much"], "invalid size: 'much'");
    refused(
        &["--ulimit", "nofile=20:10"],
        "ulimit soft limit must be less than or equal to hard limit: 20 > 10",
    );
    refused(&["--device", "/dev/a:/dev/b:x"], "bad mode specified: x");
    refused(&["--memory-swappiness", "101"], "Valid memory swappiness range is 0-100");
    refused(&["--device-cgroup-rule", "x 1:1 r"], "invalid device cgroup format");
}

#[test]
fn the_rest_is_read() {
    check(
        &["--restart", "on-failure:3"],
        "/HostConfig/RestartPolicy",
        json!({"Name": "on-failure", "MaximumRetryCount": 3}),
    );
    check(
        &["--add-host", "db:10.0.0.1", "--add-host", "gw=host-gateway"],
        "/HostConfig/ExtraHosts",
        json!(["db:10.0.0.1", "gw:host-gateway"]),
    );
    check(
        &["--security-opt", "no-new-privileges", "--security-opt", "systempaths=unconfined"],
        "/HostConfig/MaskedPaths",
        json!([]),
    );
    check(
        &["--health-cmd", "true", "--health-interval", "1m30s"],
        "/Healthcheck",
        json!({"Test": ["CMD-SHELL", "true"], "Interval": 90_000_000_000_i64}),
    );
    check(&["--stop-timeout", "0"], "/StopTimeout", json!(0));
    check(&["-l", "a=b", "-l", "c"], "/Labels", json!({"a": "b", "c": ""}));
    check(
        &["--log-driver", "json-file", "--log-opt", "max-size=1m"],
        "/HostConfig/LogConfig",
        json!({"Type": "json-file", "Config": {"max-size": "1m"}}),
    );
    for (words, says) in [
        (&["--restart", "always", "--rm"][..], "conflicting options: cannot specify both --restart and --rm"),
        (&["--no-healthcheck", "--health-cmd", "x"], "--no-healthcheck conflicts with --health-* options"),
        (&["--health-retries", "-1"], "--health-retries cannot be negative"),
        (&["--health-interval", "soon"], "time: invalid duration \"soon\""),
        (&["--add-host", "db"], "bad format for add-host: \"db\""),
        (&["--pid", "mine"], "--pid: invalid PID mode"),
        (&["--security-opt", "seccomp=/no/such/file"], "opening seccomp profile (/no/such/file) failed"),
        (&["--log-driver", "none", "--log-opt", "a=b"], "invalid logging opts for driver none"),
        (&["-e", "=x"], "invalid environment variable: =x"),
    ] {
        refused(words, says);
    }
}

#[test]
fn files_of_variables_are_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(file.path(), text).unwrap();
    let name = file.path().to_str().unwrap();
    write("\u{feff}# a comment\n\nA=1 2\n  B==\nPATH\nNO_SUCH_VARIABLE_HERE\n");
    let path = format!("PATH={}", std::env::var("PATH").unwrap());
    check(&["--env-file", name, "-e", "C=3"], "/Env", json!(["A=1 2", "B==", path, "C=3"]));
    check(&["--label-file", name], "/Labels/A", json!("1 2"));
    write("a b=1\n");
    let error = options(&["--env-file", name]).unwrap().body("x", &[], false, &[]).unwrap_err();
    assert!(format!("{error:#}").contains("variable 'a b' contains whitespaces"), "{error:#}");
}

#[test]
fn proxies_give_way_to_what_is_given() {
    let proxies = ["HTTP_PROXY=http://p".to_owned(), "NO_PROXY=x".to_owned()];
    let body = options(&["-e", "HTTP_PROXY=own"]).unwrap().body("x", &[], false, &proxies).unwrap();
    assert_eq!(body["Env"], json!(["HTTP_PROXY=own", "NO_PROXY=x"]));
}
