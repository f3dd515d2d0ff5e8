//! One simulated master: its disk, its files, and, while it lives, a runtime with a clock of its own
//! in which the real store runs.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use quorate_pki::{Authority, Subject};
use quorate_raft::{Config, DiskRule, Member, NodeId, PeerTls, SnapshotRule, Timing};
use quorate_store::{Masters, Started};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::client;
use super::disk::Disk;
use super::host::{Outbox, SimHost, Wire};

const CLUSTER: &str = "51a7ed";

/// A log of this size is worth a snapshot: small, so that snapshots come often.
const SNAPSHOT_BYTES: u64 = 16 << 10;

/// How far the start of a life has come.
#[derive(Debug, Default)]
pub(super) enum Start {
    #[default]
    Under,
    Done(Started),
    Failed(String),
}

fn whole(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
    /// A bit of its disk was flipped.
    pub(super) flipped: bool,
    /// It found that, and takes no part any more.
    pub(super) lost: bool,
    tls: PeerTls,
}

/// From a start to a crash.
#[derive(Debug)]
pub(super) struct Life {
    runtime: Runtime,
    pub(super) wire: Arc<Wire>,
    pub(super) slot: Slot,
    /// When it began, on its own clock, and how much of that clock's time has passed.
    began: Instant,
    lived: Duration,
    /// Does not run until then, of the world's time.
    paused_until: Duration,
    /// Whether its clock goes on meanwhile, and how far it has gone.
    clock_goes_on: bool,
    missed: Duration,
    /// It was asked to stop.
    pub(super) stopping: bool,
}

impl Life {
    /// Does not run until then.
    pub(super) fn pause(&mut self, until: Duration, clock_goes_on: bool) {
        self.paused_until = until;
        self.clock_goes_on = clock_goes_on;
    }
}

/// The rate of a clock that is right.
pub(super) const TRUE_RATE: u64 = 1000;

pub(super) fn slot(slot: &Slot) -> MutexGuard<'_, Start> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn member(position: usize) -> Member {
    Member {
        name: format!("m{}", position + 1),
        peer_address: format!("m{}:6444", position + 1),
        api_address: format!("m{}:6443", position + 1),
    }
}

impl Node {
    pub(super) fn new(
        position: usize,
        id: NodeId,
        authority: &Authority,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let subject = Subject::Peer { cluster_id: CLUSTER.to_owned(), node_id: id.0 };
        let issued = authority.issue(&subject, jiff::Timestamp::now())?;
        let tls = PeerTls {
            ca_pem: authority.certificate_pem().to_owned(),
            certificate_pem: issued.certificate_pem,
            key_pem: issued.key_pem,
        };
        Ok(Self {
            id,
            member: member(position),
            disk: Disk::new(seed),
            life: None,
            rate_permille: TRUE_RATE,
            flipped: false,
            lost: false,
            tls,
        })
    }

    /// Begins a life: the store starts, and tells the world how far it comes.
    pub(super) fn start(
        &mut self,
        own: usize,
        directory: &Path,
        outbox: &Outbox,
    ) -> anyhow::Result<()> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true);
        // What tokio itself draws lots for.
        #[cfg(tokio_unstable)]
        runtime
            .rng_seed(tokio::runtime::RngSeed::from_bytes(&quorate_chance::number().to_le_bytes()));
        let runtime = runtime.build().context("no runtime for a simulated master")?;
        let wire = Arc::new(Wire::new(own, outbox.clone()));
        let host = Arc::new(SimHost { disk: self.disk.clone(), wire: wire.clone() });
        let config = Config {
            data_dir: directory.join(&self.member.name),
            cluster_id: CLUSTER.to_owned(),
            node_id: self.id,
            member: self.member.clone(),
            // Nobody listens on it: the wire takes its place.
            listener: std::net::TcpListener::bind("127.0.0.1:0")?,
            tls: self.tls.clone(),
            timing: Timing::default(),
            snapshots: SnapshotRule { log_bytes_min: SNAPSHOT_BYTES, follow_state_size: false },
            disk: DiskRule::default(),
            host,
        };
        let (slot, outbox) = (Slot::default(), outbox.clone());
        let result = slot.clone();
        runtime.spawn(async move {
            let started = Masters::start(config).await;
            let store = started.as_ref().ok().map(|started| started.store.clone());
            *self::slot(&result) = match started {
                Ok(started) => Start::Done(started),
                Err(error) => Start::Failed(error.to_string()),
            };
            if let Some(store) = store {
                client::report(store, own, outbox).await;
            }
        });
        let began = runtime.block_on(async { Instant::now() });
        self.life = Some(Life {
            runtime,
            wire,
            slot,
            began,
            lived: Duration::ZERO,
            paused_until: Duration::ZERO,
            clock_goes_on: true,
            missed: Duration::ZERO,
            stopping: false,
        });
        Ok(())
    }

    /// Ends it, at once.
    pub(super) fn crash(&mut self, power: bool) -> bool {
        let Some(life) = self.life.take() else { return false };
        self.disk.crash(power);
        life.runtime.shutdown_background();
        true
    }

    /// Its store and masters, once they are there.
    pub(super) fn started<T>(&self, with: impl FnOnce(&Started) -> T) -> Option<T> {
        match &*slot(&self.life.as_ref()?.slot) {
            Start::Done(started) => Some(with(started)),
            Start::Under | Start::Failed(_) => None,
        }
    }

    /// Lets it live for a while, of the world's time.
    pub(super) fn run(&mut self, now: Duration, tick: Duration) {
        let Some(life) = &mut self.life else { return };
        let own = tick * u32::try_from(self.rate_permille).unwrap_or(1000) / 1000;
        if life.paused_until > now {
            if life.clock_goes_on {
                life.missed += own;
            }
            return;
        }
        // A jump of whole milliseconds: timers are no finer.
        let missed = Duration::from_millis(whole(life.missed));
        life.missed -= missed;
        life.lived += own + missed;
        let until = life.began + Duration::from_millis(whole(life.lived));
        life.runtime.block_on(async move {
            if !missed.is_zero() {
                tokio::time::advance(missed).await;
            }
            tokio::time::sleep_until(until).await;
        });
    }

    /// Runs something in it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let Some(life) = &self.life else { return false };
        life.runtime.spawn(work);
        true
    }
}
