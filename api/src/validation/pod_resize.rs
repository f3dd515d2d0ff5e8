//! What may change in a pod's resources while it runs (`pods/resize`).

use serde_json::{Value, json};

use super::pod::{MIRROR, metadata_and_spec};
use super::{Errors, meta};
use crate::field::{Error, Path};
use crate::strategy::pod::qos_class;
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const CPU_AND_MEMORY: [&str; 2] = ["cpu", "memory"];

/// What is wrong with a write to a pod's `resize`.
#[must_use]
pub fn resize_update(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Errors::new();
    meta::update(new, old, &mut errors);
    metadata_and_spec(new, &mut errors);
    let os = tree::at(old, &["spec", "os"]);
    let never = if tree::has(tree::at(old, &["metadata", "annotations"]), MIRROR) {
        "static pods cannot be resized"
    } else if tree::text(os, "name") == "windows" {
        "windows pods cannot be resized"
    } else {
        ""
    };
    if !never.is_empty() {
        let mut error = Error::forbidden(&Path::new(""), never);
        "[]".clone_into(&mut error.field); // as upstream writes the object itself
        return vec![error];
    }
    if qos_class(new) != class_of(old) {
        let class = tree::get(tree::get(new, "status"), "qosClass").clone();
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(Error::invalid(&SPEC, class, detail));
    }
    if !is_supported(old) {
        let detail = "Pod running on node without support for resize";
        errors.push(Error::forbidden(&SPEC, detail));
    }
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    removed(after, before, &SPEC, &mut errors);
    if same_containers(after, before) {
        containers(after, before, &mut errors);
    }
    if errors.is_empty() && !tree::same(&without_compute(after, before), before) {
        errors.push(Error::forbidden(&SPEC, "only cpu and memory resources are mutable"));
    }
    errors
}

fn class_of(pod: &Value) -> &str {
    match tree::text(tree::get(pod, "status"), "qosClass") {
        "" => qos_class(pod),
        class => class,
    }
}

/// A node that can resize says what its running containers have.
fn is_supported(pod: &Value) -> bool {
    tree::list(tree::get(pod, "status"), "containerStatuses")
        .iter()
        .find(|status| tree::has(tree::get(status, "state"), "running"))
        .is_none_or(|status| tree::has(status, "resources"))
}

fn same_containers(after: &Value, before: &Value) -> bool {
    ["containers", "initContainers"].iter().all(|list| {
        let names = |spec| tree::list(spec, list).iter().map(|c| tree::text(c, "name"));
        names(after).eq(names(before))
    })
}

fn containers(after: &Value, before: &Value, errors: &mut Errors) {
    for list in ["initContainers", "containers"] {
        let path = SPEC.child(list);
        let pairs = tree::list(after, list).iter().zip(tree::list(before, list));
        for (i, (new, old)) in pairs.enumerate() {
            let regular = list == "containers";
            let sidecar = tree::text(old, "restartPolicy") == "Always";
            if regular || sidecar {
                removed(new, old, &path.index(i), errors);
            }
            let detail = match (regular, sidecar) {
                (true, _) => "only cpu and memory resources are mutable",
                (false, true) => "only cpu and memory resources for sidecar containers are mutable",
                (false, false) => "resources for non-sidecar init containers are immutable",
            };
            let compared =
                if regular || sidecar { compute_as_before(new, old) } else { new.clone() };
            if !tree::same(&compared, old) {
                errors.push(Error::forbidden(&SPEC, detail));
            }
        }
    }
}

/// Requests and limits may change, not go.
fn removed(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("resources");
    for (list, detail) in [
        ("requests", "resource requests cannot be removed"),
        ("limits", "resource limits cannot be removed"),
    ] {
        let has = tree::get(tree::get(new, "resources"), list);
        if tree::entries(tree::get(old, "resources"), list).any(|(name, _)| !tree::has(has, name)) {
            errors.push(Error::forbidden(&path.child(list), detail));
        }
    }
}

/// The new container with cpu, memory and resize policy as they were.
fn compute_as_before(new: &Value, old: &Value) -> Value {
    let mut container = new.clone();
    tree::copy(old, &mut container, "resizePolicy");
    let before = tree::get(old, "resources");
    let Some(resources) = tree::child_mut(&mut container, "resources") else { return container };
    for list in ["limits", "requests"] {
        let before = tree::get(before, list);
        if before.is_null() && !tree::has(resources, list) {
            continue;
        }
        if let Some(amounts) = tree::child_mut(resources, list) {
            for name in CPU_AND_MEMORY {
                tree::copy(before, amounts, name);
            }
        }
    }
    container
}

fn without_compute(after: &Value, before: &Value) -> Value {
    let mut spec = compute_as_before(after, before);
    for list in ["containers", "initContainers"] {
        let pairs = tree::list(after, list).iter().zip(tree::list(before, list));
        let restored: Vec<Value> = pairs.map(|(new, old)| compute_as_before(new, old)).collect();
        if !restored.is_empty() {
            tree::set(&mut spec, list, json!(restored));
        }
    }
    spec
}
