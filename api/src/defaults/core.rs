//! Defaults of the small kinds of the core group, and of `PriorityClass`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::pod;
use crate::tree;

/// The label each namespace carries with its own name.
pub(crate) const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// `SetDefaults_Namespace` and `SetDefaults_NamespaceStatus`.
pub(crate) fn namespace(object: &mut Value) {
    let name = tree::text(tree::get(object, "metadata"), "name").to_owned();
    if !name.is_empty()
        && let Some(metadata) = tree::child_mut(object, "metadata")
        && let Some(labels) = tree::child_mut(metadata, "labels")
    {
        tree::set(labels, NAMESPACE_NAME_LABEL, name);
    }
    if let Some(status) = tree::child_mut(object, "status") {
        tree::default_text(status, "phase", "Active");
    }
}

/// `SetDefaults_NodeStatus`: what is not said to be reserved can be allocated.
pub(crate) fn node(object: &mut Value) {
    let Some(status) = tree::existing_mut(object, "status") else { return };
    pod::round_list(status, "capacity");
    if !tree::has(status, "allocatable") && tree::has(status, "capacity") {
        let capacity = tree::get(status, "capacity").clone();
        tree::set(status, "allocatable", capacity);
    }
    pod::round_list(status, "allocatable");
}

/// `SetDefaults_Secret`, and `stringData` becoming `data`.
pub(crate) fn secret(object: &mut Value) {
    tree::default_text(object, "type", "Opaque");
    let Some(Value::Object(plain)) = object.as_object_mut().and_then(|o| o.remove("stringData"))
    else {
        return;
    };
    if plain.is_empty() {
        return;
    }
    let Some(data) = tree::child_mut(object, "data") else { return };
    for (key, value) in plain {
        tree::set(data, &key, STANDARD.encode(value.as_str().unwrap_or_default()));
    }
}

/// `SetDefaults_Endpoints`.
pub(crate) fn endpoints(object: &mut Value) {
    for subset in tree::items_mut(object, "subsets") {
        for port in tree::items_mut(subset, "ports") {
            tree::default_text(port, "protocol", "TCP");
        }
    }
}

/// `SetDefaults_PriorityClass`.
pub(crate) fn priority_class(object: &mut Value) {
    tree::default(object, "preemptionPolicy", "PreemptLowerPriority");
}
