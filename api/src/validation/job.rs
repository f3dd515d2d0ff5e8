//! Jobs, and the jobs that cron jobs make.

use serde_json::Value;

use super::meta::{self, Scope};
use super::{Errors, immutable, invalid_each, job_policy, names, not_negative, pod, selector};
use crate::field::{Error, Path};
use crate::selector::object::label_selector;
use crate::strategy::batch::{CONTROLLER_UID, JOB_NAME};
use crate::tree;

/// Indexed jobs: pods at a time.
const INDEXED_PARALLELISM_MAX: i64 = 100_000;
/// Indexed jobs: indexes that may fail.
const FAILED_INDEXES_MAX: i64 = 100_000;
/// Completions above which the other numbers are limited more.
const COMPLETIONS_MANY: i64 = 100_000;
/// With that many completions: pods at a time, and indexes that may fail.
const WITH_MANY_MAX: i64 = 10_000;
const MANAGED_BY_MAX: usize = 63;

const SPEC: Path<'static> = Path::new("spec");

/// Checks a new job.
pub(crate) fn create(job: &Value, errors: &mut Errors) {
    whole(job, true, errors);
}

fn whole(job: &Value, prefixed: bool, errors: &mut Errors) {
    meta::object(job, Scope::Namespaced, names::dns1123_subdomain, errors);
    generated_selector(job, prefixed, errors);
    let spec = tree::get(job, "spec");
    spec_with_selector(spec, errors);
    let completions = tree::int(spec, "completions");
    if is_indexed(spec) && completions > 0 {
        let name = tree::text(tree::get(job, "metadata"), "name");
        let last = format!("{name}-{}", completions - 1);
        if !names::dns1123_label(&last).is_empty() {
            let metadata = Path::new("metadata");
            let detail = format!("will not able to create pod with invalid DNS label: {last}");
            errors.push(Error::invalid(&metadata.child("name"), name, detail));
        }
    }
}

pub(super) fn is_indexed(spec: &Value) -> bool {
    tree::text(spec, "completionMode") == "Indexed"
}

/// What is generated has to be there, and to be this job's. `prefixed`: the labels with a prefix, too; jobs of old
/// do without.
fn generated_selector(job: &Value, prefixed: bool, errors: &mut Errors) {
    let (metadata, spec) = (tree::get(job, "metadata"), tree::get(job, "spec"));
    let wanted = tree::get(spec, "selector");
    if tree::flag(spec, "manualSelector") || wanted.is_null() {
        return;
    }
    let (name, uid) = (tree::text(metadata, "name"), tree::text(metadata, "uid"));
    if uid.is_empty() {
        let path = Path::new("metadata");
        errors.push(Error::required(&path.child("uid"), ""));
    }
    let [uid_label, old_uid_label] = CONTROLLER_UID;
    let [name_label, old_name_label] = JOB_NAME;
    let mut expected = vec![(old_uid_label, uid), (old_name_label, name)];
    if prefixed {
        expected.extend([(uid_label, uid), (name_label, name)]);
    }
    let labels = tree::at(spec, &["template", "metadata", "labels"]);
    let path = SPEC.child("template.metadata.labels");
    for (key, value) in &expected {
        let detail = format!("must be '{value}'");
        match tree::text_opt(labels, key) {
            None => errors.push(Error::required(&path.key(key), detail)),
            Some(is) if is != *value => {
                errors.push(Error::invalid(&path.key(key), labels.clone(), detail));
            }
            Some(_) => {}
        }
    }
    let expected: serde_json::Map<String, Value> =
        expected.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    if label_selector(wanted).is_ok_and(|selector| !selector.matches(&expected)) {
        let detail = "`selector` not auto-generated";
        errors.push(Error::invalid(&SPEC.child("selector"), wanted.clone(), detail));
    }
}

fn spec_with_selector(spec: &Value, errors: &mut Errors) {
    job_spec(spec, &SPEC, errors);
    let wanted = selector::required(spec, &SPEC.child("selector"), errors);
    let labels = tree::at(spec, &["template", "metadata", "labels"]);
    if let Ok(parsed) = label_selector(wanted)
        && !labels.as_object().map_or_else(|| parsed.matches_none(), |l| parsed.matches(l))
    {
        let detail = "`selector` does not match template `labels`";
        let path = SPEC.child("template.metadata.labels");
        errors.push(Error::invalid(&path, labels.clone(), detail));
    }
}

/// What all jobs are checked for, those of cron jobs included.
pub(super) fn job_spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for name in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(spec, name, path, errors);
    }
    let per_index = tree::int_opt(spec, "backoffLimitPerIndex");
    if tree::has(spec, "maxFailedIndexes") && per_index.is_none() {
        let detail = "when maxFailedIndexes is specified";
        errors.push(Error::required(&path.child("backoffLimitPerIndex"), detail));
    }
    if let Some(manager) = tree::text_opt(spec, "managedBy") {
        managed_by(manager, &path.child("managedBy"), errors);
    }
    if let Some(mode) = tree::text_opt(spec, "completionMode") {
        let known = ["NonIndexed", "Indexed"];
        if !known.contains(&mode) {
            errors.push(Error::not_supported(&path.child("completionMode"), mode, &known));
        }
    }
    if is_indexed(spec) {
        indexed(spec, path, errors);
    } else if matches!(tree::text_opt(spec, "completionMode"), None | Some("NonIndexed")) {
        for name in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = tree::int_opt(spec, name) {
                let detail = "requires indexed completion mode";
                errors.push(Error::invalid(&path.child(name), number, detail));
            }
        }
    }
    job_policy::failure(spec, &path.child("podFailurePolicy"), errors);
    job_policy::success(spec, &path.child("successPolicy"), errors);
    job_policy::replacement(spec, &path.child("podReplacementPolicy"), errors);
    pod::template(tree::get(spec, "template"), &path.child("template"), errors);
    restart_policy(spec, path, errors);
}

fn restart_policy(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let policy = tree::text(tree::at(spec, &["template", "spec"]), "restartPolicy");
    let path = path.child("template.spec.restartPolicy");
    match policy {
        "" | "Always" => {
            errors.push(Error::required(&path, "valid values: \"OnFailure\", \"Never\""));
        }
        "Never" => {}
        "OnFailure" => {
            if tree::has(spec, "podFailurePolicy") {
                let detail = "only \"Never\" is supported when podFailurePolicy is specified";
                errors.push(Error::invalid(&path, policy, detail));
            }
        }
        other => errors.push(Error::not_supported(&path, other, &["OnFailure", "Never"])),
    }
}

fn managed_by(manager: &str, path: &Path<'_>, errors: &mut Errors) {
    domain_prefixed(manager, path, errors);
    if manager.len() > MANAGED_BY_MAX {
        errors.push(Error::too_long(path, MANAGED_BY_MAX));
    }
}

/// A path below a domain, `acme.io/foo`.
pub(super) fn domain_prefixed(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let parts = text.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty());
    let Some((host, rest)) = parts else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(Error::invalid(path, text, detail));
        return;
    };
    invalid_each(path, host, names::dns1123_subdomain(host), errors);
    if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
        let detail =
            r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
        errors.push(Error::invalid(path, rest, detail));
    }
}

fn indexed(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let completions = tree::int_opt(spec, "completions");
    let parallelism = tree::int_opt(spec, "parallelism");
    let failed = tree::int_opt(spec, "maxFailedIndexes");
    let (parallelism_path, failed_path) =
        (path.child("parallelism"), path.child("maxFailedIndexes"));
    if completions.is_none() {
        let detail = "when completion mode is Indexed";
        errors.push(Error::required(&path.child("completions"), detail));
    }
    let in_mode = " when completion mode is Indexed";
    at_most(&parallelism_path, parallelism, INDEXED_PARALLELISM_MAX, in_mode, errors);
    if let (Some(completions), Some(failed)) = (completions, failed)
        && failed > completions
    {
        let detail = "must be less than or equal to completions";
        errors.push(Error::invalid(&failed_path, failed, detail));
    }
    at_most(&failed_path, failed, FAILED_INDEXES_MAX, "", errors);
    let many = completions.is_some_and(|number| number > COMPLETIONS_MANY)
        && tree::has(spec, "backoffLimitPerIndex");
    if !many {
        return;
    }
    if failed.is_none() {
        let detail = "must be specified when completions is above 100000";
        errors.push(Error::required(&failed_path, detail));
    }
    let with_many = " when completions are above 100000 and used with backoff limit per index";
    at_most(&parallelism_path, parallelism, WITH_MANY_MAX, with_many, errors);
    at_most(&failed_path, failed, WITH_MANY_MAX, with_many, errors);
}

fn at_most(path: &Path<'_>, value: Option<i64>, most: i64, more: &str, errors: &mut Errors) {
    if let Some(value) = value.filter(|value| *value > most) {
        let detail = format!("must be less than or equal to {most}{more}");
        errors.push(Error::invalid(path, value, detail));
    }
}

/// Checks a changed job. Upstream checks the whole of it twice.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    let labels = tree::at(before, &["template", "metadata", "labels"]);
    let prefixed = [JOB_NAME[0], CONTROLLER_UID[0]].iter().all(|label| tree::has(labels, label));
    whole(new, prefixed, errors);
    meta::update(new, old, errors);
    spec_with_selector(after, errors);
    completions_update(after, before, errors);
    immutable(after, before, "selector", &SPEC, errors);
    template_update(after, before, is_at_rest(old), errors);
    for name in
        ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        immutable(after, before, name, &SPEC, errors);
    }
}

/// Suspended, and no pod of it runs.
fn is_at_rest(job: &Value) -> bool {
    let status = tree::get(job, "status");
    tree::flag(tree::get(job, "spec"), "suspend")
        && tree::int(status, "active") == 0
        && (!tree::has(status, "startTime") || super::job_status::is_true(status, "Suspended"))
}

fn completions_update(after: &Value, before: &Value, errors: &mut Errors) {
    let name = "completions";
    if !is_indexed(after) {
        immutable(after, before, name, &SPEC, errors);
        return;
    }
    let wanted = tree::int_opt(after, name);
    if let Some(number) = wanted
        && wanted != tree::int_opt(before, name)
        && number != tree::int(after, "parallelism")
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(Error::invalid(&SPEC.child(name), number, detail));
    }
}

/// The template stays; of a job at rest, where its pods run and what they get may change.
fn template_update(after: &Value, before: &Value, at_rest: bool, errors: &mut Errors) {
    let wanted = tree::get(after, "template");
    let mut was = tree::get(before, "template").clone();
    if at_rest {
        let spec = tree::get(wanted, "spec");
        if let Some(metadata) = tree::child_mut(&mut was, "metadata") {
            for name in ["annotations", "labels"] {
                tree::copy(tree::get(wanted, "metadata"), metadata, name);
            }
        }
        if let Some(was) = tree::child_mut(&mut was, "spec") {
            for name in ["nodeSelector", "tolerations", "schedulingGates"] {
                tree::copy(spec, was, name);
            }
            let affinity = tree::get(spec, "affinity");
            if let Some(was) = tree::child_mut(was, "affinity") {
                tree::copy(affinity, was, "nodeAffinity");
            }
            for list in ["containers", "initContainers"] {
                let wanted = tree::list(spec, list);
                if wanted.len() != tree::list(was, list).len() {
                    continue;
                }
                for (container, wanted) in tree::items_mut(was, list).zip(wanted) {
                    if tree::text(wanted, "name") == tree::text(container, "name") {
                        tree::copy(wanted, container, "resources");
                    }
                }
            }
        }
        // Upstream compares the spec alone then.
        if !tree::same(spec, tree::get(&was, "spec")) {
            let path = SPEC.child("template.spec");
            errors.push(Error::invalid(&path, spec.clone(), super::IMMUTABLE));
        }
        return;
    }
    if !tree::same(wanted, &was) {
        let path = SPEC.child("template");
        errors.push(Error::invalid(&path, wanted.clone(), super::IMMUTABLE));
    }
}
