//! Replies are read with a DNS library, so that our reading of the format is not its own judge.

use proptest::prelude::*;
use simple_dns::rdata::{A, OPT, RData};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question as Asked, RCODE, TYPE};

use super::*;

const ID: u16 = 0x1234;

fn names() -> Names {
    Names::parse("web.shop 172.18.0.2\nweb 172.18.0.2\nmany 10.0.0.1\nmany 10.0.0.2\nmany 10.0.0.3\n")
        .unwrap()
}

fn query(name: &str, kind: TYPE, id: u16) -> Packet<'_> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Asked::new(
        Name::new_unchecked(name),
        QTYPE::TYPE(kind),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet
}

fn ask(packet: &Packet<'_>, names: &Names, transport: Transport) -> Outcome {
    answer(&packet.build_bytes_vec().unwrap(), names, transport)
}

#[track_caller]
fn reply_to(packet: &Packet<'_>, names: &Names, transport: Transport) -> Vec<u8> {
    match ask(packet, names, transport) {
        Outcome::Reply(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

fn addresses(packet: &Packet<'_>) -> Vec<Ipv4Addr> {
    let address = |data: &RData<'_>| match data {
        RData::A(A { address }) => Ipv4Addr::from(*address),
        other => panic!("{other:?}"),
    };
    packet.answers.iter().map(|record| address(&record.rdata)).collect()
}

#[test]
fn a_known_name_has_its_address() {
    for asked in ["web", "WEB", "Web.", "web.shop"] {
        let bytes = reply_to(&query(asked, TYPE::A, ID), &names(), Transport::Udp);
        let reply = Packet::parse(&bytes).unwrap();
        assert_eq!((reply.id(), reply.rcode()), (ID, RCODE::NoError));
        assert!(reply.has_flags(
            PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE | PacketFlag::RECURSION_DESIRED
        ));
        assert!(!reply.has_flags(PacketFlag::TRUNCATION));
        assert_eq!(addresses(&reply), [Ipv4Addr::new(172, 18, 0, 2)]);
        assert_eq!(reply.answers[0].ttl, 600);
        // The case of the question comes back, which some resolvers check.
        assert_eq!(reply.answers[0].name.to_string(), asked.trim_end_matches('.'));
    }
}

#[test]
fn several_addresses_take_turns_in_front() {
    let mut first = Vec::new();
    for id in 0..3 {
        let bytes = reply_to(&query("many", TYPE::A, id), &names(), Transport::Udp);
        let mut all = addresses(&Packet::parse(&bytes).unwrap());
        first.push(all[0].octets()[3]);
        all.sort();
        assert_eq!(all, [1, 2, 3].map(|n| Ipv4Addr::new(10, 0, 0, n)));
    }
    assert_eq!(first, [1, 2, 3]);
}

#[test]
fn a_known_name_has_nothing_but_addresses() {
    for kind in [TYPE::AAAA, TYPE::MX, TYPE::PTR, TYPE::TXT] {
        let bytes = reply_to(&query("web", kind, ID), &names(), Transport::Udp);
        let reply = Packet::parse(&bytes).unwrap();
        assert_eq!((reply.rcode(), reply.answers.len()), (RCODE::NoError, 0), "{kind:?}");
    }
}

#[test]
fn a_known_address_has_its_first_name() {
    let bytes = reply_to(&query("2.0.18.172.in-addr.ARPA", TYPE::PTR, ID), &names(), Transport::Udp);
    let reply = Packet::parse(&bytes).unwrap();
    let RData::PTR(pointer) = &reply.answers[0].rdata else { panic!("{reply:?}") };
    assert_eq!(pointer.0.to_string(), "web.shop");
}

#[test]
fn everything_else_is_forwarded() {
    for (name, kind) in [
        ("example.org", TYPE::A),
        ("webx", TYPE::A),
        ("web.example.org", TYPE::AAAA),
        ("3.0.18.172.in-addr.arpa", TYPE::PTR),
        ("18.172.in-addr.arpa", TYPE::PTR),
        ("2.0.18.172.in-addr.arpa", TYPE::A),
        (".", TYPE::NS),
    ] {
        assert_eq!(ask(&query(name, kind, ID), &names(), Transport::Udp), Outcome::Forward, "{name}");
    }
    let mut chaos = query("web", TYPE::A, ID);
    chaos.questions[0].qclass = QCLASS::CLASS(CLASS::CH);
    assert_eq!(ask(&chaos, &names(), Transport::Udp), Outcome::Forward);
}

#[test]
fn an_unknown_type_is_forwarded_or_empty_as_any_other() {
    let patch = |name: &str| {
        let mut bytes = query(name, TYPE::A, ID).build_bytes_vec().unwrap();
        let kind = bytes.len() - 4;
        bytes[kind..kind + 2].copy_from_slice(&0xfff0_u16.to_be_bytes());
        answer(&bytes, &names(), Transport::Udp)
    };
    assert_eq!(patch("example.org"), Outcome::Forward);
    assert!(matches!(patch("web"), Outcome::Reply(_)));
}

#[test]
fn a_label_with_a_dot_inside_is_another_name() {
    // One label `web.shop`, and not two.
    let bytes = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x08web.shop\0\0\x01\0\x01";
    assert_eq!(answer(bytes, &names(), Transport::Udp), Outcome::Forward);
}

fn crowd(size: u16) -> Names {
    let mut names = Names::default();
    for n in 0..size {
        let [high, low] = n.to_be_bytes();
        names.insert("crowd", Ipv4Addr::new(10, 0, high, low));
    }
    names
}

#[track_caller]
fn check_limit(size: u16, edns: Option<u16>, transport: Transport, limit: usize, truncated: bool) {
    let mut packet = query("crowd", TYPE::A, ID);
    *packet.opt_mut() =
        edns.map(|udp_packet_size| OPT { opt_codes: Vec::new(), udp_packet_size, version: 0 });
    let bytes = reply_to(&packet, &crowd(size), transport);
    assert!(bytes.len() <= limit, "{}", bytes.len());
    let reply = Packet::parse(&bytes).unwrap();
    assert_eq!(reply.has_flags(PacketFlag::TRUNCATION), truncated);
    assert_eq!(reply.answers.len() < usize::from(size), truncated);
    assert!(!reply.answers.is_empty());
    assert_eq!(reply.opt().map(|opt| opt.udp_packet_size), edns.map(|_| 1232));
}

#[test]
fn a_reply_that_is_too_long_says_so() {
    check_limit(30, None, Transport::Udp, 512, false);
    check_limit(31, None, Transport::Udp, 512, true);
    check_limit(31, None, Transport::Tcp, 65535, false);
    check_limit(60, Some(1232), Transport::Udp, 1232, false);
    check_limit(100, Some(1232), Transport::Udp, 1232, true);
    check_limit(100, Some(4096), Transport::Udp, 1232, true);
    check_limit(31, Some(100), Transport::Udp, 512, true);
    check_limit(5000, Some(4096), Transport::Tcp, 65535, true);
}

#[test]
fn what_is_no_query_gets_no_reply() {
    assert_eq!(answer(b"", &names(), Transport::Udp), Outcome::Drop);
    assert_eq!(answer(&[0; 11], &names(), Transport::Udp), Outcome::Drop);
    let mut response = query("web", TYPE::A, ID);
    response.set_flags(PacketFlag::RESPONSE);
    assert_eq!(ask(&response, &names(), Transport::Udp), Outcome::Drop);
}

#[track_caller]
fn check_error(bytes: &[u8], rcode: RCODE) {
    let Outcome::Reply(bytes) = answer(bytes, &names(), Transport::Udp) else { panic!("no reply") };
    let reply = Packet::parse(&bytes).unwrap();
    assert_eq!((reply.id(), reply.rcode()), (ID, rcode));
    assert!(reply.has_flags(PacketFlag::RESPONSE));
}

#[test]
fn a_malformed_query_is_told_so() {
    let good = query("web", TYPE::A, ID).build_bytes_vec().unwrap();
    for length in HEADER_LEN..good.len() {
        check_error(&good[..length], RCODE::FormatError);
    }
    let mut pointer_to_itself = good.clone();
    pointer_to_itself[HEADER_LEN..HEADER_LEN + 2].copy_from_slice(&POINTER_TO_QUESTION);
    check_error(&pointer_to_itself, RCODE::FormatError);
    let mut two = query("web", TYPE::A, ID);
    two.questions.push(two.questions[0].clone());
    check_error(&two.build_bytes_vec().unwrap(), RCODE::FormatError);
    let mut missing_record = good;
    missing_record[11] = 1;
    check_error(&missing_record, RCODE::FormatError);
}

#[test]
fn updates_and_the_like_are_not_implemented() {
    let mut update = query("web", TYPE::A, ID);
    *update.opcode_mut() = OPCODE::Update;
    check_error(&update.build_bytes_vec().unwrap(), RCODE::NotImplemented);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for transport in [Transport::Udp, Transport::Tcp] {
            if let Outcome::Reply(reply) = answer(&bytes, &names(), transport) {
                prop_assert!(Packet::parse(&reply).is_ok());
            }
        }
    }

    /// Most arbitrary bytes fail at the header; these get past it.
    #[test]
    fn a_damaged_query_never_panics(
        damage in prop::collection::vec((0_usize..60, any::<u8>()), 0..6),
        cut in 0_usize..60,
    ) {
        let mut packet = query("2.0.18.172.in-addr.arpa", TYPE::PTR, ID);
        *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: 4096, version: 0 });
        let mut bytes = packet.build_bytes_vec().unwrap();
        for (position, byte) in damage {
            if let Some(old) = bytes.get_mut(position) {
                *old = byte;
            }
        }
        bytes.truncate(bytes.len().max(cut) - cut);
        if let Outcome::Reply(reply) = answer(&bytes, &names(), Transport::Udp) {
            prop_assert!(reply.len() <= usize::from(EDNS_UDP_MAX));
        }
    }

    #[test]
    fn names_and_resolv_conf_never_panic(text in ".{0,200}") {
        let _ = Names::parse(&text);
        let conf = parse_resolv_conf(&text);
        prop_assert!(container_resolv_conf(&conf).starts_with("nameserver 127.0.0.11\n"));
    }
}
