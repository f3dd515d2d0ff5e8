//! Horizontal pod autoscalers, of either version, and pod disruption budgets.

use serde_json::Value;

use super::meta::{self, Scope};
use super::workload::count_or_percent;
use super::{Errors, invalid_each, label, names, not_negative, resources, selector};
use crate::convert::autoscaler::to_v2;
use crate::field::{Error, Path};
use crate::quantity::Quantity;
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const PERIOD_SECONDS_MAX: i64 = 1800;
const STABILIZATION_SECONDS_MAX: i64 = 3600;
const METRIC_TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
/// The sources in the order in which the first one is checked, with their types.
const SOURCES: [(&str, &str); 5] = [
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];

/// Checks a new autoscaler.
pub(crate) fn create(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    spec(tree::get(&to_v2(object), "spec"), 1, errors);
}

/// Checks a changed autoscaler.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let before = tree::int_opt(tree::get(old, "spec"), "minReplicas");
    let least = i64::from(before != Some(0));
    spec(tree::get(&to_v2(new), "spec"), least, errors);
}

/// Checks a write to an autoscaler's status.
pub(crate) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    for name in ["currentReplicas", "desiredReplicas"] {
        not_negative(tree::get(new, "status"), name, &STATUS, errors);
    }
}

fn spec(spec: &Value, least: i64, errors: &mut Errors) {
    let (min, max) = (tree::int_opt(spec, "minReplicas"), tree::int(spec, "maxReplicas"));
    if let Some(min) = min.filter(|min| *min < least) {
        let detail = format!("must be greater than or equal to {least}");
        errors.push(Error::invalid(&SPEC.child("minReplicas"), min, detail));
    }
    let path = SPEC.child("maxReplicas");
    if max < 1 {
        errors.push(Error::invalid(&path, max, "must be greater than 0"));
    }
    if min.is_some_and(|min| max < min) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(Error::invalid(&path, max, detail));
    }
    reference(tree::get(spec, "scaleTargetRef"), &SPEC.child("scaleTargetRef"), errors);
    let path = SPEC.child("metrics");
    let metrics = tree::list(spec, "metrics");
    for (i, one) in metrics.iter().enumerate() {
        metric(one, &path.index(i), errors);
    }
    let outside =
        metrics.iter().any(|one| matches!(tree::text(one, "type"), "Object" | "External"));
    if min == Some(0) && !outside {
        let detail = "must specify at least one Object or External metric to support scaling to \
                      zero replicas";
        errors.push(Error::forbidden(&path, detail));
    }
    let path = SPEC.child("behavior");
    for name in ["scaleUp", "scaleDown"] {
        let rules = tree::get(tree::get(spec, "behavior"), name);
        if !rules.is_null() {
            scaling(rules, &path.child(name), errors);
        }
    }
}

/// A text that can be part of a path.
fn segment(holder: &Value, name: &str, missing: &str, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child(name);
    match tree::text(holder, name) {
        "" => errors.push(Error::required(&path, missing)),
        text => invalid_each(&path, text, names::path_segment(text), errors),
    }
}

fn reference(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    segment(reference, "kind", "", path, errors);
    segment(reference, "name", "", path, errors);
}

fn scaling(rules: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = "stabilizationWindowSeconds";
    if let Some(seconds) = tree::int_opt(rules, name) {
        let path = path.child(name);
        if seconds < 0 {
            let detail = "must be greater than or equal to zero";
            errors.push(Error::invalid(&path, seconds, detail));
        }
        if seconds > STABILIZATION_SECONDS_MAX {
            let detail = format!("must be less than or equal to {STABILIZATION_SECONDS_MAX}");
            errors.push(Error::invalid(&path, seconds, detail));
        }
    }
    super::one_of_if_set(rules, "selectPolicy", &["Disabled", "Max", "Min"], path, errors);
    let tolerance = tree::get(rules, "tolerance");
    if Quantity::from_json(tolerance).is_ok_and(|quantity| quantity.sign() < 0) {
        let detail = "must be greater or equal to zero";
        errors.push(Error::invalid(&path.child("tolerance"), tolerance.clone(), detail));
    }
    let path = path.child("policies");
    let policies = tree::list(rules, "policies");
    if policies.is_empty() {
        errors.push(Error::required(&path, "must specify at least one Policy"));
    }
    for (i, policy) in policies.iter().enumerate() {
        let path = path.index(i);
        let kind = tree::text(policy, "type");
        let known = ["Percent", "Pods"];
        if !known.contains(&kind) {
            errors.push(Error::not_supported(&path.child("type"), kind, &known));
        }
        for name in ["value", "periodSeconds"] {
            let number = tree::int(policy, name);
            if number <= 0 {
                let detail = "must be greater than zero";
                errors.push(Error::invalid(&path.child(name), number, detail));
            }
        }
        let seconds = tree::int(policy, "periodSeconds");
        if seconds > PERIOD_SECONDS_MAX {
            let detail = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
            errors.push(Error::invalid(&path.child("periodSeconds"), seconds, detail));
        }
    }
}

fn metric(metric: &Value, path: &Path<'_>, errors: &mut Errors) {
    let kind = tree::text(metric, "type");
    let type_path = path.child("type");
    if kind.is_empty() {
        errors.push(Error::required(&type_path, "must specify a metric source type"));
    }
    let known = METRIC_TYPES.contains(&kind);
    if !known {
        errors.push(Error::not_supported(&type_path, kind, &METRIC_TYPES));
    }
    let present: Vec<&str> =
        SOURCES.iter().map(|(name, _)| *name).filter(|name| tree::has(metric, name)).collect();
    if let Some(first) = present.first() {
        source(first, tree::get(metric, first), &path.child(first), errors);
    }
    let wanted = SOURCES.iter().find(|(_, of)| *of == kind).map(|(name, _)| *name);
    match wanted {
        Some(name) if !present.contains(&name) => {
            let detail = "must populate information for the given metric source";
            errors.push(Error::required(&path.child(name), detail));
        }
        Some(_) => {}
        None => errors.push(Error::not_supported(&type_path, kind, &METRIC_TYPES)),
    }
    if present.len() != 1 {
        for name in present.iter().filter(|name| Some(**name) != wanted) {
            let detail = "must populate the given metric source only";
            errors.push(Error::forbidden(&path.child(name), detail));
        }
    }
}

fn source(name: &str, source: &Value, path: &Path<'_>, errors: &mut Errors) {
    if name == "object" {
        reference(tree::get(source, "describedObject"), &path.child("describedObject"), errors);
    }
    if matches!(name, "object" | "external" | "pods") {
        let metric = tree::get(source, "metric");
        segment(metric, "name", "must specify a metric name", &path.child("metric"), errors);
    } else {
        let resource = tree::text(source, "name");
        let path = path.child("name");
        if resource.is_empty() {
            errors.push(Error::required(&path, "must specify a resource name"));
        } else if name == "containerResource" {
            resources::container_resource_name(resource, &path, errors);
        }
    }
    if name == "containerResource" {
        match tree::text(source, "container") {
            "" => {
                let detail = "must specify a container";
                errors.push(Error::required(&path.child("container"), detail));
            }
            text => label(text, &path.child("container"), errors),
        }
    }
    let (amounts, path) = (tree::get(source, "target"), path.child("target"));
    target(amounts, &path, errors);
    let [value, average, utilization] =
        ["value", "averageValue", "averageUtilization"].map(|one| tree::has(amounts, one));
    let average_path = path.child("averageValue");
    let mut missing = |path: &Path<'_>, detail| errors.push(Error::required(path, detail));
    match name {
        "object" if !value && !average => {
            missing(&average_path, "must set either a target value or averageValue");
        }
        "external" if !value && !average => {
            missing(&average_path, "must set either a target value for metric or a per-pod target");
        }
        "external" if value && average => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.push(Error::forbidden(&path.child("value"), detail));
        }
        "pods" if !average => missing(&average_path, "must specify a positive target averageValue"),
        "resource" | "containerResource" if !utilization && !average => {
            let detail = "must set either a target raw value or a target utilization";
            missing(&path.child("averageUtilization"), detail);
        }
        "resource" | "containerResource" if utilization && average => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.push(Error::forbidden(&average_path, detail));
        }
        _ => {}
    }
}

fn target(target: &Value, path: &Path<'_>, errors: &mut Errors) {
    let kind = tree::text(target, "type");
    if kind.is_empty() {
        errors.push(Error::required(&path.child("type"), "must specify a metric target type"));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.push(Error::invalid(&path.child("type"), kind, detail));
    }
    for name in ["value", "averageValue"] {
        let value = tree::get(target, name);
        let amount = Quantity::from_json(value);
        if !value.is_null() && amount.is_ok_and(|quantity| quantity.sign() <= 0) {
            errors.push(Error::invalid(&path.child(name), value.clone(), "must be positive"));
        }
    }
    let name = "averageUtilization";
    if let Some(percent) = tree::int_opt(target, name).filter(|percent| *percent < 1) {
        errors.push(Error::invalid(&path.child(name), percent, "must be greater than 0"));
    }
}

// === disruption budgets ===

/// Checks a new budget.
pub(crate) fn budget(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::path_segment, errors);
    budget_spec(tree::get(object, "spec"), errors);
}

fn budget_spec(spec: &Value, errors: &mut Errors) {
    let parts = ["minAvailable", "maxUnavailable"];
    if parts.iter().all(|name| tree::has(spec, name)) {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.push(Error::invalid(&SPEC, spec.clone(), detail));
    }
    for name in parts {
        let value = tree::get(spec, name);
        if !value.is_null() {
            count_or_percent(value, &SPEC.child(name), errors);
            super::workload_set::not_over_100_percent(value, &SPEC.child(name), errors);
        }
    }
    selector::label_selector(tree::get(spec, "selector"), &SPEC.child("selector"), errors);
    let known = ["AlwaysAllow", "IfHealthyBudget"];
    super::one_of_if_set(spec, "unhealthyPodEvictionPolicy", &known, &SPEC, errors);
}

/// Checks a changed budget.
pub(crate) fn budget_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    budget_spec(tree::get(new, "spec"), errors);
}

/// Checks a write to a budget's status.
pub(crate) fn budget_status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    for name in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        not_negative(tree::get(new, "status"), name, &STATUS, errors);
    }
}
