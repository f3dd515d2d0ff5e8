//! Another `spec.replicas`, as opposed to another template.

use std::cmp::Reverse;

use super::draft::{DESIRED_REPLICAS, Draft, MAX_REPLICAS, SetDraft};
use super::fenceposts;

/// Whether a ReplicaSet with replicas was made for another number of the Deployment's.
pub(super) fn is_asked_for(draft: &Draft<'_>) -> bool {
    let desired = i64::from(draft.deployment.spec.replicas);
    draft
        .sets()
        .filter(|set| set.replicas > 0)
        .any(|set| set.number(DESIRED_REPLICAS).is_some_and(|number| number != desired))
}

/// Scales without rolling: the only active ReplicaSet, or all in proportion.
pub(super) fn run(draft: &mut Draft<'_>) {
    let desired = draft.deployment.spec.replicas;
    let (surge, _) = fenceposts::of(draft.deployment);
    if let Some(set) = only_active_or_latest(draft) {
        set.scale(desired, desired, surge);
        return;
    }
    if is_saturated(draft) {
        for set in draft.old.iter_mut().filter(|set| set.replicas > 0) {
            set.scale(0, desired, surge);
        }
        return;
    }
    if draft.deployment.spec.strategy.kind == "Recreate" {
        // Nothing to share out; but noted, else the Deployment would seem to be scaled for ever.
        for set in draft.old.iter_mut().chain(&mut draft.new).filter(|set| set.replicas > 0) {
            set.annotate_replicas(desired, surge);
        }
    } else {
        in_proportion(draft, desired, surge);
    }
}

/// With at most one active ReplicaSet that one, else the newest; `None` with several.
fn only_active_or_latest<'a, 'b>(draft: &'b mut Draft<'a>) -> Option<&'b mut SetDraft<'a>> {
    let active = draft.sets().filter(|set| set.replicas > 0).count();
    match active {
        0 => draft.new.as_mut().or_else(|| draft.old.last_mut()),
        1 => draft.old.iter_mut().chain(&mut draft.new).find(|set| set.replicas > 0),
        _ => None,
    }
}

/// Whether the newest ReplicaSet has all replicas, available, so that old ones are not needed.
fn is_saturated(draft: &Draft<'_>) -> bool {
    let desired = draft.deployment.spec.replicas;
    draft.new.as_ref().is_some_and(|new| {
        new.replicas == desired
            && new.number(DESIRED_REPLICAS) == Some(i64::from(desired))
            && new.status.available_replicas == desired
    })
}

/// In the middle of a rollout every active ReplicaSet gets its share; what rounding leaves goes to
/// the first.
fn in_proportion(draft: &mut Draft<'_>, desired: i32, surge: i32) {
    let allowed = if desired > 0 { desired.saturating_add(surge) } else { 0 };
    let to_add = allowed - draft.replicas();
    let running = i64::from(draft.base.replicas);
    let mut active: Vec<&mut SetDraft<'_>> =
        draft.old.iter_mut().chain(&mut draft.new).filter(|set| set.replicas > 0).collect();
    if to_add > 0 {
        active.sort_by_key(|set| (Reverse(set.replicas), Reverse(set.created())));
    } else {
        active.sort_by_key(|set| (Reverse(set.replicas), set.created()));
    }
    let mut added = 0;
    let mut sizes = Vec::with_capacity(active.len());
    for set in &active {
        let share = proportion(set, desired, surge, running, to_add, added);
        added += share;
        sizes.push(set.replicas + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (set, size) in active.into_iter().zip(sizes) {
        set.scale(size, desired, surge);
    }
}

/// `running`: the Deployment's `status.replicas`, for a set that nobody has annotated.
fn proportion(
    set: &SetDraft<'_>,
    desired: i32,
    surge: i32,
    running: i64,
    to_add: i32,
    added: i32,
) -> i32 {
    if to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = if desired == 0 {
        -set.replicas
    } else {
        let max = i64::from(desired) + i64::from(surge);
        let before = set.number(MAX_REPLICAS).filter(|max| *max != 0).unwrap_or(running);
        if before == 0 {
            return 0;
        }
        // Round half away from zero, as Go's integer.RoundToInt32.
        let product = i64::from(set.replicas) * max;
        let rounded = (2 * product + before) / (2 * before);
        i32::try_from(rounded).unwrap_or(i32::MAX) - set.replicas
    };
    let allowed = to_add - added;
    if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
}
