//! Frames to and from the link of an interface. A socket is opened for each purpose and closed after it, so that
//! nothing queues which nobody reads.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::net::if_::InterfaceFlags;
use nix::sys::socket::LinkAddr;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, eth, socket_with,
};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::frames::{self, Mac, Said};

/// Longest frame that is of interest; of a longer one the beginning is read.
const FRAME_BYTES_MAX: usize = 256;

/// Hosts are asked so many times whether they have an address...
const PROBES: u32 = 2;

/// ...and this long after each. RFC 5227 waits seconds; a leader is waited for by clients, and hosts on a link answer
/// within a millisecond or two. Who is slower than that is heard later, while the address is held.
const PROBE_WAIT: Duration = Duration::from_millis(50);

/// `ARPHRD_ETHER` of the kernel.
const ETHERNET: u16 = 1;

/// So many of a machine's hardware addresses are told to the other masters: one with pods has more, of no interest.
const MACS_MAX: usize = 64;

/// All hardware addresses under which this machine may answer ARP: by default Linux does on each interface for the
/// addresses of all. Those of interfaces with addresses come first.
pub fn own_macs() -> io::Result<BTreeSet<Mac>> {
    let (mut macs, mut addressed) = (Vec::new(), BTreeSet::new());
    for entry in nix::ifaddrs::getifaddrs()? {
        let Some(address) = entry.address else { continue };
        let name = entry.interface_name.split(':').next().unwrap_or_default().to_owned();
        match address.as_link_addr() {
            Some(link) if link.hatype() == ETHERNET => {
                macs.extend(link.addr().map(|mac| (name, mac)));
            }
            Some(_) => {}
            None => drop(addressed.insert(name)),
        }
    }
    Ok(most_likely(macs, &addressed))
}

fn most_likely(mut macs: Vec<(String, Mac)>, addressed: &BTreeSet<String>) -> BTreeSet<Mac> {
    macs.retain(|(_, mac)| *mac != [0; 6]);
    macs.sort_by_key(|(name, _)| !addressed.contains(name));
    macs.into_iter().map(|(_, mac)| mac).take(MACS_MAX).collect()
}

/// The link of an interface, as it is at the moment.
#[derive(Debug, Clone)]
pub struct Link {
    pub index: u32,
    pub mac: Mac,
    /// Whether it is up, and has a carrier.
    pub runs: bool,
    address: LinkAddr,
}

impl Link {
    /// Of the interface with that name.
    pub fn of(interface: &str) -> io::Result<Self> {
        let found = nix::ifaddrs::getifaddrs()?
            .filter(|entry| entry.interface_name == interface)
            .find_map(|entry| Some((entry.flags, *entry.address?.as_link_addr()?)));
        let none =
            |why: &str| io::Error::new(io::ErrorKind::NotFound, format!("{interface} {why}"));
        let (flags, address) = found.ok_or_else(|| none("is not there"))?;
        let mac = address.addr().filter(|_| address.hatype() == ETHERNET);
        let mac = mac.ok_or_else(|| none("is not an Ethernet interface"))?;
        let index = u32::try_from(address.ifindex()).map_err(io::Error::other)?;
        let runs = flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING);
        Ok(Self { index, mac, runs, address })
    }

    /// A socket for whole frames; without a protocol it hears nothing.
    fn open(&self, protocol: Option<Protocol>) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, protocol)?;
        // The address that the kernel gave names no protocol: the socket's stays.
        nix::sys::socket::bind(socket.as_raw_fd(), &self.address)?;
        Ok(socket)
    }

    /// Sends frames to the link.
    pub fn send(&self, frames: &[Vec<u8>]) -> io::Result<()> {
        let socket = self.open(None)?;
        for frame in frames {
            rustix::net::send(&socket, frame, SendFlags::empty())?;
        }
        Ok(())
    }

    /// Hears ARP, or for an IPv6 address all IPv6: that for moments only.
    pub fn listen(&self, address: IpAddr) -> io::Result<Listener> {
        let protocol = if address.is_ipv4() { eth::ARP } else { eth::IPV6 };
        Ok(Listener { socket: readable(self.open(Some(protocol))?)?, address })
    }

    /// Asks all hosts who has an address; gives those that say they do.
    pub async fn probe(&self, address: IpAddr) -> io::Result<BTreeSet<Mac>> {
        let listener = self.listen(address)?;
        let question = [frames::probe(address, self.mac)];
        let mut holders = BTreeSet::new();
        for _ in 0..PROBES {
            self.send(&question)?;
            let until = Instant::now() + PROBE_WAIT;
            while let Ok(heard) = tokio::time::timeout_at(until, listener.hear()).await {
                if let Said::Has(mac) = heard?
                    && mac != self.mac
                {
                    holders.insert(mac);
                }
            }
        }
        Ok(holders)
    }
}

#[allow(deprecated, reason = "its successor is unsafe: an `OwnedFd` cannot be anything but open")]
fn readable(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, tokio::io::Interest::READABLE)
}

/// Hears what is said of an address.
pub struct Listener {
    socket: AsyncFd<OwnedFd>,
    address: IpAddr,
}

impl Listener {
    /// The next thing that is said. Nothing is lost when the future is dropped.
    pub async fn hear(&self) -> io::Result<Said> {
        let mut buffer = [0; FRAME_BYTES_MAX];
        loop {
            let mut ready = self.socket.readable().await?;
            let read = ready.try_io(|socket| {
                let (length, _) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty())?;
                Ok(length)
            });
            let Ok(length) = read else { continue };
            let frame = buffer.get(..length?).unwrap_or_default();
            if let Some(said) = frames::about(frame, self.address) {
                return Ok(said);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_may_answer_are_told_and_not_too_many() {
        let one = |number: u8| (format!("eth{number}"), [2, 0, 0, 0, 0, number]);
        let mut all: Vec<_> = (1..=100).map(one).collect();
        all.push(("none0".to_owned(), [0; 6]));
        let told = most_likely(all, &BTreeSet::from(["eth100".to_owned(), "none0".to_owned()]));
        assert_eq!(told.len(), MACS_MAX);
        assert!(told.contains(&one(100).1) && told.contains(&one(1).1));
        assert!(!told.contains(&one(99).1) && !told.contains(&[0; 6]));
    }
}
