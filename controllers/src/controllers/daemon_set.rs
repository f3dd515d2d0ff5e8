//! DaemonSet: one pod on each node that its template may be on.
//!
//! Desired: on each eligible node one pod of the newest template, others nowhere; pods of older templates are replaced
//! as the update strategy says. Writes: pods (create, delete, owner references, the revision's label), revisions
//! (create, number, delete, owner references), its own status. Pods are bound by the scheduler: each is made for one
//! node by its affinity.

mod nodes;
mod placing;
mod revisions;
mod rolling;
mod status;

use std::collections::BTreeMap;

use quorate_state_machine::Key;
use quorate_store::EventDraft;

use super::claim::{self, Manager};
use super::pod_template;
use crate::limits::DAEMON_SET_BURST;
use crate::model::{DaemonSet, Pod, to_value};
use crate::node_selector;
use crate::plan::{Ctx, Plan};
use crate::resources::PODS;
use crate::world::Object;
use placing::Placing;

const COMPONENT: &str = "daemonset-controller";

/// The pods of a daemon set by the node that they are on, or are for.
type ByNode<'a> = BTreeMap<String, Vec<&'a Object<Pod>>>;

/// What is to be done for one DaemonSet.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(found) = ctx.world.daemon_sets.get(&key.object) else { return plan };
    let set = &found.object;
    if set.spec.selector.is_empty() || set.metadata.terminating() {
        return plan;
    }
    let pods = by_node(claim(ctx, set, &mut plan));
    let Some(history) = revisions::construct(ctx, found, &pods, &mut plan) else { return plan };
    // The status comes before the pods: a refused creation stops what comes after it.
    let status = status::of(ctx, set, &pods, &history.hash, &mut plan);
    if status != set.status {
        let mut object = to_value(&found.stored);
        object["status"] = serde_json::json!(status);
        plan.update(&found.stored, object, "status");
    }
    let mut placing = placing::of(ctx, set, &pods, &history.hash, &mut plan);
    if placing.is_empty() && !set.spec.update_strategy.on_delete() {
        placing = rolling::of(ctx, set, pods.clone(), &history.hash);
    }
    carry_out(ctx, set, &placing, &history.hash, &mut plan);
    revisions::clean_up(set, &history, &pods, &mut plan);
    plan
}

/// The pods that are this set's.
fn claim<'a>(ctx: &Ctx<'a>, set: &DaemonSet, plan: &mut Plan) -> Vec<&'a Object<Pod>> {
    let manager = Manager {
        meta: &set.metadata,
        api_version: "apps/v1",
        kind: "DaemonSet",
        selector: &set.spec.selector,
        adopts: &|pod| !pod.metadata.terminating(),
        adopting: claim::as_it_is,
        releasing: claim::as_it_is,
    };
    manager.pods(ctx, plan)
}

/// What has ended and is being deleted is nobody's concern any more; what is for no node neither.
fn by_node(pods: Vec<&Object<Pod>>) -> ByNode<'_> {
    let mut by_node = ByNode::new();
    for pod in pods {
        if pod.object.ended() && pod.object.metadata.terminating() {
            continue;
        }
        let bound = Some(pod.object.spec.node_name.clone()).filter(|node| !node.is_empty());
        let meant = || node_selector::target(&to_value(&pod.stored)["spec"]).map(str::to_owned);
        if let Some(node) = bound.or_else(meant) {
            by_node.entry(node).or_default().push(pod);
        }
    }
    for pods in by_node.values_mut() {
        // Scheduled ones first, then the oldest.
        pods.sort_by_key(|pod| {
            let meta = &pod.object.metadata;
            (pod.object.spec.node_name.is_empty(), meta.created(), meta.name.clone())
        });
    }
    by_node
}

fn carry_out(ctx: &Ctx<'_>, set: &DaemonSet, placing: &Placing<'_>, hash: &str, plan: &mut Plan) {
    // After a refusal one try tells whether the rest would be refused as well.
    let burst = if ctx.failure.is_some() { 1 } else { DAEMON_SET_BURST };
    for node in placing.nodes.iter().take(burst) {
        let template = nodes::template(set, hash);
        let mut pod = pod_template::pod(&template, &set.metadata, "apps/v1", "DaemonSet");
        nodes::bind(&mut pod["spec"], node);
        let step = plan.create(PODS.group_resource(), pod);
        step.done = Some(event(set, false, "SuccessfulCreate", "Created pod: {name}"));
        step.refused = Some(event(set, true, "FailedCreate", "Error creating: {error}"));
    }
    for pod in placing.surplus.iter().take(DAEMON_SET_BURST) {
        let step = plan.delete(&pod.stored);
        step.done = Some(event(set, false, "SuccessfulDelete", "Deleted pod: {name}"));
        step.refused = Some(event(set, true, "FailedDelete", "Error deleting: {error}"));
    }
}

/// Whether a pod is of the newest template.
fn is_updated(set: &DaemonSet, pod: &Pod, hash: &str) -> bool {
    let labels = &pod.metadata.labels;
    let has = |key: &str, value: &str| labels.get(key).is_some_and(|found| found == value);
    let generation = set.metadata.annotations.get(nodes::GENERATION_ANNOTATION);
    has(super::history::HASH_LABEL, hash)
        || generation.is_some_and(|generation| has(nodes::GENERATION_LABEL, generation))
}

fn available(ctx: &Ctx<'_>, set: &DaemonSet, pod: &Pod) -> bool {
    pod.available_from(set.spec.min_ready_seconds).is_some_and(|from| from <= ctx.now)
}

fn event(set: &DaemonSet, warning: bool, reason: &'static str, message: &str) -> EventDraft {
    EventDraft {
        component: COMPONENT,
        regarding: set.metadata.regarding("apps/v1", "DaemonSet"),
        warning,
        reason,
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
