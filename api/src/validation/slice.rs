//! Slices of the devices that there are.

use serde_json::Value;

use super::devices::{binding_conditions, distinct, each, effect, identifier, pool_name};
use super::meta::{self, Scope};
use super::volume_plugins::csi_driver;
use super::{Errors, affinity, immutable, invalid_each, label, names, qualified, subdomain};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const DEVICES_MAX: usize = 128;
/// Where devices have taints, use counters, or have lists as attributes.
const RICH_DEVICES_MAX: usize = 64;
const ATTRIBUTES_MAX: usize = 32;
const ATTRIBUTE_BYTES_MAX: usize = 64;
const TAINTS_MAX: usize = 16;
const COUNTER_SETS_MAX: usize = 8;
const COUNTERS_MAX: usize = 32;
const CONSUMPTIONS_MAX: usize = 2;
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

/// Checks a new slice.
pub(crate) fn create(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    spec(tree::get(object, "spec"), None, errors);
}

/// Checks a changed slice: of what driver, pool and node it is stays.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    spec(tree::get(new, "spec"), Some(tree::get(old, "spec")), errors);
}

fn spec(spec: &Value, old: Option<&Value>, errors: &mut Errors) {
    csi_driver(tree::text(spec, "driver"), &SPEC.child("driver"), errors);
    let pool = tree::get(spec, "pool");
    let path = SPEC.child("pool");
    pool_name(tree::text(pool, "name"), &path.child("name"), errors);
    let count = tree::int(pool, "resourceSliceCount");
    if count <= 0 {
        let path = path.child("resourceSliceCount");
        errors.push(Error::invalid(&path, count, "must be greater than zero"));
    }
    let generation = tree::int(pool, "generation");
    if generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.push(Error::invalid(&path.child("generation"), generation, detail));
    }
    if let Some(old) = old {
        immutable(pool, tree::get(old, "pool"), "name", &path, errors);
        immutable(spec, old, "driver", &SPEC, errors);
        immutable(spec, old, "nodeName", &SPEC, errors);
    }
    nodes(spec, errors);
    if tree::has(spec, "sharedCounters") && tree::has(spec, "devices") {
        let detail = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(Error::invalid(&SPEC, "", detail));
    }
    let all = tree::list(spec, "devices");
    let most = if all.iter().any(is_rich) { RICH_DEVICES_MAX } else { DEVICES_MAX };
    let per_device = tree::flag(spec, "perDeviceNodeSelection");
    let name = |one: &Value| tree::text(one, "name").to_owned();
    if each(spec, "devices", most, &SPEC, errors, |one, path, errors| {
        device(one, per_device, path, errors);
    }) {
        distinct(spec, "devices", &SPEC, errors, name);
    }
    let list = "sharedCounters";
    if each(spec, list, COUNTER_SETS_MAX, &SPEC, errors, |set, path, errors| {
        counters(set, "name", path, errors);
    }) {
        distinct(spec, list, &SPEC, errors, name);
    }
}

fn is_rich(device: &Value) -> bool {
    let lists =
        |(_, attribute): (&String, &Value)| LISTS.iter().any(|list| tree::has(attribute, list));
    ["taints", "consumesCounters"].iter().any(|list| !tree::list(device, list).is_empty())
        || tree::entries(device, "attributes").any(lists)
}

/// Exactly one way to say where the devices are.
fn nodes(spec: &Value, errors: &mut Errors) {
    let mut set = Vec::new();
    if let Some(node) = tree::text_opt(spec, "nodeName") {
        let path = SPEC.child("nodeName");
        if node.is_empty() {
            let detail = "must be either unset or set to a non-empty string";
            errors.push(Error::invalid(&path, "", detail));
        } else {
            set.push("`nodeName`");
            subdomain(node, &path, errors);
        }
    }
    let selector = tree::get(spec, "nodeSelector");
    if !selector.is_null() {
        set.push("`nodeSelector`");
        let path = SPEC.child("nodeSelector");
        affinity::node_selector(selector, &path, errors);
        let terms = tree::list(selector, "nodeSelectorTerms");
        if terms.len() != 1 {
            let detail = "must have exactly one node selector term";
            errors.push(Error::invalid(&path.child("nodeSelectorTerms"), terms.to_vec(), detail));
        }
    }
    for (name, shown) in
        [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        match tree::flag_opt(spec, name) {
            Some(true) => set.push(shown),
            Some(false) => {
                let detail = "must be either unset or set to true";
                errors.push(Error::invalid(&SPEC.child(name), false, detail));
            }
            None => {}
        }
    }
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is \
               required";
    match set.len() {
        0 => errors.push(Error::required(&SPEC, one)),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            let detail = format!("{one}, but multiple fields are set");
            errors.push(Error::invalid(&SPEC, shown, detail));
        }
    }
}

fn device(device: &Value, per_device: bool, path: &Path<'_>, errors: &mut Errors) {
    label(tree::text(device, "name"), &path.child("name"), errors);
    let count =
        tree::entries(device, "attributes").count() + tree::entries(device, "capacity").count();
    if count > ATTRIBUTES_MAX {
        let detail = format!(
            "the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}"
        );
        errors.push(Error::invalid(path, count, detail));
    }
    let own = path.child("attributes");
    for (name, value) in tree::entries(device, "attributes") {
        identifier(name, &own, errors);
        attribute(value, &own.key(name), errors);
    }
    let own = path.child("capacity");
    for (name, value) in tree::entries(device, "capacity") {
        identifier(name, &own, errors);
        if tree::has(value, "requestPolicy") && !tree::flag(device, "allowMultipleAllocations") {
            let path = own.key(name);
            let detail = "allowMultipleAllocations must be true";
            errors.push(Error::forbidden(&path.child("requestPolicy"), detail));
        }
    }
    each(device, "taints", TAINTS_MAX, path, errors, taint);
    let list = "consumesCounters";
    if each(device, list, CONSUMPTIONS_MAX, path, errors, |set, path, errors| {
        counters(set, "counterSet", path, errors);
    }) {
        let key = |one: &Value| tree::text(one, "counterSet").to_owned();
        distinct(device, list, path, errors, key);
    }
    device_node(device, per_device, path, errors);
    binding_conditions(device, path, errors);
}

fn device_node(device: &Value, per_device: bool, path: &Path<'_>, errors: &mut Errors) {
    let set: Vec<&str> = ["nodeName", "nodeSelector", "allNodes"]
        .into_iter()
        .filter(|name| tree::has(device, name))
        .collect();
    if !per_device {
        if !set.is_empty() {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if \
                          `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.push(Error::invalid(path, Value::Null, detail));
        }
        return;
    }
    if let Some(node) = tree::text_opt(device, "nodeName") {
        let path = path.child("nodeName");
        if node.is_empty() {
            errors.push(Error::invalid(&path, "", "must not be empty"));
        } else {
            subdomain(node, &path, errors);
        }
    }
    let selector = tree::get(device, "nodeSelector");
    if !selector.is_null() {
        affinity::node_selector(selector, &path.child("nodeSelector"), errors);
    }
    if tree::flag_opt(device, "allNodes") == Some(false) {
        let detail = "must be either unset or set to true";
        errors.push(Error::invalid(&path.child("allNodes"), false, detail));
    }
    let detail = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
                  `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    match set.as_slice() {
        [] => errors.push(Error::required(path, detail)),
        [_] => {}
        _ => {
            let shown: Vec<String> = set.iter().map(|name| format!("`{name}`")).collect();
            errors.push(Error::invalid(path, format!("{{{}}}", shown.join(", ")), detail));
        }
    }
}

fn attribute(attribute: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (one, many) in [("string", "strings"), ("version", "versions")] {
        if let Some(text) = tree::text_opt(attribute, one) {
            attribute_text(text, one == "version", &path.child(one), errors);
        }
        let own = path.child(many);
        for (i, text) in tree::texts(attribute, many).enumerate() {
            attribute_text(text, one == "version", &own.index(i), errors);
        }
    }
    for list in LISTS {
        let value = tree::get(attribute, list);
        if value.as_array().is_some_and(Vec::is_empty) {
            let detail = "must not be empty if specified";
            errors.push(Error::invalid(&path.child(list), value.clone(), detail));
        }
    }
    let names = ["bool", "int", "string", "version"].iter().chain(&LISTS);
    let set = names.filter(|name| tree::has(attribute, name)).count();
    if set != 1 {
        let shown = if set == 0 { Value::from("") } else { attribute.clone() };
        errors.push(Error::invalid(path, shown, "exactly one value must be specified"));
    }
}

fn attribute_text(text: &str, is_version: bool, path: &Path<'_>, errors: &mut Errors) {
    if is_version && !is_semantic_version(text) {
        let detail = "must be a string compatible with semver.org spec 2.0.0";
        errors.push(Error::invalid(path, text, detail));
    }
    if text.len() > ATTRIBUTE_BYTES_MAX {
        errors.push(Error::too_long(path, ATTRIBUTE_BYTES_MAX));
    }
}

/// `1.2.3-alpha.1+build.5`.
fn is_semantic_version(text: &str) -> bool {
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let (rest, build) = match text.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (text, None),
    };
    let (core, release) = match rest.split_once('-') {
        Some((core, release)) => (core, Some(release)),
        None => (rest, None),
    };
    let early =
        |part: &str| word(part) && (number(part) || !part.bytes().all(|b| b.is_ascii_digit()));
    core.split('.').count() == 3
        && core.split('.').all(number)
        && release.is_none_or(|release| release.split('.').all(early))
        && build.is_none_or(|build| build.split('.').all(word))
}

fn taint(taint: &Value, path: &Path<'_>, errors: &mut Errors) {
    qualified(tree::text(taint, "key"), &path.child("key"), errors);
    let value = tree::text(taint, "value");
    invalid_each(&path.child("value"), value, names::label_value(value), errors);
    effect(taint, true, path, errors);
}

/// A set of counters with its name.
fn counters(set: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    let own = path.child(name);
    match tree::text(set, name) {
        "" => errors.push(Error::required(&own, "")),
        text => label(text, &own, errors),
    }
    let own = path.child("counters");
    let count = tree::entries(set, "counters").count();
    if count == 0 {
        errors.push(Error::required(&own, ""));
    } else if count > COUNTERS_MAX {
        errors.push(Error::too_many(&own, count, COUNTERS_MAX));
    } else {
        for (counter, _) in tree::entries(set, "counters") {
            label(counter, &own, errors);
        }
    }
}
