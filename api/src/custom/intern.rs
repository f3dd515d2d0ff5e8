//! Compiled versions, each once: what is compiled from equal words is the same thing.
//!
//! A resource is known by a reference that lives as long as the program, as the rows of the resource table do, so that
//! requests, watches and caches may hold on to it without counting. What was compiled once is therefore never dropped:
//! a program keeps each form that a version of a definition has ever had. Definitions change when operators are
//! upgraded, and each form costs about what its schema is long; several masters in one program (simulations) share.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::rules::Rules;
use super::{Custom, Node, Scale, columns};
use crate::resource::{GroupVersionKind, ResourceDef, Storage, SubresourceDef, Verb, api_version};
use crate::schema::ids;
use crate::selector::field::Selectable;
use crate::tree;

static KNOWN: LazyLock<Mutex<BTreeMap<[u8; 32], &'static ResourceDef>>> =
    LazyLock::new(Mutex::default);

const ALL: &[Verb] = &[
    Verb::Create,
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
];
const GET_PATCH_UPDATE: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];

/// The resource that a version of a definition makes.
pub(super) fn version(definition: &Value, version: &Value) -> &'static ResourceDef {
    let spec = tree::get(definition, "spec");
    let kept = tree::list(spec, "versions").iter().find(|one| tree::flag(one, "storage"));
    let kept = kept.map_or("", |one| tree::text(one, "name"));
    // Names are served as they were accepted; before they are, nothing is served.
    let accepted = tree::at(definition, &["status", "acceptedNames"]);
    let names =
        if tree::text(accepted, "plural").is_empty() { tree::get(spec, "names") } else { accepted };
    let mut form = version.clone();
    for name in ["served", "storage"] {
        tree::remove(&mut form, name);
    }
    let form = json!({
        "group": tree::text(spec, "group"),
        "scope": tree::text(spec, "scope"),
        "plural": tree::at(spec, &["names", "plural"]),
        "names": names,
        "kept": kept,
        "version": form,
    });
    let key: [u8; 32] = Sha256::digest(form.to_string().as_bytes()).into();
    // Compiled outside the lock: long schemas take a while.
    let found = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
    if let Some(found) = found {
        return found;
    }
    let compiled = compile(&form);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(key).or_insert_with(|| Box::leak(Box::new(compiled)))
}

fn text(value: &str) -> &'static str {
    Box::leak(value.to_owned().into_boxed_str())
}

fn texts(value: &Value, name: &str) -> &'static [&'static str] {
    Box::leak(tree::texts(value, name).map(text).collect::<Vec<_>>().into_boxed_slice())
}

fn compile(form: &Value) -> ResourceDef {
    let (names, version) = (tree::get(form, "names"), tree::get(form, "version"));
    let group = text(tree::text(form, "group"));
    let gvk = GroupVersionKind {
        group,
        version: text(tree::text(version, "name")),
        kind: text(tree::text(names, "kind")),
    };
    let plural = text(tree::text(form, "plural"));
    let kept = text(tree::text(form, "kept"));
    let custom: &'static Custom = Box::leak(Box::new(custom(form, gvk, kept)));
    let schema = ids::META_V1_PARTIALOBJECTMETADATA;
    let mut subresources = Vec::new();
    if custom.scale.is_some() {
        subresources.push(SubresourceDef {
            name: "scale",
            gvk: GroupVersionKind { group: "autoscaling", version: "v1", kind: "Scale" },
            schema: ids::AUTOSCALING_V1_SCALE,
            verbs: GET_PATCH_UPDATE,
            custom: None,
        });
    }
    if custom.has_status {
        subresources.push(SubresourceDef {
            name: "status",
            gvk,
            schema,
            verbs: GET_PATCH_UPDATE,
            custom: Some(custom),
        });
    }
    ResourceDef {
        gvk,
        plural,
        singular: text(tree::text(names, "singular")),
        short_names: texts(names, "shortNames"),
        categories: texts(names, "categories"),
        namespaced: tree::text(form, "scope") == "Namespaced",
        verbs: ALL,
        schema,
        list_schema: Some(ids::META_V1_PARTIALOBJECTMETADATALIST),
        subresources: Box::leak(subresources.into_boxed_slice()),
        storage: match kept {
            own if own == gvk.version => Storage::Own,
            version => Storage::As { group, version, plural },
        },
        delete_returns_object: false,
        custom: Some(custom),
    }
}

fn custom(form: &Value, gvk: GroupVersionKind, kept: &str) -> Custom {
    let (names, version) = (tree::get(form, "names"), tree::get(form, "version"));
    let schema = tree::at(version, &["schema", "openAPIV3Schema"]);
    let root = Node::root(schema);
    let deprecation = tree::flag(version, "deprecated").then(|| {
        let own = tree::text_opt(version, "deprecationWarning").map(str::to_owned);
        own.unwrap_or_else(|| super::default_deprecation(gvk.group, gvk.version, gvk.kind))
    });
    Custom {
        list_kind: tree::text(names, "listKind").to_owned(),
        kept_as: api_version(gvk.group, kept),
        root,
        rules: Rules::root(schema),
        has_status: tree::has(tree::get(version, "subresources"), "status"),
        scale: Scale::of(version),
        columns: columns::of(version),
        selectable: selectable(form, version),
        deprecation,
        schema: schema.clone(),
    }
}

fn selectable(form: &Value, version: &Value) -> Vec<Selectable> {
    let mut fields =
        vec![Selectable { name: "metadata.name", path: &["metadata", "name"], missing: "" }];
    if tree::text(form, "scope") == "Namespaced" {
        let path = &["metadata", "namespace"];
        // First: what upstream says of a field that cannot be selected differs from built-in kinds.
        fields.insert(0, Selectable { name: "metadata.namespace", path, missing: "" });
    }
    for field in tree::list(version, "selectableFields") {
        let name = tree::text(field, "jsonPath").trim_start_matches('.');
        let path: Vec<&'static str> = name.split('.').map(text).collect();
        fields.push(Selectable {
            name: text(name),
            path: Box::leak(path.into_boxed_slice()),
            missing: "",
        });
    }
    fields
}
