//! The `engine` command as `docker`: streams, exit codes, templates, terminals, signals, texts.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tests::{Authority, EngineDaemon, World, expect_success};

use crate::checkout::Ended;
use crate::host::Host;

const SLEEP: [&str; 3] = ["busybox:latest", "sleep", "1000"];

impl Host {
    fn sleeps(&self, name: &str, options: &[&str]) -> String {
        self.says(&[&["run", "-d", "--name", name], options, &SLEEP].concat())
    }

    /// Runs a command with a terminal that has 33 rows and 77 columns. Each text is typed when the one before it, of
    /// what is awaited, has been shown.
    fn types(&self, words: &[&str], typed: &[(&str, &str)]) -> Ended {
        let engine = self.engine(&[]);
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let program = engine.get_program().display();
        let script = format!("stty rows 33 cols 77; {program} {}", quoted.join(" "));
        let mut command = Command::new("script");
        command.args(["-qec", &script, "/dev/null"]);
        command.envs(engine.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut keys, mut shown) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (mut all, mut buffer) = (String::new(), [0; 4096]);
        let mut seen = 0;
        for (awaited, text) in typed {
            while !all[seen..].contains(awaited) {
                let length = shown.read(&mut buffer).unwrap();
                assert!(length > 0, "{awaited:?} never came:\n{all}");
                all.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
            seen = all.len();
            keys.write_all(text.as_bytes()).unwrap();
        }
        shown.read_to_string(&mut all).unwrap();
        Ended { code: child.wait().unwrap().code(), stdout: all, stderr: String::new() }
    }
}

#[test]
fn a_foreground_containers_streams_and_exit_code_are_here() {
    let host = Host::new();
    let ended = host.fails(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    ended.assert_code(7);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
    let mut command = host.engine(&["run", "-i", "--rm", "busybox", "sh", "-c", "wc -c; echo end"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // More than any pipe on the way holds.
    child.stdin.take().unwrap().write_all(&vec![b'x'; 1 << 20]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1048576\nend\n");
    let id = host.says(&["run", "-d", "--rm", "busybox", "true"]);
    assert_eq!(id.len(), 64, "{id}");
    assert_eq!(host.says(&["run", "-a", "stderr", "--rm", "busybox", "sh", "-c", "echo out"]), "");
    host.sleeps("web", &[]);
    host.fails(&["exec", "web", "sh", "-c", "exit 3"]).assert_code(3);
    assert_eq!(host.says(&["exec", "-e", "A=1", "-w", "/tmp", "web", "sh", "-c", "echo $A $PWD"]), "1 /tmp");
}

#[test]
fn what_cannot_be_run_has_dockers_exit_codes_and_texts() {
    let host = Host::new();
    let hint = "Run 'engine run --help' for more information";
    host.fails(&["run", "--rm", "busybox", "no-such-program"]).assert_code(127).assert_says(&[
        "engine: Error response from daemon: ",
        "executable file not found in $PATH",
        hint,
    ]);
    host.fails(&["run", "--rm", "busybox", "/etc"]).assert_code(126).assert_says(&["permission denied"]);
    host.fails(&["run", "--memory", "4k", "busybox", "true"])
        .assert_code(125)
        .assert_says(&["Minimum memory limit allowed is 6MB", hint]);
    host.fails(&["run", "--nope", "busybox"]).assert_code(125).assert_says(&[
        "unknown flag: --nope\n\nUsage:  engine run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'engine run --help'",
    ]);
    host.fails(&["run", "-m", "x", "busybox"])
        .assert_code(125)
        .assert_says(&["invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'"]);
    host.fails(&["ps", "--filter", "foo"])
        .assert_code(125)
        .assert_says(&["for \"-f, --filter\" flag: bad format of filter (expected name=value)"]);
    host.fails(&["ps", "x"]).assert_code(1).assert_says(&["engine: 'engine ps' accepts no arguments"]);
    host.fails(&["rm"]).assert_code(1).assert_says(&["'engine rm' requires at least 1 argument"]);
    host.fails(&["nope"]).assert_code(1).assert_says(&["engine: unknown command: engine nope"]);
    host.fails(&["stop", "a1", "b2"]).assert_code(1).assert_says(&[
        "Error response from daemon: No such container: a1\nError response from daemon: No such container: b2\n",
    ]);
    host.fails(&["exec", "a1", "true"]).assert_code(1).assert_says(&["No such container: a1"]);
    host.fails(&["run", "-it", "busybox", "sh"])
        .assert_code(1)
        .assert_says(&["the input device is not a TTY"]);
    assert_eq!(host.says(&["ps", "-aq"]), "");
}

#[test]
fn without_a_daemon_it_says_how_to_start_one() {
    let world = World::new();
    let socket = world.path().join("none.sock");
    let host = format!("unix://{}", socket.display());
    let mut command = world.program("engine");
    Ended::of(command.args(["-H", &host, "ps"])).assert_code(1).assert_says(&[
        "Cannot connect to the engine",
        &host,
        "engine daemon &",
    ]);
    let mut command = world.program("engine");
    let refused = Ended::of(command.args(["run", "busybox"]).env("DOCKER_HOST", "ssh://somewhere"));
    refused.assert_code(1).assert_says(&["unable to parse docker host `ssh://somewhere`"]);
}

#[test]
fn templates_show_what_is_asked_for() {
    let host = Host::new();
    let id = host.sleeps("web", &["-l", "a.b=c", "-p", "127.0.0.1::80"]);
    assert_eq!(
        host.says(&["ps", "--format", "{{.Names}} {{.Label \"a.b\"}} {{.Image}}"]),
        "web c busybox:latest"
    );
    let table = host.says(&["ps", "--format", "table {{upper .Names}}\\t{{.State}}"]);
    assert_eq!(table, "NAMES     STATE\nWEB       running");
    assert_eq!(host.says(&["ps", "-q"]), &id[..12]);
    let json: serde_json::Value = serde_json::from_str(&host.says(&["ps", "--format", "json"])).unwrap();
    assert_eq!((&json["Names"], &json["Labels"]), (&"web".into(), &"a.b=c".into()));
    let inspected =
        host.says(&["inspect", "-f", "{{.State.Running}} {{.Name}} {{index .Config.Labels \"a.b\"}}", "web"]);
    assert_eq!(inspected, "true /web c");
    let ports = "{{range $port, $all := .NetworkSettings.Ports}}{{$port}}={{(index $all 0).HostIp}}{{end}}";
    assert_eq!(host.says(&["container", "inspect", "--format", ports, "web"]), "80/tcp=127.0.0.1");
    let whole: serde_json::Value = serde_json::from_str(&host.says(&["inspect", "web"])).unwrap();
    assert_eq!(whole[0]["Id"], id);
    host.fails(&["inspect", "-f", "{{.Nope}}", "web"])
        .assert_code(1)
        .assert_says(&["executing \"\" at <.Nope>: map has no entry for key \"Nope\""]);
    host.fails(&["inspect", "-f", "{{", "web"]).assert_code(64).assert_says(&["unclosed action"]);
    let missing = host.fails(&["inspect", "nope"]);
    missing.assert_code(1).assert_says(&["Error: No such object: nope"]);
    assert_eq!(missing.stdout, "[]\n");
    fs::write(host.0.path().join("config.json"), r#"{"psFormat": "{{.Names}}!"}"#).unwrap();
    assert_eq!(host.says(&["ps"]), "web!");
}

#[test]
fn a_terminal_is_passed_through_and_may_be_left() {
    let host = Host::new();
    let sized = "until stty size | grep -q \"33 77\"; do sleep 0.1; done; exit 5";
    host.types(&["run", "-it", "--rm", "busybox", "sh", "-c", sized], &[]).assert_code(5);
    let answers = "echo ready; while read line; do echo =$line=; test $line = end && exit 4; done";
    let words = ["run", "-it", "--name", "left", "busybox", "sh", "-c", answers];
    let left = host.types(&words, &[("ready", "\u{10}x\n"), ("=", "\u{10}\u{11}")]);
    left.assert_code(0).assert_says(&["x=", "read escape sequence"]);
    assert_eq!(host.status("left"), "Up");
    let words = ["attach", "--detach-keys", "ctrl-x", "left"];
    host.types(&words, &[("", "end\n")]).assert_code(4).assert_says(&["=end="]);
    host.sleeps("web", &[]);
    let words = ["exec", "-it", "web", "sh", "-c", "echo ready; read line; tty; exit 6"];
    host.types(&words, &[("ready", "\n")]).assert_code(6).assert_says(&["/dev/pts/"]);
}

#[test]
fn signals_reach_the_container() {
    let host = Host::new();
    let script = "trap \"echo got it; exit 9\" TERM; echo ready; while :; do sleep 0.1; done";
    let mut command = host.engine(&["run", "--rm", "busybox", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got it");
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn logs_are_chosen_and_followed() {
    let host = Host::new();
    let script = "echo one; echo two >&2; echo three; until test -e /go; do sleep 0.1; done; echo four";
    host.says(&["run", "-d", "--name", "web", "busybox", "sh", "-c", script]);
    let mut follow = host.engine(&["logs", "-f", "web"]);
    let mut child = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!([lines.next(), lines.next()].map(|line| line.unwrap().unwrap()), ["one", "three"]);
    host.says(&["exec", "web", "touch", "/go"]);
    assert_eq!(lines.next().unwrap().unwrap(), "four");
    assert!(child.wait().unwrap().success());
    let all = host.fails(&["logs", "web"]);
    assert_eq!((all.stdout.as_str(), all.stderr.as_str()), ("one\nthree\nfour\n", "two\n"));
    assert_eq!(host.says(&["logs", "--tail", "1", "web"]), "four");
    assert_eq!(host.says(&["logs", "--since", "1h", "--until", "2001-01-01", "web"]), "");
    assert!(host.says(&["logs", "-t", "--tail", "1", "web"]).starts_with("20"));
    host.fails(&["logs", "--since", "yesterday", "web"])
        .assert_code(1)
        .assert_says(&["invalid value for \"since\""]);
}

#[test]
fn networks_and_volumes_are_made_listed_and_removed() {
    let host = Host::new();
    let id = host.says(&["network", "create", "--subnet", "10.213.0.0/24", "--label", "a=b", "shop"]);
    assert_eq!(host.says(&["network", "ls", "-q", "--no-trunc", "--filter", "name=shop"]), id);
    let subnet = "{{(index .IPAM.Config 0).Subnet}} {{.Labels.a}}";
    assert_eq!(host.says(&["network", "inspect", "-f", subnet, "shop"]), "10.213.0.0/24 b");
    host.sleeps("web", &["--network", "shop", "-v", "data:/data", "--network-alias", "www"]);
    assert_eq!(
        host.says(&[
            "run",
            "--rm",
            "--net",
            "shop",
            "busybox",
            "sh",
            "-c",
            "ping -c 1 www >/dev/null && echo there"
        ]),
        "there"
    );
    assert_eq!(host.says(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"]), "local data");
    host.fails(&["volume", "rm", "data"]).assert_code(1).assert_says(&["volume is in use"]);
    host.fails(&["network", "rm", "shop"]).assert_code(1).assert_says(&["has active endpoints"]);
    assert_eq!(host.says(&["rm", "-f", "web"]), "web");
    assert_eq!(host.says(&["volume", "rm", "data"]), "data");
    assert_eq!(host.says(&["network", "rm", "shop"]), "shop");
    host.says(&["network", "create", "unused"]);
    host.says(&["create", "--name", "idle", "busybox", "true"]);
    let pruned = host.says(&["system", "prune", "--force"]);
    for words in ["Deleted Containers:\n", "Deleted Networks:\nunused", "Total reclaimed space: "] {
        assert!(pruned.contains(words), "{pruned}");
    }
}

#[test]
fn images_are_built_named_saved_and_loaded() {
    let host = Host::new();
    let dir = host.0.dir("context");
    fs::write(
        dir.join("Dockerfile"),
        "FROM busybox:latest\nARG WHO\nCOPY . /all\nRUN echo hello $WHO >/greeting\n",
    )
    .unwrap();
    fs::write(dir.join(".dockerignore"), "secret\n").unwrap();
    fs::write(dir.join("secret"), "").unwrap();
    let iid = host.0.path().join("iid");
    let (context, iid_name) = (dir.to_str().unwrap(), iid.to_str().unwrap());
    let built =
        host.says(&["build", "-t", "made:1", "--build-arg", "WHO=world", "--iidfile", iid_name, context]);
    assert!(
        built.contains("Step 1/4 : FROM busybox:latest\n") && built.ends_with("Successfully tagged made:1"),
        "{built}"
    );
    let id = fs::read_to_string(&iid).unwrap();
    assert_eq!(host.says(&["build", "--quiet", "--build-arg", "WHO=world", context]), id);
    assert_eq!(
        host.says(&["run", "--rm", "made:1", "sh", "-c", "cat /greeting; ls -A /all"]),
        "hello world\n.dockerignore\nDockerfile"
    );
    host.says(&["tag", "made:1", "other:2"]);
    let listed = host.says(&["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=*:2"]);
    assert_eq!(listed, "other:2");
    assert!(
        host.says(&["history", "--format", "{{.CreatedBy}}", "--no-trunc", "made:1"])
            .contains("echo hello $WHO")
    );
    let archive = host.0.path().join("made.tar");
    host.says(&["save", "-o", archive.to_str().unwrap(), "made:1"]);
    assert!(host.says(&["rmi", "made:1", "other:2"]).contains(&format!("Deleted: {id}")));
    assert_eq!(host.says(&["load", "-i", archive.to_str().unwrap()]), "Loaded image: made:1");
    assert_eq!(host.says(&["image", "inspect", "-f", "{{.Id}}", "made:1"]), id);
    fs::write(dir.join("Dockerfile"), "FROM busybox:latest\nRUN exit 7\n").unwrap();
    host.fails(&["build", context]).assert_code(1).assert_says(&["returned a non-zero code: 7"]);
    host.fails(&["build", "/no/such/place"])
        .assert_code(1)
        .assert_says(&["path \"/no/such/place\" not found"]);
    let mut stdin = host.engine(&["build", "-q", "-"]);
    let mut child = stdin.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"FROM busybox:latest\nENV A=1\n").unwrap();
    assert!(child.wait_with_output().unwrap().stdout.starts_with(b"sha256:"));
}

#[test]
fn the_container_id_file_is_there_only_if_the_container_is() {
    let host = Host::new();
    let file = host.0.path().join("cid");
    let name = file.to_str().unwrap();
    host.fails(&["create", "--cidfile", name, "-m", "4k", "busybox", "true"]).assert_code(1);
    assert!(!file.exists(), "it is left though there is no container");
    let id = host.says(&["create", "--cidfile", name, "busybox", "true"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), id);
    host.fails(&["run", "--cidfile", name, "busybox", "true"])
        .assert_code(125)
        .assert_says(&["container ID file found, make sure the other container isn't running or delete"]);
}

#[test]
fn a_daemon_is_reached_by_tls() {
    let world = World::new();
    let authority = Authority::make(&world.dir("certificates"));
    let (server, client) = (authority.sign("server"), authority.sign("client"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = world.program("engine");
    command.arg("daemon").args(["--tlsverify", "-H", &format!("tcp://127.0.0.1:{port}"), "--tlscacert"]);
    command.arg(authority.certificate()).arg("--tlscert").arg(&server.certificate);
    command.arg("--tlskey").arg(&server.key);
    let _daemon = EngineDaemon::run(command);
    let ask = |options: &[&std::ffi::OsStr]| {
        let mut command = world.program("engine");
        command.args(["-H", &format!("tcp://127.0.0.1:{port}")]).args(options);
        Ended::of(command.args(["version", "--format", "{{.Server.Platform.Name}}"]))
    };
    let (ca, certificate, key) = (authority.certificate(), client.certificate, client.key);
    let own = ["--tlscert".as_ref(), certificate.as_os_str(), "--tlskey".as_ref(), key.as_os_str()];
    let verified = [&["--tlsverify".as_ref(), "--tlscacert".as_ref(), ca.as_os_str()][..], &own].concat();
    let answer = ask(&verified);
    answer.assert_code(0);
    assert_eq!(answer.stdout, "Lighter\n");
    ask(&[&["--tls".as_ref()][..], &own].concat()).assert_code(0);
    // Another authority, no certificate of one's own, no TLS at all.
    let stranger = Authority::make(&world.dir("others")).certificate();
    ask(&[&["--tlsverify".as_ref(), "--tlscacert".as_ref(), stranger.as_os_str()][..], &own].concat())
        .assert_code(1)
        .assert_says(&["TLS: "]);
    ask(&["--tlsverify".as_ref(), "--tlscacert".as_ref(), ca.as_os_str()]).assert_code(1);
    ask(&[]).assert_code(1);
    // As `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` say it.
    let path = world.dir("path");
    for (from, name) in [(&ca, "ca.pem"), (&certificate, "cert.pem"), (&key, "key.pem")] {
        fs::copy(from, path.join(name)).unwrap();
    }
    let mut command = world.program("engine");
    command.env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", &path);
    expect_success(command.env("DOCKER_HOST", format!("tcp://127.0.0.1:{port}")).arg("version"));
}

#[test]
fn shells_and_manuals_are_told_of_every_command() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = expect_success(world.program("engine").args(["completion", shell])).stdout;
        assert!(String::from_utf8_lossy(&script).contains("unpause"), "{shell}");
    }
    let pages = world.path().join("man");
    expect_success(world.program("engine").arg("man").arg(&pages));
    for page in ["engine.1", "engine-run.1", "engine-network-create.1"] {
        assert!(pages.join(page).is_file(), "{page}");
    }
    let help = expect_success(world.program("engine").args(["network", "--help"])).stdout;
    assert!(
        String::from_utf8_lossy(&help)
            .starts_with("Usage:  engine network COMMAND\n\nManage networks\n\nCommands:\n")
    );
}
