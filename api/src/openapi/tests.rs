//! What kubectl reads in our documents, and how they differ from upstream's.

use super::*;
use crate::upstream;

fn parsed(path: &str) -> Value {
    serde_json::from_slice(&document(path).unwrap().body).unwrap()
}

/// Lists whose order says nothing become comparable; texts of parameters are our own.
fn comparable(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(required)) = map.get_mut("required") {
                required.sort_by_key(ToString::to_string);
            }
            if let Some(Value::Array(parameters)) = map.get_mut("parameters") {
                let by_name = parameters.iter_mut().map(|parameter| {
                    if let Value::Object(parameter) = parameter {
                        parameter.remove("description");
                    }
                    (format!("{} {}", parameter["in"], parameter["name"]), parameter.clone())
                });
                let by_name = Value::Object(by_name.collect());
                map.insert("parameters".to_owned(), by_name);
            }
            map.iter_mut().for_each(|(_, value)| comparable(value));
        }
        Value::Array(list) => list.iter_mut().for_each(comparable),
        _ => {}
    }
}

#[test]
fn documents_differ_from_upstreams_as_explained() {
    let Some(folder) = upstream::folder("openapi-v3") else { return };
    let mut differences = Vec::new();
    for path in DOCUMENTS.keys() {
        let mut theirs =
            upstream::read(&folder, &format!("{}_openapi.json", path.replace('/', "__")));
        let mut ours = parsed(path);
        comparable(&mut ours);
        comparable(&mut theirs);
        upstream::difference(path, &ours, &theirs, &mut differences);
    }
    upstream::check_explained("openapi.txt", &differences);
}

#[test]
fn kubectl_finds_what_it_needs_to_apply() {
    let apps = parsed("apis/apps/v1");
    let item = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    let patch = &item["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let parameters = patch["parameters"].as_array().unwrap();
    assert!(parameters.iter().any(|p| p["name"] == "fieldValidation" && p["in"] == "query"));
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
    let spec = &apps["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"];
    let containers = &spec["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert!(containers["description"].as_str().unwrap().starts_with("List of containers"));
}

#[test]
fn each_reference_leads_somewhere() {
    for path in DOCUMENTS.keys() {
        let document = parsed(path);
        let mut wanted = BTreeSet::new();
        references(&document, &mut wanted);
        for name in wanted {
            assert!(document["components"]["schemas"].get(&name).is_some(), "{path}: {name}");
        }
    }
}

#[test]
fn the_index_names_each_document_with_its_hash() {
    let index: Value = serde_json::from_slice(&index().body).unwrap();
    let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(url, format!("/openapi/v3/api/v1?hash={}", document("api/v1").unwrap().hash));
    assert!(document("apis/none/v1").is_none());
}

#[test]
fn each_served_kind_has_a_description() {
    for def in resource::all() {
        let base =
            if def.group().is_empty() { "api".to_owned() } else { format!("apis/{}", def.group()) };
        let document = parsed(&format!("{base}/{}", def.version()));
        let schema = &document["components"]["schemas"][def.schema.get().component()];
        assert!(schema["description"].is_string(), "{}", def.plural);
    }
}
