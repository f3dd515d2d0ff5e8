//! Deployment: ReplicaSets of the newest template up, those of older ones down, within what the
//! strategy allows.
//!
//! Desired: `spec`. Writes: its ReplicaSets (create, scale, annotations, owner references, deletion
//! of old revisions), its own status and revision annotation. Each plan makes one step of a
//! rollout, as upstream's sync does; ReplicaSets' statuses bring the next. All changes of one
//! ReplicaSet by one plan are one write.

mod draft;
mod fenceposts;
pub(super) mod hash;
mod new_replica_set;
mod revision;
mod rollout;
mod scale;
mod status;

use quorate_state_machine::Key;
use quorate_store::EventDraft;
use serde_json::json;

use crate::model::{Deployment, to_value};
use crate::plan::{Ctx, Plan};
use crate::world::{Object, in_namespace};
use draft::{Draft, SetDraft};

const COMPONENT: &str = "deployment-controller";

/// What is to be done for one Deployment.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let Some(found) = ctx.world.deployments.get(&key.object) else {
        return Plan::default();
    };
    if found.object.spec.selector.is_empty() {
        return selects_everything(found);
    }
    let mut plan = Plan::default();
    let sets = claim(ctx, &found.object, &mut plan);
    let mut draft = Draft::new(ctx, found, sets);
    if found.object.metadata.terminating() {
        status::sync(&mut draft);
    } else {
        status::note_pause(&mut draft);
        if found.object.spec.paused || scale::is_asked_for(&draft) {
            new_replica_set::find(&mut draft);
            scale::run(&mut draft);
            if found.object.spec.paused {
                revision::clean_up(&mut draft);
            }
            status::sync(&mut draft);
        } else if found.object.spec.strategy.kind == "Recreate" {
            rollout::recreate(&mut draft);
            status::sync_rollout(&mut draft);
        } else {
            rollout::rolling(&mut draft);
            status::sync_rollout(&mut draft);
        }
    }
    draft.finish(plan)
}

/// Upstream refuses to act on a selector that selects everything.
fn selects_everything(found: &Object<Deployment>) -> Plan {
    let mut plan = Plan::default();
    let deployment = &found.object;
    if deployment.status.observed_generation < deployment.metadata.generation {
        let mut object = to_value(&found.stored);
        object["status"]["observedGeneration"] = json!(deployment.metadata.generation);
        plan.update(&found.stored, object, "status").done = Some(EventDraft {
            component: COMPONENT,
            regarding: deployment.metadata.regarding("apps/v1", "Deployment"),
            warning: true,
            reason: "SelectingAll",
            message: "This deployment is selecting all pods. A non-empty selector is required."
                .to_owned(),
        });
    }
    plan
}

/// The ReplicaSets of this Deployment, oldest first. Matching ones that nobody manages are adopted,
/// own ones that no longer match are released.
fn claim<'a>(ctx: &Ctx<'a>, deployment: &Deployment, plan: &mut Plan) -> Vec<SetDraft<'a>> {
    let meta = &deployment.metadata;
    let selector = &deployment.spec.selector;
    let mut sets = Vec::new();
    for set in ctx.world.replica_sets_owned_by(&meta.uid) {
        if !set.object.metadata.is_controlled_by(&meta.uid) {
            continue;
        }
        if selector.selects(&set.object.metadata.labels) {
            sets.push(SetDraft::of(set));
        } else if !meta.terminating() {
            let mut object = to_value(&set.stored);
            super::garbage::remove_owners(&mut object, |owner| owner == meta.uid);
            plan.update(&set.stored, object, "");
        }
    }
    if !meta.terminating() {
        let owner = meta.as_controller("apps/v1", "Deployment");
        let all = &ctx.world.replica_sets;
        for orphan in in_namespace(&all.snapshot(), &meta.namespace) {
            let set = &orphan.object.metadata;
            if set.controller().is_none() && !set.terminating() && selector.selects(&set.labels) {
                // Looked up again because the snapshot does not live as long as the world.
                if let Some(set) = all.get(&orphan.stored.key.object) {
                    sets.push(SetDraft::adopted(set, owner.clone()));
                }
            }
        }
    }
    sets.sort_by(|a, b| a.age_order(b));
    sets
}

#[cfg(test)]
mod tests;
