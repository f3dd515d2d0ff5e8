//! Defaults of the kinds in `batch/v1`.

use serde_json::{Value, json};

use super::apps;
use crate::tree;

/// `SetDefaults_Job`.
pub(crate) fn job(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    if !tree::has(spec, "completions") && !tree::has(spec, "parallelism") {
        tree::set(spec, "completions", 1);
    }
    tree::default(spec, "parallelism", 1);
    let limit = if tree::has(spec, "backoffLimitPerIndex") { i32::MAX } else { 6 };
    tree::default(spec, "backoffLimit", limit);
    tree::default(spec, "completionMode", "NonIndexed");
    tree::default(spec, "suspend", false);
    tree::default(spec, "manualSelector", false);
    failure_policy(spec);
    let replace =
        if tree::has(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    tree::default(spec, "podReplacementPolicy", replace);
    apps::template(spec);
    // A new job whose selector is generated gets its labels when those of the template are.
    if tree::has(spec, "selector") {
        labels_of_template(object);
    }
}

/// A job without labels has those of its pods.
pub(crate) fn labels_of_template(object: &mut Value) {
    let labels = tree::at(object, &["spec", "template", "metadata", "labels"]);
    if tree::is_empty(labels) {
        return;
    }
    let labels = labels.clone();
    if let Some(metadata) = tree::child_mut(object, "metadata")
        && tree::is_empty(tree::get(metadata, "labels"))
    {
        tree::set(metadata, "labels", labels);
    }
}

fn failure_policy(spec: &mut Value) {
    if let Some(policy) = tree::existing_mut(spec, "podFailurePolicy") {
        for rule in tree::items_mut(policy, "rules") {
            for pattern in tree::items_mut(rule, "onPodConditions") {
                tree::default_text(pattern, "status", "True");
            }
        }
    }
}

/// `SetDefaults_CronJob`; the jobs themselves get their defaults when they are made.
pub(crate) fn cron_job(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    tree::default_text(spec, "concurrencyPolicy", "Allow");
    tree::default(spec, "suspend", false);
    tree::default(spec, "successfulJobsHistoryLimit", json!(3));
    tree::default(spec, "failedJobsHistoryLimit", json!(1));
    if let Some(template) = tree::child_mut(spec, "jobTemplate")
        && let Some(job) = tree::child_mut(template, "spec")
    {
        failure_policy(job);
        apps::template(job);
    }
}
