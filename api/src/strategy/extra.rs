//! Admission, flow control, API services, migrations and devices.

use serde_json::{Value, json};

use super::kinds::{
    changed, first_generation, keep_status, no_status, raise_generation, raise_if_changed,
};
use crate::tree;

/// The generation of configurations of webhooks follows the webhooks.
pub(crate) fn update_webhooks(new: &mut Value, old: &Value) {
    raise_if_changed(new, old, "webhooks");
}

/// Starts at generation 1, without a status.
pub(crate) fn start(object: &mut Value) {
    no_status(object);
    first_generation(object);
}

/// The generation follows the spec, the status stays.
pub(crate) fn update(new: &mut Value, old: &Value) {
    keep_status(new, old);
    raise_if_changed(new, old, "spec");
}

/// A write to the status changes neither the spec nor the metadata that people write.
pub(crate) fn status(new: &mut Value, old: &Value) {
    super::kinds::status_only(new, old);
    let before = tree::get(old, "metadata");
    if let Some(metadata) = tree::child_mut(new, "metadata") {
        for name in ["labels", "annotations", "finalizers", "ownerReferences"] {
            tree::copy(before, metadata, name);
        }
    }
}

/// An API service of this server itself is available from the beginning.
pub(crate) fn create_api_service(object: &mut Value) {
    let made = tree::at(object, &["metadata", "creationTimestamp"]).clone();
    if tree::has(tree::get(object, "spec"), "service") {
        no_status(object);
        return;
    }
    let mut condition = json!({
        "type": "Available",
        "status": "True",
        "reason": "Local",
        "message": "Local APIServices are always available",
    });
    if !made.is_null() {
        tree::set(&mut condition, "lastTransitionTime", made);
    }
    tree::set(object, "status", json!({"conditions": [condition]}));
}

/// The generation of slices follows their spec; they have no status.
pub(crate) fn update_spec_only(new: &mut Value, old: &Value) {
    if changed(new, old, "spec") {
        raise_generation(new, old);
    }
}
