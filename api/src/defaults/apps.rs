//! Defaults of the workloads in `apps/v1`.

use serde_json::{Value, json};

use super::{pod, storage};
use crate::tree;

/// `SetDefaults_Deployment`.
pub(crate) fn deployment(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    tree::default(spec, "replicas", 1);
    if let Some(strategy) = tree::child_mut(spec, "strategy") {
        tree::default_text(strategy, "type", "RollingUpdate");
        if tree::text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = tree::child_mut(strategy, "rollingUpdate")
        {
            tree::default(rolling, "maxUnavailable", json!("25%"));
            tree::default(rolling, "maxSurge", json!("25%"));
        }
    }
    tree::default(spec, "revisionHistoryLimit", 10);
    tree::default(spec, "progressDeadlineSeconds", 600);
    template(spec);
}

/// `SetDefaults_ReplicaSet`.
pub(crate) fn replica_set(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    tree::default(spec, "replicas", 1);
    template(spec);
}

/// `SetDefaults_DaemonSet`.
pub(crate) fn daemon_set(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    if let Some(strategy) = tree::child_mut(spec, "updateStrategy") {
        tree::default_text(strategy, "type", "RollingUpdate");
        if tree::text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = tree::child_mut(strategy, "rollingUpdate")
        {
            tree::default(rolling, "maxUnavailable", 1);
            tree::default(rolling, "maxSurge", 0);
        }
    }
    tree::default(spec, "revisionHistoryLimit", 10);
    template(spec);
}

/// `SetDefaults_StatefulSet`, and the kind of its claims.
pub(crate) fn stateful_set(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    tree::default_text(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = tree::child_mut(spec, "updateStrategy") {
        tree::default_text(strategy, "type", "RollingUpdate");
        if tree::text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = tree::child_mut(strategy, "rollingUpdate")
        {
            tree::default(rolling, "partition", 0);
            tree::default(rolling, "maxUnavailable", 1);
        }
    }
    if let Some(policy) = tree::child_mut(spec, "persistentVolumeClaimRetentionPolicy") {
        for name in ["whenDeleted", "whenScaled"] {
            tree::default_text(policy, name, "Retain");
        }
    }
    tree::default(spec, "replicas", 1);
    tree::default(spec, "revisionHistoryLimit", 10);
    for claim in tree::items_mut(spec, "volumeClaimTemplates") {
        tree::set(claim, "apiVersion", "v1");
        tree::set(claim, "kind", "PersistentVolumeClaim");
        storage::claim(claim);
    }
    template(spec);
}

/// The pod spec of a workload.
pub(super) fn template(spec: &mut Value) {
    if let Some(template) = tree::child_mut(spec, "template")
        && let Some(pod_spec) = tree::child_mut(template, "spec")
    {
        pod::pod_spec(pod_spec);
    }
}
