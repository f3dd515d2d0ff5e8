//! Puts a node together, in this order: directories and lock, certificates, the runtime, log and
//! snapshots (checked in full), the apply thread, Raft, the listener, upkeep.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use openraft::SnapshotPolicy;
use openraft::async_runtime::WatchReceiver;
use quorate_points::{self as points, Point};
use tokio::sync::{oneshot, watch};

use super::election::Watcher;
use super::leadership::Heard;
use super::propose::Gate;
use super::read::{ReadQueues, Reads};
use super::stop::{Parts, Stopping};
use super::{Inner, Raft, RaftNode, leadership, upkeep};
use crate::apply::{self, ApplyThread};
use crate::codec::DiskIdentity;
use crate::config::{Config, Timing};
use crate::error::{Fatal, StartError};
use crate::host::Host;
use crate::host::Runtime;
use crate::limits::{APPEND_ENTRIES_MAX, SNAPSHOT_INSTALL_MAX};
use crate::log::directory;
use crate::log::storage::{LogStore, LogThread};
use crate::machine::StateMachine;
use crate::machine_store::MachineStore;
use crate::mark::Mark;
use crate::peer::Handler;
use crate::peer::client::{Peers, Route};
use crate::peer::incoming::Incoming;
use crate::peer::link::PeerService;
use crate::peer::network::Factory;
use crate::peer::past::Past;
use crate::peer::server::{self, Inbound};
use crate::peer::service::Service;
use crate::peer::state::Giver;
use crate::peer::tls::{Identity, Tls};
use crate::snapshot::store::SnapshotStore;
use crate::space::Space;

/// What was opened on disk.
struct Stores {
    log: LogStore,
    log_thread: LogThread,
    apply: ApplyThread,
    snapshots: Arc<SnapshotStore>,
    space: Arc<Space>,
    past: Arc<Past>,
}

impl RaftNode {
    /// Starts a node on its data directory. The machine must be empty: it gets the newest snapshot
    /// and the committed log after it before this returns.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn start(
        config: Config,
        machine: impl StateMachine,
        handler: Arc<dyn Handler>,
    ) -> Result<Self, StartError> {
        Self::start_routed(config, machine, handler, None).await
    }

    /// As `start`, with other ways to the other masters than their addresses.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_routed(
        config: Config,
        machine: impl StateMachine,
        handler: Arc<dyn Handler>,
        route: Option<Route>,
    ) -> Result<Self, StartError> {
        check_timing(config.timing)?;
        let identity = Identity { cluster_id: config.cluster_id.clone(), node_id: config.node_id };
        let host = config.host.clone();
        let tls = Arc::new(Tls::new(&config.tls, identity)?);
        let fatal = watch::Sender::new(None);
        let (config, stores) = open_stores(config, machine, fatal.clone()).await?;
        let peers = Peers::new(tls, stores.past.clone(), route, host.network());
        let runtime = host.runtime().map_err(|source| StartError::Io {
            path: config.data_dir.clone(),
            action: "start the runtime",
            source,
        })?;
        let handle = runtime.handle.clone();
        let assembled =
            handle.spawn(assemble(config, stores, runtime, peers, handler, fatal)).await;
        match assembled {
            Ok(node) => node,
            Err(error) => Err(Fatal(format!("raft did not start: {error}")).into()),
        }
    }
}

fn check_timing(timing: Timing) -> Result<(), StartError> {
    let Timing { heartbeat, election_min, election_max } = timing;
    if heartbeat.is_zero() || heartbeat * 2 > election_min || election_min >= election_max {
        return Err(StartError::Config(format!(
            "heartbeat {heartbeat:?}, election {election_min:?} to {election_max:?}: the heartbeat \
             must be at most half the shortest election time, and that below the longest"
        )));
    }
    Ok(())
}

/// Opens everything on disk, on a thread of its own.
async fn open_stores(
    config: Config,
    machine: impl StateMachine,
    fatal: watch::Sender<Option<Fatal>>,
) -> Result<(Config, Stores), StartError> {
    let (done, opened) = oneshot::channel();
    let path = config.data_dir.clone();
    let host = config.host.clone();
    let open = async move {
        let raft = config.data_dir.join("raft");
        directory::create(&raft)?;
        let lock = directory::lock(&raft)?;
        Mark::refuse_any(&raft)?;
        let io = |source| StartError::Io { path: raft.clone(), action: "prepare", source };
        let space = Space::open(&raft, config.disk, config.host.clone()).map_err(io)?;
        let space = Arc::new(space);
        let identity =
            DiskIdentity { cluster_id: config.cluster_id.clone(), node_id: config.node_id.0 };
        let host = config.host.clone();
        let engine = |path: &Path| host.open_log(path);
        let (log, log_thread) =
            LogStore::open(&raft, lock, &identity, space.clone(), fatal.clone(), engine, &*host)
                .await?;
        points::pass(Point::LogOpened);
        let purged = log.shared().lock().purged.map(|id| id.index);
        let snapshots = config.data_dir.join("snapshots");
        let snapshots = SnapshotStore::open(&snapshots, &config.cluster_id, purged)?;
        let past = Past::open(&raft, config.node_id, log.shared().clone(), fatal.clone())?;
        let apply = apply::start(machine, fatal, &*host).map_err(io)?;
        let (snapshots, past) = (Arc::new(snapshots), Arc::new(past));
        let stores = Stores { log, log_thread, apply, snapshots, space, past };
        Ok((config, stores))
    };
    host.start(OPENER_THREAD, Box::pin(async move { drop(done.send(open.await)) }))
        .map_err(|source| StartError::Io { path, action: "start a thread", source })?;
    opened.await.map_err(|_| Fatal("opening the log panicked".to_owned()))?
}

/// Name of the thread that opens the log. A panic of sled on it, at damage, is caught and named as such.
pub const OPENER_THREAD: &str = "raft-open";

fn openraft_config(config: &Config) -> Result<Arc<openraft::Config>, StartError> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let raft = openraft::Config {
        cluster_name: config.cluster_id.clone(),
        heartbeat_interval: ms(config.timing.heartbeat),
        election_timeout_min: ms(config.timing.election_min),
        election_timeout_max: ms(config.timing.election_max),
        install_snapshot_timeout: ms(SNAPSHOT_INSTALL_MAX),
        max_payload_entries: APPEND_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::Never,
        // Purging is ours: only up to the oldest snapshot that is kept.
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        ..openraft::Config::default()
    };
    let raft = raft.validate().map_err(|error| StartError::Config(error.to_string()))?;
    Ok(Arc::new(raft))
}

fn adopt(listener: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Another network than the machine's needs no listener.
fn listening(
    listener: std::net::TcpListener,
    host: &dyn Host,
) -> std::io::Result<(Option<tokio::net::TcpListener>, SocketAddr)> {
    let address = listener.local_addr()?;
    let own = host.network().is_none();
    Ok((if own { Some(adopt(listener)?) } else { None }, address))
}

/// On Raft's own runtime from here on.
async fn assemble(
    config: Config,
    stores: Stores,
    runtime: Runtime,
    peers: Peers,
    handler: Arc<dyn Handler>,
    fatal: watch::Sender<Option<Fatal>>,
) -> Result<RaftNode, StartError> {
    let Stores { mut log, log_thread, apply, snapshots, space, past } = stores;
    log.drop_superseded(snapshots.current().and_then(|snapshot| snapshot.last_log_id()))
        .await
        .map_err(|error| Fatal(error.to_string()))?;
    let raft_config = openraft_config(&config)?;
    let shared = log.shared().clone();
    let host = config.host;
    let (listener, peer_address) = listening(config.listener, &*host).map_err(|source| {
        StartError::Io { path: config.data_dir.clone(), action: "listen for peers", source }
    })?;
    let meters = shared.meters.clone();
    let applied = apply.applied.clone();
    // Weak: the thread ends with the last sender.
    let applying = apply.commands.downgrade();
    let machine = MachineStore::new(
        apply.commands,
        applied.clone(),
        snapshots.clone(),
        host.clone(),
        meters.clone(),
    );
    let factory = Factory { peers: peers.clone(), host: host.clone(), meters, applied };
    let log_store = log.clone();
    let raft = Raft::new(config.node_id, raft_config, factory, log, machine)
        .await
        .map_err(|error| fatal.borrow().clone().unwrap_or_else(|| Fatal(error.to_string())))?;
    let (reads, queues) = Reads::new();
    let (server, stop_server) = watch::channel(false);
    let inbound = Arc::new(Inbound::new());
    let heard = Arc::new(Heard::new(inbound.clone(), config.timing));
    let inner = Arc::new(Inner {
        id: config.node_id,
        member: config.member,
        leadership: leadership::follow(&raft, shared.meters.clone(), heard.clone()),
        heard,
        raft,
        log: shared,
        log_store,
        applied: apply.applied,
        applying,
        snapshots,
        peers,
        inbound,
        reads,
        proposals: Gate::new(),
        membership_lock: tokio::sync::Mutex::new(()),
        fatal,
        removed: watch::Sender::new(None),
        leaving: AtomicBool::new(false),
        directory: config.data_dir,
        space,
        past,
        snapshot_rule: config.snapshots,
        timing: config.timing,
        runtime: runtime.handle,
        peer_address,
        stopping: Stopping::new(Parts {
            runtime: runtime.stop,
            runtime_ended: runtime.ended,
            log: log_thread,
            apply: apply.worker,
            server,
        }),
        host,
    });
    start_tasks(&inner, queues, listener, handler, stop_server);
    inner.elect_alone().await;
    Ok(RaftNode { inner })
}

fn start_tasks(
    inner: &Arc<Inner>,
    queues: ReadQueues,
    listener: Option<tokio::net::TcpListener>,
    handler: Arc<dyn Handler>,
    stop_server: watch::Receiver<bool>,
) {
    queues.run(&inner.raft, inner.peers.clone(), inner.reads.clone());
    let service = Service {
        raft: inner.raft.clone(),
        log: inner.log.clone(),
        reads: inner.reads.clone(),
        incoming: Incoming::new(
            inner.raft.clone(),
            inner.snapshots.clone(),
            inner.space.clone(),
            inner.host.clone(),
        ),
        giver: Giver::new(
            inner.raft.clone(),
            inner.snapshots.clone(),
            inner.applied.clone(),
            inner.host.clone(),
        ),
        space: inner.space.clone(),
        past: inner.past.clone(),
        inbound: inner.inbound.clone(),
        handler,
    };
    match (inner.host.network(), listener) {
        (Some(network), _) => network.serve(PeerService::new(service, inner.inbound.clone())),
        (None, None) => {}
        (None, Some(listener)) => {
            let (tls, inbound) = (inner.peers.tls(), inner.inbound.clone());
            tokio::spawn(server::serve(listener, tls, inbound, service, stop_server));
        }
    }
    let watcher = Watcher {
        raft: inner.raft.clone(),
        log: inner.log.clone(),
        peers: inner.peers.clone(),
        inbound: inner.inbound.clone(),
        timing: inner.timing,
    };
    tokio::spawn(watcher.run());
    upkeep::start(inner);
}

impl Inner {
    /// The only voter need not wait for a leader it would hear from: nobody else can be one.
    async fn elect_alone(&self) {
        let alone = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters = metrics.membership_config.membership().voter_ids();
            voters.eq([self.id])
        };
        if alone {
            // An error means that Raft has ended; whoever uses the node will see that.
            drop(self.raft.trigger().elect(false).await);
        }
    }
}
