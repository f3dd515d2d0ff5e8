//! Pod sandboxes: the namespaces, cgroup and network that a pod's containers share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use jiff::Timestamp;

use super::container::{LinuxResources, SecurityContext};

/// Names a sandbox within its runtime. Never reused.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct SandboxId(pub String);

impl std::fmt::Display for SandboxId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which sandbox of which pod. `attempt` counts the sandboxes of one pod (0, 1, …): a pod gets a new one when its
/// sandbox dies.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct SandboxMetadata {
    /// The pod's `metadata.name`.
    pub name: String,
    /// The pod's `metadata.namespace`.
    pub namespace: String,
    /// The pod's `metadata.uid`.
    pub uid: String,
    /// Number of this sandbox among the sandboxes of the pod.
    pub attempt: u32,
}

/// Everything a runtime needs to make a sandbox.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct PodSandboxConfig {
    /// Whose sandbox.
    pub metadata: SandboxMetadata,
    /// Hostname inside the pod (UTS namespace); empty with `host_network`.
    pub hostname: String,
    /// Directory of the pod's container logs; [`super::ContainerConfig::log_path`] is relative to it. The caller
    /// has made it.
    pub log_directory: PathBuf,
    /// The content of the pod's `/etc/resolv.conf`, which the runtime writes and mounts.
    pub dns: DnsConfig,
    /// Ports of the pod that the host publishes (`hostPort`).
    pub port_mappings: Vec<PortMapping>,
    /// Queryable labels; the agent finds its own sandboxes by them after a restart, so they must persist.
    pub labels: BTreeMap<String, String>,
    /// Free data that must persist, too.
    pub annotations: BTreeMap<String, String>,
    /// Runtime class handler; empty for the default one.
    pub runtime_handler: String,
    /// Cgroup below which the sandbox and its containers live (cgroupfs path); empty: the runtime's default.
    pub cgroup_parent: String,
    /// Kernel parameters of the pod's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Namespaces, user and profiles of the sandbox itself. `namespaces` counts for all containers of the pod.
    pub security: SecurityContext,
    /// The sum of what the pod's containers may use, for runtimes that size the sandbox.
    pub resources: LinuxResources,
}

/// `/etc/resolv.conf`, as data.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

impl DnsConfig {
    /// The file as the resolver reads it. Empty when there is nothing to say.
    pub fn to_resolv_conf(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PortMapping {
    /// Transport.
    pub protocol: Protocol,
    /// Port inside the pod.
    pub container_port: u16,
    /// Port of the host.
    pub host_port: u16,
    /// Host address to bind; empty for all.
    pub host_ip: String,
}

/// Transport of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Whether a sandbox can hold containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    /// Its namespaces exist.
    Ready,
    /// Stopped, or its processes died (also by a reboot).
    NotReady,
}

/// One line of a sandbox listing.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// Whose it is.
    pub metadata: SandboxMetadata,
    /// Whether it is alive.
    pub state: SandboxState,
    /// When it was made.
    pub created_at: Timestamp,
    /// As given to `run_pod_sandbox`.
    pub labels: BTreeMap<String, String>,
    /// As given to `run_pod_sandbox`.
    pub annotations: BTreeMap<String, String>,
}

/// A sandbox in full.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxStatus {
    /// The listing's line.
    pub sandbox: Sandbox,
    /// The pod's addresses, primary first. Empty with host network or when not ready.
    pub ips: Vec<IpAddr>,
    /// Path of the network namespace, where the runtime tells it (`/proc/<pid>/ns/net`, `/var/run/netns/…`).
    pub network_namespace: Option<PathBuf>,
}
