//! Subresources other than the status that change an object: each changes one part of it alone.

use serde_json::Value;

use super::kinds::raise_generation;
use crate::tree;

/// The metadata that no subresource changes (apimachinery's `ResetObjectMetaForStatus`).
const KEPT: [&str; 8] = [
    "annotations",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "labels",
    "managedFields",
    "ownerReferences",
    "selfLink",
];

fn keep_metadata(new: &mut Value, old: &Value) {
    let before = tree::get(old, "metadata");
    if let Some(metadata) = tree::child_mut(new, "metadata") {
        for name in KEPT {
            tree::copy(before, metadata, name);
        }
    }
}

/// `namespaces/finalize`: the finalizers of the spec, and the metadata.
pub(crate) fn finalize(new: &mut Value, old: &Value) {
    tree::copy(old, new, "status");
}

/// `pods/ephemeralcontainers`: these containers.
pub(crate) fn ephemeral_containers(new: &mut Value, old: &Value) {
    let name = "ephemeralContainers";
    let wanted = tree::get(tree::get(new, "spec"), name).clone();
    only_spec(new, old);
    if let Some(spec) = tree::child_mut(new, "spec") {
        if wanted.is_null() {
            tree::remove(spec, name);
        } else {
            tree::set(spec, name, wanted);
        }
    }
    follow_spec(new, old);
}

/// `pods/resize`: resources and resize policies of containers, and the pod's resources. Containers
/// that are not the old ones in their order are left as they are, for validation to refuse.
pub(crate) fn resize(new: &mut Value, old: &Value) {
    let wanted = tree::get(new, "spec").clone();
    let before = tree::get(old, "spec");
    let lists = ["containers", "initContainers"];
    if lists.iter().any(|list| names(&wanted, list).len() != names(before, list).len()) {
        return;
    }
    only_spec(new, old);
    let Some(spec) = tree::child_mut(new, "spec") else { return };
    tree::copy(&wanted, spec, "resources");
    for list in lists {
        if names(&wanted, list) != names(before, list) {
            tree::copy(&wanted, spec, list);
            continue;
        }
        let containers = tree::list(&wanted, list);
        for (container, wanted) in tree::items_mut(spec, list).zip(containers) {
            tree::copy(wanted, container, "resources");
            tree::copy(wanted, container, "resizePolicy");
        }
    }
    follow_spec(new, old);
}

fn names<'a>(spec: &'a Value, list: &str) -> Vec<&'a str> {
    tree::list(spec, list).iter().map(|container| tree::text(container, "name")).collect()
}

/// All of the old version, but for the metadata that a client may send.
fn only_spec(new: &mut Value, old: &Value) {
    tree::copy(old, new, "spec");
    tree::copy(old, new, "status");
    keep_metadata(new, old);
}

fn follow_spec(new: &mut Value, old: &Value) {
    if !tree::same(tree::get(new, "spec"), tree::get(old, "spec")) {
        raise_generation(new, old);
    }
}
