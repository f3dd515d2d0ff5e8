//! Pod garbage collector: pods that nobody else will ever remove.
//!
//! Desired: no pods of nodes that are gone (after a quarantine), no terminating pods that were
//! never scheduled or whose node is out of service, not more ended pods than the threshold. Writes:
//! the pods' phase Failed (so that their controllers count them), then their deletion without
//! grace.

use quorate_state_machine::Key;
use serde_json::{Value, json};

use crate::limits::{GONE_NODE_QUARANTINE, POD_GC_DELETIONS_MAX};
use crate::model::{Pod, condition, to_value};
use crate::plan::{Ctx, Plan, after};
use crate::resources::PODS;
use crate::world::Object;

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What is to be done for a node's pods, for one pod, or for all that have ended.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    if !PODS.is(&key.resource) {
        of_node(ctx, &key.object.name, &mut plan);
    } else if key.object.name.is_empty() {
        ended(ctx, &mut plan);
    } else if let Some(pod) = ctx.world.pod(&key.object)
        && pod.object.metadata.terminating()
        && pod.object.spec.node_name.is_empty()
    {
        fail_and_delete(ctx, pod, None, &mut plan);
    }
    plan
}

fn of_node(ctx: &Ctx<'_>, name: &str, plan: &mut Plan) {
    let pods = ctx.world.pods_on(name);
    let Some(node) = ctx.world.node(name) else {
        let Some(since) = ctx.world.missing_since(name) else {
            return;
        };
        let end = after(since, GONE_NODE_QUARANTINE);
        if end > ctx.now {
            plan.wake_at(end, ctx.now);
            return;
        }
        let reason = ("DeletionByPodGC", "PodGC: node no longer exists");
        for pod in pods.take(POD_GC_DELETIONS_MAX) {
            fail_and_delete(ctx, pod, Some(reason), plan);
        }
        return;
    };
    let out = node.object.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE);
    if out && node.object.ready() != Some("True") {
        let terminating = pods.filter(|pod| pod.object.metadata.terminating());
        for pod in terminating.take(POD_GC_DELETIONS_MAX) {
            fail_and_delete(ctx, pod, None, plan);
        }
    }
}

/// Too many ended pods: those made first go.
fn ended(ctx: &Ctx<'_>, plan: &mut Plan) {
    let threshold = ctx.config.terminated_pod_gc_threshold;
    let ended = ctx.world.ended_pods();
    if threshold == 0 || ended.len() <= threshold {
        return;
    }
    let excess = (ended.len() - threshold).min(POD_GC_DELETIONS_MAX);
    for (_, key) in ended.iter().take(excess) {
        if let Some(pod) = ctx.world.pod(key) {
            plan.delete_with(&pod.stored, Some(0), "Background");
        }
    }
}

/// First the phase, then the deletion: the two are changes of one object.
fn fail_and_delete(
    ctx: &Ctx<'_>,
    pod: &Object<Pod>,
    reason: Option<(&str, &str)>,
    plan: &mut Plan,
) {
    if pod.object.ended() {
        plan.delete_with(&pod.stored, Some(0), "Background");
        return;
    }
    let with_reason = reason.and_then(|(reason, message)| disrupted(ctx, pod, reason, message));
    let mut object = with_reason.unwrap_or_else(|| to_value(&pod.stored));
    object["status"]["phase"] = json!("Failed");
    plan.update(&pod.stored, object, "status");
}

/// The pod with the condition that says why it is disrupted; `None` when it has it.
pub(super) fn disrupted(
    ctx: &Ctx<'_>,
    pod: &Object<Pod>,
    reason: &str,
    message: &str,
) -> Option<Value> {
    const KIND: &str = "DisruptionTarget";
    let is_there = condition(&pod.object.status.conditions, KIND)
        .is_some_and(|found| found.status == "True" && found.reason == reason);
    if is_there {
        return None;
    }
    let mut object = to_value(&pod.stored);
    let made = json!({
        "type": KIND,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": quorate_store::clock::format_time(ctx.now),
    });
    match object["status"]["conditions"].as_array_mut() {
        Some(conditions) => {
            conditions.retain(|condition| condition["type"] != KIND);
            conditions.push(made);
        }
        None => object["status"]["conditions"] = json!([made]),
    }
    Some(object)
}
