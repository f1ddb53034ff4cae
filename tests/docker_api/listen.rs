//! Where and how the daemon listens, and its file of options.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tests::{Authority, Certificate, World};

use super::daemon::{Daemon, host, listening, read_answer, remove, run, script, wait};

const PING: &str = "GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n";

fn end(mut daemon: Child) {
    kill_process(Pid::from_raw(i32::try_from(daemon.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
    assert!(daemon.wait().unwrap().success());
}

/// What a daemon says that does not start.
fn refused(world: &World, arguments: &[&str]) -> String {
    let output = world.program("engine").arg("daemon").args(arguments).output().unwrap();
    assert!(!output.status.success(), "it started");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn plain_tcp_is_for_this_host_unless_somebody_insists() {
    let world = World::new();
    let text = refused(&world, &["-H", "tcp://0.0.0.0:0"]);
    assert!(text.contains("is not a loopback address") && text.contains("--tlsverify"), "{text}");
    for (arguments, host) in [
        (["-H", "tcp://127.0.0.1:0"].as_slice(), "127.0.0.1"),
        (&["-H", "tcp://[::1]:0", "--tls=false"], "[::1]"),
    ] {
        let (daemon, address) = listening(world.program("engine").arg("daemon").args(arguments));
        let port = address.rsplit_once(':').unwrap().1;
        let mut stream = std::net::TcpStream::connect(format!("{host}:{port}")).unwrap();
        stream.write_all(PING.as_bytes()).unwrap();
        let answer = std::io::read_to_string(stream).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        end(daemon);
    }
}

/// Asks by TLS, as openssl's client does it.
fn ask(address: &str, authority: &Authority, own: Option<&Certificate>) -> Output {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-ign_eof", "-verify_return_error", "-connect", address, "-CAfile"]);
    command.arg(authority.certificate());
    if let Some(own) = own {
        command.arg("-cert").arg(&own.certificate).arg("-key").arg(&own.key);
    }
    let mut client =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    client.stdin.take().unwrap().write_all(PING.as_bytes()).unwrap();
    client.wait_with_output().unwrap()
}

#[test]
fn tls_serves_those_whom_the_authority_knows() {
    let world = World::new();
    let authority = Authority::make(&world.dir("certificates"));
    let stranger = Authority::make(&world.dir("others")).sign("stranger");
    let (server, client) = (authority.sign("server"), authority.sign("client"));
    let tls = |arguments: &[&str]| {
        let mut command = world.program("engine");
        command.args(["daemon", "-H", "tcp://127.0.0.1:0"]).args(arguments);
        command.arg("--tlscert").arg(&server.certificate).arg("--tlskey").arg(&server.key);
        command.arg("--tlscacert").arg(authority.certificate());
        let (daemon, address) = listening(&mut command);
        (daemon, address.strip_prefix("tcp://").unwrap().to_owned())
    };
    let is_served = |address: &str, own| {
        let output = ask(address, &authority, own);
        String::from_utf8_lossy(&output.stdout).starts_with("HTTP/1.1 200 OK")
    };
    let (daemon, address) = tls(&["--tlsverify"]);
    // One that says nothing holds up nobody.
    let _silent = std::net::TcpStream::connect(&address).unwrap();
    assert!(is_served(&address, Some(&client)));
    assert!(!is_served(&address, Some(&stranger)));
    assert!(!is_served(&address, None));
    end(daemon);
    let (daemon, address) = tls(&["--tls"]);
    assert!(is_served(&address, None));
    end(daemon);
    let text = refused(
        &world,
        &["-H", "tcp://127.0.0.1:0", "--tls", "--tlscert", "/none.pem", "--tlskey", "/none.key"],
    );
    assert!(text.contains("/none.pem"), "{text}");
}

#[test]
fn a_service_manager_may_open_the_socket() {
    let world = World::new();
    let path = world.path().join("activated.sock");
    let socket = UnixListener::bind(&path).unwrap();
    // The first of the passed descriptors is 3, and LISTEN_PID says that they are for whom (sd_listen_fds(3)).
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=api; exec 3<&0 0</dev/null; exec \"$@\"";
    let engine = world.program("engine");
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(engine.get_program()).args(["daemon", "-H", "fd://api"]);
    command.envs(engine.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (daemon, _) = listening(command.stdin(OwnedFd::from(socket)));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(PING.as_bytes()).unwrap();
    assert_eq!(read_answer(stream).body, "OK");
    end(daemon);
    assert!(path.exists(), "the service manager's socket is gone");
    let text = refused(&world, &["-H", "fd://"]);
    assert!(text.contains("no such socket was passed"), "{text}");
}

#[test]
fn options_may_stand_in_a_file() {
    let world = World::new();
    let (file, socket) = (world.path().join("daemon.json"), world.path().join("file.sock"));
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let name = file.to_str().unwrap();
    write(&format!(r#"{{"hosts": ["unix://{}"], "dns": ["10.9.8.7"]}}"#, socket.display()));
    let (daemon, address) = listening(world.program("engine").args(["daemon", "--config-file", name]));
    assert_eq!(address, format!("unix://{}", socket.display()));
    end(daemon);
    let text = refused(&world, &["--config-file", name, "-H", "unix:///x"]);
    assert!(text.contains("both as a flag and in the configuration file: hosts"), "{text}");
    write(r#"{"hots": []}"#);
    let text = refused(&world, &["--config-file", name, "--validate"]);
    assert!(text.contains(name) && text.contains("unknown field `hots`"), "{text}");
    assert!(refused(&world, &["--config-file", "/none.json"]).contains("/none.json"));
    assert!(refused(&world, &["--bip", "10.0.0.0/8"]).contains("is no host's address in 10.0.0.0/8"));
}

#[tokio::test]
async fn networks_and_names_are_as_the_daemon_is_told() {
    let world = World::new();
    world.import("busybox:latest");
    let options = ["--bip", "10.217.7.9/24", "--default-address-pool", "base=10.218.0.0/16,size=28"];
    let daemon = Daemon::start_with(world, &[&options[..], &["--dns-search", "shop.test"]].concat());
    let docker = daemon.docker();
    let created = daemon.ask("POST", "/networks/create", r#"{"Name": "shop"}"#);
    assert_eq!(created.status, 201, "{}", created.body);
    let shop = daemon.ask("GET", "/networks/shop", "");
    assert!(shop.body.contains(r#""Subnet":"10.218.0.0/28""#), "{}", shop.body);
    let body = script("ip -4 addr show eth0; ip route; cat /etc/resolv.conf", |body| {
        host(body).network_mode = Some("bridge".to_owned());
    });
    run(&docker, "web", body).await;
    assert_eq!(wait(&docker, "web").await, 0);
    let said = daemon.ask("GET", "/containers/web/logs?stdout=1", "").body;
    for part in ["inet 10.217.7.", "default via 10.217.7.9", "search shop.test"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    remove(&docker, "web").await;
}
