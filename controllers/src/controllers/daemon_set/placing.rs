//! On which nodes pods are missing, and which are too many (upstream's `manage`).

use super::nodes::{Fit, Judge};
use super::{ByNode, available, event, is_updated};
use crate::controllers::pod_template::scaled_up;
use crate::model::{DaemonSet, Pod};
use crate::plan::{Ctx, Plan};
use crate::world::Object;

/// What is to be done.
#[derive(Default)]
pub(super) struct Placing<'a> {
    /// Nodes that get a pod.
    pub(super) nodes: Vec<String>,
    /// Pods that go.
    pub(super) surplus: Vec<&'a Object<Pod>>,
}

impl Placing<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.surplus.is_empty()
    }
}

pub(super) fn of<'a>(
    ctx: &Ctx<'_>,
    set: &DaemonSet,
    pods: &ByNode<'a>,
    hash: &str,
    plan: &mut Plan,
) -> Placing<'a> {
    let judge = Judge::new(set);
    let mut placing = Placing::default();
    for node in ctx.world.all_nodes() {
        let name = &node.object.metadata.name;
        match (judge.fit(&node.object), pods.get(name)) {
            (Fit::Runs, None) => placing.nodes.push(name.clone()),
            (Fit::Stays | Fit::Not, None) => {}
            (Fit::Not, Some(there)) => placing.surplus.extend(there.iter().filter(stays)),
            (fit @ (Fit::Runs | Fit::Stays), Some(there)) => {
                let mut running = end_failed(ctx, set, (name, there), &mut placing, plan);
                if !surges(set) {
                    placing.surplus.extend(running.drain(..).skip(1));
                } else if running.is_empty() {
                    if fit == Fit::Runs {
                        placing.nodes.push(name.clone());
                    }
                } else {
                    surplus_of_surge(ctx, set, hash, &running, &mut placing);
                }
            }
        }
    }
    // What waits to be bound to a node that is gone waits in vain.
    for (_, there) in pods.iter().filter(|(node, _)| ctx.world.node(node).is_none()) {
        placing
            .surplus
            .extend(there.iter().filter(stays).filter(|pod| pod.object.spec.node_name.is_empty()));
    }
    placing
}

/// Not being deleted already.
fn stays(pod: &&&Object<Pod>) -> bool {
    !pod.object.metadata.terminating()
}

/// Whether a node may have two pods for a while.
pub(super) fn surges(set: &DaemonSet) -> bool {
    let surge = &set.spec.update_strategy.rolling_update.max_surge;
    !set.spec.update_strategy.on_delete() && scaled_up(surge, 100) > 0
}

/// Pods that have ended go, so that others come; those that fail again and again ever later. The others are returned.
fn end_failed<'a>(
    ctx: &Ctx<'_>,
    set: &DaemonSet,
    (node, there): (&str, &[&'a Object<Pod>]),
    placing: &mut Placing<'a>,
    plan: &mut Plan,
) -> Vec<&'a Object<Pod>> {
    let mut running = Vec::new();
    for pod in there.iter().copied().filter(|pod| !pod.object.metadata.terminating()) {
        let meta = &pod.object.metadata;
        let whose = format!("{}/{} on node {node}", meta.namespace, meta.name);
        match pod.object.status.phase.as_str() {
            "Failed" => {
                let until = ctx.world.failed_daemon_until(&set.metadata.uid, node);
                if let Some(until) = until.filter(|until| *until > ctx.now) {
                    plan.wake_at(until, ctx.now);
                    continue;
                }
                let message = format!("Found failed daemon pod {whose}, will try to kill it");
                plan.events.push(event(set, true, "FailedDaemonPod", &message));
                placing.surplus.push(pod);
            }
            "Succeeded" => {
                let message = format!("Found succeeded daemon pod {whose}, will try to delete it");
                plan.events.push(event(set, false, "SucceededDaemonPod", &message));
                placing.surplus.push(pod);
            }
            _ => running.push(pod),
        }
    }
    running
}

/// Two may be there only while the old one is ready and the new one not available yet.
fn surplus_of_surge<'a>(
    ctx: &Ctx<'_>,
    set: &DaemonSet,
    hash: &str,
    running: &[&'a Object<Pod>],
    placing: &mut Placing<'a>,
) {
    let (new, old): (Vec<_>, Vec<_>) =
        running.iter().copied().partition(|pod| is_updated(set, &pod.object, hash));
    placing.surplus.extend(new.iter().skip(1).chain(old.iter().skip(1)).copied());
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && (!old.object.ready() || available(ctx, set, &new.object))
    {
        placing.surplus.push(*old);
    }
}
