//! Networks whose bridge is in a namespace of its own.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use engine_network::{BridgeError, BridgeSpec, EndpointSpec, IfName, Switch};

use super::world::{HOST, Netns, OUTSIDE, World, address, datagram_arrives, endpoint};

/// How long the kernel may take to remove a namespace in the background.
const PATIENCE: Duration = Duration::from_secs(30);

fn make(world: &World, spec: &BridgeSpec) -> Switch {
    world.host.within(|| world.driver.make_switch(spec)).unwrap()
}

fn plug(world: &World, spec: &BridgeSpec, switch: &Switch, number: u8) -> Netns {
    let netns = Netns::new();
    let endpoint = EndpointSpec { bridge: IfName::switch_bridge(), ..endpoint(spec, number) };
    world.host.within(|| world.driver.attach(&endpoint, Some(switch), netns.fd().as_fd())).unwrap();
    netns
}

#[test]
fn it_is_a_network_like_any_other() {
    let world = World::new();
    let (one, two) = (world.spec(1), BridgeSpec { host_access: true, ..world.spec(2) });
    let (switch, other) = (make(&world, &one), make(&world, &two));
    let (a, b, c) =
        (plug(&world, &one, &switch, 2), plug(&world, &one, &switch, 3), plug(&world, &two, &other, 2));
    for netns in [&b, &c, &world.host] {
        netns.serve();
    }
    assert_eq!(a.seen_at(address(&one, 3)), Some(address(&one, 2).into()), "each other");
    assert_eq!(a.seen_at(OUTSIDE), Some(HOST.into()), "the outside");
    assert_eq!(a.seen_at(address(&two, 2)), None, "another network");
    assert_eq!((a.seen_at(one.gateway), a.seen_at(HOST)), (None, None), "the host");
    assert_eq!(c.seen_at(two.gateway), Some(address(&two, 2).into()), "the host, where that is allowed");
    assert_eq!(world.host.seen_at(address(&one, 3)), Some(one.gateway.into()), "from the host");
}

#[test]
fn neighbours_are_isolated_where_the_network_says_so() {
    let world = World::new();
    let spec = BridgeSpec { icc: false, ..world.spec(1) };
    let switch = make(&world, &spec);
    let (a, b) = (plug(&world, &spec, &switch, 2), plug(&world, &spec, &switch, 3));
    b.serve();
    assert_eq!(a.seen_at(address(&spec, 3)), None);
    a.run(&format!("ip route add {} via {}", address(&spec, 3), spec.gateway));
    assert_eq!(a.seen_at(address(&spec, 3)), None);
    assert_eq!(a.seen_at(OUTSIDE), Some(HOST.into()));
}

#[test]
fn the_first_packet_of_a_container_passes() {
    let world = World::new();
    for n in 1..=8 {
        let spec = world.spec(n);
        let switch = make(&world, &spec);
        let container = plug(&world, &spec, &switch, 2);
        assert!(datagram_arrives(&container, address(&spec, 2), &world.outside, OUTSIDE), "network {n}");
    }
}

#[test]
fn mtu_follows_the_uplink() {
    let world = World::new();
    let spec = world.spec(1);
    let switch = make(&world, &spec);
    let container = plug(&world, &spec, &switch, 2);
    assert!(container.run("ip link show eth0").contains("mtu 1400"));
    assert!(world.host.run(&format!("ip link show {}", spec.name)).contains("mtu 1400"));
}

#[test]
fn interfaces_go_with_the_last_descriptor() {
    let world = World::new();
    let spec = world.spec(1);
    let before = world.host.interfaces();
    let switch = make(&world, &spec);
    let copy = Switch::from_descriptor(switch.as_fd().try_clone_to_owned().unwrap());
    let container = plug(&world, &spec, &switch, 2);
    drop(switch);
    container.serve();
    assert_eq!(world.host.seen_at(address(&spec, 2)), Some(spec.gateway.into()), "a copy keeps it");
    let removed = world.host.within(|| world.driver.remove_switch(&spec, Some(copy.into())));
    removed.unwrap();
    let started = Instant::now();
    while world.host.interfaces() != before || container.interfaces().len() > 1 {
        assert!(started.elapsed() < PATIENCE, "{:?}", world.host.interfaces());
    }
    let table = world.host.within(|| world.driver.sweep(&HashSet::new())).unwrap();
    assert_eq!((table.interfaces.len(), table.elements), (0, 0), "nothing was left to sweep");
}

#[test]
fn a_name_in_use_undoes_everything() {
    let world = World::new();
    let spec = world.spec(1);
    world.host.run(&format!("ip link add {} type bridge", spec.name));
    let before = world.host.interfaces();
    let error = world.host.within(|| world.driver.make_switch(&spec)).unwrap_err();
    assert!(matches!(&error, BridgeError::NameTaken(name) if *name == spec.name), "{error}");
    assert_eq!(world.host.interfaces(), before);
}
