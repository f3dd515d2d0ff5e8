//! Nodes: readiness, roles, versions and addresses.

use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;

use super::{AGE, Column, NAME, age, name, or, text};
use crate::tree;

pub(super) static COLUMNS: &[Column] = &[
    NAME,
    text("Status").described("The status of the node"),
    text("Roles").described("The roles of the node"),
    AGE,
    text("Version").described("Kubelet Version reported by the node."),
    text("Internal-IP").wide(),
    text("External-IP").wide(),
    text("OS-Image").wide(),
    text("Kernel-Version").wide(),
    text("Container-Runtime").wide(),
];

pub(super) fn row(node: &Value, now: Timestamp) -> Vec<Value> {
    let status = tree::get(node, "status");
    let info = tree::get(status, "nodeInfo");
    let address = |kind: &str| {
        let mut addresses = tree::list(status, "addresses").iter();
        let found = addresses.find(|a| tree::text(a, "type") == kind);
        json!(found.map_or("<none>", |a| tree::text(a, "address")))
    };
    let known = |field: &str| json!(or(tree::text(info, field), "<unknown>"));
    vec![
        json!(name(node)),
        json!(state(node)),
        json!(roles(node)),
        age(node, now),
        json!(tree::text(info, "kubeletVersion")),
        address("InternalIP"),
        address("ExternalIP"),
        known("osImage"),
        known("kernelVersion"),
        known("containerRuntimeVersion"),
    ]
}

fn state(node: &Value) -> String {
    let mut conditions = tree::list(tree::get(node, "status"), "conditions").iter();
    let ready = conditions.find(|c| tree::text(c, "type") == "Ready");
    let mut state = match ready.map(|c| tree::text(c, "status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if tree::flag(tree::get(node, "spec"), "unschedulable") {
        state.push_str(",SchedulingDisabled");
    }
    state
}

fn roles(node: &Value) -> String {
    let labels = tree::at(node, &["metadata", "labels"]).as_object();
    let mut roles = BTreeSet::new();
    for (key, value) in labels.into_iter().flatten() {
        if let Some(role) = key.strip_prefix("node-role.kubernetes.io/") {
            if !role.is_empty() {
                roles.insert(role);
            }
        } else if key == "kubernetes.io/role" {
            roles.extend(value.as_str().filter(|role| !role.is_empty()));
        }
    }
    or(&roles.into_iter().collect::<Vec<_>>().join(","), "<none>").to_owned()
}
