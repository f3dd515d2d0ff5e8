//! What each verb may change: the part of upstream's registry strategies that runs between
//! decoding and validation. Name generation, uids, times and allocation of addresses and ports
//! are the API server's.

use serde_json::Value;

use crate::{kinds as table, tree};

pub(crate) mod batch;
pub(crate) mod certificates;
pub(crate) mod definition;
pub(crate) mod extra;
pub(crate) mod kinds;
pub mod pod;
pub(crate) mod service;
pub(crate) mod storage;
mod subresource;
pub(crate) mod workload;

/// Prepares a new object: nothing of the system's metadata may come from the client, the status
/// starts empty where the kind says so.
pub fn prepare_create(group: &str, kind: &str, object: &mut Value) {
    if let Some(metadata) = tree::child_mut(object, "metadata") {
        for name in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            tree::remove(metadata, name);
        }
    }
    if let Some(row) = table::find(group, kind) {
        (row.create)(object);
    }
}

/// Prepares a changed object: immutable metadata comes from `old`, the status stays, generation
/// rises when the kind says so.
pub fn prepare_update(group: &str, kind: &str, new: &mut Value, old: &Value) {
    keep_metadata(new, old);
    if let Some(row) = table::find(group, kind) {
        (row.update)(new, old);
    }
}

/// Prepares a write to the status subresource: all but the status (and some metadata) stays.
pub fn prepare_status_update(group: &str, kind: &str, new: &mut Value, old: &Value) {
    keep_metadata(new, old);
    match table::find(group, kind) {
        Some(row) => (row.status)(new, old),
        None => kinds::status_only(new, old),
    }
}

/// Prepares a write to a subresource other than the status: only its part of the object changes.
pub fn prepare_subresource_update(
    group: &str,
    kind: &str,
    subresource: &str,
    new: &mut Value,
    old: &Value,
) {
    match (group, kind, subresource) {
        ("", "Namespace", "finalize") => {
            keep_metadata(new, old);
            subresource::finalize(new, old);
        }
        ("", "Pod", "ephemeralcontainers") => subresource::ephemeral_containers(new, old),
        ("", "Pod", "resize") => subresource::resize(new, old),
        ("certificates.k8s.io", "CertificateSigningRequest", "approval") => {
            keep_metadata(new, old);
            certificates::approval(new, old);
        }
        _ => prepare_update(group, kind, new, old),
    }
}

/// Whether a PUT of an object that does not exist creates it.
#[must_use]
pub fn allows_create_on_update(group: &str, kind: &str) -> bool {
    table::find(group, kind).is_some_and(|row| row.create_on_update)
}

/// Whether a PUT without a resource version overwrites whatever is there.
#[must_use]
pub fn allows_unconditional_update(group: &str, kind: &str) -> bool {
    table::find(group, kind).is_none_or(|row| row.unconditional_update)
}

/// What no update can change: times, generation, and the uid when it is left out.
fn keep_metadata(new: &mut Value, old: &Value) {
    let before = tree::get(old, "metadata");
    let Some(metadata) = tree::child_mut(new, "metadata") else { return };
    tree::copy(before, metadata, "generation");
    tree::remove(metadata, "selfLink");
    if tree::text(metadata, "uid").is_empty() {
        tree::copy(before, metadata, "uid");
    }
    if tree::has(before, "creationTimestamp") {
        tree::copy(before, metadata, "creationTimestamp");
    }
    if tree::has(before, "deletionTimestamp") {
        tree::copy(before, metadata, "deletionTimestamp");
    }
    if tree::has(before, "deletionGracePeriodSeconds")
        && !tree::has(metadata, "deletionGracePeriodSeconds")
    {
        tree::copy(before, metadata, "deletionGracePeriodSeconds");
    }
}

#[cfg(test)]
mod tests;
