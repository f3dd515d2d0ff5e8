//! One step of a rollout: rolling, or recreating.

use super::draft::{Draft, SetDraft};
use super::{fenceposts, new_replica_set, revision};

/// New pods up to the surge, old ones down while enough are available.
pub(super) fn rolling(draft: &mut Draft<'_>) {
    new_replica_set::find_or_create(draft);
    if scale_new_up(draft) || scale_old_down(draft) {
        return;
    }
    revision::clean_up_when_complete(draft);
}

/// All old pods go before the first new one comes.
pub(super) fn recreate(draft: &mut Draft<'_>) {
    new_replica_set::find(draft);
    let desired = draft.deployment.spec.replicas;
    let mut scaled = false;
    for set in draft.old.iter_mut().filter(|set| set.replicas > 0) {
        scaled |= set.scale(0, desired, 0);
    }
    if scaled || old_pods_run(draft) {
        return;
    }
    if draft.new.is_none() {
        new_replica_set::find_or_create(draft);
    }
    if let Some(new) = draft.new.as_mut().filter(|new| new.replicas != desired) {
        new.scale(desired, desired, 0);
    }
    revision::clean_up_when_complete(draft);
}

/// How many replicas the newest ReplicaSet may have, when it has `now`.
pub(super) fn replicas_of_new(draft: &Draft<'_>, now: i32) -> i32 {
    let desired = draft.deployment.spec.replicas;
    if draft.deployment.spec.strategy.kind == "Recreate" {
        return desired;
    }
    let (surge, _) = fenceposts::of(draft.deployment);
    let room = desired.saturating_add(surge).saturating_sub(draft.replicas());
    if room <= 0 { now } else { now + room.min(desired - now) }
}

fn scale_new_up(draft: &mut Draft<'_>) -> bool {
    let desired = draft.deployment.spec.replicas;
    let (surge, _) = fenceposts::of(draft.deployment);
    let Some(now) = draft.new.as_ref().map(|new| new.replicas) else {
        return false;
    };
    let wanted = if now > desired { desired } else { replicas_of_new(draft, now) };
    wanted != now && draft.new.as_mut().is_some_and(|new| new.scale(wanted, desired, surge))
}

fn scale_old_down(draft: &mut Draft<'_>) -> bool {
    let Some(new) = &draft.new else {
        return false;
    };
    let desired = draft.deployment.spec.replicas;
    let (surge, unavailable) = fenceposts::of(draft.deployment);
    let at_least = desired - unavailable;
    let new_unavailable = new.replicas - new.status.available_replicas;
    let may_go = draft.replicas() - at_least - new_unavailable;
    if draft.old.iter().all(|set| set.replicas == 0) || may_go <= 0 {
        return false;
    }
    // Pods that are not available cost nothing; they must not hold up the rollout either.
    let mut left = may_go;
    let mut scaled = false;
    for set in draft.old.iter_mut().filter(|set| set.replicas > 0) {
        let unhealthy = (set.replicas - set.status.available_replicas).max(0);
        let down = unhealthy.min(left);
        left -= down;
        scaled |= down > 0 && set.scale(set.replicas - down, desired, surge);
    }
    let mut left = draft.available() - at_least;
    for set in draft.old.iter_mut().filter(|set| set.replicas > 0) {
        let down = set.replicas.min(left.max(0));
        left -= down;
        scaled |= down > 0 && set.scale(set.replicas - down, desired, surge);
    }
    scaled
}

/// Whether a pod of an old ReplicaSet may still run: counted, or being deleted.
fn old_pods_run(draft: &Draft<'_>) -> bool {
    let runs = |set: &SetDraft<'_>| {
        let uid = set.object().map_or("", |object| object.metadata.uid.as_str());
        set.status.replicas > 0
            || draft
                .ctx
                .world
                .pods_owned_by(uid)
                .any(|pod| pod.object.metadata.is_controlled_by(uid) && !pod.object.ended())
    };
    draft.old.iter().any(runs)
}
