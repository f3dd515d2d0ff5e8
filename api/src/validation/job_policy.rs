//! Jobs: when pods that fail fail their job, when a job has succeeded, and when pods are replaced.

use serde_json::Value;

use super::{Errors, job, not_negative, qualified};
use crate::field::{Error, Path};
use crate::tree;

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const CONDITIONS_MAX: usize = 20;
const SUCCEEDED_INDEXES_BYTES_MAX: usize = 64 * 1024;

/// Go's `%q` of a list.
fn valid_values(known: &[&str]) -> String {
    let known: Vec<String> = known.iter().map(|one| crate::text::quote(one)).collect();
    format!("valid values: [{}]", known.join(" "))
}

/// The field has one of these values; says which when it is not set.
fn choice(value: &Value, name: &str, known: &[&str], path: &Path<'_>, errors: &mut Errors) {
    let path = path.child(name);
    match tree::text(value, name) {
        "" => errors.push(Error::required(&path, valid_values(known))),
        text if known.contains(&text) => {}
        text => errors.push(Error::not_supported(&path, text, known)),
    }
}

pub(super) fn failure(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let policy = tree::get(spec, "podFailurePolicy");
    let rules = tree::list(policy, "rules");
    let path = path.child("rules");
    if rules.len() > RULES_MAX {
        errors.push(Error::too_many(&path, rules.len(), RULES_MAX));
    }
    for (i, rule) in rules.iter().enumerate() {
        failure_rule(spec, rule, &path.index(i), errors);
    }
}

fn failure_rule(spec: &Value, rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let known = ["Count", "FailIndex", "FailJob", "Ignore"];
    choice(rule, "action", &known, path, errors);
    let action = tree::text(rule, "action");
    if action == "FailIndex" && !tree::has(spec, "backoffLimitPerIndex") {
        let detail = "requires the backoffLimitPerIndex to be set";
        errors.push(Error::invalid(&path.child("action"), action, detail));
    }
    let codes = tree::get(rule, "onExitCodes");
    if !codes.is_null() {
        exit_codes(spec, codes, &path.child("onExitCodes"), errors);
    }
    let conditions = tree::list(rule, "onPodConditions");
    pod_conditions(conditions, &path.child("onPodConditions"), errors);
    let detail = match (codes.is_null(), conditions.is_empty()) {
        (false, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (true, true) => "specifying one of OnExitCodes and OnPodConditions is required",
        (true, false) | (false, true) => return,
    };
    errors.push(Error::invalid_whole(path, detail));
}

fn pod_conditions(patterns: &[Value], path: &Path<'_>, errors: &mut Errors) {
    if patterns.len() > CONDITIONS_MAX {
        errors.push(Error::too_many(path, patterns.len(), CONDITIONS_MAX));
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let path = path.index(i);
        qualified(tree::text(pattern, "type"), &path.child("type"), errors);
        choice(pattern, "status", &["False", "True", "Unknown"], &path, errors);
    }
}

fn exit_codes(spec: &Value, codes: &Value, path: &Path<'_>, errors: &mut Errors) {
    choice(codes, "operator", &["In", "NotIn"], path, errors);
    if let Some(name) = tree::text_opt(codes, "containerName") {
        let pod = tree::at(spec, &["template", "spec"]);
        let mut containers =
            ["containers", "initContainers"].iter().flat_map(|list| tree::list(pod, list));
        if !containers.any(|container| tree::text(container, "name") == name) {
            let detail = "must be one of the container or initContainer names in the pod template";
            errors.push(Error::invalid(&path.child("containerName"), name, detail));
        }
    }
    let values = tree::list(codes, "values");
    let path = path.child("values");
    if values.is_empty() {
        let shown = tree::get(codes, "values").clone();
        errors.push(Error::invalid(&path, shown, "at least one value is required"));
    } else if values.len() > EXIT_CODES_MAX {
        errors.push(Error::too_many(&path, values.len(), EXIT_CODES_MAX));
    }
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    for (i, value) in values.iter().enumerate() {
        let path = path.index(i);
        if tree::text(codes, "operator") == "In" && number(value) == 0 {
            errors.push(Error::invalid(&path, 0, "must not be 0 for the In operator"));
        }
        if values[..i].contains(value) {
            errors.push(Error::duplicate(&path, value.clone()));
        }
    }
    if values.windows(2).any(|two| number(&two[0]) > number(&two[1])) {
        errors.push(Error::invalid(&path, values.to_vec(), "must be ordered"));
    }
}

pub(super) fn success(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let policy = tree::get(spec, "successPolicy");
    if policy.is_null() {
        return;
    }
    if !job::is_indexed(spec) {
        let detail = "requires indexed completion mode";
        errors.push(Error::invalid(path, policy.clone(), detail));
        return;
    }
    let rules = tree::list(policy, "rules");
    let path = path.child("rules");
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Error::required(&path, detail));
    }
    if rules.len() > RULES_MAX {
        errors.push(Error::too_many(&path, rules.len(), RULES_MAX));
    }
    for (i, rule) in rules.iter().enumerate() {
        success_rule(rule, tree::int(spec, "completions"), &path.index(i), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &Path<'_>, errors: &mut Errors) {
    let wanted = tree::int_opt(rule, "succeededCount");
    let listed = tree::text_opt(rule, "succeededIndexes");
    if wanted.is_none() && listed.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(Error::required(path, detail));
    }
    let mut total = 0;
    if let Some(text) = listed {
        let path = path.child("succeededIndexes");
        if text.len() > SUCCEEDED_INDEXES_BYTES_MAX {
            errors.push(Error::too_long(&path, SUCCEEDED_INDEXES_BYTES_MAX));
        }
        match indexes(text, completions) {
            Ok(ranges) => total = ranges.iter().map(|(from, to)| to - from + 1).sum(),
            Err(error) => {
                let detail = format!("error parsing succeededIndexes: {error}");
                errors.push(Error::invalid(&path, text, detail));
            }
        }
    }
    let Some(wanted) = wanted else { return };
    not_negative(rule, "succeededCount", path, errors);
    let path = path.child("succeededCount");
    if wanted > completions {
        let detail = format!(
            "must be less than or equal to {completions} (the number of specified completions)"
        );
        errors.push(Error::invalid(&path, wanted, detail));
    }
    if listed.is_some() && wanted > total {
        let detail = format!(
            "must be less than or equal to {total} (the number of indexes in the specified \
             succeededIndexes field)"
        );
        errors.push(Error::invalid(&path, wanted, detail));
    }
}

pub(super) fn replacement(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(policy) = tree::text_opt(spec, "podReplacementPolicy") else { return };
    let known: &[&str] = if tree::has(spec, "podFailurePolicy") {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    if !known.contains(&policy) {
        errors.push(Error::not_supported(path, policy, known));
    }
}

/// The ranges of a text like `1,3-5,7`.
pub(super) fn indexes(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    if text.is_empty() {
        return Ok(ranges);
    }
    for part in text.split(',') {
        let (from, to) = interval(part, completions)?;
        if let Some((_, last)) = ranges.last().filter(|(_, last)| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        ranges.push((from, to));
    }
    Ok(ranges)
}

/// One part of such a text.
pub(super) fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let parts: Vec<&str> = text.split('-').collect();
    let number = |text: &str| {
        let shown = crate::text::quote(text);
        let number: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {shown}"))?;
        if number >= completions {
            return Err(format!("too large index: {shown}"));
        }
        Ok(number)
    };
    match parts.as_slice() {
        [one] => number(one).map(|one| (one, one)),
        [from, to] => {
            let (from, to) = (number(from)?, number(to)?);
            if from >= to {
                return Err(format!("non-increasing order, previous: {from}, current: {to}"));
            }
            Ok((from, to))
        }
        _ => Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two \
             parts separated by '-'",
            crate::text::quote(text)
        )),
    }
}
