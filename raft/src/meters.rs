//! What a node counts and times while it works, in the forms that Prometheus' format knows. What is a fact of one
//! moment (terms, indexes, members) is in [`crate::Status`] instead.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::error::ProposeError;

/// Label `peer`: the other master's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    peer: String,
}

/// Label `reason`: why a proposal failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    reason: &'static str,
}

/// Histograms by label.
type Times<L> = Family<L, Histogram, fn() -> Histogram>;

/// See the module. Cheap to clone: clones count together.
#[derive(Debug, Clone)]
pub struct Meters {
    sync: Histogram,
    commit: Histogram,
    proposal: Histogram,
    failures: Family<Failure, Counter>,
    elections: Counter,
    leader_changes: Counter,
    round_trips: Times<Peer>,
    peer_failures: Family<Peer, Counter>,
    /// Of whom there are round trips or failures.
    peers: Arc<Mutex<BTreeSet<String>>>,
    snapshot: Histogram,
    restore: Histogram,
    /// When the last leadership began that this master has seen; at first, when it started.
    stable_since: Arc<Mutex<Instant>>,
}

impl Default for Meters {
    fn default() -> Self {
        let failures = Family::default();
        for reason in REASONS {
            // So that each is 0 before it first happens.
            drop(failures.get_or_create(&Failure { reason }));
        }
        Self {
            sync: disk_times(),
            commit: disk_times(),
            proposal: disk_times(),
            failures,
            elections: Counter::default(),
            leader_changes: Counter::default(),
            round_trips: Family::new_with_constructor(disk_times as fn() -> Histogram),
            peer_failures: Family::default(),
            peers: Arc::default(),
            snapshot: long_times(),
            restore: long_times(),
            stable_since: Arc::new(Mutex::new(Instant::now())),
        }
    }
}

/// 0.25 ms to 8 s.
fn disk_times() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

/// 10 ms to about 5 min.
fn long_times() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 16))
}

const REASONS: [&str; 7] =
    ["fatal", "no_space", "not_leader", "over_quota", "overloaded", "too_large", "unknown"];

fn reason(error: &ProposeError) -> &'static str {
    match error {
        ProposeError::Fatal(_) => "fatal",
        ProposeError::DiskFull { .. } => "no_space",
        ProposeError::NotLeader { .. } => "not_leader",
        ProposeError::OverQuota { .. } => "over_quota",
        ProposeError::Overloaded => "overloaded",
        ProposeError::TooLarge { .. } => "too_large",
        ProposeError::Unknown { .. } => "unknown",
    }
}

impl Meters {
    /// Puts all of them where `/metrics` finds them, as `quorate_raft_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("quorate_raft");
        registry.register(
            "log_fsync_duration_seconds",
            "Time of one sync of the log's disk",
            self.sync.clone(),
        );
        registry.register(
            "log_commit_duration_seconds",
            "Time in which one group of entries was written and synced",
            self.commit.clone(),
        );
        registry.register(
            "proposal_duration_seconds",
            "Time from a proposal on this leader until it was committed and applied",
            self.proposal.clone(),
        );
        registry.register(
            "proposals_failed",
            "Proposals on this master that were not known to be committed",
            self.failures.clone(),
        );
        registry.register(
            "elections",
            "Elections in which this master stood",
            self.elections.clone(),
        );
        registry.register(
            "leader_changes",
            "Leaderships that this master has seen begin",
            self.leader_changes.clone(),
        );
        registry.register(
            "peer_round_trip_seconds",
            "Time until another master has answered a heartbeat",
            self.round_trips.clone(),
        );
        registry.register(
            "peer_failures",
            "Heartbeats and entries that another master did not answer",
            self.peer_failures.clone(),
        );
        registry.register(
            "snapshot_duration_seconds",
            "Time in which a snapshot was made",
            self.snapshot.clone(),
        );
        registry.register(
            "snapshot_restore_duration_seconds",
            "Time in which a snapshot of the leader was checked and taken over",
            self.restore.clone(),
        );
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.sync.observe(took.as_secs_f64());
    }

    pub(crate) fn committed(&self, took: Duration) {
        self.commit.observe(took.as_secs_f64());
    }

    pub(crate) fn proposed<T>(&self, outcome: &Result<T, ProposeError>, took: Duration) {
        match outcome {
            Ok(_) => self.proposal.observe(took.as_secs_f64()),
            Err(error) => {
                self.failures.get_or_create(&Failure { reason: reason(error) }).inc();
            }
        }
    }

    pub(crate) fn stood(&self) {
        self.elections.inc();
    }

    /// How long nothing has changed about who leads, as this master knows.
    pub(crate) fn stable_for(&self) -> Duration {
        self.stable_since.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    pub(crate) fn leader_changed(&self) {
        *self.stable_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.leader_changes.inc();
    }

    pub(crate) fn answered(&self, peer: &str, took: Duration) {
        self.round_trips.get_or_create(&self.of(peer)).observe(took.as_secs_f64());
    }

    pub(crate) fn failed(&self, peer: &str) {
        self.peer_failures.get_or_create(&self.of(peer)).inc();
    }

    fn of(&self, peer: &str) -> Peer {
        let mut peers = self.peers();
        if !peers.contains(peer) {
            peers.insert(peer.to_owned());
        }
        Peer { peer: peer.to_owned() }
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the series of masters that are none any more.
    pub(crate) fn keep(&self, members: &BTreeSet<&str>) {
        self.peers().retain(|peer| {
            let stays = members.contains(peer.as_str());
            if !stays {
                let gone = Peer { peer: peer.clone() };
                self.round_trips.remove(&gone);
                self.peer_failures.remove(&gone);
            }
            stays
        });
    }

    pub(crate) fn took_snapshot(&self, took: Duration) {
        self.snapshot.observe(took.as_secs_f64());
    }

    pub(crate) fn restored_snapshot(&self, took: Duration) {
        self.restore.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(meters: &Meters) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        meters.register(&mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn failures_are_counted_by_reason_and_successes_timed() {
        let meters = Meters::default();
        meters.proposed(&Ok(()), Duration::from_millis(3));
        meters.proposed::<()>(&Err(ProposeError::Overloaded), Duration::ZERO);
        let text = text(&meters);
        for line in [
            "quorate_raft_proposal_duration_seconds_count 1",
            "quorate_raft_proposal_duration_seconds_bucket{le=\"0.004\"} 1",
            "quorate_raft_proposals_failed_total{reason=\"overloaded\"} 1",
            "quorate_raft_proposals_failed_total{reason=\"no_space\"} 0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn who_is_no_member_any_more_has_no_series() {
        let meters = Meters::default();
        for peer in ["m2", "m3"] {
            meters.answered(peer, Duration::from_millis(1));
            meters.failed(peer);
        }
        meters.keep(&BTreeSet::from(["m1", "m3"]));
        let text = text(&meters);
        assert!(text.contains("quorate_raft_peer_failures_total{peer=\"m3\"} 1"), "{text}");
        assert!(!text.contains("m2"), "{text}");
    }
}
