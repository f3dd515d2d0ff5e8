//! The `request` of expressions: an `AdmissionRequest`, without its objects.

use quorate_api::resource::ResourceDef;
use serde_json::{Value, json};

use crate::admission::{Draft, webhook};
use crate::identity::Identity;

/// A write as a request about a resource, which may be another version of what is written.
pub(super) fn of(draft: &Draft, meant: &ResourceDef, by: &Identity) -> Value {
    webhook::about(draft, meant, by)
}

/// An object as another version of its kind, with its type.
pub(super) fn shown(object: &Value, from: &ResourceDef, to: &ResourceDef) -> Value {
    if object.is_null() {
        return Value::Null;
    }
    let mut shown = object.clone();
    if from.gvk != to.gvk {
        shown = crate::convert::to_served(to, crate::convert::to_stored(from, shown));
    }
    if let Some(map) = shown.as_object_mut() {
        map.entry("apiVersion").or_insert_with(|| json!(to.api_version()));
        map.entry("kind").or_insert_with(|| json!(to.kind()));
    }
    shown
}
