//! Events of the core group (lenient, as old clients need it) and of `events.k8s.io` (strict).

use serde_json::Value;

use super::meta::{self, Scope};
use super::{Errors, IMMUTABLE, invalid_each, names, qualified};
use crate::field::{Error, Path};
use crate::tree;

const TEXT_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

fn namespace(event: &Value) -> &str {
    tree::text(tree::get(event, "metadata"), "namespace")
}

/// Checks a new event of the core group.
pub(crate) fn core(event: &Value, errors: &mut Errors) {
    let names =
        Names { object: "involvedObject", controller: "reportingComponent", message: "message" };
    lenient(event, &names, errors);
}

/// Checks a changed event of the core group.
pub(crate) fn core_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    core(new, errors);
}

/// What the two groups call the same fields.
struct Names {
    object: &'static str,
    controller: &'static str,
    message: &'static str,
}

fn lenient(event: &Value, names: &Names, errors: &mut Errors) {
    let (own, about) = (namespace(event), tree::text(tree::get(event, names.object), "namespace"));
    let path = Path::new(names.object);
    let new_style = tree::has(event, "eventTime");
    let fits = match (new_style, about.is_empty()) {
        (false, true) => matches!(own, "" | "default"),
        (false, false) => own == about,
        (true, true) => matches!(own, "default" | "kube-system"),
        (true, false) => true,
    };
    if !fits {
        let detail = "does not match event.namespace";
        errors.push(Error::invalid(&path.child("namespace"), about, detail));
    }
    if new_style {
        let controller = tree::text(event, names.controller);
        let path = Path::new(names.controller);
        if controller.is_empty() {
            errors.push(Error::required(&path, ""));
        }
        qualified(controller, &path, errors);
        for name in ["reportingInstance", "action", "reason"] {
            let text = tree::text(event, name);
            if text.is_empty() {
                errors.push(Error::required(&Path::new(name), ""));
            }
            at_most(text, TEXT_MAX, name, errors);
        }
        at_most(tree::text(event, names.message), NOTE_MAX, names.message, errors);
    }
    let problems = names::dns1123_subdomain(own);
    invalid_each(&Path::new("namespace"), own, problems, errors);
}

fn at_most(text: &str, max: usize, name: &str, errors: &mut Errors) {
    if text.len() > max {
        let detail = format!("can have at most {max} characters");
        errors.push(Error::invalid(&Path::new(name), "", detail));
    }
}

/// Checks a new event of `events.k8s.io`.
pub(crate) fn strict(event: &Value, errors: &mut Errors) {
    meta::object(event, Scope::Namespaced, names::dns1123_subdomain, errors);
    common(event, errors);
    for (name, shown) in [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ] {
        let value = tree::get(event, name);
        if !tree::is_empty(value) && value != 0 {
            let detail = "needs to be unset";
            errors.push(Error::invalid(&Path::new(shown), value.clone(), detail));
        }
    }
}

fn common(event: &Value, errors: &mut Errors) {
    if !tree::has(event, "eventTime") {
        errors.push(Error::required(&Path::new("eventTime"), ""));
    }
    let kind = tree::text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        let detail = format!("has invalid value: {kind}");
        errors.push(Error::invalid(&Path::new("type"), "", detail));
    }
    let names = Names { object: "regarding", controller: "reportingController", message: "note" };
    lenient(event, &names, errors);
    let series = tree::get(event, "series");
    if !series.is_null() {
        let path = Path::new("series");
        if tree::int(series, "count") < 2 {
            let detail = "should be at least 2";
            errors.push(Error::invalid(&path.child("count"), "", detail));
        }
        if !tree::has(series, "lastObservedTime") {
            errors.push(Error::required(&path.child("lastObservedTime"), ""));
        }
    }
}

/// Checks a changed event of `events.k8s.io`: only its series goes on.
pub(crate) fn strict_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    common(new, errors);
    for name in [
        "regarding",
        "reason",
        "note",
        "related",
        "action",
        "reportingController",
        "reportingInstance",
        "eventTime",
        "type",
    ] {
        let (after, before) = (tree::get(new, name), tree::get(old, name));
        if !tree::same(after, before) {
            errors.push(Error::invalid(&Path::new(name), after.clone(), IMMUTABLE));
        }
    }
}
