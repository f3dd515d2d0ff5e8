//! `metav1.LabelSelector` in a field.

use serde_json::Value;

use super::{Errors, invalid_each, meta, names, qualified};
use crate::field::{Error, Path};
use crate::tree;

/// The selector of a spec, which must be there, and is checked.
pub(super) fn required<'a>(spec: &'a Value, path: &Path<'_>, errors: &mut Errors) -> &'a Value {
    let selector = tree::get(spec, "selector");
    if selector.is_null() {
        errors.push(Error::required(path, ""));
    }
    label_selector(selector, path, errors);
    selector
}

/// Whether it is there and asks for nothing.
pub(super) fn is_empty(selector: &Value) -> bool {
    let parts = ["matchLabels", "matchExpressions"];
    !selector.is_null() && parts.iter().all(|part| tree::is_empty(tree::get(selector, part)))
}

/// Checks a label selector; null is fine.
pub(super) fn label_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    if selector.is_null() {
        return;
    }
    meta::labels(tree::get(selector, "matchLabels"), &path.child("matchLabels"), errors);
    let path = path.child("matchExpressions");
    for (i, expression) in tree::list(selector, "matchExpressions").iter().enumerate() {
        requirement(expression, &path.index(i), errors);
    }
}

fn requirement(expression: &Value, path: &Path<'_>, errors: &mut Errors) {
    let operator = tree::text(expression, "operator");
    let empty = tree::list(expression, "values").is_empty();
    let values = path.child("values");
    match operator {
        "In" | "NotIn" if empty => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(Error::required(&values, detail));
        }
        "Exists" | "DoesNotExist" if !empty => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&values, detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            let detail = "not a valid selector operator";
            errors.push(Error::invalid(&path.child("operator"), other, detail));
        }
    }
    qualified(tree::text(expression, "key"), &path.child("key"), errors);
    for (i, value) in tree::texts(expression, "values").enumerate() {
        invalid_each(&values.index(i), value, names::label_value(value), errors);
    }
}
