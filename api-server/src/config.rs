//! What an API server is made of.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use ipnet::IpNet;
use quorate_api::status::Status;
use quorate_store::Store;
use tokio::net::TcpListener;

use crate::clock::Clock;
use crate::streams::PodStreams;

/// Everything [`crate::ApiServer::start`] needs.
pub struct ApiConfig {
    /// The replicated store.
    pub store: Store,
    /// Where clients and node agents come in. Empty: only [`crate::ApiServer::handle`] serves.
    pub listeners: Vec<TcpListener>,
    /// Certificates of the listeners; `None` only together with no listeners.
    pub tls: Option<TlsMaterial>,
    /// Keys of service account tokens.
    pub keys: ServiceAccountKeys,
    /// What is the same on all masters.
    pub facts: ClusterFacts,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Answers requests with a gRPC content type (`NodeAgent`, `Join`). The peer's identity, when
    /// it has one, is an extension of the request: [`crate::identity::Identity`].
    pub grpc: Option<tonic::service::Routes>,
    /// What the binary serves beside the API.
    pub extras: Extras,
    /// Answers `log`, `exec`, `attach` and `portforward`; `None`: 503.
    pub streams: Option<Arc<dyn PodStreams>>,
}

/// Non-resource documents and metrics that belong to the whole process, not to the API server.
#[derive(Default)]
pub struct Extras {
    /// Metrics of others, shown with the API server's own.
    pub registry: prometheus_client::registry::Registry,
    /// Gives the JSON document of a non-resource path (after authorization of that path), if it is
    /// one of its own.
    pub documents: Option<Documents>,
    /// Gives what is done at a `POST` to a non-resource path (after authorization of that path), if it is one of its
    /// own.
    pub actions: Option<Actions>,
}

/// See [`Extras::documents`].
pub type Documents = Arc<dyn Fn(&str) -> Option<serde_json::Value> + Send + Sync>;

/// See [`Extras::actions`].
pub type Actions = Arc<dyn Fn(&str) -> Option<Action> + Send + Sync>;

/// Does something with the body of a request; gives the answer.
pub type Action =
    Box<dyn FnOnce(Bytes) -> BoxFuture<'static, Result<Answered, Box<Status>>> + Send>;

/// What an [`Action`] answers.
pub enum Answered {
    /// A JSON document.
    Document(serde_json::Value),
    /// Bytes, sent as they come. An error breaks the connection off, so that nobody takes a part for the whole.
    Stream(BoxStream<'static, std::io::Result<Bytes>>),
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(document) => f.debug_tuple("Document").field(document).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl fmt::Debug for ApiConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiConfig").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// PEM texts for the listeners.
#[derive(Clone)]
pub struct TlsMaterial {
    /// The serving certificate, its intermediates after it.
    pub certificate_chain_pem: String,
    /// Its key.
    pub private_key_pem: String,
    /// The CAs whose client certificates are accepted.
    pub client_ca_pem: String,
}

/// Keys of service account tokens, as PEM.
#[derive(Clone)]
pub struct ServiceAccountKeys {
    /// Private key (P-256 in PKCS#8, or RSA) that new tokens are signed with. Its public half
    /// verifies too.
    pub signing_key_pem: String,
    /// Further private or public keys whose tokens are still accepted (rotation).
    pub also_accepted_pem: Vec<String>,
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMaterial").finish_non_exhaustive()
    }
}

impl fmt::Debug for ServiceAccountKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccountKeys").finish_non_exhaustive()
    }
}

/// What is the same on all masters of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterFacts {
    /// Names the cluster; also in the masters' own certificates.
    pub cluster_id: String,
    /// Suffix of service names.
    pub cluster_domain: String,
    /// Range of cluster IPs, primary family first.
    pub service_cidrs: Vec<IpNet>,
    /// Range of node ports, both ends included.
    pub node_ports: (u16, u16),
    /// `iss` of service account tokens, and their default audience.
    pub issuer: String,
    /// Port that the masters' API listens on, as the `kubernetes` Service's target.
    pub api_port: u16,
    /// Commit the product was built from; may be empty.
    pub git_commit: String,
    /// When it was built, RFC 3339; may be empty.
    pub build_date: String,
}

impl Default for ClusterFacts {
    fn default() -> Self {
        Self {
            cluster_id: String::new(),
            cluster_domain: "cluster.local".to_owned(),
            service_cidrs: vec![IpNet::V4(
                ipnet::Ipv4Net::new(std::net::Ipv4Addr::new(10, 43, 0, 0), 16)
                    .expect("16 is a valid prefix length for IPv4"),
            )],
            node_ports: (30_000, 32_767),
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            api_port: 6443,
            git_commit: String::new(),
            build_date: String::new(),
        }
    }
}

impl ClusterFacts {
    /// The address of the `kubernetes` Service: the first of the primary range.
    #[must_use]
    pub fn kubernetes_service_ip(&self) -> Option<IpAddr> {
        self.service_cidrs.first().and_then(|net| net.hosts().next())
    }
}
