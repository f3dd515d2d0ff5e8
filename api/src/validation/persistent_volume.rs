//! Persistent volumes.

use serde_json::Value;

use super::meta::{self, Scope};
use super::pod_update::differences;
use super::volume::{modes, source_details};
use super::{
    Errors, affinity, immutable, names, one_of_if_set, required, resources, subdomain,
    volume_plugins,
};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const MORE: &str = "may not specify more than 1 volume type";

/// The sources in the order in which a second one is complained about: the field, what upstream calls it in paths, and
/// the texts that must not be empty.
const SOURCES: [(&str, &str, &[&str]); 22] = [
    ("hostPath", "hostPath", &["path"]),
    ("gcePersistentDisk", "persistentDisk", &["pdName"]),
    ("awsElasticBlockStore", "awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", "glusterfs", &["endpoints", "path"]),
    ("flocker", "flocker", &[]),
    ("nfs", "nfs", &["server", "path"]),
    ("rbd", "rbd", &["image"]),
    ("quobyte", "quobyte", &[]),
    ("cephfs", "cephfs", &[]),
    ("iscsi", "iscsi", &["targetPortal", "iqn"]),
    ("cinder", "cinder", &["volumeID"]),
    ("fc", "fc", &[]),
    ("flexVolume", "flexVolume", &["driver"]),
    ("azureFile", "azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", "vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", "photonPersistentDisk", &["pdID"]),
    ("portworxVolume", "portworxVolume", &["volumeID"]),
    ("azureDisk", "azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", "scaleIO", &["gateway", "system", "volumeName"]),
    ("local", "local", &["path"]),
    ("storageos", "storageos", &[]),
    ("csi", "csi", &[]),
];

/// Checks a new volume.
pub(crate) fn create(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    spec(tree::get(object, "spec"), errors);
}

fn spec(spec: &Value, errors: &mut Errors) {
    let path = SPEC.child("accessModes");
    if tree::list(spec, "accessModes").is_empty() {
        errors.push(Error::required(&path, ""));
    }
    modes(spec, &path, errors);
    capacity(spec, errors);
    let known = ["Delete", "Recycle", "Retain"];
    let policy = tree::text(spec, "persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        one_of_if_set(spec, "persistentVolumeReclaimPolicy", &known, &SPEC, errors);
    }
    let near = tree::get(spec, "nodeAffinity");
    if !near.is_null() {
        let path = SPEC.child("nodeAffinity");
        let path = path.child("required");
        match tree::get(near, "required") {
            Value::Null => {
                errors.push(Error::required(&path, "must specify required node constraints"));
            }
            selector => affinity::node_selector(selector, &path, errors),
        }
    }
    sources(spec, errors);
    let host = tree::at(spec, &["hostPath", "path"]).as_str();
    if host.is_some_and(|path| !path.is_empty() && path.chars().all(|c| c == '/'))
        && policy == "Recycle"
    {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(Error::forbidden(&SPEC.child("persistentVolumeReclaimPolicy"), detail));
    }
    let class = tree::text(spec, "storageClassName");
    if !class.is_empty() {
        subdomain(class, &SPEC.child("storageClassName"), errors);
    }
    one_of_if_set(spec, "volumeMode", &["Block", "Filesystem"], &SPEC, errors);
    if let Some(class) = tree::text_opt(spec, "volumeAttributesClassName") {
        let path = SPEC.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.push(Error::required(&path, "an empty string is disallowed"));
        } else {
            subdomain(class, &path, errors);
        }
        if !tree::has(spec, "csi") {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.push(Error::required(&SPEC.child("csi"), detail));
        }
    }
}

fn capacity(spec: &Value, errors: &mut Errors) {
    let path = SPEC.child("capacity");
    let capacity = tree::get(spec, "capacity");
    if tree::is_empty(capacity) {
        errors.push(Error::required(&path, ""));
    }
    if !tree::has(capacity, "storage") || tree::entries(spec, "capacity").count() > 1 {
        errors.push(Error::not_supported(&path, capacity.clone(), &["storage"]));
    }
    for (name, value) in tree::entries(spec, "capacity") {
        resources::basic(value, &path.key(name), errors);
        resources::positive(value, &path.key(name), errors);
    }
}

fn sources(spec: &Value, errors: &mut Errors) {
    let mut found = false;
    for (name, shown, fields) in SOURCES {
        let source = tree::get(spec, name);
        if source.is_null() {
            continue;
        }
        if found {
            // The one whose path differs in this case.
            let shown = if name == "cephfs" { "cephFS" } else { name };
            errors.push(Error::forbidden(&SPEC.child(shown), MORE));
            continue;
        }
        found = true;
        let path = SPEC.child(shown);
        for field in fields {
            required(source, field, &path, errors);
        }
        match name {
            "local" => {
                let target = tree::text(source, "path");
                super::volume::no_backsteps(target, &path.child("path"), errors);
                if !tree::has(spec, "nodeAffinity") {
                    let detail = "Local volume requires node affinity";
                    errors.push(Error::required(&SPEC.child("nodeAffinity"), detail));
                }
            }
            "csi" => csi(source, &path, errors),
            "azureFile" if tree::text_opt(source, "secretNamespace") == Some("") => {
                errors.push(Error::required(&path.child("secretNamespace"), ""));
            }
            "cinder" => secret(source, "secretRef", &path, errors),
            "scaleIO" | "rbd" | "cephfs" | "iscsi" | "storageos" => {
                source_details(name, source, &path, errors);
            }
            _ => source_details(name, source, &path, errors),
        }
    }
    if !found {
        errors.push(Error::required(&SPEC, "must specify a volume type"));
    }
}

/// A reference to a secret of some namespace says both.
fn secret(source: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    let reference = tree::get(source, name);
    if reference.is_null() {
        return;
    }
    let path = path.child(name);
    for field in ["name", "namespace"] {
        required(reference, field, &path, errors);
    }
}

fn csi(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    volume_plugins::csi_driver(tree::text(source, "driver"), &path.child("driver"), errors);
    required(source, "volumeHandle", path, errors);
    for name in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        secret(source, name, path, errors);
    }
}

fn source_of(spec: &Value) -> Value {
    let parts = SOURCES.iter().filter(|(name, ..)| tree::has(spec, name));
    parts.map(|(name, ..)| ((*name).to_owned(), tree::get(spec, name).clone())).collect()
}

/// Checks a changed volume: what it is stays.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    create(new, errors);
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    let (mut wanted, was) = (source_of(after), source_of(before));
    let name = "controllerExpandSecretRef";
    if !tree::has(tree::get(&was, "csi"), name)
        && let Some(csi) = tree::existing_mut(&mut wanted, "csi")
    {
        tree::remove(csi, name);
    }
    if !tree::same(&wanted, &was) {
        let detail = format!(
            "spec.persistentvolumesource is immutable after creation\n{}",
            differences(&wanted, &was)
        );
        errors.push(Error::forbidden(&SPEC.child("persistentvolumesource"), detail));
    }
    let root = Path::new("");
    immutable(after, before, "volumeMode", &root, errors);
    if tree::has(before, "nodeAffinity") {
        immutable(after, before, "nodeAffinity", &root, errors);
    }
    let name = "volumeAttributesClassName";
    if tree::has(before, name) && !tree::has(after, name) {
        let detail = "update from non-nil value to nil is forbidden";
        errors.push(Error::forbidden(&SPEC.child(name), detail));
    }
}
