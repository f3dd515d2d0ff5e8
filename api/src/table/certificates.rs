//! Certificate signing requests.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, duration, name, text};
use crate::tree;

pub(super) static REQUEST: &[Column] = &[
    NAME,
    AGE,
    text("SignerName")
        .described("signerName indicates the requested signer, and is a qualified name."),
    text("Requestor"),
    text("RequestedDuration").described(
        "expirationSeconds is the requested duration of validity of the issued certificate.",
    ),
    text("Condition"),
];

pub(super) fn request(request: &Value, now: Timestamp) -> Vec<Value> {
    let spec = tree::get(request, "spec");
    let wanted = tree::int_opt(spec, "expirationSeconds")
        .map_or_else(|| "<none>".to_owned(), duration::human);
    vec![
        json!(name(request)),
        age(request, now),
        json!(tree::text(spec, "signerName")),
        json!(tree::text(spec, "username")),
        json!(wanted),
        json!(condition(tree::get(request, "status"))),
    ]
}

/// What became of it: the decision, then what its signer did.
fn condition(status: &Value) -> String {
    let has = |kind: &str| {
        tree::list(status, "conditions").iter().any(|one| tree::text(one, "type") == kind)
    };
    let (approved, denied) = (has("Approved"), has("Denied"));
    let mut shown = match (approved, denied) {
        (_, true) => "Denied",
        (true, false) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has("Failed") {
        shown.push_str(",Failed");
    }
    if tree::has(status, "certificate") && !tree::text(status, "certificate").is_empty() {
        shown.push_str(",Issued");
    }
    shown
}
