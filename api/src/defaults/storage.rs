//! Defaults of volumes, of claims for them, and of the kinds in `storage.k8s.io/v1`.

use serde_json::{Value, json};

use super::pod;
use crate::tree;

/// `SetDefaults_PersistentVolume`, and the functions of each source.
pub(crate) fn volume(object: &mut Value) {
    if let Some(status) = tree::child_mut(object, "status") {
        tree::default_text(status, "phase", "Pending");
    }
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    tree::default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    tree::default(spec, "volumeMode", "Filesystem");
    pod::round_list(spec, "capacity");
    if let Some(source) = tree::existing_mut(spec, "hostPath") {
        tree::default(source, "type", "");
    }
    super::volume::remote(spec);
}

/// `SetDefaults_PersistentVolumeClaim`.
pub(crate) fn claim(object: &mut Value) {
    if let Some(status) = tree::child_mut(object, "status") {
        tree::default_text(status, "phase", "Pending");
        for list in ["capacity", "allocatedResources"] {
            pod::round_list(status, list);
        }
    }
    if let Some(spec) = tree::child_mut(object, "spec") {
        claim_spec(spec);
    }
}

/// `SetDefaults_PersistentVolumeClaimSpec`, and amounts in whole units.
pub(crate) fn claim_spec(spec: &mut Value) {
    tree::default(spec, "volumeMode", "Filesystem");
    if let Some(resources) = tree::child_mut(spec, "resources") {
        for list in ["limits", "requests"] {
            pod::round_list(resources, list);
        }
    }
}

/// `SetDefaults_StorageClass`.
pub(crate) fn class(object: &mut Value) {
    tree::default(object, "reclaimPolicy", "Delete");
    tree::default(object, "volumeBindingMode", "Immediate");
}

/// `SetDefaults_CSIDriver`.
pub(crate) fn driver(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    tree::default(spec, "attachRequired", true);
    for name in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        tree::default(spec, name, false);
    }
    tree::default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if tree::list(spec, "volumeLifecycleModes").is_empty() {
        tree::set(spec, "volumeLifecycleModes", json!(["Persistent"]));
    }
}

/// Amounts of a runtime class in thousandths, rounded up.
pub(crate) fn runtime(object: &mut Value) {
    if let Some(overhead) = tree::existing_mut(object, "overhead") {
        pod::round_list(overhead, "podFixed");
    }
}
