//! Volumes, claims for them, and the kinds of `storage.k8s.io`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, boolean, integer, name, text};
use crate::tree;
use crate::validation::claim::CLASS;

pub(super) static VOLUME: &[Column] = &[
    NAME,
    text("Capacity"),
    text("Access Modes"),
    text("Reclaim Policy"),
    text("Status"),
    text("Claim"),
    text("StorageClass"),
    text("VolumeAttributesClass"),
    text("Reason"),
    AGE,
    text("VolumeMode").wide(),
];
pub(super) static CLAIM: &[Column] = &[
    NAME,
    text("Status"),
    text("Volume"),
    text("Capacity"),
    text("Access Modes"),
    text("StorageClass"),
    text("VolumeAttributesClass"),
    AGE,
    text("VolumeMode").wide(),
];

/// `RWO,ROX,RWX,RWOP`, those that there are.
fn modes(holder: &Value) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |mode: &str| tree::texts(holder, "accessModes").any(|one| one == mode);
    let there: Vec<&str> =
        short.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect();
    there.join(",")
}

/// The class by annotation or field.
fn class(object: &Value) -> &str {
    let annotations = tree::at(object, &["metadata", "annotations"]);
    match tree::text_opt(annotations, CLASS) {
        Some(class) => class,
        None => tree::text(tree::get(object, "spec"), "storageClassName"),
    }
}

fn phase(object: &Value) -> &str {
    if tree::has(tree::get(object, "metadata"), "deletionTimestamp") {
        return "Terminating";
    }
    tree::text(tree::get(object, "status"), "phase")
}

/// What is not written is told apart from what is empty.
fn or_unset<'a>(spec: &'a Value, name: &str) -> &'a str {
    tree::text_opt(spec, name).unwrap_or("<unset>")
}

fn storage(holder: &Value, list: &str) -> String {
    let amount = tree::get(tree::get(holder, list), "storage");
    amount.as_str().unwrap_or("0").to_owned()
}

pub(super) fn volume(volume: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (tree::get(volume, "spec"), tree::get(volume, "status"));
    let claim = match tree::get(spec, "claimRef") {
        Value::Null => String::new(),
        claim => format!("{}/{}", tree::text(claim, "namespace"), tree::text(claim, "name")),
    };
    vec![
        json!(name(volume)),
        json!(storage(spec, "capacity")),
        json!(modes(spec)),
        json!(tree::text(spec, "persistentVolumeReclaimPolicy")),
        json!(phase(volume)),
        json!(claim),
        json!(class(volume)),
        json!(or_unset(spec, "volumeAttributesClassName")),
        json!(tree::text(status, "reason")),
        age(volume, now),
        json!(or_unset(spec, "volumeMode")),
    ]
}

pub(super) fn claim(claim: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (tree::get(claim, "spec"), tree::get(claim, "status"));
    let volume = tree::text(spec, "volumeName");
    let bound = !volume.is_empty();
    let capacity = if bound { storage(status, "capacity") } else { String::new() };
    vec![
        json!(name(claim)),
        json!(phase(claim)),
        json!(volume),
        json!(capacity),
        json!(if bound { modes(status) } else { String::new() }),
        json!(class(claim)),
        json!(or_unset(spec, "volumeAttributesClassName")),
        age(claim, now),
        json!(or_unset(spec, "volumeMode")),
    ]
}

pub(super) static STORAGE_CLASS: &[Column] = &[
    NAME,
    text("Provisioner"),
    text("ReclaimPolicy"),
    text("VolumeBindingMode"),
    text("AllowVolumeExpansion"),
    AGE,
];
pub(super) static ATTRIBUTES: &[Column] = &[NAME, text("DriverName"), AGE];
pub(super) static ATTACHMENT: &[Column] = &[
    NAME,
    Column { format: "name", ..text("Attacher") },
    text("PV"),
    text("Node"),
    boolean("Attached"),
    AGE,
];
pub(super) static DRIVER: &[Column] = &[
    NAME,
    boolean("AttachRequired"),
    boolean("PodInfoOnMount"),
    boolean("StorageCapacity"),
    text("TokenRequests"),
    boolean("RequiresRepublish"),
    text("Modes"),
    AGE,
];
pub(super) static NODE: &[Column] =
    &[NAME, integer("Drivers").described("Number of drivers that a node has"), AGE];
pub(super) static CAPACITY: &[Column] = &[NAME, text("StorageClassName"), text("Capacity")];
pub(super) static RUNTIME: &[Column] = &[NAME, text("Handler"), AGE];

/// The annotations that make a class the default one.
const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

pub(super) fn storage_class(class: &Value, now: Timestamp) -> Vec<Value> {
    let annotations = tree::at(class, &["metadata", "annotations"]);
    let default = DEFAULT.iter().any(|annotation| tree::text(annotations, annotation) == "true");
    let shown = format!("{}{}", name(class), if default { " (default)" } else { "" });
    let policy = tree::text_opt(class, "reclaimPolicy").unwrap_or("Delete");
    vec![
        json!(shown),
        json!(tree::text(class, "provisioner")),
        json!(policy),
        json!(or_unset(class, "volumeBindingMode")),
        json!(tree::flag(class, "allowVolumeExpansion")),
        age(class, now),
    ]
}

pub(super) fn attributes(class: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(name(class)), json!(tree::text(class, "driverName")), age(class, now)]
}

pub(super) fn attachment(attachment: &Value, now: Timestamp) -> Vec<Value> {
    let spec = tree::get(attachment, "spec");
    vec![
        json!(name(attachment)),
        json!(tree::text(spec, "attacher")),
        json!(tree::text(tree::get(spec, "source"), "persistentVolumeName")),
        json!(tree::text(spec, "nodeName")),
        json!(tree::flag(tree::get(attachment, "status"), "attached")),
        age(attachment, now),
    ]
}

pub(super) fn driver(driver: &Value, now: Timestamp) -> Vec<Value> {
    let spec = tree::get(driver, "spec");
    let joined = |texts: Vec<&str>, otherwise: &str| match texts.is_empty() {
        true => otherwise.to_owned(),
        false => texts.join(","),
    };
    let requests = tree::list(spec, "tokenRequests");
    let audiences = requests.iter().map(|request| tree::text(request, "audience")).collect();
    let modes = tree::texts(spec, "volumeLifecycleModes").collect();
    vec![
        json!(name(driver)),
        json!(tree::flag_opt(spec, "attachRequired").unwrap_or(true)),
        json!(tree::flag(spec, "podInfoOnMount")),
        json!(tree::flag(spec, "storageCapacity")),
        json!(joined(audiences, "<unset>")),
        json!(tree::flag(spec, "requiresRepublish")),
        json!(joined(modes, "<none>")),
        age(driver, now),
    ]
}

pub(super) fn node(node: &Value, now: Timestamp) -> Vec<Value> {
    let drivers = tree::list(tree::get(node, "spec"), "drivers").len();
    vec![json!(name(node)), json!(drivers), age(node, now)]
}

pub(super) fn capacity(capacity: &Value, _: Timestamp) -> Vec<Value> {
    let amount = tree::text_opt(capacity, "capacity").unwrap_or("<unset>");
    vec![json!(name(capacity)), json!(tree::text(capacity, "storageClassName")), json!(amount)]
}

pub(super) fn runtime(class: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(name(class)), json!(tree::text(class, "handler")), age(class, now)]
}
