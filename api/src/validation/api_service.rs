//! API services: group versions that this server serves itself, and those that others would.

use base64::Engine as _;
use serde_json::Value;

use super::meta::{self, Scope};
use super::{Errors, invalid_each, names, required};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const GROUP_PRIORITY_MAX: i64 = 20_000;
const VERSION_PRIORITY_MAX: i64 = 1_000;
/// Why one with a service is refused.
const NOT_FORWARDED: &str = "requests are not forwarded to extension servers by this server yet: \
    an API service with a service would never answer, so that it is refused";

/// Checks a new API service.
pub(crate) fn create(object: &Value, errors: &mut Errors) {
    let before = errors.len();
    let spec = tree::get(object, "spec");
    let (group, version) = (tree::text(spec, "group"), tree::text(spec, "version"));
    meta::object(object, Scope::Cluster, names::path_segment, errors);
    let name = tree::text(tree::get(object, "metadata"), "name");
    let wanted = format!("{version}.{group}");
    if !name.is_empty() && names::path_segment(name).is_empty() && name != wanted {
        let path = Path::new("metadata");
        let shown = crate::text::quote(&wanted);
        let detail = format!("must be `spec.version+\".\"+spec.group`: {shown}");
        errors.push(Error::invalid(&path.child("name"), name, detail));
    }
    if group.is_empty() && version != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        errors.push(Error::required(&SPEC.child("group"), detail));
    }
    if !group.is_empty() {
        invalid_each(&SPEC.child("group"), group, names::dns1123_subdomain(group), errors);
    }
    invalid_each(&SPEC.child("version"), version, names::dns1035_label(version), errors);
    for (name, most) in
        [("groupPriorityMinimum", GROUP_PRIORITY_MAX), ("versionPriority", VERSION_PRIORITY_MAX)]
    {
        let number = tree::int(spec, name);
        if number <= 0 || number > most {
            let detail = format!("must be positive and less than {most}");
            errors.push(Error::invalid(&SPEC.child(name), number, detail));
        }
    }
    let service = tree::get(spec, "service");
    if service.is_null() {
        local(spec, errors);
        return;
    }
    remote(spec, service, errors);
    if errors.len() == before {
        errors.push(Error::forbidden(&SPEC.child("service"), NOT_FORWARDED));
    }
}

fn local(spec: &Value, errors: &mut Errors) {
    let bundle = tree::text(spec, "caBundle");
    if !bundle.is_empty() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(bundle);
        let shown = format!("{} bytes", bytes.map_or(0, |bytes| bytes.len()));
        let detail = "local APIServices may not have a caBundle";
        errors.push(Error::invalid(&SPEC.child("caBundle"), shown, detail));
    }
    if tree::flag(spec, "insecureSkipTLSVerify") {
        let detail = "local APIServices may not have insecureSkipTLSVerify";
        errors.push(Error::invalid(&SPEC.child("insecureSkipTLSVerify"), true, detail));
    }
}

fn remote(spec: &Value, service: &Value, errors: &mut Errors) {
    let path = SPEC.child("service");
    required(service, "namespace", &path, errors);
    required(service, "name", &path, errors);
    let port = tree::int(service, "port");
    let problems = names::port_number(port);
    if !problems.is_empty() {
        let detail = format!("port is not valid: {}", problems.join(", "));
        errors.push(Error::invalid(&path.child("port"), port, detail));
    }
    if tree::flag(spec, "insecureSkipTLSVerify") && !tree::text(spec, "caBundle").is_empty() {
        let detail = "may not be true if caBundle is present";
        errors.push(Error::invalid(&SPEC.child("insecureSkipTLSVerify"), true, detail));
    }
}

/// Checks a changed API service.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    create(new, errors);
}

/// Checks a write to the status of an API service.
pub(crate) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let path = Path::new("status");
    let path = path.child("conditions");
    let known = ["True", "False", "Unknown"];
    for (i, one) in tree::list(tree::get(new, "status"), "conditions").iter().enumerate() {
        let status = tree::text(one, "status");
        if !known.contains(&status) {
            errors.push(Error::not_supported(&path.index(i).child("status"), status, &known));
        }
    }
}
