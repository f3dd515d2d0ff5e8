//! A network namespace for each master, joined by a bridge on the host: so that links can be cut
//! in one direction or both, as iptables-using harnesses do it (Jepsen's `drop-all!`).
//!
//! Made with `ip`, cut with `nft`; both need root. Names are `qc` and the process id of the run, so
//! that what an aborted one left is found and removed by the next.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Names of bridge, namespaces and links begin with it.
const PREFIX: &str = "qc";
const TABLE: &str = "quorate_chaos";

/// Where clients come to.
pub const API_PORT: u16 = 6443;

/// Held while a network is made.
const LOCK: &str = "quorate-chaos.lock";

/// The network of one run.
#[derive(Debug)]
pub struct Network {
    bridge: String,
    subnet: u8,
    masters: usize,
}

impl Network {
    /// Whether this host can have one; if not, why.
    ///
    /// # Errors
    /// What is missing, in a sentence.
    pub fn possible() -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("network faults need root".into());
        }
        for tool in ["ip", "nft"] {
            if Command::new(tool).arg("-V").output().is_err() {
                return Err(format!(
                    "network faults need the program {tool}: apt-get install iproute2 nftables"
                ));
            }
        }
        Ok(())
    }

    /// Makes a bridge and a namespace for each master; removes what an aborted run left.
    ///
    /// # Errors
    /// When a command fails, with what it said.
    pub fn make(masters: usize) -> anyhow::Result<Self> {
        // Two runs at once must not choose the same addresses.
        let lock = std::env::temp_dir().join(LOCK);
        let lock =
            File::create(&lock).with_context(|| format!("cannot open {}", lock.display()))?;
        lock.lock()?;
        sweep()?;
        let taken = said(Command::new("ip").args(["-4", "-o", "addr"]))?;
        let free = |subnet: &u8| !taken.contains(&format!("10.231.{subnet}."));
        let subnet = (1..=254).find(free).context("no free subnet in 10.231.0.0/16")?;
        let bridge = format!("{PREFIX}{}", std::process::id());
        let network = Self { bridge, subnet, masters };
        network.set_up().inspect_err(|_| network.remove())?;
        Ok(network)
    }

    fn set_up(&self) -> anyhow::Result<()> {
        let bridge = &self.bridge;
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {}/24 dev {bridge}", self.host()))?;
        ip(&format!("link set {bridge} up"))?;
        for master in 0..self.masters {
            let namespace = self.namespace(master);
            let link = format!("{bridge}v{master}");
            ip(&format!("addr add {}/24 dev {bridge}", self.proxy_address(master)))?;
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("link add {link} type veth peer name eth0 netns {namespace}"))?;
            ip(&format!("link set {link} master {bridge} up"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
            ip(&format!("-n {namespace} addr add {}/24 dev eth0", self.address(master)))?;
            ip(&format!("-n {namespace} link set eth0 up"))?;
            ip(&format!("-n {namespace} route add default via {}", self.host()))?;
            self.nft(master, &format!("add table inet {TABLE}"))?;
            self.nft(master, &format!("add set inet {TABLE} cut {{ type ipv4_addr; }}"))?;
            let hook = "{ type filter hook input priority 0; policy accept; }";
            self.nft(master, &format!("add chain inet {TABLE} input {hook}"))?;
            self.nft(master, &format!("add rule inet {TABLE} input ip saddr @cut drop"))?;
            self.nft(master, &format!("add set inet {TABLE} clients {{ type ipv4_addr; }}"))?;
            let clients = format!("ip saddr @clients tcp dport {API_PORT} drop");
            self.nft(master, &format!("add rule inet {TABLE} input {clients}"))?;
        }
        Ok(())
    }

    /// The host's address on the bridge.
    #[must_use]
    pub fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, self.subnet, 1)
    }

    /// A master's address.
    #[must_use]
    pub fn address(&self, master: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, self.subnet, u8::try_from(10 + master).unwrap_or(u8::MAX))
    }

    /// The host's address that stands for a master before its proxy: the others know it by this.
    #[must_use]
    pub fn proxy_address(&self, master: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, self.subnet, u8::try_from(100 + master).unwrap_or(u8::MAX))
    }

    /// The namespace in which a master's process runs.
    #[must_use]
    pub fn namespace(&self, master: usize) -> String {
        format!("{}n{master}", self.bridge)
    }

    /// Drops what comes to `to` from any of `from`, and nothing else, from now on.
    ///
    /// # Errors
    /// When `nft` fails, with what it said.
    pub fn cut(&self, to: usize, from: &BTreeSet<usize>) -> anyhow::Result<()> {
        let mut command = format!("flush set inet {TABLE} cut");
        if !from.is_empty() {
            let both = |from: &usize| [self.address(*from), self.proxy_address(*from)];
            let all: Vec<String> =
                from.iter().flat_map(both).map(|address| address.to_string()).collect();
            let _ = write!(command, "; add element inet {TABLE} cut {{ {} }}", all.join(", "));
        }
        self.nft(to, &command)
    }

    /// Drops what comes to a master's API from the host, where all clients are, or does not.
    ///
    /// # Errors
    /// When `nft` fails, with what it said.
    pub fn cut_clients(&self, master: usize, cut: bool) -> anyhow::Result<()> {
        let mut command = format!("flush set inet {TABLE} clients");
        if cut {
            let _ = write!(command, "; add element inet {TABLE} clients {{ {} }}", self.host());
        }
        self.nft(master, &command)
    }

    /// Every link as it was.
    ///
    /// # Errors
    /// When `nft` fails, with what it said.
    pub fn heal(&self) -> anyhow::Result<()> {
        (0..self.masters).try_for_each(|master| {
            self.cut(master, &BTreeSet::new())?;
            self.cut_clients(master, false)
        })
    }

    /// Whether a master drops what clients send it now, as the kernel says.
    ///
    /// # Errors
    /// When `nft` fails, with what it said.
    pub fn is_cut_from_clients(&self, master: usize) -> anyhow::Result<bool> {
        Ok(has(&self.listed(master, "clients")?, &self.host()))
    }

    /// Whom `to` does not hear now, as the kernel says.
    ///
    /// # Errors
    /// When `nft` fails, with what it said.
    pub fn cut_from(&self, to: usize) -> anyhow::Result<BTreeSet<usize>> {
        let listed = self.listed(to, "cut")?;
        Ok((0..self.masters).filter(|from| has(&listed, &self.address(*from))).collect())
    }

    /// How many directions of links are cut now, those to clients among them, as the kernel says.
    ///
    /// # Errors
    /// When `nft` fails, with what it said.
    pub fn cuts(&self) -> anyhow::Result<usize> {
        let cuts = |master| -> anyhow::Result<usize> {
            let clients = usize::from(self.is_cut_from_clients(master)?);
            Ok(self.cut_from(master)?.len() + clients)
        };
        (0..self.masters).map(cuts).sum()
    }

    /// A set of addresses, as `nft` prints it.
    fn listed(&self, master: usize, set: &str) -> anyhow::Result<String> {
        let namespace = self.namespace(master);
        let mut list = Command::new("ip");
        list.args(["netns", "exec", &namespace, "nft", "list", "set", "inet", TABLE, set]);
        said(&mut list)
    }

    fn nft(&self, master: usize, command: &str) -> anyhow::Result<()> {
        let namespace = self.namespace(master);
        said(Command::new("ip").args(["netns", "exec", &namespace, "nft"]).arg(command)).map(drop)
    }

    fn remove(&self) {
        for master in 0..self.masters {
            // The link by name: with its namespace alone it would go some time later.
            let _ = ip(&format!("link del {}v{master}", self.bridge));
            let _ = ip(&format!("netns del {}", self.namespace(master)));
        }
        let _ = ip(&format!("link del {}", self.bridge));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Whether `nft` printed this address.
fn has(listed: &str, address: &Ipv4Addr) -> bool {
    let address = address.to_string();
    listed.split(|c: char| !c.is_ascii_digit() && c != '.').any(|part| part == address)
}

/// Removes what runs whose process is gone have left.
fn sweep() -> anyhow::Result<()> {
    let namespaces = said(Command::new("ip").args(["netns", "list"]))?;
    for name in namespaces.lines().filter_map(|line| line.split_whitespace().next()) {
        let left = owner(name).filter(|pid| !Path::new(&format!("/proc/{pid}")).exists());
        if let Some(pid) = left {
            ip(&format!("netns del {name}"))?;
            let _ = ip(&format!("link del {PREFIX}{pid}"));
        }
    }
    Ok(())
}

/// The process of `qc4711n2`.
fn owner(namespace: &str) -> Option<u32> {
    let (pid, master) = namespace.strip_prefix(PREFIX)?.split_once('n')?;
    master.parse::<u8>().ok()?;
    pid.parse().ok()
}

fn ip(arguments: &str) -> anyhow::Result<()> {
    said(Command::new("ip").args(arguments.split(' '))).map(drop)
}

fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_are_swept() {
        assert_eq!((owner("qc7n2"), owner("qc4711n10")), (Some(7), Some(4711)));
        for other in ["qc", "qcn", "qc7", "qc7n", "qcxn1", "web", "cni-1234", "qc7n2x"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
