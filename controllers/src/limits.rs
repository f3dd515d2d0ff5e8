//! The bounds of the controllers' queues, batches and waits.

use std::time::Duration;

/// Operations in one proposal. A plan with more is carried out in several, one after the other.
pub(crate) const PROPOSAL_OPS_MAX: usize = 500;

/// Bytes of operations in one proposal, about; a quarter of what a log entry may hold, so that
/// other proposals of the same moment fit beside it.
pub(crate) const PROPOSAL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Batches that are on their way at once. Further dirty keys wait in the queue, where a key is kept
/// once however often it is woken.
pub(crate) const BATCHES_IN_FLIGHT_MAX: usize = 4;

/// Keys that are planned before the loop looks at new changes and at the stop signal again.
pub(crate) const KEYS_PER_TURN_MAX: usize = 256;

/// Pods that a ReplicaSet creates or deletes by one plan (upstream's `BurstReplicas`); the next
/// plan goes on from what became of them.
pub(crate) const REPLICA_SET_BURST: usize = 500;

/// Pods that a Job creates or deletes by one plan, and ended pods that it has yet to count at once (upstream's
/// `MaxPodCreateDeletePerSync` and `MaxUncountedPods`); the next plan goes on.
pub(crate) const JOB_BURST: usize = 500;

/// First wait of a Job after a pod of it has failed; doubles with each failure in a row up to [`JOB_BACKOFF_MAX`].
pub(crate) const JOB_BACKOFF_BASE: Duration = Duration::from_secs(10);

/// Longest wait of a Job between two pods that fail.
pub(crate) const JOB_BACKOFF_MAX: Duration = Duration::from_secs(600);

/// Deletions of one namespace's content by one plan; the next plan goes on.
pub(crate) const NAMESPACE_DELETIONS_MAX: usize = 500;

/// Deletions of pods by one plan of the pod garbage collector.
pub(crate) const POD_GC_DELETIONS_MAX: usize = 500;

/// Nodes that get their pod CIDR by one plan.
pub(crate) const IPAM_NODES_MAX: usize = 200;

/// First wait of a key whose write failed; doubles up to [`BACKOFF_MAX`] (workqueue's defaults).
pub(crate) const BACKOFF_BASE: Duration = Duration::from_millis(5);

/// Longest wait of a key whose writes keep failing.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(1000);

/// A key that has just written is not planned again before this: what happens together (hundreds of
/// pods that become ready) then costs one status update instead of one each.
pub(crate) const KEY_COOLDOWN: Duration = Duration::from_millis(20);

/// A key that asks to be planned again at a time that has come is planned after this.
pub(crate) const WAKE_AFTER_MIN: Duration = Duration::from_millis(50);

/// How long one batch may take for admission and decision. Its keys are then planned again, from
/// what the view shows.
pub(crate) const BATCH_TIMEOUT: Duration = Duration::from_secs(60);

/// Keys whose writes wait for somebody outside (webhooks) at a time. A further one has failed, and is planned again
/// later and later.
pub(crate) const OUTSIDE_KEYS_MAX: usize = 64;

/// Writes of one such key that are admitted at a time; the others wait.
pub(crate) const OUTSIDE_STEPS_MAX: usize = 16;

/// A loop that comes this much too late was paused (suspended machine, starved processor):
/// heartbeats may have been missed by us, not by the nodes (design, section 7).
pub(crate) const PAUSE_NOTICED: Duration = Duration::from_secs(2);

/// How often the loop looks whether it was paused.
pub(crate) const PAUSE_WATCH: Duration = Duration::from_millis(500);

/// Endpoints in one EndpointSlice (upstream's `--max-endpoints-per-slice`).
pub(crate) const ENDPOINTS_PER_SLICE_MAX: usize = 100;

/// Addresses in one Endpoints object; beyond it the annotation
/// `endpoints.kubernetes.io/over-capacity` says `truncated`.
pub(crate) const ENDPOINTS_ADDRESSES_MAX: usize = 1000;

/// How long a pod may name a node that does not exist before it is removed (upstream: 40 s).
pub(crate) const GONE_NODE_QUARANTINE: Duration = Duration::from_secs(40);

/// Between two looks of the compactor: what a resource may grow beyond its limits is what is
/// written to it in this time.
pub(crate) const COMPACTION_PERIOD: Duration = Duration::from_secs(5);

/// Between two compactions by age: they cost a proposal each.
pub(crate) const COMPACTION_BY_AGE_PERIOD: Duration = Duration::from_secs(60);

/// Pods that a daemon set creates, and that it deletes, by one plan (upstream's `BurstReplicas`); the next plan goes
/// on.
pub(crate) const DAEMON_SET_BURST: usize = 250;

/// How long the second pod of a daemon set that fails on a node stays there; doubles up to [`DAEMON_BACKOFF_MAX`].
pub(crate) const DAEMON_BACKOFF_BASE: Duration = Duration::from_secs(1);

/// Longest time that a failed pod of a daemon set stays.
pub(crate) const DAEMON_BACKOFF_MAX: Duration = Duration::from_secs(900);

/// Pods that a parallel stateful set creates or deletes by one plan (upstream's `MaxBatchSize`).
pub(crate) const STATEFUL_SET_BURST: usize = 500;

/// Missed schedules of a cron job from which it complains (upstream's number).
pub(crate) const CRON_MISSED_MAX: i64 = 100;
