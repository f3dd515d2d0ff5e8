//! Definitions of custom kinds.

use serde_json::{Value, json};

use super::kinds::{first_generation, keep_status, raise_if_changed};
use super::workload::empty_status;
use crate::schema::ids;
use crate::tree;

/// A definition starts at generation 1, and knows in which version its first objects are kept.
pub(crate) fn create(object: &mut Value) {
    empty_status(object, ids::APIEXTENSIONS_V1_CUSTOMRESOURCEDEFINITIONSTATUS);
    note_stored(object);
    first_generation(object);
}

/// Versions that objects were ever kept in are remembered.
pub(crate) fn update(new: &mut Value, old: &Value) {
    keep_status(new, old);
    note_stored(new);
    raise_if_changed(new, old, "spec");
}

fn note_stored(object: &mut Value) {
    let versions = tree::list(tree::get(object, "spec"), "versions");
    let kept = versions.iter().find(|version| tree::flag(version, "storage"));
    let Some(name) = kept.map(|version| tree::text(version, "name").to_owned()) else { return };
    let Some(status) = tree::child_mut(object, "status") else { return };
    let mut stored = tree::list(status, "storedVersions").to_vec();
    if !stored.iter().any(|one| *one == name) {
        stored.push(json!(name));
        tree::set(status, "storedVersions", stored);
    }
}
