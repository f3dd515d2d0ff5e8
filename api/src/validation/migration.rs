//! Migrations of what is stored to another version.

use serde_json::Value;

use super::conditions::{conditions, is_true};
use super::meta::{self, Scope};
use super::{Errors, IMMUTABLE, names};
use crate::field::{Error, Path};
use crate::tree;

const STATUS: Path<'static> = Path::new("status");

/// Checks a new migration.
pub(crate) fn create(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    let wanted = tree::at(object, &["spec", "resource"]);
    let path = Path::new("spec.resource");
    let (group, resource) = (tree::text(wanted, "group"), tree::text(wanted, "resource"));
    let problems = names::dns1035_label(resource);
    if !problems.is_empty() {
        errors.push(Error::invalid(&path.child("resource"), resource, problems.join(",")));
    }
    let problems = names::dns1123_subdomain(group);
    if !group.is_empty() && !problems.is_empty() {
        errors.push(Error::invalid(&path.child("group"), group, problems.join(",")));
    }
}

/// Checks a changed migration: what is migrated stays. Upstream's paths leave out where the fields are.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    create(new, errors);
    meta::update(new, old, errors);
    let of = |object, name| tree::text(tree::at(object, &["spec", "resource"]), name);
    for name in ["group", "resource"] {
        if of(new, name) != of(old, name) {
            errors.push(Error::invalid(&Path::new(name), of(new, name), IMMUTABLE));
        }
    }
}

/// Checks a write to a migration's status: it ends once, and well or badly.
pub(crate) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let (after, before) = (tree::get(new, "status"), tree::get(old, "status"));
    let (version, was) =
        (tree::text(after, "resourceVersion"), tree::text(before, "resourceVersion"));
    let path = STATUS.child("resourceVersion");
    if let Some(problem) = version_problem(version) {
        errors.push(Error::invalid(&path, version, problem));
    }
    conditions(after, &STATUS, errors);
    if !was.is_empty() && was != version {
        errors.push(Error::invalid(&path, version, IMMUTABLE));
    }
    let [succeeded, failed, running] =
        ["Succeeded", "Failed", "Running"].map(|c| is_true(after, c));
    let mut wrong = |detail: &str| {
        let value = tree::get(after, "conditions").clone();
        errors.push(Error::invalid(&STATUS.child("conditions"), value, detail));
    };
    if succeeded && failed {
        wrong("Both success and failed conditions cannot be true at the same time");
    }
    if succeeded && running {
        wrong("Running condition cannot be true when success condition is true");
    }
    if failed && running {
        wrong("Running condition cannot be true when failed condition is true");
    }
    if is_true(before, "Succeeded") && !succeeded {
        wrong("Success condition cannot be set to false once it is true");
    }
    if is_true(before, "Failed") && !failed {
        wrong("Failed condition cannot be set to false once it is true");
    }
}

fn version_problem(version: &str) -> Option<String> {
    let digits = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
    let well_formed = digits && !version.starts_with('0');
    (!well_formed).then(|| format!("resource version is not well formed: {version}"))
}
