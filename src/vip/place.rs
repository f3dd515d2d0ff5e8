//! Where on this machine a virtual address goes, and whether this process may set it there.

use std::net::IpAddr;

use anyhow::{Context, bail};
use ipnet::IpNet;
use rustix::thread::{CapabilitySet, capabilities};

use super::frames::Mac;
use super::setting::Setting;
use super::wire::Link;

/// An address, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub net: IpNet,
    pub interface: String,
    pub mac: Mac,
}

/// A network on an interface: an address of this machine, with the length of the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Own {
    interface: String,
    net: IpNet,
}

/// Setting addresses and telling other hosts takes two capabilities.
pub fn refuse_powerless() -> anyhow::Result<()> {
    let has = capabilities(None).context("this process's capabilities cannot be read")?.effective;
    let needs = [
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN (to set the address)"),
        (CapabilitySet::NET_RAW, "CAP_NET_RAW (to tell the other hosts)"),
    ];
    let lacks: Vec<&str> =
        needs.iter().filter(|(one, _)| !has.contains(*one)).map(|(_, name)| *name).collect();
    if !lacks.is_empty() {
        bail!(
            "--vip: this process lacks {}. Run it as root, or with AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW in \
             its systemd unit",
            lacks.join(" and ")
        );
    }
    Ok(())
}

/// Where the addresses go, and what people should know of it.
pub fn find(setting: &Setting, advertise: &str) -> anyhow::Result<(Vec<Place>, Vec<String>)> {
    let own = own_networks().context("the addresses of this machine cannot be read")?;
    let advertised = advertise.parse().or_else(|_| quorate_master::own_address()).ok();
    let (mut places, mut warnings) = (Vec::new(), Vec::new());
    for net in &setting.addresses {
        let (interface, warning) = choose(&own, *net, setting.interface.as_deref(), advertised)?;
        let link = Link::of(&interface).with_context(|| {
            format!(
                "--vip {}: it cannot go to the interface {interface:?} (--vip-interface)",
                net.addr()
            )
        })?;
        places.push(Place { net: *net, interface, mac: link.mac });
        warnings.extend(warning);
    }
    Ok((places, warnings))
}

fn own_networks() -> anyhow::Result<Vec<Own>> {
    let of = |entry: nix::ifaddrs::InterfaceAddress| {
        let (address, mask) = (entry.address?, entry.netmask?);
        let ip = |storage: &nix::sys::socket::SockaddrStorage| {
            let v4 = storage.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
            v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
        };
        let net = IpNet::with_netmask(ip(&address)?, ip(&mask)?).ok()?;
        Some(Own { interface: base_name(&entry.interface_name), net })
    };
    Ok(nix::ifaddrs::getifaddrs()?.filter_map(of).collect())
}

/// Addresses with a label (`eth0:1`) are listed under it.
fn base_name(label: &str) -> String {
    label.split(':').next().unwrap_or(label).to_owned()
}

fn choose(
    own: &[Own],
    vip: IpNet,
    wanted: Option<&str>,
    advertised: Option<IpAddr>,
) -> anyhow::Result<(String, Option<String>)> {
    let ip = vip.addr();
    // The most specific network that it is of; what may be left of itself is none.
    let others = || own.iter().filter(|own| own.net.addr() != ip && own.net.contains(&ip));
    let others = || others().filter(|own| own.net.prefix_len() > 0);
    let by_network = others().max_by_key(|own| own.net.prefix_len());
    let by_advertise = own.iter().find(|own| Some(own.net.addr()) == advertised);
    let chosen = match (wanted, by_network, by_advertise) {
        (Some(wanted), ..) => wanted.to_owned(),
        (None, Some(own), _) | (None, None, Some(own)) => own.interface.clone(),
        (None, None, None) => bail!(
            "--vip {ip}: no interface of this machine has a network with that address. Say where it goes with \
             --vip-interface NAME"
        ),
    };
    let outside = !others().any(|own| own.interface == chosen);
    let warning = outside.then(|| {
        format!(
            "--vip {ip} is of no network that {chosen} has: only hosts with a route to it on that link will reach it"
        )
    });
    Ok((chosen, warning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(list: &[(&str, &str)]) -> Vec<Own> {
        let one = |(name, net): &(&str, &str)| Own {
            interface: (*name).to_owned(),
            net: net.parse().unwrap(),
        };
        list.iter().map(one).collect()
    }

    #[test]
    fn it_goes_where_its_network_is() {
        let own = own(&[
            ("eth0", "10.0.0.1/16"),
            ("eth1", "10.0.5.1/24"),
            ("eth2", "192.168.0.1/24"),
            ("eth3", "10.0.5.9/32"),
        ]);
        let at = |vip: &str, wanted| {
            let advertised = Some("192.168.0.1".parse().unwrap());
            let (name, warning) = choose(&own, vip.parse().unwrap(), wanted, advertised).unwrap();
            (name, warning.is_some())
        };
        assert_eq!(at("10.0.9.9/32", None), ("eth0".to_owned(), false));
        assert_eq!(at("10.0.5.9/32", None), ("eth1".to_owned(), false), "not where it was left");
        assert_eq!(at("172.16.0.9/32", None), ("eth2".to_owned(), true), "by --advertise");
        assert_eq!(at("10.0.9.9/32", Some("eth2")), ("eth2".to_owned(), true), "as told");
        let nowhere = choose(&own, "172.16.0.9/32".parse().unwrap(), None, None).unwrap_err();
        assert!(nowhere.to_string().contains("--vip-interface NAME"), "{nowhere}");
    }

    #[test]
    fn a_label_is_of_its_interface() {
        assert_eq!((base_name("eth0:qvip"), base_name("eth0")), ("eth0".into(), "eth0".into()));
    }
}
