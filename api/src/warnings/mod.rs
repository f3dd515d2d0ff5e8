//! Warnings: what a client should know about an object that is accepted all the same, in the words
//! of upstream's strategies (`WarningsOnCreate`, `WarningsOnUpdate`). They travel in `Warning`
//! headers.
//!
//! As validation, this reads absent and wrongly typed values as "not set" and never panics.

use serde_json::Value;

use crate::field::Path;
use crate::kinds;
use crate::tree;
use crate::validation::names;

mod address;
mod extra;
mod network;
mod pod;
mod secret;
mod storage;
mod workload;

pub(crate) use extra::{devices, flow, migration};
pub(crate) use network::{endpoint_slice, endpoints, ingress, network_policy, service};
pub(crate) use pod::{deployment, pod, replica_set};
pub(crate) use secret::secret;
pub(crate) use storage::{claim, persistent_volume};
pub(crate) use workload::{cron_job, daemon_set, job, pod_template, stateful_set};

/// Where warnings are collected.
pub(crate) type Warnings = Vec<String>;

/// What is worth a word about a new object.
#[must_use]
pub fn create(group: &str, kind: &str, object: &Value) -> Vec<String> {
    let mut warnings = Warnings::new();
    if let Some(row) = kinds::find(group, kind) {
        (row.warnings)(object, None, &mut warnings);
    }
    warnings
}

/// What is worth a word about a changed object.
#[must_use]
pub fn update(group: &str, kind: &str, new: &Value, old: &Value) -> Vec<String> {
    let mut warnings = Warnings::new();
    if let Some(row) = kinds::find(group, kind) {
        (row.warnings)(new, Some(old), &mut warnings);
    }
    warnings
}

/// What every answer about a kind says that is deprecated as a whole (upstream's API lifecycle
/// markers in `k8s.io/api`).
#[must_use]
pub fn deprecated(group: &str, version: &str, kind: &str) -> Option<&'static str> {
    match (group, version, kind) {
        ("", "v1", "Endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        ("", "v1", "ComponentStatus") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}

/// A node's obsolete fields.
pub(crate) fn node(node: &Value, _: Option<&Value>, warnings: &mut Warnings) {
    let spec = tree::get(node, "spec");
    if tree::has(spec, "configSource") {
        warnings.push("spec.configSource: the feature is removed".to_owned());
    }
    if !tree::text(spec, "externalID").is_empty() {
        let text = "spec.externalID: this field is deprecated, and is unused by Kubernetes";
        warnings.push(text.to_owned());
    }
    let path = Path::new("spec");
    let path = path.child("podCIDRs");
    for (i, range) in tree::texts(spec, "podCIDRs").enumerate() {
        address::range(range, &path.index(i), warnings);
    }
}

/// A service account that limits which secrets its pods may mount.
pub(crate) fn service_account(account: &Value, old: Option<&Value>, warnings: &mut Warnings) {
    const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
    let of = |object| tree::get(tree::at(object, &["metadata", "annotations"]), ENFORCE);
    let value = of(account);
    if !value.is_null() && old.is_none_or(|old| of(old) != value) {
        warnings.push(format!(
            "metadata.annotations[{ENFORCE}]: deprecated in v1.32+; prefer separate namespaces to \
             isolate access to mounted secrets"
        ));
    }
}

/// A name that becomes (part of) the name of a host.
fn host_name(object: &Value, becomes: &str, warnings: &mut Warnings) {
    let name = tree::text(tree::get(object, "metadata"), "name");
    let problems = names::dns1123_label(name);
    if !problems.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in {becomes}, which can result in surprising behavior; a \
             DNS label is recommended: [{}]",
            problems.join(" ")
        ));
    }
}

#[cfg(test)]
mod tests;
