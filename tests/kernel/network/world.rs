//! A private world for each test: network namespaces in the parts of the host, the containers and the outside,
//! which vanish with their last thread and descriptor.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use engine_network::{BridgeSpec, EndpointSpec, IfName, Ipv4Net, NetworkDriver};
use engine_types::{ContainerId, NetworkId};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// How long a packet that arrives may take, and one that does not is waited for.
const PATIENCE: Duration = Duration::from_millis(400);
pub(super) const INSTANCE: &str = "0123abcd";
pub(super) const PORT: u16 = 8080;
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub(super) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// A network namespace.
pub(super) struct Netns(OwnedFd);

impl Netns {
    pub(super) fn new() -> Self {
        let unshared = thread::spawn(|| {
            #[expect(deprecated, reason = "a network namespace holds nothing that memory safety rests on")]
            rustix::thread::unshare(UnshareFlags::NEWNET).expect("these tests need root");
            File::open("/proc/thread-self/ns/net").unwrap().into()
        });
        Self(unshared.join().unwrap())
    }

    /// Runs `work` on a thread inside; what it starts is inside too.
    pub(super) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = || {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            };
            scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub(super) fn run(&self, command: &str) -> String {
        self.within(|| run(command))
    }

    /// Listens on every address, and answers each connection with the address it came from.
    pub(super) fn serve(&self) {
        let listener =
            self.within(|| TcpListener::bind(("::", PORT)).or_else(|_| TcpListener::bind(("0.0.0.0", PORT))));
        let listener = listener.unwrap();
        // Ends with the test's process; it holds nothing but the namespace.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                if let Ok(peer) = stream.peer_addr() {
                    let _ = std::io::Write::write_all(
                        &mut stream,
                        peer.ip().to_canonical().to_string().as_bytes(),
                    );
                }
            }
        });
    }

    /// The address as which [`Netns::serve`] at `target` sees a connection from here; `None` where none comes
    /// about.
    pub(super) fn seen_at(&self, target: impl Into<IpAddr>) -> Option<IpAddr> {
        self.seen_at_port(SocketAddr::new(target.into(), PORT))
    }

    pub(super) fn seen_at_port(&self, target: SocketAddr) -> Option<IpAddr> {
        self.within(|| {
            let mut stream = TcpStream::connect_timeout(&target, PATIENCE).ok()?;
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
            Some(answer.parse().unwrap())
        })
    }

    pub(super) fn interfaces(&self) -> Vec<String> {
        let listing = self.run("ip -o link");
        listing.lines().map(|line| line.split([':', '@']).nth(1).unwrap().trim().to_owned()).collect()
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }
}

/// Runs a command in the calling thread's network namespace, which must succeed.
pub(super) fn run(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A host with an uplink of MTU 1400 to an outside that knows no route to the containers.
pub(super) struct World {
    pub(super) host: Netns,
    pub(super) outside: Netns,
    pub(super) driver: NetworkDriver,
}

impl World {
    pub(super) fn new() -> Self {
        let (host, outside) = (Netns::new(), Netns::new());
        let outside_path = format!("/proc/{}/fd/{}", std::process::id(), outside.0.as_raw_fd());
        for command in [
            "ip link set lo up".to_owned(),
            format!("ip link add up0 mtu 1400 type veth peer name out0 mtu 1400 netns {outside_path}"),
            format!("ip addr add {HOST}/24 dev up0"),
            "ip link set up0 up".to_owned(),
        ] {
            host.run(&command);
        }
        for command in [
            "ip link set lo up".to_owned(),
            format!("ip addr add {OUTSIDE}/24 dev out0"),
            format!("ip addr add {METADATA}/32 dev out0"),
            "ip link set out0 up".to_owned(),
        ] {
            outside.run(&command);
        }
        host.run(&format!("ip route add default via {OUTSIDE}"));
        outside.serve();
        // The kernel enables the uplink in the background and drops packets before.
        let patient = Instant::now() + Duration::from_secs(10);
        while host.seen_at(OUTSIDE).is_none() {
            assert!(Instant::now() < patient, "the uplink stays down");
        }
        let driver = NetworkDriver::new(INSTANCE, Path::new("/proc")).unwrap();
        Self { host, outside, driver }
    }

    /// Network number `n`, with the defaults of a job's network.
    pub(super) fn spec(&self, n: u8) -> BridgeSpec {
        let id = NetworkId::from_random([n; 32]);
        BridgeSpec {
            id,
            name: self.driver.bridge_name(&id),
            subnet: Ipv4Net::new(Ipv4Addr::new(172, 18, n, 0), 24).unwrap(),
            gateway: Ipv4Addr::new(172, 18, n, 1),
            internal: false,
            icc: true,
            masquerade: true,
            mtu: None,
            host_access: false,
        }
    }

    pub(super) fn ensure(&self, spec: &BridgeSpec) {
        self.host.within(|| self.driver.ensure_bridge(spec)).unwrap();
    }

    /// A container on the network, with the subnet's address number `address`.
    pub(super) fn container(&self, spec: &BridgeSpec, address: u8) -> Netns {
        let netns = Netns::new();
        self.host.within(|| self.driver.attach(&endpoint(spec, address), None, netns.0.as_fd())).unwrap();
        netns
    }
}

pub(super) fn address(spec: &BridgeSpec, number: u8) -> Ipv4Addr {
    let [a, b, c, _] = spec.subnet.network().octets();
    Ipv4Addr::new(a, b, c, number)
}

pub(super) fn endpoint(spec: &BridgeSpec, number: u8) -> EndpointSpec {
    EndpointSpec {
        network: spec.id,
        bridge: spec.name.clone(),
        isolated: !spec.icc,
        hairpin: true,
        host_ifname: IfName::endpoint(&ContainerId::from_random([number; 32]), &spec.id),
        container_ifname: IfName::eth(0),
        mac: None,
        address: address(spec, number),
        prefix: spec.subnet.prefix_len(),
        gateway: (!spec.internal).then_some(spec.gateway),
        mtu: None,
    }
}

/// Whether a datagram from a source address of `sender` reaches `receiver` at its address `to`.
pub(super) fn datagram_arrives(sender: &Netns, from: Ipv4Addr, receiver: &Netns, to: Ipv4Addr) -> bool {
    let inbox = receiver.within(|| UdpSocket::bind((to, 0))).unwrap();
    inbox.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = inbox.local_addr().unwrap().port();
    sender.within(|| UdpSocket::bind((from, 0)).unwrap().send_to(b"x", (to, port))).unwrap();
    match inbox.recv(&mut [0; 1]) {
        Ok(_) => true,
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(e) => panic!("{e}"),
    }
}
