//! A part of an object, put over it: what a mutation of an admission policy yields. Nobody owns anything by it.

use serde_json::Value;

use super::{Shape, Target, merge};

/// The object with what the part says, merged as an apply merges.
///
/// # Errors
/// The part says something of what can be replaced as a whole only.
pub fn overlay(object: &Value, part: &Value, target: Target) -> Result<Value, String> {
    let shape = target.shape();
    let mut whole = Vec::new();
    atomics(part, shape, "", &mut whole);
    if !whole.is_empty() {
        let whole = whole.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {whole}"
        ));
    }
    Ok(merge::merge(object, part, shape))
}

/// Where a part has lists, maps and structs that are one value.
fn atomics(part: &Value, shape: Shape, path: &str, out: &mut Vec<String>) {
    match (part, shape.settled(None, Some(part))) {
        (Value::Array(_) | Value::Object(_), Shape::Atomic) => out.push(path.to_owned()),
        (Value::Object(fields), shape) => {
            for (name, value) in fields {
                atomics(value, shape.child(name), &format!("{path}.{name}"), out);
            }
        }
        (Value::Array(items), shape) => {
            for (at, item) in items.iter().enumerate() {
                atomics(item, shape.item(), &format!("{path}[{at}]"), out);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource;

    #[test]
    fn parts_are_merged_by_the_keys_of_lists() {
        let def = resource::lookup("apps", "v1", "deployments").unwrap();
        let target = Target { gvk: def.gvk, schema: def.schema, has_status: true, custom: None };
        let object = json!({"metadata": {"name": "d", "labels": {"a": "b"}}, "spec": {"replicas": 1, "template":
            {"spec": {"containers": [{"name": "one", "image": "i"}]}}}});
        let part = json!({"metadata": {"labels": {"c": "d"}}, "spec": {"replicas": 2, "template": {"spec":
            {"containers": [{"name": "one", "env": [{"name": "X", "value": "y"}]}, {"name": "two"}]}}}});
        assert_eq!(
            overlay(&object, &part, target).unwrap(),
            json!({"metadata": {"name": "d", "labels": {"a": "b", "c": "d"}}, "spec": {"replicas": 2, "template":
                {"spec": {"containers": [{"name": "one", "image": "i", "env": [{"name": "X", "value": "y"}]},
                    {"name": "two"}]}}}})
        );
        let whole = json!({"spec": {"selector": {"matchLabels": {}}, "template": {"spec": {"containers": [
            {"name": "one", "args": ["x"]}]}}}});
        assert_eq!(
            overlay(&object, &whole, target).unwrap_err(),
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector, \
             .spec.template.spec.containers[0].args"
        );
    }
}
