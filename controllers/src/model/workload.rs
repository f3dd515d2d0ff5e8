//! Replication controllers, daemon sets, stateful sets and revisions, as far as plans look at them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Condition, Meta, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus, is_zero, is_zero64};
use crate::selector::LabelSelector;

/// A replication controller, read as the ReplicaSet that it amounts to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "PlainController")]
pub(crate) struct ReplicationController(pub(crate) ReplicaSet);

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct PlainController {
    metadata: Meta,
    spec: PlainSpec,
    status: ReplicaSetStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct PlainSpec {
    replicas: Option<i32>,
    min_ready_seconds: i32,
    selector: BTreeMap<String, String>,
    template: Value,
}

impl From<PlainController> for ReplicationController {
    fn from(plain: PlainController) -> Self {
        let PlainSpec { replicas, min_ready_seconds, selector, template } = plain.spec;
        let selector = LabelSelector { match_labels: selector, ..LabelSelector::default() };
        let replicas = replicas.unwrap_or(1);
        let spec = ReplicaSetSpec { replicas, min_ready_seconds, selector, template };
        Self(ReplicaSet { metadata: plain.metadata, spec, status: plain.status })
    }
}

/// A version of a workload's template.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ControllerRevision {
    pub(crate) metadata: Meta,
    pub(crate) data: Value,
    pub(crate) revision: i64,
}

// === DaemonSet ===

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DaemonSet {
    pub(crate) metadata: Meta,
    pub(crate) spec: DaemonSetSpec,
    pub(crate) status: DaemonSetStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DaemonSetSpec {
    pub(crate) selector: LabelSelector,
    pub(crate) template: Value,
    pub(crate) update_strategy: UpdateStrategy,
    pub(crate) min_ready_seconds: i32,
    pub(crate) revision_history_limit: Option<i32>,
}

/// Of daemon sets and stateful sets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct UpdateStrategy {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) rolling_update: RollingUpdate,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RollingUpdate {
    pub(crate) max_unavailable: Value,
    pub(crate) max_surge: Value,
    pub(crate) partition: i32,
}

impl UpdateStrategy {
    pub(crate) fn on_delete(&self) -> bool {
        self.kind == "OnDelete"
    }
}

/// As it is stored: most numbers are always written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DaemonSetStatus {
    pub(crate) current_number_scheduled: i32,
    pub(crate) number_misscheduled: i32,
    pub(crate) desired_number_scheduled: i32,
    pub(crate) number_ready: i32,
    #[serde(skip_serializing_if = "is_zero64")]
    pub(crate) observed_generation: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) updated_number_scheduled: i32,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) number_available: i32,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) number_unavailable: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) collision_count: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) conditions: Vec<Condition>,
}

// === StatefulSet ===

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StatefulSet {
    pub(crate) metadata: Meta,
    pub(crate) spec: StatefulSetSpec,
    pub(crate) status: StatefulSetStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StatefulSetSpec {
    pub(crate) replicas: Option<i32>,
    pub(crate) selector: LabelSelector,
    pub(crate) template: Value,
    pub(crate) volume_claim_templates: Vec<Value>,
    pub(crate) service_name: String,
    pub(crate) pod_management_policy: String,
    pub(crate) update_strategy: UpdateStrategy,
    pub(crate) revision_history_limit: Option<i32>,
    pub(crate) min_ready_seconds: i32,
    pub(crate) persistent_volume_claim_retention_policy: Option<ClaimRetention>,
    pub(crate) ordinals: Option<Ordinals>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ordinals {
    pub(crate) start: i32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaimRetention {
    pub(crate) when_deleted: String,
    pub(crate) when_scaled: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StatefulSetStatus {
    #[serde(skip_serializing_if = "is_zero64")]
    pub(crate) observed_generation: i64,
    pub(crate) replicas: i32,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) ready_replicas: i32,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) current_replicas: i32,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) updated_replicas: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) current_revision: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) update_revision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) collision_count: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) conditions: Vec<Condition>,
    pub(crate) available_replicas: i32,
}

impl StatefulSet {
    /// The lowest ordinal.
    pub(crate) fn start(&self) -> i32 {
        self.spec.ordinals.as_ref().map_or(0, |ordinals| ordinals.start)
    }

    pub(crate) fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// One after the other, in the order of their ordinals.
    pub(crate) fn ordered(&self) -> bool {
        self.spec.pod_management_policy != "Parallel"
    }

    /// Whether an ordinal is one of those that are to be.
    pub(crate) fn includes(&self, ordinal: i32) -> bool {
        let start = self.start();
        (start..start.saturating_add(self.replicas())).contains(&ordinal)
    }
}
