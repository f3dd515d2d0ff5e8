//! Certificate signing requests never change but for decisions about them and what their signers make of them. Who asks
//! is written by the API server's admission, which knows it.

use serde_json::Value;

use crate::tree;

const DECISIONS: [&str; 2] = ["Approved", "Denied"];

/// Nobody brings a decision along.
pub(crate) fn create(object: &mut Value) {
    tree::remove(object, "status");
}

/// Metadata alone.
pub(crate) fn update(new: &mut Value, old: &Value) {
    tree::copy(old, new, "spec");
    tree::copy(old, new, "status");
}

fn conditions(object: &Value) -> &[Value] {
    tree::list(tree::get(object, "status"), "conditions")
}

/// `approval`: the conditions.
pub(crate) fn approval(new: &mut Value, old: &Value) {
    let wanted = conditions(new).to_vec();
    update(new, old);
    set_conditions(new, wanted);
}

/// `status`: the certificate, and conditions that are no decisions.
pub(crate) fn status(new: &mut Value, old: &Value) {
    super::kinds::status_only(new, old);
    let is_decision = |one: &&Value| DECISIONS.contains(&tree::text(one, "type"));
    let decisions = conditions(old).iter().filter(is_decision).cloned();
    let others = conditions(new).iter().filter(|one| !is_decision(one)).cloned();
    let all: Vec<Value> = decisions.chain(others).collect();
    set_conditions(new, all);
}

fn set_conditions(object: &mut Value, conditions: Vec<Value>) {
    if conditions.is_empty() {
        if let Some(status) = tree::child_mut(object, "status") {
            tree::remove(status, "conditions");
        }
        return;
    }
    object["status"]["conditions"] = Value::Array(conditions);
}
