//! `metav1.Condition` in a status.

use serde_json::Value;

use super::{Errors, invalid_each, names, qualified};
use crate::field::{Error, Path};
use crate::tree;

const REASON_BYTES_MAX: usize = 1024;
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// Checks conditions: one of each type, each complete.
pub(super) fn conditions(holder: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("conditions");
    let mut seen = Vec::new();
    for (i, condition) in tree::list(holder, "conditions").iter().enumerate() {
        let path = path.index(i);
        let kind = tree::text(condition, "type");
        if seen.contains(&kind) {
            errors.push(Error::duplicate(&path.child("type"), kind));
        }
        seen.push(kind);
        one(condition, &path, errors);
    }
}

fn one(condition: &Value, path: &Path<'_>, errors: &mut Errors) {
    qualified(tree::text(condition, "type"), &path.child("type"), errors);
    let status = tree::text(condition, "status");
    let known = ["False", "True", "Unknown"];
    if !known.contains(&status) {
        errors.push(Error::not_supported(&path.child("status"), status, &known));
    }
    let generation = tree::int(condition, "observedGeneration");
    if generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.push(Error::invalid(&path.child("observedGeneration"), generation, detail));
    }
    if tree::text(condition, "lastTransitionTime").is_empty() {
        errors.push(Error::required(&path.child("lastTransitionTime"), "must be set"));
    }
    let reason = tree::text(condition, "reason");
    let own = path.child("reason");
    if reason.is_empty() {
        errors.push(Error::required(&own, "must be set"));
    } else {
        invalid_each(&own, reason, names::condition_reason(reason), errors);
        if reason.len() > REASON_BYTES_MAX {
            errors.push(Error::too_long(&own, REASON_BYTES_MAX));
        }
    }
    if tree::text(condition, "message").len() > MESSAGE_BYTES_MAX {
        errors.push(Error::too_long(&path.child("message"), MESSAGE_BYTES_MAX));
    }
}

/// Whether the condition of this type is true.
pub(super) fn is_true(status: &Value, kind: &str) -> bool {
    let mut all = tree::list(status, "conditions").iter();
    let found = all.find(|one| tree::text(one, "type") == kind);
    found.is_some_and(|one| tree::text(one, "status") == "True")
}
