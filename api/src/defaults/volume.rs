//! Defaults of pod volumes.

use serde_json::{Value, json};

use super::pod;
use crate::tree;

const FILE_MODE: i64 = 0o644;
const TOKEN_SECONDS: i64 = 3600;

/// `SetDefaults_Volume` and the functions of each source.
pub(crate) fn volume(volume: &mut Value) {
    let Some(map) = volume.as_object() else { return };
    if map.iter().all(|(name, source)| name == "name" || source.is_null()) {
        tree::set(volume, "emptyDir", json!({}));
        return;
    }
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = tree::existing_mut(volume, name) {
            tree::default(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = tree::existing_mut(volume, "downwardAPI") {
        downward_items(source);
    }
    if let Some(source) = tree::existing_mut(volume, "projected") {
        for part in tree::items_mut(source, "sources") {
            if let Some(token) = tree::existing_mut(part, "serviceAccountToken") {
                tree::default(token, "expirationSeconds", TOKEN_SECONDS);
            }
            if let Some(downward) = tree::existing_mut(part, "downwardAPI") {
                downward_items(downward);
            }
        }
    }
    if let Some(source) = tree::existing_mut(volume, "hostPath") {
        tree::default(source, "type", "");
    }
    if let Some(source) = tree::existing_mut(volume, "image") {
        let image = tree::text(source, "reference").to_owned();
        tree::default_text(source, "pullPolicy", pod::pull_policy(&image));
    }
    if let Some(source) = tree::existing_mut(volume, "ephemeral")
        && let Some(template) = tree::existing_mut(source, "volumeClaimTemplate")
        && let Some(spec) = tree::existing_mut(template, "spec")
    {
        tree::default(spec, "volumeMode", "Filesystem");
        if let Some(resources) = tree::existing_mut(spec, "resources") {
            pod::round_list(resources, "limits");
            pod::round_list(resources, "requests");
        }
    }
    remote(volume);
}

/// The sources that live outside the cluster.
pub(super) fn remote(volume: &mut Value) {
    for (name, field, value) in [
        ("iscsi", "iscsiInterface", "default"),
        ("rbd", "pool", "rbd"),
        ("rbd", "user", "admin"),
        ("rbd", "keyring", "/etc/ceph/keyring"),
        ("scaleIO", "fsType", "xfs"),
        ("scaleIO", "storageMode", "ThinProvisioned"),
        ("azureDisk", "cachingMode", "ReadWrite"),
        ("azureDisk", "fsType", "ext4"),
        ("azureDisk", "kind", "Shared"),
    ] {
        if let Some(source) = tree::existing_mut(volume, name) {
            tree::default_text(source, field, value);
        }
    }
    if let Some(source) = tree::existing_mut(volume, "azureDisk") {
        tree::default(source, "readOnly", false);
    }
}

fn downward_items(source: &mut Value) {
    for item in tree::items_mut(source, "items") {
        pod::field_refs(item);
    }
}
