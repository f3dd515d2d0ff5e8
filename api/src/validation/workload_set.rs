//! Daemon sets, stateful sets and the revisions of both.

use serde_json::{Value, json};

use super::meta::{self, Scope};
use super::workload::{count_or_percent, no_more_than_all, not_decremented};
use super::{Errors, immutable, label, names, not_negative, pod, required, selector};
use crate::field::{Error, Path};
use crate::selector::object::label_selector;
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const TEMPLATE: Path<'static> = Path::new("spec.template");
const NO_MATCH: &str = "`selector` does not match template `labels`";

/// Whether a selector says nothing at all.
fn matches(selector: &crate::selector::label::Selector, template: &Value) -> bool {
    let labels = tree::at(template, &["metadata", "labels"]);
    labels.as_object().map_or_else(|| selector.matches_none(), |labels| selector.matches(labels))
}

fn unmatched(template: &Value, errors: &mut Errors) {
    let labels = tree::at(template, &["metadata", "labels"]).clone();
    errors.push(Error::invalid(&TEMPLATE.child("metadata.labels"), labels, NO_MATCH));
}

/// Pods of these live for ever.
fn endless(template: &Value, kind: &str, errors: &mut Errors) {
    let spec = tree::get(template, "spec");
    let policy = tree::text(spec, "restartPolicy");
    if policy != "Always" {
        let path = TEMPLATE.child("spec.restartPolicy");
        errors.push(Error::not_supported(&path, policy, &["Always"]));
    }
    if tree::has(spec, "activeDeadlineSeconds") {
        let path = TEMPLATE.child("spec.activeDeadlineSeconds");
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Error::forbidden(&path, detail));
    }
}

/// The number of a count or percentage; 0 for what is neither.
fn number(value: &Value) -> i64 {
    match value {
        Value::String(text) => text.trim_end_matches('%').parse().unwrap_or(0),
        other => other.as_i64().unwrap_or(0),
    }
}

/// A percentage of no more than all.
pub(super) fn not_over_100_percent(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if value.as_str().is_some_and(|text| text.ends_with('%')) && number(value) > 100 {
        errors.push(Error::invalid(path, value.clone(), "must not be greater than 100%"));
    }
}

// === daemon sets ===

/// Checks a new daemon set.
pub(crate) fn daemon_set(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    daemon_set_spec(tree::get(object, "spec"), errors);
}

fn daemon_set_spec(spec: &Value, errors: &mut Errors) {
    let wanted = tree::get(spec, "selector");
    let template = tree::get(spec, "template");
    let path = SPEC.child("selector");
    selector::label_selector(wanted, &path, errors);
    if label_selector(wanted).is_ok_and(|parsed| !matches(&parsed, template)) {
        unmatched(template, errors);
    }
    if selector::is_empty(wanted) {
        let detail = "empty selector is invalid for daemonset";
        errors.push(Error::invalid(&path, wanted.clone(), detail));
    }
    pod::template(template, &TEMPLATE, errors);
    endless(template, "DaemonSet", errors);
    not_negative(spec, "minReadySeconds", &SPEC, errors);
    let strategy = tree::get(spec, "updateStrategy");
    let path = SPEC.child("updateStrategy");
    match tree::text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = tree::get(strategy, "rollingUpdate");
            if rolling.is_null() {
                errors.push(Error::required(&path.child("rollingUpdate"), ""));
            } else {
                daemon_set_rolling(rolling, &path.child("rollingUpdate"), errors);
            }
        }
        _ => {
            let known = ["RollingUpdate", "OnDelete"];
            errors.push(Error::not_supported(&path, strategy.clone(), &known));
        }
    }
    not_negative(spec, "revisionHistoryLimit", &SPEC, errors);
}

fn daemon_set_rolling(rolling: &Value, path: &Path<'_>, errors: &mut Errors) {
    let parts = ["maxUnavailable", "maxSurge"];
    for name in parts {
        count_or_percent(tree::get(rolling, name), &path.child(name), errors);
    }
    for name in parts {
        not_over_100_percent(tree::get(rolling, name), &path.child(name), errors);
    }
    let [unavailable, surge] = parts.map(|name| number(tree::get(rolling, name)) != 0);
    if unavailable && surge {
        let detail = "may not be set when maxUnavailable is non-zero";
        let value = tree::get(rolling, "maxSurge").clone();
        errors.push(Error::invalid(&path.child("maxSurge"), value, detail));
    } else if !unavailable && !surge {
        let detail = "cannot be 0 when maxSurge is 0";
        errors.push(Error::required(&path.child("maxUnavailable"), detail));
    }
}

/// Checks a changed daemon set. Upstream checks the whole of it twice.
pub(crate) fn daemon_set_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    daemon_set(new, errors);
    meta::update(new, old, errors);
    daemon_set_spec(after, errors);
    immutable(after, before, "selector", &SPEC, errors);
}

/// Checks a write to a daemon set's status.
pub(crate) fn daemon_set_status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let (after, before) = (tree::get(new, "status"), tree::get(old, "status"));
    for name in [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ] {
        not_negative(after, name, &STATUS, errors);
    }
    not_decremented(after, before, "collisionCount", errors);
}

// === stateful sets ===

/// Checks a new stateful set.
pub(crate) fn stateful_set(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_label, errors);
    stateful_set_spec(tree::get(object, "spec"), None, errors);
}

fn stateful_set_spec(spec: &Value, old: Option<&Value>, errors: &mut Errors) {
    let name = "podManagementPolicy";
    if required(spec, name, &SPEC, errors) {
        let policy = tree::text(spec, name);
        if !matches!(policy, "OrderedReady" | "Parallel") {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            errors.push(Error::invalid(&SPEC.child(name), policy, detail));
        }
    }
    stateful_set_strategy(tree::get(spec, "updateStrategy"), errors);
    let name = "persistentVolumeClaimRetentionPolicy";
    let path = SPEC.child(name);
    let retention = tree::get(spec, name);
    if !retention.is_null() {
        for name in ["whenDeleted", "whenScaled"] {
            let policy = tree::text(retention, name);
            let known = ["Retain", "Delete"];
            if !known.contains(&policy) {
                errors.push(Error::not_supported(&path.child(name), policy, &known));
            }
        }
    }
    for name in ["replicas", "minReadySeconds"] {
        not_negative(spec, name, &SPEC, errors);
    }
    let start = tree::int(tree::get(spec, "ordinals"), "start");
    if start < 0 {
        let path = SPEC.child("ordinals.start");
        errors.push(Error::invalid(&path, start, super::NOT_NEGATIVE));
    }
    let service = tree::text(spec, "serviceName");
    if !service.is_empty() && old.is_none_or(|old| tree::text(old, "serviceName") != service) {
        label(service, &SPEC.child("serviceName"), errors);
    }
    stateful_set_template(spec, old, errors);
}

fn stateful_set_strategy(strategy: &Value, errors: &mut Errors) {
    let path = SPEC.child("updateStrategy");
    let rolling = tree::get(strategy, "rollingUpdate");
    let rolling_path = path.child("rollingUpdate");
    match tree::text(strategy, "type") {
        "" => errors.push(Error::required(&path, "")),
        "OnDelete" => {
            if !rolling.is_null() {
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                errors.push(Error::invalid(&rolling_path, rolling.clone(), detail));
            }
        }
        "RollingUpdate" => {
            not_negative(rolling, "partition", &rolling_path, errors);
            let most = tree::get(rolling, "maxUnavailable");
            if !most.is_null() {
                let path = rolling_path.child("maxUnavailable");
                count_or_percent(most, &path, errors);
                if number(most) == 0 {
                    errors.push(Error::invalid(&path, most.clone(), "cannot be 0"));
                }
                not_over_100_percent(most, &path, errors);
            }
        }
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(Error::invalid(&path, strategy.clone(), detail));
        }
    }
}

fn stateful_set_template(spec: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = SPEC.child("selector");
    let wanted = selector::required(spec, &path, errors);
    if selector::is_empty(wanted) {
        let detail = "empty selector is invalid for statefulset";
        errors.push(Error::invalid(&path, wanted.clone(), detail));
    }
    let template = tree::get(spec, "template");
    match label_selector(wanted) {
        Err(_) => errors.push(Error::invalid(&path, wanted.clone(), "")),
        Ok(parsed) => {
            if !parsed.requirements().is_empty() && !matches(&parsed, template) {
                unmatched(template, errors);
            }
        }
    }
    // Templates of old are not looked at again as long as nobody touches them.
    if old.is_none_or(|old| !tree::same(template, tree::get(old, "template"))) {
        pod::template(&with_claims(spec), &TEMPLATE, errors);
    }
    endless(template, "StatefulSet", errors);
}

/// The template as its pods see it: each claim is a volume, in place of one with the same name.
fn with_claims(spec: &Value) -> Value {
    let mut template = tree::get(spec, "template").clone();
    let names: Vec<&str> = tree::list(spec, "volumeClaimTemplates")
        .iter()
        .map(|claim| tree::text(tree::get(claim, "metadata"), "name"))
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() {
        return template;
    }
    if let Some(spec) = tree::child_mut(&mut template, "spec") {
        let others = tree::list(spec, "volumes").iter().cloned();
        let mut volumes: Vec<Value> =
            others.filter(|volume| !names.contains(&tree::text(volume, "name"))).collect();
        volumes.extend(
            names
                .iter()
                .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})),
        );
        tree::set(spec, "volumes", volumes);
    }
    template
}

/// Checks a changed stateful set: most of it stays.
pub(crate) fn stateful_set_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    stateful_set_spec(after, Some(before), errors);
    let mut rest = after.clone();
    for name in [
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "ordinals",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
    ] {
        tree::copy(before, &mut rest, name);
    }
    if !tree::same(&rest, before) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', \
                      'template', 'updateStrategy', 'revisionHistoryLimit', \
                      'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.push(Error::forbidden(&SPEC, detail));
    }
}

/// Checks a write to a stateful set's status.
pub(crate) fn stateful_set_status(new: &Value, old: &Value, errors: &mut Errors) {
    let (after, before) = (tree::get(new, "status"), tree::get(old, "status"));
    let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    for name in ["replicas"].iter().chain(&parts).chain(&["observedGeneration", "collisionCount"]) {
        not_negative(after, name, &STATUS, errors);
    }
    no_more_than_all(after, parts, errors);
    let available = tree::int(after, "availableReplicas");
    if available > tree::int(after, "readyReplicas") {
        let detail = "cannot be greater than status.readyReplicas";
        errors.push(Error::invalid(&STATUS.child("availableReplicas"), available, detail));
    }
    meta::update(new, old, errors);
    not_decremented(after, before, "collisionCount", errors);
}

// === revisions ===

/// Checks a new revision.
pub(crate) fn revision(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    if !tree::has(object, "data") {
        errors.push(Error::required(&Path::new("data"), "data is mandatory"));
    }
    not_negative(object, "revision", &Path::new(""), errors);
}

/// Checks a changed revision: what it records stays.
pub(crate) fn revision_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    revision(new, errors);
    immutable(new, old, "data", &Path::new(""), errors);
}
