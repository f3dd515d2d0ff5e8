//! Token cleaner: deletes bootstrap tokens that have expired.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use quorate_state_machine::{Key, ObjectKey};

use crate::model::to_value;
use crate::plan::{Ctx, Plan};

const TOKEN_TYPE: &str = "bootstrap.kubernetes.io/token";

/// Whether a Secret of this name may be a bootstrap token.
pub(crate) fn is_token(key: &ObjectKey) -> bool {
    &*key.namespace == "kube-system" && key.name.starts_with("bootstrap-token-")
}

/// What is to be done for one Secret.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(stored) = ctx.world.get(key).filter(|_| is_token(&key.object)) else {
        return plan;
    };
    let object = to_value(stored);
    if object["type"] != TOKEN_TYPE {
        return plan;
    }
    let Some(encoded) = object["data"]["expiration"].as_str().filter(|text| !text.is_empty())
    else {
        return plan;
    };
    let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.and_then(|text| text.trim().parse::<Timestamp>().ok()) {
        Some(expiration) if expiration > ctx.now => plan.wake_at(expiration, ctx.now),
        // What does not parse counts as expired, as upstream decides.
        Some(_) | None => {
            plan.delete(stored);
        }
    }
    plan
}
