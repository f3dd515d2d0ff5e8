//! Deployments, replica sets and scales.

use serde_json::Value;

use super::meta::{self, Scope};
use super::{Errors, NOT_NEGATIVE, immutable, names, not_negative, pod, selector};
use crate::field::{Error, Path};
use crate::selector::object::label_selector;
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");

/// Checks a new deployment.
pub(crate) fn deployment(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    deployment_spec(tree::get(object, "spec"), errors);
}

fn deployment_spec(spec: &Value, errors: &mut Errors) {
    not_negative(spec, "replicas", &SPEC, errors);
    selector_and_template(spec, errors);
    strategy(tree::get(spec, "strategy"), &SPEC.child("strategy"), errors);
    for name in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        not_negative(spec, name, &SPEC, errors);
    }
    if let Some(deadline) = tree::int_opt(spec, "progressDeadlineSeconds")
        && deadline <= tree::int(spec, "minReadySeconds")
    {
        let path = SPEC.child("progressDeadlineSeconds");
        errors.push(Error::invalid(&path, deadline, "must be greater than minReadySeconds"));
    }
}

fn selector_and_template(spec: &Value, errors: &mut Errors) {
    let path = SPEC.child("selector");
    let wanted = selector::required(spec, &path, errors);
    if selector::is_empty(wanted) {
        let detail = "empty selector is invalid for deployment";
        errors.push(Error::invalid(&path, wanted.clone(), detail));
    }
    let path = SPEC.child("template");
    let template = tree::get(spec, "template");
    let Ok(parsed) = label_selector(wanted) else {
        errors.push(Error::invalid(
            &SPEC.child("selector"),
            wanted.clone(),
            "invalid label selector",
        ));
        return;
    };
    let labels = tree::at(template, &["metadata", "labels"]);
    let matches = labels.as_object().map_or_else(|| parsed.matches_none(), |l| parsed.matches(l));
    if !parsed.requirements().is_empty() && !matches {
        let detail = "`selector` does not match template `labels`";
        errors.push(Error::invalid(&path.child("metadata.labels"), labels.clone(), detail));
    }
    pod::template(template, &path, errors);
    let pod_spec = tree::get(template, "spec");
    let policy = tree::text(pod_spec, "restartPolicy");
    if policy != "Always" {
        let path = path.child("spec.restartPolicy");
        errors.push(Error::not_supported(&path, policy, &["Always"]));
    }
    if tree::has(pod_spec, "activeDeadlineSeconds") {
        let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.push(Error::forbidden(&path.child("spec.activeDeadlineSeconds"), detail));
    }
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rolling = tree::get(strategy, "rollingUpdate");
    let path_of_rolling = path.child("rollingUpdate");
    match tree::text(strategy, "type") {
        "Recreate" => {
            if !rolling.is_null() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(Error::forbidden(&path_of_rolling, detail));
            }
        }
        "RollingUpdate" => {
            if rolling.is_null() {
                let detail = "this should be defaulted and never be nil";
                errors.push(Error::required(&path_of_rolling, detail));
            } else {
                rolling_update(rolling, &path_of_rolling, errors);
            }
        }
        _ => {
            let known = ["Recreate", "RollingUpdate"];
            errors.push(Error::not_supported(path, strategy.clone(), &known));
        }
    }
}

fn rolling_update(rolling: &Value, path: &Path<'_>, errors: &mut Errors) {
    for name in ["maxUnavailable", "maxSurge"] {
        count_or_percent(tree::get(rolling, name), &path.child(name), errors);
    }
    let number = |name: &str| match tree::get(rolling, name) {
        Value::String(text) => text.trim_end_matches('%').parse().unwrap_or(0),
        other => other.as_i64().unwrap_or(0),
    };
    let unavailable = tree::get(rolling, "maxUnavailable");
    let path = path.child("maxUnavailable");
    if number("maxUnavailable") == 0 && number("maxSurge") == 0 {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.push(Error::invalid(&path, unavailable.clone(), detail));
    }
    if unavailable.is_string() && number("maxUnavailable") > 100 {
        let detail = "must not be greater than 100%";
        errors.push(Error::invalid(&path, unavailable.clone(), detail));
    }
}

/// A count, or a percentage.
pub(super) fn count_or_percent(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or_default();
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                let detail = "a valid percent string must consist of a numeric string followed \
                              by an ending '%' (e.g. '1%',  or '93%', regex used for validation \
                              is '[0-9]+%')";
                errors.push(Error::invalid(path, text.as_str(), detail));
            }
        }
        other => {
            let number = other.as_i64().unwrap_or(0);
            if number < 0 {
                errors.push(Error::invalid(path, number, NOT_NEGATIVE));
            }
        }
    }
}

/// Checks a changed deployment.
pub(crate) fn deployment_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    deployment_spec(after, errors);
    immutable(after, before, "selector", &SPEC, errors);
}

/// None of these counts is larger than `replicas`.
pub(super) fn no_more_than_all<'a>(
    status: &Value,
    parts: impl IntoIterator<Item = &'a str>,
    errors: &mut Errors,
) {
    let total = tree::int(status, "replicas");
    for name in parts {
        let part = tree::int(status, name);
        if part > total {
            let detail = "cannot be greater than status.replicas";
            errors.push(Error::invalid(&STATUS.child(name), part, detail));
        }
    }
}

fn counts(status: &Value, parts: &[&str], errors: &mut Errors) {
    for name in ["observedGeneration", "replicas"].iter().chain(parts) {
        not_negative(status, name, &STATUS, errors);
    }
    let whole = |name: &&&str| !matches!(**name, "unavailableReplicas" | "collisionCount");
    no_more_than_all(status, parts.iter().filter(whole).copied(), errors);
    let available = tree::int(status, "availableReplicas");
    if available > tree::int(status, "readyReplicas") {
        let detail = "cannot be greater than readyReplicas";
        errors.push(Error::invalid(&STATUS.child("availableReplicas"), available, detail));
    }
}

/// Checks a write to a deployment's status.
pub(crate) fn deployment_status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let (after, before) = (tree::get(new, "status"), tree::get(old, "status"));
    let parts = [
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "collisionCount",
    ];
    counts(after, &parts, errors);
    not_decremented(after, before, "collisionCount", errors);
}

/// A count of a status that only grows.
pub(super) fn not_decremented(after: &Value, before: &Value, name: &str, errors: &mut Errors) {
    let (now, then) = (tree::int_opt(after, name), tree::int_opt(before, name));
    if then.is_some() && now < then {
        let now = now.unwrap_or(0);
        errors.push(Error::invalid(&STATUS.child(name), now, "cannot be decremented"));
    }
}

/// Checks a new replica set.
pub(crate) fn replica_set(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    replica_set_spec(tree::get(object, "spec"), errors);
}

fn replica_set_spec(spec: &Value, errors: &mut Errors) {
    not_negative(spec, "replicas", &SPEC, errors);
    not_negative(spec, "minReadySeconds", &SPEC, errors);
    selector_and_template(spec, errors);
}

/// Checks a changed replica set.
pub(crate) fn replica_set_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    replica_set_spec(after, errors);
    immutable(after, before, "selector", &SPEC, errors);
}

/// Checks a write to a replica set's status.
pub(crate) fn replica_set_status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    counts(tree::get(new, "status"), &parts, errors);
}

/// Checks a scale.
pub(crate) fn scale(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    not_negative(tree::get(object, "spec"), "replicas", &SPEC, errors);
}

/// Checks a changed scale.
pub(crate) fn scale_update(new: &Value, _: &Value, errors: &mut Errors) {
    scale(new, errors);
}
