//! Persistent volume claims.

use serde_json::Value;

use super::meta::{self, Scope};
use super::pod_update::differences;
use super::volume::modes;
use super::{
    Errors, immutable, names, one_of_if_set, qualified, required, resources, selector, subdomain,
};
use crate::field::{Error, Path};
use crate::quantity::Quantity;
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
/// The annotation that named the class before the field did.
pub(crate) const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const RESIZE_STATUSES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// Checks a new claim.
pub(crate) fn create(object: &Value, errors: &mut Errors) {
    whole(object, false, errors);
}

/// `any_group`: the groups of sources may be anything, as they were already.
fn whole(object: &Value, any_group: bool, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    checked_spec(tree::get(object, "spec"), any_group, &SPEC, errors);
}

/// Checks the spec of a claim, also of one that a volume of a pod makes.
pub(super) fn spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    checked_spec(spec, false, path, errors);
}

fn checked_spec(spec: &Value, any_group: bool, path: &Path<'_>, errors: &mut Errors) {
    let modes_path = path.child("accessModes");
    if tree::list(spec, "accessModes").is_empty() {
        errors.push(Error::required(&modes_path, "at least 1 access mode is required"));
    }
    selector::label_selector(tree::get(spec, "selector"), &path.child("selector"), errors);
    modes(spec, &modes_path, errors);
    let storage = tree::at(spec, &["resources", "requests", "storage"]);
    let resources_path = path.child("resources");
    let storage_path = resources_path.key("storage");
    if storage.is_null() {
        errors.push(Error::required(&storage_path, ""));
    } else if resources::positive(storage, &storage_path, errors) {
        resources::quantity_value("storage", storage, &storage_path, errors);
    }
    let class = tree::text(spec, "storageClassName");
    if !class.is_empty() {
        subdomain(class, &path.child("storageClassName"), errors);
    }
    one_of_if_set(spec, "volumeMode", &["Block", "Filesystem"], path, errors);
    sources(spec, any_group, path, errors);
    let class = tree::text(spec, "volumeAttributesClassName");
    if !class.is_empty() {
        subdomain(class, &path.child("volumeAttributesClassName"), errors);
    }
}

fn sources(spec: &Value, any_group: bool, path: &Path<'_>, errors: &mut Errors) {
    let (source, reference) = (tree::get(spec, "dataSource"), tree::get(spec, "dataSourceRef"));
    for (source, name) in [(source, "dataSource"), (reference, "dataSourceRef")] {
        if !source.is_null() {
            data_source(source, any_group, &path.child(name), errors);
        }
    }
    let namespace = tree::text(reference, "namespace");
    if !namespace.is_empty() {
        super::label(namespace, &path.child("dataSourceRef.namespace"), errors);
    }
    if source.is_null() || reference.is_null() {
        return;
    }
    let shown = path.child("dataSource").to_string();
    if !namespace.is_empty() {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        errors.push(Error::invalid(path, shown, detail));
    } else if ["apiGroup", "kind", "name"]
        .iter()
        .any(|f| tree::get(source, f) != tree::get(reference, f))
    {
        errors.push(Error::invalid(path, shown, "must match dataSourceRef"));
    }
}

fn data_source(source: &Value, any_group: bool, path: &Path<'_>, errors: &mut Errors) {
    required(source, "name", path, errors);
    required(source, "kind", path, errors);
    let (group, kind) = (tree::text(source, "apiGroup"), tree::text(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(Error::invalid(path, kind, detail));
    }
    if !group.is_empty() && !any_group {
        subdomain(group, &path.child("apiGroup"), errors);
    }
}

/// Checks a changed claim: of a bound one, size and attributes may change.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    let grouped = |name: &str| tree::has(tree::get(before, name), "apiGroup");
    whole(new, grouped("dataSource") || grouped("dataSourceRef"), errors);
    let (mut wanted, mut was) = (after.clone(), before.clone());
    if tree::text(before, "volumeName").is_empty() {
        tree::copy(after, &mut was, "volumeName");
    }
    if class_moves_to_field(new, old) {
        tree::remove(&mut wanted, "storageClassName");
    } else {
        let of = |object| tree::text(tree::at(object, &["metadata", "annotations"]), CLASS);
        if of(new) != of(old) {
            let path = Path::new("metadata.annotations");
            errors.push(Error::invalid(&path.child(CLASS), of(new), super::IMMUTABLE));
        }
        if class_is_given_later(new, old) {
            tree::remove(&mut wanted, "storageClassName");
        }
    }
    if tree::text(tree::get(new, "status"), "phase") == "Bound" {
        if let Some(requests) = wanted.pointer_mut("/resources/requests") {
            tree::copy(tree::at(before, &["resources", "requests"]), requests, "storage");
        }
        if tree::has(after, "volumeAttributesClassName") {
            tree::copy(before, &mut wanted, "volumeAttributesClassName");
        }
    }
    if !tree::same(&wanted, &was) {
        let changed = differences(&wanted, &was);
        let detail = format!(
            "spec is immutable after creation except resources.requests and \
             volumeAttributesClassName for bound claims\n{changed}"
        );
        errors.push(Error::forbidden(&SPEC, detail));
    }
    sizes(old, after, errors);
    immutable(after, before, "volumeMode", &Path::new(""), errors);
    let name = "volumeAttributesClassName";
    if tree::has(before, name) {
        let path = SPEC.child(name);
        match tree::text_opt(after, name) {
            None => {
                let detail = "update from non-nil value to nil is forbidden";
                errors.push(Error::forbidden(&path, detail));
            }
            Some("") if !tree::text(before, name).is_empty() => {
                let detail = "update from non-nil value to an empty string is forbidden";
                errors.push(Error::forbidden(&path, detail));
            }
            Some(_) => {}
        }
    }
}

/// A claim shrinks only when growing has failed, and never below what it has.
fn sizes(old: &Value, after: &Value, errors: &mut Errors) {
    let amount = |value: &Value| Quantity::from_json(value).unwrap_or_default();
    let requested = |spec| amount(tree::at(spec, &["resources", "requests", "storage"]));
    let has = amount(tree::at(old, &["status", "capacity", "storage"]));
    let wanted = requested(after);
    if wanted < requested(tree::get(old, "spec")) && wanted <= has {
        let path = SPEC.child("resources.requests.storage");
        errors.push(Error::forbidden(&path, "field can not be less than status.capacity"));
    }
}

/// The class of an old claim moves from its annotation to the field.
fn class_moves_to_field(new: &Value, old: &Value) -> bool {
    let annotation = |object| tree::text_opt(tree::at(object, &["metadata", "annotations"]), CLASS);
    let field = |object| tree::text_opt(tree::get(object, "spec"), "storageClassName");
    let Some(class) = annotation(old) else { return false };
    field(old).is_none()
        && field(new) == Some(class)
        && annotation(new).is_none_or(|annotation| annotation == class)
}

/// A claim without a class gets one, as the default class is set on claims that were there before it.
fn class_is_given_later(new: &Value, old: &Value) -> bool {
    let annotation = tree::text_opt(tree::at(old, &["metadata", "annotations"]), CLASS);
    let field = |object| tree::text_opt(tree::get(object, "spec"), "storageClassName");
    let Some(class) = field(new) else { return false };
    field(old).is_none() && annotation.is_none_or(|annotation| annotation == class)
}

/// Checks a write to a claim's status.
pub(crate) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    if tree::list(tree::get(new, "spec"), "accessModes").is_empty() {
        errors.push(Error::required(&Path::new("Spec").child("accessModes"), ""));
    }
    let status = tree::get(new, "status");
    let path = STATUS.child("capacity");
    for (name, value) in tree::entries(status, "capacity") {
        resources::basic(value, &path.key(name), errors);
    }
    let path = STATUS.child("allocatedResourceStatus");
    for (name, value) in tree::entries(status, "allocatedResourceStatuses") {
        resource_key(name, &path, errors);
        if !RESIZE_STATUSES.contains(&value.as_str().unwrap_or_default()) {
            errors.push(Error::not_supported(&path, name.as_str(), &RESIZE_STATUSES));
        }
    }
    let path = STATUS.child("allocatedResources");
    for (name, value) in tree::entries(status, "allocatedResources") {
        if !resource_key(name, &path, errors) {
            continue;
        }
        let path = path.key(name);
        if resources::basic(value, &path, errors) {
            resources::quantity_value("storage", value, &path, errors);
        }
    }
}

/// A resource of a claim: `storage`, or one with a domain of its own.
fn resource_key(name: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let before = errors.len();
    qualified(name, path, errors);
    if errors.len() == before && resources::is_native(name) && name != "storage" {
        errors.push(Error::not_supported(path, name, &["storage"]));
    }
    errors.len() == before
}
