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
const STANDARD: [&str; 20] = [
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
    "services.nodeports",
    "services.loadbalancers",
];

fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Kubernetes' own.
pub(super) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource that plugins define: with a domain that is not Kubernetes' own.
pub(super) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// More may be used than was asked for.
pub(super) fn can_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

/// The amount must not be negative, and whole for resources that are counted.
pub(super) fn amount(name: &str, value: &Value, path: &Path<'_>, errors: &mut Errors) -> Quantity {
    let Ok(quantity) = Quantity::from_json(value) else {
        errors.push(Error::invalid(path, value.clone(), "must be a valid resource quantity"));
        return Quantity::ZERO;
    };
    if quantity.sign() < 0 {
        errors.push(Error::invalid(path, quantity.to_string(), super::NOT_NEGATIVE));
    }
    if (INTEGER.contains(&name) || is_extended(name)) && !quantity.is_whole() {
        errors.push(Error::invalid(path, quantity.to_string(), "must be an integer"));
    }
    quantity
}

/// The name of something that containers have limits of.
pub(super) fn container_resource_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
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

/// The name of any resource.
pub(super) fn resource_name(name: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let before = errors.len();
    qualified(name, path, errors);
    let standard = STANDARD.contains(&name) || is_quota_huge_page(name);
    if errors.len() == before && !name.contains('/') && !standard {
        let detail = "must be a standard resource type or fully qualified";
        errors.push(Error::invalid(path, name, detail));
    }
    errors.len() == before
}

fn is_quota_huge_page(name: &str) -> bool {
    is_huge_pages(name) || name.starts_with("requests.hugepages-")
}

/// A resource without a domain that quotas count.
pub(super) fn is_quota_resource(name: &str) -> bool {
    (STANDARD.contains(&name) && name != "storage") || is_quota_huge_page(name)
}

/// The name of a resource that a quota counts.
pub(super) fn quota_resource_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let before = errors.len();
    qualified(name, path, errors);
    if !name.contains('/') && !is_quota_resource(name) {
        if errors.len() == before && !STANDARD.contains(&name) {
            let detail = "must be a standard resource type or fully qualified";
            errors.push(Error::invalid(path, name, detail));
        }
        errors.push(Error::invalid(path, name, "must be a standard resource for quota"));
    }
}

/// An amount that is not negative, and whole where things are counted (`ValidateResourceQuantityValue`).
pub(super) fn quantity_value(name: &str, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let quantity = Quantity::from_json(value).unwrap_or_default();
    if quantity.sign() < 0 {
        errors.push(Error::invalid(path, quantity.to_string(), super::NOT_NEGATIVE));
    }
    if (INTEGER.contains(&name) || is_extended(name)) && !quantity.is_whole() {
        errors.push(Error::invalid(path, quantity.to_string(), "must be an integer"));
    }
}

/// An amount above zero; says whether it is.
pub(super) fn positive(value: &Value, path: &Path<'_>, errors: &mut Errors) -> bool {
    let quantity = Quantity::from_json(value).unwrap_or_default();
    if quantity.sign() <= 0 {
        errors.push(Error::invalid(path, quantity.to_string(), "must be greater than zero"));
    }
    quantity.sign() > 0
}

/// An amount that is one at all; says whether it is.
pub(super) fn basic(value: &Value, path: &Path<'_>, errors: &mut Errors) -> bool {
    let quantity = Quantity::from_json(value).unwrap_or_default();
    let fine = quantity.value() >= 0;
    if !fine {
        let detail = "must be a valid resource quantity";
        errors.push(Error::invalid(path, quantity.value(), detail));
    }
    fine
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
        let limit = amount(name, value, &path, errors);
        whole_pages(name, limit, &path, errors);
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
        whole_pages(name, asked, &path, errors);
    }
    let names = || limits.keys().chain(requests.keys());
    let compute = names().any(|n| matches!(n.as_str(), "cpu" | "memory"));
    if !compute && names().any(|n| is_huge_pages(n)) {
        errors.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
    claim_names(resources, claims, &path.child("claims"), errors);
}

fn claim_names(resources: &Value, claims: &[&str], path: &Path<'_>, errors: &mut Errors) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (i, claim) in tree::list(resources, "claims").iter().enumerate() {
        let (name, request) = (tree::text(claim, "name"), tree::text(claim, "request"));
        let path = path.index(i);
        if name.is_empty() {
            errors.push(Error::required(&path, ""));
            continue;
        }
        if seen.contains(&(name, "")) {
            errors.push(Error::duplicate(&path, name));
        } else {
            if !request.is_empty() {
                super::label(request, &path.child("request"), errors);
            }
            if seen.contains(&(name, request)) {
                errors.push(Error::duplicate(&path, format!("{name}/{request}")));
            } else if request.is_empty() {
                for _ in seen.iter().filter(|(other, _)| *other == name) {
                    errors.push(Error::duplicate(&path, name));
                }
            }
            seen.push((name, request));
        }
        if !claims.contains(&name) {
            let mut sorted = claims.to_vec();
            sorted.sort_unstable();
            let mut error = Error::not_found(&path, name);
            "must be one of the names in pod.spec.resourceClaims".clone_into(&mut error.detail);
            error.detail.push_str(&match sorted.as_slice() {
                [] => " which is empty".to_owned(),
                names => format!(": {}", names.join(", ")),
            });
            errors.push(error);
        }
    }
}

/// Huge pages come in whole ones.
fn whole_pages(name: &str, amount: Quantity, path: &Path<'_>, errors: &mut Errors) {
    let Some(size) = name.strip_prefix("hugepages-") else { return };
    let size = size.parse::<Quantity>().unwrap_or_default().value();
    let (value, shown) = (amount.value(), amount.to_string());
    if size <= 0 || value <= 0 || value % size != 0 {
        let detail = format!("{shown} is not positive integer multiple of {name}");
        errors.push(Error::invalid(path, shown, detail));
    }
}

/// Requests and limits of a pod as a whole: only cpu, memory and huge pages, and room enough for
/// its containers.
pub(super) fn pod_level(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let resources = tree::get(spec, "resources");
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
    room_for_containers(spec, resources, path, errors);
}

/// What the containers ask for together fits the pod's requests, and each one's limits fit the
/// pod's.
fn room_for_containers(spec: &Value, resources: &Value, path: &Path<'_>, errors: &mut Errors) {
    let asked = path.child("requests");
    for (name, total) in crate::defaults::pod::container_requests(spec) {
        let total = Quantity::from_json(&total).unwrap_or_default();
        let own = tree::get(tree::get(resources, "requests"), &name);
        let own = Quantity::from_json(own).unwrap_or_default();
        if total > own {
            let detail =
                format!("must be greater than or equal to aggregate container requests of {total}");
            errors.push(Error::invalid(&asked.key(&name), own.to_string(), detail));
        }
    }
    let containers = path.child("containers");
    for (i, container) in tree::list(spec, "containers").iter().enumerate() {
        for (name, limit) in tree::entries(tree::get(container, "resources"), "limits") {
            let most = tree::get(tree::get(resources, "limits"), name);
            if most.is_null() {
                continue;
            }
            let limit = Quantity::from_json(limit).unwrap_or_default();
            let most = Quantity::from_json(most).unwrap_or_default();
            if limit > most {
                let item = containers.index(i);
                let item = item.key(name);
                let detail = format!("must be less than or equal to pod limits of {most}");
                errors.push(Error::invalid(&item.child("limits"), limit.to_string(), detail));
            }
        }
    }
}
