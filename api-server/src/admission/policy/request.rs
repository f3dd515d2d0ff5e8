//! The `request` of expressions: an `AdmissionRequest`, without its objects.

use quorate_api::resource::ResourceDef;
use serde_json::{Value, json};

use super::matching::operation;
use crate::admission::Draft;
use crate::identity::Identity;

/// A write as a request about a resource, which may be another version of what is written.
pub(super) fn of(draft: &Draft, meant: &ResourceDef, by: &Identity) -> Value {
    let kind = |def: &ResourceDef| {
        let gvk = def.subresource(draft.sub).map_or(def.gvk, |sub| sub.gvk);
        json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
    };
    let resource = |def: &ResourceDef| json!({"group": def.group(), "version": def.version(), "resource": def.plural});
    let user = by.user();
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    let mut request = json!({
        "uid": uuid::Uuid::new_v4().to_string(),
        "kind": kind(meant),
        "resource": resource(meant),
        "requestKind": kind(draft.def),
        "requestResource": resource(draft.def),
        "operation": operation(draft.operation),
        "userInfo": info,
        "dryRun": draft.asked.dry_run,
        "options": draft.asked.options(draft.operation),
    });
    for (name, value) in [
        ("subResource", draft.sub),
        ("requestSubResource", draft.sub),
        ("name", &draft.name),
        ("namespace", &draft.namespace),
    ] {
        if !value.is_empty() {
            request[name] = json!(value);
        }
    }
    request
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
