//! Persistent volumes and claims (upstream's `pkg/api/persistentvolume` and `pkg/api/persistentvolumeclaim`).

use serde_json::Value;

use super::Warnings;
use super::pod::{VOLUMES, node_term};
use super::workload::claim_spec;
use crate::field::Path;
use crate::quantity::Quantity;
use crate::text::quote;
use crate::tree;
use crate::validation::claim::CLASS;

const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

fn class_annotation(object: &Value, warnings: &mut Warnings) {
    if tree::has(tree::at(object, &["metadata", "annotations"]), CLASS) {
        warnings.push(format!(
            "metadata.annotations[{CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute \
             instead"
        ));
    }
}

/// A volume of a kind that is gone, or with fields that are.
pub(crate) fn persistent_volume(object: &Value, _: Option<&Value>, warnings: &mut Warnings) {
    class_annotation(object, warnings);
    if tree::has(tree::at(object, &["metadata", "annotations"]), MOUNT_OPTIONS) {
        warnings.push(format!(
            "metadata.annotations[{MOUNT_OPTIONS}]: deprecated since v1.31; use \"mountOptions\" \
             attribute instead"
        ));
    }
    let spec = tree::get(object, "spec");
    let path = Path::new("spec");
    if tree::text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        warnings.push(format!(
            "{}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to \
             use dynamic provisioning.",
            path.child("persistentVolumeReclaimPolicy")
        ));
    }
    let terms = tree::at(spec, &["nodeAffinity", "required"]);
    let list = path.child("nodeAffinity.required.nodeSelectorTerms");
    for (i, term) in tree::list(terms, "nodeSelectorTerms").iter().enumerate() {
        node_term(term, false, &list.index(i), warnings);
    }
    for (name, why) in VOLUMES {
        let field = if name == "storageOS" { "storageos" } else { name };
        if tree::has(spec, field) {
            warnings.push(format!("{}: {why}", path.child(name)));
        }
    }
    let storage = tree::text(tree::get(spec, "capacity"), "storage");
    if Quantity::parse(storage).is_ok_and(|quantity| !quantity.is_whole()) {
        warnings.push(format!(
            "{}: fractional byte value {} is invalid, must be an integer",
            path.child("capacity").key("storage"),
            quote(storage)
        ));
    }
}

/// A claim with an old annotation, or for a fraction of a byte.
pub(crate) fn claim(object: &Value, _: Option<&Value>, warnings: &mut Warnings) {
    class_annotation(object, warnings);
    claim_spec(tree::get(object, "spec"), &Path::new(""), warnings);
}
