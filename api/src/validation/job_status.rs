//! The status of jobs: others than our controller may write it, so transitions are checked, too.
//!
//! Most rules apply only where a write changes what they are about, so that a status that breaks one by a change of
//! the spec can still be written.

use serde_json::Value;

use super::job_policy::{indexes, interval};
use super::{Errors, job, meta, not_negative};
use crate::field::{Error, Path};
use crate::tree;

const STATUS: Path<'static> = Path::new("status");

/// Whether a condition is true.
pub(super) fn is_true(status: &Value, kind: &str) -> bool {
    tree::list(status, "conditions")
        .iter()
        .any(|one| tree::text(one, "type") == kind && tree::text(one, "status") == "True")
}

fn is_finished(status: &Value) -> bool {
    is_true(status, "Complete") || is_true(status, "Failed")
}

/// A write to a status: what it was, what it shall be, and what it is about.
struct Write<'a> {
    spec: &'a Value,
    new: &'a Value,
    old: &'a Value,
}

impl Write<'_> {
    fn changes(&self, name: &str) -> bool {
        !tree::same(tree::get(self.new, name), tree::get(self.old, name))
    }

    fn flips(&self, condition: &str) -> bool {
        is_true(self.new, condition) != is_true(self.old, condition)
    }
}

fn conditions(detail: impl Into<String>, errors: &mut Errors) {
    errors.push(Error::invalid_whole(&STATUS.child("conditions"), detail));
}

/// Checks a write to a job's status.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let write = Write {
        spec: tree::get(new, "spec"),
        new: tree::get(new, "status"),
        old: tree::get(old, "status"),
    };
    counts(write.new, errors);
    ends(&write, errors);
    finished(&write, errors);
    index_texts(&write, errors);
    let status = write.new;
    let ends = is_finished(status) && !is_finished(write.old);
    let left = tree::int(status, "terminating") > 0 && is_finished(status);
    if (ends || write.changes("terminating")) && left {
        let detail = "terminating>0 is invalid for finished job";
        let number = tree::int(status, "terminating");
        errors.push(Error::invalid(&STATUS.child("terminating"), number, detail));
    }
    let counted = write.changes("ready") || write.changes("active");
    if counted && tree::int(status, "ready") > tree::int(status, "active") {
        let detail = "cannot set more ready pods than active";
        errors.push(Error::invalid(&STATUS.child("ready"), tree::int(status, "ready"), detail));
    }
    criteria(&write, errors);
    transitions(&write, errors);
}

fn counts(status: &Value, errors: &mut Errors) {
    for name in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(status, name, &STATUS, errors);
    }
    let uncounted = tree::get(status, "uncountedTerminatedPods");
    let path = STATUS.child("uncountedTerminatedPods");
    let mut seen = Vec::new();
    for list in ["succeeded", "failed"] {
        let path = path.child(list);
        for (i, uid) in tree::texts(uncounted, list).enumerate() {
            if uid.is_empty() {
                errors.push(Error::invalid(&path.index(i), "", "must not be empty"));
            } else if seen.contains(&uid) {
                errors.push(Error::duplicate(&path.index(i), uid));
            } else {
                seen.push(uid);
            }
        }
    }
}

/// Conditions that exclude each other, and the time of completion.
fn ends(write: &Write<'_>, errors: &mut Errors) {
    let status = write.new;
    let complete = is_true(status, "Complete");
    let flips = write.flips("Complete");
    if (flips || write.flips("Failed")) && complete && is_true(status, "Failed") {
        conditions("cannot set Complete=True and Failed=true conditions", errors);
    }
    if (flips || write.flips("FailureTarget")) && complete && is_true(status, "FailureTarget") {
        conditions("cannot set Complete=True and FailureTarget=true conditions", errors);
    }
    let path = STATUS.child("completionTime");
    let completion = tree::get(status, "completionTime");
    if flips || write.changes("completionTime") {
        if !completion.is_null() && !complete {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.push(Error::invalid(&path, completion.clone(), detail));
        }
        if completion.is_null() && complete {
            errors.push(Error::required(&path, "completionTime is required for Complete jobs"));
        }
    }
    let start = tree::text(status, "startTime");
    // Times are in their canonical form: text order is time order.
    if (write.changes("startTime") || write.changes("completionTime"))
        && completion.as_str().is_some_and(|completion| completion < start)
    {
        let detail = "must be equal to or after `startTime`";
        errors.push(Error::invalid(&path, completion.clone(), detail));
    }
    if write.flips("Failed") && is_true(status, "Failed") && !is_true(status, "FailureTarget") {
        let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
        conditions(detail, errors);
    }
    if flips && complete && !is_true(status, "SuccessCriteriaMet") {
        let detail =
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        conditions(detail, errors);
    }
}

/// What a finished job has none of any more.
fn finished(write: &Write<'_>, errors: &mut Errors) {
    let status = write.new;
    if !is_finished(status) {
        return;
    }
    let flips = !is_finished(write.old);
    let active = tree::int(status, "active");
    if (flips || write.changes("active")) && active > 0 {
        let detail = "active>0 is invalid for finished job";
        errors.push(Error::invalid(&STATUS.child("active"), active, detail));
    }
    if (flips || write.changes("startTime")) && !tree::has(status, "startTime") {
        let detail = "startTime is required for finished job";
        errors.push(Error::required(&STATUS.child("startTime"), detail));
    }
    let name = "uncountedTerminatedPods";
    let uncounted = tree::get(status, name);
    let some = ["failed", "succeeded"].iter().any(|list| !tree::list(uncounted, list).is_empty());
    if (flips || write.changes(name)) && some {
        let detail = "must be empty for finished job";
        errors.push(Error::invalid(&STATUS.child(name), uncounted.clone(), detail));
    }
}

fn index_texts(write: &Write<'_>, errors: &mut Errors) {
    let (spec, status) = (write.spec, write.new);
    let completed = tree::text(status, "completedIndexes");
    let failed = tree::text_opt(status, "failedIndexes");
    let path_of_completed = STATUS.child("completedIndexes");
    let path_of_failed = STATUS.child("failedIndexes");
    let new_completed = write.changes("completedIndexes");
    let new_failed = tree::get(status, "failedIndexes") != tree::get(write.old, "failedIndexes");
    let completions = tree::int_opt(spec, "completions");
    let per_index = tree::has(spec, "backoffLimitPerIndex");
    if let Some(completions) = completions {
        if new_completed && let Err(error) = indexes(completed, completions) {
            let detail = format!("error parsing completedIndexes: {error}");
            errors.push(Error::invalid(&path_of_completed, completed, detail));
        }
        if new_failed
            && per_index
            && let Some(failed) = failed
            && let Err(error) = indexes(failed, completions)
        {
            let detail = format!("error parsing failedIndexes: {error}");
            errors.push(Error::invalid(&path_of_failed, failed, detail));
        }
    }
    if new_completed && !completed.is_empty() && !job::is_indexed(spec) {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(Error::invalid(&path_of_completed, completed, detail));
    }
    let Some(failed) = failed else { return };
    if new_failed && !per_index {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(Error::invalid(&path_of_failed, failed, detail));
    }
    if (new_failed || new_completed)
        && let Some(completions) = completions
        && let Some(at) = overlap(completed, failed, completions)
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {at}");
        errors.push(Error::invalid(&path_of_failed, failed, detail));
    }
}

/// The first index in both; parts that are malformed are told of elsewhere.
fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let ranges = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let failed = ranges(failed);
    let both = |one: &(i64, i64)| {
        let met = failed.iter().find(|other| one.0 <= other.1 && other.0 <= one.1);
        met.map(|other| one.0.max(other.0))
    };
    ranges(completed).iter().find_map(both)
}

fn criteria(write: &Write<'_>, errors: &mut Errors) {
    let status = write.new;
    let met = is_true(status, "SuccessCriteriaMet");
    if met && is_true(status, "Failed") {
        conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions", errors);
    }
    if met && is_true(status, "FailureTarget") {
        conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions", errors);
    }
    if tree::has(write.spec, "successPolicy") && !met && is_true(status, "Complete") {
        let detail =
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        conditions(detail, errors);
    }
}

fn transitions(write: &Write<'_>, errors: &mut Errors) {
    let (new, old) = (write.new, write.old);
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is_true(old, kind) && !is_true(new, kind) {
            conditions(format!("cannot disable the terminal {kind}=True condition"), errors);
        }
    }
    let elastic = job::is_indexed(write.spec)
        && tree::int_opt(write.spec, "completions") == tree::int_opt(write.spec, "parallelism");
    for (name, may_fall) in [("failed", false), ("succeeded", elastic)] {
        let number = tree::int(new, name);
        if !may_fall && number < tree::int(old, name) {
            let detail = format!("cannot decrease the {name} counter");
            errors.push(Error::invalid(&STATUS.child(name), number, detail));
        }
    }
    let name = "completionTime";
    if tree::has(new, name) && tree::has(old, name) && write.changes(name) {
        let value = tree::get(new, name).clone();
        errors.push(Error::invalid(&STATUS.child(name), value, super::IMMUTABLE));
    }
    let name = "startTime";
    if tree::has(old, name) && write.changes(name) && !tree::flag(write.spec, "suspend") {
        let detail = "startTime cannot be removed for unsuspended job";
        errors.push(Error::required(&STATUS.child(name), detail));
    }
    if is_true(old, "SuccessCriteriaMet") && !is_true(new, "SuccessCriteriaMet") {
        conditions("cannot disable the SuccessCriteriaMet=True condition", errors);
    }
    if is_true(old, "Complete")
        && !is_true(old, "SuccessCriteriaMet")
        && is_true(new, "SuccessCriteriaMet")
    {
        let detail =
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        conditions(detail, errors);
    }
}
