//! The strategy functions of each kind, named in the table of kinds.

use serde_json::{Value, json};

use super::pod;
use crate::tree;

/// The finalizer that makes the namespace controller empty a namespace before it goes.
const NAMESPACE_FINALIZER: &str = "kubernetes";

fn metadata_mut(object: &mut Value) -> Option<&mut Value> {
    tree::child_mut(object, "metadata")
}

fn set_generation(object: &mut Value, generation: i64) {
    if let Some(metadata) = metadata_mut(object) {
        tree::set(metadata, "generation", generation);
    }
}

pub(super) fn raise_generation(new: &mut Value, old: &Value) {
    let generation = tree::int(tree::get(old, "metadata"), "generation");
    set_generation(new, generation.saturating_add(1));
}

/// The generation rises with a change of this field.
pub(super) fn raise_if_changed(new: &mut Value, old: &Value, name: &str) {
    if changed(new, old, name) {
        raise_generation(new, old);
    }
}

pub(super) fn changed(new: &Value, old: &Value, name: &str) -> bool {
    !tree::same(tree::get(new, name), tree::get(old, name))
}

/// A kind whose generation starts at 1 and which has no status.
pub(crate) fn first_generation(object: &mut Value) {
    set_generation(object, 1);
}

/// A kind that starts without a status, and has no generation.
pub(crate) fn no_status(object: &mut Value) {
    tree::set(object, "status", json!({}));
}

/// The default of the status subresource: the spec stays.
pub(crate) fn status_only(new: &mut Value, old: &Value) {
    tree::copy(old, new, "spec");
}

/// The default of updates of kinds with a status.
pub(crate) fn keep_status(new: &mut Value, old: &Value) {
    tree::copy(old, new, "status");
}

/// A namespace starts active and with its finalizer.
pub(crate) fn create_namespace(object: &mut Value) {
    tree::set(object, "status", json!({"phase": "Active"}));
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    if !tree::list(spec, "finalizers").iter().any(|f| f == NAMESPACE_FINALIZER) {
        let mut finalizers = tree::list(spec, "finalizers").to_vec();
        finalizers.push(json!(NAMESPACE_FINALIZER));
        tree::set(spec, "finalizers", finalizers);
    }
}

/// Finalizers change only through the `finalize` subresource.
pub(crate) fn update_namespace(new: &mut Value, old: &Value) {
    keep_status(new, old);
    namespace_status(new, old);
}

/// The namespace's status subresource.
pub(crate) fn namespace_status(new: &mut Value, old: &Value) {
    let finalizers = tree::get(old, "spec");
    if let Some(spec) = tree::child_mut(new, "spec") {
        tree::copy(finalizers, spec, "finalizers");
    }
}

/// The kubelet configuration by reference is gone; what a client says of it is dropped. `podCIDR` is
/// the first of `podCIDRs`, and wins when both are said (upstream's conversion of nodes).
pub(crate) fn create_node(object: &mut Value) {
    if let Some(spec) = tree::existing_mut(object, "spec") {
        let one = tree::text(spec, "podCIDR").to_owned();
        let first = tree::texts(spec, "podCIDRs").next().unwrap_or_default().to_owned();
        if one.is_empty() && !first.is_empty() {
            tree::set(spec, "podCIDR", first);
        } else if !one.is_empty() && one != first {
            tree::set(spec, "podCIDRs", json!([one]));
        }
    }
    for (holder, field) in [("spec", "configSource"), ("status", "config")] {
        if let Some(holder) = tree::existing_mut(object, holder) {
            tree::remove(holder, field);
        }
    }
}

/// A node's status changes through its subresource, and through that alone.
pub(crate) fn update_node(new: &mut Value, old: &Value) {
    keep_status(new, old);
    create_node(new);
}

/// A pod starts pending, with its quality of service class computed.
pub(crate) fn create_pod(object: &mut Value) {
    set_generation(object, 1);
    let class = pod::qos_class(object);
    let mut status = json!({"phase": "Pending", "qosClass": class});
    let gated = !tree::list(tree::get(object, "spec"), "schedulingGates").is_empty();
    if gated {
        tree::set(&mut status, "conditions", json!([pod::gated_condition()]));
    }
    tree::set(object, "status", status);
    pod::merge_label_keys(object);
    if let Some(spec) = tree::existing_mut(object, "spec") {
        crate::defaults::pod::mirror_service_account(spec);
    }
}

/// A pod's status changes only through its subresource.
pub(crate) fn update_pod(new: &mut Value, old: &Value) {
    keep_status(new, old);
    if let Some(spec) = tree::existing_mut(new, "spec") {
        crate::defaults::pod::mirror_service_account(spec);
    }
    if changed(new, old, "spec") {
        raise_generation(new, old);
    }
}

/// A pod's status update cannot touch spec, owners or deletion time, and loses neither the class
/// nor what was observed when a client does not know these fields.
pub(crate) fn pod_status(new: &mut Value, old: &Value) {
    status_only(new, old);
    let before = tree::get(old, "metadata");
    if let Some(metadata) = metadata_mut(new) {
        tree::copy(before, metadata, "ownerReferences");
        tree::copy(before, metadata, "deletionTimestamp");
    }
    let before = tree::get(old, "status");
    let Some(status) = tree::child_mut(new, "status") else { return };
    let class = tree::text(before, "qosClass");
    if !class.is_empty() {
        tree::default_text(status, "qosClass", class);
    }
    keep_observed(status, before);
    let mut left: Vec<&Value> = tree::list(before, "conditions").iter().collect();
    for condition in tree::items_mut(status, "conditions") {
        let kind = tree::text(condition, "type");
        if let Some(at) = left.iter().position(|one| tree::text(one, "type") == kind) {
            keep_observed(condition, left.remove(at));
        }
    }
}

fn keep_observed(new: &mut Value, old: &Value) {
    let name = "observedGeneration";
    let before = tree::int(old, name);
    if tree::int(new, name) == 0 && before != 0 {
        tree::set(new, name, before);
    }
}

/// A service account's secrets are names only.
pub(crate) fn create_service_account(object: &mut Value) {
    for secret in tree::items_mut(object, "secrets") {
        let name = tree::get(secret, "name").clone();
        *secret = json!({"name": name});
    }
}

/// As on creation.
pub(crate) fn update_service_account(new: &mut Value, _: &Value) {
    create_service_account(new);
}

/// A deployment starts at generation 1 without a status.
pub(crate) fn create_deployment(object: &mut Value) {
    tree::set(object, "status", json!({}));
    set_generation(object, 1);
}

/// A deployment's generation follows its spec and its annotations.
pub(crate) fn update_deployment(new: &mut Value, old: &Value) {
    keep_status(new, old);
    let annotations = |object| tree::at(object, &["metadata", "annotations"]);
    if changed(new, old, "spec") || !tree::same(annotations(new), annotations(old)) {
        raise_generation(new, old);
    }
}

/// A deployment's status update keeps spec and labels.
pub(crate) fn deployment_status(new: &mut Value, old: &Value) {
    status_only(new, old);
    if let Some(metadata) = metadata_mut(new) {
        tree::copy(tree::get(old, "metadata"), metadata, "labels");
    }
}

/// A replica set starts at generation 1 with no replicas counted.
pub(crate) fn create_replica_set(object: &mut Value) {
    tree::set(object, "status", json!({"replicas": 0}));
    set_generation(object, 1);
}

/// A replica set's generation follows its spec.
pub(crate) fn update_replica_set(new: &mut Value, old: &Value) {
    keep_status(new, old);
    if changed(new, old, "spec") {
        raise_generation(new, old);
    }
}

/// An endpoint slice starts at generation 1, without the topology of older versions.
pub(crate) fn create_endpoint_slice(object: &mut Value) {
    set_generation(object, 1);
    for endpoint in tree::items_mut(object, "endpoints") {
        tree::remove(endpoint, "deprecatedTopology");
    }
}

/// An endpoint slice's generation follows everything but metadata, and its labels.
pub(crate) fn update_endpoint_slice(new: &mut Value, old: &Value) {
    let labels = |object| tree::at(object, &["metadata", "labels"]);
    let content = ["addressType", "endpoints", "ports"];
    if content.iter().any(|name| changed(new, old, name)) || !tree::same(labels(new), labels(old)) {
        raise_generation(new, old);
    }
    if changed(new, old, "endpoints") {
        for endpoint in tree::items_mut(new, "endpoints") {
            tree::remove(endpoint, "deprecatedTopology");
        }
    }
}
