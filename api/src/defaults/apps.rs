//! Defaults of the workloads in `apps/v1`.

use serde_json::{Value, json};

use super::pod;
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

fn template(spec: &mut Value) {
    if let Some(template) = tree::child_mut(spec, "template")
        && let Some(pod_spec) = tree::child_mut(template, "spec")
    {
        pod::pod_spec(pod_spec);
    }
}
