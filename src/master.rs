//! How a master is put together: directory, keys, Raft, store, API server, agents, leadership.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use quorate_api_server::{ClusterFacts, ServiceAccountKeys};
use quorate_master::{MembershipRules, Parts, Prepared, Running};
use quorate_pki::{Certified, ClusterKeys, JoinToken, KeyRing, Subject};
use quorate_points::{self as points, Point};
use quorate_raft::{Member, NodeId, PeerTls, SnapshotRule};
use quorate_store::limits::SCRUB_INTERVAL;
use quorate_store::{Clock, Masters, Started, Store};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backup::{self, plan::Plan};
use crate::certs::rotation::Rotation;
use crate::certs::serve::CERTS_PATH;
use crate::certs::{self, Certs, Users, Whose};
use crate::config::Options;
use crate::data_dir::{ClusterFile, DataDir};
use crate::dialer::Dialer;
use crate::join::{self, JoinService};
use crate::masters;
use crate::metrics;
use crate::preflight::{self, Candidate, Outcome, Report};
use crate::progress::Progress;
use crate::reach;
use crate::restart::{self, Restart};
use crate::settings::{Settings, host_name, host_port};
use crate::status::{self, STATUS_PATH};
use crate::vip;

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
    pub certs: Arc<Certs>,
    pub cluster: ClusterFile,
    pub api_address: SocketAddr,
    running: Running,
    /// Of what this master does beside serving.
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Master {
    /// Starts a master on a claimed data directory.
    pub async fn start(
        data: &DataDir,
        options: &Options,
        settings: &Settings,
        progress: &mut Progress,
    ) -> anyhow::Result<Self> {
        let plan = Plan::new(options, data.path())?;
        let vip = match &settings.vip {
            Some(vip) => Some(vip::look(vip, &settings.advertise).await?),
            None => None,
        };
        // Bound first: a port in use must leave no trace.
        let listeners = Listeners::bind(settings).await?;
        if let Some(vip) = &vip {
            vip.clear().await?;
            vip.warnings
                .iter()
                .for_each(|warning| progress.line(&format!("    warning: {warning}")));
        }
        let member = listeners.member(settings)?;
        let api_address = listeners.api.local_addr()?;
        if let (None, Some(join)) = (data.cluster()?, &settings.join) {
            preflight(data.path(), settings, (&listeners, &member, join), progress).await?;
        }
        let (mut cluster, ring) = identity(data, settings, &member, progress).await?;
        let (whose, lifetime) = (whose(settings, &cluster), settings.certificate_seconds);
        let certs = Arc::new(Certs::open(data.pki(), whose, lifetime, ring)?);
        progress.done("certificates");
        let Listeners { api, peer, pods } = listeners;
        let tls = certs.peer_tls()?;
        let started = start_store(data, settings, &cluster, tls, (member.clone(), peer)).await?;
        if !cluster.has_log {
            cluster.has_log = true;
            data.save_cluster(&cluster)?;
        }
        progress.done("replicated store");
        let pod_facing = pods.as_ref().and(settings.pod_facing);
        let listeners = std::iter::once(api).chain(pods).collect();
        let source = backup::take::Source {
            store: started.store.clone(),
            masters: started.masters.clone(),
            cluster: Arc::new(cluster.clone()),
            certs: certs.clone(),
        };
        let rotation = Rotation {
            certs: certs.clone(),
            store: started.store.clone(),
            masters: started.masters.clone(),
            admit: Arc::default(),
        };
        let (restart, own) = (settings.restart.clone(), (member, api_address));
        let mut parts = parts(&cluster, &rotation, source.clone(), restart, own);
        metrics::register(&mut parts.registry, &started.masters, &certs);
        let meters = backup::schedule::Meters::default();
        if plan.is_some() {
            meters.register(&mut parts.registry);
        }
        let (tls, membership) = (Some(certs.tls_material()?), settings.membership);
        let scrub_interval = settings.scrub_interval;
        let parts = Parts { listeners, tls, pod_facing, membership, scrub_interval, ..parts };
        let running = serve(&cluster, &rotation, started, parts)?;
        progress.done(&format!("API on https://{}", cluster.api_address));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        if let Some(plan) = plan {
            tasks.spawn(backup::schedule::run(source, plan, meters, stop.clone()));
        }
        let (store, masters) = (running.store.clone(), running.masters.clone());
        if let Some(vip) = vip {
            let connections = running.server.moving_addresses();
            let users = vip::Users { masters: masters.clone(), store: store.clone(), connections };
            vip.keep(&users, &tasks, &stop);
        }
        tasks.spawn(certs::keeper::keep(certs.clone(), store.clone(), masters, stop.clone()));
        tasks.close();
        Ok(Self { store, certs, cluster, api_address, running, stop, tasks })
    }

    /// Completes when this master serves consistent reads, and what every cluster begins with is there
    /// (what `/readyz` says).
    pub async fn ready(&self) {
        let consistency = quorate_store::Consistency::Linearizable;
        while self.store.read_within(consistency, READY_TIMEOUT).await.is_err() {
            tokio::time::sleep(BEGINNING_INTERVAL).await;
        }
        while !self.running.server.has_begun() {
            tokio::time::sleep(BEGINNING_INTERVAL).await;
        }
    }

    /// Completes when this master votes.
    pub async fn voter(&self) {
        loop {
            let status = self.running.masters.status();
            let own = status.members.iter().find(|member| member.id == status.id);
            if own.is_some_and(|member| member.voter) && !status.joint {
                return;
            }
            tokio::time::sleep(BEGINNING_INTERVAL).await;
        }
    }

    /// Whether any other master has ever told this one anything.
    pub fn has_heard(&self) -> bool {
        self.running.masters.status().last_log.is_some()
    }

    /// Completes, with the reason, when the process must exit.
    pub async fn fatal(&self) -> String {
        let mut fatal = self.running.masters.fatal();
        match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.as_ref().map(ToString::to_string).unwrap_or_default(),
            Err(_) => "raft has ended".to_owned(),
        }
    }

    /// Completes, with what to do, when the other masters have removed this one.
    pub async fn removed(&self) -> String {
        let mut removed = self.running.masters.removed();
        match removed.wait_for(Option::is_some).await {
            Ok(advice) => advice.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Hands over leadership, drains requests, and stops.
    pub async fn shutdown(self) {
        vip::hand_over(&self.running.masters).await;
        self.stop.cancel();
        self.tasks.wait().await;
        self.running.shutdown().await;
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
            standby: settings.standby,
        })
    }
}

async fn start_store(
    data: &DataDir,
    settings: &Settings,
    cluster: &ClusterFile,
    tls: PeerTls,
    (member, listener): (Member, TcpListener),
) -> anyhow::Result<Started> {
    let started = Masters::start(quorate_raft::Config {
        data_dir: data.path().to_owned(),
        cluster_id: cluster.cluster_id.clone(),
        node_id: NodeId(cluster.node_id),
        member,
        listener: listener.into_std()?,
        tls,
        timing: settings.timing,
        snapshots: snapshot_rule(),
        disk: quorate_raft::DiskRule {
            state_bytes_max: settings.quota,
            ..quorate_raft::DiskRule::of_masters()
        },
        host: Arc::new(quorate_raft::host::Machine),
    })
    .await
    .map_err(|error| not_started(error, &settings.name))?;
    if cluster.node_id == quorate_raft::FIRST_NODE_ID.0 {
        started.masters.initialize().await?;
    }
    Ok(started)
}

/// Why the store does not start, and what to do when that is for good.
fn not_started(error: quorate_raft::StartError, name: &str) -> anyhow::Error {
    let what = match &error {
        quorate_raft::StartError::Corrupt(_) => format!(
            "the store cannot start: its files are damaged, and a master never votes with less than it has answered \
             for. If others run, they have everything: `quorate masters remove {name}` on one of them, then start this \
             one with --join and an empty --data (docs/runbooks/replacing-a-master.md). If it is the only one, \
             `quorate backup restore` (docs/runbooks/backup-and-restore.md)"
        ),
        _ => "the store cannot start".to_owned(),
    };
    anyhow::Error::new(error).context(what)
}

/// What this process adds to a master: everything but where it listens.
fn parts(
    cluster: &ClusterFile,
    rotation: &Rotation,
    source: backup::take::Source,
    restart: Option<Restart>,
    (member, api_address): (Member, SocketAddr),
) -> Parts {
    let (of_masters, of_backups, of_certs) = (
        masters::actions(rotation.masters.clone()),
        backup::serve::actions(source),
        certs::serve::actions(rotation.clone()),
    );
    let of_process = restart::actions(restart);
    let actions: quorate_api_server::config::Actions = Arc::new(move |path| {
        let first = of_masters(path).or_else(|| of_backups(path));
        first.or_else(|| of_certs(path)).or_else(|| of_process(path))
    });
    let Rotation { certs, store, masters, .. } = rotation.clone();
    let (asked, root_ca, keys) = (certs.clone(), certs.root_ca(), certs.now().ring.clone());
    let signer = certs.clone();
    let group = masters.clone();
    let cluster_id = cluster.cluster_id.clone();
    let documents: quorate_api_server::config::Documents = Arc::new(move |path| match path {
        STATUS_PATH => Some(status::document(&cluster_id, &masters, &store.view())),
        CERTS_PATH => Some(certs::serve::document(&certs)),
        _ => None,
    });
    Parts {
        member,
        facts: ClusterFacts {
            cluster_id: cluster.cluster_id.clone(),
            cluster_domain: cluster.network.cluster_domain.clone(),
            service_cidrs: vec![cluster.network.service_cidr],
            issuer: format!("https://kubernetes.default.svc.{}", cluster.network.cluster_domain),
            api_port: api_address.port(),
            ..ClusterFacts::default()
        },
        cluster_cidr: cluster.network.cluster_cidr,
        keys: ServiceAccountKeys {
            signing_key_pem: keys.keys().service_account_pem.clone(),
            also_accepted_pem: Vec::new(),
        },
        root_ca,
        signer: Some(signer),
        clock: Clock::system(),
        listeners: Vec::new(),
        tls: None,
        pod_facing: None,
        registry: prometheus_client::registry::Registry::default(),
        membership: MembershipRules::default(),
        scrub_interval: SCRUB_INTERVAL,
        documents: Some(documents),
        actions: Some(actions),
        reach: Some(Arc::new(reach::serve)),
        certificates: Some(Arc::new(move |from, body| {
            certs::peers::serve(asked.clone(), &group, from, body)
        })),
    }
}

fn serve(
    cluster: &ClusterFile,
    rotation: &Rotation,
    started: Started,
    parts: Parts,
) -> anyhow::Result<Running> {
    let Rotation { certs, store, masters, admit: late } = rotation.clone();
    let prepared = Prepared::new(started, parts);
    let dialer = Dialer::new(masters.clone(), certs.clone());
    prepared.hub().dial_masters_with(Arc::new(dialer));
    let admit = Arc::new(OnceCell::new());
    let joins = JoinService {
        store,
        masters: masters.clone(),
        certs: certs.clone(),
        cluster_id: cluster.cluster_id.clone(),
        network: cluster.network.clone(),
        hub: prepared.hub().clone(),
        admit: admit.clone(),
    };
    let running = prepared.serve(tonic::service::Routes::new(joins.service()))?;
    drop(admit.set(running.admit.clone()));
    drop(late.set(running.admit.clone()));
    certs.used_by(Users { api: running.server.tls(), masters, hub: running.hub.clone() })?;
    Ok(running)
}

/// Looks whether this machine could join, and nothing else.
pub async fn look_before_joining(data: &Path, settings: &Settings) -> anyhow::Result<Report> {
    let Some((url, token)) = &settings.join else {
        bail!("say which cluster: --join URL --token T (from `quorate token create` on a master)");
    };
    if let Some(setting) = &settings.vip {
        vip::look(setting, &settings.advertise).await?;
    }
    let listeners = Listeners::bind(settings).await?;
    let data = &std::path::absolute(data)?;
    let candidate = Candidate {
        url,
        token,
        member: &listeners.member(settings)?,
        wish: &settings.network,
        data,
        listeners: [&listeners.peer, &listeners.api],
    };
    let report = preflight::run(&candidate).await?;
    report.with_context(|| format!("the masters at {url} are of a version that cannot be asked"))
}

/// What is in the way of a join is found before anything is changed.
async fn preflight(
    data: &Path,
    settings: &Settings,
    (listeners, member, (url, token)): (&Listeners, &Member, &(String, JoinToken)),
    progress: &mut Progress,
) -> anyhow::Result<()> {
    if settings.skip_preflight {
        return Ok(());
    }
    let candidate = Candidate {
        url,
        token,
        member,
        wish: &settings.network,
        data,
        listeners: [&listeners.peer, &listeners.api],
    };
    // Who does not answer now may do so in a moment: the join itself waits for that.
    let report = match preflight::run(&candidate).await {
        Ok(Some(report)) => report,
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::info!("no preflight: {error:#}");
            return Ok(());
        }
    };
    for warning in report.of(Outcome::Warning) {
        progress.line(&format!("    warning: {warning}"));
    }
    report.into_result()?;
    progress.done("preflight");
    Ok(())
}

/// Who this master is: as its directory says, or a new cluster's first, or as a cluster admits it.
async fn identity(
    data: &DataDir,
    settings: &Settings,
    member: &Member,
    progress: &mut Progress,
) -> anyhow::Result<(ClusterFile, KeyRing)> {
    if let Some(mut cluster) = data.cluster()? {
        data.refuse_lost_log(&cluster)?;
        let keys = KeyRing::load(&data.pki())?;
        cluster.peer_address.clone_from(&member.peer_address);
        cluster.api_address.clone_from(&member.api_address);
        data.save_cluster(&cluster)?;
        return Ok((cluster, keys));
    }
    let (cluster_id, node_id, keys, network) = match &settings.join {
        None if settings.standby => {
            bail!("--standby is for a master that joins: give --join URL and --token too")
        }
        None => {
            let network = settings.network.fresh()?;
            let cluster_id = uuid::Uuid::new_v4().to_string();
            let keys = ClusterKeys::generate(&cluster_id, Timestamp::now())?;
            (cluster_id, quorate_raft::FIRST_NODE_ID.0, KeyRing::new(keys), network)
        }
        Some((url, token)) => {
            let mut told = |why: &str| progress.line(&format!("    {why}"));
            let wish = &settings.network;
            let admission = join::join_master(url, token, member, wish, &mut told).await?;
            points::pass(Point::JoinAdmitted);
            progress.done(&format!("admitted as master {} (learner)", admission.node_id));
            (admission.cluster_id, admission.node_id, admission.keys, admission.network)
        }
    };
    keys.save(&data.pki())?;
    points::pass(Point::JoinKeysWritten);
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

/// The usual one, unless a test of faults wants snapshots sooner.
fn snapshot_rule() -> SnapshotRule {
    match points::snapshot_bytes() {
        Some(log_bytes_min) => SnapshotRule { log_bytes_min, follow_state_size: false },
        None => SnapshotRule::default(),
    }
}

/// Whom this master's certificates are for.
fn whose(settings: &Settings, cluster: &ClusterFile) -> Whose {
    let mut names: Vec<String> =
        ["localhost", "kubernetes", "kubernetes.default"].into_iter().map(str::to_owned).collect();
    names.push("kubernetes.default.svc".to_owned());
    names.push(format!("kubernetes.default.svc.{}", cluster.network.cluster_domain));
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    addresses.extend(cluster.network.service_cidr.hosts().next());
    addresses.extend(settings.pod_facing.map(|address| address.ip()));
    addresses.extend(settings.vip.iter().flat_map(vip::Setting::ips));
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
    Whose {
        cluster_id: cluster.cluster_id.clone(),
        node_id: cluster.node_id,
        name: cluster.name.clone(),
        names,
        addresses,
    }
}

/// Name and group in the administrator's certificate, as kubeadm's.
pub const ADMIN: &str = "kubernetes-admin";
/// See [`ADMIN`]. The authorizer lets this group do everything.
pub const ADMIN_GROUP: &str = "system:masters";

/// The certificate of the admin's kubeconfig.
pub fn admin_certificate(certs: &Certs, now: Timestamp) -> anyhow::Result<Certified> {
    let subject = Subject::Client { name: ADMIN.to_owned(), group: ADMIN_GROUP.to_owned() };
    Ok(certs.now().ring.keys().cluster.issue(&subject, now)?)
}
