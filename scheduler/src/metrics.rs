//! Metrics, with kube-scheduler's names and labels, so that its dashboards and alerts work.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::queue::Sizes;

/// Label `queue`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueueLabel {
    /// `active`, `backoff`, `unschedulable` or `gated`.
    pub queue: &'static str,
}

/// Labels of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AttemptLabels {
    /// `scheduled`, `unschedulable` or `error`.
    pub result: &'static str,
    /// The profile: the name of the scheduler.
    pub profile: String,
}

/// Label `event`: why pods were put into the active queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabel {
    /// `PodAdd`, `ClusterChange` or `UnschedulableTimeout`.
    pub event: &'static str,
}

/// See the module. Cheap to clone; made once per process and handed to each leadership's scheduler.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) pending: Family<QueueLabel, Gauge>,
    pub(crate) attempts: Family<AttemptLabels, Counter>,
    pub(crate) duration: Family<AttemptLabels, Histogram>,
    pub(crate) pod_attempts: Histogram,
    pub(crate) incoming: Family<EventLabel, Counter>,
    pub(crate) conflicts: Counter,
    pub(crate) batch: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_1, 2.0, 18));
        Self {
            pending: Family::default(),
            attempts: Family::default(),
            duration: Family::new_with_constructor(seconds),
            pod_attempts: Histogram::new(exponential_buckets(1.0, 2.0, 5)),
            incoming: Family::default(),
            conflicts: Counter::default(),
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
        }
    }
}

impl Metrics {
    /// Metrics that `registry` serves.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let it = Self::default();
        let scheduler = registry.sub_registry_with_prefix("scheduler");
        scheduler.register("pending_pods", "Pods that wait, by queue", it.pending.clone());
        scheduler.register(
            "schedule_attempts",
            "Attempts to place pods, by result",
            it.attempts.clone(),
        );
        scheduler.register(
            "scheduling_attempt_duration_seconds",
            "Time of an attempt until its bind is applied",
            it.duration.clone(),
        );
        scheduler.register(
            "pod_scheduling_attempts",
            "Attempts that a pod took until it was bound",
            it.pod_attempts.clone(),
        );
        scheduler.register(
            "queue_incoming_pods",
            "Pods put into the queue, by cause",
            it.incoming.clone(),
        );
        scheduler.register(
            "bind_conflicts",
            "Decisions overtaken by another write of the pod",
            it.conflicts.clone(),
        );
        scheduler.register("batch_operations", "Operations per proposal", it.batch.clone());
        it
    }

    pub(crate) fn sizes(&self, sizes: Sizes) {
        for (queue, size) in [
            ("active", sizes.active),
            ("backoff", sizes.backoff),
            ("unschedulable", sizes.unschedulable),
            ("gated", sizes.gated),
        ] {
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            self.pending.get_or_create(&QueueLabel { queue }).set(size);
        }
    }

    pub(crate) fn attempt(&self, profile: &str, result: &'static str, seconds: f64) {
        let labels = AttemptLabels { result, profile: profile.to_owned() };
        self.attempts.get_or_create(&labels).inc();
        self.duration.get_or_create(&labels).observe(seconds);
    }

    pub(crate) fn incoming(&self, event: &'static str, pods: usize) {
        self.incoming.get_or_create(&EventLabel { event }).inc_by(pods as u64);
    }
}
