//! Pods as a controller's template says.

use serde_json::{Value, json};

use crate::model::Meta;

/// A pod with a generated name, managed by who has this metadata.
pub(super) fn pod(template: &Value, owner: &Meta, api_version: &str, kind: &str) -> Value {
    let mut metadata = json!({
        "generateName": format!("{}-", owner.name),
        "namespace": owner.namespace,
        "ownerReferences": [owner.as_controller(api_version, kind)],
    });
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template["spec"],
    })
}

/// Sets a label of an object.
pub(super) fn label(object: &mut Value, key: &str, value: &str) {
    if !object["metadata"]["labels"].is_object() {
        object["metadata"]["labels"] = json!({});
    }
    object["metadata"]["labels"][key] = json!(value);
}

/// A number, or a percentage of `total`, rounded up.
pub(super) fn scaled_up(value: &Value, total: usize) -> usize {
    if let Some(number) = value.as_u64() {
        return usize::try_from(number).unwrap_or(usize::MAX);
    }
    let percent = value.as_str().and_then(|text| text.strip_suffix('%'));
    let percent: usize = percent.and_then(|percent| percent.parse().ok()).unwrap_or(0);
    percent.saturating_mul(total).div_ceil(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_rounded_up() {
        for (value, total, expected) in [
            (json!(3), 10, 3),
            (json!("10%"), 10, 1),
            (json!("11%"), 10, 2),
            (json!("0%"), 10, 0),
            (json!("100%"), 0, 0),
            (Value::Null, 10, 0),
        ] {
            assert_eq!(scaled_up(&value, total), expected, "{value} of {total}");
        }
    }
}
