//! Probes and lifecycle hooks.

use serde_json::Value;

use super::{Errors, invalid_each, names, not_negative, one_of, port, port_or_name, required};
use crate::field::{Error, Path};
use crate::tree;

/// Which probe it is: the rules differ a little.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    Liveness,
    Readiness,
    Startup,
}

impl Probe {
    const ALL: [Probe; 3] = [Probe::Liveness, Probe::Readiness, Probe::Startup];

    const fn field(self) -> &'static str {
        match self {
            Probe::Liveness => "livenessProbe",
            Probe::Readiness => "readinessProbe",
            Probe::Startup => "startupProbe",
        }
    }
}

/// The probes and hooks of a container that may have them.
pub(super) fn probes_and_hooks(
    container: &Value,
    grace: Option<i64>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let hooks = path.child("lifecycle");
    for name in ["postStart", "preStop"] {
        let hook = tree::get(tree::get(container, "lifecycle"), name);
        if !hook.is_null() {
            let kinds = ["exec", "httpGet", "tcpSocket", "sleep"];
            handler(hook, &kinds, grace, &hooks.child(name), errors);
        }
    }
    for kind in Probe::ALL {
        let value = tree::get(container, kind.field());
        if !value.is_null() {
            probe(value, kind, &path.child(kind.field()), errors);
        }
    }
}

/// What a container may not have that only runs once.
pub(super) fn forbid(container: &Value, detail: &str, path: &Path<'_>, errors: &mut Errors) {
    for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if tree::has(container, name) {
            errors.push(Error::forbidden(&path.child(name), detail));
        }
    }
}

fn probe(probe: &Value, kind: Probe, path: &Path<'_>, errors: &mut Errors) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], None, path, errors);
    for name in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        not_negative(probe, name, path, errors);
    }
    let grace = tree::int_opt(probe, "terminationGracePeriodSeconds");
    let grace_path = path.child("terminationGracePeriodSeconds");
    if let Some(seconds) = grace
        && seconds <= 0
    {
        errors.push(Error::invalid(&grace_path, seconds, "must be greater than 0"));
    }
    match (kind, grace) {
        (Probe::Readiness, Some(seconds)) => {
            errors.push(Error::invalid(
                &grace_path,
                seconds,
                "must not be set for readinessProbes",
            ));
        }
        (Probe::Readiness, None) => {}
        (Probe::Liveness | Probe::Startup, _) => {
            let threshold = tree::int(probe, "successThreshold");
            if threshold != 1 {
                errors.push(Error::invalid(
                    &path.child("successThreshold"),
                    threshold,
                    "must be 1",
                ));
            }
        }
    }
}

fn handler(
    handler: &Value,
    kinds: &[&str],
    grace: Option<i64>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let mut found = false;
    for kind in kinds {
        let action = tree::get(handler, kind);
        if action.is_null() {
            continue;
        }
        let path = path.child(kind);
        if found {
            errors.push(Error::forbidden(&path, "may not specify more than 1 handler type"));
            continue;
        }
        found = true;
        match *kind {
            "exec" => {
                if tree::list(action, "command").is_empty() {
                    errors.push(Error::required(&path.child("command"), ""));
                }
            }
            "httpGet" => http_get(action, &path, errors),
            "tcpSocket" => port_or_name(action, "port", &path, errors),
            "grpc" => port(tree::int(action, "port"), &path.child("port"), errors),
            _ => sleep(action, grace, &path, errors),
        }
    }
    if !found {
        errors.push(Error::required(path, "must specify a handler type"));
    }
}

fn http_get(action: &Value, path: &Path<'_>, errors: &mut Errors) {
    required(action, "path", path, errors);
    port_or_name(action, "port", path, errors);
    one_of(action, "scheme", &["HTTP", "HTTPS"], path, errors);
    for header in tree::list(action, "httpHeaders") {
        let name = tree::text(header, "name");
        invalid_each(&path.child("httpHeaders"), name, names::http_header(name), errors);
    }
}

fn sleep(action: &Value, grace: Option<i64>, path: &Path<'_>, errors: &mut Errors) {
    let (seconds, grace) = (tree::int(action, "seconds"), grace.unwrap_or(i64::MAX));
    if seconds < 0 || seconds > grace {
        let detail =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(Error::invalid(path, seconds, detail));
    }
}
