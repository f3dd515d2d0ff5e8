//! Roles, bindings and leases.

use serde_json::Value;

use super::meta::{self, Scope};
use super::{Errors, invalid_each, names, qualified, required, selector};
use crate::field::{Error, Path};
use crate::tree;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Checks a new role.
pub(crate) fn role(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::path_segment, errors);
    rules(object, Scope::Namespaced, errors);
}

/// Checks a changed role.
pub(crate) fn role_update(new: &Value, old: &Value, errors: &mut Errors) {
    role(new, errors);
    meta::update(new, old, errors);
}

/// Checks a new cluster role.
pub(crate) fn cluster_role(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::path_segment, errors);
    rules(object, Scope::Cluster, errors);
    let aggregation = tree::get(object, "aggregationRule");
    if aggregation.is_null() {
        return;
    }
    let path = Path::new("aggregationRule");
    let path = path.child("clusterRoleSelectors");
    let selectors = tree::list(aggregation, "clusterRoleSelectors");
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(Error::required(&path, detail));
    }
    for (i, labels) in selectors.iter().enumerate() {
        selector::label_selector(labels, &path.index(i), errors);
    }
}

/// Checks a changed cluster role.
pub(crate) fn cluster_role_update(new: &Value, old: &Value, errors: &mut Errors) {
    cluster_role(new, errors);
    meta::update(new, old, errors);
}

fn rules(object: &Value, scope: Scope, errors: &mut Errors) {
    let list = Path::new("rules");
    for (i, rule) in tree::list(object, "rules").iter().enumerate() {
        let path = list.index(i);
        let empty = |name: &str| tree::list(rule, name).is_empty();
        if empty("verbs") {
            let detail = "verbs must contain at least one value";
            errors.push(Error::required(&path.child("verbs"), detail));
        }
        if !empty("nonResourceURLs") {
            let urls = tree::get(rule, "nonResourceURLs").clone();
            let path = path.child("nonResourceURLs");
            if scope == Scope::Namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.push(Error::invalid(&path, urls.clone(), detail));
            }
            if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(Error::invalid(&path, urls, detail));
            }
            continue;
        }
        if empty("apiGroups") {
            let detail = "resource rules must supply at least one api group";
            errors.push(Error::required(&path.child("apiGroups"), detail));
        }
        if empty("resources") {
            let detail = "resource rules must supply at least one resource";
            errors.push(Error::required(&path.child("resources"), detail));
        }
    }
}

fn binding(object: &Value, scope: Scope, errors: &mut Errors) {
    meta::object(object, scope, names::path_segment, errors);
    let role = tree::get(object, "roleRef");
    let path = Path::new("roleRef");
    let group = tree::text(role, "apiGroup");
    if group != GROUP {
        errors.push(Error::not_supported(&path.child("apiGroup"), group, &[GROUP]));
    }
    let known: &[&str] = match scope {
        Scope::Namespaced => &["Role", "ClusterRole"],
        Scope::Cluster => &["ClusterRole"],
    };
    let kind = tree::text(role, "kind");
    if !known.contains(&kind) {
        errors.push(Error::not_supported(&path.child("kind"), kind, known));
    }
    if required(role, "name", &path, errors) {
        let name = tree::text(role, "name");
        invalid_each(&path.child("name"), name, names::path_segment(name), errors);
    }
    let list = Path::new("subjects");
    for (i, one) in tree::list(object, "subjects").iter().enumerate() {
        subject(one, scope, &list.index(i), errors);
    }
}

fn subject(subject: &Value, scope: Scope, path: &Path<'_>, errors: &mut Errors) {
    required(subject, "name", path, errors);
    let group = tree::text(subject, "apiGroup");
    match tree::text(subject, "kind") {
        "ServiceAccount" => {
            let name = tree::text(subject, "name");
            if !name.is_empty() {
                invalid_each(&path.child("name"), name, names::dns1123_subdomain(name), errors);
            }
            if !group.is_empty() {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if scope == Scope::Cluster {
                required(subject, "namespace", path, errors);
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            let known = ["ServiceAccount", "User", "Group"];
            errors.push(Error::not_supported(&path.child("kind"), other, &known));
        }
    }
}

fn binding_update(new: &Value, old: &Value, scope: Scope, errors: &mut Errors) {
    binding(new, scope, errors);
    meta::update(new, old, errors);
    let (after, before) = (tree::get(new, "roleRef"), tree::get(old, "roleRef"));
    if !tree::same(after, before) {
        errors.push(Error::invalid(&Path::new("roleRef"), after.clone(), "cannot change roleRef"));
    }
}

/// Checks a new role binding.
pub(crate) fn role_binding(object: &Value, errors: &mut Errors) {
    binding(object, Scope::Namespaced, errors);
}

/// Checks a changed role binding.
pub(crate) fn role_binding_update(new: &Value, old: &Value, errors: &mut Errors) {
    binding_update(new, old, Scope::Namespaced, errors);
}

/// Checks a new cluster role binding.
pub(crate) fn cluster_role_binding(object: &Value, errors: &mut Errors) {
    binding(object, Scope::Cluster, errors);
}

/// Checks a changed cluster role binding.
pub(crate) fn cluster_role_binding_update(new: &Value, old: &Value, errors: &mut Errors) {
    binding_update(new, old, Scope::Cluster, errors);
}

/// Checks a new lease.
pub(crate) fn lease(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    let spec = tree::get(object, "spec");
    let path = Path::new("spec");
    if let Some(seconds) = tree::int_opt(spec, "leaseDurationSeconds")
        && seconds <= 0
    {
        let path = path.child("leaseDurationSeconds");
        errors.push(Error::invalid(&path, seconds, "must be greater than 0"));
    }
    if let Some(count) = tree::int_opt(spec, "leaseTransitions")
        && count < 0
    {
        let path = path.child("leaseTransitions");
        errors.push(Error::invalid(&path, count, super::NOT_NEGATIVE));
    }
    let strategy = tree::text(spec, "strategy");
    if tree::has(spec, "strategy") {
        // Upstream names the field twice.
        let path = path.child("strategy");
        let path = path.child("strategy");
        if strategy.contains('/') {
            qualified(strategy, &path, errors);
        } else if strategy != "OldestEmulationVersion" {
            errors.push(Error::not_supported(&path, strategy, &["OldestEmulationVersion"]));
        }
    }
    if !tree::text(spec, "preferredHolder").is_empty() && strategy.is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        errors.push(Error::forbidden(&path.child("preferredHolder"), detail));
    }
}

/// Checks a changed lease.
pub(crate) fn lease_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    lease(new, errors);
}
