//! Building images of contexts that come by HTTP.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bollard::query_parameters::BuildImageOptionsBuilder;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tests::expect_success;

use super::daemon::{Answer, Daemon, context, create, read_head, remove, script, start, wait};

/// How long the daemon may take to notice that a client has gone.
const NOTICE: Duration = Duration::from_secs(20);

/// What a build told, as one text.
fn told(answer: &Answer) -> String {
    answer.lines().iter().filter_map(|line| line["stream"].as_str()).collect()
}

fn last_error(answer: &Answer) -> Value {
    answer.lines().last().unwrap()["errorDetail"].clone()
}

#[tokio::test]
async fn a_build_tells_its_steps_and_its_image_runs() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let text = "FROM busybox AS base\nARG WORD=none\nENV GIVEN=$WORD\nRUN echo building $GIVEN; echo wrong >&2\n\
                COPY file /file\nFROM base\nRUN grep -q content /file\nCMD [\"sh\", \"-c\", \"test $GIVEN = word\"]\n";
    let options = BuildImageOptionsBuilder::new().t("shop/app:1").labels(&[("a", "b")].into()).rm(true);
    let options = options.buildargs(&[("WORD", "word")].into()).networkmode("none").build();
    let archive = context(&[("Dockerfile", text), ("file", "content")]);
    let mut building = docker.build_image(options, None, Some(bollard::body_full(archive.into())));
    let (mut told, mut id) = (String::new(), None);
    while let Some(line) = building.next().await {
        let line = line.unwrap();
        told.push_str(&line.stream.unwrap_or_default());
        id = id.or(line.aux.and_then(|aux| aux.id));
    }
    let image = docker.inspect_image("shop/app:1").await.unwrap();
    assert_eq!(image.id, id);
    assert_eq!(image.config.unwrap().labels.unwrap()["a"], "b");
    for part in [
        "Step 1/8 : FROM busybox AS base\n ---> ",
        "Step 4/8 : RUN echo building $GIVEN; echo wrong >&2\nbuilding word\n",
        "\u{1b}[91mwrong\n\u{1b}[0m",
        "Step 6/8 : FROM base\n ---> ",
        "Successfully tagged shop/app:1\n",
    ] {
        assert!(told.contains(part), "{part:?} in {told}");
    }
    let short = &image.id.unwrap()["sha256:".len()..][..12];
    assert!(told.contains(&format!("Successfully built {short}\n")), "{told}");
    create(&docker, "app", script("", |body| (body.image, body.cmd) = (Some("shop/app:1".into()), None)))
        .await;
    start(&docker, "app").await.unwrap();
    assert_eq!(wait(&docker, "app").await, 0);
    remove(&docker, "app").await;
    daemon.finish();
}

#[test]
fn a_context_may_be_compressed_in_any_way() {
    let daemon = Daemon::start();
    let plain = context(&[("Dockerfile.x", "FROM busybox\nCOPY file /\n"), ("file", "content")]);
    let path = "/build?q=1&dockerfile=Dockerfile.x";
    let expected = told(&daemon.upload("POST", path, &plain));
    assert!(expected.starts_with("sha256:"), "{expected}");
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let mut command = Command::new(program);
        let mut child = command.arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&plain).unwrap();
        let packed = child.wait_with_output().unwrap().stdout;
        assert_eq!(told(&daemon.upload("POST", path, &packed)), expected, "{program}");
    }
    daemon.finish();
}

#[test]
fn a_build_that_fails_says_why_as_docker_does() {
    let daemon = Daemon::start();
    let build = |text: &str, query: &str| {
        let archive = context(&[("Dockerfile", text)]);
        daemon.upload("POST", &format!("/build?networkmode=none{query}"), &archive)
    };
    let exit = build("FROM busybox\nRUN exit 3\n", "");
    let text = "The command '/bin/sh -c exit 3' returned a non-zero code: 3";
    assert_eq!((exit.status, last_error(&exit)), (200, json!({ "code": 3, "message": text })));
    let missing = last_error(&build("FROM busybox\nCOPY nope /\n", ""));
    let text = "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not \
                exist";
    assert_eq!(missing, json!({ "message": text }));
    for (text, query, status, part) in [
        ("FROM busybox\nRUNX x\n", "", 400, "dockerfile parse error on line 2: unknown instruction: RUNX"),
        ("FROM busybox\n", "&target=x", 400, "failed to reach build target x in Dockerfile"),
        ("FROM busybox\n", "&dockerfile=a/b", 500, "Cannot locate specified Dockerfile: a/b"),
        ("FROM busybox\n", "&t=A", 400, "must be lowercase"),
        ("FROM busybox\n", "&buildargs=x", 400, "error reading build args"),
        ("FROM busybox\n", "&memory=1", 400, "Minimum memory limit allowed is 6MB"),
        ("FROM busybox\n", "&squash=1", 501, "--squash is not supported"),
        ("FROM busybox\n", "&version=2", 501, "set DOCKER_BUILDKIT=0"),
        ("FROM busybox\n", "&version=3", 400, "invalid version"),
        ("FROM busybox\n", "&networkmode=none&platform=plan9/mips", 501, "plan9/mips"),
        ("FROM busybox\n", "&remote=/etc", 400, "could not be recognized as URL"),
    ] {
        let answer = build(text, query);
        assert_eq!(answer.status, status, "{query} {text}: {answer:?}");
        assert!(answer.body.contains(part), "{query} {text}: {answer:?}");
    }
    let answer = daemon.upload("POST", "/build", b"no archive");
    assert!(answer.status >= 400 && answer.body.contains("archive"), "{answer:?}");
    let answer = daemon.upload("POST", "/build", b"");
    assert!(answer.body.contains("Cannot locate specified Dockerfile: Dockerfile"), "{answer:?}");
    daemon.finish();
}

#[test]
fn a_context_does_not_reach_the_hosts_files() {
    let daemon = Daemon::start();
    let secret = daemon.world.path().join("secret");
    std::fs::write(&secret, "FROM busybox\n# secret\nSECRET\n").unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    for (name, target) in
        [("Dockerfile", secret.as_path()), ("up", Path::new("../../../../../..")), (".dockerignore", &secret)]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, name, target).unwrap();
    }
    let mut inner = tar::Header::new_gnu();
    let text = format!("FROM busybox\nCOPY up{} /stolen\n", secret.display());
    inner.set_size(text.len() as u64);
    inner.set_mode(0o644);
    archive.append_data(&mut inner, "Inner", text.as_bytes()).unwrap();
    let archive = archive.into_inner().unwrap();
    let linked = daemon.upload("POST", "/build", &archive);
    assert!(linked.body.contains("Cannot locate specified Dockerfile"), "{linked:?}");
    let above =
        daemon.upload("POST", &format!("/build?dockerfile=../../../..{}", secret.display()), &archive);
    assert!(above.body.contains("Cannot locate specified Dockerfile"), "{above:?}");
    let through = daemon.upload("POST", "/build?dockerfile=Inner&networkmode=none", &archive);
    assert!(last_error(&through)["message"].as_str().unwrap().contains("file not found"), "{through:?}");
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.as_old_mut().name[..9].copy_from_slice(b"../../out");
    header.set_cksum();
    let mut climbing = tar::Builder::new(Vec::new());
    climbing.append(&header, &b"x"[..]).unwrap();
    let refused = daemon.upload("POST", "/build", &climbing.into_inner().unwrap());
    assert!(refused.body.contains("unsafe archive entry"), "{refused:?}");
    daemon.finish();
}

#[test]
fn a_build_ends_with_its_client() {
    let daemon = Daemon::start();
    let archive = context(&[("Dockerfile", "FROM busybox\nRUN echo begun; sleep 1000\n")]);
    let mut stream = daemon.send_bytes("POST", "/build?networkmode=none", &archive);
    stream.flush().unwrap();
    let mut stream = BufReader::new(stream);
    read_head(&mut stream);
    let mut line = String::new();
    while !line.contains("begun\\n") {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "it ended by itself");
    }
    drop(stream);
    // The last that is left of a session is its lock.
    let sessions = daemon.world.run_dir().join("sessions");
    let deadline = Instant::now() + NOTICE;
    while std::fs::read_dir(&sessions).unwrap().next().is_some() {
        assert!(Instant::now() < deadline, "the build goes on");
        std::thread::yield_now();
    }
    daemon.finish();
}

#[test]
fn what_a_build_made_is_used_again_until_it_is_pruned() {
    let daemon = Daemon::start();
    let archive = context(&[("Dockerfile", "FROM busybox\nRUN echo text > /file\n")]);
    let build = || told(&daemon.upload("POST", "/build?networkmode=none&t=cached", &archive));
    assert!(!build().contains("Using cache"));
    assert_eq!(daemon.ask("DELETE", "/images/cached", "").status, 200);
    assert!(build().contains("Using cache"), "the cache outlives the image");
    let cache = || daemon.ask("GET", "/system/df?type=build-cache", "").json()["BuildCache"].take();
    assert_eq!((cache()[0]["Shared"].clone(), cache()[0]["Size"].clone()), (json!(true), json!(5)));
    let prune = |query: &str| daemon.ask("POST", &format!("/build/prune{query}"), "").json();
    assert_eq!(prune("")["CachesDeleted"], json!([]), "an image has the layer");
    assert_eq!(daemon.ask("DELETE", "/images/cached", "").status, 200);
    assert_eq!(cache()[0]["Shared"], json!(false));
    let until = "?filters=%7B%22until%22:%7B%2224h%22:true%7D%7D";
    assert_eq!(prune(until)["CachesDeleted"], json!([]), "it was used just now");
    assert_eq!(prune("?keep-storage=1000")["CachesDeleted"], json!([]));
    let pruned = prune("");
    assert_eq!(
        (pruned["CachesDeleted"].as_array().unwrap().len(), &pruned["SpaceReclaimed"]),
        (1, &json!(5))
    );
    assert_eq!(cache(), json!([]));
    assert!(!build().contains("Using cache"));
    daemon.finish();
}

#[test]
fn a_context_may_be_a_repository() {
    let daemon = Daemon::start();
    let repositories = daemon.world.dir("git");
    let work = daemon.world.dir("git/app");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&work).args(["-c", "user.name=t", "-c", "user.email=t@example.com"]);
        expect_success(command.args(arguments))
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    std::fs::create_dir(work.join("sub")).unwrap();
    std::fs::write(work.join("sub/Dockerfile"), "FROM busybox\nCOPY file /\n").unwrap();
    std::fs::write(work.join("sub/file"), "content").unwrap();
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    git(&["tag", "v1"]);
    // By itself: a kill of the git command would not reach what it starts.
    let programs = expect_success(Command::new("git").arg("--exec-path")).stdout;
    let mut serve = Command::new(Path::new(String::from_utf8(programs).unwrap().trim()).join("git-daemon"));
    // A port that was free just now; who takes it in between makes the daemon end, and the test fail.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    serve.args(["--export-all", "--listen=127.0.0.1", &format!("--port={port}"), "--verbose"]);
    serve.arg(format!("--base-path={}", repositories.display())).stderr(Stdio::piped());
    let mut server = serve.spawn().unwrap();
    let mut said = BufReader::new(server.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("Ready to rumble")), "git daemon ended");
    std::thread::spawn(move || said.for_each(drop));
    let build = |fragment: &str| {
        let query = format!("/build?q=1&remote=git://127.0.0.1:{port}/app{}", fragment.replace('#', "%23"));
        daemon.ask("POST", &query, "")
    };
    assert!(told(&build("#v1:sub")).starts_with("sha256:"));
    assert_eq!(told(&build("#main:sub")), told(&build("#:sub")));
    let root = build("");
    assert!(root.body.contains("Cannot locate specified Dockerfile"), "{root:?}");
    for wrong in ["#nope", "#:none", "#:../../.."] {
        let answer = build(wrong);
        assert_eq!(answer.status, 400, "{wrong}: {answer:?}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
    daemon.finish();
}

#[test]
fn a_context_may_be_behind_an_address() {
    let daemon = Daemon::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let bodies = [
        (200, context(&[("Dockerfile", "FROM busybox\nCOPY Dockerfile /\n")])),
        (200, b"FROM busybox\nRUN true\n".to_vec()),
        (404, Vec::new()),
    ];
    let server = std::thread::spawn(move || {
        for (status, body) in bodies {
            let mut stream = listener.accept().unwrap().0;
            let mut request = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while request.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    let build = || daemon.ask("POST", &format!("/build?networkmode=none&remote=http://{address}/x"), "");
    assert!(told(&build()).contains("Step 2/2 : COPY Dockerfile /"));
    assert!(told(&build()).contains("Step 2/2 : RUN true"));
    let gone = build();
    assert_eq!(gone.status, 400, "{gone:?}");
    assert!(gone.body.contains("error downloading remote context"), "{gone:?}");
    server.join().unwrap();
    daemon.finish();
}
