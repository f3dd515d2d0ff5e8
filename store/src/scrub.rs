//! Looks for what is no longer as it was decided, and heals it (design, section 4, "Bit rot").
//!
//! Three looks, over and over: a master hashes each version of an object in its memory again and compares with the hash
//! that was made when the version came; the leader compares what all masters say of their state at an equal index, and
//! the majority names who differs; and each master reads its files again. Whoever has a state that is not right goes
//! out of service at once and takes the state of another one; damaged files are made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use quorate_raft::limits::HEAL_MAX;
use quorate_raft::{NodeId, RaftNode, Scrubbed};
use quorate_state_machine::View;
use quorate_state_machine::object::StoredRef;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::consensus::PublishedViews;
use crate::integrity::{Problem, Sample, Verdict, compare};
use crate::limits::{
    HASHES_TIMEOUT, HEAL_PAUSE, SCRUB_BYTES_PER_STEP, SCRUB_FILES_EVERY, SCRUB_PAUSE,
};
use crate::masters::Masters;
use crate::replicated::forward::method;

/// What was counted.
#[derive(Debug, Clone, Default)]
pub struct ScrubMeters {
    rounds: Counter,
    damaged: Family<Of, Counter>,
    healed: Family<Of, Counter>,
}

/// Label `what`: `state` or `file`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    what: &'static str,
}

const STATE: Of = Of { what: "state" };
const FILE: Of = Of { what: "file" };

impl ScrubMeters {
    /// Shows them as `quorate_scrub_…`.
    pub fn register(&self, registry: &mut Registry) {
        for of in [STATE, FILE] {
            // So that each is 0 before it first happens.
            drop((self.damaged.get_or_create(&of), self.healed.get_or_create(&of)));
        }
        let registry = registry.sub_registry_with_prefix("quorate_scrub");
        registry.register(
            "rounds",
            "Times that this master has looked at its whole state",
            self.rounds.clone(),
        );
        registry.register(
            "damaged",
            "States, snapshots and logs of this master that were found damaged",
            self.damaged.clone(),
        );
        registry.register(
            "healed",
            "States that were taken from another master, and files that were made anew, since they were damaged",
            self.healed.clone(),
        );
    }
}

/// The leader has found that the state of this master is not that of most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// In words.
    pub(crate) why: String,
    /// Who agrees with most: only they have a state to give.
    pub(crate) good: BTreeSet<NodeId>,
}

/// What is wrong with this master's state, and who can help.
#[derive(Debug)]
struct Damage {
    why: String,
    /// `None`: whoever votes.
    good: Option<BTreeSet<NodeId>>,
}

impl From<Told> for Damage {
    fn from(told: Told) -> Self {
        Self { why: told.why, good: Some(told.good) }
    }
}

/// Scrubs this master.
#[derive(Debug)]
pub struct Scrubber {
    raft: RaftNode,
    published: Arc<PublishedViews>,
    told: mpsc::Receiver<Told>,
    meters: ScrubMeters,
}

impl Scrubber {
    pub(crate) fn new(
        raft: RaftNode,
        published: Arc<PublishedViews>,
        told: mpsc::Receiver<Told>,
    ) -> Self {
        Self { raft, published, told, meters: ScrubMeters::default() }
    }

    /// What it counts.
    #[must_use]
    pub fn meters(&self) -> &ScrubMeters {
        &self.meters
    }

    /// Looks every `interval` until it is told to end.
    pub async fn run(mut self, interval: Duration, ended: CancellationToken) {
        let work = async {
            let mut round = 0_u64;
            loop {
                let told = tokio::select! {
                    told = self.told.recv() => told,
                    () = self.raft.suspected() => None,
                    () = tokio::time::sleep(interval) => None,
                };
                if let Some(told) = told {
                    self.heal(told.into()).await;
                    continue;
                }
                round += 1;
                if let Some(why) = self.look_at_memory().await {
                    self.heal(Damage { why, good: None }).await;
                    continue;
                }
                if round.is_multiple_of(SCRUB_FILES_EVERY)
                    || self.published.integrity.has(Problem::Files)
                {
                    self.look_at_files().await;
                }
                if let Some(told) = self.compare().await {
                    self.heal(told.into()).await;
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = ended.cancelled() => {}
        }
    }

    /// Hashes everything that somebody may be shown again.
    async fn look_at_memory(&self) -> Option<String> {
        let view = self.published.view();
        let mut bytes = 0;
        for (_, resource) in view.resources() {
            for object in resource.versions() {
                if !object.is_intact() {
                    return Some(of_object(object));
                }
                bytes += object.image.bytes.len();
                if bytes >= SCRUB_BYTES_PER_STEP {
                    bytes = 0;
                    // Others have a turn in between.
                    tokio::time::sleep(SCRUB_PAUSE).await;
                }
            }
        }
        self.meters.rounds.inc();
        sum_differs(&view)
    }

    async fn look_at_files(&self) {
        let integrity = &self.published.integrity;
        match self.raft.scrub_files().await {
            Ok(Scrubbed { damaged, unmended: None }) if damaged.is_empty() => {
                if integrity.has(Problem::Files) {
                    self.meters.healed.get_or_create(&FILE).inc();
                    tracing::info!("the files of this master are whole again");
                    integrity.set(Problem::Files, None);
                }
            }
            Ok(Scrubbed { damaged, unmended }) => {
                if let Some(error) = unmended {
                    tracing::warn!(%error, "what is damaged could not be made anew yet");
                }
                for error in &damaged {
                    self.meters.damaged.get_or_create(&FILE).inc();
                    tracing::error!(%error, "a file was damaged; it is made anew");
                }
                integrity.set(Problem::Files, damaged.first().map(ToString::to_string));
            }
            Err(error) => {
                tracing::warn!(%error, "the files could not be looked at, or not be mended")
            }
        }
    }

    /// As the leader: compares all masters, and tells those that differ. Gives why this one differs.
    async fn compare(&self) -> Option<Told> {
        let status = self.raft.status();
        let integrity = &self.published.integrity;
        if status.leader != Some(self.raft.id()) || status.members.len() < 2 {
            integrity.set(Problem::Undecided, None);
            return None;
        }
        let others = status.members.iter().map(|known| known.id).filter(|id| *id != self.raft.id());
        let asked = others.map(|id| async move {
            let said = self.raft.call(id, method::HASHES, Bytes::new(), HASHES_TIMEOUT).await;
            let samples: Vec<Sample> = serde_json::from_slice(&said.ok()?).ok()?;
            Some((id, samples))
        });
        let mut said: BTreeMap<NodeId, Vec<Sample>> =
            join_all(asked).await.into_iter().flatten().collect();
        said.insert(self.raft.id(), self.published.integrity.samples(&self.published.view()));
        let voters = status.members.iter().filter(|known| known.voter);
        let voters: BTreeSet<NodeId> = voters.map(|known| known.id).collect();
        let name = |id: &NodeId| {
            let known = status.members.iter().find(|known| known.id == *id);
            known.map_or_else(|| id.to_string(), |known| known.member.name.clone())
        };
        let names = |ids: &BTreeSet<NodeId>| ids.iter().map(name).collect::<Vec<_>>().join(", ");
        match compare(&said, &voters) {
            Verdict::Agree => {
                integrity.set(Problem::Undecided, None);
                None
            }
            Verdict::Undecided { index, groups } => {
                let groups: Vec<String> = groups.iter().map(names).collect();
                let groups = groups.join(" | ");
                tracing::error!(
                    index,
                    groups,
                    "the masters differ, and no majority says what is right"
                );
                let why =
                    format!("at index {index} these differ, and no majority is right: {groups}");
                integrity.set(Problem::Undecided, Some(why));
                None
            }
            Verdict::Culprits { index, culprits, good } => {
                integrity.set(Problem::Undecided, None);
                let (who, most) = (names(&culprits), names(&good));
                tracing::error!(
                    index,
                    who,
                    most,
                    "the state of a master differs from that of most"
                );
                let why = format!("its state at index {index} differs from that of {most}");
                let told = Told { why, good };
                for culprit in &culprits {
                    // Words and numbers always encode.
                    let body = Bytes::from(serde_json::to_vec(&told).unwrap_or_default());
                    if *culprit != self.raft.id() {
                        drop(self.raft.call(*culprit, method::DIFFERS, body, HASHES_TIMEOUT).await);
                    }
                }
                culprits.contains(&self.raft.id()).then_some(told)
            }
        }
    }

    /// Out of service, until the state of another master is in the place of this one's.
    async fn heal(&mut self, Damage { why, good }: Damage) {
        self.meters.damaged.get_or_create(&STATE).inc();
        tracing::error!(
            why,
            "the state of this master is damaged: it takes the state of another one"
        );
        self.raft.mark_damaged(true);
        self.published.set_damage(Some(why.clone()));
        let until = Instant::now() + HEAL_MAX;
        while Instant::now() < until {
            let status = self.raft.status();
            if status.leader == Some(status.id) {
                // Nothing is applied meanwhile, so nobody would be answered.
                if let Err(error) = self.raft.transfer_leader(None).await {
                    tracing::warn!(%error, "leadership could not be handed over by a damaged leader");
                    if status.members.iter().filter(|known| known.voter).count() > 1 {
                        tokio::time::sleep(HEAL_PAUSE).await;
                        continue;
                    }
                }
            }
            let others = status.members.iter().filter(|known| {
                let good = good.as_ref().is_none_or(|good| good.contains(&known.id));
                known.voter && known.id != status.id && good
            });
            let mut others: Vec<NodeId> = others.map(|known| known.id).collect();
            // The leader is the one that surely has everything.
            others.sort_by_key(|id| Some(*id) != self.raft.status().leader);
            if others.is_empty() {
                break;
            }
            for other in others {
                match self.raft.heal(other).await {
                    Ok(index) => {
                        self.meters.healed.get_or_create(&STATE).inc();
                        tracing::info!(from = %other, index = index.0, "this master is healed");
                        // What was said of the state before.
                        while self.told.try_recv().is_ok() {}
                        self.raft.mark_damaged(false);
                        self.published.set_damage(None);
                        if let Err(error) = self.raft.renew_files().await {
                            tracing::warn!(%error, "the log of this master could not be made anew");
                        }
                        return;
                    }
                    Err(error) => tracing::warn!(from = %other, %error, "not healed yet"),
                }
            }
            tokio::time::sleep(HEAL_PAUSE).await;
        }
        self.raft.give_up(format!(
            "the state in memory is damaged ({why}), and no other master gives a good one. Start this master again: it \
             reads its state from its disk"
        ));
    }
}

fn of_object(object: &StoredRef) -> String {
    let key = &object.key;
    format!(
        "{} {} is not as it was written at revision {}",
        key.resource, key.object, object.revision
    )
}

/// Whether objects came or went that nothing has changed.
fn sum_differs(view: &View) -> Option<String> {
    let objects = view.resources().flat_map(|(_, resource)| resource.iter());
    let sum = objects.fold(0_u128, |sum, object| sum.wrapping_add(object.hash()));
    (sum != view.hash()).then(|| "its objects are not those that were written".to_owned())
}

impl Masters {
    /// Why this master is out of service: its state is damaged, and is being healed.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        self.published.integrity.damage()
    }

    /// What is not as it was decided on this master, or among the masters, in words; empty when all is well.
    #[must_use]
    pub fn corruption(&self) -> Vec<String> {
        self.published.integrity.all()
    }
}
