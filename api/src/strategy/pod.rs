//! What is computed for pods when they are created.

use serde_json::{Value, json};
use std::collections::BTreeMap;

use crate::quantity::Quantity;
use crate::tree;

/// The quality of service class of a pod: `Guaranteed`, `Burstable` or `BestEffort`, from the
/// requests and limits for cpu and memory.
#[must_use]
pub fn qos_class(pod: &Value) -> &'static str {
    let spec = tree::get(pod, "spec");
    if has_amounts(tree::get(spec, "resources")) {
        return class_of(std::iter::once(tree::get(spec, "resources")));
    }
    let containers = tree::list(spec, "containers").iter();
    let all = containers.chain(tree::list(spec, "initContainers"));
    class_of(all.map(|c| tree::get(c, "resources")))
}

fn has_amounts(resources: &Value) -> bool {
    ["limits", "requests"].iter().any(|list| !tree::is_empty(tree::get(resources, list)))
}

fn class_of<'a>(all: impl Iterator<Item = &'a Value>) -> &'static str {
    let mut requests = BTreeMap::new();
    let mut limits = BTreeMap::new();
    let mut guaranteed = true;
    for resources in all {
        sum_up(tree::get(resources, "requests"), &mut requests);
        guaranteed &= sum_up(tree::get(resources, "limits"), &mut limits) == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Adds what is asked for of cpu and memory; says of how many of them there was more than none.
fn sum_up(list: &Value, totals: &mut BTreeMap<&'static str, Quantity>) -> usize {
    let mut found = 0;
    for name in ["cpu", "memory"] {
        let amount = Quantity::from_json(tree::get(list, name)).unwrap_or_default();
        if amount > Quantity::ZERO {
            *totals.entry(name).or_default() += amount;
            found += 1;
        }
    }
    found
}

/// The condition of a pod that has scheduling gates.
pub(crate) fn gated_condition() -> Value {
    json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
        "lastProbeTime": null,
        "lastTransitionTime": null,
    })
}

/// `matchLabelKeys` and `mismatchLabelKeys` of affinity terms and spread constraints become
/// expressions of their label selectors, with the values of the pod's own labels.
pub(crate) fn merge_label_keys(pod: &mut Value) {
    let labels = tree::at(pod, &["metadata", "labels"]).clone();
    let Some(spec) = tree::existing_mut(pod, "spec") else { return };
    if let Some(affinity) = tree::existing_mut(spec, "affinity") {
        for name in ["podAffinity", "podAntiAffinity"] {
            let Some(pod_affinity) = tree::existing_mut(affinity, name) else { continue };
            let required = "requiredDuringSchedulingIgnoredDuringExecution";
            for term in tree::items_mut(pod_affinity, required) {
                merge_keys(term, &labels);
            }
            let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
            for weighted in tree::items_mut(pod_affinity, preferred) {
                if let Some(term) = tree::existing_mut(weighted, "podAffinityTerm") {
                    merge_keys(term, &labels);
                }
            }
        }
    }
    for constraint in tree::items_mut(spec, "topologySpreadConstraints") {
        merge_keys(constraint, &labels);
    }
}

fn merge_keys(term: &mut Value, labels: &Value) {
    if !tree::has(term, "labelSelector") {
        return;
    }
    let mut added = Vec::new();
    for (list, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in tree::texts(term, list) {
            if let Some(value) = tree::text_opt(labels, key) {
                added.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if added.is_empty() {
        return;
    }
    if let Some(selector) = tree::existing_mut(term, "labelSelector") {
        let mut expressions = tree::list(selector, "matchExpressions").to_vec();
        expressions.extend(added);
        tree::set(selector, "matchExpressions", expressions);
    }
}
