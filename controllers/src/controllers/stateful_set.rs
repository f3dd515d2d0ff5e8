//! StatefulSet: pods with names that stay, each with its own claims.
//!
//! Desired: the pods of all ordinals, in their order unless they are parallel; one after the other brought to the
//! newest template, from the last to the first, down to the partition. Writes: pods (create, delete, labels, owner
//! references), claims (create, owner references), revisions, its own status.

mod act;
mod claims;
mod identity;
mod members;
mod revisions;
mod status;

use quorate_state_machine::Key;
use quorate_store::EventDraft;
use serde_json::json;

use super::claim::{self, Manager};
use crate::model::{Pod, StatefulSet, to_value};
use crate::plan::{Ctx, Plan};
use crate::world::Object;
use members::Members;

const COMPONENT: &str = "statefulset-controller";

/// What is to be done for one StatefulSet.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(found) = ctx.world.stateful_sets.get(&key.object) else { return plan };
    let set = &found.object;
    if set.spec.selector.is_empty() {
        return plan;
    }
    let pods = claim(ctx, set, &mut plan);
    let Some(revisions) = revisions::construct(ctx, found, &mut plan) else { return plan };
    let members = Members::of(set, &pods);
    // The status comes before the pods: a refused creation stops what comes after it.
    let status = status::of(ctx, set, &members, &revisions, &mut plan);
    if status != set.status {
        let mut object = to_value(&found.stored);
        object["status"] = json!(status);
        plan.update(&found.stored, object, "status");
    }
    if !set.metadata.terminating() {
        act::act(ctx, set, &members, &revisions, &mut plan);
    }
    revisions::clean_up(set, &revisions, &pods, &mut plan);
    plan
}

/// The pods that are this set's.
fn claim<'a>(ctx: &Ctx<'a>, set: &StatefulSet, plan: &mut Plan) -> Vec<&'a Object<Pod>> {
    let named = |pod: &Pod| {
        identity::parent_and_ordinal(&pod.metadata.name)
            .is_some_and(|(parent, _)| parent == set.metadata.name)
    };
    let manager = Manager {
        meta: &set.metadata,
        api_version: "apps/v1",
        kind: "StatefulSet",
        selector: &set.spec.selector,
        adopts: &|pod| !pod.metadata.terminating() && named(pod),
        adopting: claim::as_it_is,
        releasing: claim::as_it_is,
    };
    manager.pods(ctx, plan)
}

fn event(set: &StatefulSet, warning: bool, reason: &'static str, message: String) -> EventDraft {
    let regarding = set.metadata.regarding("apps/v1", "StatefulSet");
    EventDraft { component: COMPONENT, regarding, warning, reason, message }
}

#[cfg(test)]
mod tests;
