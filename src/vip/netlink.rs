//! Setting an address for a few seconds at a time, and taking it away, by netlink. The lifetime is the kernel's: when
//! this process hangs or is killed, the address goes without it.

use std::net::IpAddr;

use anyhow::{Context, bail};
use futures::TryStreamExt as _;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use rtnetlink::{Error, Handle};

use super::kernel::{Failed, Kernel};
use super::place::Place;

/// So long an address stays that nobody renews, in the kernel's whole seconds.
pub const LIFETIME_SECONDS: u32 = 3;

/// Marks addresses as ours (`ip addr` shows it as `proto`; kernels before 5.18 do not keep it).
const PROTOCOL: u8 = b'Q';

/// The same as a label, which IPv4 addresses can have, behind the interface's name; where there is room for it.
const LABEL: &str = ":qvip";

/// Longest label.
const LABEL_BYTES_MAX: usize = 15;

/// See the module.
#[derive(Debug, Default)]
pub struct Netlink(Kernel);

impl Netlink {
    /// Sets the address, or renews it. No route, no duplicate detection of the kernel's, and never chosen for what this
    /// machine sends by itself.
    pub async fn hold(&self, index: u32, place: &Place) -> Result<(), Failed> {
        let net = place.net;
        let mut flags = AddressFlags::Noprefixroute;
        let mut lifetime = CacheInfo::default();
        (lifetime.ifa_valid, lifetime.ifa_preferred) = (LIFETIME_SECONDS, 0);
        let mut attributes = Vec::new();
        let label = format!("{}{LABEL}", place.interface);
        if net.addr().is_ipv6() {
            flags |= AddressFlags::Nodad;
        } else if label.len() <= LABEL_BYTES_MAX {
            attributes.push(AddressAttribute::Label(label));
        }
        attributes.extend([
            AddressAttribute::Flags(flags),
            AddressAttribute::CacheInfo(lifetime),
            AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)),
        ]);
        let add = |handle: Handle| {
            let mut add = handle.address().add(index, net.addr(), net.prefix_len()).replace();
            add.message_mut().attributes.extend(attributes.iter().cloned());
            add.execute()
        };
        self.0.ask(add).await
    }

    /// Takes the address away again.
    pub async fn leave(&self, index: u32, place: &Place) -> Result<(), Failed> {
        let net = place.net;
        let delete = |handle: Handle| {
            let same =
                handle.address().add(index, net.addr(), net.prefix_len()).message_mut().clone();
            handle.address().del(same).execute()
        };
        gone(self.0.ask(delete).await)
    }

    /// Takes away what another process of ours has left of these addresses: the kernel has not done so yet. Those of
    /// another cluster on this machine are not ours.
    pub async fn remove_leftovers(&self, places: &[Place]) -> Result<(), Failed> {
        let set = |ip| places.iter().any(|place| place.net.addr() == ip);
        let left = |entry: &AddressMessage| address(entry).is_some_and(set) && is_ours(entry);
        for entry in self.entries().await?.into_iter().filter(left) {
            let delete = |handle: Handle| handle.address().del(entry.clone()).execute();
            gone(self.0.ask(delete).await)?;
        }
        Ok(())
    }

    /// An address that somebody else has set, or leased, would be there on a master that does not lead.
    pub async fn refuse_foreign(&self, places: &[Place]) -> anyhow::Result<()> {
        let entries =
            self.entries().await.context("--vip: the addresses of this machine cannot be read")?;
        for place in places {
            let ip = place.net.addr();
            let Some(entry) = entries.iter().find(|entry| address(entry) == Some(ip)) else {
                continue;
            };
            if is_permanent(entry) {
                bail!(
                    "--vip {ip}: this machine has that address for good. Take it away (`ip addr del`, and from the \
                     machine's network configuration): masters set it themselves, on one machine at a time"
                );
            }
            if !is_ours(entry) {
                bail!(
                    "--vip {ip}: this machine has that address from elsewhere, for a time (DHCP?). Give an address \
                     that nobody else gives away: masters set it themselves, on one machine at a time"
                );
            }
        }
        Ok(())
    }

    /// All addresses of this machine. The kernel lists them once at a time for each connection: for the start only.
    async fn entries(&self) -> Result<Vec<AddressMessage>, Failed> {
        self.0.ask(|handle| handle.address().get().execute().try_collect()).await
    }
}

/// What is gone already was to be.
fn gone(done: Result<(), Failed>) -> Result<(), Failed> {
    match done {
        Err(Failed::Refused(Error::NetlinkError(refused))) if is_gone(refused.raw_code()) => Ok(()),
        done => done,
    }
}

/// Its time was over just now, or its interface went.
fn is_gone(code: i32) -> bool {
    [rustix::io::Errno::ADDRNOTAVAIL, rustix::io::Errno::NODEV]
        .iter()
        .any(|errno| code == -errno.raw_os_error())
}

fn address(entry: &AddressMessage) -> Option<IpAddr> {
    let of = |local: bool| {
        entry.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) if local => Some(*ip),
            AddressAttribute::Address(ip) if !local => Some(*ip),
            _ => None,
        })
    };
    of(true).or_else(|| of(false))
}

fn is_permanent(entry: &AddressMessage) -> bool {
    entry.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Flags(flags) => flags.contains(AddressFlags::Permanent),
        _ => false,
    })
}

/// Set by a master, and for a time. Where the kernel keeps neither mark (IPv6 before 5.18), it is known by the
/// lifetime: nobody else sets one so short, and never to be chosen.
fn is_ours(entry: &AddressMessage) -> bool {
    let marked = entry.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Protocol(protocol) => *protocol == AddressProtocol::Other(PROTOCOL),
        AddressAttribute::Label(label) => label.ends_with(LABEL),
        AddressAttribute::CacheInfo(life) => {
            life.ifa_preferred == 0 && life.ifa_valid <= LIFETIME_SECONDS
        }
        _ => false,
    });
    marked && !is_permanent(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_marked_or_ends_as_only_ours_does() {
        let with = |attributes: Vec<AddressAttribute>| {
            let mut entry = AddressMessage::default();
            entry.attributes = attributes;
            is_ours(&entry)
        };
        let lasts = |valid, preferred| {
            let mut life = CacheInfo::default();
            (life.ifa_valid, life.ifa_preferred) = (valid, preferred);
            AddressAttribute::CacheInfo(life)
        };
        let label = |text: &str| AddressAttribute::Label(text.to_owned());
        let permanent = AddressAttribute::Flags(AddressFlags::Permanent);
        assert!(with(vec![label("eth0:qvip"), lasts(600, 0)]));
        assert!(with(vec![AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL))]));
        assert!(with(vec![lasts(LIFETIME_SECONDS, 0)]), "an old kernel, IPv6");
        assert!(!with(vec![label("eth0"), lasts(600, 300)]), "of DHCP");
        assert!(!with(vec![lasts(2, 2)]), "of DHCP, at the end");
        assert!(!with(vec![label("eth0:qvip"), permanent]), "set by hand");
        assert!(!with(Vec::new()));
    }
}
