//! Nodes: taints, capacity, pod address ranges.

use serde_json::Value;

use super::meta::{self, Scope};
use super::{Errors, affinity, cidr, names, one_of, qualified, resources};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");

/// Checks a new node.
pub(crate) fn create(node: &Value, errors: &mut Errors) {
    meta::object(node, Scope::Cluster, names::dns1123_subdomain, errors);
    taints(node, errors);
    amounts(node, errors);
    let ranges: Vec<&str> = tree::texts(tree::get(node, "spec"), "podCIDRs").collect();
    let path = SPEC.child("podCIDRs");
    for (i, range) in ranges.iter().enumerate() {
        cidr(range, &path.index(i), errors);
    }
    if ranges.len() > 1 {
        let v6 = ranges.iter().filter(|r| r.contains(':')).count();
        if ranges.len() > 2 || v6 != 1 {
            let value = tree::get(tree::get(node, "spec"), "podCIDRs").clone();
            let detail = "may specify no more than one CIDR for each IP family";
            errors.push(Error::invalid(&path, value, detail));
        }
        for (i, range) in ranges.iter().enumerate() {
            if ranges[..i].contains(range) {
                errors.push(Error::duplicate(&path.index(i), *range));
            }
        }
    }
}

fn taints(node: &Value, errors: &mut Errors) {
    // Upstream reports taints below metadata.
    let metadata = Path::new("metadata");
    let path = metadata.child("taints");
    let mut seen = Vec::new();
    for (i, taint) in tree::list(tree::get(node, "spec"), "taints").iter().enumerate() {
        let path = path.index(i);
        let (key, effect) = (tree::text(taint, "key"), tree::text(taint, "effect"));
        qualified(key, &path.child("key"), errors);
        let value = tree::text(taint, "value");
        let problems = names::label_value(value);
        if !problems.is_empty() {
            errors.push(Error::invalid(&path.child("value"), value, problems.join(";")));
        }
        one_of(taint, "effect", &affinity::EFFECTS, &path, errors);
        if seen.contains(&(key, effect)) {
            let mut error = Error::duplicate(&path, taint.clone());
            "taints must be unique by key and effect pair".clone_into(&mut error.detail);
            errors.push(error);
        }
        seen.push((key, effect));
    }
}

fn amounts(node: &Value, errors: &mut Errors) {
    let status = Path::new("status");
    for list in ["capacity", "allocatable"] {
        let path = status.child(list);
        for (name, value) in tree::entries(tree::get(node, "status"), list) {
            resources::amount(name, value, &path.child(name), errors);
        }
    }
}

/// Checks a changed node, or a write to its status.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    amounts(new, errors);
    let status = Path::new("status");
    let path = status.child("addresses");
    let addresses = tree::list(tree::get(new, "status"), "addresses");
    for (i, address) in addresses.iter().enumerate() {
        if addresses[..i].contains(address) {
            errors.push(Error::duplicate(&path.index(i), address.clone()));
        }
    }
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    let ranges = |spec| tree::list(spec, "podCIDRs");
    if !ranges(before).is_empty() && ranges(after) != ranges(before) {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(Error::forbidden(&SPEC.child("podCIDRs"), detail));
    }
    let provider = |spec| tree::text(spec, "providerID");
    if !provider(before).is_empty() && provider(after) != provider(before) {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(Error::forbidden(&SPEC.child("providerID"), detail));
    }
    taints(new, errors);
    if tree::text(after, "externalID") != tree::text(before, "externalID") {
        errors.push(Error::forbidden(&SPEC.child("externalID"), "may not be updated"));
    }
}
