//! `metadata`: names, labels, annotations, owners and finalizers, and what never changes.

use serde_json::Value;

use super::{Errors, IMMUTABLE, invalid_each, names, not_negative, qualified};
use crate::field::{Error, Path};
use crate::{kinds, tree};

/// The most bytes that all annotations of an object may have.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

const METADATA: Path<'static> = Path::new("metadata");

/// Whether a kind's objects live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// They do.
    Namespaced,
    /// They do not.
    Cluster,
}

/// Checks the metadata of an object whose name must satisfy `name_problems`.
pub(crate) fn object(
    object: &Value,
    scope: Scope,
    name_problems: fn(&str) -> Vec<String>,
    errors: &mut Errors,
) {
    let metadata = tree::get(object, "metadata");
    let path = &METADATA;
    let generated = tree::text(metadata, "generateName");
    if !generated.is_empty() {
        let problems = name_problems(&names::as_prefix(generated));
        invalid_each(&path.child("generateName"), generated, problems, errors);
    }
    let name = tree::text(metadata, "name");
    if name.is_empty() {
        let detail = "name or generateName is required";
        errors.push(Error::required(&path.child("name"), detail));
    } else {
        invalid_each(&path.child("name"), name, name_problems(name), errors);
    }
    let namespace = tree::text(metadata, "namespace");
    match scope {
        Scope::Namespaced if namespace.is_empty() => {
            errors.push(Error::required(&path.child("namespace"), ""));
        }
        Scope::Namespaced => {
            let problems = names::dns1123_label(namespace);
            invalid_each(&path.child("namespace"), namespace, problems, errors);
        }
        Scope::Cluster if !namespace.is_empty() => {
            let detail = "not allowed on this type";
            errors.push(Error::forbidden(&path.child("namespace"), detail));
        }
        Scope::Cluster => {}
    }
    not_negative(metadata, "generation", path, errors);
    contents(object, path, errors);
}

/// Labels, annotations, owners and finalizers.
fn contents(object: &Value, path: &Path<'_>, errors: &mut Errors) {
    let metadata = tree::get(object, "metadata");
    labels(tree::get(metadata, "labels"), &path.child("labels"), errors);
    annotations(tree::get(metadata, "annotations"), &path.child("annotations"), errors);
    owners(metadata, &path.child("ownerReferences"), errors);
    finalizers(metadata, &path.child("finalizers"), errors);
    if has_known_finalizers(object) {
        for (i, finalizer) in tree::texts(metadata, "finalizers").enumerate() {
            finalizer_form(finalizer, &path.child("finalizers").index(i), errors);
        }
    }
    managed_fields(metadata, &path.child("managedFields"), errors);
}

/// Keys and values of labels (also of selectors that are maps).
pub(crate) fn labels(labels: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        qualified(key, path, errors);
        let value = value.as_str().unwrap_or_default();
        invalid_each(path, value, names::label_value(value), errors);
    }
}

/// Keys and size of annotations.
pub(crate) fn annotations(annotations: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        invalid_each(path, key, names::qualified_name(&key.to_lowercase()), errors);
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_BYTES_MAX {
        errors.push(Error::too_long(path, ANNOTATIONS_BYTES_MAX));
    }
}

fn owners(metadata: &Value, path: &Path<'_>, errors: &mut Errors) {
    let owners = tree::list(metadata, "ownerReferences");
    let mut controller: Option<&str> = None;
    for owner in owners {
        let version = tree::text(owner, "apiVersion");
        if version.is_empty() || version.ends_with('/') {
            let detail = "version must not be empty";
            errors.push(Error::invalid(&path.child("apiVersion"), version, detail));
        }
        for name in ["kind", "name", "uid"] {
            if tree::text(owner, name).is_empty() {
                let detail = format!("{name} must not be empty");
                errors.push(Error::invalid(&path.child(name), "", detail));
            }
        }
        if version == "v1" && tree::text(owner, "kind") == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(Error::invalid(path, owner.clone(), detail));
        }
        if tree::flag(owner, "controller") {
            let name = tree::text(owner, "name");
            if let Some(first) = controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in \
                     references for {first} and {name}"
                );
                errors.push(Error::invalid(path, Value::from(owners.to_vec()), detail));
            } else {
                controller = Some(name);
            }
        }
    }
}

fn finalizers(metadata: &Value, path: &Path<'_>, errors: &mut Errors) {
    let all = tree::list(metadata, "finalizers");
    for finalizer in tree::texts(metadata, "finalizers") {
        invalid_each(path, finalizer, names::qualified_name(finalizer), errors);
    }
    let has = |name: &str| all.iter().any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(Error::invalid(path, Value::from(all.to_vec()), detail));
    }
}

/// Whether finalizers without a domain must be known: of kinds that are built in, but for those of which upstream
/// checks metadata as that of any kind (`apimachinery/pkg/api/validation`).
fn has_known_finalizers(object: &Value) -> bool {
    let version = tree::text(object, "apiVersion");
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let is_generic =
        ["admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"]
            .contains(&group);
    // An object that does not say what it is is none of a definition, which always do.
    let is_built_in =
        version.is_empty() || kinds::find(group, tree::text(object, "kind")).is_some();
    !is_generic && is_built_in
}

/// A finalizer without a domain must be one of Kubernetes' own.
pub(crate) fn finalizer_form(finalizer: &str, path: &Path<'_>, errors: &mut Errors) {
    let standard = matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion");
    if !standard && !finalizer.contains('/') {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(Error::invalid(path, finalizer, detail));
    }
}

fn managed_fields(metadata: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (i, entry) in tree::list(metadata, "managedFields").iter().enumerate() {
        let path = path.index(i);
        let operation = tree::text(entry, "operation");
        if !matches!(operation, "Apply" | "Update") {
            let detail = "must be `Apply` or `Update`";
            errors.push(Error::invalid(&path.child("operation"), operation, detail));
        }
        let kind = tree::text(entry, "fieldsType");
        if !kind.is_empty() && kind != "FieldsV1" {
            errors.push(Error::invalid(&path.child("fieldsType"), kind, "must be `FieldsV1`"));
        }
        if tree::text(entry, "manager").len() > 128 {
            errors.push(Error::too_long(&path.child("manager"), 128));
        }
    }
}

/// Checks that an update leaves alone what never changes.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = &METADATA;
    let (after, before) = (tree::get(new, "metadata"), tree::get(old, "metadata"));
    if tree::has(before, "deletionTimestamp") {
        let old: Vec<&str> = tree::texts(before, "finalizers").collect();
        let added: Vec<&str> =
            tree::texts(after, "finalizers").filter(|f| !old.contains(f)).collect();
        if !added.is_empty() {
            let added = crate::text::quote_list(&added);
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new \
                 finalizers []string{{{added}}}"
            );
            errors.push(Error::forbidden(&path.child("finalizers"), detail));
        }
    }
    if tree::has(before, "resourceVersion") && tree::text(after, "resourceVersion").is_empty() {
        let detail = "must be specified for an update";
        errors.push(Error::invalid(&path.child("resourceVersion"), "", detail));
    }
    let generation = tree::int(after, "generation");
    if generation < tree::int(before, "generation") {
        let detail = "must not be decremented";
        errors.push(Error::invalid(&path.child("generation"), generation, detail));
    }
    for name in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let value = tree::get(after, name);
        if !tree::same(value, tree::get(before, name)) {
            errors.push(Error::invalid(&path.child(name), value.clone(), IMMUTABLE));
        }
    }
    contents(new, path, errors);
}
