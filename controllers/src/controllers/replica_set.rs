//! ReplicaSet: as many pods as asked for.
//!
//! Desired: `spec.replicas` active pods that match the selector and have this ReplicaSet as their
//! controller. Writes: pods (create, delete, owner references), its own status. The view is exact,
//! so upstream's expectations are not needed; a key is never planned while its writes are on their
//! way.

mod ranking;
mod status;

use quorate_state_machine::Key;
use quorate_store::EventDraft;
use serde_json::{Value, json};

use super::claim::{self, Manager};
use crate::limits::REPLICA_SET_BURST;
use crate::model::{Pod, ReplicaSet, to_value};
use crate::plan::{Ctx, Plan};
use crate::resources::PODS;
use crate::world::Object;

const COMPONENT: &str = "replicaset-controller";

/// What is to be done for one ReplicaSet.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(found) = ctx.world.replica_sets.get(&key.object) else {
        return plan;
    };
    let replica_set = &found.object;
    let (active, terminating) = claim(ctx, replica_set, &mut plan);
    // The status comes first: a refused creation stops what comes after it, and must be told.
    let status = status::of(ctx, replica_set, &active, terminating, &mut plan);
    if status != replica_set.status {
        let mut object = to_value(&found.stored);
        object["status"] = json!(status);
        plan.update(&found.stored, object, "status");
    }
    if !replica_set.metadata.terminating() {
        manage(ctx, replica_set, &active, &mut plan);
    }
    plan
}

/// The active pods that are this ReplicaSet's, and how many of its pods are terminating.
fn claim<'a>(
    ctx: &Ctx<'a>,
    replica_set: &ReplicaSet,
    plan: &mut Plan,
) -> (Vec<&'a Object<Pod>>, i32) {
    let manager = Manager {
        meta: &replica_set.metadata,
        api_version: "apps/v1",
        kind: "ReplicaSet",
        selector: &replica_set.spec.selector,
        adopts: Pod::active,
        adopting: claim::as_it_is,
        releasing: claim::as_it_is,
    };
    let (active, ended): (Vec<_>, Vec<_>) =
        manager.pods(ctx, plan).into_iter().partition(|pod| pod.object.active());
    let terminating =
        |pod: &&&Object<Pod>| pod.object.metadata.terminating() && !pod.object.ended();
    let terminating = ended.iter().filter(terminating).count();
    (active, i32::try_from(terminating).unwrap_or(i32::MAX))
}

/// Creates what is missing or deletes what is too much.
fn manage(ctx: &Ctx<'_>, replica_set: &ReplicaSet, active: &[&Object<Pod>], plan: &mut Plan) {
    let wanted = usize::try_from(replica_set.spec.replicas).unwrap_or(0);
    if active.len() < wanted {
        // After a refusal one try tells whether the rest would be refused as well.
        let burst = if ctx.failure.is_some() { 1 } else { REPLICA_SET_BURST };
        for _ in 0..(wanted - active.len()).min(burst) {
            let step = plan.create(PODS.group_resource(), pod_of(replica_set));
            step.done = Some(event(replica_set, false, "SuccessfulCreate", "Created pod: {name}"));
            step.refused =
                Some(event(replica_set, true, "FailedCreate", "Error creating: {error}"));
        }
    } else if active.len() > wanted {
        let excess = (active.len() - wanted).min(REPLICA_SET_BURST);
        for pod in ranking::first_to_go(ctx, replica_set, active, excess) {
            let step = plan.delete(&pod.stored);
            step.done = Some(event(replica_set, false, "SuccessfulDelete", "Deleted pod: {name}"));
            step.refused =
                Some(event(replica_set, true, "FailedDelete", "Error deleting: {error}"));
        }
    }
}

fn event(
    replica_set: &ReplicaSet,
    warning: bool,
    reason: &'static str,
    message: &str,
) -> EventDraft {
    EventDraft {
        component: COMPONENT,
        regarding: replica_set.metadata.regarding("apps/v1", "ReplicaSet"),
        warning,
        reason,
        message: message.to_owned(),
    }
}

/// A pod as the template says.
fn pod_of(replica_set: &ReplicaSet) -> Value {
    let template = &replica_set.spec.template;
    let mut metadata = json!({
        "generateName": format!("{}-", replica_set.metadata.name),
        "namespace": replica_set.metadata.namespace,
        "ownerReferences": [replica_set.metadata.as_controller("apps/v1", "ReplicaSet")],
    });
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template["spec"],
    })
}

#[cfg(test)]
mod tests;
