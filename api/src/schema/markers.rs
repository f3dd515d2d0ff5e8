//! The `+default=` markers of the tables: defaults that need no code.
//!
//! Upstream generates the same from the same markers. They come before a kind's own defaults.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{Field, Kind, Type, TypeId};
use crate::normalise;

/// Sets each marked field that is not there (or, for values, zero), in structs that are there.
/// Idempotent; the object stays in normal form.
pub fn apply(value: &mut Value, ty: TypeId) {
    if leads_to_marker(ty) {
        of_kind(value, Kind::Ref(ty));
    }
}

fn of_kind(value: &mut Value, kind: Kind) {
    match (kind, value) {
        (Kind::Ref(id), Value::Object(map)) if leads_to_marker(id) => structure(map, id.get()),
        (Kind::List(item), Value::Array(list)) if may_lead(*item) => {
            list.iter_mut().for_each(|value| of_kind(value, *item));
        }
        (Kind::Map(item), Value::Object(map)) if may_lead(*item) => {
            map.iter_mut().for_each(|(_, value)| of_kind(value, *item));
        }
        _ => {}
    }
}

fn structure(map: &mut Map<String, Value>, ty: &'static Type) {
    for field in ty.fields() {
        if let Some(value) = map.get_mut(field.json) {
            of_kind(value, field.kind);
        }
        if let Some(default) = marked(field) {
            let unset = map.get(field.json).is_none_or(|value| {
                value.is_null() || !field.pointer() && *value == normalise::zero(field.kind)
            });
            if unset {
                map.insert(field.json.to_owned(), default);
            }
        }
    }
}

/// The default of a field, unless setting it changes nothing.
fn marked(field: &Field) -> Option<Value> {
    if field.default.is_empty() {
        return None;
    }
    let default = serde_json::from_str(field.default).ok()?;
    (field.pointer() || default != normalise::zero(field.kind)).then_some(default)
}

fn may_lead(kind: Kind) -> bool {
    match kind {
        Kind::Ref(id) => leads_to_marker(id),
        Kind::List(item) | Kind::Map(item) => may_lead(*item),
        _ => false,
    }
}

/// Whether a struct or one below it has a marker: the others are not walked.
fn leads_to_marker(ty: TypeId) -> bool {
    static LEADS: LazyLock<Vec<bool>> = LazyLock::new(|| {
        let types: Vec<&Type> = super::all().map(|(_, ty)| ty).collect();
        let mut leads: Vec<bool> =
            types.iter().map(|ty| ty.fields().iter().any(|f| marked(f).is_some())).collect();
        // To a fixed point: types refer to each other in any order, and to themselves.
        loop {
            let mut changed = false;
            for (at, ty) in types.iter().enumerate() {
                if !leads[at] && ty.fields().iter().any(|f| refers(f.kind, &leads)) {
                    leads[at] = true;
                    changed = true;
                }
            }
            if !changed {
                return leads;
            }
        }
    });
    LEADS[usize::from(ty.0)]
}

fn refers(kind: Kind, leads: &[bool]) -> bool {
    match kind {
        Kind::Ref(id) => leads[usize::from(id.0)],
        Kind::List(item) | Kind::Map(item) => refers(*item, leads),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::ids;
    use serde_json::json;

    #[test]
    fn marked_fields_are_set_where_their_struct_is() {
        let mut pod = json!({"spec": {
            "containers": [{"ports": [{"containerPort": 80}, {"protocol": "UDP"}, {"protocol": ""}]}],
            "volumes": [{"azureDisk": {"diskName": "a", "readOnly": true}}, {"name": "b"}],
        }});
        apply(&mut pod, ids::CORE_V1_POD);
        let expected = json!({"spec": {
            "containers": [{"ports": [{"containerPort": 80, "protocol": "TCP"},
                {"protocol": "UDP"}, {"protocol": "TCP"}]}],
            "volumes": [{"azureDisk": {"diskName": "a", "readOnly": true, "kind": "Shared",
                "cachingMode": "ReadWrite", "fsType": "ext4"}}, {"name": "b"}],
        }});
        assert_eq!(pod, expected);
        apply(&mut pod, ids::CORE_V1_POD);
        assert_eq!(pod, expected, "idempotent");
    }

    #[test]
    fn each_marker_is_json() {
        for (_, ty) in crate::schema::all() {
            for field in ty.fields().iter().filter(|field| !field.default.is_empty()) {
                let parsed: Result<Value, _> = serde_json::from_str(field.default);
                assert!(parsed.is_ok(), "{}.{}: {}", ty.name, field.json, field.default);
            }
        }
    }

    #[test]
    fn most_structs_are_not_walked() {
        assert!(leads_to_marker(ids::APPS_V1_DEPLOYMENT));
        assert!(!leads_to_marker(ids::CORE_V1_CONFIGMAP));
        assert!(!leads_to_marker(ids::META_V1_OBJECTMETA));
    }
}
