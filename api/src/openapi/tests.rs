//! What kubectl reads in our documents, and how they differ from upstream's.

use super::v2::KINDS;
use super::*;
use crate::upstream;

fn parsed(path: &str) -> Value {
    serde_json::from_slice(&document(path).unwrap().body).unwrap()
}

/// Lists whose order says nothing become comparable.
fn comparable(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(required)) = map.get_mut("required") {
                required.sort_by_key(ToString::to_string);
            }
            if let Some(Value::Array(parameters)) = map.get_mut("parameters") {
                let by_name = parameters.iter().map(|parameter| {
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
    for path in DOCUMENTS.keys().filter(|path| !path.contains(resource::OWN_GROUP)) {
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

#[test]
fn the_document_of_v2_says_the_same() {
    let document: Value = serde_json::from_slice(&v2().body).unwrap();
    let item = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    let patch = &item["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    assert_eq!(patch["parameters"][0]["in"], "body");
    assert_eq!(
        patch["parameters"][0]["schema"],
        json!({"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"})
    );
    let parameters = patch["parameters"].as_array().unwrap();
    let text = parameters::query("patch", "force").unwrap();
    let wanted = json!({"name": "force", "in": "query", "type": "boolean", "uniqueItems": true, "description": text});
    assert!(parameters.contains(&wanted), "{parameters:?}");
    assert_eq!(
        patch["responses"]["200"]["schema"],
        json!({"$ref": "#/definitions/io.k8s.api.apps.v1.Deployment"})
    );
    assert_eq!(patch["consumes"].as_array().unwrap().len(), 4);
    assert_eq!(item["parameters"][0]["type"], "string");
    let definitions = &document["definitions"];
    let spec = &definitions["io.k8s.api.core.v1.PodSpec"]["properties"];
    assert_eq!(spec["containers"]["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(spec["affinity"]["$ref"], "#/definitions/io.k8s.api.core.v1.Affinity");
    assert!(spec["affinity"]["description"].is_string());
    assert_eq!(
        definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"],
        json!("string")
    );
    let options = &definitions["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"];
    assert!(options[KINDS].as_array().unwrap().len() > 5, "{}", options[KINDS]);
    let text = document.to_string();
    assert!(!text.contains("#/components/") && !text.contains("\"allOf\":["));
    for part in text.split("\"#/definitions/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(definitions.get(name).is_some(), "{name}");
    }
}

/// The fields of a protobuf message of texts and messages, the numbers skipped.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let varint = |bytes: &mut &[u8]| {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    };
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = varint(&mut bytes);
        if key & 7 == 2 {
            let (value, rest) = bytes.split_at(usize::try_from(value).unwrap());
            out.push((key >> 3, value));
            bytes = rest;
        } else {
            assert_eq!(key & 7, 0, "texts, messages and flags are all there is");
        }
    }
    out
}

#[test]
fn the_document_of_v2_as_protobuf_has_every_path_and_definition() {
    let bytes = v2_binary().body.clone();
    let of = |bytes: &[u8], number: u64| -> Vec<Vec<u8>> {
        let all = fields(bytes).into_iter().filter(|(own, _)| *own == number);
        all.map(|(_, value)| value.to_vec()).collect()
    };
    assert_eq!(of(&bytes, 1), [b"2.0"]);
    let json: Value = serde_json::from_slice(&v2().body).unwrap();
    for (number, pairs, name) in [(8, 2, "paths"), (9, 1, "definitions")] {
        let names: Vec<String> = of(&of(&bytes, number)[0], pairs)
            .iter()
            .map(|pair| String::from_utf8(of(pair, 1)[0].clone()).unwrap())
            .collect();
        let wanted: Vec<&String> = json[name].as_object().unwrap().keys().collect();
        assert_eq!(names.iter().collect::<Vec<_>>(), wanted);
    }
}
