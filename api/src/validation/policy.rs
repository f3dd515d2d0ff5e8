//! Admission policies, validating and mutating, and their bindings. Their expressions: `policy_expressions.rs`.

use serde_json::Value;

use super::meta::{self, Scope};
use super::webhook::{self, FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES};
use super::{
    Errors, conditions, invalid_each, names, one_of, one_of_if_set, policy_expressions, selector,
    subdomain,
};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const AUDIT_ANNOTATIONS_MAX: usize = 20;
const AUDIT_EXPRESSION_BYTES_MAX: usize = 5 * 1024;
/// What a change can be made for: not deletions.
const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
/// Words of the language, which nothing can be called.
const RESERVED: &str = " true false null in as break const continue else for function if import let \
    loop package namespace return var void while ";

// === policies ===

/// Checks a new validating policy.
pub(crate) fn validating(object: &Value, errors: &mut Errors) {
    validating_whole(object, None, errors);
}

/// Checks a changed validating policy.
pub(crate) fn validating_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    validating_whole(new, Some(old), errors);
}

/// Checks a write to the status of a validating policy.
pub(crate) fn validating_status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let status = tree::get(new, "status");
    let path = Path::new("status");
    let list = path.child("typeChecking.expressionWarnings");
    let warnings = tree::list(tree::get(status, "typeChecking"), "expressionWarnings");
    for (i, warning) in warnings.iter().enumerate() {
        let path = list.index(i);
        super::required(warning, "warning", &path, errors);
        if tree::text(warning, "fieldRef").trim().is_empty() {
            errors.push(Error::required(&path.child("fieldRef"), ""));
        }
    }
    conditions::conditions(status, &path, errors);
}

fn validating_whole(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    let spec = tree::get(object, "spec");
    common(spec, old.map(|old| tree::get(old, "spec")), errors);
    variables(spec, errors);
    let validations = tree::list(spec, "validations");
    let annotations = tree::list(spec, "auditAnnotations");
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.push(Error::required(&SPEC.child("validations"), detail));
        errors.push(Error::required(&SPEC.child("auditAnnotations"), detail));
        return;
    }
    let path = SPEC.child("validations");
    for (i, one) in validations.iter().enumerate() {
        validation(one, &path.index(i), errors);
    }
    let path = SPEC.child("auditAnnotations");
    if annotations.len() > AUDIT_ANNOTATIONS_MAX {
        let detail = format!("must not have more than {AUDIT_ANNOTATIONS_MAX} auditAnnotations");
        errors.push(Error::invalid(&path, annotations.to_vec(), detail));
    }
    let policy = tree::text(tree::get(object, "metadata"), "name");
    for (i, one) in annotations.iter().enumerate() {
        let path = path.index(i);
        audit_annotation(one, policy, &path, errors);
        let key = |annotation| tree::text(annotation, "key");
        if annotations[..i].iter().any(|other| key(other) == key(one)) {
            errors.push(Error::duplicate(&path.child("key"), key(one)));
        }
    }
    policy_expressions::policy(object, old, errors);
}

/// What both kinds of policies have before their rules.
fn common(spec: &Value, old: Option<&Value>, errors: &mut Errors) {
    if tree::has(spec, "failurePolicy") {
        one_of_if_set(spec, "failurePolicy", &FAILURE_POLICIES, &SPEC, errors);
    } else {
        errors.push(Error::required(&SPEC.child("failurePolicy"), ""));
    }
    let kind = tree::get(spec, "paramKind");
    if !kind.is_null() {
        param_kind(kind, &SPEC.child("paramKind"), errors);
    }
    let path = SPEC.child("matchConstraints");
    let constraints = tree::get(spec, "matchConstraints");
    if constraints.is_null() {
        errors.push(Error::required(&path, ""));
    } else {
        match_resources(constraints, &path, errors);
        if tree::list(constraints, "resourceRules").is_empty() {
            errors.push(Error::required(&path.child("resourceRules"), ""));
        }
    }
    let same =
        |name: &str| old.is_some_and(|old| tree::same(tree::get(spec, name), tree::get(old, name)));
    if !(same("paramKind") && same("matchConditions")) {
        webhook::match_conditions(spec, &SPEC, errors);
    }
}

fn param_kind(kind: &Value, path: &Path<'_>, errors: &mut Errors) {
    let version = tree::text(kind, "apiVersion");
    let own = path.child("apiVersion");
    if version.is_empty() {
        errors.push(Error::required(&own, ""));
    } else if version.matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {version}");
        errors.push(Error::invalid(&own, version, detail));
    } else {
        let (group, name) = version.split_once('/').unwrap_or(("", version));
        if !group.is_empty() {
            joined(group, &names::dns1123_subdomain(group), "", &own, errors);
        }
        if name.is_empty() {
            errors.push(Error::invalid(&own, version, "version must be specified"));
        } else {
            joined(name, &names::dns1035_label(name), "", &own, errors);
        }
    }
    let name = tree::text(kind, "kind");
    let own = path.child("kind");
    if name.is_empty() {
        errors.push(Error::required(&own, ""));
    } else {
        let lower = name.to_lowercase();
        let intro = "may have mixed case, but should otherwise match: ";
        joined(name, &names::dns1035_label(&lower), intro, &own, errors);
    }
}

/// All problems as one error.
fn joined(shown: &str, problems: &[String], intro: &str, path: &Path<'_>, errors: &mut Errors) {
    if !problems.is_empty() {
        errors.push(Error::invalid(path, shown, format!("{intro}{}", problems.join(","))));
    }
}

fn match_resources(matched: &Value, path: &Path<'_>, errors: &mut Errors) {
    if matched.is_null() {
        return;
    }
    if tree::has(matched, "matchPolicy") {
        one_of_if_set(matched, "matchPolicy", &MATCH_POLICIES, path, errors);
    } else {
        errors.push(Error::required(&path.child("matchPolicy"), ""));
    }
    for name in ["namespaceSelector", "objectSelector"] {
        let own = path.child(name);
        match tree::get(matched, name) {
            Value::Null => errors.push(Error::required(&own, "")),
            wanted => selector::label_selector(wanted, &own, errors),
        }
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        let path = path.child(list);
        for (i, rule) in tree::list(matched, list).iter().enumerate() {
            named_rule(rule, &path.index(i), errors);
        }
    }
}

fn named_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let own = path.child("resourceNames");
    let all: Vec<&str> = tree::texts(rule, "resourceNames").collect();
    for (i, name) in all.iter().enumerate() {
        invalid_each(&own.index(i), name, names::path_segment(name), errors);
        if all[..i].contains(name) {
            errors.push(Error::duplicate(&own.index(i), *name));
        }
    }
    webhook::rule(rule, path, errors);
}

fn variables(spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("variables");
    for (i, variable) in tree::list(spec, "variables").iter().enumerate() {
        let path = list.index(i);
        let name = tree::text(variable, "name");
        if name.trim().is_empty() {
            errors.push(Error::required(&path.child("name"), "name is not specified"));
        } else if !is_identifier(name) {
            let detail = "must be a valid CEL identifier";
            errors.push(Error::invalid(&path.child("name"), name, detail));
        }
        if tree::text(variable, "expression").trim().is_empty() {
            errors.push(Error::required(&path.child("expression"), "expression is not specified"));
        }
    }
}

fn is_identifier(name: &str) -> bool {
    names::c_identifier(name).is_empty() && !RESERVED.contains(&format!(" {name} "))
}

fn validation(validation: &Value, path: &Path<'_>, errors: &mut Errors) {
    if tree::text(validation, "expression").trim().is_empty() {
        errors.push(Error::required(&path.child("expression"), "expression is not specified"));
    }
    let empty = "must be non-empty if specified";
    for name in ["messageExpression", "message"] {
        let text = tree::text(validation, name);
        if !text.is_empty() && text.trim().is_empty() {
            errors.push(Error::invalid(&path.child(name), text, empty));
        } else if name == "message" && text.trim().contains(['\n', '\r']) {
            errors.push(Error::invalid(&path.child(name), text, "must not contain line breaks"));
        }
    }
    let known = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
    one_of_if_set(validation, "reason", &known, path, errors);
}

fn audit_annotation(annotation: &Value, policy: &str, path: &Path<'_>, errors: &mut Errors) {
    let key = tree::text(annotation, "key");
    if policy.is_empty() {
        let detail = "requires metadata.name be non-empty";
        errors.push(Error::invalid(&path.child("key"), key, detail));
    } else {
        super::qualified(&format!("{policy}/{key}"), &path.child("key"), errors);
    }
    let expression = tree::text(annotation, "valueExpression").trim();
    let own = path.child("valueExpression");
    if expression.is_empty() {
        errors.push(Error::required(&own, "valueExpression is not specified"));
    } else if expression.len() > AUDIT_EXPRESSION_BYTES_MAX {
        let detail = format!("must not exceed {AUDIT_EXPRESSION_BYTES_MAX} bytes in length");
        errors.push(Error::required(&own, detail));
    }
}

/// Checks a new mutating policy.
pub(crate) fn mutating(object: &Value, errors: &mut Errors) {
    mutating_whole(object, None, errors);
}

/// Checks a changed mutating policy.
pub(crate) fn mutating_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    mutating_whole(new, Some(old), errors);
}

fn mutating_whole(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    let spec = tree::get(object, "spec");
    common(spec, old.map(|old| tree::get(old, "spec")), errors);
    no_deletions(spec, "matchConstraints", errors);
    variables(spec, errors);
    let path = SPEC.child("mutations");
    let mutations = tree::list(spec, "mutations");
    if mutations.is_empty() {
        errors.push(Error::required(&path, "mutations must contain at least one item"));
    }
    for (i, one) in mutations.iter().enumerate() {
        mutation(one, &path.index(i), errors);
    }
    one_of(spec, "reinvocationPolicy", &REINVOCATION_POLICIES, &SPEC, errors);
    policy_expressions::policy(object, old, errors);
}

fn no_deletions(spec: &Value, field: &str, errors: &mut Errors) {
    let path = SPEC.child(field);
    let path = path.child("resourceRules.operations");
    for rule in tree::list(tree::get(spec, field), "resourceRules") {
        for operation in tree::texts(rule, "operations") {
            if !MUTATING_OPERATIONS.contains(&operation) {
                errors.push(Error::not_supported(&path, operation, &MUTATING_OPERATIONS));
            }
        }
    }
}

fn mutation(mutation: &Value, path: &Path<'_>, errors: &mut Errors) {
    let kind = tree::text(mutation, "patchType");
    let (own, other) = match kind {
        "" => {
            errors.push(Error::required(&path.child("patchType"), ""));
            return;
        }
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        _ => {
            let known = ["ApplyConfiguration", "JSONPatch"];
            errors.push(Error::not_supported(&path.child("patchType"), kind, &known));
            return;
        }
    };
    let source = tree::get(mutation, own);
    if source.is_null() {
        let detail = format!("must be specified when patchType is {kind}");
        errors.push(Error::required(&path.child(own), detail));
    } else if tree::text(source, "expression").trim().is_empty() {
        errors.push(Error::required(&path.child(own).child("expression"), ""));
    }
    if tree::has(mutation, other) {
        let detail = format!("must not be specified when patchType is {kind}");
        errors.push(Error::invalid(&path.child(other), format!("{{{other}}}"), detail));
    }
}

// === bindings ===

/// Checks a new binding of a validating policy.
pub(crate) fn validating_binding(object: &Value, errors: &mut Errors) {
    binding(object, errors);
    actions(tree::get(object, "spec"), errors);
}

/// Checks a changed binding of a validating policy.
pub(crate) fn validating_binding_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    validating_binding(new, errors);
}

/// Checks a new binding of a mutating policy.
pub(crate) fn mutating_binding(object: &Value, errors: &mut Errors) {
    binding(object, errors);
    no_deletions(tree::get(object, "spec"), "matchResources", errors);
}

/// Checks a changed binding of a mutating policy.
pub(crate) fn mutating_binding_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    mutating_binding(new, errors);
}

fn binding(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    let spec = tree::get(object, "spec");
    let path = SPEC.child("policyName");
    match tree::text(spec, "policyName") {
        "" => errors.push(Error::required(&path, "")),
        name => subdomain(name, &path, errors),
    }
    let reference = tree::get(spec, "paramRef");
    if !reference.is_null() {
        param_ref(reference, &SPEC.child("paramRef"), errors);
    }
    match_resources(tree::get(spec, "matchResources"), &SPEC.child("matchResources"), errors);
}

fn param_ref(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = tree::text(reference, "name");
    let wanted = tree::get(reference, "selector");
    let both = "name and selector are mutually exclusive";
    if !name.is_empty() {
        invalid_each(&path.child("name"), name, names::path_segment(name), errors);
        if !wanted.is_null() {
            errors.push(Error::forbidden(&path.child("name"), both));
        }
    }
    if !wanted.is_null() {
        selector::label_selector(wanted, &path.child("selector"), errors);
        if !name.is_empty() {
            errors.push(Error::forbidden(&path.child("selector"), both));
        }
    }
    if name.is_empty() && wanted.is_null() {
        errors.push(Error::required(path, "one of name or selector must be specified"));
    }
    one_of(reference, "parameterNotFoundAction", &["Deny", "Allow"], path, errors);
}

fn actions(spec: &Value, errors: &mut Errors) {
    let path = SPEC.child("validationActions");
    let actions: Vec<&str> = tree::texts(spec, "validationActions").collect();
    let known = ["Audit", "Deny", "Warn"];
    for (i, action) in actions.iter().enumerate() {
        if !known.contains(action) {
            errors.push(Error::not_supported(&path.index(i), *action, &known));
        }
        if actions[..i].contains(action) {
            errors.push(Error::duplicate(&path.index(i), *action));
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure \
                      information in the API response and headers serves no purpose)";
        let value = tree::get(spec, "validationActions").clone();
        errors.push(Error::invalid(&path, value, detail));
    }
    if actions.is_empty() {
        errors.push(Error::required(&path, "at least one validation action is required"));
    }
}
