//! The status of a stateful set, counted from its pods.

use super::members::{Members, available, revision_of, running_and_ready};
use super::revisions::Revisions;
use crate::model::{StatefulSet, StatefulSetStatus};
use crate::plan::{Ctx, Plan};

/// The status as it should be. Wakes the key when the next pod becomes available by time alone.
pub(super) fn of(
    ctx: &Ctx<'_>,
    set: &StatefulSet,
    members: &Members<'_>,
    revisions: &Revisions<'_>,
    plan: &mut Plan,
) -> StatefulSetStatus {
    let mut status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        current_revision: revisions.current.name.clone(),
        update_revision: revisions.update.name.clone(),
        collision_count: Some(set.status.collision_count.unwrap_or(0)),
        conditions: set.status.conditions.clone(),
        ..StatefulSetStatus::default()
    };
    for pod in members.pods() {
        let pod = &pod.object;
        status.replicas += 1;
        status.ready_replicas += i32::from(running_and_ready(pod));
        status.available_replicas += i32::from(available(ctx, set, pod));
        if !pod.metadata.terminating() {
            let of = |name: &str| i32::from(revision_of(pod) == name);
            status.current_replicas += of(&revisions.current.name);
            status.updated_replicas += of(&revisions.update.name);
        }
        let from = pod.available_from(set.spec.min_ready_seconds);
        if let Some(from) = from.filter(|from| *from > ctx.now) {
            plan.wake_at(from, ctx.now);
        }
    }
    complete(set, &mut status);
    status
}

/// Once all pods are of the newest revision and ready, it is the current one.
fn complete(set: &StatefulSet, status: &mut StatefulSetStatus) {
    let all = set.replicas();
    if !set.spec.update_strategy.on_delete()
        && [status.updated_replicas, status.ready_replicas, status.replicas] == [all; 3]
    {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
}
