//! The bounds of the scheduler's queues, batches and waits.

use std::time::Duration;

/// Pods whose decisions travel in one proposal. Further ones go into the next proposal.
pub const BATCH_PODS_MAX: usize = 256;

/// Bytes of the operations of one proposal, about; well below the store's limit for a log entry.
/// A batch that reaches it is proposed as it is.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long decisions are collected before they are proposed, so that the first pod of a burst does
/// not wait for the last one, and the runtime's other tasks get their turn.
pub const BATCH_TIME_MAX: Duration = Duration::from_millis(20);

/// The first wait of a pod after a failed attempt (kube-scheduler's `podInitialBackoffSeconds`).
pub const BACKOFF_INITIAL: Duration = Duration::from_secs(1);

/// The longest wait of a pod after a failed attempt (kube-scheduler's `podMaxBackoffSeconds`). It
/// doubles per attempt up to this.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A pod that nothing woke for this long is tried again anyway (kube-scheduler's
/// `podMaxInUnschedulablePodsDuration`). A pod that such a try places is counted: it means that a
/// queueing hint missed something.
pub const UNSCHEDULABLE_TIME_MAX: Duration = Duration::from_secs(5 * 60);

/// Nodes that are always looked at when only a part of a big cluster is scored (kube-scheduler's
/// `minFeasibleNodesToFind`).
pub const FEASIBLE_NODES_MIN: usize = 100;

/// The least part of a very big cluster that is scored, in percent (kube-scheduler's
/// `minFeasibleNodesPercentageToFind`).
pub const FEASIBLE_PERCENT_MIN: usize = 5;

/// The wait after a proposal that the store could not take (no quorum, overloaded), doubled up to
/// [`WRITE_RETRY_MAX`].
pub const WRITE_RETRY_INITIAL: Duration = Duration::from_millis(50);

/// The longest wait between proposals while the store takes none.
pub const WRITE_RETRY_MAX: Duration = Duration::from_secs(2);

/// The bytes of a condition's or event's message. A longer one is cut (events.k8s.io allows 1 KiB
/// in a note).
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// How often a scheduler that has nothing to do looks whether its leadership still holds.
pub const LEADERSHIP_CHECK: Duration = Duration::from_secs(1);
