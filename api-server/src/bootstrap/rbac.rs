//! Reconciling the default roles and bindings, and filling aggregated roles.

use quorate_api::selector::object::label_selector;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, Key, View};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::{Merge, Wanted, add_metadata, is_frozen, roles};
use crate::model::text;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The defaults as objects that must be there.
pub(super) fn wanted() -> Vec<Wanted> {
    roles::defaults()
        .iter()
        .map(|object| {
            let (plural, merge): (&str, Merge) = match text(&object["kind"]) {
                "ClusterRole" => ("clusterroles", merge_role),
                "Role" => ("roles", merge_role),
                "ClusterRoleBinding" => ("clusterrolebindings", merge_binding),
                _ => ("rolebindings", merge_binding),
            };
            let meta = &object["metadata"];
            let key = Key::new(GROUP, plural, text(&meta["namespace"]), text(&meta["name"]));
            Wanted { key, object: object.clone(), merge }
        })
        .collect()
}

/// Adds the rules and selectors that are missing; what users added stays.
fn merge_role(current: &Value, wanted: &Value) -> Option<Value> {
    if is_frozen(current) {
        return None;
    }
    let mut object = current.clone();
    let mut changed = add_metadata(&mut object, wanted);
    if wanted["aggregationRule"].is_null() {
        changed |= add_items(&mut object["rules"], &wanted["rules"]);
    } else {
        let selectors = &wanted["aggregationRule"]["clusterRoleSelectors"];
        if object["aggregationRule"].is_null() {
            object["aggregationRule"] = json!({});
        }
        changed |= add_items(&mut object["aggregationRule"]["clusterRoleSelectors"], selectors);
    }
    changed.then_some(object)
}

/// Adds the subjects that are missing. A binding of another role is somebody's own: it stays.
fn merge_binding(current: &Value, wanted: &Value) -> Option<Value> {
    if is_frozen(current) || current["roleRef"] != wanted["roleRef"] {
        return None;
    }
    let mut object = current.clone();
    let mut changed = add_metadata(&mut object, wanted);
    changed |= add_items(&mut object["subjects"], &wanted["subjects"]);
    changed.then_some(object)
}

fn add_items(list: &mut Value, wanted: &Value) -> bool {
    let missing: Vec<Value> = wanted
        .as_array()
        .into_iter()
        .flatten()
        .filter(|item| !list.as_array().is_some_and(|list| list.contains(item)))
        .cloned()
        .collect();
    if missing.is_empty() {
        return false;
    }
    if !list.is_array() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        list.extend(missing);
    }
    true
}

/// Aggregated cluster roles whose rules are not what they should be, with what they should be
/// (upstream's clusterrole-aggregation controller).
pub(super) fn aggregated(view: &View) -> Vec<(StoredRef, Value)> {
    let Some(all) = view.resource(&GroupResource::new(GROUP, "clusterroles")) else {
        return Vec::new();
    };
    let roles: Vec<(StoredRef, Value)> = all
        .iter()
        .map(|stored| {
            let object = serde_json::from_slice(&stored.image.bytes).unwrap_or_default();
            (stored.clone(), object)
        })
        .collect();
    roles
        .iter()
        .filter(|(_, role)| !role["aggregationRule"].is_null())
        .filter_map(|(stored, role)| {
            let rules = collected(role, &roles);
            let have = role["rules"].as_array().cloned().unwrap_or_default();
            if have == rules {
                return None;
            }
            let mut object = role.clone();
            object["rules"] = Value::Array(rules);
            Some((stored.clone(), object))
        })
        .collect()
}

fn collected(role: &Value, all: &[(StoredRef, Value)]) -> Vec<Value> {
    let mut rules: Vec<Value> = Vec::new();
    let selectors =
        role["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten();
    for selector in selectors.filter_map(|selector| label_selector(selector).ok()) {
        for (stored, other) in all {
            let labels: BTreeMap<String, String> =
                stored.image.header.labels.iter().cloned().collect();
            if text(&other["metadata"]["name"]) == text(&role["metadata"]["name"])
                || !selector.matches(&labels)
            {
                continue;
            }
            for rule in other["rules"].as_array().into_iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}
