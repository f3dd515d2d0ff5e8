//! Taint eviction: pods leave nodes whose NoExecute taints they do not tolerate, or no longer.
//!
//! Desired: no pod on a node beyond the shortest of its tolerations, counted from when the pod and the
//! taint met: a pod that comes to a node that was tainted long ago has its full time. Writes: the pods'
//! `DisruptionTarget` condition, then their deletion. For the taints of node lifecycle nothing is
//! deleted before this leader has watched for one grace period: a node that came back during a failover
//! keeps its pods.

use std::time::Duration;

use jiff::Timestamp;
use quorate_state_machine::Key;
use quorate_store::EventDraft;

use super::node_lifecycle::{NOT_READY, UNREACHABLE};
use super::pod_gc::disrupted;
use crate::model::{Pod, Taint, Toleration};
use crate::plan::{Ctx, Plan, after};
use crate::world::Object;

/// What is to be done for the pods of one node.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(node) = ctx.world.node(&key.object.name) else {
        return plan;
    };
    let taints: Vec<(&Taint, Timestamp)> = node
        .object
        .spec
        .taints
        .iter()
        .filter(|taint| taint.effect == "NoExecute")
        .map(|taint| (taint, ctx.world.taint_since(&key.object, taint)))
        .collect();
    if taints.is_empty() {
        return plan;
    }
    for pod in ctx.world.pods_on(&key.object.name) {
        if pod.object.metadata.terminating() {
            continue;
        }
        match eviction_time(ctx, &pod.object, &taints) {
            Some(at) if at <= ctx.now => evict(ctx, pod, &mut plan),
            Some(at) => plan.wake_at(at, ctx.now),
            None => {}
        }
    }
    plan
}

/// When the pod has to go: `None` when it tolerates all taints for ever.
fn eviction_time(ctx: &Ctx<'_>, pod: &Pod, taints: &[(&Taint, Timestamp)]) -> Option<Timestamp> {
    let of_taint = |(taint, since): &(&Taint, Timestamp)| {
        let since = (*since).max(pod.bound_since());
        let tolerated = pod.spec.tolerations.iter().find(|toleration| tolerates(toleration, taint));
        let end = match tolerated {
            None => since,
            Some(toleration) => {
                let seconds = u64::try_from(toleration.toleration_seconds?).unwrap_or(0);
                after(since, Duration::from_secs(seconds))
            }
        };
        let watched = ctx.config.node_monitor_grace_period.saturating_sub(ctx.watching_for);
        let by_liveness = taint.key == NOT_READY || taint.key == UNREACHABLE;
        Some(if by_liveness { end.max(after(ctx.now, watched)) } else { end })
    };
    taints.iter().filter_map(of_taint).min()
}

/// Whether a toleration covers a taint.
pub(super) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.is_empty() || toleration.effect == taint.effect;
    let key = toleration.key.is_empty() || toleration.key == taint.key;
    effect
        && key
        && match toleration.operator.as_str() {
            "Exists" => true,
            "" | "Equal" => !toleration.key.is_empty() && toleration.value == taint.value,
            "Gt" => numbers(taint, toleration).is_some_and(|(taint, bound)| taint > bound),
            "Lt" => numbers(taint, toleration).is_some_and(|(taint, bound)| taint < bound),
            _ => false,
        }
}

/// The values of both as whole numbers.
fn numbers(taint: &Taint, toleration: &Toleration) -> Option<(i64, i64)> {
    Some((taint.value.parse().ok()?, toleration.value.parse().ok()?))
}

/// First the reason on the pod, then its deletion: the two are changes of one object.
fn evict(ctx: &Ctx<'_>, pod: &Object<Pod>, plan: &mut Plan) {
    const MESSAGE: &str = "Taint manager: deleting due to NoExecute taint";
    if let Some(object) = disrupted(ctx, pod, "DeletionByTaintManager", MESSAGE) {
        plan.update(&pod.stored, object, "status");
        return;
    }
    let meta = &pod.object.metadata;
    plan.delete(&pod.stored).done = Some(EventDraft {
        component: "taint-eviction-controller",
        regarding: meta.regarding("v1", "Pod"),
        warning: false,
        reason: "TaintManagerEviction",
        message: format!("Marking for deletion Pod {}/{}", meta.namespace, meta.name),
    });
}
