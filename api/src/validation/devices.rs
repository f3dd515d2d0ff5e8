//! Claims of devices, templates and classes of them. Expressions (CEL) are not compiled.

use serde_json::Value;

use super::meta::{self, Scope};
use super::volume_plugins::csi_driver;
use super::{Errors, IMMUTABLE, affinity, conditions, invalid_each, label, names, qualified};
use super::{resources, subdomain};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
/// Requests, constraints, selectors, configurations and results of one claim.
const LIST_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const RESERVED_FOR_MAX: usize = 256;
const BINDING_CONDITIONS_MAX: usize = 4;
const DEVICE_CONDITIONS_MAX: usize = 8;
const BYTES_MAX: usize = 10 * 1024;
const POOL_MAX: usize = 253;
const IDENTIFIER_MAX: usize = 32;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];
const NO_SUCH_REQUEST: &str = "must be the name of a request in the claim or the name of a request \
    and a subrequest separated by '/'";

/// Checks each item, unless there are too many of them; says whether they were checked.
pub(super) fn each(
    holder: &Value,
    list: &str,
    most: usize,
    path: &Path<'_>,
    errors: &mut Errors,
    check: impl Fn(&Value, &Path<'_>, &mut Errors),
) -> bool {
    let path = path.child(list);
    let items = tree::list(holder, list);
    if items.len() > most {
        errors.push(Error::too_many(&path, items.len(), most));
        return false;
    }
    for (i, item) in items.iter().enumerate() {
        check(item, &path.index(i), errors);
    }
    true
}

/// No two items have the same key.
pub(super) fn distinct(
    holder: &Value,
    list: &str,
    path: &Path<'_>,
    errors: &mut Errors,
    key: impl Fn(&Value) -> String,
) {
    let path = path.child(list);
    let mut seen = Vec::new();
    for (i, item) in tree::list(holder, list).iter().enumerate() {
        let key = key(item);
        if seen.contains(&key) {
            errors.push(Error::duplicate(&path.index(i), key));
        } else {
            seen.push(key);
        }
    }
}

fn own_name(item: &Value) -> String {
    tree::text(item, "name").to_owned()
}

fn own_text(item: &Value) -> String {
    item.as_str().unwrap_or_default().to_owned()
}

// === claims ===

/// Checks a new claim.
pub(crate) fn claim(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    claim_spec(tree::get(object, "spec"), &SPEC, errors);
}

/// Checks a changed claim: it stays.
pub(crate) fn claim_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::object(new, Scope::Namespaced, names::dns1123_subdomain, errors);
    meta::update(new, old, errors);
    super::immutable(new, old, "spec", &Path::new(""), errors);
}

fn claim_spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let devices = tree::get(spec, "devices");
    let path = path.child("devices");
    if each(devices, "requests", LIST_MAX, &path, errors, request) {
        distinct(devices, "requests", &path, errors, own_name);
    }
    each(devices, "constraints", LIST_MAX, &path, errors, |one, path, errors| {
        references(one, devices, path, errors);
        constraint(one, path, errors);
    });
    each(devices, "config", LIST_MAX, &path, errors, |one, path, errors| {
        references(one, devices, path, errors);
        configuration(one, path, errors);
    });
}

fn request(request: &Value, path: &Path<'_>, errors: &mut Errors) {
    label(tree::text(request, "name"), &path.child("name"), errors);
    let exactly = tree::get(request, "exactly");
    let some = !tree::list(request, "firstAvailable").is_empty();
    match (exactly.is_null(), some) {
        (true, false) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required";
            errors.push(Error::required(path, detail));
        }
        (false, true) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple \
                          fields are set";
            errors.push(Error::invalid(path, Value::Null, detail));
        }
        (false, false) => what(exactly, &path.child("exactly"), errors),
        (true, true) => {
            let list = "firstAvailable";
            if each(request, list, ALTERNATIVES_MAX, path, errors, |one, path, errors| {
                label(tree::text(one, "name"), &path.child("name"), errors);
                what(one, path, errors);
            }) {
                distinct(request, list, path, errors, own_name);
            }
        }
    }
}

/// Which devices, and how many of them.
fn what(request: &Value, path: &Path<'_>, errors: &mut Errors) {
    let own = path.child("deviceClassName");
    match tree::text(request, "deviceClassName") {
        "" => errors.push(Error::required(&own, "")),
        class => subdomain(class, &own, errors),
    }
    each(request, "selectors", LIST_MAX, path, errors, device_selector);
    let count = tree::int(request, "count");
    let own = path.child("count");
    match tree::text(request, "allocationMode") {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.push(Error::invalid(&own, count, detail));
        }
        "ExactCount" if count <= 0 => {
            errors.push(Error::invalid(&own, count, "must be greater than zero"));
        }
        "All" | "ExactCount" => {}
        mode => {
            let path = path.child("allocationMode");
            errors.push(Error::not_supported(&path, mode, &["All", "ExactCount"]));
        }
    }
    tolerations(request, path, errors);
}

fn device_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    let cel = tree::get(selector, "cel");
    let path = path.child("cel");
    if cel.is_null() {
        errors.push(Error::required(&path, ""));
    } else if tree::text(cel, "expression").len() > BYTES_MAX {
        errors.push(Error::too_long(&path.child("expression"), BYTES_MAX));
    }
}

fn tolerations(holder: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("tolerations");
    for (i, one) in tree::list(holder, "tolerations").iter().enumerate() {
        let path = list.index(i);
        let (key, value) = (tree::text(one, "key"), tree::text(one, "value"));
        if !key.is_empty() {
            qualified(key, &path.child("key"), errors);
        }
        let own = path.child("operator");
        match tree::text(one, "operator") {
            "Exists" if !value.is_empty() => {
                let detail = "must be empty for operator `Exists`";
                errors.push(Error::invalid(&path.child("value"), value, detail));
            }
            "Exists" => {}
            "Equal" => {
                invalid_each(&path.child("value"), value, names::label_value(value), errors);
            }
            "" => errors.push(Error::required(&own, "")),
            other => errors.push(Error::not_supported(&own, other, &["Equal", "Exists"])),
        }
        effect(one, false, &path, errors);
    }
}

/// What a taint does.
pub(super) fn effect(holder: &Value, demanded: bool, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("effect");
    match tree::text(holder, "effect") {
        "" if demanded => errors.push(Error::required(&path, "")),
        "" => {}
        effect if EFFECTS.contains(&effect) => {}
        effect => errors.push(Error::not_supported(&path, effect, &EFFECTS)),
    }
}

/// The requests of the claim that something is about.
fn references(holder: &Value, devices: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = "requests";
    if each(holder, list, LIST_MAX, path, errors, |one, path, errors| {
        reference(one.as_str().unwrap_or_default(), devices, path, errors);
    }) {
        distinct(holder, list, path, errors, own_text);
    }
}

fn reference(name: &str, devices: &Value, path: &Path<'_>, errors: &mut Errors) {
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 2 {
        errors.push(Error::invalid(path, name, NO_SUCH_REQUEST));
        return;
    }
    for part in &parts {
        label(part, path, errors);
    }
    let named = |holder: &Value, list: &str, name: &str| {
        tree::list(holder, list).iter().position(|one| tree::text(one, "name") == name)
    };
    let found = named(devices, "requests", parts[0]).is_some_and(|at| {
        let request = &tree::list(devices, "requests")[at];
        parts.get(1).is_none_or(|sub| named(request, "firstAvailable", sub).is_some())
    });
    if !found {
        errors.push(Error::invalid(path, name, NO_SUCH_REQUEST));
    }
}

fn constraint(constraint: &Value, path: &Path<'_>, errors: &mut Errors) {
    let set = ["matchAttribute", "distinctAttribute"]
        .into_iter()
        .find_map(|name| tree::text_opt(constraint, name).map(|text| (name, text)));
    let Some((name, attribute)) = set else {
        let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but \
                      multiple fields are set";
        errors.push(Error::required(path, detail));
        return;
    };
    let path = path.child(name);
    identifier(attribute, &path, errors);
    if !attribute.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(Error::invalid(&path, attribute, detail));
    }
}

/// The name of an attribute or a capacity: `name`, or `domain/name`.
pub(super) fn identifier(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let short = |name: &str, errors: &mut Errors| {
        if name.len() > IDENTIFIER_MAX {
            errors.push(Error::too_long(path, IDENTIFIER_MAX));
        }
        invalid_each(path, name, names::c_identifier(name), errors);
    };
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [own] => short(own, errors),
        [domain, own] => {
            if domain.is_empty() {
                errors.push(Error::invalid(path, "", "the domain must not be empty"));
            } else {
                csi_driver(domain, path, errors);
            }
            if own.is_empty() {
                errors.push(Error::invalid(path, "", "the name must not be empty"));
            } else {
                short(own, errors);
            }
        }
        // As upstream, which does not look at these.
        _ => {}
    }
}

fn configuration(config: &Value, path: &Path<'_>, errors: &mut Errors) {
    let opaque = tree::get(config, "opaque");
    let path = path.child("opaque");
    if opaque.is_null() {
        errors.push(Error::required(&path, ""));
        return;
    }
    csi_driver(tree::text(opaque, "driver"), &path.child("driver"), errors);
    raw(tree::get(opaque, "parameters"), &path.child("parameters"), errors);
}

/// An object that only a driver understands.
fn raw(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if value.is_null() {
        errors.push(Error::required(path, ""));
    } else if value.to_string().len() > BYTES_MAX {
        errors.push(Error::too_long(path, BYTES_MAX));
    } else if !value.is_object() {
        errors.push(Error::invalid(path, "<value omitted>", "must be a valid JSON object"));
    }
}

// === what a claim got ===

/// Checks a write to the status of a claim.
pub(crate) fn claim_status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let (after, before) = (tree::get(new, "status"), tree::get(old, "status"));
    let list = "reservedFor";
    if each(after, list, RESERVED_FOR_MAX, &STATUS, errors, |one, path, errors| {
        for name in ["resource", "name", "uid"] {
            super::required(one, name, path, errors);
        }
    }) {
        distinct(after, list, &STATUS, errors, |one| tree::text(one, "uid").to_owned());
    }
    let allocation = tree::get(after, "allocation");
    each(after, "devices", usize::MAX, &STATUS, errors, |one, path, errors| {
        device_status(one, allocation, path, errors);
    });
    distinct(after, "devices", &STATUS, errors, device_id);
    let path = STATUS.child(list);
    let deleted = tree::has(tree::get(new, "metadata"), "deletionTimestamp");
    let added = |one: &Value| !tree::list(before, list).contains(one);
    if !tree::list(after, list).is_empty() && allocation.is_null() {
        let detail = "may not be specified when `allocated` is not set";
        errors.push(Error::forbidden(&path, detail));
    } else if deleted && tree::list(after, list).iter().any(added) {
        let detail = "new entries may not be added while `deallocationRequested` or \
                      `deletionTimestamp` are set";
        errors.push(Error::forbidden(&path, detail));
    }
    let path = STATUS.child("allocation");
    let had = tree::get(before, "allocation");
    if allocation.is_null() {
        return;
    }
    if had.is_null() {
        result(allocation, tree::at(new, &["spec", "devices"]), &path, errors);
    } else if !tree::same(allocation, had) {
        errors.push(Error::invalid(&path, allocation.clone(), IMMUTABLE));
    }
}

fn device_id(device: &Value) -> String {
    let mut id = ["driver", "pool", "device"].map(|name| tree::text(device, name)).join("/");
    if let Some(share) = tree::text_opt(device, "shareID") {
        id.push('/');
        id.push_str(share);
    }
    id
}

fn device_status(device: &Value, allocation: &Value, path: &Path<'_>, errors: &mut Errors) {
    place(device, path, errors);
    let results = tree::list(tree::get(allocation, "devices"), "results");
    let id = device_id(device);
    if !results.iter().any(|one| device_id(one) == id) {
        errors.push(Error::invalid(path, id, "must be an allocated device in the claim"));
    }
    let conditions = tree::list(device, "conditions").len();
    if conditions > DEVICE_CONDITIONS_MAX {
        let path = path.child("conditions");
        errors.push(Error::too_many(&path, conditions, DEVICE_CONDITIONS_MAX));
    }
    conditions::conditions(device, path, errors);
    let data = tree::get(device, "data");
    if !data.is_null() {
        raw(data, &path.child("data"), errors);
    }
}

/// Where a device is: driver, pool, name.
fn place(device: &Value, path: &Path<'_>, errors: &mut Errors) {
    csi_driver(tree::text(device, "driver"), &path.child("driver"), errors);
    pool_name(tree::text(device, "pool"), &path.child("pool"), errors);
    label(tree::text(device, "device"), &path.child("device"), errors);
}

/// The name of a pool of devices.
pub(super) fn pool_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    if name.len() > POOL_MAX {
        errors.push(Error::too_long(path, POOL_MAX));
    }
    for part in name.split('/') {
        subdomain(part, path, errors);
    }
}

fn result(allocation: &Value, asked: &Value, path: &Path<'_>, errors: &mut Errors) {
    let devices = tree::get(allocation, "devices");
    let own = path.child("devices");
    each(devices, "results", LIST_MAX, &own, errors, |one, path, errors| {
        reference(tree::text(one, "request"), asked, &path.child("request"), errors);
        place(one, path, errors);
        binding_conditions(one, path, errors);
        tolerations(one, path, errors);
    });
    each(devices, "config", 2 * LIST_MAX, &own, errors, |one, path, errors| {
        let known = ["FromClaim", "FromClass"];
        super::one_of(one, "source", &known, path, errors);
        references(one, asked, path, errors);
        configuration(one, path, errors);
    });
    let nodes = tree::get(allocation, "nodeSelector");
    if !nodes.is_null() {
        affinity::node_selector(nodes, &path.child("nodeSelector"), errors);
    }
}

/// Conditions that a device waits for, and those that end the waiting.
pub(super) fn binding_conditions(holder: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (wanted, failed) = ("bindingConditions", "bindingFailureConditions");
    for list in [wanted, failed] {
        each(holder, list, BINDING_CONDITIONS_MAX, path, errors, |one, path, errors| {
            qualified(one.as_str().unwrap_or_default(), path, errors);
        });
        distinct(holder, list, path, errors, own_text);
    }
    let all: Vec<&str> = tree::texts(holder, wanted).collect();
    let own = path.child(failed);
    for (i, condition) in tree::texts(holder, failed).enumerate() {
        if all.contains(&condition) {
            let detail = "bindingFailureConditions must not overlap with bindingConditions";
            errors.push(Error::invalid(&own.index(i), condition, detail));
        }
    }
    for (name, other) in [(wanted, failed), (failed, wanted)] {
        if tree::list(holder, name).is_empty() && !tree::list(holder, other).is_empty() {
            let detail = format!("{name} are required to use {other}");
            let value = tree::get(holder, name).clone();
            errors.push(Error::invalid(&path.child(name), value, detail));
        }
    }
}

// === templates and classes ===

/// Checks a new template.
pub(crate) fn template(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    let spec = tree::get(object, "spec");
    super::volume::template_metadata(spec, &SPEC, errors);
    claim_spec(tree::get(spec, "spec"), &SPEC.child("spec"), errors);
}

/// Checks a changed template: it stays.
pub(crate) fn template_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    super::immutable(new, old, "spec", &Path::new(""), errors);
}

/// Checks a new class.
pub(crate) fn class(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    let spec = tree::get(object, "spec");
    each(spec, "selectors", LIST_MAX, &SPEC, errors, device_selector);
    each(spec, "config", LIST_MAX, &SPEC, errors, configuration);
    let name = "extendedResourceName";
    if let Some(resource) = tree::text_opt(spec, name).filter(|name| !resources::is_extended(name))
    {
        let detail = "must be a valid extended resource name";
        errors.push(Error::invalid(&SPEC.child(name), resource, detail));
    }
}

/// Checks a changed class.
pub(crate) fn class_update(new: &Value, old: &Value, errors: &mut Errors) {
    class(new, errors);
    meta::update(new, old, errors);
}
