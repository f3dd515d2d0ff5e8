//! Node lifecycle: silent nodes become Unknown, conditions become taints.
//!
//! Desired: a node that was silent for the grace period has Unknown conditions; its NoSchedule
//! taints follow its conditions; NoExecute taints go as soon as it is ready (they come from
//! `node_zones`, slowly). Writes: conditions and taints of the node, readiness of its pods while it
//! is silent. Heartbeats are an input (`Ctx::silence`): only their absence is ever written.

use quorate_state_machine::Key;
use quorate_store::EventDraft;
use serde_json::{Value, json};

use crate::model::{Node, Pod, Taint, condition, to_value};
use crate::plan::{Ctx, Plan};
use crate::world::Object;

pub(super) const COMPONENT: &str = "node-controller";
pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Conditions that only the node can know.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Condition and status that make a NoSchedule taint.
const TAINT_OF_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// What is to be done for one node.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(found) = ctx.world.node(&key.object.name) else {
        return plan;
    };
    let grace = ctx.config.node_monitor_grace_period;
    // Silence from before this leader watched is not the node's fault.
    let silence = ctx.silence.min(ctx.watching_for);
    if silence <= grace {
        let left = grace.saturating_sub(silence) + std::time::Duration::from_millis(1);
        plan.wake_after(left);
    } else if declare_unknown(ctx, found, &mut plan) {
        // The taints follow when the conditions are written: both are changes of one object.
        return plan;
    }
    sync_taints(ctx, found, &mut plan);
    if found.object.ready() == Some("Unknown") {
        mark_pods_not_ready(ctx, &found.object, &mut plan);
    }
    plan
}

/// Whether conditions had to be changed.
fn declare_unknown(ctx: &Ctx<'_>, found: &Object<Node>, plan: &mut Plan) -> bool {
    let node = &found.object;
    let known = |kind: &&str| {
        condition(&node.status.conditions, kind).is_none_or(|found| found.status != "Unknown")
    };
    let outdated: Vec<&str> = REPORTED.into_iter().filter(known).collect();
    if outdated.is_empty() {
        return false;
    }
    let now = quorate_store::clock::format_time(ctx.now);
    let mut object = to_value(&found.stored);
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = object["status"]["conditions"].as_array_mut() else {
        return false;
    };
    for kind in outdated {
        match conditions.iter_mut().find(|condition| condition["type"] == kind) {
            Some(condition) => {
                condition["status"] = json!("Unknown");
                condition["reason"] = json!("NodeStatusUnknown");
                condition["message"] = json!("Kubelet stopped posting node status.");
                condition["lastTransitionTime"] = json!(now);
            }
            None => conditions.push(json!({
                "type": kind,
                "status": "Unknown",
                "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": quorate_store::clock::format_time(node.metadata.created()),
                "lastTransitionTime": now,
            })),
        }
    }
    let was_ready = node.ready() == Some("True");
    plan.update(&found.stored, object, "status").done = was_ready.then(|| EventDraft {
        component: COMPONENT,
        regarding: node.metadata.regarding("v1", "Node"),
        warning: false,
        reason: "NodeNotReady",
        message: format!("Node {} status is now: NodeNotReady", node.metadata.name),
    });
    true
}

fn sync_taints(ctx: &Ctx<'_>, found: &Object<Node>, plan: &mut Plan) {
    let node = &found.object;
    let mut wanted: Vec<&str> = TAINT_OF_CONDITION
        .iter()
        .filter(|(kind, status, _)| {
            condition(&node.status.conditions, kind).is_some_and(|found| found.status == *status)
        })
        .map(|(_, _, taint)| *taint)
        .collect();
    if node.spec.unschedulable {
        wanted.push(UNSCHEDULABLE);
    }
    let ours = |key: &str| {
        key == UNSCHEDULABLE || TAINT_OF_CONDITION.iter().any(|(_, _, taint)| *taint == key)
    };
    let mut taints: Vec<Taint> = node
        .spec
        .taints
        .iter()
        .filter(|taint| {
            taint.effect != "NoSchedule"
                || !ours(&taint.key)
                || wanted.contains(&taint.key.as_str())
        })
        .cloned()
        .collect();
    for key in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == "NoSchedule") {
            taints.push(taint(key, "NoSchedule", ctx));
        }
    }
    swap_no_execute(ctx, node, &mut taints);
    if taints != node.spec.taints {
        plan.update(&found.stored, with_taints(found, &taints), "");
    }
}

/// NoExecute taints go when the node is ready, and follow it from one way of not being ready to the
/// other.
fn swap_no_execute(ctx: &Ctx<'_>, node: &Node, taints: &mut Vec<Taint>) {
    let (right, wrong) = match node.ready() {
        Some("True") => (None, [NOT_READY, UNREACHABLE].as_slice()),
        Some("False") => (Some(NOT_READY), [UNREACHABLE].as_slice()),
        Some("Unknown") => (Some(UNREACHABLE), [NOT_READY].as_slice()),
        Some(_) | None => return,
    };
    let is_wrong =
        |taint: &Taint| taint.effect == "NoExecute" && wrong.contains(&taint.key.as_str());
    let before = taints.len();
    taints.retain(|taint| !is_wrong(taint));
    let removed = taints.len() < before;
    if let Some(right) = right.filter(|_| removed)
        && !taints.iter().any(|taint| taint.effect == "NoExecute" && taint.key == right)
    {
        taints.push(taint(right, "NoExecute", ctx));
    }
}

pub(super) fn taint(key: &str, effect: &str, ctx: &Ctx<'_>) -> Taint {
    Taint {
        key: key.to_owned(),
        value: String::new(),
        effect: effect.to_owned(),
        time_added: Some(super::stamp(ctx.now)),
    }
}

pub(super) fn with_taints(found: &Object<Node>, taints: &[Taint]) -> Value {
    let mut object = to_value(&found.stored);
    if taints.is_empty() {
        if let Some(spec) = object["spec"].as_object_mut() {
            spec.remove("taints");
        }
    } else {
        object["spec"]["taints"] = json!(taints);
    }
    object
}

/// Nobody on a silent node can say that its pods are no longer ready.
fn mark_pods_not_ready(ctx: &Ctx<'_>, node: &Node, plan: &mut Plan) {
    let ready = |pod: &&Object<Pod>| pod.object.ready() && !pod.object.ended();
    for pod in ctx.world.pods_on(&node.metadata.name).filter(ready) {
        let mut object = to_value(&pod.stored);
        let conditions = object["status"]["conditions"].as_array_mut();
        for condition in conditions.into_iter().flatten() {
            if condition["type"] == "Ready" {
                condition["status"] = json!("False");
                condition["lastTransitionTime"] = json!(quorate_store::clock::format_time(ctx.now));
            }
        }
        plan.update(&pod.stored, object, "status").done = Some(EventDraft {
            component: COMPONENT,
            regarding: pod.object.metadata.regarding("v1", "Pod"),
            warning: true,
            reason: "NodeNotReady",
            message: "Node is not ready".to_owned(),
        });
    }
}

#[cfg(test)]
mod tests;
