//! Cron jobs: schedules, time zones and the jobs they make.

use serde_json::Value;

use super::meta::{self, Scope};
use super::{Errors, job, names, not_negative, one_of};
use crate::cron;
use crate::field::{Error, Path};
use crate::tree;

/// The names of its jobs are eleven characters longer, and labels have 63.
const NAME_MAX: usize = 63 - 11;
/// The most characters of a part of a time zone's name.
const ZONE_PART_MAX: usize = 14;

const SPEC: Path<'static> = Path::new("spec");

/// Checks a new cron job.
pub(crate) fn create(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    spec(tree::get(object, "spec"), None, errors);
    let name = tree::text(tree::get(object, "metadata"), "name");
    if name.len() > NAME_MAX {
        let path = Path::new("metadata");
        let detail = format!("must be no more than {NAME_MAX} bytes");
        errors.push(Error::invalid(&path.child("name"), name, detail));
    }
}

/// Checks a changed cron job.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    spec(tree::get(new, "spec"), Some(tree::get(old, "spec")), errors);
}

fn spec(spec: &Value, old: Option<&Value>, errors: &mut Errors) {
    let zone = tree::text_opt(spec, "timeZone");
    let path = SPEC.child("schedule");
    match tree::text(spec, "schedule") {
        "" => errors.push(Error::required(&path, "")),
        text => {
            let had_zone = old.is_some_and(|old| tree::text(old, "schedule").contains("TZ"));
            schedule(text, had_zone, zone.is_some(), &path, errors);
        }
    }
    not_negative(spec, "startingDeadlineSeconds", &SPEC, errors);
    if let Some(zone) = zone
        && old.is_none_or(|old| tree::text_opt(old, "timeZone") != Some(zone))
    {
        time_zone(zone, &SPEC.child("timeZone"), errors);
    }
    let known = ["Allow", "Forbid", "Replace"];
    one_of(spec, "concurrencyPolicy", &known, &SPEC, errors);
    job_template(tree::get(spec, "jobTemplate"), &SPEC.child("jobTemplate"), errors);
    for name in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(spec, name, &SPEC, errors);
    }
}

fn schedule(text: &str, had_zone: bool, has_field: bool, path: &Path<'_>, errors: &mut Errors) {
    if let Err(problem) = cron::check(text) {
        errors.push(Error::invalid(path, text, problem));
    }
    if !text.contains("TZ") {
        return;
    }
    let detail = match (had_zone, has_field) {
        (true, true) => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
        (false, _) => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        (true, false) => return,
    };
    errors.push(Error::invalid(path, text, detail));
}

fn time_zone(zone: &str, path: &Path<'_>, errors: &mut Errors) {
    if zone.is_empty() {
        let detail = "timeZone must be nil or non-empty string";
        errors.push(Error::invalid(path, zone, detail));
        return;
    }
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    let fine = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.starts_with('-')
            && part.len() <= ZONE_PART_MAX
            && part.bytes().all(valid)
    };
    if !zone.split('/').all(fine) {
        errors.push(Error::invalid(path, zone, format!("unknown time zone {zone}")));
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in \
                      https://www.iana.org/time-zones";
        errors.push(Error::invalid(path, zone, detail));
    }
    if let Err(problem) = cron::zone_known(zone) {
        errors.push(Error::invalid(path, zone, problem));
    }
}

fn job_template(template: &Value, path: &Path<'_>, errors: &mut Errors) {
    let spec = tree::get(template, "spec");
    let path = path.child("spec");
    job::job_spec(spec, &path, errors);
    let wanted = tree::get(spec, "selector");
    if !wanted.is_null() {
        let detail = "`selector` will be auto-generated";
        errors.push(Error::invalid(&path.child("selector"), wanted.clone(), detail));
    }
    if tree::flag(spec, "manualSelector") {
        let path = path.child("manualSelector");
        errors.push(Error::not_supported(&path, true, &["nil", "false"]));
    }
}
