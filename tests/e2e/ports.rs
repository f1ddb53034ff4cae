//! `engine run -p`, `engine port` and the PORTS column, with a real server in a real container.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use crate::host::{Host, PATIENCE, SERVER};

/// A port of the host that nobody has now.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// What the server behind a port of the host answers, if anything.
fn ask(address: &str) -> Option<String> {
    let mut answer = String::new();
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /x HTTP/1.0\r\n\r\n").ok()?;
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Whether the server comes to answer: it may still be about to listen.
fn comes_to_serve(address: &str) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if ask(address).is_some_and(|answer| answer.contains("served")) {
            return true;
        }
    }
    false
}

#[test]
fn a_published_port_serves_until_its_container_stops() {
    let host = Host::new();
    host.serve("web", &["-p", "127.0.0.1::80", "--expose", "443", "--expose", "9000-9001/udp"]);
    let address = host.says(&["port", "web", "80"]);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert_eq!(host.says(&["port", "web"]), format!("80/tcp -> {address}"));
    assert!(comes_to_serve(&address));
    assert_eq!(host.column("web", "Ports"), format!("443/tcp, 9000-9001/udp, {address}->80/tcp"));
    host.fails(&["port", "web", "81"])
        .assert_code(1)
        .assert_says(&["Error: No public port '81' published for web"]);
    host.says(&["stop", "-t", "0", "web"]);
    assert!(TcpStream::connect(&*address).is_err(), "nobody is there");
    assert!(TcpListener::bind(&*address).is_ok(), "it is free");
    assert_eq!((host.says(&["port", "web"]), host.column("web", "Ports")), (String::new(), String::new()));
    assert_eq!(host.rules(), [""; 0]);
}

#[test]
fn all_exposed_ports_get_free_ports() {
    let host = Host::new();
    host.serve("web", &["-P", "--expose", "80", "--expose", "81/udp"]);
    let listing = host.says(&["port", "web"]);
    let lines: Vec<&str> = listing.lines().collect();
    assert!(
        lines[0].starts_with("80/tcp -> 0.0.0.0:") && lines[1].starts_with("81/udp -> 0.0.0.0:"),
        "{listing}"
    );
    let port = lines[0].rsplit_once(':').unwrap().1;
    assert!(comes_to_serve(&format!("127.0.0.1:{port}")));
}

#[test]
fn a_port_in_use_is_refused_with_the_name_of_its_holder() {
    let host = Host::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let publish = format!("127.0.0.1:{port}:80");
    let refused = host.fails(&[&["run", "-d", "-p", &publish], &SERVER[..]].concat());
    let own = format!("(process {})", std::process::id());
    let bind = format!("failed to bind host port 127.0.0.1:{port}/tcp: address already in use by ");
    refused.assert_code(125).assert_says(&[&bind, &own]);
    drop(listener);
    host.serve("first", &["-p", &publish]);
    let refused = host.fails(&[&["run", "-d", "--name", "second", "-p", &publish], &SERVER[..]].concat());
    let allocated = format!("Bind for 127.0.0.1:{port} failed: port is already allocated to container first");
    refused.assert_code(125).assert_says(&[&allocated]);
    // On all addresses it is the same port.
    let anywhere = format!("{port}:80");
    host.fails(&[&["run", "-d", "-p", &anywhere], &SERVER[..]].concat())
        .assert_code(125)
        .assert_says(&["port is already allocated to container first"]);
    assert!(comes_to_serve(&format!("127.0.0.1:{port}")), "the first still has it");
    host.says(&["rm", "-f", "first"]);
    host.serve("third", &["-p", &publish]);
    assert!(comes_to_serve(&format!("127.0.0.1:{port}")));
}

#[test]
fn a_program_that_cannot_be_run_keeps_no_port() {
    let host = Host::new();
    let publish = format!("127.0.0.1:{}:80", free_port());
    host.fails(&["run", "--rm", "-p", &publish, "busybox:latest", "no-such-program"]).assert_code(127);
    assert_eq!(host.rules(), [""; 0]);
    host.serve("web", &["-p", &publish]);
}

#[test]
fn a_container_that_ends_by_itself_keeps_no_port() {
    let host = Host::new();
    let publish = format!("127.0.0.1:{}:80", free_port());
    host.says(&["run", "-p", &publish, "busybox:latest", "true"]);
    assert_eq!(host.rules(), [""; 0]);
    host.says(&["run", "--rm", "-p", &publish, "busybox:latest", "true"]);
}

/// Then nobody takes the port out of the rules.
#[test]
fn the_ports_of_a_killed_supervisor_are_swept() {
    let host = Host::new();
    let publish = format!("127.0.0.1:{}:80", free_port());
    let id = host.serve("web", &["-p", &publish]);
    host.kill_supervisor(&id);
    assert_eq!(host.rules().len(), 1, "the rule is left");
    host.0.end_daemon();
    host.says(&["ps"]);
    assert_eq!(host.rules(), [""; 0], "and gone after the next start of a daemon");
    host.serve("next", &["-p", &publish]);
}

#[test]
fn texts_that_are_no_ports_are_refused_in_dockers_words() {
    let host = Host::new();
    for (option, text, says) in [
        ("-p", "x:80", "invalid hostPort: x"),
        ("-p", "80/icmp", "invalid proto: icmp"),
        ("-p", "1-2:3-5", "invalid ranges specified for container and host Ports: 3-5 and 1-2"),
        ("--expose", "1:2", "invalid port format for --expose: 1:2"),
    ] {
        host.fails(&["run", option, text, "busybox:latest"]).assert_code(125).assert_says(&[says]);
    }
    assert_eq!(host.says(&["ps", "-aq"]), "");
}
