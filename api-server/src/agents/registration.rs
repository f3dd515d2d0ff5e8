//! A node introduces itself: its Node object is made, or brought up to date, as the kubelet does it
//! at its start.

use quorate_state_machine::{Key, Op, Outcome};
use quorate_store::{Consistency, Write};
use serde_json::{Value, json};

use super::hub::Inner;

/// A registration that meets other writers is tried again this often.
const RETRIES_MAX: usize = 10;

/// Makes or updates the Node object from what the agent says.
pub(super) async fn register(inner: &Inner, node: &str, said: &[u8]) -> Result<(), String> {
    let said: Value =
        serde_json::from_slice(said).map_err(|error| format!("node does not decode: {error}"))?;
    if said["metadata"]["name"] != node {
        return Err(format!("the certificate is for node {node}, the Node object is another's"));
    }
    let said = allowed(&said, node);
    let key = Key::new("", "nodes", "", node);
    for _ in 0..RETRIES_MAX {
        let view =
            inner.store.read(Consistency::Linearizable).await.map_err(|error| error.to_string())?;
        let late = inner.late().ok_or("this master is starting")?;
        let user = format!("system:node:{node}");
        let Some(stored) = view.get(&key).cloned() else {
            let write = Write::Create { resource: key.resource.clone(), object: said.clone() };
            let op = late.admit.admit(&view, &user, write).await.map_err(|e| e.to_string())?;
            // Creation drops the status; the next round writes it.
            propose(inner, op).await?;
            continue;
        };
        let object: Value =
            serde_json::from_slice(&stored.to_json()).map_err(|error| error.to_string())?;
        let labelled = with_labels(&object, &said);
        if labelled != object {
            let write = Write::Update { stored, object: labelled, subresource: "" };
            let op = late.admit.admit(&view, &user, write).await.map_err(|e| e.to_string())?;
            if op.is_some() {
                propose(inner, op).await?;
                continue;
            }
            return Ok(());
        }
        return Ok(());
    }
    Err("the Node object changes too often".to_owned())
}

async fn propose(inner: &Inner, op: Option<Op>) -> Result<(), String> {
    let Some(op) = op else { return Ok(()) };
    let outcomes = inner.store.write(vec![op]).await.map_err(|error| error.to_string())?;
    match outcomes.first() {
        Some(Outcome::Done(_) | Outcome::Conflict(_) | Outcome::AlreadyExists(_)) => Ok(()),
        other => Err(format!("the Node object was not written: {other:?}")),
    }
}

/// The Node with the labels and annotations that the agent sets; others' stay.
fn with_labels(object: &Value, said: &Value) -> Value {
    let mut merged = object.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in said["metadata"][field].as_object().into_iter().flatten() {
            merged["metadata"][field][key] = value.clone();
        }
    }
    merged
}

/// What a node may say of itself (NodeRestriction): its name, labels that are not administrators',
/// annotations, the taints to begin with, its provider's id.
fn allowed(said: &Value, node: &str) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
    for field in ["labels", "annotations"] {
        for (key, value) in said["metadata"][field].as_object().into_iter().flatten() {
            if !key.starts_with("node-restriction.kubernetes.io/") {
                object["metadata"][field][key] = value.clone();
            }
        }
    }
    for field in ["taints", "providerID", "unschedulable"] {
        if let Some(value) = said["spec"].get(field) {
            object["spec"][field] = value.clone();
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_cannot_give_itself_what_is_not_its_own() {
        let said = json!({
            "metadata": {
                "name": "n", "uid": "u", "ownerReferences": [{}], "finalizers": ["x"],
                "labels": {"kubernetes.io/os": "linux", "node-restriction.kubernetes.io/a": "b"},
            },
            "spec": {"podCIDR": "10.0.0.0/8", "taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {"phase": "Running"},
        });
        assert_eq!(
            allowed(&said, "n"),
            json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"}},
                "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]},
            })
        );
    }

    #[test]
    fn labels_of_others_stay() {
        let object = json!({"metadata": {"labels": {"zone": "a", "os": "old"}}});
        let said = json!({"metadata": {"labels": {"os": "linux"}, "annotations": {"x": "y"}}});
        assert_eq!(
            with_labels(&object, &said),
            json!({"metadata": {
                "labels": {"zone": "a", "os": "linux"}, "annotations": {"x": "y"},
            }})
        );
    }
}
