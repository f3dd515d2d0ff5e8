//! Resource names, amounts, requests and limits.

use serde_json::{Map, Value, json};

use super::{Errors, names, qualified};
use crate::field::{Error, Path};
use crate::quantity::Quantity;
use crate::tree;

const INTEGER: [&str; 9] = [
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Names without a domain that mean something somewhere.
const STANDARD: [&str; 18] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
];

fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource that plugins define: with a domain that is not Kubernetes' own.
pub(super) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn can_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

/// The amount must not be negative, and whole for resources that are counted.
pub(super) fn amount(name: &str, value: &Value, path: &Path<'_>, errors: &mut Errors) -> Quantity {
    let Ok(quantity) = Quantity::from_json(value) else {
        errors.push(Error::invalid(path, value.clone(), "must be a valid resource quantity"));
        return Quantity::ZERO;
    };
    if quantity.value() < 0 {
        let detail = "must be a valid resource quantity";
        errors.push(Error::invalid(path, quantity.value(), detail));
    }
    if (INTEGER.contains(&name) || is_extended(name)) && !quantity.is_whole() {
        errors.push(Error::invalid(path, quantity.to_string(), "must be an integer"));
    }
    quantity
}

fn container_resource_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let before = errors.len();
    qualified(name, path, errors);
    let malformed = errors.len() > before;
    if !name.contains('/') {
        let huge = is_huge_pages(name);
        if !malformed && !huge && !STANDARD.contains(&name) {
            let detail = "must be a standard resource type or fully qualified";
            errors.push(Error::invalid(path, name, detail));
        }
        if !huge && !matches!(name, "cpu" | "memory" | "ephemeral-storage") {
            let detail = "must be a standard resource for containers";
            errors.push(Error::invalid(path, name, detail));
        }
    } else if !is_native(name) && !is_extended(name) {
        let detail = "doesn't follow extended resource name standard";
        errors.push(Error::invalid(path, name, detail));
    }
}

/// Requests and limits of a container, and the resource claims it uses.
pub(super) fn requirements(
    resources: &Value,
    claims: &[&str],
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let empty = Map::new();
    let limits = tree::object(resources, "limits").unwrap_or(&empty);
    let requests = tree::object(resources, "requests").unwrap_or(&empty);
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    for (name, value) in limits {
        let path = limits_path.key(name);
        container_resource_name(name, &path, errors);
        amount(name, value, &path, errors);
    }
    for (name, value) in requests {
        let path = requests_path.key(name);
        container_resource_name(name, &path, errors);
        let asked = amount(name, value, &path, errors);
        if let Some(limit) = limits.get(name) {
            let limit = Quantity::from_json(limit).unwrap_or_default();
            if asked != limit && !can_overcommit(name) {
                let detail = format!("must be equal to {name} limit of {limit}");
                errors.push(Error::invalid(&requests_path, asked.to_string(), detail));
            } else if asked > limit {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.push(Error::invalid(&requests_path, asked.to_string(), detail));
            }
        } else if !can_overcommit(name) {
            let detail = "Limit must be set for non overcommitable resources";
            errors.push(Error::required(&limits_path, detail));
        }
    }
    let names = || limits.keys().chain(requests.keys());
    let compute = names().any(|n| matches!(n.as_str(), "cpu" | "memory"));
    if !compute && names().any(|n| is_huge_pages(n)) {
        errors.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
    claim_names(resources, claims, &path.child("claims"), errors);
}

fn claim_names(resources: &Value, claims: &[&str], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (i, claim) in tree::list(resources, "claims").iter().enumerate() {
        let (name, request) = (tree::text(claim, "name"), tree::text(claim, "request"));
        let path = path.index(i);
        if name.is_empty() {
            errors.push(Error::required(&path, ""));
        } else if seen.contains(&(name, request)) || seen.contains(&(name, "")) {
            let shown =
                if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            errors.push(Error::duplicate(&path, shown));
        } else {
            seen.push((name, request));
        }
        if !name.is_empty() && !claims.contains(&name) {
            errors.push(Error::not_found(&path, name));
        }
    }
}

/// Requests and limits of a pod as a whole: only cpu, memory and huge pages.
pub(super) fn pod_level(resources: &Value, path: &Path<'_>, errors: &mut Errors) {
    if resources.is_null() {
        return;
    }
    if !tree::list(resources, "claims").is_empty() {
        let detail = "claims cannot be set for Resources at pod-level";
        errors.push(Error::forbidden(&path.child("claims"), detail));
    }
    for list in ["limits", "requests"] {
        let path = path.child(list);
        for (name, _) in tree::entries(resources, list) {
            if !is_huge_pages(name) && !matches!(name.as_str(), "cpu" | "memory") {
                let known = ["cpu", "hugepages-", "memory"];
                errors.push(Error::not_supported(&path.key(name), name.as_str(), &known));
            }
        }
    }
    let checked = json!({
        "limits": tree::get(resources, "limits"), "requests": tree::get(resources, "requests"),
    });
    requirements(&checked, &[], path, errors);
}
