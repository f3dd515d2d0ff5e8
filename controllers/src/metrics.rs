//! What the controllers count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::plan::Controller;

/// Which controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    controller: String,
}

/// Counters of all leaderships of this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ControllersMetrics {
    plans: Family<Labels, Counter>,
    writes: Family<Labels, Counter>,
    conflicts: Family<Labels, Counter>,
    failures: Family<Labels, Counter>,
    resync_repairs: Family<Labels, Counter>,
    ready: Gauge,
}

impl ControllersMetrics {
    /// Puts the metrics where `/metrics` finds them.
    pub fn register(&self, registry: &mut Registry) {
        for controller in ALL {
            // So that each is 0 before it first happens.
            for counters in
                [&self.plans, &self.writes, &self.conflicts, &self.failures, &self.resync_repairs]
            {
                drop(counters.get_or_create(&labels(controller)));
            }
        }
        let registry = registry.sub_registry_with_prefix("quorate_controller");
        registry.register("plans", "Plans made", self.plans.clone());
        registry.register("writes", "Writes that took effect", self.writes.clone());
        registry.register(
            "conflicts",
            "Keys planned again after a conflict",
            self.conflicts.clone(),
        );
        registry.register("failures", "Keys whose writes were refused", self.failures.clone());
        registry.register(
            "resync_repairs",
            "Plans with writes that only the periodic resync asked for; should be 0",
            self.resync_repairs.clone(),
        );
        registry.register("queue_ready", "Keys that wait to be planned", self.ready.clone());
    }

    /// Repairs that only the periodic resync found, over all controllers: should be 0.
    #[must_use]
    pub fn resync_repairs(&self) -> u64 {
        ALL.iter()
            .map(|controller| self.resync_repairs.get_or_create(&labels(*controller)).get())
            .sum()
    }

    pub(crate) fn planned(&self, controller: Controller) {
        self.plans.get_or_create(&labels(controller)).inc();
    }

    pub(crate) fn wrote(&self, controller: Controller, operations: u64) {
        self.writes.get_or_create(&labels(controller)).inc_by(operations);
    }

    pub(crate) fn conflict(&self, controller: Controller) {
        self.conflicts.get_or_create(&labels(controller)).inc();
    }

    pub(crate) fn failed(&self, controller: Controller) {
        self.failures.get_or_create(&labels(controller)).inc();
    }

    pub(crate) fn repaired_by_resync(&self, controller: Controller) {
        self.resync_repairs.get_or_create(&labels(controller)).inc();
    }

    pub(crate) fn set_ready(&self, keys: usize) {
        self.ready.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }
}

const ALL: [Controller; 29] = [
    Controller::Deployment,
    Controller::ReplicaSet,
    Controller::ReplicationController,
    Controller::DaemonSet,
    Controller::StatefulSet,
    Controller::CronJob,
    Controller::Job,
    Controller::Namespace,
    Controller::Garbage,
    Controller::NodeLifecycle,
    Controller::NodeZones,
    Controller::TaintEviction,
    Controller::NodeIpam,
    Controller::ServiceAccount,
    Controller::Definition,
    Controller::PolicyTypes,
    Controller::RootCa,
    Controller::EndpointSlice,
    Controller::EndpointSliceMirroring,
    Controller::Endpoints,
    Controller::PodGc,
    Controller::EventTtl,
    Controller::TokenCleaner,
    Controller::AccountToken,
    Controller::ResourceQuota,
    Controller::Disruption,
    Controller::ClaimProtection,
    Controller::VolumeProtection,
    Controller::Certificates,
];

fn labels(controller: Controller) -> Labels {
    Labels { controller: format!("{controller:?}") }
}
