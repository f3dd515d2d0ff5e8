//! Volumes, claims for them, and the kinds of `storage.k8s.io`.

use serde_json::{Value, json};

use super::kinds::keep_status;
use super::workload::empty_status;
use crate::schema::ids;
use crate::tree;

/// A volume starts pending, from the time on that it is made.
pub(crate) fn create_volume(object: &mut Value) {
    let made = tree::get(tree::get(object, "metadata"), "creationTimestamp").clone();
    let mut status = json!({"phase": "Pending"});
    if !made.is_null() {
        tree::set(&mut status, "lastPhaseTransitionTime", made);
    }
    tree::set(object, "status", status);
}

/// A claim starts pending; both ways to name its source say the same.
pub(crate) fn create_claim(object: &mut Value) {
    tree::set(object, "status", json!({"phase": "Pending"}));
    if let Some(spec) = tree::existing_mut(object, "spec") {
        data_sources(spec);
    }
}

/// A claim's status changes only through its subresource.
pub(crate) fn update_claim(new: &mut Value, old: &Value) {
    keep_status(new, old);
    if let Some(spec) = tree::existing_mut(new, "spec") {
        data_sources(spec);
    }
}

fn data_sources(spec: &mut Value) {
    let (old, new) = ("dataSource", "dataSourceRef");
    let mut source = tree::get(spec, old).clone();
    let known = match (tree::text(&source, "apiGroup"), tree::text(&source, "kind")) {
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot") => true,
        _ => source.is_null(),
    };
    if !tree::has(spec, new) && !source.is_null() {
        tree::set(spec, new, source.clone());
    }
    // The old field never took another kind, and forgot it.
    if !known {
        tree::remove(spec, old);
        source = Value::Null;
    }
    let reference = tree::get(spec, new).clone();
    if source.is_null()
        && reference.is_object()
        && tree::text(&reference, "namespace").is_empty()
        && matches!(
            (tree::text(&reference, "apiGroup"), tree::text(&reference, "kind")),
            ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
        )
    {
        let mut source = reference;
        tree::remove(&mut source, "namespace");
        tree::set(spec, old, source);
    }
}

/// An attachment starts without a status.
pub(crate) fn create_attachment(object: &mut Value) {
    empty_status(object, ids::STORAGE_V1_VOLUMEATTACHMENTSTATUS);
}
