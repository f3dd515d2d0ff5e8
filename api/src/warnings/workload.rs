//! Workloads other than deployments and replica sets: their pod templates, and what is their own.

use serde_json::Value;

use super::pod::{rises, template};
use super::{Warnings, host_name};
use crate::field::Path;
use crate::quantity::Quantity;
use crate::tree;

/// A new daemon set, or one whose generation rises.
pub(crate) fn daemon_set(object: &Value, old: Option<&Value>, warnings: &mut Warnings) {
    if rises(object, old) {
        let pod = tree::at(object, &["spec", "template"]);
        template(pod, Path::new("spec.template"), warnings);
    }
}

/// A new pod template, or one whose generation rises.
pub(crate) fn pod_template(object: &Value, old: Option<&Value>, warnings: &mut Warnings) {
    if rises(object, old) {
        template(tree::get(object, "template"), Path::new("template"), warnings);
    }
}

/// A new stateful set, or one whose generation rises.
pub(crate) fn stateful_set(object: &Value, old: Option<&Value>, warnings: &mut Warnings) {
    if !rises(object, old) {
        return;
    }
    daemon_set(object, old, warnings);
    let spec = tree::get(object, "spec");
    let path = Path::new("spec.volumeClaimTemplates");
    for (i, claim) in tree::list(spec, "volumeClaimTemplates").iter().enumerate() {
        claim_spec(tree::get(claim, "spec"), &path.index(i), warnings);
    }
    if tree::int(spec, "revisionHistoryLimit") < 0 {
        warnings.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a \
             value >= 0 is recommended"
                .to_owned(),
        );
    }
}

/// A claim for a fraction of a byte.
pub(super) fn claim_spec(spec: &Value, path: &Path<'_>, warnings: &mut Warnings) {
    let requests = tree::at(spec, &["resources", "requests"]);
    let storage = tree::text(requests, "storage");
    if Quantity::parse(storage).is_ok_and(|quantity| !quantity.is_whole()) {
        warnings.push(format!(
            "{}: fractional byte value {} is invalid, must be an integer",
            path.child("spec.resources.requests").key("storage"),
            crate::text::quote(storage)
        ));
    }
}

/// A new job, or one whose generation rises.
pub(crate) fn job(object: &Value, old: Option<&Value>, warnings: &mut Warnings) {
    if old.is_none() {
        host_name(object, "Pod names and hostnames", warnings);
    }
    if rises(object, old) {
        job_spec(tree::get(object, "spec"), &Path::new("spec"), warnings);
    }
}

fn job_spec(spec: &Value, path: &Path<'_>, warnings: &mut Warnings) {
    if tree::text(spec, "completionMode") == "Indexed"
        && tree::int(spec, "completions") > 100_000
        && tree::int(spec, "parallelism") > 10_000
    {
        warnings.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a \
             parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes \
             when a big number of indexes fail"
        ));
    }
    template(tree::get(spec, "template"), path.child("template"), warnings);
}

/// A new cron job, or one whose generation rises.
pub(crate) fn cron_job(object: &Value, old: Option<&Value>, warnings: &mut Warnings) {
    if old.is_none() {
        host_name(object, "Pod names and hostnames", warnings);
    }
    let spec = tree::get(object, "spec");
    if rises(object, old) {
        let job = tree::at(spec, &["jobTemplate", "spec"]);
        job_spec(job, &Path::new("spec.jobTemplate.spec"), warnings);
    }
    if old.is_some() && tree::text(spec, "schedule").contains("TZ") {
        warnings.push(
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .to_owned(),
        );
    }
}
