//! Ethernet frames about one address: who has it (ARP, RFC 826 and 5227; neighbour discovery, RFC 4861), and who says
//! that he has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::icmpv6::NeighborAdvertisementHeader;
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, Icmpv6Type, LinkSlice, NetSlice, PacketBuilder, SlicedPacket,
    TransportSlice,
};

/// The hardware address of an Ethernet interface.
pub type Mac = [u8; 6];

/// To every host on the link.
const BROADCAST: Mac = [0xff; 6];

/// Neighbour discovery is heard from the own link only: a router would have lowered it.
const HOP_LIMIT: u8 = 255;

/// The option that says under which hardware address the target is, and its length in units of eight bytes.
const TARGET_LINK_ADDRESS: [u8; 2] = [2, 1];

/// As people write it.
pub fn text(mac: &Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// What tells all hosts on the link that the address is at `own` now. Some believe only the one form of a gratuitous
/// ARP, some only the other.
pub fn announcements(address: IpAddr, own: Mac) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(ip) => vec![
            arp(ArpOperation::REQUEST, (own, ip), ([0; 6], ip)),
            arp(ArpOperation::REPLY, (own, ip), (own, ip)),
        ],
        IpAddr::V6(ip) => {
            let kind = Icmpv6Type::NeighborAdvertisement(NeighborAdvertisementHeader {
                router: false,
                solicited: false,
                r#override: true,
            });
            let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            let option = [&TARGET_LINK_ADDRESS[..], &own].concat();
            vec![discovery(own, (ip, all), kind, (ip, &option))]
        }
    }
}

/// What asks all hosts on the link whether one of them has the address, without saying that anybody else has.
pub fn probe(address: IpAddr, own: Mac) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => arp(ArpOperation::REQUEST, (own, Ipv4Addr::UNSPECIFIED), ([0; 6], ip)),
        IpAddr::V6(ip) => {
            let [.., a, b, c] = ip.octets();
            let [low, high] = [u16::from(a) | 0xff00, u16::from_be_bytes([b, c])];
            let solicited = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, low, high);
            let route = (Ipv6Addr::UNSPECIFIED, solicited);
            discovery(own, route, Icmpv6Type::NeighborSolicitation, (ip, &[]))
        }
    }
}

fn arp(operation: ArpOperation, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac: sender.0,
        sender_ipv4: sender.1.octets(),
        target_mac: target.0,
        target_ipv4: target.1.octets(),
    };
    let builder = PacketBuilder::ethernet2(sender.0, BROADCAST).arp(packet.into());
    let mut frame = Vec::with_capacity(builder.size());
    builder.write(&mut frame).expect("a vector takes all that is written");
    frame
}

/// `target` is the address that it is about, with the options behind it.
fn discovery(
    own: Mac,
    (from, to): (Ipv6Addr, Ipv6Addr),
    kind: Icmpv6Type,
    (target, options): (Ipv6Addr, &[u8]),
) -> Vec<u8> {
    let [.., a, b, c, d] = to.octets();
    let builder = PacketBuilder::ethernet2(own, [0x33, 0x33, a, b, c, d])
        .ipv6(from.octets(), to.octets(), HOP_LIMIT)
        .icmpv6(kind);
    let body = [&target.octets()[..], options].concat();
    let mut frame = Vec::with_capacity(builder.size(body.len()));
    builder.write(&mut frame, &body).expect("a vector takes all that is written");
    frame
}

/// What a frame says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// That it is at this hardware address.
    Has(Mac),
    /// Somebody wants to know where it is.
    Asks,
}

/// What a frame says of an address, if it does.
pub fn about(frame: &[u8], address: IpAddr) -> Option<Said> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    match (packet.net?, packet.transport, address) {
        (NetSlice::Arp(arp), _, IpAddr::V4(ip)) => {
            let arp = arp.to_packet().try_eth_ipv4().ok()?;
            if arp.sender_ipv4_addr() == ip {
                return Some(Said::Has(arp.sender_mac));
            }
            let asks = arp.operation == ArpOperation::REQUEST && arp.target_ipv4_addr() == ip;
            // A probe asks for somebody who means to take it: nobody is to be told where it is.
            (asks && !arp.sender_ipv4_addr().is_unspecified()).then_some(Said::Asks)
        }
        (NetSlice::Ipv6(_), Some(TransportSlice::Icmpv6(icmp)), IpAddr::V6(ip)) => {
            let target = icmp.payload().get(..16) == Some(&ip.octets());
            let LinkSlice::Ethernet2(link) = packet.link? else { return None };
            let advertises = matches!(icmp.icmp_type(), Icmpv6Type::NeighborAdvertisement(_));
            (advertises && target).then(|| Said::Has(link.source()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 7];

    fn hex(frame: &[u8]) -> String {
        frame.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn gratuitous_arp_is_as_the_rfcs_have_it() {
        let frames = announcements("10.0.0.9".parse().unwrap(), OWN);
        let [request, reply] = frames.as_slice() else { panic!("{frames:?}") };
        let head = "ffffffffffff".to_owned() + "020000000007" + "0806" + "0001" + "0800" + "0604";
        assert_eq!(
            hex(request),
            head.clone() + "0001" + "0200000000070a000009" + "0000000000000a000009"
        );
        assert_eq!(hex(reply), head + "0002" + "0200000000070a000009" + "0200000000070a000009");
    }

    #[test]
    fn an_unsolicited_advertisement_overrides_and_names_the_link_address() {
        let frames = announcements("fd00::9".parse().unwrap(), OWN);
        let [frame] = frames.as_slice() else { panic!("{frames:?}") };
        let text = hex(frame);
        assert!(text.starts_with("333300000001") && text[24..28] == *"86dd", "{text}");
        assert_eq!(&text[42..44], "ff", "the hop limit");
        // Type 136, code 0, checksum, the override flag, the target, the option.
        assert_eq!(&text[108..112], "8800");
        let rest = "20000000".to_owned() + "fd000000000000000000000000000009" + "0201020000000007";
        assert_eq!(&text[116..], rest);
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(TransportSlice::Icmpv6(icmp)) = packet.transport else { panic!("{packet:?}") };
        let (from, to): (Ipv6Addr, Ipv6Addr) =
            ("fd00::9".parse().unwrap(), "ff02::1".parse().unwrap());
        assert!(icmp.is_checksum_valid(from.octets(), to.octets()));
    }

    #[test]
    fn who_announces_says_that_he_has_it_and_who_probes_does_not() {
        for (address, other) in [("10.0.0.9", "10.0.0.8"), ("fd00::9", "fd00::8")] {
            let (address, other): (IpAddr, IpAddr) =
                (address.parse().unwrap(), other.parse().unwrap());
            for frame in announcements(address, OWN) {
                assert_eq!(about(&frame, address), Some(Said::Has(OWN)));
                assert_eq!(about(&frame, other), None);
            }
            assert_eq!(about(&probe(address, OWN), address), None);
        }
        let [from, ip] = [[10, 0, 0, 1], [10, 0, 0, 9]].map(Ipv4Addr::from);
        let question = arp(ArpOperation::REQUEST, (OWN, from), ([0; 6], ip));
        assert_eq!(about(&question, IpAddr::V4(ip)), Some(Said::Asks));
        assert_eq!(about(&[], IpAddr::V4(ip)), None);
        assert_eq!(about(&question[..20], IpAddr::V4(ip)), None);
    }

    #[test]
    fn a_probe_for_ipv6_goes_to_those_that_it_may_concern() {
        let frame = probe("fd00::12:3456".parse().unwrap(), OWN);
        let text = hex(&frame);
        assert!(text.starts_with("3333ff123456"), "{text}");
        assert_eq!(&text[44..76], "00000000000000000000000000000000", "from nobody yet");
        assert_eq!(&text[76..108], "ff0200000000000000000001ff123456");
    }
}
