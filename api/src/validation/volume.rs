//! Pod volumes: exactly one known source each, with what the source needs.

use serde_json::Value;

use super::{
    Errors, claim, env, label, meta, one_of_if_set, required, selector, volume_plugins as plugins,
};
use crate::field::{Error, Path};
use crate::quantity::Quantity;
use crate::tree;

/// The sources, in the order in which a second one is complained about, with the text fields that
/// must not be empty.
const SOURCES: [(&str, &[&str]); 30] = [
    ("emptyDir", &[]),
    ("hostPath", &["path"]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &[]),
    ("quobyte", &[]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &["driver"]),
    ("ephemeral", &[]),
    ("image", &[]),
];

const DOWNWARD_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

/// Checks the volumes of a pod spec; returns the valid ones by name.
pub(super) fn volumes<'a>(
    spec: &'a Value,
    path: &Path<'_>,
    errors: &mut Errors,
) -> Vec<(&'a str, &'a Value)> {
    let path = path.child("volumes");
    let mut valid: Vec<(&str, &Value)> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (i, volume) in tree::list(spec, "volumes").iter().enumerate() {
        let path = path.index(i);
        let before = errors.len();
        source(volume, &path, errors);
        let name = tree::text(volume, "name");
        let iscsi = tree::get(volume, "iscsi");
        let portal = tree::text(iscsi, "targetPortal");
        if tree::has(iscsi, "initiatorName") && name.len() + 1 + portal.len() > 64 {
            let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 \
                          characters if iscsi.initiatorName is specified.";
            errors.push(Error::invalid(&path.child("name"), name, detail));
        }
        if required(volume, "name", &path, errors) {
            label(name, &path.child("name"), errors);
        }
        if seen.contains(&name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        if errors.len() == before {
            seen.push(name);
            valid.push((name, volume));
        }
    }
    valid
}

fn source(volume: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut found = false;
    for (name, fields) in SOURCES {
        let source = tree::get(volume, name);
        if source.is_null() {
            continue;
        }
        let path = path.child(name);
        if found {
            errors.push(Error::forbidden(&path, "may not specify more than 1 volume type"));
            continue;
        }
        found = true;
        for field in fields {
            required(source, field, &path, errors);
        }
        source_details(name, source, &path, errors);
    }
    if !found {
        errors.push(Error::required(path, "must specify a volume type"));
    }
}

/// What a source needs beside the texts that must not be empty.
pub(super) fn source_details(name: &str, source: &Value, path: &Path<'_>, errors: &mut Errors) {
    match name {
        "emptyDir" => {
            let limit = Quantity::from_json(tree::get(source, "sizeLimit")).unwrap_or_default();
            if limit < Quantity::ZERO {
                let detail = "SizeLimit field must be a valid resource quantity";
                errors.push(Error::forbidden(&path.child("sizeLimit"), detail));
            }
        }
        "hostPath" => {
            let target = tree::text(source, "path");
            no_backsteps(target, &path.child("path"), errors);
            one_of_if_set(source, "type", &HOST_PATH_TYPES, path, errors);
        }
        "secret" | "configMap" => {
            mode(source, "defaultMode", path, errors);
            items(source, path, errors);
        }
        "downwardAPI" => {
            mode(source, "defaultMode", path, errors);
            downward_items(source, path, errors);
        }
        "projected" => projected(source, path, errors),
        "nfs" => {
            let target = tree::text(source, "path");
            if !target.starts_with('/') {
                let detail = "must be an absolute path";
                errors.push(Error::invalid(&path.child("path"), target, detail));
            }
        }
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            let partition = tree::int(source, "partition");
            if !(0..=255).contains(&partition) {
                let detail = super::names::range(1, 255);
                errors.push(Error::invalid(&path.child("partition"), partition, detail));
            }
        }
        "rbd" | "cephfs" if tree::list(source, "monitors").is_empty() => {
            errors.push(Error::required(&path.child("monitors"), ""));
        }
        "flocker" => flocker(source, path, errors),
        "fc" => fibre_channel(source, path, errors),
        "ephemeral" => ephemeral(source, path, errors),
        "image" => {
            let known = ["Always", "IfNotPresent", "Never"];
            one_of_if_set(source, "pullPolicy", &known, path, errors);
        }
        "gitRepo" => descending(tree::text(source, "directory"), &path.child("directory"), errors),
        other => plugins::details(other, source, path, errors),
    }
}

fn flocker(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = tree::text(source, "datasetName");
    match (name.is_empty(), tree::text(source, "datasetUUID").is_empty()) {
        (true, true) => {
            let detail = "one of datasetName and datasetUUID is required";
            errors.push(Error::required(path, detail));
        }
        (false, false) => {
            let detail = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(Error::invalid(path, "resource", detail));
        }
        _ => {}
    }
    if name.contains('/') {
        errors.push(Error::invalid(&path.child("datasetName"), name, "must not contain '/'"));
    }
}

fn fibre_channel(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let names = tree::list(source, "targetWWNs").is_empty();
    let ids = tree::list(source, "wwids").is_empty();
    if names && ids {
        let detail = "must specify either targetWWNs or wwids, but not both";
        errors.push(Error::required(&path.child("targetWWNs"), detail));
    }
    if !names && !ids {
        let value = tree::get(source, "targetWWNs").clone();
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(Error::invalid(&path.child("targetWWNs"), value, detail));
    }
    if names {
        return;
    }
    match tree::int_opt(source, "lun") {
        None => {
            let detail = "lun is required if targetWWNs is specified";
            errors.push(Error::required(&path.child("lun"), detail));
        }
        Some(lun) if !(0..=255).contains(&lun) => {
            errors.push(Error::invalid(&path.child("lun"), lun, super::names::range(0, 255)));
        }
        Some(_) => {}
    }
}

fn ephemeral(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let template = tree::get(source, "volumeClaimTemplate");
    let path = path.child("volumeClaimTemplate");
    if template.is_null() {
        errors.push(Error::required(&path, ""));
        return;
    }
    template_metadata(template, &path, errors);
    claim::spec(tree::get(template, "spec"), &path.child("spec"), errors);
}

/// The metadata of what a template makes: labels and annotations alone.
pub(super) fn template_metadata(template: &Value, path: &Path<'_>, errors: &mut Errors) {
    let metadata = tree::get(template, "metadata");
    let own = path.child("metadata");
    meta::annotations(tree::get(metadata, "annotations"), &own.child("annotations"), errors);
    meta::labels(tree::get(metadata, "labels"), &own.child("labels"), errors);
    for (name, value) in metadata.as_object().into_iter().flatten() {
        let allowed = matches!(name.as_str(), "annotations" | "labels" | "creationTimestamp");
        if !allowed && !tree::is_empty(value) {
            errors.push(Error::forbidden(&own.child(name), "cannot be set"));
        }
    }
}

/// Known access modes.
pub(super) fn modes(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    const KNOWN: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    let modes: Vec<&str> = tree::texts(spec, "accessModes").collect();
    for mode in modes.iter().filter(|mode| !KNOWN.contains(mode)) {
        errors.push(Error::not_supported(path, *mode, &KNOWN));
    }
    let single = "ReadWriteOncePod";
    if modes.contains(&single) && modes.iter().any(|m| *m != single && KNOWN.contains(m)) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(Error::forbidden(path, detail));
    }
}

fn mode(source: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    if let Some(mode) = tree::int_opt(source, name)
        && !(0..=0o777).contains(&mode)
    {
        errors.push(Error::invalid(&path.child(name), mode, MODE));
    }
}

fn items(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("items");
    for (i, item) in tree::list(source, "items").iter().enumerate() {
        let path = path.index(i);
        required(item, "key", &path, errors);
        if required(item, "path", &path, errors) {
            not_reserved(tree::text(item, "path"), &path.child("path"), errors);
        }
        mode(item, "mode", &path, errors);
    }
}

fn downward_items(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    // Upstream gives neither the list nor an index here.
    for item in tree::list(source, "items") {
        if required(item, "path", path, errors) {
            not_reserved(tree::text(item, "path"), &path.child("path"), errors);
        }
        let (field, resource) = (tree::get(item, "fieldRef"), tree::get(item, "resourceFieldRef"));
        if !field.is_null() {
            env::field_ref(field, &DOWNWARD_FIELDS, &path.child("fieldRef"), errors);
            if !resource.is_null() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(path, "resource", detail));
            }
        } else if !resource.is_null() {
            env::resource_ref(resource, true, &path.child("resourceFieldRef"), errors);
        } else {
            let detail = "one of fieldRef and resourceFieldRef is required";
            errors.push(Error::required(path, detail));
        }
        mode(item, "mode", path, errors);
    }
}

const PROJECTIONS: [&str; 6] = [
    "secret",
    "configMap",
    "downwardAPI",
    "serviceAccountToken",
    "clusterTrustBundle",
    "podCertificate",
];

fn projected(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    mode(source, "defaultMode", path, errors);
    let list = path.child("sources");
    let mut used: Vec<&str> = Vec::new();
    for (i, part) in tree::list(source, "sources").iter().enumerate() {
        let item = list.index(i);
        let mut found = 0;
        for name in PROJECTIONS {
            let projection = tree::get(part, name);
            if projection.is_null() {
                continue;
            }
            found += 1;
            let own = item.child(name);
            projection_details(name, projection, path, &own, errors);
            for file in files_of(name, projection) {
                if used.contains(&file) {
                    let shown = match name {
                        "secret" | "configMap" => tree::text(projection, "name"),
                        _ => file,
                    };
                    errors.push(Error::invalid(path, shown, "conflicting duplicate paths"));
                } else {
                    used.push(file);
                }
            }
        }
        if found > 1 {
            let detail = "may not specify more than 1 volume type per source";
            errors.push(Error::forbidden(&item, detail));
        }
    }
}

/// The files that upstream compares with those of other sources: a token's is not among them.
fn files_of<'a>(name: &str, projection: &'a Value) -> Vec<&'a str> {
    let own: &[&str] = match name {
        "clusterTrustBundle" => &["path"],
        "podCertificate" => &["credentialBundlePath", "keyPath", "certificateChainPath"],
        _ => &[],
    };
    let own = own.iter().map(|field| tree::text(projection, field));
    let items = tree::list(projection, "items").iter().map(|item| tree::text(item, "path"));
    own.chain(items).filter(|file| !file.is_empty()).collect()
}

/// `volume` is the path of the projected volume, `path` that of the source in it.
fn projection_details(
    name: &str,
    projection: &Value,
    volume: &Path<'_>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    match name {
        "secret" | "configMap" => {
            required(projection, "name", path, errors);
            items(projection, path, errors);
        }
        "downwardAPI" => downward_items(projection, path, errors),
        "serviceAccountToken" => {
            let seconds = tree::int(projection, "expirationSeconds");
            let seconds_path = path.child("expirationSeconds");
            if seconds < TOKEN_SECONDS_MIN {
                let detail = "may not specify a duration less than 10 minutes";
                errors.push(Error::invalid(&seconds_path, seconds, detail));
            } else if seconds > TOKEN_SECONDS_MAX {
                let detail = "may not specify a duration larger than 2^32 seconds";
                errors.push(Error::invalid(&seconds_path, seconds, detail));
            }
            // Upstream names the field below the volume, not below the source.
            file(projection, volume, errors);
        }
        "clusterTrustBundle" => trust_bundle(projection, path, errors),
        _ => {
            required(projection, "signerName", path, errors);
            required(projection, "keyType", path, errors);
        }
    }
}

fn trust_bundle(projection: &Value, path: &Path<'_>, errors: &mut Errors) {
    match (tree::text_opt(projection, "name"), tree::text_opt(projection, "signerName")) {
        (Some(_), Some(_)) => {
            let detail = "only one of name and signerName may be used";
            errors.push(Error::invalid(path, projection.clone(), detail));
        }
        (Some(name), None) => {
            if name.is_empty() {
                errors.push(Error::required(&path.child("name"), "must be a valid object name"));
            }
            let labels = tree::get(projection, "labelSelector");
            if !labels.is_null() {
                let detail = "labelSelector must be unset if name is specified";
                errors.push(Error::invalid(&path.child("labelSelector"), labels.clone(), detail));
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                let detail = "must be a valid signer name";
                errors.push(Error::required(&path.child("signerName"), detail));
            }
            let labels = tree::get(projection, "labelSelector");
            selector::label_selector(labels, &path.child("labelSelector"), errors);
        }
        (None, None) => {
            errors.push(Error::required(path, "either name or signerName must be specified"));
        }
    }
    file(projection, path, errors);
}

fn file(projection: &Value, path: &Path<'_>, errors: &mut Errors) {
    if required(projection, "path", path, errors) {
        not_reserved(tree::text(projection, "path"), &path.child("path"), errors);
    }
}

// === paths inside volumes ===

/// A relative path that stays inside.
pub(super) fn descending(target: &str, path: &Path<'_>, errors: &mut Errors) {
    if target.starts_with('/') {
        errors.push(Error::invalid(path, target, "must be a relative path"));
    }
    no_backsteps(target, path, errors);
}

pub(super) fn no_backsteps(target: &str, path: &Path<'_>, errors: &mut Errors) {
    if target.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(path, target, "must not contain '..'"));
    }
}

/// A descending path that does not start like the files atomic updates use.
fn not_reserved(target: &str, path: &Path<'_>, errors: &mut Errors) {
    descending(target, path, errors);
    if target.starts_with("..") && !target.starts_with("../") && target != ".." {
        errors.push(Error::invalid(path, target, "must not start with '..'"));
    }
}
