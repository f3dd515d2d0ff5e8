//! Persistent volumes.

use serde_json::Value;

use super::meta::{self, Scope};
use super::pod_update::differences;
use super::volume::{modes, source_details};
use super::{
    Errors, affinity, immutable, label, names, one_of_if_set, required, resources, subdomain,
    volume_plugins,
};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const MORE: &str = "may not specify more than 1 volume type";
const INITIATOR_MAX: usize = 64;
/// The annotation that said mount options before the field did.
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
/// The sources that the annotation means something for.
const MOUNTED: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];

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
    ("storageos", "storageos", &["volumeName"]),
    ("csi", "csi", &[]),
];

/// Checks a new volume.
pub(crate) fn create(object: &Value, errors: &mut Errors) {
    whole(object, errors);
    mount_options(object, errors);
}

fn whole(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    let name = tree::text(tree::get(object, "metadata"), "name");
    spec(tree::get(object, "spec"), Some(name), &SPEC, errors);
}

/// The old annotation for mount options says something about some sources alone.
fn mount_options(object: &Value, errors: &mut Errors) {
    let annotations = tree::at(object, &["metadata", "annotations"]);
    let spec = tree::get(object, "spec");
    if tree::has(annotations, MOUNT_OPTIONS) && !MOUNTED.iter().any(|one| tree::has(spec, one)) {
        let path = Path::new("metadata.annotations");
        let detail = "may not specify mount options for this volume type";
        errors.push(Error::forbidden(&path.child(MOUNT_OPTIONS), detail));
    }
}

/// Checks a volume that is written out in an attachment, without an object of its own.
pub(super) fn inline(volume: &Value, path: &Path<'_>, errors: &mut Errors) {
    spec(volume, None, path, errors);
}

/// What a volume must not have, or must be, where it is written out in an attachment.
fn only_inline(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let unwanted = "may not be specified in the context of inline volumes";
    for name in ["claimRef", "capacity"] {
        if !tree::is_empty(tree::get(spec, name)) {
            errors.push(Error::forbidden(&path.child(name), unwanted));
        }
    }
    if !tree::has(spec, "csi") {
        let detail = "has to be specified in the context of inline volumes";
        errors.push(Error::required(&path.child("csi"), detail));
    }
}

/// `name`: of the volume; none for one that is written out in an attachment.
fn spec(spec: &Value, name: Option<&str>, path: &Path<'_>, errors: &mut Errors) {
    let inline = name.is_none();
    if inline {
        only_inline(spec, path, errors);
    }
    let modes_path = path.child("accessModes");
    if tree::list(spec, "accessModes").is_empty() {
        errors.push(Error::required(&modes_path, ""));
    }
    modes(spec, &modes_path, errors);
    if !inline {
        capacity(spec, path, errors);
    }
    reclaim_policy(spec, inline, path, errors);
    near(spec, inline, path, errors);
    sources(spec, name.unwrap_or_default(), path, errors);
    let host = tree::at(spec, &["hostPath", "path"]).as_str();
    if host.is_some_and(is_root) && tree::text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(Error::forbidden(&path.child("persistentVolumeReclaimPolicy"), detail));
    }
    let class = tree::text(spec, "storageClassName");
    if !class.is_empty() {
        let path = path.child("storageClassName");
        if inline {
            let detail = "may not be specified in the context of inline volumes";
            errors.push(Error::forbidden(&path, detail));
        } else {
            subdomain(class, &path, errors);
        }
    }
    if !inline {
        one_of_if_set(spec, "volumeMode", &["Block", "Filesystem"], path, errors);
    } else if tree::text_opt(spec, "volumeMode").is_some_and(|mode| mode != "Filesystem") {
        let detail =
            "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.push(Error::forbidden(&path.child("volumeMode"), detail));
    }
    attributes_class(spec, path, errors);
}

/// Whether a path is that of the root once it is cleaned.
fn is_root(text: &str) -> bool {
    let mut depth = 0_usize;
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    text.starts_with('/') && depth == 0
}

fn reclaim_policy(spec: &Value, inline: bool, path: &Path<'_>, errors: &mut Errors) {
    let name = "persistentVolumeReclaimPolicy";
    let policy = tree::text(spec, name);
    if policy.is_empty() {
        return;
    }
    if !inline {
        one_of_if_set(spec, name, &["Delete", "Recycle", "Retain"], path, errors);
    } else if policy != "Retain" {
        let detail = "may only be Retain in the context of inline volumes";
        errors.push(Error::forbidden(&path.child(name), detail));
    }
}

fn near(spec: &Value, inline: bool, path: &Path<'_>, errors: &mut Errors) {
    let near = tree::get(spec, "nodeAffinity");
    if near.is_null() {
        return;
    }
    let path = path.child("nodeAffinity");
    if inline {
        let detail = "may not be specified in the context of inline volumes";
        errors.push(Error::forbidden(&path, detail));
        return;
    }
    let path = path.child("required");
    match tree::get(near, "required") {
        Value::Null => {
            errors.push(Error::required(&path, "must specify required node constraints"));
        }
        selector => affinity::node_selector(selector, &path, errors),
    }
}

fn attributes_class(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = "volumeAttributesClassName";
    let Some(class) = tree::text_opt(spec, name) else { return };
    let own = path.child(name);
    if class.is_empty() {
        errors.push(Error::required(&own, "an empty string is disallowed"));
    } else {
        subdomain(class, &own, errors);
    }
    if !tree::has(spec, "csi") {
        let detail = "has to be specified when using volumeAttributesClassName";
        errors.push(Error::required(&path.child("csi"), detail));
    }
}

fn capacity(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("capacity");
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

fn sources(spec: &Value, volume: &str, path: &Path<'_>, errors: &mut Errors) {
    let mut found = false;
    for (name, shown, fields) in SOURCES {
        let source = tree::get(spec, name);
        if source.is_null() {
            continue;
        }
        // Of flex volumes upstream says nothing.
        if found && name != "flexVolume" {
            // The one whose path differs in this case.
            let shown = if name == "cephfs" { "cephFS" } else { name };
            errors.push(Error::forbidden(&path.child(shown), MORE));
            continue;
        }
        found = true;
        let own = path.child(shown);
        if name == "iscsi" {
            long_initiator(source, volume, &own, errors);
        }
        for field in fields {
            required(source, field, &own, errors);
        }
        details(name, source, &own, errors);
        if name == "local" && !tree::has(spec, "nodeAffinity") {
            let detail = "Local volume requires node affinity";
            errors.push(Error::required(&path.child("nodeAffinity"), detail));
        }
    }
    if !found {
        errors.push(Error::required(path, "must specify a volume type"));
    }
}

/// What a source needs beside the texts that must not be empty; where it differs from what volumes of pods need.
fn details(name: &str, source: &Value, path: &Path<'_>, errors: &mut Errors) {
    match name {
        "local" => {
            let target = tree::text(source, "path");
            super::volume::no_backsteps(target, &path.child("path"), errors);
        }
        "csi" => csi(source, path, errors),
        "azureFile" if tree::text_opt(source, "secretNamespace") == Some("") => {
            errors.push(Error::required(&path.child("secretNamespace"), ""));
        }
        "cinder" => secret(source, "secretRef", path, errors),
        "iscsi" => source_details("iscsi-of-a-volume", source, path, errors),
        "glusterfs" => glusterfs(source, path, errors),
        "storageos" => {
            for field in ["volumeName", "volumeNamespace"] {
                let text = tree::text(source, field);
                if !text.is_empty() {
                    label(text, &path.child(field), errors);
                }
            }
            secret(source, "secretRef", path, errors);
        }
        _ => source_details(name, source, path, errors),
    }
}

fn long_initiator(source: &Value, volume: &str, path: &Path<'_>, errors: &mut Errors) {
    let portal = tree::text(source, "targetPortal");
    if tree::has(source, "initiatorName") && volume.len() + 1 + portal.len() > INITIATOR_MAX {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 \
                      characters if iscsi.initiatorName is specified.";
        errors.push(Error::invalid(&path.child("targetportal"), portal, detail));
    }
}

fn glusterfs(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("endpointsNamespace");
    match tree::text_opt(source, "endpointsNamespace") {
        Some("") => {
            let detail = "if the endpointnamespace is set, it must be a valid namespace name";
            errors.push(Error::invalid(&path, "", detail));
        }
        Some(namespace) => label(namespace, &path, errors),
        None => {}
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
        named_secret(source, name, path, errors);
    }
}

/// A reference to a secret of some namespace, with names that can be such.
fn named_secret(source: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    let reference = tree::get(source, name);
    if reference.is_null() {
        return;
    }
    let path = path.child(name);
    if required(reference, "name", &path, errors) {
        subdomain(tree::text(reference, "name"), &path.child("name"), errors);
    }
    if required(reference, "namespace", &path, errors) {
        label(tree::text(reference, "namespace"), &path.child("namespace"), errors);
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
    // Upstream checks the whole of it twice.
    whole(new, errors);
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
