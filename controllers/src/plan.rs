//! What a controller decides: effects as data.

use std::time::Duration;

use jiff::Timestamp;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, Key};
use quorate_store::{EventDraft, Write};
use serde_json::Value;

use crate::config::ControllersConfig;
use crate::world::World;

/// What a plan is made from. Nothing else: no clock, no randomness, no I/O.
#[derive(Clone, Copy)]
pub(crate) struct Ctx<'a> {
    /// Mirrors and indexes at one revision.
    pub(crate) world: &'a World,
    /// Settings.
    pub(crate) config: &'a ControllersConfig,
    /// The wall time.
    pub(crate) now: Timestamp,
    /// What became of the last attempt for this key, when it was refused.
    pub(crate) failure: Option<&'a str>,
    /// For node keys: since when nothing was heard of the node.
    pub(crate) silence: Duration,
    /// Since when this leader leads and was not paused: older silence is not the nodes' fault.
    pub(crate) watching_for: Duration,
}

/// What is to be done for one key.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// In this order. The first that fails stops the rest, and the key is planned again.
    pub(crate) steps: Vec<Step>,
    /// Said when the plan is carried out.
    pub(crate) events: Vec<EventDraft>,
    /// Look again after this long although nothing changed.
    pub(crate) wake_after: Option<Duration>,
}

/// One write, and what is said about it. In messages `{name}` stands for the name that the object
/// got, `{error}` for why it was refused.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) write: Write,
    pub(crate) done: Option<EventDraft>,
    pub(crate) refused: Option<EventDraft>,
}

impl Plan {
    pub(crate) fn create(&mut self, resource: GroupResource, object: Value) -> &mut Step {
        self.push(Write::Create { resource, object })
    }

    pub(crate) fn update(
        &mut self,
        stored: &StoredRef,
        object: Value,
        subresource: &'static str,
    ) -> &mut Step {
        self.push(Write::Update { stored: stored.clone(), object, subresource })
    }

    /// Deletes in the background with the kind's own grace period.
    pub(crate) fn delete(&mut self, stored: &StoredRef) -> &mut Step {
        self.delete_with(stored, None, "Background")
    }

    pub(crate) fn delete_with(
        &mut self,
        stored: &StoredRef,
        grace_period_seconds: Option<i64>,
        propagation: &'static str,
    ) -> &mut Step {
        self.push(Write::Delete { stored: stored.clone(), grace_period_seconds, propagation })
    }

    fn push(&mut self, write: Write) -> &mut Step {
        self.steps.push(Step { write, done: None, refused: None });
        let last = self.steps.len() - 1;
        &mut self.steps[last]
    }

    /// Looks again after `after`, or earlier if that was asked for already.
    pub(crate) fn wake_after(&mut self, after: Duration) {
        self.wake_after = Some(self.wake_after.map_or(after, |before| before.min(after)));
    }

    /// Looks again at `time`.
    pub(crate) fn wake_at(&mut self, time: Timestamp, now: Timestamp) {
        self.wake_after(until(time, now));
    }
}

/// How long it is until `time`; 0 when it has passed.
pub(crate) fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// `time` moved on; the end of time when it does not fit.
pub(crate) fn after(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Which controller. The order is of no meaning.
#[allow(clippy::enum_variant_names, reason = "a ReplicationController is called that")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Controller {
    Deployment,
    ReplicaSet,
    ReplicationController,
    DaemonSet,
    StatefulSet,
    CronJob,
    Job,
    Namespace,
    Garbage,
    NodeLifecycle,
    NodeZones,
    TaintEviction,
    NodeIpam,
    ServiceAccount,
    RootCa,
    EndpointSlice,
    EndpointSliceMirroring,
    Endpoints,
    PodGc,
    EventTtl,
    TokenCleaner,
    AccountToken,
    ResourceQuota,
    Disruption,
    ClaimProtection,
    VolumeProtection,
    Certificates,
    Definition,
    PolicyTypes,
}

impl Controller {
    /// The user that the controller writes as, upstream's service accounts.
    pub(crate) fn user(self) -> &'static str {
        match self {
            Self::Deployment => "system:serviceaccount:kube-system:deployment-controller",
            Self::ReplicaSet => "system:serviceaccount:kube-system:replicaset-controller",
            Self::ReplicationController => {
                "system:serviceaccount:kube-system:replication-controller"
            }
            Self::DaemonSet => "system:serviceaccount:kube-system:daemon-set-controller",
            Self::StatefulSet => "system:serviceaccount:kube-system:statefulset-controller",
            Self::CronJob => "system:serviceaccount:kube-system:cronjob-controller",
            Self::Job => "system:serviceaccount:kube-system:job-controller",
            Self::Namespace => "system:serviceaccount:kube-system:namespace-controller",
            Self::Garbage => "system:serviceaccount:kube-system:generic-garbage-collector",
            Self::NodeLifecycle | Self::NodeZones | Self::NodeIpam => {
                "system:serviceaccount:kube-system:node-controller"
            }
            Self::TaintEviction => "system:serviceaccount:kube-system:taint-eviction-controller",
            Self::ServiceAccount => "system:serviceaccount:kube-system:service-account-controller",
            Self::RootCa => "system:serviceaccount:kube-system:root-ca-cert-publisher",
            Self::EndpointSlice => "system:serviceaccount:kube-system:endpointslice-controller",
            Self::EndpointSliceMirroring => {
                "system:serviceaccount:kube-system:endpointslicemirroring-controller"
            }
            Self::Endpoints => "system:serviceaccount:kube-system:endpoint-controller",
            Self::PodGc => "system:serviceaccount:kube-system:pod-garbage-collector",
            Self::EventTtl | Self::Definition => "system:apiserver",
            Self::PolicyTypes => {
                "system:serviceaccount:kube-system:validatingadmissionpolicy-status-controller"
            }
            Self::AccountToken => "system:serviceaccount:kube-system:tokens-controller",
            Self::TokenCleaner => "system:serviceaccount:kube-system:token-cleaner",
            Self::ResourceQuota => "system:serviceaccount:kube-system:resourcequota-controller",
            Self::Disruption => "system:serviceaccount:kube-system:disruption-controller",
            Self::ClaimProtection => "system:serviceaccount:kube-system:pvc-protection-controller",
            Self::Certificates => "system:serviceaccount:kube-system:certificate-controller",
            Self::VolumeProtection => "system:serviceaccount:kube-system:pv-protection-controller",
        }
    }
}

/// One thing to be planned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkKey {
    pub(crate) controller: Controller,
    pub(crate) key: Key,
}

impl WorkKey {
    pub(crate) fn new(controller: Controller, key: Key) -> Self {
        Self { controller, key }
    }
}
