//! Namespaces, ConfigMaps, Secrets and service accounts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::meta::{self, Scope};
use super::{Errors, immutable, invalid_each, names, qualified};
use crate::field::{Error, Path};
use crate::tree;

/// The most bytes that the data of a ConfigMap or Secret may have.
const DATA_BYTES_MAX: usize = 1024 * 1024;
const FROZEN: &str = "field is immutable when `immutable` is set";

/// Checks a new namespace.
pub(crate) fn namespace(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_label, errors);
    let path = Path::new("spec");
    let path = path.child("finalizers");
    for finalizer in tree::texts(tree::get(object, "spec"), "finalizers") {
        qualified(finalizer, &path, errors);
        meta::finalizer_form(finalizer, &path, errors);
    }
}

/// Checks a changed namespace.
pub(crate) fn namespace_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
}

/// Checks a write to a namespace's `finalize`.
pub(crate) fn namespace_finalize(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let path = Path::new("spec");
    let path = path.child("finalizers");
    for (i, finalizer) in tree::texts(tree::get(new, "spec"), "finalizers").enumerate() {
        let path = path.index(i);
        qualified(finalizer, &path, errors);
        meta::finalizer_form(finalizer, &path, errors);
    }
}

/// Checks a write to a namespace's status.
pub(crate) fn namespace_status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let phase = tree::text(tree::get(new, "status"), "phase");
    let path = Path::new("status");
    let path = path.child("Phase");
    let deleted = tree::has(tree::get(new, "metadata"), "deletionTimestamp");
    if !deleted && phase != "Active" {
        let detail = "may only be 'Active' if `deletionTimestamp` is empty";
        errors.push(Error::invalid(&path, phase, detail));
    } else if deleted && phase != "Terminating" {
        let detail = "may only be 'Terminating' if `deletionTimestamp` is not empty";
        errors.push(Error::invalid(&path, phase, detail));
    }
}

/// The bytes of a base64 text.
fn decoded_len(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    (text.len() / 4 * 3).saturating_sub(text.bytes().rev().take_while(|b| *b == b'=').count())
}

/// Checks a new ConfigMap.
pub(crate) fn config_map(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    let (data, binary) = (Path::new("data"), Path::new("binaryData"));
    let mut size = 0;
    for (key, value) in tree::entries(object, "data") {
        let path = data.key(key);
        invalid_each(&path, key, names::config_key(key), errors);
        if tree::has(tree::get(object, "binaryData"), key) {
            let detail = "duplicate of key present in binaryData";
            errors.push(Error::invalid(&path, key.as_str(), detail));
        }
        size += value.as_str().map_or(0, str::len);
    }
    for (key, value) in tree::entries(object, "binaryData") {
        invalid_each(&binary.key(key), key, names::config_key(key), errors);
        size += decoded_len(value);
    }
    if size > DATA_BYTES_MAX {
        let mut error = Error::too_long(&data, DATA_BYTES_MAX);
        error.field = "[]".to_owned();
        errors.push(error);
    }
}

/// Checks a changed ConfigMap.
pub(crate) fn config_map_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    frozen(new, old, &["data", "binaryData"], errors);
    config_map(new, errors);
}

/// What is declared immutable stays, the declaration included.
fn frozen(new: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    if !tree::flag(old, "immutable") {
        return;
    }
    if !tree::flag(new, "immutable") {
        errors.push(Error::forbidden(&Path::new("immutable"), FROZEN));
    }
    for name in fields {
        if !tree::same(tree::get(new, name), tree::get(old, name)) {
            errors.push(Error::forbidden(&Path::new(name), FROZEN));
        }
    }
}

/// Checks a new secret.
pub(crate) fn secret(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    let data = Path::new("data");
    let mut size = 0;
    for (key, value) in tree::entries(object, "data") {
        invalid_each(&data.key(key), key, names::config_key(key), errors);
        size += decoded_len(value);
    }
    if size > DATA_BYTES_MAX {
        errors.push(Error::too_long(&data, DATA_BYTES_MAX));
    }
    let held = tree::get(object, "data");
    let demand = |key: &str, errors: &mut Errors| {
        if !tree::has(held, key) {
            errors.push(Error::required(&data.key(key), ""));
        }
    };
    match tree::text(object, "type") {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            let annotations = tree::at(object, &["metadata", "annotations"]);
            if tree::text(annotations, key).is_empty() {
                let metadata = Path::new("metadata");
                errors.push(Error::required(&metadata.child("annotations").key(key), ""));
            }
        }
        "kubernetes.io/dockercfg" => json_map(held, ".dockercfg", &data, errors),
        "kubernetes.io/dockerconfigjson" => json_map(held, ".dockerconfigjson", &data, errors),
        "kubernetes.io/basic-auth"
            if !tree::has(held, "username") && !tree::has(held, "password") =>
        {
            demand("username", errors);
            demand("password", errors);
        }
        "kubernetes.io/ssh-auth" if tree::text(held, "ssh-privatekey").is_empty() => {
            errors.push(Error::required(&data.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            demand("tls.crt", errors);
            demand("tls.key", errors);
        }
        _ => {}
    }
}

fn json_map(data: &Value, key: &str, path: &Path<'_>, errors: &mut Errors) {
    let path = path.key(key);
    let Some(text) = tree::text_opt(data, key) else {
        errors.push(Error::required(&path, ""));
        return;
    };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) {
        // The parser's message may repeat what it read: only its kind is told.
        let detail = match error.classify() {
            serde_json::error::Category::Eof => "unexpected end of JSON input",
            _ => "invalid JSON: must be an object",
        };
        errors.push(Error::invalid(&path, "<secret contents redacted>", detail));
    }
}

/// Checks a changed secret.
pub(crate) fn secret_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let (after, before) = (tree::text(new, "type"), tree::text(old, "type"));
    if after != before {
        errors.push(Error::invalid(&Path::new("type"), after, super::IMMUTABLE));
    }
    frozen(new, old, &["data"], errors);
    secret(new, errors);
}

/// Checks a new service account.
pub(crate) fn service_account(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
}

/// Checks a changed service account.
pub(crate) fn service_account_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    service_account(new, errors);
}

/// Checks a new priority class.
pub(crate) fn priority_class(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    let name = tree::text(tree::get(object, "metadata"), "name");
    let value = tree::int(object, "value");
    if name.starts_with("system-") {
        let known = matches!(
            (name, value),
            ("system-node-critical", 2_000_001_000) | ("system-cluster-critical", 2_000_000_000)
        );
        if !known {
            let metadata = Path::new("metadata");
            let shown = crate::text::quote(name);
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. \
                 error: {shown} is not a known system priority class"
            );
            errors.push(Error::forbidden(&metadata.child("name"), detail));
        }
    } else if value > 1_000_000_000 {
        let detail = "maximum allowed value of a user defined priority is 1000000000";
        errors.push(Error::forbidden(&Path::new("value"), detail));
    }
    let root = Path::new("");
    super::one_of_if_set(
        object,
        "preemptionPolicy",
        &["PreemptLowerPriority", "Never"],
        &root,
        errors,
    );
}

/// Checks a changed priority class: its priority and policy never change.
pub(crate) fn priority_class_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    if tree::int(new, "value") != tree::int(old, "value") {
        let detail = "may not be changed in an update.";
        errors.push(Error::forbidden(&Path::new("value"), detail));
    }
    immutable(new, old, "preemptionPolicy", &Path::new(""), errors);
}
