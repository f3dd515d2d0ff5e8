//! A master above its store: the API server, the hub of the node agents, and everything that runs only on the leader.
//!
//! What is below, a machine's directory, keys and listeners, is the caller's: the `quorate` binary has those of a
//! machine, the simulated world of `quorate chaos sim` has none, and both run what is here.

mod handover;
mod leadership;
mod living;
mod membership;
mod news;
mod objects;
mod reviews;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use ipnet::IpNet;
use prometheus_client::registry::Registry;
use quorate_api_server::admit::ControllerAdmit;
use quorate_api_server::agents::{AgentHub, HubConfig};
use quorate_api_server::authn::SecretTokens;
use quorate_api_server::config::{Actions, Documents};
use quorate_api_server::{
    ApiConfig, ApiServer, ClusterFacts, Extras, ServiceAccountKeys, TlsMaterial,
};
use quorate_raft::{Member, NodeId};
use quorate_store::{Clock, Masters, Relay, Started, Store};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use leadership::Roles;
pub use living::own_address;
pub use membership::{MembershipRules, look_after_members};

/// Each master relays its nodes' heartbeats to the leader this often.
const HEARTBEAT_RELAY_INTERVAL: Duration = Duration::from_secs(1);

/// A relay that is not answered by then is given up; the next one carries the same news.
const HEARTBEAT_RELAY_TIMEOUT: Duration = Duration::from_millis(800);

/// Nodes that were not heard from for so long are forgotten.
const NODE_FORGOTTEN: Duration = Duration::from_secs(3600);

/// The list of masters that agents are told is looked at this often.
const MASTERS_INTERVAL: Duration = Duration::from_secs(1);

/// Whether the others know where this master is, is looked at this often.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

/// Tries whether this master gets through to somewhere; bytes between those who ask and those who answer.
pub type Reach = Arc<dyn Fn(Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send>> + Send + Sync>;

/// Answers what another master, of this number, asks about certificates and keys.
pub type Certificates =
    Arc<dyn Fn(NodeId, Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send>> + Send + Sync>;

/// What a master is made of.
pub struct Parts {
    /// This master as the others are to know it.
    pub member: Member,
    /// What is the same on all masters.
    pub facts: ClusterFacts,
    /// Address range of pods.
    pub cluster_cidr: IpNet,
    /// Keys of service account tokens.
    pub keys: ServiceAccountKeys,
    /// The certificates that pods trust, PEM, as they change.
    pub root_ca: watch::Receiver<String>,
    /// Signs certificates that are asked for through the API; `None`: nobody does.
    pub signer: Option<Arc<dyn quorate_controllers::CertificateSigner>>,
    /// Wall time.
    pub clock: Clock,
    /// Where clients come in; may be none.
    pub listeners: Vec<TcpListener>,
    /// Certificates of the listeners.
    pub tls: Option<TlsMaterial>,
    /// Where pods of this host reach the API, beside the masters' own addresses.
    pub pod_facing: Option<SocketAddr>,
    /// How often this master looks whether its state is what was decided.
    pub scrub_interval: Duration,
    /// What the leader does about members by itself.
    pub membership: MembershipRules,
    /// Metrics of the process.
    pub registry: Registry,
    /// Documents of the process.
    pub documents: Option<Documents>,
    /// Actions of the process.
    pub actions: Option<Actions>,
    /// For machines that want to join.
    pub reach: Option<Reach>,
    /// For other masters that ask about certificates and keys.
    pub certificates: Option<Certificates>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("member", &self.member).finish_non_exhaustive()
    }
}

/// A master before it serves: agents' hub and relay are there, so that gRPC services can be made of it.
pub struct Prepared {
    started: Started,
    parts: Parts,
    hub: AgentHub,
    stop: CancellationToken,
    tasks: TaskTracker,
    relay: Arc<dyn Relay>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl Prepared {
    /// Takes a store that has started. Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(started: Started, parts: Parts) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let masters = started.masters.clone();
        let (urls, masters_urls) = watch::channel(api_urls(&masters));
        tasks.spawn(follow_masters(masters.clone(), urls, stop.clone()));
        let dns = parts.facts.service_cidrs.first().and_then(|range| range.hosts().nth(9));
        let hub = AgentHub::new(HubConfig {
            store: started.store.clone(),
            clock: parts.clock.clone(),
            cluster_id: parts.facts.cluster_id.clone(),
            master: parts.member.name.clone(),
            masters: masters_urls,
            cluster_domain: parts.facts.cluster_domain.clone(),
            cluster_dns: dns.into_iter().map(|address| address.to_string()).collect(),
        });
        let relay: Arc<dyn Relay> = Arc::new(HeartbeatRelay {
            hub: hub.clone(),
            reach: parts.reach.clone(),
            certificates: parts.certificates.clone(),
        });
        started.serve(&relay);
        tasks.spawn(relay_heartbeats(masters.clone(), hub.clone(), stop.clone()));
        tasks.spawn(announce(masters, parts.member.clone(), stop.clone()));
        Self { started, parts, hub, stop, tasks, relay }
    }

    /// The hub of the agents that are connected here.
    #[must_use]
    pub fn hub(&self) -> &AgentHub {
        &self.hub
    }

    /// Serves, with gRPC services of the caller beside the agents', and follows the leadership.
    ///
    /// # Errors
    /// When keys or listeners cannot be used.
    pub fn serve(self, services: Routes) -> anyhow::Result<Running> {
        let Self { mut started, parts, hub, stop, tasks, relay } = self;
        let scrubber = started.scrubber();
        let (store, masters) = (started.store, started.masters);
        let mut registry = parts.registry;
        if let Some(scrubber) = scrubber {
            scrubber.meters().register(&mut registry);
            tasks.spawn(scrubber.run(parts.scrub_interval, stop.clone()));
        }
        let controllers_metrics = quorate_controllers::ControllersMetrics::default();
        controllers_metrics.register(&mut registry);
        let scheduler_metrics = quorate_scheduler::Metrics::register(&mut registry);
        let services = services.add_service(hub.service()).add_service(hub.proxy_service());
        let mut controllers = quorate_controllers::ControllersConfig {
            account_tokens: Some(Arc::new(TokensOfSecrets(SecretTokens::new(&parts.keys)?))),
            cluster_cidr: vec![parts.cluster_cidr],
            service_cluster_ip_range: parts.facts.service_cidrs.clone(),
            root_ca_changes: Some(parts.root_ca),
            certificates: parts.signer,
            ..Default::default()
        };
        let server = ApiServer::start(ApiConfig {
            store: store.clone(),
            listeners: parts.listeners,
            tls: parts.tls,
            keys: parts.keys,
            facts: parts.facts,
            clock: Arc::new(WallTime(parts.clock.clone())),
            grpc: Some(services),
            extras: Extras { registry, documents: parts.documents, actions: parts.actions },
            streams: Some(hub.streams()),
        })
        .context("the API server cannot start")?;
        let admit = server.admit();
        hub.ready(admit.clone(), server.token_issuer());
        controllers.access = Some(Arc::new(reviews::Reviews(admit.clone())));
        let roles = Roles {
            pod_facing: parts.pod_facing,
            store: store.clone(),
            masters: masters.clone(),
            membership: parts.membership,
            handed: handover::HandedOver::default(),
            admit: admit.clone(),
            hub: hub.clone(),
            clock: parts.clock,
            controllers,
            controllers_metrics,
            scheduler_metrics,
        };
        tasks.spawn(leadership::follow(roles, stop.clone()));
        Ok(Running { store, masters, server, admit, hub, stop, tasks, _relay: relay })
    }
}

/// A master that serves.
pub struct Running {
    /// The replicated store.
    pub store: Store,
    /// The group of masters.
    pub masters: Masters,
    /// The API.
    pub server: ApiServer,
    /// How writes that begin in this process become operations.
    pub admit: Arc<ControllerAdmit>,
    /// The agents that are connected here.
    pub hub: AgentHub,
    stop: CancellationToken,
    tasks: TaskTracker,
    _relay: Arc<dyn Relay>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Running {
    /// Hands over leadership, drains requests, and stops.
    pub async fn shutdown(self) {
        self.hub.stop();
        self.stop.cancel();
        // Leader-only work ends first, then the leadership, then what clients see.
        self.tasks.close();
        self.tasks.wait().await;
        self.server.shutdown().await;
        self.masters.shutdown().await;
    }
}

/// The store's clock, as the API server wants it.
struct WallTime(Clock);

impl quorate_api_server::Clock for WallTime {
    fn now(&self) -> jiff::Timestamp {
        self.0.now()
    }
}

/// Where the masters' API is.
#[must_use]
pub fn api_urls(masters: &Masters) -> Vec<String> {
    let members = masters.status().members;
    members.into_iter().map(|m| format!("https://{}", m.member.api_address)).collect()
}

/// The API server's keys, for the controller that fills Secrets.
#[derive(Debug)]
struct TokensOfSecrets(SecretTokens);

impl quorate_controllers::AccountTokens for TokensOfSecrets {
    fn token(&self, account: (&str, &str, &str), secret: &str) -> Option<String> {
        self.0.token(account, secret)
    }
}

/// Tells the cluster where this master is now, when that is not what the others know: it may have
/// been started with another `--listen` or `--advertise` than before.
async fn announce(masters: Masters, member: Member, stop: CancellationToken) {
    loop {
        let status = masters.status();
        let known = status.members.iter().find(|known| known.id == status.id);
        if known.is_some_and(|known| !known.member.is_same_place(&member))
            && let Err(error) = masters.announce(&member).await
        {
            tracing::info!(%error, "the other masters do not know yet where this one is now");
        }
        tokio::select! {
            () = tokio::time::sleep(ANNOUNCE_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Answers what other masters ask beside the log.
struct HeartbeatRelay {
    hub: AgentHub,
    reach: Option<Reach>,
    certificates: Option<Certificates>,
}

#[async_trait]
impl Relay for HeartbeatRelay {
    async fn heartbeats(&self, _from: NodeId, body: Bytes) -> Bytes {
        if let Ok(batch) = serde_json::from_slice::<Vec<_>>(&body) {
            self.hub.liveness().merge(&batch);
        }
        serde_json::to_vec(&self.hub.liveness().all()).unwrap_or_default().into()
    }

    async fn reach(&self, body: Bytes) -> Bytes {
        match &self.reach {
            Some(reach) => reach(body).await,
            None => Bytes::new(),
        }
    }

    async fn certificates(&self, from: NodeId, body: Bytes) -> Bytes {
        match &self.certificates {
            Some(certificates) => certificates(from, body).await,
            None => Bytes::new(),
        }
    }
}

/// Sends what this master knows of nodes to the leader, and takes over what the leader knows.
async fn relay_heartbeats(masters: Masters, hub: AgentHub, stop: CancellationToken) {
    let mut interval = tokio::time::interval(HEARTBEAT_RELAY_INTERVAL);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = stop.cancelled() => return,
        }
        hub.liveness().forget(NODE_FORGOTTEN);
        let body = serde_json::to_vec(&hub.liveness().all()).unwrap_or_default();
        let reply = masters.relay_heartbeats(body.into(), HEARTBEAT_RELAY_TIMEOUT).await;
        if let Some(batch) = reply.and_then(|reply| serde_json::from_slice::<Vec<_>>(&reply).ok()) {
            hub.liveness().merge(&batch);
        }
    }
}

/// Keeps the list of masters that agents are told.
async fn follow_masters(
    masters: Masters,
    urls: watch::Sender<Vec<String>>,
    stop: CancellationToken,
) {
    loop {
        let now = api_urls(&masters);
        urls.send_if_modified(|known| {
            let changed = *known != now && !now.is_empty();
            if changed {
                known.clone_from(&now);
            }
            changed
        });
        tokio::select! {
            () = tokio::time::sleep(MASTERS_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}
