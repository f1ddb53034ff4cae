//! Published ports: who reaches them, who does not, and who keeps them.

use std::collections::HashSet;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use engine_network::{
    BridgeSpec, EndpointSpec, IfName, PortMapping, Protocol, PublishedPort, Reservation, ReserveError,
};
use engine_types::ErrorKind;

use super::world::{HOST, INSTANCE, Netns, OUTSIDE, PORT, World, address, endpoint};

/// The host's port in these tests.
const PUBLISHED: u16 = 9000;

fn mapping(host_ip: Ipv4Addr, host_ports: Option<(u16, u16)>) -> PortMapping {
    PortMapping { protocol: Protocol::Tcp, container_port: PORT, host_ip, host_ports }
}

/// Publishes the server's port of container number `number` at one address of the host.
fn publish(world: &World, spec: &BridgeSpec, number: u8, host_ip: Ipv4Addr) -> Reservation {
    let wanted = [mapping(host_ip, Some((PUBLISHED, PUBLISHED)))];
    world.host.within(|| {
        let reserved = world.driver.reserve(&wanted).unwrap();
        world.driver.publish(&spec.name, address(spec, number), &reserved.ports).unwrap();
        reserved
    })
}

fn open(world: &World, n: u8) -> BridgeSpec {
    BridgeSpec { host_access: true, ..world.spec(n) }
}

/// What the server saw of a connection to the published port.
fn seen(from: &Netns, host: Ipv4Addr) -> Option<std::net::IpAddr> {
    from.seen_at_port(SocketAddr::new(host.into(), PUBLISHED))
}

#[test]
fn everyone_reaches_a_published_port() {
    let world = World::new();
    let (one, two, guarded) = (open(&world, 1), open(&world, 2), world.spec(3));
    for spec in [&one, &two, &guarded] {
        world.ensure(spec);
    }
    let (server, neighbour) = (world.container(&one, 2), world.container(&one, 3));
    let (other, job) = (world.container(&two, 2), world.container(&guarded, 2));
    server.serve();
    assert_eq!(seen(&world.outside, HOST), None, "before it is published");
    let reserved = publish(&world, &one, 2, Ipv4Addr::UNSPECIFIED);
    assert_eq!(seen(&world.outside, HOST), Some(OUTSIDE.into()), "the outside, by its own address");
    assert_eq!(seen(&world.host, HOST), Some(HOST.into()), "the host");
    assert_eq!(seen(&world.host, Ipv4Addr::LOCALHOST), Some(one.gateway.into()), "the host's loopback");
    assert_eq!(seen(&world.host, one.gateway), Some(one.gateway.into()), "the host's address on the network");
    assert_eq!(seen(&neighbour, HOST), Some(one.gateway.into()), "a neighbour");
    assert_eq!(seen(&server, HOST), Some(one.gateway.into()), "the container itself");
    assert_eq!(seen(&other, HOST), Some(address(&two, 2).into()), "another network");
    assert_eq!(seen(&job, HOST), None, "a network that may not reach the host");
    world.host.within(|| world.driver.unpublish(address(&one, 2), &reserved.ports)).unwrap();
    assert_eq!(seen(&world.outside, HOST), None, "after it is withdrawn");
    assert_eq!(seen(&world.host, Ipv4Addr::LOCALHOST), None);
}

/// br_netfilter, where it is loaded, applies the host's rules to a network's frames.
const BRIDGE_FILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

#[test]
fn a_container_reaches_itself_by_its_published_port() {
    for bridge_filter in ["0", "1"] {
        let world = World::new();
        if std::fs::exists(BRIDGE_FILTER).unwrap() {
            world.host.within(|| std::fs::write(BRIDGE_FILTER, bridge_filter)).unwrap();
        }
        let spec = open(&world, 1);
        world.ensure(&spec);
        let (server, neighbour) = (world.container(&spec, 2), world.container(&spec, 3));
        server.serve();
        let _reserved = publish(&world, &spec, 2, Ipv4Addr::UNSPECIFIED);
        assert_eq!(seen(&server, HOST), Some(spec.gateway.into()), "itself, {bridge_filter}");
        assert_eq!(seen(&neighbour, HOST), Some(spec.gateway.into()), "a neighbour, {bridge_filter}");
    }
}

#[test]
fn neighbours_that_may_not_reach_each_other_do_so_by_published_ports() {
    let world = World::new();
    if std::fs::exists(BRIDGE_FILTER).unwrap() {
        world.host.within(|| std::fs::write(BRIDGE_FILTER, "0")).unwrap();
    }
    let spec = BridgeSpec { icc: false, ..open(&world, 1) };
    world.ensure(&spec);
    let (server, neighbour) = (world.container(&spec, 2), world.container(&spec, 3));
    server.serve();
    let _reserved = publish(&world, &spec, 2, Ipv4Addr::UNSPECIFIED);
    assert_eq!(seen(&neighbour, HOST), Some(spec.gateway.into()));
    assert_eq!(neighbour.seen_at(address(&spec, 2)), None);
}

#[test]
fn a_network_with_a_switch_publishes_too() {
    let world = World::new();
    let spec = open(&world, 1);
    let switch = world.host.within(|| world.driver.make_switch(&spec)).unwrap();
    let plug = |number| {
        let netns = Netns::new();
        let endpoint = EndpointSpec { bridge: IfName::switch_bridge(), ..endpoint(&spec, number) };
        world.host.within(|| world.driver.attach(&endpoint, Some(&switch), netns.fd().as_fd())).unwrap();
        netns
    };
    let (server, neighbour) = (plug(2), plug(3));
    server.serve();
    let _reserved = publish(&world, &spec, 2, Ipv4Addr::UNSPECIFIED);
    assert_eq!(seen(&world.outside, HOST), Some(OUTSIDE.into()));
    assert_eq!(seen(&world.host, Ipv4Addr::LOCALHOST), Some(spec.gateway.into()));
    assert_eq!(seen(&neighbour, HOST), Some(spec.gateway.into()));
}

#[test]
fn an_address_of_the_host_is_the_only_one() {
    let world = World::new();
    let spec = open(&world, 1);
    world.ensure(&spec);
    let second = Ipv4Addr::new(198, 51, 100, 3);
    world.host.run(&format!("ip addr add {second}/24 dev up0"));
    let server = world.container(&spec, 2);
    server.serve();
    let _reserved = publish(&world, &spec, 2, second);
    assert_eq!(seen(&world.outside, second), Some(OUTSIDE.into()));
    assert_eq!(seen(&world.outside, HOST), None);
    assert_eq!(seen(&world.host, Ipv4Addr::LOCALHOST), None);
}

/// Gives a namespace a way to another machine's loopback address, as an attacker on the same wire has.
fn route_loopback(netns: &Netns, gateway: Ipv4Addr) {
    netns.within(|| std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1")).unwrap();
    netns.run("ip addr del 127.0.0.1/8 dev lo");
    netns.run(&format!("ip route add 127.0.0.1/32 via {gateway}"));
}

#[test]
fn loopback_ports_are_the_hosts_alone() {
    let world = World::new();
    let spec = open(&world, 1);
    world.ensure(&spec);
    let (server, neighbour) = (world.container(&spec, 2), world.container(&spec, 3));
    server.serve();
    let _reserved = publish(&world, &spec, 2, Ipv4Addr::LOCALHOST);
    assert_eq!(seen(&world.host, Ipv4Addr::LOCALHOST), Some(spec.gateway.into()));
    assert_eq!((seen(&world.outside, HOST), seen(&world.host, HOST)), (None, None));
    route_loopback(&world.outside, HOST);
    route_loopback(&neighbour, spec.gateway);
    world.host.serve();
    assert_eq!(seen(&world.outside, Ipv4Addr::LOCALHOST), None, "the published one, from outside");
    assert_eq!(seen(&neighbour, Ipv4Addr::LOCALHOST), None, "the published one, from a container");
    assert_eq!(neighbour.seen_at(Ipv4Addr::LOCALHOST), None, "a service of the host, from a container");
    // That the attacks are sound shows without what keeps them out.
    let table = format!("inet lighter_{INSTANCE}");
    world.host.run(&format!("nft flush chain {table} source_check"));
    assert_eq!(neighbour.seen_at(Ipv4Addr::LOCALHOST), Some(address(&spec, 3).into()));
    world.host.run(&format!("nft flush chain {table} way_in"));
    world.host.run(&format!(
        "nft add rule {table} way_in dnat ip to ip daddr . meta l4proto . th dport map @published_at"
    ));
    assert_eq!(seen(&world.outside, Ipv4Addr::LOCALHOST), Some(OUTSIDE.into()));
}

#[test]
fn an_internal_network_publishes_nothing_to_the_outside() {
    let world = World::new();
    let spec = BridgeSpec { internal: true, ..world.spec(1) };
    world.ensure(&spec);
    let server = world.container(&spec, 2);
    server.run(&format!("ip route add default via {}", spec.gateway));
    server.serve();
    let _reserved = publish(&world, &spec, 2, Ipv4Addr::UNSPECIFIED);
    assert_eq!(seen(&world.outside, HOST), None);
}

#[test]
fn a_forward_policy_of_drop_does_not_keep_published_ports_shut() {
    let world = World::new();
    world.host.run("iptables -P FORWARD DROP");
    let spec = open(&world, 1);
    world.ensure(&spec);
    let server = world.container(&spec, 2);
    server.serve();
    let _reserved = publish(&world, &spec, 2, Ipv4Addr::UNSPECIFIED);
    assert_eq!(seen(&world.outside, HOST), Some(OUTSIDE.into()));
}

#[test]
fn datagrams_are_led_and_answered() {
    let world = World::new();
    let spec = open(&world, 1);
    world.ensure(&spec);
    let container = world.container(&spec, 2);
    let server = container.within(|| UdpSocket::bind(("0.0.0.0", PORT))).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let wanted = [PortMapping { protocol: Protocol::Udp, ..mapping(Ipv4Addr::UNSPECIFIED, None) }];
    let reserved = world.host.within(|| world.driver.reserve(&wanted)).unwrap();
    world.host.within(|| world.driver.publish(&spec.name, address(&spec, 2), &reserved.ports)).unwrap();
    let port = reserved.ports[0].host_port;
    for (from, host) in [(&world.outside, HOST), (&world.host, Ipv4Addr::LOCALHOST)] {
        let client = from.within(|| UdpSocket::bind(("0.0.0.0", 0))).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.connect((host, port)).unwrap();
        client.send(b"ask").unwrap();
        let mut buffer = [0; 8];
        let (length, peer) = server.recv_from(&mut buffer).unwrap();
        server.send_to(&buffer[..length], peer).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 3, "{host}");
    }
}

/// The kernel has a flow's packets go where its first one went, for as long as they keep coming.
#[test]
fn a_flow_of_datagrams_follows_its_port() {
    let world = World::new();
    let spec = open(&world, 1);
    world.ensure(&spec);
    let client = world.outside.within(|| UdpSocket::bind((OUTSIDE, 4000))).unwrap();
    client.send_to(b"to nobody", (HOST, PUBLISHED)).unwrap();
    for number in [2, 3] {
        let container = world.container(&spec, number);
        let server = container.within(|| UdpSocket::bind(("0.0.0.0", PORT))).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let port = PublishedPort {
            protocol: Protocol::Udp,
            host_ip: Ipv4Addr::UNSPECIFIED,
            host_port: PUBLISHED,
            container_port: PORT,
        };
        let to = address(&spec, number);
        world.host.within(|| world.driver.publish(&spec.name, to, &[port])).unwrap();
        client.send_to(b"to somebody", (HOST, PUBLISHED)).unwrap();
        let mut buffer = [0; 16];
        let (length, _) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"to somebody", "{number}");
        world.host.within(|| world.driver.unpublish(to, &[port])).unwrap();
    }
}

#[test]
fn ports_of_every_protocol_come_and_go_at_once() {
    let world = World::new();
    let spec = open(&world, 1);
    world.ensure(&spec);
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let ports =
        all.map(|protocol| PublishedPort { protocol, host_ip: HOST, host_port: 53, container_port: 5353 });
    let (driver, container) = (&world.driver, address(&spec, 2));
    world.host.within(|| driver.publish(&spec.name, container, &ports)).unwrap();
    let listed = || world.host.run(&format!("nft list map inet lighter_{INSTANCE} published_at"));
    for protocol in ["tcp", "udp", "sctp"] {
        assert!(listed().contains(&format!("{HOST} . {protocol} . 53 : {container} . 5353")), "{}", listed());
    }
    let command = driver.withdrawal(container, &ports).unwrap();
    world.host.within(|| {
        let mut nft = std::process::Command::new(&command.program);
        let mut nft = nft.args(&command.args).stdin(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut nft.stdin.take().unwrap(), command.input.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success());
    });
    assert!(!listed().contains("elements"), "{}", listed());
}

/// The network stands then, and nobody makes it again.
#[test]
fn a_network_of_an_older_version_publishes_too() {
    let world = World::new();
    let spec = open(&world, 1);
    world.ensure(&spec);
    let table = format!("inet lighter_{INSTANCE}");
    for command in [
        "flush chain TABLE way_in",
        "flush chain TABLE host_way_in",
        "delete map TABLE published",
        "delete map TABLE published_at",
        "delete chain TABLE generation_3",
    ] {
        world.host.run(&format!("nft {}", command.replace("TABLE", &table)));
    }
    let server = world.container(&spec, 2);
    server.serve();
    let _reserved = publish(&world, &spec, 2, Ipv4Addr::UNSPECIFIED);
    assert_eq!(seen(&world.outside, HOST), Some(OUTSIDE.into()));
}

#[test]
fn a_port_that_leads_elsewhere_by_now_is_not_withdrawn() {
    let world = World::new();
    let spec = open(&world, 1);
    world.ensure(&spec);
    let server = world.container(&spec, 3);
    server.serve();
    let reserved = publish(&world, &spec, 3, Ipv4Addr::UNSPECIFIED);
    let gone = PublishedPort { host_port: 9001, ..reserved.ports[0] };
    world.host.within(|| {
        // One that nobody has published, and one that another container has by now.
        world.driver.unpublish(address(&spec, 2), &[gone, reserved.ports[0]]).unwrap();
    });
    assert_eq!(seen(&world.outside, HOST), Some(OUTSIDE.into()));
}

#[test]
fn a_sweep_takes_the_ports_of_dead_networks_along() {
    let world = World::new();
    let (alive, dead) = (open(&world, 1), open(&world, 2));
    world.ensure(&alive);
    world.ensure(&dead);
    let server = world.container(&alive, 2);
    server.serve();
    let _reserved = publish(&world, &alive, 2, Ipv4Addr::UNSPECIFIED);
    let port = PublishedPort {
        protocol: Protocol::Tcp,
        host_ip: Ipv4Addr::UNSPECIFIED,
        host_port: 9001,
        container_port: PORT,
    };
    world.host.within(|| world.driver.publish(&dead.name, address(&dead, 2), &[port])).unwrap();
    world.host.within(|| world.driver.sweep(&HashSet::from([alive.id]))).unwrap();
    let listed = world.host.run(&format!("nft list map inet lighter_{INSTANCE} published"));
    assert!(listed.contains("9000") && !listed.contains("9001"), "{listed}");
    assert_eq!(seen(&world.outside, HOST), Some(OUTSIDE.into()));
}

#[test]
fn a_reserved_port_is_nobody_elses_until_it_is_let_go() {
    let world = World::new();
    let any = Ipv4Addr::UNSPECIFIED;
    let one = mapping(any, Some((PUBLISHED, PUBLISHED)));
    world.host.within(|| {
        let reserved = world.driver.reserve(std::slice::from_ref(&one)).unwrap();
        // The standard library's listeners ask to reuse the port.
        assert!(TcpListener::bind((any, PUBLISHED)).is_err());
        assert!(TcpListener::bind((HOST, PUBLISHED)).is_err(), "nor is one at one address");
        assert!(TcpStream::connect((HOST, PUBLISHED)).is_err(), "nobody listens");
        let error = world.driver.reserve(std::slice::from_ref(&one)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let range = mapping(any, Some((PUBLISHED, PUBLISHED + 2)));
        let next = world.driver.reserve(&[range.clone(), range.clone()]).unwrap();
        let chosen: Vec<u16> = next.ports.iter().map(|port| port.host_port).collect();
        assert_eq!(chosen, [PUBLISHED + 1, PUBLISHED + 2]);
        let error = world.driver.reserve(std::slice::from_ref(&range)).unwrap_err();
        assert!(matches!(error, ReserveError::RangeInUse { .. }), "{error}");
        drop(reserved);
        assert!(TcpListener::bind((any, PUBLISHED)).is_ok());
    });
}

#[test]
fn ports_that_the_kernel_picks_are_ephemeral_and_different() {
    let world = World::new();
    world.host.within(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40999").unwrap();
        let wanted = vec![mapping(Ipv4Addr::UNSPECIFIED, None); 300];
        let reserved = world.driver.reserve(&wanted).unwrap();
        let ports: HashSet<u16> = reserved.ports.iter().map(|port| port.host_port).collect();
        assert_eq!(ports.len(), 300);
        assert!(ports.iter().all(|port| (40000..=40999).contains(port)), "{ports:?}");
        let taken = *ports.iter().next().unwrap();
        assert!(TcpListener::bind(("0.0.0.0", taken)).is_err());
    });
}

#[test]
fn the_process_that_has_a_port_is_named() {
    let world = World::new();
    world.host.within(|| {
        let _listener = TcpListener::bind(("::", PUBLISHED)).unwrap();
        let wanted = [mapping(Ipv4Addr::UNSPECIFIED, Some((PUBLISHED, PUBLISHED)))];
        let error = world.driver.reserve(&wanted).unwrap_err();
        let own = format!("(process {})", std::process::id());
        let text = error.to_string();
        assert!(
            text.starts_with("failed to bind host port 0.0.0.0:9000/tcp: address already in use by ")
                && text.ends_with(&own),
            "{text}"
        );
        let elsewhere = [mapping(Ipv4Addr::new(203, 0, 113, 9), Some((PUBLISHED, PUBLISHED)))];
        let error = world.driver.reserve(&elsewhere).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    });
}

/// A connection that a server closed first stays with its port for a minute.
#[test]
fn a_port_whose_server_has_just_ended_can_be_had() {
    let world = World::new();
    world.host.within(|| {
        let listener = TcpListener::bind(("0.0.0.0", PUBLISHED)).unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", PUBLISHED)).unwrap();
        drop(listener.accept().unwrap());
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        drop((client, listener));
        let connections = super::world::run("ss -tan");
        assert!(connections.contains("TIME-WAIT"), "{connections}");
        world.driver.reserve(&[mapping(Ipv4Addr::UNSPECIFIED, Some((PUBLISHED, PUBLISHED)))]).unwrap();
    });
}
