//! ReplicaSet: as many pods as asked for.
//!
//! Desired: `spec.replicas` active pods that match the selector and have this ReplicaSet as their
//! controller. Writes: pods (create, delete, owner references), its own status. The view is exact,
//! so upstream's expectations are not needed; a key is never planned while its writes are on their
//! way.

mod ranking;
mod status;

use quorate_state_machine::Key;
use quorate_state_machine::object::StoredRef;
use quorate_store::EventDraft;
use serde_json::json;

use super::claim::{self, Manager};
use super::pod_template;
use crate::limits::REPLICA_SET_BURST;
use crate::model::{Pod, ReplicaSet, to_value};
use crate::plan::{Ctx, Plan};
use crate::resources::PODS;
use crate::world::Object;

/// What differs between the kinds that keep a number of pods.
pub(super) struct Kind {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) component: &'static str,
    /// Whether its status says how many of its pods are terminating.
    pub(super) tells_terminating: bool,
}

const REPLICA_SET: Kind = Kind {
    api_version: "apps/v1",
    kind: "ReplicaSet",
    component: "replicaset-controller",
    tells_terminating: true,
};

/// What is to be done for one ReplicaSet.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    match ctx.world.replica_sets.get(&key.object) {
        Some(found) => plan_for(ctx, &REPLICA_SET, &found.object, &found.stored),
        None => Plan::default(),
    }
}

/// What is to be done for one ReplicaSet, or for what works as one.
pub(super) fn plan_for(
    ctx: &Ctx<'_>,
    kind: &Kind,
    replica_set: &ReplicaSet,
    stored: &StoredRef,
) -> Plan {
    let mut plan = Plan::default();
    let (active, terminating) = claim(ctx, kind, replica_set, &mut plan);
    // The status comes first: a refused creation stops what comes after it, and must be told.
    let terminating = kind.tells_terminating.then_some(terminating);
    let status = status::of(ctx, replica_set, &active, terminating, &mut plan);
    if status != replica_set.status {
        let mut object = to_value(stored);
        object["status"] = json!(status);
        plan.update(stored, object, "status");
    }
    if !replica_set.metadata.terminating() {
        manage(ctx, kind, replica_set, &active, &mut plan);
    }
    plan
}

/// The active pods that are this ReplicaSet's, and how many of its pods are terminating.
fn claim<'a>(
    ctx: &Ctx<'a>,
    kind: &Kind,
    replica_set: &ReplicaSet,
    plan: &mut Plan,
) -> (Vec<&'a Object<Pod>>, i32) {
    let manager = Manager {
        meta: &replica_set.metadata,
        api_version: kind.api_version,
        kind: kind.kind,
        selector: &replica_set.spec.selector,
        adopts: &Pod::active,
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
fn manage(
    ctx: &Ctx<'_>,
    kind: &Kind,
    replica_set: &ReplicaSet,
    active: &[&Object<Pod>],
    plan: &mut Plan,
) {
    let event = |warning, reason, message: &str| event(kind, replica_set, warning, reason, message);
    let template = &replica_set.spec.template;
    let wanted = usize::try_from(replica_set.spec.replicas).unwrap_or(0);
    if active.len() < wanted {
        // After a refusal one try tells whether the rest would be refused as well.
        let burst = if ctx.failure.is_some() { 1 } else { REPLICA_SET_BURST };
        for _ in 0..(wanted - active.len()).min(burst) {
            let step = plan.create(
                PODS.group_resource(),
                pod_template::pod(template, &replica_set.metadata, kind.api_version, kind.kind),
            );
            step.done = Some(event(false, "SuccessfulCreate", "Created pod: {name}"));
            step.refused = Some(event(true, "FailedCreate", "Error creating: {error}"));
        }
    } else if active.len() > wanted {
        let excess = (active.len() - wanted).min(REPLICA_SET_BURST);
        for pod in ranking::first_to_go(ctx, replica_set, active, excess) {
            let step = plan.delete(&pod.stored);
            step.done = Some(event(false, "SuccessfulDelete", "Deleted pod: {name}"));
            step.refused = Some(event(true, "FailedDelete", "Error deleting: {error}"));
        }
    }
}

fn event(
    kind: &Kind,
    replica_set: &ReplicaSet,
    warning: bool,
    reason: &'static str,
    message: &str,
) -> EventDraft {
    EventDraft {
        component: kind.component,
        regarding: replica_set.metadata.regarding(kind.api_version, kind.kind),
        warning,
        reason,
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
