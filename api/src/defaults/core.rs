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

/// `SetDefaults_LimitRangeItem`: containers get limits and requests from what they may have.
pub(crate) fn limit_range(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    for limit in tree::items_mut(spec, "limits") {
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            pod::round_list(limit, list);
        }
        if tree::text(limit, "type") != "Container" {
            continue;
        }
        for (from, to) in
            [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")]
        {
            let amounts = tree::get(limit, from).clone();
            let Some(target) = tree::child_mut(limit, to) else { continue };
            for (name, amount) in amounts.as_object().into_iter().flatten() {
                tree::default(target, name, amount.clone());
            }
        }
    }
}

/// Amounts of quotas in thousandths, rounded up.
pub(crate) fn quota(object: &mut Value) {
    for (holder, list) in [("spec", "hard"), ("status", "hard"), ("status", "used")] {
        if let Some(holder) = tree::existing_mut(object, holder) {
            pod::round_list(holder, list);
        }
    }
}

/// `SetDefaults_ReplicationController`.
pub(crate) fn replication_controller(object: &mut Value) {
    let labels = tree::at(object, &["spec", "template", "metadata", "labels"]).clone();
    if !tree::is_empty(&labels) {
        for (holder, field) in [("spec", "selector"), ("metadata", "labels")] {
            if let Some(holder) = tree::child_mut(object, holder)
                && tree::is_empty(tree::get(holder, field))
            {
                tree::set(holder, field, labels.clone());
            }
        }
    }
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    tree::default(spec, "replicas", 1);
    if tree::has(spec, "template") {
        super::apps::template(spec);
    }
}

/// The pod spec of a pod template.
pub(crate) fn pod_template(object: &mut Value) {
    super::apps::template(object);
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
