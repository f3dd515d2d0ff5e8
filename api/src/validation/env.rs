//! Environment variables and where their values come from.

use serde_json::Value;

use super::{Errors, invalid_each, names, qualified, required, subdomain};
use crate::field::{Error, Path};
use crate::quantity::Quantity;
use crate::tree;

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SIZES: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
const ONE_ONLY: &str = "may not have more than one field specified at a time";

/// The variables of a container.
pub(super) fn variables(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("env");
    for (i, variable) in tree::list(container, "env").iter().enumerate() {
        let path = path.index(i);
        if required(variable, "name", &path, errors) {
            let name = tree::text(variable, "name");
            invalid_each(&path.child("name"), name, names::env_name(name), errors);
        }
        value_from(variable, &path.child("valueFrom"), errors);
    }
}

fn value_from(variable: &Value, path: &Path<'_>, errors: &mut Errors) {
    let source = tree::get(variable, "valueFrom");
    if source.is_null() {
        return;
    }
    let mut count = 0;
    let mut part = |name: &str| {
        let part = tree::get(source, name);
        count += usize::from(!part.is_null());
        (!part.is_null()).then_some(part)
    };
    if let Some(field) = part("fieldRef") {
        field_ref(field, &ENV_FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = part("resourceFieldRef") {
        resource_ref(resource, false, &path.child("resourceFieldRef"), errors);
    }
    for name in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(key) = part(name) {
            key_ref(key, &path.child(name), errors);
        }
    }
    if let Some(file) = part("fileKeyRef") {
        let path = path.child("fileKeyRef");
        for name in ["volumeName", "path", "key"] {
            required(file, name, &path, errors);
        }
    }
    if count == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, \
                      `secretKeyRef` or `fileKeyRef`";
        errors.push(Error::invalid(path, "", detail));
    } else if !tree::text(variable, "value").is_empty() {
        let detail = "may not be specified when `value` is not empty";
        errors.push(Error::invalid(path, "", detail));
    } else if count > 1 {
        errors.push(Error::invalid(path, "", ONE_ONLY));
    }
}

fn key_ref(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    subdomain(tree::text(source, "name"), &path.child("name"), errors);
    if required(source, "key", path, errors) {
        let key = tree::text(source, "key");
        invalid_each(&path.child("key"), key, names::config_key(key), errors);
    }
}

/// A field of the pod, by path; `fields` are those that may be used here, sorted.
pub(super) fn field_ref(source: &Value, fields: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if !required(source, "apiVersion", path, errors) || !required(source, "fieldPath", path, errors)
    {
        return;
    }
    let written = tree::text(source, "fieldPath");
    let version = tree::text(source, "apiVersion");
    let field = match convert_field(version, written) {
        Ok(field) => field,
        Err(reason) => {
            let detail = format!("error converting fieldPath: {reason}");
            errors.push(Error::invalid(&path.child("fieldPath"), written, detail));
            return;
        }
    };
    match subscript(field) {
        Some(("metadata.annotations", key)) => qualified(&key.to_lowercase(), path, errors),
        Some(("metadata.labels", key)) => qualified(key, path, errors),
        Some((other, _)) => {
            errors.push(Error::invalid(path, other, "does not support subscript"));
        }
        None if !fields.contains(&field) => {
            errors.push(Error::not_supported(&path.child("fieldPath"), field, fields));
        }
        None => {}
    }
}

/// Splits `metadata.labels['x']` into path and key.
fn subscript(field: &str) -> Option<(&str, &str)> {
    let (path, rest) = field.split_once("['")?;
    if path.is_empty() { None } else { Some((path, rest.strip_suffix("']")?)) }
}

fn convert_field<'a>(version: &str, field: &'a str) -> Result<&'a str, String> {
    if version != "v1" {
        return Err(format!("unsupported pod version: {version}"));
    }
    if let Some((path, _)) = subscript(field) {
        return match path {
            "metadata.annotations" | "metadata.labels" => Ok(field),
            _ => Err(format!("field label does not support subscript: {field}")),
        };
    }
    match field {
        "metadata.annotations"
        | "metadata.labels"
        | "metadata.name"
        | "metadata.namespace"
        | "metadata.uid"
        | "spec.nodeName"
        | "spec.restartPolicy"
        | "spec.serviceAccountName"
        | "spec.schedulerName"
        | "status.phase"
        | "status.hostIP"
        | "status.hostIPs"
        | "status.podIP"
        | "status.podIPs" => Ok(field),
        "spec.host" => Ok("spec.nodeName"),
        _ => Err(format!("field label not supported: {field}")),
    }
}

/// A resource of a container; volumes must name the container.
pub(super) fn resource_ref(source: &Value, volume: bool, path: &Path<'_>, errors: &mut Errors) {
    let resource = tree::text(source, "resource");
    let huge = ["requests.hugepages-", "limits.hugepages-"].iter().any(|p| resource.starts_with(p));
    if volume && tree::text(source, "containerName").is_empty() {
        errors.push(Error::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(Error::required(&path.child("resource"), ""));
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.push(Error::not_supported(&path.child("resource"), resource, &RESOURCES));
    }
    let divisor = Quantity::from_json(tree::get(source, "divisor")).unwrap_or_default();
    if divisor.is_zero() {
        return;
    }
    let divisor = divisor.to_string();
    let path = path.child("divisor");
    let size = SIZES.split(", ").any(|s| s == divisor);
    let kind = match resource {
        "limits.cpu" | "requests.cpu" => {
            if !matches!(divisor.as_str(), "1m" | "1") {
                let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.push(Error::invalid(&path, resource, detail));
            }
            return;
        }
        "limits.memory" | "requests.memory" => "memory",
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => "local ephemeral storage",
        _ if huge => "hugepages",
        _ => return,
    };
    if !size {
        let detail =
            format!("only divisor's values {SIZES} are supported with the {kind} resource");
        errors.push(Error::invalid(&path, resource, detail));
    }
}

/// Whole ConfigMaps and Secrets as variables.
pub(super) fn sources(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("envFrom");
    for (i, source) in tree::list(container, "envFrom").iter().enumerate() {
        let item = path.index(i);
        let prefix = tree::text(source, "prefix");
        if !prefix.is_empty() {
            invalid_each(&item.child("prefix"), prefix, names::env_name(prefix), errors);
        }
        let mut count = 0;
        for name in ["configMapRef", "secretRef"] {
            let reference = tree::get(source, name);
            if reference.is_null() {
                continue;
            }
            count += 1;
            let path = item.child(name);
            if required(reference, "name", &path, errors) {
                let name = tree::text(reference, "name");
                let problems = names::dns1123_subdomain(&names::as_prefix(name));
                invalid_each(&path.child("name"), name, problems, errors);
            }
        }
        if count == 0 {
            let detail = "must specify one of: `configMapRef` or `secretRef`";
            errors.push(Error::invalid(&path, "", detail));
        } else if count > 1 {
            errors.push(Error::invalid(&path, "", ONE_ONLY));
        }
    }
}
