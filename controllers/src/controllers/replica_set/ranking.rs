//! Which pods go first when there are too many: upstream's `ActivePodsWithRanks`.

use std::cmp::Ordering;
use std::collections::HashMap;

use jiff::Timestamp;

use crate::model::{Pod, ReplicaSet};
use crate::plan::Ctx;
use crate::world::Object;

/// The annotation by which a pod says how much its loss costs.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What decides about a pod, in this order.
struct Ranked<'a> {
    pod: &'a Object<Pod>,
    assigned: bool,
    phase: u8,
    ready: bool,
    cost: i32,
    doubled: usize,
    ready_since: Option<Timestamp>,
    restarts: i32,
}

/// The `count` pods whose loss hurts least.
pub(super) fn first_to_go<'a>(
    ctx: &Ctx<'_>,
    replica_set: &ReplicaSet,
    active: &[&'a Object<Pod>],
    count: usize,
) -> Vec<&'a Object<Pod>> {
    if count >= active.len() {
        return active.to_vec();
    }
    let on_node = related_by_node(ctx, replica_set, active);
    let mut ranked: Vec<Ranked<'_>> = active.iter().map(|pod| rank(pod, &on_node)).collect();
    ranked.sort_by(|a, b| compare(a, b, ctx.now));
    ranked.into_iter().take(count).map(|ranked| ranked.pod).collect()
}

/// Active pods per node, those of ReplicaSets with the same controller included: pods of one
/// Deployment that share a node are worth less.
fn related_by_node(
    ctx: &Ctx<'_>,
    replica_set: &ReplicaSet,
    active: &[&Object<Pod>],
) -> HashMap<String, usize> {
    let mut count = HashMap::new();
    let mut add = |pod: &Pod| {
        if pod.active() {
            *count.entry(pod.spec.node_name.clone()).or_insert(0) += 1;
        }
    };
    active.iter().for_each(|pod| add(&pod.object));
    if let Some(controller) = replica_set.metadata.controller() {
        for sibling in ctx.world.replica_sets_owned_by(&controller.uid) {
            let uid = &sibling.object.metadata.uid;
            if *uid != replica_set.metadata.uid
                && sibling.object.metadata.is_controlled_by(&controller.uid)
            {
                ctx.world.pods_owned_by(uid).for_each(|pod| add(&pod.object));
            }
        }
    }
    count
}

fn rank<'a>(pod: &'a Object<Pod>, on_node: &HashMap<String, usize>) -> Ranked<'a> {
    let object = &pod.object;
    Ranked {
        pod,
        assigned: !object.spec.node_name.is_empty(),
        phase: match object.status.phase.as_str() {
            "Unknown" => 1,
            "Running" => 2,
            _ => 0,
        },
        ready: object.ready(),
        cost: deletion_cost(object),
        doubled: on_node.get(&object.spec.node_name).copied().unwrap_or(0),
        ready_since: object.ready_since(),
        restarts: object
            .status
            .container_statuses
            .iter()
            .map(|status| status.restart_count)
            .max()
            .unwrap_or(0),
    }
}

/// What does not parse as upstream's API accepts it costs nothing.
fn deletion_cost(pod: &Pod) -> i32 {
    let text = pod.metadata.annotations.get(DELETION_COST).map_or("", String::as_str);
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = !digits.is_empty() && (digits == "0" || !digits.starts_with('0'));
    if canonical && !digits.starts_with('+') { text.parse().unwrap_or(0) } else { 0 }
}

fn compare(a: &Ranked<'_>, b: &Ranked<'_>, now: Timestamp) -> Ordering {
    a.assigned
        .cmp(&b.assigned)
        .then_with(|| a.phase.cmp(&b.phase))
        .then_with(|| a.ready.cmp(&b.ready))
        .then_with(|| a.cost.cmp(&b.cost))
        .then_with(|| b.doubled.cmp(&a.doubled))
        .then_with(|| by_age(a.ready_since, b.ready_since, a, b, now))
        .then_with(|| b.restarts.cmp(&a.restarts))
        .then_with(|| {
            let created = |ranked: &Ranked<'_>| ranked.pod.object.metadata.creation_timestamp;
            by_age(created(a), created(b), a, b, now)
        })
        .then_with(|| uid(a).cmp(uid(b)))
}

/// Younger goes first, by powers of two of the age; within one power the uid decides, so that it is
/// as good as random (upstream's LogarithmicScaleDown).
fn by_age(
    a_time: Option<Timestamp>,
    b_time: Option<Timestamp>,
    a: &Ranked<'_>,
    b: &Ranked<'_>,
    now: Timestamp,
) -> Ordering {
    if a_time == b_time {
        return Ordering::Equal;
    }
    match (a_time, b_time) {
        (Some(a_time), Some(b_time)) => {
            age_power(a_time, now).cmp(&age_power(b_time, now)).then_with(|| uid(a).cmp(uid(b)))
        }
        (a_time, b_time) => a_time.is_some().cmp(&b_time.is_some()),
    }
}

fn age_power(time: Timestamp, now: Timestamp) -> i64 {
    let nanos = now.as_nanosecond() - time.as_nanosecond();
    u128::try_from(nanos).ok().and_then(u128::checked_ilog2).map_or(-1, i64::from)
}

fn uid<'a>(ranked: &'a Ranked<'_>) -> &'a str {
    &ranked.pod.object.metadata.uid
}
