//! Discovery documents: what is served, for clients that ask before they act.
//!
//! Legacy: `/api` (APIVersions), `/apis` (APIGroupList), `/apis/G` (APIGroup), `/api/v1` and
//! `/apis/G/V` (APIResourceList). Aggregated: `/api` and `/apis` as APIGroupDiscoveryList, for
//! clients that accept it. All come from the resource table.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::document::Document;
use crate::resource::{self, GroupDef, ResourceDef, Verb, api_version};

/// The version of aggregated discovery a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aggregated {
    /// `apidiscovery.k8s.io/v2`
    V2,
    /// `apidiscovery.k8s.io/v2beta1`, for clients before 1.30
    V2Beta1,
}

impl Aggregated {
    /// By one media type of an `Accept` header, such as
    /// `application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList`. None: another one.
    pub fn from_media_type(media_type: &str) -> Option<Self> {
        let mut parts = media_type.split(';').map(str::trim);
        if parts.next() != Some("application/json") {
            return None;
        }
        let parameters: BTreeMap<&str, &str> = parts.filter_map(|p| p.split_once('=')).collect();
        if parameters.get("g") != Some(&"apidiscovery.k8s.io")
            || parameters.get("as") != Some(&"APIGroupDiscoveryList")
        {
            return None;
        }
        match *parameters.get("v")? {
            "v2" => Some(Self::V2),
            "v2beta1" => Some(Self::V2Beta1),
            _ => None,
        }
    }

    /// The `Content-Type` of the answer: a client that does not see it takes the legacy road.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Self::V2Beta1 => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }

    const fn version(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Beta1 => "v2beta1",
        }
    }
}

/// `/api`, legacy; `server_address` is where this server is reached (`host:port`).
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            {"clientCIDR": "0.0.0.0/0", "serverAddress": server_address},
        ],
    })
}

/// `/apis`, legacy.
pub fn api_group_list() -> &'static Document {
    static LIST: LazyLock<Document> = LazyLock::new(|| group_list_with(Vec::new()));
    &LIST
}

/// `/apis`, legacy, with more groups behind those of the table.
pub(crate) fn group_list_with(more: Vec<Value>) -> Document {
    let groups: Vec<Value> = named_groups().map(group).chain(more).collect();
    document(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

/// `/apis/G`. None: no such group (404).
pub fn api_group(name: &str) -> Option<Value> {
    let mut value = group(named_groups().find(|def| def.name == name)?);
    value["kind"] = Value::from("APIGroup");
    value["apiVersion"] = Value::from("v1");
    Some(value)
}

/// `/api/v1` and `/apis/G/V`. None: no such group version (404).
pub fn resource_list(group: &str, version: &str) -> Option<&'static Document> {
    static LISTS: LazyLock<BTreeMap<(&'static str, &'static str), Document>> =
        LazyLock::new(|| {
            let versions = resource::groups().iter();
            let versions =
                versions.flat_map(|g| g.versions.iter().map(|version| (g.name, *version)));
            versions.map(|(g, v)| ((g, v), document(&api_resource_list(g, v)))).collect()
        });
    let found = LISTS.iter().find(|((g, v), _)| (*g, *v) == (group, version));
    found.map(|(_, document)| document)
}

/// `/api` (`core`) or `/apis`, aggregated.
pub fn aggregated(version: Aggregated, core: bool) -> &'static Document {
    type Lists = BTreeMap<(Aggregated, bool), Document>;
    static LISTS: LazyLock<Lists> = LazyLock::new(|| {
        let keys = [Aggregated::V2, Aggregated::V2Beta1].map(|v| [(v, true), (v, false)]);
        let keys = keys.into_iter().flatten();
        keys.map(|(v, core)| ((v, core), document(&group_discovery_list(v, core)))).collect()
    });
    &LISTS[&(version, core)]
}

/// A document as JSON with its fields in upstream's order: scripts look for them as text.
pub fn ordered(value: &Value) -> String {
    const ORDER: &[&str] = &[
        "kind",
        "apiVersion",
        "groupVersion",
        "metadata",
        "name",
        "resource",
        "subresource",
        "responseKind",
        "singularName",
        "namespaced",
        "group",
        "version",
        "kind",
        "scope",
        "singularResource",
        "verbs",
        "shortNames",
        "categories",
        "storageVersionHash",
        "subresources",
        "resources",
        "versions",
    ];
    match value {
        Value::Object(map) => {
            // Lists and groups begin with their own kind; what names a kind of others does not.
            let names_a_kind = map.contains_key("singularName") || map.contains_key("group");
            let rank = |key: &str| {
                let mut order = ORDER.iter().skip(usize::from(names_a_kind));
                order.position(|one| *one == key).unwrap_or(ORDER.len())
            };
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_by_key(|(key, _)| rank(key));
            let fields: Vec<String> = fields
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), ordered(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(ordered).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

pub(crate) fn document(value: &Value) -> Document {
    Document::of_bytes(ordered(value).into())
}

fn named_groups() -> impl Iterator<Item = &'static GroupDef> {
    resource::groups().iter().filter(|group| !group.name.is_empty())
}

fn group(def: &GroupDef) -> Value {
    group_of(def.name, def.versions)
}

/// A group with its versions, the most preferred first.
pub(crate) fn group_of(name: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|v| json!({"groupVersion": api_version(name, v), "version": v}))
        .collect();
    json!({"name": name, "preferredVersion": versions[0], "versions": versions})
}

fn verbs(verbs: &[Verb]) -> Vec<&'static str> {
    verbs.iter().map(|verb| verb.name()).collect()
}

fn insert_names(map: &mut Map<String, Value>, def: &ResourceDef) {
    for (key, names) in [("shortNames", def.short_names), ("categories", def.categories)] {
        if !names.is_empty() {
            map.insert(key.to_owned(), json!(names));
        }
    }
}

fn api_resource_list(group: &str, version: &str) -> Value {
    resource_list_of(group, version, resource::of_group_version(group, version))
}

/// `/apis/G/V` with these resources.
pub(crate) fn resource_list_of(
    group: &str,
    version: &str,
    defs: impl Iterator<Item = &'static ResourceDef>,
) -> Value {
    let mut resources = Vec::new();
    for def in defs {
        let mut map = Map::new();
        map.insert("name".to_owned(), Value::from(def.plural));
        map.insert("singularName".to_owned(), Value::from(def.singular));
        map.insert("namespaced".to_owned(), Value::from(def.namespaced));
        map.insert("kind".to_owned(), Value::from(def.kind()));
        map.insert("verbs".to_owned(), json!(verbs(def.verbs)));
        insert_names(&mut map, def);
        if let Some(hash) = def.storage_version_hash() {
            map.insert("storageVersionHash".to_owned(), Value::from(hash));
        }
        resources.push(Value::Object(map));
        for sub in def.subresources {
            let mut map = Map::new();
            map.insert("name".to_owned(), Value::from(format!("{}/{}", def.plural, sub.name)));
            map.insert("singularName".to_owned(), Value::from(""));
            map.insert("namespaced".to_owned(), Value::from(def.namespaced));
            map.insert("kind".to_owned(), Value::from(sub.gvk.kind));
            map.insert("verbs".to_owned(), json!(verbs(sub.verbs)));
            if sub.gvk.group != group {
                map.insert("group".to_owned(), Value::from(sub.gvk.group));
                map.insert("version".to_owned(), Value::from(sub.gvk.version));
            }
            resources.push(Value::Object(map));
        }
    }
    let mut list = json!({
        "kind": "APIResourceList",
        "groupVersion": api_version(group, version),
        "resources": resources,
    });
    if !group.is_empty() {
        list["apiVersion"] = Value::from("v1");
    }
    list
}

fn group_discovery_list(version: Aggregated, core: bool) -> Value {
    group_discovery_list_with(version, core, Vec::new())
}

/// `/api` or `/apis`, aggregated, with more groups behind those of the table.
pub(crate) fn group_discovery_list_with(
    version: Aggregated,
    core: bool,
    more: Vec<Value>,
) -> Value {
    let groups = resource::groups().iter().filter(|group| group.name.is_empty() == core);
    let items: Vec<Value> = groups.map(group_discovery).chain(more).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{}", version.version()),
        "metadata": {},
        "items": items,
    })
}

fn group_discovery(group: &GroupDef) -> Value {
    let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| version_discovery(version, resource::of_group_version(group.name, version)))
        .collect();
    json!({"metadata": metadata, "versions": versions})
}

/// One version of a group, aggregated.
pub(crate) fn version_discovery(
    version: &str,
    defs: impl Iterator<Item = &'static ResourceDef>,
) -> Value {
    let resources: Vec<Value> = defs.map(resource_discovery).collect();
    json!({"version": version, "resources": resources, "freshness": "Current"})
}

fn resource_discovery(def: &ResourceDef) -> Value {
    // Upstream leaves group and version of a response kind empty when they are the list's own.
    let kind = |gvk: resource::GroupVersionKind| {
        let own = (gvk.group, gvk.version) == (def.group(), def.version());
        let (group, version) = if own { ("", "") } else { (gvk.group, gvk.version) };
        json!({"group": group, "version": version, "kind": gvk.kind})
    };
    let mut map = Map::new();
    map.insert("resource".to_owned(), Value::from(def.plural));
    map.insert("responseKind".to_owned(), kind(def.gvk));
    let scope = if def.namespaced { "Namespaced" } else { "Cluster" };
    map.insert("scope".to_owned(), Value::from(scope));
    map.insert("singularResource".to_owned(), Value::from(def.singular));
    map.insert("verbs".to_owned(), json!(verbs(def.verbs)));
    insert_names(&mut map, def);
    let subresources: Vec<Value> = def
        .subresources
        .iter()
        .map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": kind(sub.gvk),
                "verbs": verbs(sub.verbs),
            })
        })
        .collect();
    if !subresources.is_empty() {
        map.insert("subresources".to_owned(), Value::from(subresources));
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests;
