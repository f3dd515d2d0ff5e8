//! Ingresses and their classes.

use serde_json::Value;

use super::job::domain_prefixed;
use super::meta::{self, Scope};
use super::{Errors, immutable, invalid_each, ip, label, names, port, subdomain};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
/// The annotation that named the class before the field did.
pub(crate) const CLASS: &str = "kubernetes.io/ingress.class";
const CONTROLLER_MAX: usize = 250;
const NOT_IN_PATHS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const NOT_AT_ENDS: [&str; 2] = ["/..", "/."];
const NOT_AN_IP: &str = "must be a DNS name, not an IP address";

/// Checks a new ingress.
pub(crate) fn create(object: &Value, errors: &mut Errors) {
    whole(object, None, errors);
    let annotation = tree::text_opt(tree::at(object, &["metadata", "annotations"]), CLASS);
    let field = tree::text_opt(tree::get(object, "spec"), "ingressClassName");
    if let (Some(annotation), Some(field)) = (annotation, field)
        && annotation != field
    {
        let path = Path::new("annotations");
        let detail = "must match `ingressClassName` when both are specified";
        errors.push(Error::invalid(&path.child(CLASS), annotation, detail));
    }
}

/// Checks a changed ingress.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    whole(new, Some(tree::get(old, "spec")), errors);
}

fn whole(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    let spec = tree::get(object, "spec");
    let listed = tree::list(spec, "rules");
    let default = tree::get(spec, "defaultBackend");
    if listed.is_empty() && default.is_null() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(Error::invalid(&SPEC, tree::get(spec, "rules").clone(), detail));
    }
    if !default.is_null() {
        backend(default, &SPEC.child("defaultBackend"), errors);
    }
    let lenient = old.is_some_and(has_bad_wildcard);
    rules(listed, lenient, &SPEC.child("rules"), errors);
    tls(spec, old.is_some_and(has_bad_secret), &SPEC.child("tls"), errors);
    if let Some(class) = tree::text_opt(spec, "ingressClassName") {
        subdomain(class, &SPEC.child("ingressClassName"), errors);
    }
}

/// Rules for wildcards that are bad already may stay so.
fn has_bad_wildcard(spec: &Value) -> bool {
    let wild = |rule: &&Value| tree::text(rule, "host").contains('*');
    let bad = |rule: &Value| {
        let mut errors = Errors::new();
        paths(rule, &SPEC, &mut errors);
        !errors.is_empty()
    };
    tree::list(spec, "rules").iter().filter(wild).any(bad)
}

fn has_bad_secret(spec: &Value) -> bool {
    let names = tree::list(spec, "tls").iter().map(|tls| tree::text(tls, "secretName"));
    names.into_iter().any(|name| !name.is_empty() && !names::dns1123_subdomain(name).is_empty())
}

fn host(host: &str, path: &Path<'_>, errors: &mut Errors) {
    let problems = if host.contains('*') {
        names::wildcard_subdomain(host)
    } else {
        names::dns1123_subdomain(host)
    };
    invalid_each(path, host, problems, errors);
}

fn rules(rules: &[Value], lenient: bool, path: &Path<'_>, errors: &mut Errors) {
    for (i, rule) in rules.iter().enumerate() {
        let path = path.index(i);
        let name = tree::text(rule, "host");
        if !name.is_empty() {
            if names::parse_ip(name).is_some() {
                errors.push(Error::invalid(&path.child("host"), name, NOT_AN_IP));
            }
            host(name, &path.child("host"), errors);
        }
        if !name.contains('*') || !lenient {
            paths(rule, &path, errors);
        }
    }
}

fn paths(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let http = tree::get(rule, "http");
    if http.is_null() {
        return;
    }
    let path = path.child("http.paths");
    let paths = tree::list(http, "paths");
    if paths.is_empty() {
        errors.push(Error::required(&path, ""));
    }
    for (i, one) in paths.iter().enumerate() {
        http_path(one, &path.index(i), errors);
    }
}

fn http_path(one: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(kind) = tree::text_opt(one, "pathType") else {
        errors.push(Error::required(&path.child("pathType"), "pathType must be specified"));
        return;
    };
    let text = tree::text(one, "path");
    let own = path.child("path");
    let absolute = "must be an absolute path";
    match kind {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.push(Error::invalid(&own, text, absolute));
            }
            for bad in NOT_IN_PATHS.iter().filter(|bad| text.contains(**bad)) {
                errors.push(Error::invalid(&own, text, format!("must not contain '{bad}'")));
            }
            for bad in NOT_AT_ENDS.iter().filter(|bad| text.ends_with(**bad)) {
                errors.push(Error::invalid(&own, text, format!("cannot end with '{bad}'")));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.push(Error::invalid(&own, text, absolute));
            }
        }
        other => {
            let known = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(Error::not_supported(&path.child("pathType"), other, &known));
        }
    }
    backend(tree::get(one, "backend"), &path.child("backend"), errors);
}

fn backend(backend: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (resource, service) = (tree::get(backend, "resource"), tree::get(backend, "service"));
    match (resource.is_null(), service.is_null()) {
        (false, false) => {
            let detail = "cannot set both resource and service backends";
            errors.push(Error::invalid(path, "", detail));
        }
        (false, true) => reference(resource, &path.child("resource"), errors),
        (true, true) => {
            errors.push(Error::invalid(path, "", "resource or service backend is required"));
        }
        (true, false) => service_backend(service, path, errors),
    }
}

fn service_backend(service: &Value, path: &Path<'_>, errors: &mut Errors) {
    let own = path.child("service");
    let name_path = own.child("name");
    match tree::text(service, "name") {
        "" => errors.push(Error::required(&name_path, "")),
        name => invalid_each(&name_path, name, names::dns1035_label(name), errors),
    }
    let wanted = tree::get(service, "port");
    let (name, number) = (tree::text(wanted, "name"), tree::int(wanted, "number"));
    let own = own.child("port");
    match (name.is_empty(), number == 0) {
        (false, false) => {
            errors.push(Error::invalid(path, "", "cannot set both port name & port number"));
        }
        (false, true) => invalid_each(&own.child("name"), name, names::port_name(name), errors),
        (true, false) => port(number, &own.child("number"), errors),
        (true, true) => errors.push(Error::required(path, "port name or number is required")),
    }
}

/// A reference to an object in the same namespace, or to a cluster's.
fn reference(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(group) = tree::text_opt(reference, "apiGroup") {
        subdomain(group, &path.child("apiGroup"), errors);
    }
    for name in ["kind", "name"] {
        let path = path.child(name);
        match tree::text(reference, name) {
            "" => errors.push(Error::required(&path, "")),
            text => invalid_each(&path, text, names::path_segment(text), errors),
        }
    }
}

fn tls(spec: &Value, lenient: bool, path: &Path<'_>, errors: &mut Errors) {
    for (i, tls) in tree::list(spec, "tls").iter().enumerate() {
        let path = path.index(i);
        let hosts = path.child("hosts");
        for (j, name) in tree::texts(tls, "hosts").enumerate() {
            host(name, &hosts.index(j), errors);
        }
        let secret = tree::text(tls, "secretName");
        if !lenient && !secret.is_empty() {
            subdomain(secret, &path.child("secretName"), errors);
        }
    }
}

/// Checks a write to an ingress' status.
pub(crate) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let status = Path::new("status");
    let path = status.child("loadBalancer.ingress");
    let balancer = tree::at(new, &["status", "loadBalancer"]);
    for (i, one) in tree::list(balancer, "ingress").iter().enumerate() {
        let path = path.index(i);
        let (address, name) = (tree::text(one, "ip"), tree::text(one, "hostname"));
        if !address.is_empty() {
            ip(address, &path.child("ip"), errors);
        }
        if !name.is_empty() {
            let path = path.child("hostname");
            subdomain(name, &path, errors);
            if names::parse_ip(name).is_some() {
                errors.push(Error::invalid(&path, name, NOT_AN_IP));
            }
        }
    }
}

// === classes ===

/// Checks a new class.
pub(crate) fn class(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    let spec = tree::get(object, "spec");
    let controller = tree::text(spec, "controller");
    let path = SPEC.child("controller");
    if controller.len() > CONTROLLER_MAX {
        errors.push(Error::too_long(&path, CONTROLLER_MAX));
    }
    domain_prefixed(controller, &path, errors);
    let parameters = tree::get(spec, "parameters");
    if !parameters.is_null() {
        class_parameters(parameters, &SPEC.child("parameters"), errors);
    }
}

fn class_parameters(parameters: &Value, path: &Path<'_>, errors: &mut Errors) {
    reference(parameters, path, errors);
    let namespace = tree::text_opt(parameters, "namespace");
    let own = path.child("namespace");
    match (tree::text_opt(parameters, "scope"), namespace) {
        (None, _) => errors.push(Error::required(&path.child("scope"), "")),
        (Some("Namespace"), None) => {
            errors.push(Error::required(&own, "`parameters.scope` is set to 'Namespace'"));
        }
        (Some("Namespace"), Some(namespace)) => label(namespace, &own, errors),
        (Some("Cluster"), Some(_)) => {
            errors.push(Error::forbidden(&own, "`parameters.scope` is set to 'Cluster'"));
        }
        (Some("Cluster"), None) => {}
        (Some(other), _) => {
            let known = ["Cluster", "Namespace"];
            errors.push(Error::not_supported(&path.child("scope"), other, &known));
        }
    }
}

/// Checks a changed class: its controller stays.
pub(crate) fn class_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    immutable(tree::get(new, "spec"), tree::get(old, "spec"), "controller", &SPEC, errors);
    class(new, errors);
}
