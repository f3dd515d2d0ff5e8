//! OpenAPI v3 documents, one per group version, and their index; and the document of v2.
//!
//! kubectl reads them to validate, to compute strategic merge patches and to explain: component
//! schemas with their `x-kubernetes-…` extensions come from the schema tables, paths and
//! parameters from the resource table, descriptions from a table taken from k8s-openapi. Built at
//! the first request and cached.

mod binary;
mod components;
mod descriptions;
mod parameters;
mod paths;
mod v2;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::document::Document;
use crate::resource;
use descriptions::Descriptions;

/// The documents by their path below `/openapi/v3/`: `api/v1`, `apis/apps/v1`, `api`, `apis`,
/// `apis/apps`. None: no such document (404).
pub fn document(path: &str) -> Option<&'static Document> {
    DOCUMENTS.get(path)
}

/// `/openapi/v3`: where each document is, with its hash.
pub fn index() -> &'static Document {
    &INDEX
}

/// `/openapi/v2` with more documents of v3 in it: as JSON, and as protobuf.
pub(crate) fn v2_with<'a>(more: impl Iterator<Item = &'a Document>) -> (Document, Document) {
    let value = v2::build(more);
    (Document::new(&value), Document::of_bytes(binary::encode(&value).into()))
}

/// `/openapi/v2` as JSON.
pub fn v2() -> &'static Document {
    static V2: LazyLock<Document> = LazyLock::new(|| Document::new(&v2::build(std::iter::empty())));
    &V2
}

/// `/openapi/v2` as protobuf: gnostic's `openapi.v2.Document`.
pub fn v2_binary() -> &'static Document {
    static V2: LazyLock<Document> =
        LazyLock::new(|| Document::of_bytes(binary::encode(&v2::build(std::iter::empty())).into()));
    &V2
}

static DOCUMENTS: LazyLock<BTreeMap<String, Document>> = LazyLock::new(|| {
    let descriptions = Descriptions::load();
    let mut documents = BTreeMap::new();
    documents.insert("api".to_owned(), Document::new(&general("/api/", &descriptions)));
    documents.insert("apis".to_owned(), Document::new(&general("/apis/", &descriptions)));
    for group in resource::groups() {
        let base =
            if group.name.is_empty() { "api".to_owned() } else { format!("apis/{}", group.name) };
        if !group.name.is_empty() {
            let path = format!("/{base}/");
            documents.insert(base.clone(), Document::new(&general(&path, &descriptions)));
        }
        for version in group.versions {
            let value = group_version(group.name, version, &descriptions);
            documents.insert(format!("{base}/{version}"), Document::new(&value));
        }
    }
    documents
});

static INDEX: LazyLock<Document> = LazyLock::new(|| index_with(std::iter::empty()));

/// `/openapi/v3` with more documents beside those of the table.
pub(crate) fn index_with<'a>(more: impl Iterator<Item = (&'a String, &'a Document)>) -> Document {
    let mut paths = Map::new();
    for (path, document) in DOCUMENTS.iter().chain(more) {
        let url = format!("/openapi/v3/{path}?hash={}", document.hash);
        paths.insert(path.clone(), json!({"serverRelativeURL": url}));
    }
    Document::new(&json!({"paths": paths}))
}

/// The document of a group version.
fn group_version(group: &str, version: &str, descriptions: &Descriptions) -> Value {
    let paths = paths::of_group_version(group, version);
    let schemas = components::reachable(&paths, (group, version), descriptions);
    assemble(paths, schemas)
}

/// The documents of custom kinds: those of a group (`apis/G`), and of each of its versions.
pub(crate) struct CustomDocuments {
    descriptions: Descriptions,
}

impl CustomDocuments {
    /// What they are made with.
    pub(crate) fn load() -> Self {
        Self { descriptions: Descriptions::load() }
    }

    /// `/openapi/v3/apis/G`.
    pub(crate) fn group(&self, group: &str) -> Document {
        Document::new(&general(&format!("/apis/{group}/"), &self.descriptions))
    }

    /// `/openapi/v3/apis/G/V`, of these kinds.
    pub(crate) fn version(
        &self,
        group: &str,
        version: &str,
        defs: &[&'static resource::ResourceDef],
    ) -> Document {
        let paths = paths::of_custom(group, version, defs);
        let mut own = Map::new();
        for def in defs {
            let Some(custom) = def.custom else { continue };
            own.extend(crate::custom::publish::components(def, custom));
        }
        let wanted = json!([paths, own]);
        let mut schemas = components::reachable(&wanted, (group, version), &self.descriptions);
        if let Value::Object(schemas) = &mut schemas {
            schemas.extend(own);
        }
        Document::new(&assemble(paths, schemas))
    }
}

/// The document of a path that lists what there is: `/api/`, `/apis/`, `/apis/G/`.
fn general(path: &str, descriptions: &Descriptions) -> Value {
    let paths = paths::general(path);
    let schemas = components::reachable(&paths, ("", "v1"), descriptions);
    assemble(paths, schemas)
}

fn assemble(paths: Value, schemas: Value) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "BearerToken": {
                    "description": "Bearer Token authentication",
                    "in": "header",
                    "name": "authorization",
                    "type": "apiKey",
                },
            },
        },
    })
}

/// The names of the components a value refers to.
fn references(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "$ref" => {
                        into.extend(text.strip_prefix(PREFIX).map(str::to_owned));
                    }
                    other => references(other, into),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, into)),
        _ => {}
    }
}

const PREFIX: &str = "#/components/schemas/";

fn reference(component: &str) -> Value {
    json!({"$ref": format!("{PREFIX}{component}")})
}

#[cfg(test)]
mod tests;
