//! What the schema of a custom kind does to objects: fields that it does not know go, defaults come.

use serde_json::{Map, Value};

use super::node::{Additional, Node, is_type_or_metadata};

/// Takes away what the schema does not describe. The paths of what went are added to `unknown`.
pub fn prune(value: &mut Value, node: &Node, unknown: &mut Vec<String>) {
    prune_at(value, node, "", unknown);
}

fn prune_at(value: &mut Value, node: &Node, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.retain(|name, child| {
                if node.resource && is_type_or_metadata(name) {
                    return true;
                }
                match node.child(name) {
                    Some(below) => prune_at(child, below, &join(path, name), unknown),
                    None if node.keeps(name) => {}
                    None => {
                        unknown.push(join(path, name));
                        return false;
                    }
                }
                true
            });
        }
        Value::Array(list) => {
            if let Some(items) = &node.items {
                for (at, item) in list.iter_mut().enumerate() {
                    prune_at(item, items, &format!("{path}[{at}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Fills in defaults, and takes nulls away that are no values.
pub fn fill(value: &mut Value, node: &Node) {
    match value {
        Value::Object(map) => {
            fill_fields(map, node);
            for (name, child) in map.iter_mut() {
                if let Some(below) = node.child(name) {
                    fill(child, below);
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &node.items else { return };
            for item in list {
                if item.is_null() && !items.nullable {
                    *item = items.default.clone().unwrap_or(Value::Null);
                }
                fill(item, items);
            }
        }
        _ => {}
    }
}

fn fill_fields(map: &mut Map<String, Value>, node: &Node) {
    map.retain(|name, value| {
        !value.is_null()
            || (node.resource && is_type_or_metadata(name))
            || node.child(name).is_none_or(|below| below.nullable)
    });
    for (name, property) in &node.properties {
        if let Some(default) = &property.default
            && !map.contains_key(name)
        {
            map.insert(name.clone(), default.clone());
        }
    }
}

/// Nodes with metadata of their own inside an object, and the object itself: `visit` is given each value, with its
/// path.
///
/// # Errors
/// The first that `visit` has.
pub(crate) fn resources<E>(
    value: &mut Value,
    node: &Node,
    path: &str,
    visit: &mut impl FnMut(&mut Value, &str) -> Result<(), E>,
) -> Result<(), E> {
    if node.resource {
        visit(value, path)?;
    }
    match value {
        Value::Object(map) => {
            for (name, child) in map.iter_mut() {
                let below = match node.properties.get(name) {
                    Some(below) => Some(below),
                    None => match &node.additional {
                        Some(Additional::Of(below)) => Some(&**below),
                        Some(Additional::Any) | None => None,
                    },
                };
                if let Some(below) = below {
                    resources(child, below, &join(path, name), visit)?;
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &node.items {
                for (at, item) in list.iter_mut().enumerate() {
                    resources(item, items, &format!("{path}[{at}]"), visit)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn root() -> Node {
        Node::root(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "default": {}, "properties": {
                "replicas": {"type": "integer", "default": 1},
                "mode": {"type": "string", "nullable": true, "default": "a"},
                "note": {"type": "string"},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                        "properties": {"known": {"type": "object"}}},
                "map": {"type": "object", "additionalProperties": {"type": "object",
                        "properties": {"x": {"type": "integer", "default": 7}}}},
                "list": {"type": "array", "items": {"type": "object",
                        "properties": {"y": {"type": "string"}}}},
            }},
        }}))
    }

    #[test]
    fn what_is_not_described_goes() {
        let mut object = json!({
            "apiVersion": "a/v1", "kind": "A", "metadata": {"name": "n"}, "extra": 1,
            "spec": {"x": 1, "any": {"free": {"deep": 1}, "known": {"not": 1}},
                     "map": {"k": {"z": 1}}, "list": [{"y": "a", "z": 2}]},
        });
        let mut unknown = Vec::new();
        prune(&mut object, &root(), &mut unknown);
        unknown.sort_unstable();
        assert_eq!(
            unknown,
            ["extra", "spec.any.known.not", "spec.list[0].z", "spec.map.k.z", "spec.x"]
        );
        assert_eq!(
            object["spec"],
            json!({"any": {"free": {"deep": 1}, "known": {}}, "map": {"k": {}}, "list": [{"y": "a"}]})
        );
        assert_eq!(object["metadata"]["name"], "n");
    }

    #[test]
    fn defaults_come_where_nothing_is_and_nulls_go_where_they_are_no_values() {
        let mut object = json!({"metadata": {}});
        fill(&mut object, &root());
        assert_eq!(object["spec"], json!({"replicas": 1, "mode": "a"}));
        let mut object =
            json!({"spec": {"replicas": null, "mode": null, "note": null, "map": {"k": {}}}});
        fill(&mut object, &root());
        assert_eq!(object["spec"], json!({"replicas": 1, "mode": null, "map": {"k": {"x": 7}}}));
        let again = object.clone();
        fill(&mut object, &root());
        assert_eq!(object, again, "filling twice changes nothing");
    }
}
