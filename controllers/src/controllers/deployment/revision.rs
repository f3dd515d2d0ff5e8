//! Revisions of a Deployment: numbers, and how many old ones are kept.

use super::draft::{Draft, REVISION, SetDraft};
use super::status;

/// The highest revision; 0 without any.
pub(super) fn highest(sets: &[SetDraft<'_>]) -> i64 {
    sets.iter().filter_map(|set| set.number(REVISION)).max().unwrap_or(0)
}

/// Deletes ReplicaSets of old revisions beyond `revisionHistoryLimit`, lowest revisions first.
/// Those that still have or want pods stay.
pub(super) fn clean_up(draft: &mut Draft<'_>) {
    let Some(limit) =
        draft.deployment.spec.revision_history_limit.filter(|limit| *limit != i32::MAX)
    else {
        return;
    };
    let limit = usize::try_from(limit).unwrap_or(0);
    let alive =
        |set: &SetDraft<'_>| set.object().is_some_and(|object| !object.metadata.terminating());
    let mut old: Vec<&mut SetDraft<'_>> = draft.old.iter_mut().filter(|set| alive(set)).collect();
    let Some(excess) = old.len().checked_sub(limit) else {
        return;
    };
    old.sort_by_key(|set| (set.number(REVISION).unwrap_or(0), set.created()));
    for set in old.into_iter().take(excess) {
        let idle = set.object().is_some_and(|object| {
            object.spec.replicas == 0
                && object.metadata.generation <= set.status.observed_generation
        });
        set.delete = idle && set.replicas == 0 && set.status.replicas == 0;
    }
}

/// As [`clean_up`], once the rollout is complete.
pub(super) fn clean_up_when_complete(draft: &mut Draft<'_>) {
    if status::is_complete(draft.deployment, &draft.deployment.status) {
        clean_up(draft);
    }
}
