//! Jobs: their selectors and labels are generated from name and uid.

use serde_json::{Value, json};

use super::kinds::{first_generation, keep_status, raise_if_changed};
use crate::defaults::batch::labels_of_template;
use crate::tree;

/// The label with the name of a pod's job; the second is its old spelling.
pub(crate) const JOB_NAME: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
/// The label with the uid of a pod's job; the second is its old spelling.
pub(crate) const CONTROLLER_UID: [&str; 2] =
    ["batch.kubernetes.io/controller-uid", "controller-uid"];

/// A job starts at generation 1 without a status, with a selector that is its own.
pub(crate) fn create_job(object: &mut Value) {
    if !tree::flag(tree::get(object, "spec"), "manualSelector") {
        generate_selector(object);
    }
    labels_of_template(object);
    start_empty(object);
}

/// A cron job starts at generation 1 without a status.
pub(crate) fn start_empty(object: &mut Value) {
    tree::set(object, "status", json!({}));
    first_generation(object);
}

/// Labels and selectors that are there already stay: validation refuses wrong ones.
fn generate_selector(object: &mut Value) {
    let metadata = tree::get(object, "metadata");
    let name = tree::text(metadata, "name").to_owned();
    let uid = tree::text(metadata, "uid").to_owned();
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    if let Some(template) = tree::child_mut(spec, "template")
        && let Some(metadata) = tree::child_mut(template, "metadata")
        && let Some(labels) = tree::child_mut(metadata, "labels")
    {
        for label in JOB_NAME {
            tree::default(labels, label, name.as_str());
        }
        for label in CONTROLLER_UID {
            tree::default(labels, label, uid.as_str());
        }
    }
    if let Some(selector) = tree::child_mut(spec, "selector")
        && let Some(labels) = tree::child_mut(selector, "matchLabels")
    {
        tree::default(labels, CONTROLLER_UID[0], uid);
    }
}

/// The generation of jobs and cron jobs follows their spec.
pub(crate) fn update(new: &mut Value, old: &Value) {
    keep_status(new, old);
    raise_if_changed(new, old, "spec");
}
