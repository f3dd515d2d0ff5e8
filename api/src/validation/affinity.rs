//! Where pods may run: affinity, tolerations, spread constraints.

use serde_json::Value;

use super::{Errors, invalid_each, label, names, one_of_if_set, qualified, selector};
use crate::field::{Error, Path};
use crate::tree;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NOT_POSITIVE: &str = "must be greater than zero";
/// The effects of taints, in upstream's order.
pub(super) const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// The affinity of a pod spec.
pub(super) fn affinity(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let affinity = tree::get(spec, "affinity");
    let path = path.child("affinity");
    node_affinity(tree::get(affinity, "nodeAffinity"), &path.child("nodeAffinity"), errors);
    for name in ["podAffinity", "podAntiAffinity"] {
        let terms = tree::get(affinity, name);
        let path = path.child(name);
        let list = path.child(REQUIRED);
        for (i, term) in tree::list(terms, REQUIRED).iter().enumerate() {
            pod_term(term, &list.index(i), errors);
        }
        let list = path.child(PREFERRED);
        for (i, weighted) in tree::list(terms, PREFERRED).iter().enumerate() {
            let path = list.index(i);
            weight(weighted, &path, errors);
            let term = tree::get(weighted, "podAffinityTerm");
            pod_term(term, &path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    let weight = tree::int(term, "weight");
    if !(1..=100).contains(&weight) {
        errors.push(Error::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

fn node_affinity(affinity: &Value, path: &Path<'_>, errors: &mut Errors) {
    let required = tree::get(affinity, REQUIRED);
    if !required.is_null() {
        node_selector(required, &path.child(REQUIRED), errors);
    }
    let list = path.child(PREFERRED);
    for (i, term) in tree::list(affinity, PREFERRED).iter().enumerate() {
        let path = list.index(i);
        weight(term, &path, errors);
        let preference = tree::get(term, "preference");
        node_term(preference, Values::Any, &path.child("preference"), errors);
    }
}

/// A selector of nodes.
pub(super) fn node_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("nodeSelectorTerms");
    let terms = tree::list(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(Error::required(&path, "must have at least one node selector term"));
    }
    for (i, term) in terms.iter().enumerate() {
        node_term(term, Values::Labels, &path.index(i), errors);
    }
}

/// What the values of an expression must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    /// Anything: what is only preferred never keeps a pod from running.
    Any,
    /// What labels can have as values.
    Labels,
}

fn node_term(term: &Value, values: Values, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("matchExpressions");
    for (i, expression) in tree::list(term, "matchExpressions").iter().enumerate() {
        node_expression(expression, values, &list.index(i), errors);
    }
    let list = path.child("matchFields");
    for (i, expression) in tree::list(term, "matchFields").iter().enumerate() {
        node_field(expression, &list.index(i), errors);
    }
}

fn node_expression(expression: &Value, check: Values, path: &Path<'_>, errors: &mut Errors) {
    let values = tree::list(expression, "values");
    let values_path = path.child("values");
    match tree::text(expression, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(Error::required(&values_path, detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&values_path, detail));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(Error::required(&values_path, detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            let detail = "not a valid selector operator";
            errors.push(Error::invalid(&path.child("operator"), other, detail));
        }
    }
    qualified(tree::text(expression, "key"), &path.child("key"), errors);
    for (i, value) in tree::texts(expression, "values").enumerate() {
        if check == Values::Labels {
            invalid_each(&values_path.index(i), value, names::label_value(value), errors);
        }
    }
}

fn node_field(expression: &Value, path: &Path<'_>, errors: &mut Errors) {
    let values_path = path.child("values");
    match tree::text(expression, "operator") {
        "In" | "NotIn" => {
            if tree::list(expression, "values").len() != 1 {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node \
                              field selector";
                errors.push(Error::required(&values_path, detail));
            }
        }
        other => {
            let detail = "not a valid selector operator";
            errors.push(Error::invalid(&path.child("operator"), other, detail));
        }
    }
    let key = tree::text(expression, "key");
    if key != "metadata.name" {
        let detail = "not a valid field selector key";
        errors.push(Error::invalid(&path.child("key"), key, detail));
        return;
    }
    for (i, value) in tree::texts(expression, "values").enumerate() {
        let problems = names::dns1123_subdomain(value);
        invalid_each(&values_path.index(i), value, problems, errors);
    }
}

fn pod_term(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    let labels = tree::get(term, "labelSelector");
    selector::label_selector(labels, &path.child("labelSelector"), errors);
    let namespaces = tree::get(term, "namespaceSelector");
    selector::label_selector(namespaces, &path.child("namespaceSelector"), errors);
    for namespace in tree::texts(term, "namespaces") {
        label(namespace, &path.child("namespace"), errors);
    }
    label_keys(term, "matchLabelKeys", path, errors);
    label_keys(term, "mismatchLabelKeys", path, errors);
    repeated_keys(term, path, errors);
    let mismatched: Vec<&str> = tree::texts(term, "mismatchLabelKeys").collect();
    let list = path.child("matchLabelKeys");
    for (i, key) in tree::texts(term, "matchLabelKeys").enumerate() {
        if mismatched.contains(&key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(Error::invalid(&list.index(i), key, detail));
        }
    }
    let key = tree::text(term, "topologyKey");
    if key.is_empty() {
        errors.push(Error::required(&path.child("topologyKey"), "can not be empty"));
    }
    qualified(key, &path.child("topologyKey"), errors);
}

fn label_keys(term: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    if tree::list(term, name).is_empty() {
        return;
    }
    let path = path.child(name);
    if !tree::has(term, "labelSelector") {
        let detail = "must not be specified when labelSelector is not set";
        errors.push(Error::forbidden(&path, detail));
        return;
    }
    for (i, key) in tree::texts(term, name).enumerate() {
        qualified(key, &path.index(i), errors);
    }
}

/// A key of `matchLabelKeys` may stand in the selector once: there its own expression was merged.
fn repeated_keys(term: &Value, holder: &Path<'_>, errors: &mut Errors) {
    let labels = tree::get(term, "labelSelector");
    let mut seen: Vec<&str> =
        tree::entries(labels, "matchLabels").map(|(key, _)| key.as_str()).collect();
    let keys: Vec<&str> = tree::texts(term, "matchLabelKeys").collect();
    for expression in tree::list(labels, "matchExpressions") {
        let key = tree::text(expression, "key");
        if seen.contains(&key)
            && let Some(i) = keys.iter().position(|k| *k == key)
        {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(Error::invalid(&holder.index(i), key, detail));
        }
        seen.push(key);
    }
}

/// The tolerations of a pod spec.
pub(super) fn tolerations(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("tolerations");
    for (i, toleration) in tree::list(spec, "tolerations").iter().enumerate() {
        let path = path.index(i);
        let (key, operator) = (tree::text(toleration, "key"), tree::text(toleration, "operator"));
        let operator_path = path.child("operator");
        if !key.is_empty() {
            qualified(key, &path.child("key"), errors);
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all \
                          values and all keys\"";
            errors.push(Error::invalid(&operator_path, operator, detail));
        }
        let effect = tree::text(toleration, "effect");
        if tree::has(toleration, "tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Error::invalid(&path.child("effect"), effect, detail));
        }
        let value = tree::text(toleration, "value");
        match operator {
            "" | "Equal" => {
                let problems = names::label_value(value);
                if !problems.is_empty() {
                    errors.push(Error::invalid(&operator_path, value, problems.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(Error::invalid(&operator_path, value, detail));
            }
            "Exists" => {}
            other => {
                let known = ["Equal", "Exists"];
                errors.push(Error::not_supported(&operator_path, other, &known));
            }
        }
        if !effect.is_empty() {
            one_of_if_set(toleration, "effect", &EFFECTS, &path, errors);
        }
    }
}

/// The spread constraints of a pod spec.
pub(super) fn spread(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("topologySpreadConstraints");
    let constraints = tree::list(spec, "topologySpreadConstraints");
    let pair = |c: &Value| {
        (tree::text(c, "topologyKey").to_owned(), tree::text(c, "whenUnsatisfiable").to_owned())
    };
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.index(i);
        let skew = tree::int(constraint, "maxSkew");
        if skew <= 0 {
            errors.push(Error::invalid(&path.child("maxSkew"), skew, NOT_POSITIVE));
        }
        if tree::text(constraint, "topologyKey").is_empty() {
            errors.push(Error::required(&path.child("topologyKey"), "can not be empty"));
        }
        let (key, action) = pair(constraint);
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        if !known.contains(&action.as_str()) {
            let path = path.child("whenUnsatisfiable");
            errors.push(Error::not_supported(&path, action.as_str(), &known));
        }
        if constraints[i + 1..].iter().any(|other| pair(other) == (key.clone(), action.clone())) {
            let path = path.child("{topologyKey, whenUnsatisfiable}");
            errors.push(Error::duplicate(&path, format!("{{{key}, {action}}}")));
        }
        if let Some(domains) = tree::int_opt(constraint, "minDomains") {
            let path = path.child("minDomains");
            if domains <= 0 {
                errors.push(Error::invalid(&path, domains, NOT_POSITIVE));
            }
            if action != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                errors.push(Error::invalid(&path, domains, detail));
            }
        }
        for name in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of_if_set(constraint, name, &["Honor", "Ignore"], &path, errors);
        }
        let keys = path.child("matchLabelKeys");
        label_keys(constraint, "matchLabelKeys", &path, errors);
        repeated_keys(constraint, &keys, errors);
        let labels = tree::get(constraint, "labelSelector");
        selector::label_selector(labels, &path.child("labelSelector"), errors);
    }
}
