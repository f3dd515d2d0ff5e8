//! Configurations of admission webhooks, and the rules that they share with admission policies.

use serde_json::Value;

use super::meta::{self, Scope};
use super::{Errors, invalid_each, names, one_of_if_set, policy_expressions, selector};
use crate::field::{Error, Path};
use crate::policy::env::Names;
use crate::tree;

const TIMEOUT_SECONDS: std::ops::RangeInclusive<i64> = 1..=30;
const MATCH_CONDITIONS_MAX: usize = 64;
/// The least segments of a webhook's name.
const NAME_SEGMENTS_MIN: usize = 3;
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
pub(super) const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
pub(super) const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
pub(super) const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];
const NO_SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];

/// What an update may leave as it is although a new configuration must not be so.
#[derive(Clone, Copy, Default)]
struct Lenient {
    side_effects: bool,
    review_versions: bool,
    same_names: bool,
    match_conditions: bool,
}

/// Checks a new configuration, of either kind.
pub(crate) fn create(object: &Value, errors: &mut Errors) {
    whole(object, Lenient::default(), errors);
}

/// Checks a changed configuration.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let (after, before) = (tree::list(new, "webhooks"), tree::list(old, "webhooks"));
    let known = |hook: &Value| tree::texts(hook, "admissionReviewVersions").any(is_review_version);
    let quiet = |hook: &Value| NO_SIDE_EFFECTS.contains(&tree::text(hook, "sideEffects"));
    let mut seen = Vec::new();
    let unique = before.iter().all(|hook| {
        let name = tree::text(hook, "name");
        !seen.contains(&name) && {
            seen.push(name);
            true
        }
    });
    let conditions = |hook: &Value| tree::get(hook, "matchConditions").clone();
    let lenient = Lenient {
        side_effects: !before.iter().all(quiet),
        review_versions: !before
            .iter()
            .all(|hook| known(hook) || tree::list(hook, "admissionReviewVersions").is_empty()),
        same_names: !unique,
        match_conditions: after.len() == before.len()
            && after.iter().zip(before).all(|(a, b)| conditions(a) == conditions(b)),
    };
    whole(new, lenient, errors);
}

fn is_review_version(version: &str) -> bool {
    REVIEW_VERSIONS.contains(&version)
}

fn whole(object: &Value, lenient: Lenient, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    let list = Path::new("webhooks");
    let mut seen = Vec::new();
    for (i, hook) in tree::list(object, "webhooks").iter().enumerate() {
        let path = list.index(i);
        webhook(hook, lenient, &path, errors);
        let own = path.child("admissionReviewVersions");
        review_versions(hook, lenient.review_versions, &own, errors);
        let name = tree::text(hook, "name");
        if !name.is_empty() && !lenient.same_names && seen.contains(&name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        seen.push(name);
    }
}

fn webhook(hook: &Value, lenient: Lenient, path: &Path<'_>, errors: &mut Errors) {
    full_name(tree::text(hook, "name"), &path.child("name"), errors);
    let rules = path.child("rules");
    for (i, one) in tree::list(hook, "rules").iter().enumerate() {
        rule(one, &rules.index(i), errors);
    }
    one_of_if_set(hook, "failurePolicy", &FAILURE_POLICIES, path, errors);
    one_of_if_set(hook, "matchPolicy", &MATCH_POLICIES, path, errors);
    let allowed: &[&str] = if lenient.side_effects { &SIDE_EFFECTS } else { &NO_SIDE_EFFECTS };
    if tree::has(hook, "sideEffects") {
        one_of_if_set(hook, "sideEffects", allowed, path, errors);
    } else {
        let detail = format!("must specify one of {}", allowed.join(", "));
        errors.push(Error::required(&path.child("sideEffects"), detail));
    }
    if let Some(seconds) = tree::int_opt(hook, "timeoutSeconds")
        && !TIMEOUT_SECONDS.contains(&seconds)
    {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.push(Error::invalid(&path.child("timeoutSeconds"), seconds, detail));
    }
    for name in ["namespaceSelector", "objectSelector"] {
        selector::label_selector(tree::get(hook, name), &path.child(name), errors);
    }
    one_of_if_set(hook, "reinvocationPolicy", &REINVOCATION_POLICIES, path, errors);
    client(tree::get(hook, "clientConfig"), &path.child("clientConfig"), errors);
    if !lenient.match_conditions {
        match_conditions(hook, path, errors);
        let names = Names { params: false, authorizer: true };
        policy_expressions::conditions(hook, names, path, errors);
    }
}

/// A domain with at least three segments.
fn full_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let problems = names::dns1123_subdomain(name);
    if !problems.is_empty() {
        errors.push(Error::invalid(path, name, problems.join(",")));
    } else if name.split('.').count() < NAME_SEGMENTS_MIN {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.push(Error::invalid(path, name, detail));
    }
}

fn review_versions(hook: &Value, lenient: bool, path: &Path<'_>, errors: &mut Errors) {
    let versions: Vec<&str> = tree::texts(hook, "admissionReviewVersions").collect();
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        errors.push(Error::required(path, format!("must specify one of {known}")));
        return;
    }
    for (i, version) in versions.iter().enumerate() {
        if versions[..i].contains(version) {
            errors.push(Error::invalid(&path.index(i), *version, "duplicate version"));
            continue;
        }
        invalid_each(&path.index(i), version, names::dns1035_label(version), errors);
    }
    if !lenient && !versions.iter().any(|version| is_review_version(version)) {
        let detail = format!("must include at least one of {known}");
        let value = tree::get(hook, "admissionReviewVersions").clone();
        errors.push(Error::invalid(path, value, detail));
    }
}

fn client(config: &Value, path: &Path<'_>, errors: &mut Errors) {
    let service = tree::get(config, "service");
    match (tree::text_opt(config, "url"), service.is_null()) {
        (Some(address), true) => url(address, &path.child("url"), errors),
        (None, false) => service_reference(service, &path.child("service"), errors),
        _ => {
            let detail = "exactly one of url or service is required";
            errors.push(Error::required(path, detail));
        }
    }
}

/// `https://host/path`, and nothing else.
fn url(address: &str, path: &Path<'_>, errors: &mut Errors) {
    let form = "; desired format: https://host[/path]";
    let (address, fragment) = address.split_once('#').unwrap_or((address, ""));
    let (address, query) = address.split_once('?').unwrap_or((address, ""));
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => ("", ""),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let mut wrong = |value: &str, detail: String| errors.push(Error::invalid(path, value, detail));
    if scheme != "https" {
        wrong(scheme, format!("'https' is the only allowed URL scheme{form}"));
    }
    if host.is_empty() {
        wrong(host, format!("host must be provided{form}"));
    }
    if let Some(user) = user {
        wrong(user, "user information is not permitted in the URL".to_owned());
    }
    if !fragment.is_empty() {
        wrong(fragment, "fragments are not permitted in the URL".to_owned());
    }
    if !query.is_empty() {
        wrong(query, "query parameters are not permitted in the URL".to_owned());
    }
}

fn service_reference(service: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (name, detail) in
        [("name", "service name is required"), ("namespace", "service namespace is required")]
    {
        if tree::text(service, name).is_empty() {
            errors.push(Error::required(&path.child(name), detail));
        }
    }
    let port = tree::int(service, "port");
    let problems = names::port_number(port);
    if !problems.is_empty() {
        let detail = format!("port is not valid: {}", problems.join(", "));
        errors.push(Error::invalid(&path.child("port"), port, detail));
    }
    if let Some(text) = tree::text_opt(service, "path") {
        service_path(text, &path.child("path"), errors);
    }
}

fn service_path(text: &str, path: &Path<'_>, errors: &mut Errors) {
    match text {
        "" | "/" => return,
        "//" => {
            errors.push(Error::invalid(path, text, "segment[0] may not be empty"));
            return;
        }
        _ => {}
    }
    if !text.starts_with('/') {
        errors.push(Error::invalid(path, text, "must start with a '/'"));
    }
    // As upstream: the first character goes, whatever it is.
    let rest = text.get(1..).unwrap_or_default();
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (i, step) in rest.split('/').enumerate() {
        if step.is_empty() {
            errors.push(Error::invalid(path, text, format!("segment[{i}] may not be empty")));
            continue;
        }
        for problem in names::dns1123_subdomain(step) {
            errors.push(Error::invalid(path, text, format!("segment[{i}]: {problem}")));
        }
    }
}

// === what policies have, too ===

/// Checks the conditions under which a webhook or a policy is asked; their expressions [`policy_expressions`] does.
pub(super) fn match_conditions(holder: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("matchConditions");
    let conditions = tree::list(holder, "matchConditions");
    if conditions.len() > MATCH_CONDITIONS_MAX {
        errors.push(Error::too_many(&path, conditions.len(), MATCH_CONDITIONS_MAX));
    }
    let mut seen = Vec::new();
    for (i, condition) in conditions.iter().enumerate() {
        let path = path.index(i);
        if tree::text(condition, "expression").trim().is_empty() {
            errors.push(Error::required(&path.child("expression"), ""));
        }
        let name = tree::text(condition, "name");
        let own = path.child("name");
        if name.is_empty() {
            errors.push(Error::required(&own, ""));
            continue;
        }
        super::qualified(name, &own, errors);
        if seen.contains(&name) {
            errors.push(Error::duplicate(&own, name));
        }
        seen.push(name);
    }
}

/// Checks which operations on which resources are meant.
pub(super) fn rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let own = path.child("operations");
    let operations: Vec<&str> = tree::texts(rule, "operations").collect();
    if operations.is_empty() {
        errors.push(Error::required(&own, ""));
    }
    wildcard_alone(rule, "operations", "operations", path, errors);
    for (i, operation) in operations.iter().enumerate() {
        if !OPERATIONS.contains(operation) {
            errors.push(Error::not_supported(&own.index(i), *operation, &OPERATIONS));
        }
    }
    for (name, called) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        if tree::list(rule, name).is_empty() {
            errors.push(Error::required(&path.child(name), ""));
        }
        wildcard_alone(rule, name, called, path, errors);
    }
    let own = path.child("apiVersions");
    for (i, version) in tree::texts(rule, "apiVersions").enumerate() {
        if version.is_empty() {
            errors.push(Error::required(&own.index(i), ""));
        }
    }
    resources(rule, &path.child("resources"), errors);
    one_of_if_set(rule, "scope", &["*", "Cluster", "Namespaced"], path, errors);
}

fn wildcard_alone(rule: &Value, name: &str, called: &str, path: &Path<'_>, errors: &mut Errors) {
    let all = tree::list(rule, name);
    if all.len() > 1 && all.iter().any(|one| one == "*") {
        let detail = format!("if '*' is present, must not specify other {called}");
        errors.push(Error::invalid(&path.child(name), all.to_vec(), detail));
    }
}

fn resources(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let all: Vec<&str> = tree::texts(rule, "resources").collect();
    if all.is_empty() {
        errors.push(Error::required(path, ""));
    }
    let (mut whole, mut everywhere) = (Vec::new(), Vec::new());
    let mut plain = false;
    for (i, text) in all.iter().enumerate() {
        let path = path.index(i);
        if text.is_empty() {
            errors.push(Error::required(&path, ""));
            continue;
        }
        let Some((resource, sub)) = text.split_once('/') else {
            plain = *text != "*";
            continue;
        };
        if whole.contains(&resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.push(Error::invalid(&path, *text, detail));
        }
        if everywhere.contains(&sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {text}");
            errors.push(Error::invalid(&path, *text, detail));
        }
        if sub == "*" {
            whole.push(resource);
        }
        if resource == "*" {
            everywhere.push(sub);
        }
    }
    let value = || tree::get(rule, "resources").clone();
    if all.len() > 1 && all.contains(&"*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.push(Error::invalid(path, value(), detail));
    }
    if plain && all.contains(&"*") {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(Error::invalid(path, value(), detail));
    }
}
