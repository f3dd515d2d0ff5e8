//! Definitions of custom kinds (`apiextensions.k8s.io`): names, scope, versions. Their schemas: `definition_schema.rs`.
//!
//! What all versions have alike upstream keeps beside them, and its paths say so: `spec.validation` instead of
//! `spec.versions[0].schema`.

use serde_json::Value;

use super::{Errors, IMMUTABLE, definition_schema, meta, names, one_of_if_set};
use crate::custom::{self, jsonpath::JsonPath};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const CLEAN_NAME: &str = "must be spec.names.plural+\".\"+spec.group";
/// Groups of the Kubernetes project, which others may not use just so.
const PROTECTED: [&str; 2] = ["k8s.io", "kubernetes.io"];
const APPROVAL: &str = "api-approved.kubernetes.io";
/// How many fields of a version can be selected by.
const SELECTABLE_FIELDS_MAX: usize = 8;
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 9] =
    ["binary", "byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// A new definition.
pub(crate) fn create(definition: &Value, errors: &mut Errors) {
    meta::object(definition, meta::Scope::Cluster, names::dns1123_subdomain, errors);
    let spec = tree::get(definition, "spec");
    let wanted = custom::definition_name(
        tree::text(spec, "group"),
        tree::text(tree::get(spec, "names"), "plural"),
    );
    let name = tree::text(tree::get(definition, "metadata"), "name");
    if name != wanted {
        let path = Path::new("metadata");
        errors.push(Error::invalid(&path.child("name"), name, CLEAN_NAME));
    }
    approval(definition, errors);
    spec_of(definition, errors);
    accepted(definition, errors);
}

/// A changed definition.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    spec_of(new, errors);
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    if custom::condition(old, "Established") {
        fixed(after, before, &["scope"], errors);
        fixed(after, before, &["names", "kind"], errors);
    }
    fixed(after, before, &["group"], errors);
    fixed(after, before, &["names", "plural"], errors);
    accepted(new, errors);
    stored_versions(new, errors);
}

/// A change of the status.
pub(crate) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    accepted(new, errors);
    stored_versions(new, errors);
}

fn fixed(after: &Value, before: &Value, names: &[&str], errors: &mut Errors) {
    let (after, before) = (tree::at(after, names), tree::at(before, names));
    if after != before {
        let path = names.join(".");
        errors.push(Error::invalid(&SPEC.child(&path), after.clone(), IMMUTABLE));
    }
}

fn approval(definition: &Value, errors: &mut Errors) {
    let group = tree::text(tree::get(definition, "spec"), "group");
    let protected = |domain: &str| group == domain || group.ends_with(&format!(".{domain}"));
    if !PROTECTED.iter().any(|domain| protected(domain)) {
        return;
    }
    let annotations = tree::at(definition, &["metadata", "annotations"]);
    if tree::text(annotations, APPROVAL).is_empty() {
        let path = Path::new("metadata");
        let path = path.child("annotations");
        let detail = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see \
                      https://github.com/kubernetes/enhancements/pull/1111";
        errors.push(Error::required(&path.key(APPROVAL), detail));
    }
}

fn stored_versions(definition: &Value, errors: &mut Errors) {
    let versions = tree::list(tree::get(definition, "spec"), "versions");
    let status = tree::get(definition, "status");
    for (at, stored) in tree::texts(status, "storedVersions").enumerate() {
        if !versions.iter().any(|version| tree::text(version, "name") == stored) {
            let path = STATUS.child("storedVersions");
            errors.push(Error::invalid(&path.index(at), stored, "must appear in spec.versions"));
        }
    }
}

fn accepted(definition: &Value, errors: &mut Errors) {
    let names = tree::at(definition, &["status", "acceptedNames"]);
    names_of(names, &STATUS.child("acceptedNames"), errors);
}

fn joined(path: &Path<'_>, text: &str, problems: Vec<String>, before: &str, errors: &mut Errors) {
    if !problems.is_empty() {
        errors.push(Error::invalid(path, text, format!("{before}{}", problems.join(","))));
    }
}

fn spec_of(definition: &Value, errors: &mut Errors) {
    let spec = tree::get(definition, "spec");
    let group = tree::text(spec, "group");
    let path = SPEC.child("group");
    if group.is_empty() {
        errors.push(Error::required(&path, ""));
    } else if !names::dns1123_subdomain(group).is_empty() {
        joined(&path, group, names::dns1123_subdomain(group), "", errors);
    } else if !group.contains('.') {
        errors.push(Error::invalid(&path, group, "should be a domain with at least one dot"));
    }
    let scope = SPEC.child("scope");
    match tree::text(spec, "scope") {
        "" => errors.push(Error::required(&scope, "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(Error::not_supported(&scope, other, &["Cluster", "Namespaced"])),
    }
    versions(spec, errors);
    if tree::flag(spec, "preserveUnknownFields") {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                      spec.versions[*].schema instead";
        errors.push(Error::invalid(&SPEC.child("preserveUnknownFields"), true, detail));
    }
    let names = tree::get(spec, "names");
    let path = SPEC.child("names");
    for name in ["plural", "singular", "kind", "listKind"] {
        if tree::text(names, name).is_empty() {
            errors.push(Error::required(&path.child(name), ""));
        }
    }
    names_of(names, &path, errors);
    conversion(spec, errors);
}

fn names_of(names: &Value, path: &Path<'_>, errors: &mut Errors) {
    for name in ["plural", "singular"] {
        let text = tree::text(names, name);
        if !text.is_empty() {
            joined(&path.child(name), text, names::dns1035_label(text), "", errors);
        }
    }
    for name in ["kind", "listKind"] {
        let text = tree::text(names, name);
        if !text.is_empty() {
            let problems = names::dns1035_label(&text.to_lowercase());
            let before = "may have mixed case, but should otherwise match: ";
            joined(&path.child(name), text, problems, before, errors);
        }
    }
    let list = |name: &'static str, errors: &mut Errors| {
        let path = path.child(name);
        for (at, text) in tree::texts(names, name).enumerate() {
            joined(&path.index(at), text, names::dns1035_label(text), "", errors);
        }
    };
    list("shortNames", errors);
    let (kind, list_kind) = (tree::text(names, "kind"), tree::text(names, "listKind"));
    if !kind.is_empty() && kind == list_kind {
        let detail = "kind and listKind may not be the same";
        errors.push(Error::invalid(&path.child("listKind"), list_kind, detail));
    }
    list("categories", errors);
}

/// What is said of each version, or of all of them alike.
fn each(spec: &Value, name: &str, visit: &mut dyn FnMut(Option<usize>, &Value)) {
    let versions = tree::list(spec, "versions");
    let Some(first) = versions.first() else { return };
    let said = tree::get(first, name);
    if versions.iter().all(|version| tree::get(version, name) == said) {
        return visit(None, said);
    }
    for (at, version) in versions.iter().enumerate() {
        visit(Some(at), tree::get(version, name));
    }
}

fn versions(spec: &Value, errors: &mut Errors) {
    let path = SPEC.child("versions");
    let list = tree::list(spec, "versions");
    let mut seen: Vec<&str> = Vec::new();
    let mut unique = true;
    for (at, version) in list.iter().enumerate() {
        let name = tree::text(version, "name");
        unique &= !seen.contains(&name);
        seen.push(name);
        let item = path.index(at);
        joined(&item.child("name"), name, names::dns1035_label(name), "", errors);
        if tree::text_opt(version, "deprecationWarning").is_some() {
            deprecation(version, &item, errors);
        }
    }
    if !unique {
        let detail = "must contain unique version names";
        errors.push(Error::invalid(&path, Value::from(list.to_vec()), detail));
    }
    if list.iter().filter(|version| tree::flag(version, "storage")).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(Error::invalid(&path, Value::from(list.to_vec()), detail));
    }
    for (at, version) in list.iter().enumerate() {
        if !tree::at(version, &["schema", "openAPIV3Schema"]).is_object() {
            let item = path.index(at);
            let schema = item.child("schema");
            errors.push(Error::required(&schema.child("openAPIV3Schema"), "schemas are required"));
        }
    }
    let mut found = Errors::new();
    each(spec, "schema", &mut |at, said| {
        let schema = tree::get(said, "openAPIV3Schema");
        if !schema.is_object() {
            return;
        }
        match at {
            None => definition_schema::root(schema, "spec.validation.openAPIV3Schema", &mut found),
            Some(at) => {
                let place = format!("spec.versions[{at}].schema.openAPIV3Schema");
                definition_schema::root(schema, &place, &mut found);
            }
        }
    });
    each(spec, "subresources", &mut |at, said| placed(at, "subresources", said, scale, &mut found));
    each(spec, "additionalPrinterColumns", &mut |at, said| {
        placed(at, "additionalPrinterColumns", said, columns, &mut found);
    });
    each(spec, "selectableFields", &mut |at, said| {
        placed(at, "selectableFields", said, selectable, &mut found);
    });
    errors.extend(found);
}

/// Checks what is said at its place.
fn placed(
    at: Option<usize>,
    name: &str,
    said: &Value,
    check: fn(&Value, &Path<'_>, &mut Errors),
    errors: &mut Errors,
) {
    match at {
        None => check(said, &SPEC.child(name), errors),
        Some(at) => {
            let versions = SPEC.child("versions");
            let version = versions.index(at);
            check(said, &version.child(name), errors);
        }
    }
}

fn deprecation(version: &Value, path: &Path<'_>, errors: &mut Errors) {
    let text = tree::text(version, "deprecationWarning");
    let path = path.child("deprecationWarning");
    if !tree::flag(version, "deprecated") {
        errors.push(Error::invalid(&path, text, "can only be set for deprecated versions"));
    }
    if text.is_empty() {
        errors.push(Error::invalid(&path, text, "must not be an empty string"));
    }
    if text.len() > 256 {
        errors.push(Error::too_long(&path, 256));
    }
}

fn scale(subresources: &Value, path: &Path<'_>, errors: &mut Errors) {
    let scale = tree::get(subresources, "scale");
    if !scale.is_object() {
        return;
    }
    let fields = [
        ("specReplicasPath", ".spec", true),
        ("statusReplicasPath", ".status", true),
        ("labelSelectorPath", ".spec.", false),
    ];
    for (name, below, required) in fields {
        let text = tree::text(scale, name);
        let place = format!("scale.{name}");
        let path = path.child(&place);
        if text.is_empty() {
            if required {
                errors.push(Error::required(&path, ""));
            }
        } else if !text.starts_with('.') {
            errors.push(Error::invalid(&path, text, "must be a simple json path starting with ."));
        } else if required && !text.starts_with(&format!("{below}.")) {
            let detail = format!("should be a json path under {below}");
            errors.push(Error::invalid(&path, text, detail));
        } else if !required && !text.starts_with(".spec.") && !text.starts_with(".status.") {
            let detail = "should be a json path under either .spec or .status";
            errors.push(Error::invalid(&path, text, detail));
        }
    }
}

fn columns(columns: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (at, column) in columns.as_array().into_iter().flatten().enumerate() {
        let path = path.index(at);
        if tree::text(column, "name").is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        }
        if tree::text(column, "type").is_empty() {
            let detail = format!("must be one of {}", COLUMN_TYPES.join(","));
            errors.push(Error::required(&path.child("type"), detail));
        } else {
            one_of_if_set(column, "type", &COLUMN_TYPES, &path, errors);
        }
        if !tree::text(column, "format").is_empty() {
            one_of_if_set(column, "format", &COLUMN_FORMATS, &path, errors);
        }
        let text = tree::text(column, "jsonPath");
        if text.is_empty() {
            errors.push(Error::required(&path.child("jsonPath"), ""));
        } else if let Err(why) = JsonPath::parse(text) {
            errors.push(Error::invalid(&path.child("jsonPath"), text, why));
        }
    }
}

fn selectable(fields: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = fields.as_array().map_or(&[][..], Vec::as_slice);
    if list.len() > SELECTABLE_FIELDS_MAX {
        errors.push(Error::too_many(path, list.len(), SELECTABLE_FIELDS_MAX));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (at, field) in list.iter().enumerate() {
        let item = path.index(at);
        let path = item.child("jsonPath");
        let text = tree::text(field, "jsonPath");
        let simple = JsonPath::parse(text).is_ok_and(|path| path.names().is_some());
        if text.is_empty() {
            errors.push(Error::required(&path, ""));
        } else if !text.starts_with('.') || !simple {
            errors.push(Error::invalid(&path, text, "must be a simple json path starting with ."));
        } else if text.starts_with(".metadata") {
            errors.push(Error::invalid(&path, text, "must not point to fields in metadata"));
        } else if seen.contains(&text) {
            errors.push(Error::duplicate(&path, text));
        }
        seen.push(text);
    }
}

fn conversion(spec: &Value, errors: &mut Errors) {
    let conversion = tree::get(spec, "conversion");
    let path = SPEC.child("conversion");
    match tree::text(conversion, "strategy") {
        "" => errors.push(Error::required(&path.child("strategy"), "")),
        "None" if tree::has(conversion, "webhook") => {
            let detail = "should not be set when strategy is not set to Webhook";
            errors.push(Error::forbidden(&path.child("webhook"), detail));
        }
        "None" => {}
        // Said plainly at once: objects that nobody converts would be wrong in silence.
        "Webhook" => {
            let detail = "conversion webhooks are not called by this server: serve one version, or versions that \
                          differ in nothing but their name (strategy None)";
            errors.push(Error::forbidden(&path.child("strategy"), detail));
        }
        other => {
            let path = path.child("strategy");
            errors.push(Error::not_supported(&path, other, &["None", "Webhook"]));
        }
    }
}
