//! TaintNodesByCondition: a new node takes no pods until it is known to be ready.

use serde_json::json;

use super::{Context, Draft, Operation, Plugin};
use crate::identity::Identity;
use crate::status_error::Answer;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn mutate(&self, _: &Context<'_>, _: &Identity, draft: &mut Draft) -> Answer<()> {
        if draft.operation != Operation::Create || !draft.is("", "nodes") {
            return Ok(());
        }
        if !draft.object["spec"].is_object() {
            draft.object["spec"] = json!({});
        }
        let taints = &mut draft.object["spec"]["taints"];
        if !taints.is_array() {
            *taints = json!([]);
        }
        if let Some(taints) = taints.as_array_mut()
            && !taints.iter().any(|one| one["key"] == NOT_READY && one["effect"] == "NoSchedule")
        {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}
