//! Volumes, claims for them, and the kinds of `storage.k8s.io`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, name, text};
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
