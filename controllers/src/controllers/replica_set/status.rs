//! The status of a ReplicaSet, counted from its pods.

use std::time::Duration;

use crate::model::{Condition, Pod, ReplicaSet, ReplicaSetStatus, condition};
use crate::plan::{Ctx, Plan, after};
use crate::world::Object;

const FAILURE: &str = "ReplicaFailure";

/// The status as it should be. Wakes the key when the next pod becomes available by time alone.
pub(super) fn of(
    ctx: &Ctx<'_>,
    replica_set: &ReplicaSet,
    active: &[&Object<Pod>],
    terminating: Option<i32>,
    plan: &mut Plan,
) -> ReplicaSetStatus {
    let template = &replica_set.spec.template["metadata"]["labels"];
    let labels = template.as_object();
    let min_ready = u64::try_from(replica_set.spec.min_ready_seconds).unwrap_or(0);
    let (mut labeled, mut ready, mut available) = (0, 0, 0);
    for pod in active {
        let pod = &pod.object;
        let has = |(key, value): (&String, &serde_json::Value)| {
            pod.metadata.labels.get(key).map(String::as_str) == value.as_str()
        };
        labeled += i32::from(labels.is_none_or(|labels| labels.iter().all(has)));
        if !pod.ready() {
            continue;
        }
        ready += 1;
        let since = pod.ready_since();
        let from = since.map(|since| after(since, Duration::from_secs(min_ready)));
        match from {
            _ if min_ready == 0 => available += 1,
            Some(from) if from <= ctx.now => available += 1,
            Some(from) => plan.wake_at(from, ctx.now),
            None => {}
        }
    }
    ReplicaSetStatus {
        replicas: i32::try_from(active.len()).unwrap_or(i32::MAX),
        fully_labeled_replicas: labeled,
        ready_replicas: ready,
        available_replicas: available,
        terminating_replicas: terminating,
        observed_generation: replica_set.metadata.generation,
        conditions: conditions(ctx, replica_set, active.len()),
    }
}

/// `ReplicaFailure` while creations or deletions are refused.
fn conditions(ctx: &Ctx<'_>, replica_set: &ReplicaSet, active: usize) -> Vec<Condition> {
    let mut conditions = replica_set.status.conditions.clone();
    let wanted = usize::try_from(replica_set.spec.replicas).unwrap_or(0);
    match ctx.failure {
        Some(_) if condition(&conditions, FAILURE).is_some() => {}
        Some(error) if active != wanted => conditions.push(Condition {
            kind: FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: if active < wanted { "FailedCreate" } else { "FailedDelete" }.to_owned(),
            message: error.to_owned(),
            last_transition_time: Some(super::super::stamp(ctx.now)),
            ..Condition::default()
        }),
        Some(_) => {}
        None => conditions.retain(|condition| condition.kind != FAILURE),
    }
    conditions
}
