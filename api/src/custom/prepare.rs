//! What each verb may change in custom objects: the strategy of upstream's registry.

use serde_json::{Map, Value};

use super::Custom;
use crate::tree;

/// A new object starts at generation 1, without a status where that is a subresource.
pub fn create(custom: &Custom, object: &mut Value) {
    if custom.has_status {
        tree::remove(object, "status");
    }
    set_generation(object, 1);
}

/// The status stays where that is a subresource; what else changes raises the generation.
pub fn update(custom: &Custom, new: &mut Value, old: &Value) {
    if custom.has_status {
        tree::copy(old, new, "status");
    }
    let content = |object: &Value| -> Map<String, Value> {
        let all = object.as_object().into_iter().flatten();
        let all = all.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "apiVersion"));
        all.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let before = tree::int(tree::get(old, "metadata"), "generation");
    let changed = content(new) != content(old);
    set_generation(new, if changed { before + 1 } else { before });
}

/// Only the status changes, and who owns it.
pub fn status(new: &mut Value, old: &Value) {
    let owners = tree::at(new, &["metadata", "managedFields"]).clone();
    let version = tree::at(new, &["metadata", "resourceVersion"]).clone();
    let status = new.get("status").cloned();
    let mut object = old.clone();
    match status {
        Some(status) => tree::set(&mut object, "status", status),
        None => tree::remove(&mut object, "status"),
    }
    if let Some(metadata) = tree::child_mut(&mut object, "metadata") {
        for (name, value) in [("managedFields", owners), ("resourceVersion", version)] {
            if value.is_null() {
                tree::remove(metadata, name);
            } else {
                tree::set(metadata, name, value);
            }
        }
    }
    tree::copy(new, &mut object, "apiVersion");
    *new = object;
}

fn set_generation(object: &mut Value, generation: i64) {
    if let Some(metadata) = tree::child_mut(object, "metadata") {
        tree::set(metadata, "generation", generation);
    }
}
