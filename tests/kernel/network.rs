//! Networks on a real kernel, each test on a host of its own.

mod ports;
mod switch;
mod world;

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use engine_network::{AttachError, BridgeError, BridgeSpec, DEFAULT_POOLS, IfName};
use engine_types::{ErrorKind, NetworkId};

use world::{HOST, INSTANCE, METADATA, Netns, OUTSIDE, PORT, World, address, datagram_arrives, endpoint};

#[test]
fn containers_of_one_network_reach_each_other() {
    let world = World::new();
    let spec = world.spec(1);
    world.ensure(&spec);
    let (a, b) = (world.container(&spec, 2), world.container(&spec, 3));
    b.serve();
    assert_eq!(a.seen_at(address(&spec, 3)), Some(address(&spec, 2).into()));
}

/// The kernel used to drop it: it enables links in the background.
#[test]
fn the_first_packet_of_a_container_passes() {
    let world = World::new();
    for n in 1..=8 {
        let spec = world.spec(n);
        world.ensure(&spec);
        let container = world.container(&spec, 2);
        assert!(datagram_arrives(&container, address(&spec, 2), &world.outside, OUTSIDE), "network {n}");
    }
}

#[test]
fn containers_of_different_networks_do_not() {
    let world = World::new();
    let (one, two) = (world.spec(1), world.spec(2));
    world.ensure(&one);
    world.ensure(&two);
    let (a, b) = (world.container(&one, 2), world.container(&two, 2));
    b.serve();
    assert_eq!(a.seen_at(address(&two, 2)), None);
    // The other network's gateway is an address of the host.
    world.host.serve();
    assert_eq!(a.seen_at(two.gateway), None);
}

#[test]
fn without_icc_containers_reach_only_the_outside() {
    for bridge_filter in ["0", "1"] {
        let world = World::new();
        let setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        if fs::exists(setting).unwrap() {
            world.host.within(|| fs::write(setting, bridge_filter)).unwrap();
        }
        let spec = BridgeSpec { icc: false, ..world.spec(1) };
        world.ensure(&spec);
        let (a, b) = (world.container(&spec, 2), world.container(&spec, 3));
        b.serve();
        assert_eq!(a.seen_at(address(&spec, 3)), None);
        // Nor by way of the gateway, which would send it back.
        a.run(&format!("ip route add {} via {}", address(&spec, 3), spec.gateway));
        assert_eq!(a.seen_at(address(&spec, 3)), None);
        assert_eq!(a.seen_at(OUTSIDE), Some(HOST.into()));
    }
}

#[test]
fn the_outside_sees_the_hosts_address() {
    let world = World::new();
    let spec = world.spec(1);
    world.ensure(&spec);
    assert_eq!(world.container(&spec, 2).seen_at(OUTSIDE), Some(HOST.into()));
}

#[test]
fn an_internal_network_has_no_way_out() {
    let world = World::new();
    let spec = BridgeSpec { internal: true, ..world.spec(1) };
    world.ensure(&spec);
    let (a, b) = (world.container(&spec, 2), world.container(&spec, 3));
    a.run(&format!("ip route add default via {}", spec.gateway));
    b.serve();
    assert_eq!(a.seen_at(OUTSIDE), None);
    assert_eq!(a.seen_at(address(&spec, 3)), Some(address(&spec, 2).into()));
    world.host.run(&format!(
        "iptables -t nat -A PREROUTING -d {HOST} -p tcp --dport 7000 -j DNAT --to-destination {}:{PORT}",
        address(&spec, 3)
    ));
    b.run(&format!("ip route add default via {}", spec.gateway));
    assert_eq!(world.outside.seen_at_port(SocketAddr::new(HOST.into(), 7000)), None);
}

#[test]
fn the_hosts_services_are_out_of_reach_unless_allowed() {
    let world = World::new();
    let (guarded, open) = (world.spec(1), BridgeSpec { host_access: true, ..world.spec(2) });
    world.ensure(&guarded);
    world.ensure(&open);
    world.host.serve();
    let (a, b) = (world.container(&guarded, 2), world.container(&open, 2));
    assert_eq!(a.seen_at(guarded.gateway), None);
    assert_eq!(a.seen_at(HOST), None);
    assert_eq!(b.seen_at(open.gateway), Some(address(&open, 2).into()));
    assert_eq!(b.seen_at(HOST), Some(address(&open, 2).into()));
    // Multicast is addressed to no one address of the host's.
    let all_hosts = Ipv4Addr::new(224, 0, 0, 1);
    assert!(!datagram_arrives(&a, address(&guarded, 2), &world.host, all_hosts));
    assert!(datagram_arrives(&b, address(&open, 2), &world.host, all_hosts));
    // The host's own connections into the network are answered.
    a.serve();
    assert_eq!(world.host.seen_at(address(&guarded, 2)), Some(guarded.gateway.into()));
}

#[test]
fn loopback_services_stay_out_of_reach_with_route_localnet() {
    let world = World::new();
    let spec = world.spec(1);
    world.ensure(&spec);
    world.host.serve();
    world.host.within(|| fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1")).unwrap();
    let container = world.container(&spec, 2);
    // A container may do so: loopback addresses are routed through its interface once its own are gone.
    container.within(|| fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1")).unwrap();
    container.run("ip addr del 127.0.0.1/8 dev lo");
    container.run(&format!("ip route add 127.0.0.1/32 via {}", spec.gateway));
    assert_eq!(container.seen_at(Ipv4Addr::LOCALHOST), None);
}

#[test]
fn services_that_the_host_forwards_elsewhere_are_out_of_reach() {
    let world = World::new();
    let (guarded, open) = (world.spec(1), BridgeSpec { host_access: true, ..world.spec(2) });
    world.ensure(&guarded);
    world.ensure(&open);
    world.host.run(&format!(
        "iptables -t nat -A PREROUTING -d {HOST} -p tcp --dport 7000 -j DNAT --to-destination {OUTSIDE}:{PORT}"
    ));
    let forwarded = SocketAddr::new(HOST.into(), 7000);
    assert_eq!(world.container(&guarded, 2).seen_at_port(forwarded), None);
    assert_eq!(world.container(&open, 2).seen_at_port(forwarded), Some(HOST.into()));
}

#[test]
fn metadata_addresses_are_out_of_reach_unless_allowed() {
    let world = World::new();
    world.host.run(&format!("ip route add {METADATA} dev up0"));
    let (guarded, open) = (world.spec(1), BridgeSpec { host_access: true, ..world.spec(2) });
    world.ensure(&guarded);
    world.ensure(&open);
    assert_eq!(world.container(&guarded, 2).seen_at(METADATA), None);
    assert_eq!(world.container(&open, 2).seen_at(METADATA), Some(HOST.into()));
}

#[test]
fn the_host_is_not_reached_through_ipv6() {
    let world = World::new();
    let open = BridgeSpec { host_access: true, ..world.spec(1) };
    world.ensure(&open);
    let setting = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", open.name);
    assert_eq!(world.host.within(|| fs::read_to_string(&setting)).unwrap(), "1\n");
    // Even where the administrator turns it on again.
    world.host.within(|| fs::write(&setting, "0")).unwrap();
    let container = world.container(&open, 2);
    world.host.run(&format!("ip addr add fe80::1/64 dev {} nodad", open.name));
    container.run("ip addr add fe80::2/64 dev eth0 nodad");
    world.host.serve();
    let link_local: Ipv6Addr = "fe80::1".parse().unwrap();
    let scope = container.run("ip -o link show eth0").split(':').next().unwrap().parse().unwrap();
    let target = SocketAddr::V6(SocketAddrV6::new(link_local, PORT, 0, scope));
    // IPv6 takes a while to start on an interface.
    let deadline = Instant::now() + Duration::from_secs(10);
    while container.seen_at_port(target).is_none() {
        assert!(Instant::now() < deadline, "not even an open network reaches the host");
    }
    world.host.run(&format!("nft add element inet lighter_{INSTANCE} guarded {{ {} }}", open.name));
    assert_eq!(container.seen_at_port(target), None);
}

#[test]
fn packets_with_a_foreign_source_address_are_dropped() {
    let world = World::new();
    let spec = world.spec(1);
    world.ensure(&spec);
    let container = world.container(&spec, 2);
    assert!(datagram_arrives(&container, address(&spec, 2), &world.outside, OUTSIDE));
    let foreign = Ipv4Addr::new(10, 9, 9, 9);
    container.run(&format!("ip addr add {foreign}/32 dev eth0"));
    assert!(!datagram_arrives(&container, foreign, &world.outside, OUTSIDE));
}

#[test]
fn only_forwarded_ports_let_the_outside_in() {
    let world = World::new();
    let spec = world.spec(1);
    world.ensure(&spec);
    let container = world.container(&spec, 2);
    container.serve();
    world.outside.run(&format!("ip route add {} via {HOST}", spec.subnet));
    assert_eq!(world.outside.seen_at(address(&spec, 2)), None);
    world.host.run(&format!(
        "iptables -t nat -A PREROUTING -d {HOST} -p tcp --dport 7000 -j DNAT --to-destination {}:{PORT}",
        address(&spec, 2)
    ));
    let published = SocketAddr::new(HOST.into(), 7000);
    assert_eq!(world.outside.seen_at_port(published), Some(OUTSIDE.into()));
}

#[test]
fn a_forward_policy_of_drop_is_overridden_until_the_last_network_goes() {
    for iptables in ["iptables-nft", "iptables-legacy"] {
        let world = World::new();
        let rules = || world.host.run(&format!("{iptables} -S FORWARD"));
        world.host.run(&format!("{iptables} -P FORWARD DROP"));
        let before = rules();
        let spec = world.spec(1);
        world.ensure(&spec);
        world.ensure(&spec);
        assert_eq!(rules().lines().count(), before.lines().count() + 2, "{}", rules());
        assert_eq!(world.container(&spec, 2).seen_at(OUTSIDE), Some(HOST.into()), "{iptables}");
        world.host.within(|| world.driver.sweep(&HashSet::new())).unwrap();
        assert_eq!(rules(), before);
    }
}

#[test]
fn a_host_that_forwards_keeps_its_chains() {
    let world = World::new();
    let spec = world.spec(1);
    world.host.run("iptables-nft -A FORWARD -s 10.0.0.0/8 -j DROP");
    let before = world.host.run("iptables-nft -S FORWARD");
    world.ensure(&spec);
    assert_eq!(world.host.run("iptables-nft -S FORWARD"), before);
}

#[test]
fn networks_are_made_by_several_at_once() {
    let world = World::new();
    world.host.within(|| {
        thread::scope(|scope| {
            for n in 1..=8_u8 {
                // Two for each network.
                let spec = world.spec(n.div_ceil(2));
                let driver = &world.driver;
                scope.spawn(move || driver.ensure_bridge(&spec).unwrap());
            }
        });
    });
    // Switched on by both of two at once, forwarding once stayed off on the interfaces.
    let forwarding = |name: &str| {
        let setting = format!("/proc/sys/net/ipv4/conf/{name}/forwarding");
        world.host.within(|| fs::read_to_string(setting)).unwrap()
    };
    assert_eq!(["all", "default", "up0"].map(forwarding), ["1\n"; 3]);
    for n in 1..=4 {
        assert_eq!(world.container(&world.spec(n), 2).seen_at(OUTSIDE), Some(HOST.into()), "network {n}");
    }
}

#[test]
fn the_uplinks_mtu_holds_down_to_the_container() {
    let world = World::new();
    let spec = world.spec(1);
    world.ensure(&spec);
    for _ in 0..2 {
        let container = world.container(&spec, 2);
        assert!(container.run("ip -o link show eth0").contains("mtu 1400 "));
        // A bridge without ports must not fall back to 1500.
        world.host.within(|| world.driver.detach(&endpoint(&spec, 2).host_ifname, None)).unwrap();
    }
    let narrow = BridgeSpec { mtu: Some(1280), ..world.spec(2) };
    world.ensure(&narrow);
    assert!(world.container(&narrow, 2).run("ip -o link show eth0").contains("mtu 1280 "));
}

#[test]
fn an_attach_that_fails_half_way_leaves_nothing() {
    let world = World::new();
    let spec = world.spec(1);
    world.ensure(&spec);
    let before = world.host.interfaces();
    let container = Netns::new();
    let inside = container.interfaces();
    let mut unreachable = endpoint(&spec, 2);
    unreachable.gateway = Some(Ipv4Addr::new(10, 0, 0, 1));
    let error =
        world.host.within(|| world.driver.attach(&unreachable, None, container.fd().as_fd())).unwrap_err();
    assert!(error.to_string().contains("default route through 10.0.0.1"), "{error}");
    assert_eq!(world.host.interfaces(), before);
    assert_eq!(container.interfaces(), inside);
}

#[test]
fn taken_names_and_missing_bridges_are_named() {
    let world = World::new();
    let spec = world.spec(1);
    world.host.run(&format!("ip link add {} type bridge", spec.name));
    let error = world.host.within(|| world.driver.ensure_bridge(&spec)).unwrap_err();
    assert!(matches!(&error, BridgeError::NameTaken(name) if *name == spec.name), "{error}");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(world.host.interfaces().contains(&spec.name.to_string()), "somebody else's interface is gone");

    let container = Netns::new();
    let two = world.spec(2);
    let attach =
        |spec| world.host.within(|| world.driver.attach(&spec, None, container.fd().as_fd())).unwrap_err();
    let error = attach(endpoint(&two, 2));
    assert!(matches!(&error, AttachError::NoBridge(name) if *name == two.name), "{error}");
    world.ensure(&two);
    let mut taken = endpoint(&two, 2);
    taken.host_ifname = "up0".parse().unwrap();
    assert_eq!(attach(taken).kind(), ErrorKind::Conflict);
    assert!(world.host.interfaces().contains(&"up0".to_owned()), "somebody else's interface is gone");
}

#[test]
fn a_bridge_that_cannot_be_configured_is_undone() {
    let world = World::new();
    let before = world.host.interfaces();
    // Larger than a bridge's largest MTU, 65535: the last step fails.
    let spec = BridgeSpec { mtu: Some(70_000), ..world.spec(1) };
    world.host.within(|| world.driver.ensure_bridge(&spec)).unwrap_err();
    assert_eq!(world.host.interfaces(), before);
    assert!(!world.host.run("nft list ruleset").contains(spec.name.as_str()));
}

#[test]
fn sweeping_removes_all_but_what_is_kept() {
    let world = World::new();
    let (one, two, three) = (world.spec(1), world.spec(2), world.spec(3));
    for spec in [&one, &two, &three] {
        world.ensure(spec);
    }
    let (kept, _stray) = (world.container(&one, 2), world.container(&two, 2));
    // A bridge that somebody removed by hand leaves its elements.
    world.host.run(&format!("ip link del {}", three.name));
    let swept = world.host.within(|| world.driver.sweep(&HashSet::from([one.id]))).unwrap();
    let names: HashSet<IfName> = swept.interfaces.into_iter().collect();
    assert_eq!(names, HashSet::from([two.name.clone(), endpoint(&two, 2).host_ifname]));
    assert_eq!(swept.elements, 8);
    assert_eq!(kept.seen_at(OUTSIDE), Some(HOST.into()));
    let rules = world.host.run("nft list ruleset");
    assert!(rules.contains(one.name.as_str()) && !rules.contains(two.name.as_str()), "{rules}");

    world.host.within(|| world.driver.sweep(&HashSet::new())).unwrap();
    assert_eq!(world.host.run("nft list ruleset"), "");
    assert_eq!(world.host.interfaces(), ["lo", "up0"]);
    let nothing = world.host.within(|| world.driver.sweep(&HashSet::new())).unwrap();
    assert_eq!(nothing, engine_network::Swept::default());
}

#[test]
fn instances_leave_each_other_alone() {
    let world = World::new();
    let other = engine_network::NetworkDriver::new("fedc9876", std::path::Path::new("/proc")).unwrap();
    let mine = world.spec(1);
    let id = NetworkId::from_random([2; 32]);
    let theirs = BridgeSpec { id, name: other.bridge_name(&id), ..world.spec(2) };
    world.ensure(&mine);
    world.host.within(|| other.ensure_bridge(&theirs)).unwrap();
    let (a, b) = (world.container(&mine, 2), Netns::new());
    world.host.within(|| other.attach(&endpoint(&theirs, 2), None, b.fd().as_fd())).unwrap();
    a.serve();
    b.serve();
    assert_eq!(a.seen_at(address(&theirs, 2)), None);
    assert_eq!(b.seen_at(address(&mine, 2)), None);
    world.host.within(|| other.sweep(&HashSet::new())).unwrap();
    assert_eq!(a.seen_at(OUTSIDE), Some(HOST.into()));
    assert!(!world.host.interfaces().contains(&theirs.name.to_string()));
}

#[test]
fn removing_and_detaching_may_be_repeated() {
    let world = World::new();
    let spec = world.spec(1);
    world.host.within(|| world.driver.remove_bridge(&spec)).unwrap();
    world.ensure(&spec);
    let container = world.container(&spec, 2);
    for _ in 0..2 {
        world.host.within(|| world.driver.detach(&endpoint(&spec, 2).host_ifname, None)).unwrap();
        world.host.within(|| world.driver.remove_bridge(&spec)).unwrap();
    }
    assert!(!container.interfaces().contains(&"eth0".to_owned()));
    assert!(!world.host.run("nft list ruleset").contains(spec.name.as_str()));
    world.ensure(&spec);
}

#[test]
fn the_pair_goes_with_the_containers_namespace() {
    let world = World::new();
    let spec = world.spec(1);
    world.ensure(&spec);
    let name = endpoint(&spec, 2).host_ifname.to_string();
    let container = world.container(&spec, 2);
    assert!(world.host.interfaces().contains(&name));
    drop(container);
    // The kernel destroys namespaces in the background.
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.host.interfaces().contains(&name) {
        assert!(Instant::now() < deadline, "{name} is still there");
    }
}

#[test]
fn a_container_without_a_network_has_its_loopback() {
    let world = World::new();
    let container = Netns::new();
    world.host.within(|| world.driver.loopback_up(container.fd().as_fd())).unwrap();
    container.serve();
    assert_eq!(container.seen_at(Ipv4Addr::LOCALHOST), Some(Ipv4Addr::LOCALHOST.into()));
}

#[test]
fn a_free_subnet_avoids_the_hosts_routes_and_resolvers() {
    let world = World::new();
    world.host.run(&format!("ip route add 172.17.128.0/20 via {OUTSIDE}"));
    world.host.run("ip addr add 172.18.5.5/24 dev up0");
    let free = world.host.within(|| {
        let resolver = Ipv4Addr::new(172, 19, 0, 53);
        world.driver.free_subnet(&DEFAULT_POOLS, &["172.20.0.0/16".parse().unwrap()], &[resolver], 0)
    });
    assert_eq!(free.unwrap(), "172.21.0.0/16".parse().unwrap());
}

/// Prints what the networks of a job cost; asserts nothing.
#[test]
fn costs() {
    let world = World::new();
    let timed = |what: &str, work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        println!("{what:30} {:8.2} ms", start.elapsed().as_secs_f64() * 1e3);
    };
    world.host.within(|| {
        for n in 1..=3 {
            let spec = world.spec(n);
            timed("ensure_bridge", &mut || world.driver.ensure_bridge(&spec).unwrap());
            timed("ensure_bridge again", &mut || world.driver.ensure_bridge(&spec).unwrap());
        }
        let spec = world.spec(1);
        let containers: Vec<Netns> = (2..12).map(|_| Netns::new()).collect();
        for (container, number) in containers.iter().zip(2..) {
            let endpoint = endpoint(&spec, number);
            timed("attach", &mut || world.driver.attach(&endpoint, None, container.fd().as_fd()).unwrap());
        }
        let detached = endpoint(&spec, 2).host_ifname;
        timed("detach", &mut || world.driver.detach(&detached, None).unwrap());
        for n in 1..=2 {
            let spec = world.spec(n);
            timed("remove_bridge", &mut || world.driver.remove_bridge(&spec).unwrap());
        }
        timed("sweep", &mut || drop(world.driver.sweep(&HashSet::new()).unwrap()));
        timed("sweep of nothing", &mut || drop(world.driver.sweep(&HashSet::new()).unwrap()));
    });
}
