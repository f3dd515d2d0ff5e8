//! How a master is put together: directory, keys, Raft, store, API server, agents, leadership.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use quorate_api_server::agents::{AgentHub, HubConfig};
use quorate_api_server::authn::SecretTokens;
use quorate_api_server::{
    ApiConfig, ApiServer, ClusterFacts, Extras, ServiceAccountKeys, SystemClock, TlsMaterial,
};
use quorate_pki::{Certified, ClusterKeys, Subject, authority, files};
use quorate_raft::{Member, NodeId, PeerTls};
use quorate_store::{Clock, Masters, Relay, Started, Store};
use tokio::net::TcpListener;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::data_dir::{ClusterFile, DataDir};
use crate::dialer::Dialer;
use crate::join::{self, JoinService};
use crate::leadership::{self, Roles};
use crate::metrics::{ProcessCollector, RaftCollector};
use crate::progress::Progress;
use crate::settings::{Settings, host_name, host_port};
use crate::status::{self, STATUS_PATH};

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

/// Whether what a new cluster begins with is written, and whether a joining master votes, is looked
/// at this often.
const BEGINNING_INTERVAL: Duration = Duration::from_millis(10);

/// Connections that wait to be accepted; the kernel refuses more.
const LISTEN_BACKLOG: u32 = 128;

/// A consistent read at the start is asked for again after this.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// Binds a listener; a port in use is told as such.
async fn bind(what: &str, flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{what} address {address} is in use by another process. Stop it, or choose another with \
             {flag}"
        ),
        _ => {
            anyhow::Error::new(error)
                .context(format!("cannot listen on {what} address {address} (see {flag})"))
        }
    })
}

/// Binds to an address that this host may get only later (a bridge that is not there yet).
fn bind_early(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    rustix::net::sockopt::set_ip_freebind(&socket, true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

/// A running master.
pub struct Master {
    pub store: Store,
    pub keys: Arc<ClusterKeys>,
    pub cluster: ClusterFile,
    pub api_address: SocketAddr,
    masters: Masters,
    hub: AgentHub,
    server: ApiServer,
    stop: CancellationToken,
    tasks: TaskTracker,
    _relay: Arc<dyn Relay>,
}

impl Master {
    /// Starts a master on a claimed data directory.
    pub async fn start(
        data: &DataDir,
        settings: &Settings,
        progress: &mut Progress,
    ) -> anyhow::Result<Self> {
        // Bound first: a port in use must leave no trace.
        let listeners = Listeners::bind(settings).await?;
        let member = listeners.member(settings)?;
        let api_address = listeners.api.local_addr()?;
        let (mut cluster, keys) = identity(data, settings, &member, progress).await?;
        let keys = Arc::new(keys);
        let serving = certificates(data, settings, &cluster, &keys)?;
        progress.done("certificates");
        let Listeners { api, peer, pods } = listeners;
        let started = start_store(data, settings, &cluster, &keys, (member.clone(), peer)).await?;
        if !cluster.has_log {
            cluster.has_log = true;
            data.save_cluster(&cluster)?;
        }
        let (store, masters) = (started.store.clone(), started.masters.clone());
        progress.done("replicated store");

        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (urls, masters_urls) = watch::channel(join::api_urls(&masters));
        tasks.spawn(follow_masters(masters.clone(), urls, stop.clone()));
        let hub = agent_hub(settings, &cluster, &started, &keys, masters_urls);
        let relay: Arc<dyn Relay> = Arc::new(HeartbeatRelay { hub: hub.clone() });
        started.serve(&relay);
        tasks.spawn(relay_heartbeats(masters.clone(), hub.clone(), stop.clone()));
        tasks.spawn(announce(masters.clone(), member, stop.clone()));

        let pod_facing = pods.as_ref().and(settings.pod_facing);
        let listeners = std::iter::once(api).chain(pods).collect();
        let parts = ApiParts { listeners, api_address, serving, hub: hub.clone() };
        let (server, metrics) = start_api(&cluster, &keys, &started, parts)?;
        progress.done(&format!("API on https://{}", cluster.api_address));
        let roles = Roles {
            pod_facing,
            store: store.clone(),
            masters: masters.clone(),
            admit: server.admit(),
            hub: hub.clone(),
            controllers: controllers_config(&cluster, &keys)?,
            controllers_metrics: metrics.0,
            scheduler_metrics: metrics.1,
        };
        tasks.spawn(leadership::follow(roles, stop.clone()));
        Ok(Self {
            store,
            keys,
            cluster,
            api_address,
            masters,
            hub,
            server,
            stop,
            tasks,
            _relay: relay,
        })
    }

    /// Completes when this master serves consistent reads, and what every cluster begins with is there
    /// (what `/readyz` says).
    pub async fn ready(&self) {
        let consistency = quorate_store::Consistency::Linearizable;
        while self.store.read_within(consistency, READY_TIMEOUT).await.is_err() {
            tokio::time::sleep(BEGINNING_INTERVAL).await;
        }
        while !self.server.has_begun() {
            tokio::time::sleep(BEGINNING_INTERVAL).await;
        }
    }

    /// Completes when this master votes.
    pub async fn voter(&self) {
        loop {
            let status = self.masters.status();
            let own = status.members.iter().find(|member| member.id == status.id);
            if own.is_some_and(|member| member.voter) && !status.joint {
                return;
            }
            tokio::time::sleep(BEGINNING_INTERVAL).await;
        }
    }

    /// Completes, with the reason, when the process must exit.
    pub async fn fatal(&self) -> String {
        let mut fatal = self.masters.fatal();
        match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.as_ref().map(ToString::to_string).unwrap_or_default(),
            Err(_) => "raft has ended".to_owned(),
        }
    }

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

/// The bound listeners of a master.
struct Listeners {
    api: TcpListener,
    peer: TcpListener,
    /// See [`Settings::pod_facing`].
    pods: Option<TcpListener>,
}

impl Listeners {
    async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let api = bind("API", "--listen", settings.listen).await?;
        let peer = bind("peer", "--peer-listen", settings.peer_listen).await?;
        let pods = settings.pod_facing.and_then(|address| {
            bind_early(address)
                .inspect_err(|error| tracing::warn!(%address, %error, "pods cannot reach the API"))
                .ok()
        });
        Ok(Self { api, peer, pods })
    }

    /// This master as the others know it.
    fn member(&self, settings: &Settings) -> anyhow::Result<Member> {
        Ok(Member {
            name: settings.name.clone(),
            peer_address: host_port(&settings.advertise, self.peer.local_addr()?.port()),
            api_address: host_port(&settings.advertise, self.api.local_addr()?.port()),
        })
    }
}

async fn start_store(
    data: &DataDir,
    settings: &Settings,
    cluster: &ClusterFile,
    keys: &ClusterKeys,
    (member, listener): (Member, TcpListener),
) -> anyhow::Result<Started> {
    let started = Masters::start(quorate_raft::Config {
        data_dir: data.path().to_owned(),
        cluster_id: cluster.cluster_id.clone(),
        node_id: NodeId(cluster.node_id),
        member,
        listener: listener.into_std()?,
        tls: peer_tls(keys, cluster)?,
        timing: settings.timing,
        snapshots: quorate_raft::SnapshotRule::default(),
        disk: quorate_raft::DiskRule::of_masters(),
        host: Arc::new(quorate_raft::host::Machine),
    })
    .await
    .context("the store cannot start")?;
    if cluster.node_id == quorate_raft::FIRST_NODE_ID.0 {
        started.masters.initialize().await?;
    }
    Ok(started)
}

fn agent_hub(
    settings: &Settings,
    cluster: &ClusterFile,
    started: &Started,
    keys: &Arc<ClusterKeys>,
    masters: watch::Receiver<Vec<String>>,
) -> AgentHub {
    let network = &cluster.network;
    let dns = network.service_cidr.hosts().nth(9).map(|address| address.to_string());
    let hub = AgentHub::new(HubConfig {
        store: started.store.clone(),
        clock: Clock::system(),
        cluster_id: cluster.cluster_id.clone(),
        master: settings.name.clone(),
        masters,
        cluster_domain: network.cluster_domain.clone(),
        cluster_dns: dns.into_iter().collect(),
    });
    let dialer = Dialer::new(&settings.name, started.masters.clone(), keys.clone());
    hub.dial_masters_with(Arc::new(dialer));
    hub
}

/// What the API server is made of, beside the cluster's own things.
struct ApiParts {
    listeners: Vec<TcpListener>,
    api_address: SocketAddr,
    serving: Certified,
    hub: AgentHub,
}

type RoleMetrics = (quorate_controllers::ControllersMetrics, quorate_scheduler::Metrics);

fn start_api(
    cluster: &ClusterFile,
    keys: &Arc<ClusterKeys>,
    started: &Started,
    parts: ApiParts,
) -> anyhow::Result<(ApiServer, RoleMetrics)> {
    let (store, masters) = (started.store.clone(), started.masters.clone());
    let mut registry = prometheus_client::registry::Registry::default();
    let controllers_metrics = quorate_controllers::ControllersMetrics::default();
    controllers_metrics.register(&mut registry);
    let scheduler_metrics = quorate_scheduler::Metrics::register(&mut registry);
    registry.register_collector(Box::new(RaftCollector(masters.clone())));
    registry.register_collector(Box::new(ProcessCollector));
    let admit = Arc::new(OnceCell::new());
    let joins = JoinService {
        store: store.clone(),
        masters: masters.clone(),
        keys: keys.clone(),
        cluster_id: cluster.cluster_id.clone(),
        network: cluster.network.clone(),
        hub: parts.hub.clone(),
        admit: admit.clone(),
    };
    let hub = parts.hub;
    let grpc = tonic::service::Routes::new(joins.service())
        .add_service(hub.service())
        .add_service(hub.proxy_service());
    let of_store = store.clone();
    let documents: quorate_api_server::config::Documents = Arc::new(move |path| {
        (path == STATUS_PATH).then(|| status::document(&masters.status(), &of_store.view()))
    });
    let authority = keys.cluster.certificate_pem();
    let server = ApiServer::start(ApiConfig {
        store,
        listeners: parts.listeners,
        tls: Some(TlsMaterial {
            certificate_chain_pem: format!("{}{authority}", parts.serving.certificate_pem),
            private_key_pem: parts.serving.key_pem,
            client_ca_pem: authority.to_owned(),
        }),
        keys: account_keys(keys),
        facts: ClusterFacts {
            cluster_id: cluster.cluster_id.clone(),
            cluster_domain: cluster.network.cluster_domain.clone(),
            service_cidrs: vec![cluster.network.service_cidr],
            issuer: format!("https://kubernetes.default.svc.{}", cluster.network.cluster_domain),
            api_port: parts.api_address.port(),
            ..ClusterFacts::default()
        },
        clock: Arc::new(SystemClock),
        grpc: Some(grpc),
        extras: Extras { registry, documents: Some(documents) },
        streams: Some(hub.streams()),
    })
    .context("the API server cannot start")?;
    let admitter = server.admit();
    drop(admit.set(admitter.clone()));
    hub.ready(admitter, server.token_issuer());
    Ok((server, (controllers_metrics, scheduler_metrics)))
}

/// Who this master is: as its directory says, or a new cluster's first, or as a cluster admits it.
async fn identity(
    data: &DataDir,
    settings: &Settings,
    member: &Member,
    progress: &mut Progress,
) -> anyhow::Result<(ClusterFile, ClusterKeys)> {
    if let Some(mut cluster) = data.cluster()? {
        data.refuse_lost_log(&cluster)?;
        let keys = ClusterKeys::load(&data.pki())?;
        cluster.peer_address.clone_from(&member.peer_address);
        cluster.api_address.clone_from(&member.api_address);
        data.save_cluster(&cluster)?;
        return Ok((cluster, keys));
    }
    let (cluster_id, node_id, keys, network) = match &settings.join {
        None => {
            let network = settings.network.fresh()?;
            let cluster_id = uuid::Uuid::new_v4().to_string();
            let keys = ClusterKeys::generate(&cluster_id, Timestamp::now())?;
            (cluster_id, quorate_raft::FIRST_NODE_ID.0, keys, network)
        }
        Some((url, token)) => {
            let mut told = |why: &str| progress.line(&format!("    {why}"));
            let wish = &settings.network;
            let admission = join::join_master(url, token, member, wish, &mut told).await?;
            progress.done(&format!("admitted as master {} (learner)", admission.node_id));
            (admission.cluster_id, admission.node_id, admission.keys, admission.network)
        }
    };
    keys.save(&data.pki())?;
    let cluster = ClusterFile {
        version: 1,
        cluster_id,
        node_id,
        name: settings.name.clone(),
        peer_address: member.peer_address.clone(),
        api_address: member.api_address.clone(),
        network,
        has_log: false,
    };
    // Last: a directory with this file is complete.
    data.save_cluster(&cluster)?;
    Ok((cluster, keys))
}

/// The serving certificate, made anew when its names or its time ask for it.
fn certificates(
    data: &DataDir,
    settings: &Settings,
    cluster: &ClusterFile,
    keys: &ClusterKeys,
) -> anyhow::Result<Certified> {
    let mut names: Vec<String> =
        ["localhost", "kubernetes", "kubernetes.default"].into_iter().map(str::to_owned).collect();
    names.push("kubernetes.default.svc".to_owned());
    names.push(format!("kubernetes.default.svc.{}", cluster.network.cluster_domain));
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    addresses.extend(cluster.network.service_cidr.hosts().next());
    addresses.extend(settings.pod_facing.map(|address| address.ip()));
    let mut others = settings.extra_names.clone();
    others.extend([settings.advertise.clone(), settings.name.clone()]);
    others.extend(host_name());
    if !settings.listen.ip().is_unspecified() {
        addresses.push(settings.listen.ip());
    }
    for other in others {
        match other.parse::<IpAddr>() {
            Ok(address) => addresses.push(address),
            Err(_) => names.push(other),
        }
    }
    names.sort();
    names.dedup();
    addresses.sort();
    addresses.dedup();
    let wanted = format!("{} {names:?} {addresses:?}\n", cluster.cluster_id);
    let directory = data.pki();
    let (certificate, key, said) = (
        directory.join("serving.crt"),
        directory.join("serving.key"),
        directory.join("serving.names"),
    );
    let known = |path: &std::path::Path| files::read(path).ok();
    if let (Some(certificate_pem), Some(key_pem)) = (known(&certificate), known(&key))
        && known(&said).is_some_and(|said| said == wanted)
        && !authority::wants_renewal(&certificate_pem, Timestamp::now())
    {
        return Ok(Certified { certificate_pem, key_pem });
    }
    let issued = keys.cluster.issue(&Subject::Serving { names, addresses }, Timestamp::now())?;
    files::write_private(&key, issued.key_pem.as_bytes())?;
    files::write_private(&certificate, issued.certificate_pem.as_bytes())?;
    files::write_private(&said, wanted.as_bytes())?;
    Ok(issued)
}

/// This master's certificate towards the others: made at each start, never stored.
fn peer_tls(keys: &ClusterKeys, cluster: &ClusterFile) -> anyhow::Result<PeerTls> {
    let subject =
        Subject::Peer { cluster_id: cluster.cluster_id.clone(), node_id: cluster.node_id };
    let issued = keys.peer.issue(&subject, Timestamp::now())?;
    Ok(PeerTls {
        ca_pem: keys.peer.certificate_pem().to_owned(),
        certificate_pem: issued.certificate_pem,
        key_pem: issued.key_pem,
    })
}

/// Name and group in the administrator's certificate, as kubeadm's.
pub const ADMIN: &str = "kubernetes-admin";
/// See [`ADMIN`]. The authorizer lets this group do everything.
pub const ADMIN_GROUP: &str = "system:masters";

/// The certificate of the admin's kubeconfig.
pub fn admin_certificate(keys: &ClusterKeys, now: Timestamp) -> anyhow::Result<Certified> {
    let subject = Subject::Client { name: ADMIN.to_owned(), group: ADMIN_GROUP.to_owned() };
    Ok(keys.cluster.issue(&subject, now)?)
}

fn controllers_config(
    cluster: &ClusterFile,
    keys: &ClusterKeys,
) -> anyhow::Result<quorate_controllers::ControllersConfig> {
    let tokens = SecretTokens::new(&account_keys(keys))?;
    Ok(quorate_controllers::ControllersConfig {
        account_tokens: Some(Arc::new(TokensOfSecrets(tokens))),
        cluster_cidr: vec![cluster.network.cluster_cidr],
        service_cluster_ip_range: vec![cluster.network.service_cidr],
        root_ca_pem: keys.cluster.certificate_pem().to_owned(),
        ..Default::default()
    })
}

fn account_keys(keys: &ClusterKeys) -> ServiceAccountKeys {
    ServiceAccountKeys {
        signing_key_pem: keys.service_account_pem.clone(),
        also_accepted_pem: Vec::new(),
    }
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
        if known.is_some_and(|known| known.member != member)
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
}

#[async_trait]
impl Relay for HeartbeatRelay {
    async fn heartbeats(&self, _from: NodeId, body: Bytes) -> Bytes {
        if let Ok(batch) = serde_json::from_slice::<Vec<_>>(&body) {
            self.hub.liveness().merge(&batch);
        }
        serde_json::to_vec(&self.hub.liveness().all()).unwrap_or_default().into()
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
        let now = join::api_urls(&masters);
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
