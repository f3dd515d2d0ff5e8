//! What operators may set, under the names that they know from kube-controller-manager's flags.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::watch;

/// Makes the tokens that Secrets of type `kubernetes.io/service-account-token` hold. The keys are the
/// API server's.
pub trait AccountTokens: fmt::Debug + Send + Sync {
    /// The token of an account, given by namespace, name and uid, in a Secret of that namespace;
    /// `None` when there can be none now.
    fn token(&self, account: (&str, &str, &str), secret: &str) -> Option<String>;
}

/// What a request for a certificate asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    /// Common name.
    pub name: String,
    /// Organizations, which are groups.
    pub organizations: Vec<String>,
    /// How many DNS names.
    pub dns_names: usize,
    /// How many addresses.
    pub addresses: usize,
    /// How many e-mail addresses.
    pub emails: usize,
    /// How many URIs.
    pub uris: usize,
}

/// Signs certificates that are asked for through the API. Whoever implements it has the authority's key, and keeps it.
pub trait CertificateSigner: fmt::Debug + Send + Sync {
    /// What a request (PEM) asks for.
    ///
    /// # Errors
    /// Why it does not parse.
    fn read(&self, request_pem: &str) -> Result<Requested, String>;

    /// A certificate (PEM) as the request asks, with these usages, good for so many seconds.
    ///
    /// # Errors
    /// Why there is none.
    fn sign(
        &self,
        request_pem: &str,
        usages: &[String],
        now: Timestamp,
        seconds: i64,
    ) -> Result<String, String>;

    /// Until when a certificate (PEM) is valid, in seconds since 1970; `None` when it does not parse.
    fn ends_at(&self, certificate_pem: &str) -> Option<i64>;
}

/// What the API server's authorizer says.
pub trait AccessReviews: fmt::Debug + Send + Sync {
    /// Whether a user may create `certificatesigningrequests/SUBRESOURCE`: that is, gets what is asked for there
    /// without anybody's looking at it.
    fn may_request(&self, user: &str, groups: &[String], subresource: &str) -> bool;
}

/// Settings of the controllers. `Default` is upstream's default where upstream has one.
#[derive(Debug, Clone)]
pub struct ControllersConfig {
    /// `--node-monitor-grace-period`: silence after which a node is Unknown.
    pub node_monitor_grace_period: Duration,
    /// `--node-eviction-rate`: nodes per second of a zone that get a NoExecute taint.
    pub node_eviction_rate: f64,
    /// `--secondary-node-eviction-rate`: the same when the zone is unhealthy; 0 for zones of at
    /// most [`Self::large_cluster_size_threshold`] nodes.
    pub secondary_node_eviction_rate: f64,
    /// `--unhealthy-zone-threshold`: share of not ready nodes from which a zone is unhealthy.
    pub unhealthy_zone_threshold: f64,
    /// `--large-cluster-size-threshold`.
    pub large_cluster_size_threshold: usize,
    /// `--cluster-cidr`: where pod CIDRs of nodes come from, one per IP family. Empty: none are
    /// given.
    pub cluster_cidr: Vec<IpNet>,
    /// `--node-cidr-mask-size` (IPv4).
    pub node_cidr_mask_size: u8,
    /// `--node-cidr-mask-size-ipv6`.
    pub node_cidr_mask_size_ipv6: u8,
    /// `--service-cluster-ip-range`: never given to nodes when it lies in a cluster CIDR.
    pub service_cluster_ip_range: Vec<IpNet>,
    /// `--terminated-pod-gc-threshold`: ended pods that are kept; 0 keeps all.
    pub terminated_pod_gc_threshold: usize,
    /// `--event-ttl` (a flag of kube-apiserver): how long an Event lives after its last change.
    pub event_ttl: Duration,
    /// `--root-ca-file`, as PEM: what `kube-root-ca.crt` holds in each namespace. Empty: not
    /// published.
    pub root_ca_pem: String,
    /// Where a new [`Self::root_ca_pem`] comes from when the authorities are changed; `None`: it stays as it is.
    pub root_ca_changes: Option<watch::Receiver<String>>,
    /// `--service-account-private-key-file`: signs the tokens of Secrets. `None`: they get none.
    pub account_tokens: Option<Arc<dyn AccountTokens>>,
    /// `--cluster-signing-cert-file` and `-key-file`: signs certificates. `None`: nothing is approved or signed.
    pub certificates: Option<Arc<dyn CertificateSigner>>,
    /// Whom nodes' requests are approved for. `None`: for nobody.
    pub access: Option<Arc<dyn AccessReviews>>,
    /// `--min-resync-period`: how often everything is planned again although nothing changed.
    pub min_resync_period: Duration,
    /// Changes of the last this long are kept in the history, within the limits that follow
    /// (`--etcd-compaction-interval` upstream).
    pub history_keep: Duration,
    /// Changes of one resource that the history keeps at most, whatever their age.
    pub history_changes_max: usize,
    /// Bytes that the history of one resource holds at most, whatever the age of its changes.
    pub history_bytes_max: u64,
}

impl Default for ControllersConfig {
    fn default() -> Self {
        let cluster = IpNet::new_assert(IpAddr::from([10, 42, 0, 0]), 16);
        let services = IpNet::new_assert(IpAddr::from([10, 43, 0, 0]), 16);
        Self {
            node_monitor_grace_period: Duration::from_secs(50),
            node_eviction_rate: 0.1,
            secondary_node_eviction_rate: 0.01,
            unhealthy_zone_threshold: 0.55,
            large_cluster_size_threshold: 50,
            cluster_cidr: vec![cluster],
            node_cidr_mask_size: 24,
            node_cidr_mask_size_ipv6: 64,
            service_cluster_ip_range: vec![services],
            terminated_pod_gc_threshold: 12_500,
            event_ttl: Duration::from_secs(3600),
            root_ca_pem: String::new(),
            root_ca_changes: None,
            account_tokens: None,
            certificates: None,
            access: None,
            min_resync_period: Duration::from_secs(600),
            history_keep: Duration::from_secs(300),
            history_changes_max: 20_000,
            history_bytes_max: 24 * 1024 * 1024,
        }
    }
}
