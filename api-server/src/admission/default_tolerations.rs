//! DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or not reachable,
//! unless they say otherwise.

use serde_json::{Value, json};

use super::{Context, Draft, Operation, Plugin};
use crate::identity::Identity;
use crate::status_error::Answer;

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn mutate(&self, _: &Context<'_>, _: &Identity, draft: &mut Draft) -> Answer<()> {
        if draft.operation == Operation::Delete
            || !draft.is("", "pods")
            || !draft.sub.is_empty()
            || !draft.object["spec"].is_object()
        {
            return Ok(());
        }
        let tolerations = &mut draft.object["spec"]["tolerations"];
        if !tolerations.is_array() {
            *tolerations = json!([]);
        }
        let Some(tolerations) = tolerations.as_array_mut() else { return Ok(()) };
        for taint in TAINTS {
            if !tolerations.iter().any(|one| tolerates(one, taint)) {
                tolerations.push(json!({
                    "key": taint,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": SECONDS,
                }));
            }
        }
        Ok(())
    }
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let text = |name: &str| toleration[name].as_str().unwrap_or_default();
    (text("key") == taint || text("key").is_empty())
        && (text("effect") == "NoExecute" || text("effect").is_empty())
}
