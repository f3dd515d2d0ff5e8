//! Kubernetes' default roles and bindings, from the table of facts `rbac.tsv`.

use std::sync::LazyLock;

use serde_json::{Value, json};

const TABLE: &str = include_str!("rbac.tsv");

static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| read(TABLE));

/// All default ClusterRoles, Roles, ClusterRoleBindings and RoleBindings, whole.
#[must_use]
pub fn defaults() -> &'static [Value] {
    &OBJECTS
}

fn list(text: &str) -> Vec<&str> {
    if text == "-" {
        return Vec::new();
    }
    text.split(',').map(|one| if one == "core" { "" } else { one }).collect()
}

fn metadata(namespace: &str, name: &str) -> Value {
    let mut meta = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    if namespace != "-" {
        meta["namespace"] = json!(namespace);
    }
    meta
}

fn read(table: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        match columns.as_slice() {
            ["role", kind, namespace, name, labels, aggregated] => {
                objects.push(role((kind, namespace, name), labels, aggregated));
            }
            ["binding", kind, namespace, name, role_kind, role_name] => objects.push(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": kind,
                "metadata": metadata(namespace, name),
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": role_kind,
                    "name": role_name,
                },
            })),
            ["rule", rest @ ..] => push(&mut objects, "rules", rule(rest)),
            ["subject", kind, namespace, name] => {
                push(&mut objects, "subjects", subject(kind, namespace, name));
            }
            _ => unreachable!("rbac.tsv has a line of another form: {line}"),
        }
    }
    objects
}

fn push(objects: &mut [Value], field: &str, item: Value) {
    let Some(object) = objects.last_mut() else { return };
    if !object[field].is_array() {
        object[field] = json!([]);
    }
    if let Some(items) = object[field].as_array_mut() {
        items.push(item);
    }
}

fn role((kind, namespace, name): (&str, &str, &str), labels: &str, aggregated: &str) -> Value {
    let mut role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata(namespace, name),
    });
    for (key, value) in list(labels).iter().filter_map(|pair| pair.split_once('=')) {
        role["metadata"]["labels"][key] = json!(value);
    }
    let selectors: Vec<Value> = list(aggregated)
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| json!({"matchLabels": {key: value}}))
        .collect();
    if !selectors.is_empty() {
        role["aggregationRule"] = json!({ "clusterRoleSelectors": selectors });
    }
    role
}

fn rule(columns: &[&str]) -> Value {
    let mut rule = json!({});
    let names = ["verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"];
    for (name, text) in names.iter().zip(columns) {
        let items = list(text);
        if !items.is_empty() {
            rule[*name] = json!(items);
        }
    }
    rule
}

fn subject(kind: &str, namespace: &str, name: &str) -> Value {
    let mut subject = json!({"kind": kind, "name": name});
    if kind == "ServiceAccount" {
        subject["namespace"] = json!(namespace);
    } else {
        subject["apiGroup"] = json!("rbac.authorization.k8s.io");
    }
    subject
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    fn by_name<'a>(objects: impl Iterator<Item = &'a Value>) -> BTreeMap<String, Value> {
        objects
            .map(|object| {
                let mut object = object.clone();
                let meta = &object["metadata"];
                let name = format!("{} {}/{}", object["kind"], meta["namespace"], meta["name"]);
                if let Some(map) = object.as_object_mut() {
                    // Upstream writes absent lists as null.
                    map.retain(|_, value| !value.is_null());
                }
                (name, object)
            })
            .collect()
    }

    #[test]
    fn the_table_is_what_kubernetes_has() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folders = ["../shared", "../../shared"];
        let data = folders
            .map(|shared| workspace.join(shared).join("kubernetes-1.36/rbac"))
            .into_iter()
            .find(|path| path.is_dir());
        let Some(data) = data else {
            eprintln!("SKIPPED: upstream's roles are not here, the table was not compared");
            return;
        };
        let mut upstream: Vec<Value> = Vec::new();
        for entry in std::fs::read_dir(data).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let list: Value = serde_saphyr::from_str(&text).unwrap();
            upstream.extend(list["items"].as_array().unwrap().iter().cloned());
        }
        let (ours, theirs) = (by_name(defaults().iter()), by_name(upstream.iter()));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
        for (name, object) in &theirs {
            assert_eq!(&ours[name], object, "{name}");
        }
    }
}
