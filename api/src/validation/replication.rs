//! Replication controllers and pod templates.

use serde_json::Value;

use super::meta::{self, Scope};
use super::{Errors, names, not_negative, pod};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const TEMPLATE: Path<'static> = Path::new("spec.template");

/// Checks a new replication controller.
pub(crate) fn controller(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    spec(tree::get(object, "spec"), errors);
}

fn spec(spec: &Value, errors: &mut Errors) {
    not_negative(spec, "minReadySeconds", &SPEC, errors);
    let selector = tree::get(spec, "selector");
    if tree::is_empty(selector) {
        errors.push(Error::required(&SPEC.child("selector"), ""));
    }
    not_negative(spec, "replicas", &SPEC, errors);
    let template = tree::get(spec, "template");
    if template.is_null() {
        errors.push(Error::required(&TEMPLATE, ""));
        return;
    }
    let labels = tree::at(template, &["metadata", "labels"]);
    if tree::entries(spec, "selector").any(|(key, value)| tree::get(labels, key) != value) {
        let detail = "`selector` does not match template `labels`";
        errors.push(Error::invalid(&TEMPLATE.child("metadata.labels"), labels.clone(), detail));
    }
    pod::template(template, &TEMPLATE, errors);
    let pod_spec = tree::get(template, "spec");
    let policy = tree::text(pod_spec, "restartPolicy");
    if policy != "Always" {
        let path = TEMPLATE.child("spec.restartPolicy");
        errors.push(Error::not_supported(&path, policy, &["Always"]));
    }
    if tree::has(pod_spec, "activeDeadlineSeconds") {
        let detail = "activeDeadlineSeconds in ReplicationController is not Supported";
        errors.push(Error::forbidden(&TEMPLATE.child("spec.activeDeadlineSeconds"), detail));
    }
}

/// Checks a changed replication controller. Upstream checks the whole of it twice.
pub(crate) fn controller_update(new: &Value, old: &Value, errors: &mut Errors) {
    controller(new, errors);
    meta::update(new, old, errors);
    spec(tree::get(new, "spec"), errors);
}

/// Checks a new pod template.
pub(crate) fn pod_template(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    pod::template(tree::get(object, "template"), &Path::new("template"), errors);
}

/// Checks a changed pod template.
pub(crate) fn pod_template_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    pod::template(tree::get(new, "template"), &Path::new("template"), errors);
}
