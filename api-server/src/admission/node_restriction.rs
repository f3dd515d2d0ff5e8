//! NodeRestriction: a node agent changes its own node and its own pods, nothing else (its
//! essentials).

use serde_json::Value;

use super::{Context, Draft, Operation, Plugin};
use crate::identity::Identity;
use crate::model::text;
use crate::parameters::quoted;
use crate::status_error::Answer;

/// Labels below this prefix are for administrators alone.
const RESTRICTED_LABELS: &str = "node-restriction.kubernetes.io/";

pub(super) struct NodeRestriction;

impl Plugin for NodeRestriction {
    fn validate(&self, _: &Context<'_>, identity: &Identity, draft: &Draft) -> Answer<()> {
        let Some(node) = identity.node() else { return Ok(()) };
        if draft.is("", "nodes") {
            return own_node(node, draft);
        }
        if draft.is("", "pods") {
            return own_pod(node, draft);
        }
        if draft.is("coordination.k8s.io", "leases")
            && (draft.namespace != "kube-node-lease" || draft.name != node)
        {
            return Err(draft.forbidden(&format!(
                "can only access node lease with the same name as the requesting node {}",
                quoted(node)
            )));
        }
        Ok(())
    }
}

fn own_node(node: &str, draft: &Draft) -> Answer<()> {
    if draft.name != node {
        return Err(draft.forbidden(&format!(
            "node {} is not allowed to modify node {}",
            quoted(node),
            quoted(&draft.name)
        )));
    }
    if draft.operation == Operation::Update && draft.sub.is_empty() {
        if draft.object["spec"]["taints"] != draft.old["spec"]["taints"] {
            return Err(
                draft.forbidden(&format!("node {} is not allowed to modify taints", quoted(node)))
            );
        }
        if restricted(&draft.object) != restricted(&draft.old) {
            return Err(
                draft.forbidden(&format!("is not allowed to modify labels: {RESTRICTED_LABELS}*"))
            );
        }
    }
    if draft.operation == Operation::Create && !restricted(&draft.object).is_empty() {
        return Err(draft.forbidden(&format!(
            "node {} is not allowed to set the following labels: {}",
            quoted(node),
            restricted(&draft.object)
                .into_iter()
                .map(|(key, _)| key)
                .collect::<Vec<_>>()
                .join(", ")
        )));
    }
    Ok(())
}

fn restricted(object: &Value) -> Vec<(String, Value)> {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels
        .filter(|(key, _)| key.starts_with(RESTRICTED_LABELS))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn own_pod(node: &str, draft: &Draft) -> Answer<()> {
    let pod = if draft.operation == Operation::Create { &draft.object } else { &draft.old };
    if draft.operation == Operation::Create
        && pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null()
    {
        return Err(draft.forbidden(&format!(
            "pod does not have {} annotation, node {} can only create mirror pods",
            quoted("kubernetes.io/config.mirror"),
            quoted(node)
        )));
    }
    if text(&pod["spec"]["nodeName"]) != node {
        let what = match draft.operation {
            Operation::Delete | Operation::Connect => {
                "can only delete pods with spec.nodeName set to itself"
            }
            Operation::Create => "can only create pods with spec.nodeName set to itself",
            Operation::Update => {
                "can only update pod status for pods with spec.nodeName set to itself"
            }
        };
        return Err(draft.forbidden(&format!("node {} {what}", quoted(node))));
    }
    Ok(())
}
