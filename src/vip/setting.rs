//! What `--vip` and `--vip-interface` ask for.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail};
use ipnet::IpNet;

use crate::config::Options;
use crate::settings::split;

/// Names of interfaces are no longer.
const INTERFACE_NAME_MAX: usize = 15;

/// Whether a socket on `[::]` takes IPv6 only.
const V6_ONLY: &str = "/proc/sys/net/ipv6/bindv6only";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// At most one of each family.
    pub addresses: Vec<IpNet>,
    /// Where they are set, when somebody has said so.
    pub interface: Option<String>,
}

impl Setting {
    /// From the options; `listen` and `advertise` are where this master's API is.
    pub fn new(
        options: &Options,
        listen: SocketAddr,
        advertise: &str,
    ) -> anyhow::Result<Option<Self>> {
        let interface = options.vip_interface.clone();
        let addresses: Vec<IpNet> = split(options.vip.as_deref())
            .iter()
            .map(|text| address(text))
            .collect::<anyhow::Result<_>>()?;
        if addresses.is_empty() {
            if interface.is_some() {
                bail!("--vip-interface is given without --vip: which address is to be set there?");
            }
            return Ok(None);
        }
        if let Some(name) = interface.as_ref().filter(|name| !is_name(name)) {
            bail!("--vip-interface {name:?} is not the name of an interface; `ip link` lists them");
        }
        let v6_only = std::fs::read_to_string(V6_ONLY).is_ok_and(|text| text.trim() == "1");
        let mut families = Vec::new();
        for net in &addresses {
            let ip = net.addr();
            if families.contains(&ip.is_ipv4()) {
                bail!("--vip: give at most one IPv4 address and one IPv6 address");
            }
            families.push(ip.is_ipv4());
            if advertise.parse() == Ok(ip) {
                bail!(
                    "--vip {ip} is this master's own address (--advertise): the virtual address goes from master to \
                     master, so it must be one that no machine has"
                );
            }
            if let Some(why) = unheard(listen, ip, v6_only) {
                bail!("--vip {ip}: {why}");
            }
        }
        Ok(Some(Self { addresses, interface }))
    }

    /// The addresses alone.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(IpNet::addr)
    }
}

fn address(text: &str) -> anyhow::Result<IpNet> {
    let parsed = match text.parse::<IpAddr>() {
        Ok(ip) => Some(IpNet::from(ip)),
        Err(_) => text.parse::<IpNet>().ok(),
    };
    let net = parsed.with_context(|| {
        format!("--vip {text:?}: give an address such as 10.0.0.100, 10.0.0.100/24 or fd00::100")
    })?;
    let link_local = match net.addr() {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
    };
    let ip = net.addr();
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local {
        bail!("--vip {text}: that is no address which other machines can reach a master at");
    }
    let within = net.prefix_len() < net.max_prefix_len() - 1;
    if ip.is_ipv4() && within && (ip == net.network() || ip == net.broadcast()) {
        bail!("--vip {text}: that is the first or the last address of its network, and no host's");
    }
    Ok(net)
}

fn is_name(name: &str) -> bool {
    let printable = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    !name.is_empty() && name.len() <= INTERFACE_NAME_MAX && name.bytes().all(printable)
}

/// Why a master that listens there hears nothing of who comes to `ip`.
fn unheard(listen: SocketAddr, ip: IpAddr, v6_only: bool) -> Option<String> {
    let port = listen.port();
    let all = match listen.ip() {
        own if own == ip => return None,
        IpAddr::V4(own) if own.is_unspecified() => ip.is_ipv4(),
        IpAddr::V6(own) if own.is_unspecified() => ip.is_ipv6() || !v6_only,
        _ => false,
    };
    if all {
        return None;
    }
    let instead = if ip.is_ipv4() { "0.0.0.0" } else { "[::]" };
    Some(format!(
        "the API listens on {listen} only, and would not hear who comes to that address. Give --listen {instead}:{port}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(vip: &str, listen: &str) -> anyhow::Result<Option<Setting>> {
        let options = Options { vip: Some(vip.to_owned()), ..Options::default() };
        Setting::new(&options, listen.parse().unwrap(), "10.0.0.1")
    }

    #[test]
    fn addresses_are_read_with_and_without_a_prefix() {
        let texts = |vip| {
            let setting = setting(vip, "[::]:6443").unwrap().unwrap();
            setting.addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(texts("10.0.0.100"), ["10.0.0.100/32"]);
        assert_eq!(texts("10.0.0.100/24, fd00::9"), ["10.0.0.100/24", "fd00::9/128"]);
        assert_eq!(setting("", "0.0.0.0:6443").unwrap(), None);
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_to_do() {
        let all = "0.0.0.0:6443";
        for (vip, listen, text) in [
            ("10.0.0", all, "such as 10.0.0.100"),
            ("127.0.0.1", all, "no address which other machines can reach"),
            ("fe80::1", "[::]:6443", "no address which other machines can reach"),
            ("10.0.0.255/24", all, "the first or the last address"),
            ("10.0.0.1", all, "this master's own address"),
            ("10.0.0.8,10.0.0.9", all, "at most one IPv4"),
            ("10.0.0.9", "10.0.0.1:6443", "Give --listen 0.0.0.0:6443"),
            ("fd00::9", all, "Give --listen [::]:6443"),
        ] {
            let said = format!("{:#}", setting(vip, listen).unwrap_err());
            assert!(said.contains(text), "{vip}: {said}");
        }
        let alone = Options { vip_interface: Some("eth0".to_owned()), ..Options::default() };
        let refused = Setting::new(&alone, all.parse().unwrap(), "10.0.0.1").unwrap_err();
        assert!(refused.to_string().contains("without --vip"), "{refused}");
    }

    #[test]
    fn a_socket_for_both_families_hears_both_unless_the_kernel_is_told_otherwise() {
        let (both, v4): (SocketAddr, IpAddr) =
            ("[::]:1".parse().unwrap(), "10.0.0.9".parse().unwrap());
        assert_eq!(unheard(both, v4, false), None);
        assert!(unheard(both, v4, true).is_some());
        assert_eq!(
            unheard("10.0.0.9:1".parse().unwrap(), v4, false),
            None,
            "on that address itself"
        );
    }
}
