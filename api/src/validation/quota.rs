//! Limit ranges and resource quotas: which amounts of which resources.

use serde_json::Value;
use std::collections::BTreeSet;

use super::meta::{self, Scope};
use super::{Errors, names, resources};
use crate::field::{Error, Path};
use crate::quantity::Quantity;
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");

// === limit ranges ===

/// Checks a new limit range.
pub(crate) fn limit_range(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    let path = SPEC.child("limits");
    let mut seen: Vec<&str> = Vec::new();
    for (i, limit) in tree::list(tree::get(object, "spec"), "limits").iter().enumerate() {
        let path = path.index(i);
        let kind = tree::text(limit, "type");
        limit_type(kind, &path.child("type"), errors);
        if seen.contains(&kind) {
            errors.push(Error::duplicate(&path.child("type"), kind));
        }
        seen.push(kind);
        limit_names(limit, kind, &path, errors);
        let keys: BTreeSet<&str> =
            ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]
                .iter()
                .flat_map(|list| tree::entries(limit, list))
                .map(|(name, _)| name.as_str())
                .collect();
        for key in keys {
            limit_amounts(limit, key, &path, errors);
        }
    }
}

fn limit_type(kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let before = errors.len();
    super::qualified(kind, path, errors);
    let known = ["Pod", "Container", "PersistentVolumeClaim"];
    if errors.len() == before && !kind.contains('/') && !known.contains(&kind) {
        errors.push(Error::invalid(path, kind, "must be a standard limit type or fully qualified"));
    }
}

fn limit_names(limit: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let check = |list: &str, errors: &mut Errors| {
        let path = path.child(list);
        for (name, _) in tree::entries(limit, list) {
            if matches!(kind, "Pod" | "Container") {
                resources::container_resource_name(name, &path.key(name), errors);
            } else {
                resources::resource_name(name, &path.key(name), errors);
            }
        }
    };
    check("max", errors);
    check("min", errors);
    for list in ["default", "defaultRequest"] {
        if kind != "Pod" {
            check(list, errors);
        } else if tree::entries(limit, list).next().is_some() {
            let detail = "may not be specified when `type` is 'Pod'";
            errors.push(Error::forbidden(&path.child(list), detail));
        }
    }
    let has_storage = |list| tree::has(tree::get(limit, list), "storage");
    if kind == "PersistentVolumeClaim" && !has_storage("min") && !has_storage("max") {
        let detail =
            "either minimum or maximum storage value is required, but neither was provided";
        errors.push(Error::required(&path.child("limits"), detail));
    }
    check("maxLimitRequestRatio", errors);
}

fn limit_amounts(limit: &Value, key: &str, path: &Path<'_>, errors: &mut Errors) {
    let pod = tree::text(limit, "type") == "Pod";
    let of = |list: &str| {
        let value = tree::get(tree::get(limit, list), key);
        if value.is_null() { None } else { Quantity::from_json(value).ok() }
    };
    let (min, max, ratio) = (of("min"), of("max"), of("maxLimitRequestRatio"));
    // Both are refused for pods anyway.
    let default = of("default").filter(|_| !pod);
    let request = of("defaultRequest").filter(|_| !pod);
    let mut ordered = |(small, small_name): (Option<Quantity>, &str),
                       (great, great_name): (Option<Quantity>, &str),
                       at: &str,
                       shown: Option<Quantity>| {
        if let (Some(small), Some(great), Some(shown)) = (small, great, shown)
            && small > great
        {
            let detail =
                format!("{small_name} value {small} is greater than {great_name} value {great}");
            errors.push(Error::invalid(&path.child(at).key(key), shown.to_string(), detail));
        }
    };
    ordered((min, "min"), (max, "max"), "min", min);
    ordered((min, "min"), (request, "default request"), "defaultRequest", request);
    ordered((request, "default request"), (max, "max"), "defaultRequest", request);
    ordered((request, "default request"), (default, "default limit"), "defaultRequest", request);
    ordered((min, "min"), (default, "default"), "default", min);
    ordered((default, "default"), (max, "max"), "default", max);
    if let Some(ratio) = ratio {
        limit_ratio(ratio, (min, max), &path.child("maxLimitRequestRatio").key(key), errors);
    }
    if let (Some(default), Some(request)) = (default, request)
        && default != request
        && !resources::can_overcommit(key)
    {
        let detail = format!(
            "default value {default} must equal to defaultRequest value {request} in {key}"
        );
        let path = path.child("defaultRequest");
        errors.push(Error::invalid(&path.key(key), request.to_string(), detail));
    }
}

fn limit_ratio(
    ratio: Quantity,
    (min, max): (Option<Quantity>, Option<Quantity>),
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if ratio < Quantity::from_milli(1000, ratio.format()) {
        let detail = format!("ratio {ratio} is less than 1");
        errors.push(Error::invalid(path, ratio.to_string(), detail));
    }
    #[allow(clippy::cast_precision_loss, reason = "upstream compares floats, and shows six digits")]
    let float = |quantity: Quantity| quantity.nano_value() as f64;
    if let (Some(min), Some(max)) = (min, max) {
        let most = float(max) / float(min);
        if float(ratio) / 1e9 > most {
            let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
            errors.push(Error::invalid(path, ratio.to_string(), detail));
        }
    }
}

/// Checks a changed limit range.
pub(crate) fn limit_range_update(new: &Value, old: &Value, errors: &mut Errors) {
    limit_range(new, errors);
    meta::update(new, old, errors);
}

// === quotas ===

/// Resources that quotas of pods with a scope can bound.
const OF_PODS: [&str; 7] =
    ["pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
const OF_CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
const CONFLICTS: [[&str; 2]; 2] =
    [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

fn is_scope(scope: &str) -> bool {
    matches!(
        scope,
        "Terminating"
            | "NotTerminating"
            | "BestEffort"
            | "NotBestEffort"
            | "PriorityClass"
            | "CrossNamespacePodAffinity"
            | "VolumeAttributesClass"
    )
}

fn goes_with(scope: &str, resource: &str) -> bool {
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => OF_PODS.contains(&resource),
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => OF_CLAIMS.contains(&resource),
        _ => true,
    }
}

/// Checks a new quota.
pub(crate) fn quota(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    quota_spec(tree::get(object, "spec"), errors);
    quota_amounts(tree::get(object, "status"), &["hard", "used"], &STATUS, errors);
}

fn quota_spec(spec: &Value, errors: &mut Errors) {
    quota_amounts(spec, &["hard"], &SPEC, errors);
    scopes(spec, errors);
    scope_selector(spec, errors);
}

fn quota_amounts(holder: &Value, lists: &[&str], path: &Path<'_>, errors: &mut Errors) {
    for list in lists {
        let path = path.child(list);
        for (name, value) in tree::entries(holder, list) {
            let path = path.key(name);
            resources::quota_resource_name(name, &path, errors);
            resources::quantity_value(name, value, &path, errors);
        }
    }
}

/// Bounded resources that quotas know by name, and that do not go with the scope.
fn misfits(spec: &Value, scope: &str) -> usize {
    let bounded = tree::entries(spec, "hard").map(|(name, _)| name);
    bounded.filter(|name| resources::is_quota_resource(name) && !goes_with(scope, name)).count()
}

fn conflicting(found: &[&str], spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for pair in CONFLICTS {
        if pair.iter().all(|scope| found.contains(scope)) {
            let value = tree::get(spec, "scopes").clone();
            errors.push(Error::invalid(path, value, "conflicting scopes"));
        }
    }
}

fn scopes(spec: &Value, errors: &mut Errors) {
    let path = SPEC.child("scopes");
    let found: Vec<&str> = tree::texts(spec, "scopes").collect();
    let value = || tree::get(spec, "scopes").clone();
    for scope in &found {
        if !is_scope(scope) {
            errors.push(Error::invalid(&path, value(), "unsupported scope"));
        }
        for _ in 0..misfits(spec, scope) {
            errors.push(Error::invalid(&path, value(), "unsupported scope applied to resource"));
        }
    }
    conflicting(&found, spec, &path, errors);
}

fn scope_selector(spec: &Value, errors: &mut Errors) {
    let selector = tree::get(spec, "scopeSelector");
    let path = SPEC.child("scopeSelector.matchExpressions");
    let mut found = Vec::new();
    for expression in tree::list(selector, "matchExpressions") {
        let scope = tree::text(expression, "scopeName");
        if !is_scope(scope) {
            errors.push(Error::invalid(&path.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in 0..misfits(spec, scope) {
            let detail = "unsupported scope applied to resource";
            errors.push(Error::invalid(&path, selector.clone(), detail));
        }
        scope_operator(expression, scope, &path, errors);
        found.push(scope);
    }
    conflicting(&found, spec, &path, errors);
}

fn scope_operator(expression: &Value, scope: &str, path: &Path<'_>, errors: &mut Errors) {
    let operator = tree::text(expression, "operator");
    let alone = !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && is_scope(scope);
    let own = path.child("operator");
    if alone && operator != "Exists" {
        let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                      ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                      ResourceQuotaScopeNotBestEffort or \
                      ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.push(Error::invalid(&own, operator, detail));
    }
    let values = tree::get(expression, "values");
    let empty = tree::is_empty(values);
    match operator {
        "In" | "NotIn" => {
            if empty {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for \
                              scope selector";
                errors.push(Error::required(&path.child("values"), detail));
            }
        }
        "Exists" | "DoesNotExist" => {
            if !empty {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for \
                              scope selector";
                errors.push(Error::invalid(&path.child("values"), values.clone(), detail));
            }
        }
        other => errors.push(Error::invalid(&own, other, "not a valid selector operator")),
    }
}

/// Checks a changed quota: its scopes stay.
pub(crate) fn quota_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    quota_spec(after, errors);
    let set =
        |spec| -> BTreeSet<String> { tree::texts(spec, "scopes").map(str::to_owned).collect() };
    if set(after) != set(before) {
        let value = tree::get(after, "scopes").clone();
        errors.push(Error::invalid(&SPEC.child("scopes"), value, super::IMMUTABLE));
    }
}

/// Checks a write to a quota's status.
pub(crate) fn quota_status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    quota_amounts(tree::get(new, "status"), &["hard", "used"], &STATUS, errors);
}
