//! Output and input: attached, logged, of execs.

use std::io::{BufReader, Read, Write};
use std::net::Shutdown;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, LogsOptionsBuilder, ResizeContainerTTYOptionsBuilder,
};
use futures::{SinkExt as _, Stream, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;

use super::daemon::{Daemon, create, host, read_head, remove, run, script, start, wait};

/// All of a stream: standard output, and standard error behind it.
async fn collect(output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>>) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut output = Box::pin(output);
    while let Some(piece) = output.next().await {
        match piece.unwrap() {
            LogOutput::StdErr { message } => err.extend_from_slice(&message),
            piece => out.extend_from_slice(&piece.into_bytes()),
        }
    }
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[tokio::test]
async fn a_client_that_attaches_before_the_start_hears_all() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    create(&docker, "early", script("echo out; echo err >&2; exit 5", |_| {})).await;
    let options = || AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true);
    let first = docker.attach_container("early", Some(options().build())).await.unwrap();
    start(&docker, "early").await.unwrap();
    assert_eq!(collect(first.output).await, ("out\n".to_owned(), "err\n".to_owned()));
    assert_eq!(wait(&docker, "early").await, 5);
    remove(&docker, "early").await;
    daemon.finish();
}

#[tokio::test]
async fn input_ends_when_the_client_has_said_all() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    create(
        &docker,
        "cat",
        script("cat; echo over >&2", |body| (body.open_stdin, body.stdin_once) = (Some(true), Some(true))),
    )
    .await;
    let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true);
    let mut attached = docker.attach_container("cat", Some(options.build())).await.unwrap();
    start(&docker, "cat").await.unwrap();
    attached.input.write_all(b"said").await.unwrap();
    attached.input.shutdown().await.unwrap();
    assert_eq!(collect(attached.output).await, ("said".to_owned(), "over\n".to_owned()));
    remove(&docker, "cat").await;
    daemon.finish();
}

/// Frames as they are on the wire, and the connection's end after the process's.
#[test]
fn an_exec_takes_over_the_connection_as_docker_does() {
    let daemon = Daemon::start();
    let made = daemon.ask(
        "POST",
        "/containers/create?name=box",
        r#"{"Image":"busybox","Cmd":["sleep","100"],"HostConfig":{"NetworkMode":"none"}}"#,
    );
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(daemon.ask("POST", "/containers/box/start", "").status, 204);
    let upgrade = "Content-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n";
    for (version, kind) in [("/v1.41", "raw-stream"), ("/v1.42", "multiplexed-stream")] {
        let exec = daemon.ask(
            "POST",
            "/containers/box/exec",
            r#"{"AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"Cmd":["sh","-c","cat; echo e >&2; exit 9"]}"#,
        );
        let id = serde_json::from_str::<serde_json::Value>(&exec.body).unwrap();
        let id = id["Id"].as_str().unwrap();
        let stream = daemon.send("POST", &format!("{version}/exec/{id}/start"), upgrade, "{}");
        let mut reader = BufReader::new(stream);
        let (status, headers) = read_head(&mut reader);
        assert_eq!((status, headers["upgrade"].as_str()), (101, "tcp"));
        assert_eq!(headers["content-type"], format!("application/vnd.docker.{kind}"));
        reader.get_mut().write_all(b"in").unwrap();
        reader.get_mut().shutdown(Shutdown::Write).unwrap();
        let mut wire = Vec::new();
        reader.read_to_end(&mut wire).unwrap();
        // The two come by a pipe each, so that neither is the first.
        let (out, err) = (*b"\x01\0\0\0\0\0\0\x02in", *b"\x02\0\0\0\0\0\0\x02e\n");
        assert!([[out, err].concat(), [err, out].concat()].contains(&wire), "{wire:?}");
        let seen = daemon.ask("GET", &format!("/exec/{id}/json"), "");
        let seen: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
        assert_eq!((&seen["ExitCode"], &seen["Running"]), (&9.into(), &false.into()));
        assert_eq!(daemon.ask("POST", &format!("/exec/{id}/start"), "{}").status, 409);
    }
    assert_eq!(daemon.ask("DELETE", "/containers/box?force=1", "").status, 204);
    daemon.finish();
}

#[tokio::test]
async fn who_attaches_may_hear_what_was_said_before() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let text = "echo early; echo error >&2; until test -e /go/on; do sleep 0.01; done; echo late";
    let go = daemon.world.dir("go");
    let body = script(text, |body| host(body).binds = Some(vec![format!("{}:/go", go.display())]));
    run(&docker, "talks", body).await;
    let logs = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(true).build();
    assert_eq!(docker.logs("talks", Some(logs)).take(2).count().await, 2);
    let attach = |query: &str| daemon.ask("POST", &format!("/containers/talks/attach?{query}"), "");
    let told = attach("logs=1&stderr=1");
    assert!(told.body.contains("\u{2}\0\0\0\0\0\0\u{6}error\n"), "{told:?}");
    assert!(!told.body.contains("early"), "{told:?}");
    let (heard, ()) = std::thread::scope(|scope| {
        let heard = scope.spawn(|| attach("logs=1&stream=1&stdout=1"));
        // It has begun to be heard, or will be from the log.
        std::fs::write(go.join("on"), "").unwrap();
        (heard.join().unwrap(), ())
    });
    assert!(heard.body.contains("early\n"), "{heard:?}");
    for (query, says) in [
        ("stdout=1", "either logs or stream must be asked for"),
        ("stream=1&detachKeys=ctrl-1", "Invalid detach keys (ctrl-1) provided"),
    ] {
        let refused = attach(query);
        assert_eq!((refused.status, refused.body.contains(says)), (400, true), "{refused:?}");
    }
    remove(&docker, "talks").await;
    daemon.finish();
}

#[tokio::test]
async fn execs_have_their_own_settings_and_exit_codes() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    run(&docker, "box", script("sleep 100", |body| body.env = Some(vec!["A=1".to_owned()]))).await;
    let exec = async |command: &[&str], tty: bool| {
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(tty),
            env: Some(vec!["A=2"]),
            working_dir: Some("/tmp"),
            user: Some("1000"),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let id = docker.create_exec("box", options).await.unwrap().id;
        let start = StartExecOptions { tty, ..StartExecOptions::default() };
        let StartExecResults::Attached { output, .. } = docker.start_exec(&id, Some(start)).await.unwrap()
        else {
            panic!("it is attached")
        };
        let (out, err) = collect(output).await;
        (out, err, docker.inspect_exec(&id).await.unwrap().exit_code.unwrap())
    };
    let (out, err, code) = exec(&["sh", "-c", "pwd; id -u; echo $A; echo no >&2; exit 3"], false).await;
    assert_eq!((out.as_str(), err.as_str(), code), ("/tmp\n1000\n2\n", "no\n", 3));
    let (out, _, code) = exec(&["sh", "-c", "test -t 1 && echo terminal"], true).await;
    assert_eq!((out.as_str(), code), ("terminal\r\n", 0));
    for tty in [false, true] {
        let (out, _, code) = exec(&["nope"], tty).await;
        assert_eq!(code, 127);
        assert!(out.contains("executable file not found in $PATH"), "{out}");
    }
    remove(&docker, "box").await;
    daemon.finish();
}

#[tokio::test]
async fn logs_are_followed_to_the_end_and_cut_as_asked() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let go = daemon.world.dir("go");
    let text = "echo one; echo two >&2; until test -e /go/on; do sleep 0.01; done; echo three";
    let body = script(text, |body| {
        super::daemon::host(body).binds = Some(vec![format!("{}:/go", go.display())]);
    });
    run(&docker, "talk", body).await;
    let options = || LogsOptionsBuilder::new().stdout(true).stderr(true);
    let mut followed = docker.logs("talk", Some(options().follow(true).build()));
    assert_eq!(followed.next().await.unwrap().unwrap().to_string(), "one\n");
    assert_eq!(followed.next().await.unwrap().unwrap().to_string(), "two\n");
    std::fs::write(go.join("on"), "").unwrap();
    assert_eq!(collect(followed).await.0, "three\n");
    let read = async |options: LogsOptionsBuilder| collect(docker.logs("talk", Some(options.build()))).await;
    assert_eq!(read(options()).await, ("one\nthree\n".to_owned(), "two\n".to_owned()));
    assert_eq!(read(options().tail("1")).await.0, "three\n");
    assert_eq!(read(options().stdout(false)).await, (String::new(), "two\n".to_owned()));
    assert_eq!(read(options().until(1)).await, (String::new(), String::new()));
    let (stamped, _) = read(options().tail("1").timestamps(true)).await;
    let (time, text) = stamped.split_once(' ').unwrap();
    assert_eq!((time.len(), text), ("2025-01-01T00:00:00.000000000Z".len(), "three\n"), "{stamped}");
    remove(&docker, "talk").await;
    daemon.finish();
}

#[tokio::test]
async fn a_terminal_is_resized_while_it_is_attached() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let text = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done";
    create(&docker, "tty", script(text, |body| body.tty = Some(true))).await;
    let options = AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true).build();
    let mut attached = docker.attach_container("tty", Some(options)).await.unwrap();
    start(&docker, "tty").await.unwrap();
    assert_eq!(attached.output.next().await.unwrap().unwrap().to_string(), "ready\r\n");
    let size = ResizeContainerTTYOptionsBuilder::new().h(33).w(77).build();
    docker.resize_container_tty("tty", size).await.unwrap();
    assert_eq!(collect(attached.output).await.0, "33 77\r\n");
    remove(&docker, "tty").await;
    daemon.finish();
}

#[tokio::test]
async fn a_websocket_carries_what_was_and_is_said() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let text = "echo early; echo error >&2; while read line; do echo got $line; done";
    run(&docker, "box", script(text, |body| body.open_stdin = Some(true))).await;
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(true).build();
    assert_eq!(docker.logs("box", Some(options)).take(2).count().await, 2);
    let stream = tokio::net::UnixStream::connect(daemon.socket()).await.unwrap();
    let address = "ws://docker/v1.41/containers/box/attach/ws?logs=1&stream=1&stdin=1&stdout=1";
    let (mut socket, _) = tokio_tungstenite::client_async(address, stream).await.unwrap();
    socket.send(Message::text("this\n")).await.unwrap();
    let mut heard = String::new();
    while !heard.ends_with("got this\n") {
        heard.push_str(socket.next().await.unwrap().unwrap().to_text().unwrap());
    }
    assert_eq!(heard, "early\ngot this\n");
    remove(&docker, "box").await;
    while let Some(Ok(message)) = socket.next().await {
        assert!(message.is_close(), "{message:?}");
    }
    assert_eq!(daemon.ask("GET", "/containers/box/attach/ws?stream=1", "").status, 400);
    daemon.finish();
}
