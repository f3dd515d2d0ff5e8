//! The status of a daemon set, counted node by node.

use super::nodes::{Fit, Judge};
use super::{ByNode, available, is_updated};
use crate::model::{DaemonSet, DaemonSetStatus};
use crate::plan::{Ctx, Plan};

/// The status as it should be. Wakes the key when the next pod becomes available by time alone.
pub(super) fn of(
    ctx: &Ctx<'_>,
    set: &DaemonSet,
    pods: &ByNode<'_>,
    hash: &str,
    plan: &mut Plan,
) -> DaemonSetStatus {
    let judge = Judge::new(set);
    let mut status = DaemonSetStatus {
        observed_generation: set.metadata.generation,
        collision_count: set.status.collision_count,
        conditions: set.status.conditions.clone(),
        ..DaemonSetStatus::default()
    };
    for node in ctx.world.all_nodes() {
        let there = pods.get(&node.object.metadata.name);
        if judge.fit(&node.object) != Fit::Runs {
            status.number_misscheduled += i32::from(there.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = there.and_then(|there| there.first()) else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pod.object.ready());
        status.number_available += i32::from(available(ctx, set, &pod.object));
        status.updated_number_scheduled += i32::from(is_updated(set, &pod.object, hash));
    }
    for pod in pods.values().flatten() {
        let from = pod.object.available_from(set.spec.min_ready_seconds);
        if let Some(from) = from.filter(|from| *from > ctx.now) {
            plan.wake_at(from, ctx.now);
        }
    }
    status.number_unavailable = status.desired_number_scheduled - status.number_available;
    status
}
