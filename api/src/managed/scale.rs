//! Owners across the `scale` subresource: who owns `spec.replicas` of an object owns `spec.replicas` of its Scale
//! (apimachinery's `managedfields.ScaleHandler`).

use serde_json::Value;

use super::entries::{self, Entry};
use super::set::Set;

/// The `apiVersion` of Scales.
const SCALE_VERSION: &str = "autoscaling/v1";

fn replicas() -> Set {
    Set::of(&[&["f:spec", "f:replicas"]])
}

fn owns_replicas(entry: &Entry) -> bool {
    !entry.set.intersection(&replicas()).is_empty()
}

/// The managedFields of a Scale, from those of its object: who owns the replicas.
#[must_use]
pub fn of_scale(object: &Value) -> Value {
    let owners = entries::decode(super::field(object)).unwrap_or_default();
    let owners = owners.into_iter().filter(owns_replicas).map(|entry| Entry {
        api_version: SCALE_VERSION.to_owned(),
        set: replicas(),
        ..entry
    });
    entries::encode(owners.collect())
}

/// The managedFields of an object after its Scale was written: as they were, but the replicas belong to whom they
/// belong in the Scale. `api_version`: the object's.
#[must_use]
pub fn of_scaled(object: &Value, scale: &Value, api_version: &str) -> Value {
    let before = entries::decode(super::field(object)).unwrap_or_default();
    let mut owners = entries::decode(super::field(scale)).unwrap_or_default();
    owners.retain(owns_replicas);
    let mut after = Vec::with_capacity(before.len() + owners.len());
    for mut entry in before {
        if owns_replicas(&entry) {
            let same = |owner: &Entry| {
                owner.operation == entry.operation
                    && owner.is_of(&entry.manager, &entry.subresource)
            };
            match owners.iter().position(same) {
                Some(at) => entry.time = owners.remove(at).time,
                None => entry.set = entry.set.difference(&replicas()),
            }
        }
        after.push(entry);
    }
    after.extend(owners.into_iter().map(|owner| Entry {
        api_version: api_version.to_owned(),
        set: replicas(),
        ..owner
    }));
    after.retain(|entry| !entry.set.is_empty());
    entries::cap(&mut after);
    entries::encode(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(manager: &str, operation: &str, version: &str, sub: &str, fields: &Value) -> Value {
        let mut entry = json!({"manager": manager, "operation": operation, "apiVersion": version,
            "fieldsType": "FieldsV1", "fieldsV1": fields, "time": "2026-01-01T00:00:00Z"});
        if !sub.is_empty() {
            entry["subresource"] = json!(sub);
        }
        entry
    }

    fn object(entries: &[Value]) -> Value {
        json!({"metadata": {"managedFields": entries}})
    }

    #[test]
    fn replicas_keep_lose_and_find_their_owner() {
        let both = json!({"f:spec": {"f:replicas": {}, "f:paused": {}}});
        let only = json!({"f:spec": {"f:replicas": {}}});
        let deployment = object(&[
            entry("kubectl", "Apply", "apps/v1", "", &both),
            entry("setter", "Update", "apps/v1", "", &json!({"f:spec": {"f:selector": {}}})),
        ]);
        let of_scale = of_scale(&deployment);
        assert_eq!(of_scale, json!([entry("kubectl", "Apply", "autoscaling/v1", "", &only)]));
        let unchanged = object(of_scale.as_array().unwrap());
        assert_eq!(
            of_scaled(&deployment, &unchanged, "apps/v1"),
            *super::super::field(&deployment)
        );
        let taken = object(&[entry("hpa", "Apply", "autoscaling/v1", "scale", &only)]);
        assert_eq!(
            of_scaled(&deployment, &taken, "apps/v1"),
            json!([
                entry("hpa", "Apply", "apps/v1", "scale", &only),
                entry("kubectl", "Apply", "apps/v1", "", &json!({"f:spec": {"f:paused": {}}})),
                entry("setter", "Update", "apps/v1", "", &json!({"f:spec": {"f:selector": {}}})),
            ])
        );
        let nobody = object(&[]);
        let left =
            of_scaled(&object(&[entry("x", "Update", "apps/v1", "", &only)]), &nobody, "apps/v1");
        assert_eq!(left, Value::Null);
    }
}
