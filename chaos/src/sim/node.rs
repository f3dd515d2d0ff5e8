//! One simulated master: its disk, its files, and, while it lives, a runtime with a clock of its own
//! in which the real store runs, and where there are nodes everything above it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use ipnet::{IpNet, Ipv4Net};
use jiff::SignedDuration;
use quorate_api_server::identity::User;
use quorate_api_server::server::Door;
use quorate_api_server::{ClusterFacts, ServiceAccountKeys};
use quorate_master::{Parts, Prepared, Running};
use quorate_pki::{Authority, ClusterKeys, Subject};
use quorate_raft::{Config, DiskRule, Member, NodeId, PeerTls, SnapshotRule, Timing};
use quorate_store::limits::SCRUB_INTERVAL;
use quorate_store::{Clock, Masters, Started, Store};
use tokio_util::sync::CancellationToken;

use super::being::{Being, TRUE_RATE};
use super::client;
use super::disk::Disk;
use super::host::{Outbox, SimHost, Wire};
use super::kube;
use super::plan::Kind;

const CLUSTER: &str = "51a7ed";

/// A log of this size is worth a snapshot: small, so that snapshots come often.
const SNAPSHOT_BYTES: u64 = 16 << 10;

/// The same where the store has all that a cluster with nodes has.
const SNAPSHOT_BYTES_WITH_NODES: u64 = 2 << 20;

/// How far the start of a life has come.
#[derive(Debug, Default)]
pub(super) enum Start {
    #[default]
    Under,
    Done(Up),
    Failed(String),
}

/// A master that is up.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) store: Store,
    pub(super) masters: Masters,
    above: Above,
}

/// What is above the store.
#[derive(Debug)]
enum Above {
    Nothing(#[expect(dead_code, reason = "keeps what it has alive")] Started),
    Everything(Running),
    /// It stops.
    Stopping,
}

impl Up {
    /// A way to its API, if it has one.
    pub(super) fn door(&self, user: User) -> Option<Door> {
        match &self.above {
            Above::Everything(running) => Some(running.server.door(user)),
            Above::Nothing(_) | Above::Stopping => None,
        }
    }

    /// What is above its store, to be stopped.
    pub(super) fn take_running(&mut self) -> Option<Running> {
        match std::mem::replace(&mut self.above, Above::Stopping) {
            Above::Everything(running) => Some(running),
            Above::Nothing(_) | Above::Stopping => None,
        }
    }
}

/// What all masters of a simulation have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) authority: Authority,
    /// For clusters with nodes: signs tokens, which are nowhere in the store.
    pub(super) keys: Option<ClusterKeys>,
    /// The cluster's name.
    pub(super) cluster: String,
}

impl Common {
    pub(super) fn new(authority: Authority, keys: Option<ClusterKeys>) -> Self {
        Self { authority, keys, cluster: CLUSTER.to_owned() }
    }
}

/// What a master's runtime shares with the world.
pub(super) type Slot = Arc<Mutex<Start>>;

/// One master.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) member: Member,
    pub(super) disk: Disk,
    pub(super) life: Option<Life>,
    /// How fast its clock goes, in thousandths.
    pub(super) rate_permille: u64,
    /// How wrong its wall clock is.
    pub(super) wrong: SignedDuration,
    /// Its disk is not what it was: a bit was flipped, or it is another one.
    pub(super) hurt: bool,
    /// That was found, and it takes no part any more.
    pub(super) lost: bool,
    /// It was there once.
    pub(super) has_lived: bool,
    /// Since then.
    pub(super) born: Duration,
    /// Numbers that it had before, and ran under.
    pub(super) former: Vec<NodeId>,
    /// Somebody has asked for its removal, which may come about, unless that is denied.
    pub(super) leaving: Option<Leaving>,
    /// An operator wanted it as a standby for a while.
    pub(super) demoted: Option<Demoted>,
    /// An earlier state of its disk, for as long as somebody means to put that back.
    pub(super) copy: Option<Disk>,
    /// What it has is of an earlier time.
    pub(super) went_back: bool,
    /// Once it has a number.
    tls: Option<PeerTls>,
    /// The cluster in which it has that.
    cluster: String,
    /// Signs tokens, if there is an API.
    service_account_pem: Option<String>,
}

/// Somebody wanted a master as a standby.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demoted {
    /// When.
    pub(super) asked: Duration,
    /// It was seen to be one.
    pub(super) seen: bool,
}

/// Somebody wants a master to leave.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Certainly not.
    pub(super) denied: Arc<AtomicBool>,
    /// The fault that it is.
    pub(super) kind: Kind,
    /// Before that it does not join anew.
    pub(super) until: Duration,
    /// It knew, and was started again on what it had.
    pub(super) started_again: bool,
}

/// From a start to a crash.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) being: Being,
    pub(super) wire: Arc<Wire>,
    pub(super) slot: Slot,
    /// It was asked to stop.
    pub(super) stopping: bool,
}

pub(super) fn slot(slot: &Slot) -> MutexGuard<'_, Start> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the API of a master is said to be.
pub(super) fn api_address(position: usize) -> String {
    format!("10.0.0.{}:6443", position + 1)
}

/// The master with an address.
pub(super) fn master_of(host: &str) -> Option<usize> {
    host.strip_prefix("10.0.0.")?.parse::<usize>().ok()?.checked_sub(1)
}

pub(super) fn member(position: usize) -> Member {
    Member {
        name: format!("m{}", position + 1),
        peer_address: format!("m{}:6444", position + 1),
        api_address: api_address(position),
        standby: false,
    }
}

fn network(a: u8, b: u8) -> anyhow::Result<IpNet> {
    Ok(IpNet::V4(Ipv4Net::new([a, b, 0, 0].into(), 16)?))
}

/// What a master has above its store.
fn parts(member: Member, service_account_pem: String) -> anyhow::Result<Parts> {
    Ok(Parts {
        member,
        facts: ClusterFacts {
            cluster_id: CLUSTER.to_owned(),
            service_cidrs: vec![network(10, 43)?],
            ..ClusterFacts::default()
        },
        cluster_cidr: network(10, 42)?,
        keys: ServiceAccountKeys {
            signing_key_pem: service_account_pem,
            also_accepted_pem: Vec::new(),
        },
        // It is in the store, where everything has to be the same each time.
        root_ca: tokio::sync::watch::channel("simulated".to_owned()).1,
        signer: None,
        certificates: None,
        clock: Clock::system(),
        listeners: Vec::new(),
        tls: None,
        pod_facing: None,
        registry: Default::default(),
        documents: None,
        actions: None,
        reach: None,
        membership: quorate_master::MembershipRules::default(),
        scrub_interval: SCRUB_INTERVAL,
    })
}

fn raise(mut started: Started, parts: Option<Parts>) -> anyhow::Result<Up> {
    let (store, masters) = (started.store.clone(), started.masters.clone());
    let above = match parts {
        None => {
            if let Some(scrubber) = started.scrubber() {
                tokio::spawn(scrubber.run(SCRUB_INTERVAL, CancellationToken::new()));
            }
            Above::Nothing(started)
        }
        Some(parts) => {
            let services = tonic::service::Routes::default();
            Above::Everything(Prepared::new(started, parts).serve(services)?)
        }
    };
    Ok(Up { store, masters, above })
}

impl Drop for Node {
    fn drop(&mut self) {
        self.crash(false);
    }
}

impl Node {
    /// One that is not a member yet.
    pub(super) fn new(position: usize, common: &Common, seed: u64) -> Self {
        Self {
            id: NodeId(0),
            member: member(position),
            disk: Disk::new(seed),
            life: None,
            rate_permille: TRUE_RATE,
            wrong: SignedDuration::ZERO,
            hurt: false,
            lost: false,
            has_lived: false,
            born: Duration::ZERO,
            former: Vec::new(),
            leaving: None,
            demoted: None,
            copy: None,
            went_back: false,
            tls: None,
            cluster: String::new(),
            service_account_pem: common.keys.as_ref().map(|keys| keys.service_account_pem.clone()),
        }
    }

    /// It has a number from now on.
    pub(super) fn admit(&mut self, id: NodeId, common: &Common) -> anyhow::Result<()> {
        let authority = &common.authority;
        let subject = Subject::Peer { cluster_id: common.cluster.clone(), node_id: id.0 };
        let issued = authority.issue(&subject, jiff::Timestamp::now())?;
        self.tls = Some(PeerTls {
            ca_pem: authority.certificate_pem().to_owned(),
            certificate_pem: issued.certificate_pem,
            key_pem: issued.key_pem,
        });
        self.id = id;
        self.cluster.clone_from(&common.cluster);
        (self.leaving, self.demoted) = (None, None);
        Ok(())
    }

    /// It has lost its number.
    pub(super) fn expel(&mut self) {
        self.tls = None;
        self.former.push(self.id);
        self.has_lived = false;
    }

    /// The cluster in which it has its number.
    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Whether it has a number.
    pub(super) fn is_member(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether it may be removed: somebody has asked for that, and was not denied it.
    pub(super) fn leaves(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| !leaving.denied.load(Ordering::Relaxed))
    }

    /// Whether it is to run.
    pub(super) fn takes_part(&self) -> bool {
        self.is_member() && !self.lost
    }

    /// Begins a life: the store starts, and tells the world how far it comes.
    pub(super) fn start(
        &mut self,
        own: usize,
        now: Duration,
        directory: &Path,
        outbox: &Outbox,
    ) -> anyhow::Result<()> {
        let tls = self.tls.clone().context("a master without a number was started")?;
        let being = Being::new(now, self.wrong)?;
        if !std::mem::replace(&mut self.has_lived, true) {
            self.born = now;
        }
        let wire = Arc::new(Wire::new(own, outbox.clone(), directory));
        let host = Arc::new(SimHost { disk: self.disk.clone(), wire: wire.clone() });
        let pem = self.service_account_pem.clone();
        let parts = pem.map(|pem| parts(self.member.clone(), pem)).transpose()?;
        let has_nodes = parts.is_some();
        let log_bytes_min = if has_nodes { SNAPSHOT_BYTES_WITH_NODES } else { SNAPSHOT_BYTES };
        let config = Config {
            data_dir: directory.join(&self.member.name),
            cluster_id: self.cluster.clone(),
            node_id: self.id,
            member: self.member.clone(),
            // Nobody listens on it: the wire takes its place.
            listener: std::net::TcpListener::bind("127.0.0.1:0")?,
            tls,
            timing: Timing::default(),
            snapshots: SnapshotRule { log_bytes_min, follow_state_size: false },
            disk: DiskRule::default(),
            host,
        };
        let (slot, outbox) = (Slot::default(), outbox.clone());
        let result = slot.clone();
        being.spawn(async move {
            let up = match Masters::start(config).await {
                Ok(started) => raise(started, parts).map_err(|error| format!("{error:#}")),
                Err(error) => Err(error.to_string()),
            };
            let store = up.as_ref().ok().map(|up| up.store.clone());
            // What the leader does with learners, where nothing else runs on it.
            if let Some(masters) =
                up.as_ref().ok().filter(|_| !has_nodes).map(|up| up.masters.clone())
            {
                let rules = quorate_master::MembershipRules::default();
                let ended = CancellationToken::new();
                tokio::spawn(quorate_master::look_after_members(masters, rules, ended));
            }
            *self::slot(&result) = match up {
                Ok(up) => Start::Done(up),
                Err(error) => Start::Failed(error),
            };
            let Some(store) = store else { return };
            if has_nodes {
                tokio::spawn(kube::witness(store.clone(), own, outbox.clone()));
            }
            client::report(store, own, outbox).await;
        });
        self.life = Some(Life { being, wire, slot, stopping: false });
        Ok(())
    }

    /// Ends it, at once.
    pub(super) fn crash(&mut self, power: bool) -> bool {
        let Some(life) = self.life.take() else { return false };
        self.disk.crash(power);
        life.being.end();
        // Which holds what holds the wire.
        life.wire.hang_up();
        true
    }

    /// What it is, once it is up. It is asked by its own clock: how long ago something was by the world's, no master
    /// can tell.
    pub(super) fn up<T>(&self, with: impl FnOnce(&Up) -> T) -> Option<T> {
        let life = self.life.as_ref()?;
        let _entered = life.being.enter();
        match &*slot(&life.slot) {
            Start::Done(up) => Some(with(up)),
            Start::Under | Start::Failed(_) => None,
        }
    }

    /// What is above its store, to be stopped.
    pub(super) fn take_running(&self) -> Option<Running> {
        match &mut *slot(&self.life.as_ref()?.slot) {
            Start::Done(up) => up.take_running(),
            Start::Under | Start::Failed(_) => None,
        }
    }

    /// Lets it live for a while, of the world's time.
    pub(super) fn run(&mut self, now: Duration, tick: Duration) {
        if let Some(life) = &mut self.life {
            life.being.run(now, tick, self.rate_permille);
        }
    }

    /// Runs something in it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let Some(life) = &self.life else { return false };
        life.being.spawn(work);
        true
    }
}
