//! Who connects.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Mutex;

use crate::real::workload::lock;

/// How a proxy knows which master connects to it.
#[derive(Debug)]
pub enum Who {
    /// Each has an address of its own.
    Addresses(BTreeMap<IpAddr, usize>),
    /// All are at one address: the kernel knows which process holds the other end.
    Processes(Mutex<BTreeMap<usize, u32>>),
}

impl Who {
    /// Where this master's process is now.
    pub(super) fn process(&self, master: usize, id: Option<u32>) {
        if let Self::Processes(processes) = self {
            let mut processes = lock(processes);
            match id {
                Some(id) => processes.insert(master, id),
                None => processes.remove(&master),
            };
        }
    }

    /// The master at the other end of a connection from `from` to `to`.
    pub(super) fn is(&self, from: SocketAddr, to: SocketAddr) -> Option<usize> {
        match self {
            Self::Addresses(addresses) => addresses.get(&from.ip()).copied(),
            Self::Processes(processes) => {
                let inode = inode(&fs::read_to_string("/proc/net/tcp").ok()?, from, to)?;
                let link = format!("socket:[{inode}]");
                let processes = lock(processes).clone();
                processes.into_iter().find(|(_, id)| holds(*id, &link)).map(|(master, _)| master)
            }
        }
    }
}

/// Whether a process has a descriptor of this socket.
fn holds(process: u32, link: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    let targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.into_iter().any(|target| target.as_os_str() == link)
}

/// The socket with these ends in `/proc/net/tcp` (proc_pid_net(5)).
fn inode(table: &str, from: SocketAddr, to: SocketAddr) -> Option<u64> {
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else { return None };
    let (from, to) = (hex(from), hex(to));
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let ends = (fields.next()?, fields.next()?);
        let inode = fields.nth(6)?;
        if ends == (from.as_str(), to.as_str()) { inode.parse().ok() } else { None }
    })
}

/// As the kernel prints it: the address as one number of this machine's order.
fn hex(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_tells_who_connects() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let near = tokio::net::TcpStream::connect(to).await.unwrap();
        let from = near.local_addr().unwrap();
        let who = Who::Processes(Mutex::default());
        assert_eq!(who.is(from, to), None, "nobody is known yet");
        who.process(2, Some(std::process::id()));
        assert_eq!(who.is(from, to), Some(2));
        who.process(2, None);
        assert_eq!(who.is(from, to), None);
    }
}
