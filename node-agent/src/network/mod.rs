//! The pod network of one host, first stage: every pod has an address of its node's pod CIDR on the agent's bridge;
//! pods reach each other on the host, the host, and (masqueraded) what the host reaches.
//!
//! * One bridge and one nftables table per agent, named after its data directory: two agents on a host do not collide.
//! * What an agent left that does not run and has no pods any more is cleared away by the next one ([`claim`]); what
//!   another one uses is never touched.
//! * A pod's address is a /32 with the bridge as its gateway, so that even neighbours talk through the host: services
//!   work among them without `br_netfilter`.
//! * Start reading at [`PodNetwork`]; [`rules`] is the pure part.

mod claim;
pub mod cni;
pub mod ipam;
mod link;
pub mod rules;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

pub use rules::{HostPort, ServiceRule};

use crate::runtime::PortMapping;

/// Longest run of `nft`; then it is killed and the change fails.
const NFT_TIMEOUT: Duration = Duration::from_secs(20);

/// Why the network could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node has no pod CIDR yet.
    #[error("the node has no pod CIDR yet")]
    NoCidr,
    /// All addresses are taken.
    #[error("no free address in {0}")]
    Full(Ipv4Net),
    /// Something else on the host uses the range.
    #[error("pod CIDR {cidr} is in use on this host already, by interface {interface}")]
    InUse {
        /// The range.
        cidr: Ipv4Net,
        /// Who has it.
        interface: String,
    },
    /// The kernel refused a change.
    #[error("{what}")]
    Netlink {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: rtnetlink::Error,
    },
    /// A file could not be read or written.
    #[error("{}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// `nft` is not installed, or failed.
    #[error("nftables: {0}")]
    Nft(String),
}

impl Error {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    }
}

/// The result of a network operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Eight hexadecimal digits that tell this agent's names from another's: FNV-1a of its data directory.
pub fn agent_tag(data_dir: &Path) -> String {
    format!("{:08x}", fnv(data_dir.as_os_str().as_encoded_bytes()))
}

#[expect(clippy::cast_possible_truncation, reason = "a hash is folded")]
fn fold(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

fn fnv(bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    fold(hash)
}

#[derive(Debug, Default)]
struct State {
    cidr: Option<Ipv4Net>,
    /// Why there is no network, once the node's CIDRs are known.
    unusable: Option<String>,
    /// That rules cannot be set was said.
    complained: bool,
    host_ports: Vec<HostPort>,
    services: Vec<ServiceRule>,
    /// What `nft` was last given: the same again is not worth a process.
    applied: String,
}

/// The pod network of this agent. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PodNetwork {
    tag: String,
    ipam: PathBuf,
    state: Arc<Mutex<State>>,
    _claim: Arc<claim::Claim>,
}

impl PodNetwork {
    /// `data_dir` names this agent; addresses in use are kept in `dir`.
    pub fn new(data_dir: &Path, dir: &Path) -> Result<PodNetwork> {
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let data_dir = data_dir.canonicalize().map_err(Error::io(data_dir))?;
        let tag = agent_tag(&data_dir);
        let claim = Arc::new(claim::Claim::take(&tag));
        Ok(PodNetwork { tag, ipam: dir.join("ipam.json"), state: Arc::default(), _claim: claim })
    }

    /// The bridge's name.
    pub fn bridge(&self) -> String {
        bridge_of(&self.tag)
    }

    fn table(&self) -> String {
        table_of(&self.tag)
    }

    /// Clears away the bridges, rules and (in `cni_conf_dir`) configurations of agents that do not run and have no pods
    /// any more: their rules would answer for our services, their configuration would be our pods'. Best effort.
    pub async fn clear_abandoned(&self, cni_conf_dir: Option<&Path>) {
        let mut known = claim::known(cni_conf_dir.map(cni::tags_in).unwrap_or_default());
        known.retain(|tag| *tag != self.tag);
        for tag in known {
            let Some(abandoned) = claim::Abandoned::seize(&tag) else { continue };
            let (bridge, table) = (bridge_of(&abandoned.tag), table_of(&abandoned.tag));
            if link::has_ports(&bridge).await {
                // Pods outlive their agent.
                continue;
            }
            let removed = link::remove(&bridge).await;
            let removed = removed.and(run_nft(&rules::removal(&table)).await);
            if let Err(err) = removed {
                let err = crate::builtin::image::chain(&err);
                tracing::debug!(%bridge, %err, "the network of an agent that is gone stays");
                continue;
            }
            if let Some(directory) = cni_conf_dir {
                cni::remove_config(directory, &bridge);
            }
            abandoned.cleared();
            tracing::info!(%bridge, "network of an agent that is gone cleared away");
        }
    }

    /// Why pods cannot get an address, in words for the node's condition; `None` when they can.
    pub async fn not_ready(&self) -> Option<String> {
        let state = self.state.lock().await;
        if state.cidr.is_some() {
            return None;
        }
        Some(state.unusable.clone().unwrap_or_else(|| Error::NoCidr.to_string()))
    }

    /// Takes the node's pod CIDRs, makes the bridge and the rules. The first IPv4 one counts: pods have IPv4 addresses
    /// only. Running pods keep their addresses.
    ///
    /// Where rules cannot be set (no `nft`), pods have addresses and reach each other and the host all the same; what
    /// needs rules (other hosts, services, hostPorts) says so when it is asked for.
    pub async fn set_cidrs(&self, cidrs: &[String]) -> Result<()> {
        let mut state = self.state.lock().await;
        let Some(cidr) = cidrs.iter().find_map(|cidr| cidr.parse::<Ipv4Net>().ok()) else {
            if !cidrs.is_empty() {
                let why =
                    format!("no IPv4 pod CIDR among {}: pods have IPv4 only", cidrs.join(", "));
                tracing::warn!("{why}");
                state.unusable = Some(why);
            }
            return Ok(());
        };
        let cidr = cidr.trunc();
        if state.cidr == Some(cidr) {
            return Ok(());
        }
        for other in cidrs.iter().filter(|other| other.contains(':')) {
            tracing::warn!(cidr = %other, "IPv6 pod CIDR is not used: pods have IPv4 addresses only");
        }
        if let Err(err) = link::ensure_bridge(&self.bridge(), cidr, gateway(cidr)).await {
            let hint = match &err {
                Error::InUse { .. } => ": give this cluster another --cluster-cidr, or remove it",
                _ => "",
            };
            state.unusable = Some(format!("{}{hint}", crate::builtin::image::chain(&err)));
            return Err(err);
        }
        for (path, value) in [
            ("net/ipv4/ip_forward".to_owned(), "1"),
            (format!("net/ipv4/conf/{}/send_redirects", self.bridge()), "0"),
        ] {
            set_sysctl(&path, value)?;
        }
        state.cidr = Some(cidr);
        if let Err(err) = self.apply(&mut state).await {
            let what = "pods reach nothing beyond this host, no services, and have no hostPorts";
            tracing::warn!(err = %crate::builtin::image::chain(&err), "{what}");
        }
        Ok(())
    }

    /// Gives a pod its address and connects the network namespace of the process `pid`.
    pub async fn attach(&self, id: &str, pid: i32, ports: &[PortMapping]) -> Result<IpAddr> {
        let mut state = self.state.lock().await;
        let cidr = state.cidr.ok_or(Error::NoCidr)?;
        let address = ipam::allocate(&self.ipam, cidr, gateway(cidr), id)?;
        let veth = veth_name(id);
        let connected = link::connect(&self.bridge(), &veth, pid, address, gateway(cidr)).await;
        if let Err(err) = connected {
            let _ = link::remove(&veth).await;
            let _ = ipam::release(&self.ipam, id);
            return Err(err);
        }
        if !ports.is_empty() {
            self.publish(&mut state, id, address, ports);
            if let Err(err) = self.apply(&mut state).await {
                state.host_ports.retain(|port| port.pod != id);
                let _ = link::remove(&veth).await;
                let _ = ipam::release(&self.ipam, id);
                return Err(err);
            }
        }
        Ok(IpAddr::V4(address))
    }

    fn publish(&self, state: &mut State, id: &str, address: Ipv4Addr, ports: &[PortMapping]) {
        for port in ports {
            state.host_ports.push(HostPort {
                pod: id.to_owned(),
                protocol: port.protocol,
                host_ip: port.host_ip.parse().ok(),
                host_port: port.host_port,
                address,
                port: port.container_port,
            });
        }
    }

    /// After a restart of the agent: a running pod's published ports are ours again.
    pub async fn adopt(&self, id: &str, address: Ipv4Addr, ports: &[PortMapping]) {
        let mut state = self.state.lock().await;
        self.publish(&mut state, id, address, ports);
    }

    /// Takes the pod's address back. Idempotent.
    pub async fn detach(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock().await;
        link::remove(&veth_name(id)).await?;
        let before = state.host_ports.len();
        state.host_ports.retain(|port| port.pod != id);
        if state.host_ports.len() != before
            && let Err(err) = self.apply(&mut state).await
        {
            // The address must come free nevertheless; the next change removes the rules.
            tracing::warn!(err = %crate::builtin::image::chain(&err), "hostPorts of a pod that is gone remain");
        }
        ipam::release(&self.ipam, id)
    }

    /// Forgets addresses and veths of pods that are not in `alive`.
    pub async fn sweep(&self, alive: &[String]) -> Result<()> {
        for id in ipam::owners(&self.ipam)? {
            if !alive.contains(&id) {
                self.detach(&id).await?;
            }
        }
        Ok(())
    }

    /// Makes the cluster IPs of `services` lead to their endpoints; replaces what was before. Without `nft` it fails
    /// with words that say so.
    pub async fn sync_services(&self, services: Vec<ServiceRule>) -> Result<()> {
        let mut state = self.state.lock().await;
        state.services = services;
        self.apply(&mut state).await
    }

    /// Removes everything of this agent from the host's network: for tests and for `reset`.
    pub async fn teardown(&self) -> Result<()> {
        for id in ipam::owners(&self.ipam)? {
            self.detach(&id).await?;
        }
        link::remove(&self.bridge()).await?;
        run_nft(&rules::removal(&self.table())).await
    }

    async fn apply(&self, state: &mut State) -> Result<()> {
        let rules = rules::render(&rules::Input {
            table: &self.table(),
            bridge: &self.bridge(),
            cidr: state.cidr,
            host_ports: &state.host_ports,
            services: &state.services,
        });
        if state.applied == rules {
            return Ok(());
        }
        if let Err(err) = run_nft(&rules).await {
            // An empty table is what there is without nftables.
            let needed = !state.host_ports.is_empty() || !state.services.is_empty();
            return if needed || !std::mem::replace(&mut state.complained, true) {
                Err(err)
            } else {
                Ok(())
            };
        }
        state.applied = rules;
        if state.cidr.is_some() {
            // Services may lead to a master that listens on the loopback only. The rules, which are there by now, keep
            // pods off it otherwise.
            set_sysctl(&format!("net/ipv4/conf/{}/route_localnet", self.bridge()), "1")?;
        }
        Ok(())
    }
}

/// Sets a kernel parameter, unless it has the value: it may be right and not ours to write.
fn set_sysctl(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(Error::io(&path))
}

/// The service proxy: what turns cluster IPs into endpoints on this node.
#[derive(Debug, Clone)]
pub struct ServiceProxy(PodNetwork);

impl ServiceProxy {
    /// It shares the table of the pod network.
    pub fn new(network: PodNetwork) -> ServiceProxy {
        ServiceProxy(network)
    }

    /// See [`PodNetwork::sync_services`].
    pub async fn sync(&self, services: Vec<ServiceRule>) -> Result<()> {
        self.0.sync_services(services).await
    }
}

/// The first address of the range is the bridge's.
fn gateway(cidr: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.network()).saturating_add(1))
}

fn bridge_of(tag: &str) -> String {
    format!("{}{tag}", cni::BRIDGE_PREFIX)
}

fn table_of(tag: &str) -> String {
    format!("quorate-{tag}")
}

/// Interface names have 15 characters at most; ids are random, so their head is as good as a hash.
fn veth_name(id: &str) -> String {
    format!("qv{}", id.chars().take(12).collect::<String>())
}

async fn run_nft(rules: &str) -> Result<()> {
    let mut child = tokio::process::Command::new("nft")
        .args(["-j", "-f", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|err| match err.kind() {
            std::io::ErrorKind::NotFound => Error::Nft(
                "the program nft is not installed, which services, hostPorts and traffic to other hosts need: \
                 install the package nftables"
                    .into(),
            ),
            _ => Error::Nft(err.to_string()),
        })?;
    let mut stdin = child.stdin.take().ok_or_else(|| Error::Nft("no stdin".into()))?;
    let work = async {
        let _ = stdin.write_all(rules.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(NFT_TIMEOUT, work)
        .await
        .map_err(|_| Error::Nft("nft did not end".into()))?
        .map_err(|err| Error::Nft(err.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Nft(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
