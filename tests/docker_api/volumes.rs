//! What volumes get of an image, whose they are, and where they are kept.

use bollard::models::{Mount, MountTypeEnum, MountVolumeOptions};
use serde_json::{Value, json};

use super::daemon::{Daemon, context, create, host, remove, run, script, wait};

/// Builds an image that has a volume with files of another user.
fn image_with_volume(daemon: &Daemon) {
    let text = "FROM busybox\nRUN mkdir -p /data/sub && echo from-image > /data/file && chown -R 12:34 /data && \
                chmod 750 /data && ln -s file /data/link && ln -s /data /alias\nVOLUME /data\n";
    let archive = context(&[("Dockerfile", text)]);
    let built = daemon.upload("POST", "/build?t=keeper&networkmode=none", &archive);
    assert!(built.body.contains("Successfully tagged"), "{built:?}");
}

fn volumes(daemon: &Daemon) -> Vec<Value> {
    daemon.ask("GET", "/volumes", "").json()["Volumes"].as_array().cloned().unwrap_or_default()
}

fn mounts(daemon: &Daemon, name: &str) -> Value {
    daemon.ask("GET", &format!("/containers/{name}/json"), "").json()["Mounts"].take()
}

#[tokio::test]
async fn a_new_volume_gets_what_the_image_has_there() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    image_with_volume(&daemon);
    let check = "grep from-image /data/file && test -L /data/link -a -d /data/sub && \
                 test \"$(stat -L -c %u:%g:%a /data /data/file | tr '\\n' ' ')\" = '12:34:750 12:34:644 ' && \
                 echo changed > /data/file";
    let keeper = |text: &str, binds: &[&str]| {
        script(text, |body| {
            body.image = Some("keeper".to_owned());
            host(body).binds = Some(binds.iter().map(|bind| (*bind).to_owned()).collect());
        })
    };
    // Its own, a named one, and one by a link of the image.
    run(&docker, "own", keeper(check, &[])).await;
    run(&docker, "named", keeper(check, &["kept:/data"])).await;
    let by_link = check.replace("/data", "/alias");
    run(&docker, "linked", keeper(&by_link, &["other:/alias"])).await;
    for name in ["own", "named", "linked"] {
        assert_eq!(wait(&docker, name).await, 0, "{name}");
    }
    let own = mounts(&daemon, "own")[0].clone();
    assert_eq!((&own["Type"], &own["Destination"]), (&json!("volume"), &json!("/data")));
    let inspected = daemon.ask("GET", &format!("/volumes/{}", own["Name"].as_str().unwrap()), "").json();
    assert_eq!(inspected["Labels"], json!({ "com.docker.volume.anonymous": "" }));
    // What is in it stays: it is filled once.
    run(&docker, "again", keeper("grep changed /data/file", &["kept:/data:ro"])).await;
    assert_eq!(wait(&docker, "again").await, 0);
    run(&docker, "empty", keeper("test -z \"$(ls -A /data)\"", &["empty:/data:nocopy"])).await;
    assert_eq!(wait(&docker, "empty").await, 0);
    for name in ["own", "named", "linked", "again", "empty"] {
        remove(&docker, name).await;
    }
    let names: Vec<Value> = volumes(&daemon).iter().map(|volume| volume["Name"].clone()).collect();
    assert_eq!(names, ["empty", "kept", "other"], "those without a name go with their container");
    daemon.finish();
}

#[tokio::test]
async fn a_container_shares_the_mounts_of_another() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    image_with_volume(&daemon);
    let bound = daemon.world.dir("bound");
    let first = script("echo shared > /data/new; echo bound > /bound/new", |body| {
        body.image = Some("keeper".to_owned());
        host(body).binds = Some(vec![format!("{}:/bound", bound.display())]);
    });
    run(&docker, "first", first).await;
    assert_eq!(wait(&docker, "first").await, 0);
    let sharing =
        |text: &str, from: &str| script(text, |body| host(body).volumes_from = Some(vec![from.to_owned()]));
    run(&docker, "writes", sharing("grep shared /data/new && echo more >> /bound/new", "first")).await;
    run(
        &docker,
        "reads",
        sharing("grep shared /data/new && ! touch /data/x && ! touch /bound/x", "first:ro"),
    )
    .await;
    assert_eq!((wait(&docker, "writes").await, wait(&docker, "reads").await), (0, 0));
    for (from, status, part) in [
        ("none", 404, "No such container: none"),
        ("first:rx", 400, "invalid mode: rx"),
        (":ro", 400, "invalid volumes-from spec"),
    ] {
        let body = json!({ "Image": "busybox", "HostConfig": { "VolumesFrom": [from] } });
        let answer = daemon.ask("POST", "/containers/create", &body.to_string());
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(part), "{answer:?}");
    }
    let volume = mounts(&daemon, "first")[1]["Name"].as_str().unwrap().to_owned();
    remove(&docker, "first").await;
    assert_eq!(volumes(&daemon).len(), 1, "others have it");
    let refused = daemon.ask("DELETE", &format!("/volumes/{volume}"), "");
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body.contains(&format!("remove {volume}: volume is in use - [")), "{refused:?}");
    remove(&docker, "writes").await;
    remove(&docker, "reads").await;
    assert_eq!(volumes(&daemon), [json!(null); 0]);
    daemon.finish();
}

#[tokio::test]
async fn a_volume_may_be_kept_elsewhere() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let elsewhere = daemon.world.dir("elsewhere");
    let make = |body: Value| daemon.ask("POST", "/volumes/create", &body.to_string());
    let options = json!({ "type": "none", "o": "bind", "device": elsewhere });
    let made = make(json!({ "Name": "bound", "DriverOpts": options }));
    assert_eq!((made.status, &made.json()["Options"]), (201, &options));
    assert_eq!(make(json!({ "Name": "memory", "DriverOpts": { "type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=5" } })).status, 201);
    let text =
        "echo text > /b/file && test $(stat -c %u /m) = 5 && grep ' /m tmpfs .*size=1024k' /proc/mounts";
    let body = script(text, |body| {
        host(body).binds = Some(vec!["bound:/b".to_owned(), "memory:/m".to_owned()]);
    });
    run(&docker, "box", body).await;
    assert_eq!(wait(&docker, "box").await, 0);
    assert_eq!(std::fs::read_to_string(elsewhere.join("file")).unwrap(), "text\n");
    for (options, part) in [
        (json!({ "type": "nfs" }), "missing required option: \\\"device\\\""),
        (json!({ "x": "y" }), "invalid option: \\\"x\\\""),
    ] {
        let refused = make(json!({ "Name": "bad", "DriverOpts": options }));
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.body.contains(part), "{refused:?}");
    }
    assert!(
        make(json!({ "Name": "gone", "DriverOpts": { "type": "none", "o": "bind", "device": "/nowhere" } }))
            .status
            == 201
    );
    create(&docker, "broken", script("true", |body| host(body).binds = Some(vec!["gone:/g".to_owned()])))
        .await;
    let failed = daemon.ask("POST", "/containers/broken/start", "");
    assert!(failed.status >= 400 && failed.body.contains("/nowhere"), "{failed:?}");
    remove(&docker, "box").await;
    remove(&docker, "broken").await;
    assert_eq!(daemon.ask("DELETE", "/volumes/bound", "").status, 204);
    assert!(elsewhere.join("file").exists(), "what is kept elsewhere stays there");
    daemon.finish();
}

#[tokio::test]
async fn mounts_are_as_they_are_asked_for() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let volume = |subpath: &str| Mount {
        typ: Some(MountTypeEnum::VOLUME),
        source: Some("data".to_owned()),
        target: Some("/part".to_owned()),
        volume_options: Some(MountVolumeOptions {
            subpath: Some(subpath.to_owned()),
            labels: Some([("l".to_owned(), "m".to_owned())].into()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    };
    let filling = script("mkdir -p /d/a/b && echo deep > /d/a/b/file && ln -s /etc /d/out", |body| {
        host(body).binds = Some(vec!["data:/d".to_owned()]);
    });
    run(&docker, "filling", filling).await;
    assert_eq!(wait(&docker, "filling").await, 0);
    let with = |subpath: &str| {
        script("grep deep /part/file", |body| host(body).mounts = Some(vec![volume(subpath)]))
    };
    run(&docker, "part", with("a/b")).await;
    assert_eq!(wait(&docker, "part").await, 0);
    for wrong in ["none", "out"] {
        create(&docker, wrong, with(wrong)).await;
        let failed = daemon.ask("POST", &format!("/containers/{wrong}/start"), "");
        assert!(failed.status >= 400, "{wrong}: {failed:?}");
        remove(&docker, wrong).await;
    }
    let host_dir = daemon.world.dir("host");
    let refused = |mount: Value| {
        let body = json!({ "Image": "busybox", "HostConfig": { "Mounts": [mount] } });
        daemon.ask("POST", "/containers/create", &body.to_string())
    };
    let bind = |options: Value| json!({ "Type": "bind", "Source": host_dir, "Target": "/x", "BindOptions": options });
    for (mount, status, part) in [
        (
            json!({ "Type": "volume", "Source": "d", "Target": "/x", "VolumeOptions": { "Subpath": "../y" } }),
            400,
            "subpath must be",
        ),
        (
            json!({ "Type": "volume", "Source": "d", "Target": "/x", "VolumeOptions": { "DriverConfig": { "Name": "z" } } }),
            404,
            "plugin",
        ),
        (
            json!({ "Type": "bind", "Source": "/nowhere", "Target": "/x" }),
            400,
            "bind source path does not exist: /nowhere",
        ),
        (bind(json!({ "Propagation": "odd" })), 400, "invalid propagation mode: odd"),
        (json!({ "Type": "image", "Source": "busybox", "Target": "/x" }), 501, "--mount type=image"),
        (json!({ "Type": "odd", "Target": "/x" }), 400, "mount type unknown"),
        (
            json!({ "Type": "tmpfs", "Source": "s", "Target": "/x" }),
            400,
            "field Source must not be specified",
        ),
    ] {
        let answer = refused(mount.clone());
        assert_eq!(answer.status, status, "{mount}: {answer:?}");
        assert!(answer.body.contains(part), "{mount}: {answer:?}");
    }
    let text = "test \"$(stat -c %a /memory)\" = 700 && grep ' /slave .*master:' /proc/self/mountinfo";
    let body = script(text, |body| {
        let mut tmpfs =
            Mount { typ: Some(MountTypeEnum::TMPFS), target: Some("/memory".to_owned()), ..Mount::default() };
        tmpfs.tmpfs_options =
            Some(bollard::models::MountTmpfsOptions { mode: Some(0o700), ..Default::default() });
        host(body).mounts = Some(vec![tmpfs]);
        host(body).binds = Some(vec!["/:/slave:ro,rslave".to_owned()]);
    });
    run(&docker, "how", body).await;
    // The host's root is shared where an init system made it so; where it is not, it has no master.
    let shared = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = shared.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert_eq!(wait(&docker, "how").await, i64::from(!root.contains(" shared:")));
    let how = mounts(&daemon, "how");
    assert!(how.as_array().unwrap().iter().any(|mount| mount["Propagation"] == "rslave"), "{how}");
    for name in ["filling", "part", "how"] {
        remove(&docker, name).await;
    }
    daemon.finish();
}
