//! Setting an address for a few seconds at a time, and taking it away, by netlink. The lifetime is the kernel's: when
//! this process hangs or is killed, the address goes without it.

use std::net::IpAddr;

use anyhow::{Context, bail};
use futures::TryStreamExt as _;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use rtnetlink::{Handle, new_connection};

use super::place::Place;

/// So long an address stays that nobody renews, in the kernel's whole seconds.
pub const LIFETIME_SECONDS: u32 = 3;

/// Marks addresses as ours (`ip addr` shows it as `proto`; kernels before 5.18 do not keep it).
const PROTOCOL: u8 = b'Q';

/// The same as a label, which IPv4 addresses can have, behind the interface's name; where there is room for it.
const LABEL: &str = ":qvip";

/// Longest label.
const LABEL_BYTES_MAX: usize = 15;

/// A connection to the kernel; its task ends with it.
pub struct Netlink {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Netlink {
    /// Opens one. Must be called inside a tokio runtime.
    pub fn open() -> anyhow::Result<Self> {
        let (connection, handle, _) =
            new_connection().context("--vip: the kernel cannot be talked to (netlink)")?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// Sets the address, or renews it. No route, no duplicate detection of the kernel's, and never chosen for what this
    /// machine sends by itself.
    pub async fn hold(&self, index: u32, place: &Place) -> Result<(), rtnetlink::Error> {
        let net = place.net;
        let mut add = self.handle.address().add(index, net.addr(), net.prefix_len()).replace();
        let mut flags = AddressFlags::Noprefixroute;
        let mut lifetime = CacheInfo::default();
        (lifetime.ifa_valid, lifetime.ifa_preferred) = (LIFETIME_SECONDS, 0);
        let message = add.message_mut();
        let label = format!("{}{LABEL}", place.interface);
        if net.addr().is_ipv6() {
            flags |= AddressFlags::Nodad;
        } else if label.len() <= LABEL_BYTES_MAX {
            message.attributes.push(AddressAttribute::Label(label));
        }
        message.attributes.extend([
            AddressAttribute::Flags(flags),
            AddressAttribute::CacheInfo(lifetime),
            AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)),
        ]);
        add.execute().await
    }

    /// Takes the address away again.
    pub async fn leave(&self, index: u32, place: &Place) -> Result<(), rtnetlink::Error> {
        let net = place.net;
        let mut same = self.handle.address().add(index, net.addr(), net.prefix_len());
        self.delete(same.message_mut().clone()).await
    }

    /// Takes away what another process of ours has left: the kernel has not done so yet.
    pub async fn remove_leftovers(&self, places: &[Place]) -> Result<(), rtnetlink::Error> {
        let set = |ip| places.iter().any(|place| place.net.addr() == ip);
        // Where neither mark is kept, an address of ours that has a lifetime is one, too.
        let ours = |entry: &AddressMessage| is_marked(entry) || address(entry).is_some_and(set);
        self.remove(|entry| ours(entry) && !is_permanent(entry)).await
    }

    /// An address that somebody has set for good would be there on a master that does not lead.
    pub async fn refuse_permanent(&self, places: &[Place]) -> anyhow::Result<()> {
        let entries =
            self.entries().await.context("--vip: the addresses of this machine cannot be read")?;
        for place in places {
            let ip = place.net.addr();
            if entries.iter().any(|entry| address(entry) == Some(ip) && is_permanent(entry)) {
                bail!(
                    "--vip {ip}: this machine has that address for good. Take it away (`ip addr del`, and from the \
                     machine's network configuration): masters set it themselves, on one machine at a time"
                );
            }
        }
        Ok(())
    }

    /// All addresses of this machine. The kernel lists them once at a time for each connection: for the start only.
    async fn entries(&self) -> Result<Vec<AddressMessage>, rtnetlink::Error> {
        self.handle.address().get().execute().try_collect().await
    }

    async fn remove(
        &self,
        which: impl Fn(&AddressMessage) -> bool,
    ) -> Result<(), rtnetlink::Error> {
        for entry in self.entries().await?.into_iter().filter(which) {
            self.delete(entry).await?;
        }
        Ok(())
    }

    async fn delete(&self, entry: AddressMessage) -> Result<(), rtnetlink::Error> {
        match self.handle.address().del(entry).execute().await {
            Err(rtnetlink::Error::NetlinkError(refused)) if is_gone(refused.raw_code()) => Ok(()),
            done => done,
        }
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

fn is_marked(entry: &AddressMessage) -> bool {
    entry.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Protocol(protocol) => *protocol == AddressProtocol::Other(PROTOCOL),
        AddressAttribute::Label(label) => label.ends_with(LABEL),
        _ => false,
    })
}
