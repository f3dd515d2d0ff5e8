//! Semantic validation: what a schema cannot say. Every rule gives the field, the reason and the
//! words that upstream's validation gives (`pkg/apis/*/validation`), in its order.
//!
//! Validation is total: it reads absent and wrongly typed values as "not set" and never panics.
//! It expects decoded, normalised and defaulted objects.

use serde_json::Value;

use crate::field::{Error, Path};
use crate::resource::{self, Storage};
use crate::{kinds, tree};

pub(crate) mod access;
mod affinity;
pub(crate) mod api_service;
pub(crate) mod attachment;
pub(crate) mod autoscaler;
pub(crate) mod certificates;
pub(crate) mod claim;
mod conditions;
mod container;
pub(crate) mod core;
pub(crate) mod cron_job;
pub(crate) mod definition;
mod definition_rules;
mod definition_schema;
pub(crate) mod devices;
mod env;
pub(crate) mod event;
pub mod flow;
mod handler;
pub(crate) mod ingress;
pub(crate) mod job;
mod job_policy;
pub(crate) mod job_status;
pub(crate) mod meta;
pub(crate) mod migration;
pub mod names;
pub(crate) mod network;
pub(crate) mod network_policy;
pub(crate) mod node;
mod os;
pub(crate) mod persistent_volume;
pub(crate) mod pod;
mod pod_resize;
mod pod_spec;
pub(crate) mod pod_update;
pub(crate) mod policy;
mod policy_expressions;
pub(crate) mod quota;
pub(crate) mod replication;
mod resources;
mod security;
mod selector;
pub(crate) mod service;
pub(crate) mod slice;
pub(crate) mod storage;
mod volume;
mod volume_plugins;
pub(crate) mod webhook;
pub(crate) mod workload;
pub(crate) mod workload_set;

pub use pod_resize::resize_update;
pub use pod_update::{ephemeral_containers_update, pod_binding};

/// Where errors are collected.
pub(crate) type Errors = Vec<Error>;

/// The words for a number that may not be negative.
pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// The words for a field that never changes.
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// What is wrong with a new object. The version is given for kinds served in several; the rules
/// here are the same in each. A stored kind without rules of its own has its metadata checked.
#[must_use]
pub fn create(group: &str, version: &str, kind: &str, object: &Value) -> Vec<Error> {
    if let Some(row) = kinds::find(group, kind) {
        let mut errors = Errors::new();
        (row.validate)(object, &mut errors);
        return errors;
    }
    match resource::by_kind(group, version, kind) {
        Some(def) if def.storage != Storage::Virtual => metadata(object, def.namespaced),
        Some(_) | None => Errors::new(),
    }
}

/// What is wrong with the metadata of a new object, for kinds that are not built in.
#[must_use]
pub fn metadata(object: &Value, namespaced: bool) -> Vec<Error> {
    let mut errors = Errors::new();
    let scope = if namespaced { meta::Scope::Namespaced } else { meta::Scope::Cluster };
    meta::object(object, scope, names::dns1123_subdomain, &mut errors);
    errors
}

/// What is wrong with a changed object, or with the change.
#[must_use]
pub fn update(group: &str, _version: &str, kind: &str, new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Errors::new();
    match kinds::find(group, kind) {
        Some(row) => (row.validate_update)(new, old, &mut errors),
        None => meta::update(new, old, &mut errors),
    }
    errors
}

/// What is wrong with a write to the status subresource.
#[must_use]
pub fn status_update(
    group: &str,
    _version: &str,
    kind: &str,
    new: &Value,
    old: &Value,
) -> Vec<Error> {
    let mut errors = Errors::new();
    match kinds::find(group, kind) {
        Some(row) => (row.validate_status)(new, old, &mut errors),
        None => meta::update(new, old, &mut errors),
    }
    errors
}

/// What is wrong with the addresses and families of a service's spec alone: checked before
/// addresses are allocated, and once more with all of the service.
#[must_use]
pub fn service_addresses(spec: &Value) -> Vec<Error> {
    let mut errors = Errors::new();
    service::cluster_ips(spec, &mut errors);
    errors
}

/// What is wrong with a write to a subresource other than the status.
#[must_use]
pub fn subresource_update(
    group: &str,
    kind: &str,
    subresource: &str,
    new: &Value,
    old: &Value,
) -> Vec<Error> {
    match (group, kind, subresource) {
        ("", "Namespace", "finalize") => {
            let mut errors = Errors::new();
            core::namespace_finalize(new, old, &mut errors);
            errors
        }
        ("", "Pod", "ephemeralcontainers") => ephemeral_containers_update(new, old),
        ("", "Pod", "resize") => resize_update(new, old),
        ("certificates.k8s.io", "CertificateSigningRequest", "approval") => {
            let mut errors = Errors::new();
            certificates::approval(new, old, &mut errors);
            errors
        }
        // Their handlers change one field alone, and check that one.
        _ => Errors::new(),
    }
}

// === rules that many kinds share ===

/// Reports each problem with a text.
pub(crate) fn invalid_each(
    path: &Path<'_>,
    text: &str,
    problems: Vec<String>,
    errors: &mut Errors,
) {
    errors.extend(problems.into_iter().map(|problem| Error::invalid(path, text, problem)));
}

/// The field must be a text that is not empty; says whether it is.
pub(crate) fn required(value: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let missing = tree::text(value, name).is_empty();
    if missing {
        errors.push(Error::required(&path.child(name), ""));
    }
    !missing
}

/// The number in a field must not be negative.
pub(crate) fn not_negative(value: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    let number = tree::int(value, name);
    if number < 0 {
        errors.push(Error::invalid(&path.child(name), number, NOT_NEGATIVE));
    }
}

/// The field must be one of `known` (sorted, as upstream lists them) and set.
pub(crate) fn one_of(
    value: &Value,
    name: &str,
    known: &[&str],
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if required(value, name, path, errors) {
        one_of_if_set(value, name, known, path, errors);
    }
}

/// The field must be one of `known` if it is set.
pub(crate) fn one_of_if_set(
    value: &Value,
    name: &str,
    known: &[&str],
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if let Some(text) = tree::text_opt(value, name)
        && !known.contains(&text)
    {
        errors.push(Error::not_supported(&path.child(name), text, known));
    }
}

/// The field must be what it was.
pub(crate) fn immutable(
    new: &Value,
    old: &Value,
    name: &str,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let (after, before) = (tree::get(new, name), tree::get(old, name));
    if !tree::same(after, before) {
        errors.push(Error::invalid(&path.child(name), after.clone(), IMMUTABLE));
    }
}

/// An RFC 1123 label in a field.
pub(crate) fn label(text: &str, path: &Path<'_>, errors: &mut Errors) {
    invalid_each(path, text, names::dns1123_label(text), errors);
}

/// An RFC 1123 subdomain in a field.
pub(crate) fn subdomain(text: &str, path: &Path<'_>, errors: &mut Errors) {
    invalid_each(path, text, names::dns1123_subdomain(text), errors);
}

/// A qualified name in a field.
pub(crate) fn qualified(text: &str, path: &Path<'_>, errors: &mut Errors) {
    invalid_each(path, text, names::qualified_name(text), errors);
}

/// An IP address in a field; says whether it is one.
pub(crate) fn ip(text: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let valid = names::parse_ip(text).is_some();
    if !valid {
        let message = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(Error::invalid(path, text, message));
    }
    valid
}

/// A CIDR block in a field.
pub(crate) fn cidr(text: &str, path: &Path<'_>, errors: &mut Errors) {
    let parsed = text.split_once('/').filter(|(address, bits)| {
        let most = match names::parse_ip(address) {
            Some(address) => {
                if address.is_ipv4() {
                    32
                } else {
                    128
                }
            }
            None => return false,
        };
        bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse().is_ok_and(|n: u16| n <= most)
    });
    if parsed.is_none() {
        let message = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(Error::invalid(path, text, message));
    }
}

/// A port given as number or name.
pub(crate) fn port_or_name(value: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child(name);
    match tree::get(value, name) {
        Value::String(text) => invalid_each(&path, text, names::port_name(text), errors),
        other => port(other.as_i64().unwrap_or(0), &path, errors),
    }
}

/// A port number.
pub(crate) fn port(number: i64, path: &Path<'_>, errors: &mut Errors) {
    for problem in names::port_number(number) {
        errors.push(Error::invalid(path, number, problem));
    }
}

#[cfg(test)]
mod tests;
