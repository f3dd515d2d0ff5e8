//! What the agent is started with.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;

use crate::link::{Dial, Renewal};
use crate::node::Usage;
use crate::thresholds::Thresholds;

/// Everything the agent has to know from outside.
#[derive(Clone)]
pub struct Config {
    /// `metadata.name` of the Node.
    pub node_name: String,
    /// The process's data directory; the agent keeps to `agent/` below it.
    pub data_dir: PathBuf,
    /// Addresses of masters, `https://host:port`, in any order. Masters tell the current list later.
    pub masters: Vec<String>,
    /// CA and client certificate. `None` is for tests with `http://` masters alone.
    pub tls: Option<Tls>,
    /// How its certificate is made anew; `None`: it stays as it is.
    pub renewal: Option<Arc<dyn Renewal>>,
    /// Addresses of this node as others reach it; empty: the address of the default route.
    pub node_ips: Vec<IpAddr>,
    /// Labels beside the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// Taints the Node is created with.
    pub taints: Vec<Taint>,
    /// Pods this node takes; the kubelet's default is 110.
    pub pods_max: u32,
    /// Where cluster IPs are made to work on this host; `None`: they are not.
    pub network: Option<crate::network::PodNetwork>,
    /// Where a CRI runtime reads its CNI configuration: one for this node's pod CIDR is written there, unless another
    /// network is configured already. `None`: the runtime makes its pods' network by itself.
    pub cni_conf_dir: Option<PathBuf>,
    /// How little memory, disk and process ids may be free before the node says it is under pressure.
    pub thresholds: Thresholds,
    /// What the machine has and uses, instead of what is measured.
    pub usage: Option<Usage>,
    /// How masters are connected to, instead of by TCP and TLS.
    pub dial: Option<Arc<dyn Dial>>,
    /// The host's resolver configuration, usually `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

impl Config {
    /// A configuration with the defaults for everything that has one.
    pub fn new(node_name: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        Config {
            node_name: node_name.into(),
            data_dir: data_dir.into(),
            masters: Vec::new(),
            tls: None,
            renewal: None,
            node_ips: Vec::new(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            pods_max: 110,
            network: None,
            cni_conf_dir: None,
            thresholds: Thresholds::default(),
            usage: None,
            dial: None,
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

/// Who we are, and whom we trust. PEM texts. `Debug` shows none of it.
#[derive(Clone)]
pub struct Tls {
    /// The cluster's CA.
    pub ca_pem: String,
    /// `system:node:<name>`.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: String,
}
