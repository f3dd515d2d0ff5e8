//! The kinds of `storage.k8s.io` but for attachments, and runtime classes.

use serde_json::{Value, json};
use std::collections::BTreeSet;

use super::meta::{self, Scope};
use super::volume_plugins::csi_driver;
use super::{
    Errors, affinity, immutable, names, not_negative, one_of_if_set, qualified, resources,
    selector, subdomain,
};
use crate::field::{Error, Path};
use crate::quantity::Quantity;
use crate::tree;

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
const NODE_ID_MAX: usize = 256;
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
const UPDATE_PERIOD_SECONDS_MIN: i64 = 10;

const ROOT: Path<'static> = Path::new("");
const SPEC: Path<'static> = Path::new("spec");

fn provisioner(object: &Value, name: &str, errors: &mut Errors) {
    let path = Path::new(name);
    match tree::text(object, name) {
        "" => errors.push(Error::required(&path, "")),
        text => qualified(&text.to_lowercase(), &path, errors),
    }
}

fn parameters(object: &Value, may_be_empty: bool, errors: &mut Errors) {
    let path = Path::new("parameters");
    let before = errors.len();
    let mut size = 0;
    let mut count = 0;
    for (name, value) in tree::entries(object, "parameters") {
        if name.is_empty() {
            errors.push(Error::invalid(&path, name.as_str(), "field can not be empty."));
        }
        size += name.len() + value.as_str().map_or(0, str::len);
        count += 1;
    }
    if count > PARAMETERS_MAX {
        errors.truncate(before);
        errors.push(Error::too_long(&path, PARAMETERS_MAX));
        return;
    }
    if size > PARAMETERS_BYTES_MAX {
        errors.push(Error::too_long(&path, PARAMETERS_BYTES_MAX));
    }
    if count == 0 && !may_be_empty {
        errors.push(Error::required(&path, "must contain at least one key/value pair"));
    }
}

/// What a class was made with stays.
fn stays(new: &Value, old: &Value, name: &str, errors: &mut Errors) {
    if !tree::same(tree::get(new, name), tree::get(old, name)) {
        let detail = format!("updates to {name} are forbidden.");
        errors.push(Error::forbidden(&Path::new(name), detail));
    }
}

// === classes of volumes ===

/// Checks a new storage class.
pub(crate) fn class(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    provisioner(object, "provisioner", errors);
    parameters(object, true, errors);
    let name = "reclaimPolicy";
    if !tree::text(object, name).is_empty() {
        one_of_if_set(object, name, &["Delete", "Retain"], &ROOT, errors);
    }
    let name = "volumeBindingMode";
    if tree::has(object, name) {
        one_of_if_set(object, name, &["Immediate", "WaitForFirstConsumer"], &ROOT, errors);
    } else {
        errors.push(Error::required(&Path::new(name), ""));
    }
    topologies(tree::list(object, "allowedTopologies"), errors);
}

fn topologies(terms: &[Value], errors: &mut Errors) {
    let root = Path::new("allowedTopologies");
    // Upstream begins with as many empty ones as there are terms: an empty term is a duplicate of each.
    let mut seen: Vec<Vec<(&str, BTreeSet<&str>)>> = vec![Vec::new(); terms.len()];
    for (i, term) in terms.iter().enumerate() {
        let path = root.index(i);
        let path = path.child("matchLabelExpressions");
        let mut found: Vec<(&str, BTreeSet<&str>)> = Vec::new();
        for (j, expression) in tree::list(term, "matchLabelExpressions").iter().enumerate() {
            let path = path.index(j);
            let key = tree::text(expression, "key");
            let values = path.child("values");
            if tree::list(expression, "values").is_empty() {
                errors.push(Error::required(&values, ""));
            }
            let mut set = BTreeSet::new();
            for (k, value) in tree::texts(expression, "values").enumerate() {
                if !set.insert(value) {
                    errors.push(Error::duplicate(&values.index(k), value));
                }
            }
            qualified(key, &path.child("key"), errors);
            if found.iter().any(|(other, _)| *other == key) {
                errors.push(Error::duplicate(&path.child("key"), key));
            }
            found.push((key, set));
        }
        found.sort();
        for _ in seen.iter().filter(|other| **other == found) {
            errors.push(Error::duplicate(&path, ""));
        }
        seen.push(found);
    }
}

/// Checks a changed storage class.
pub(crate) fn class_update(new: &Value, old: &Value, errors: &mut Errors) {
    class(new, errors);
    meta::update(new, old, errors);
    for name in ["parameters", "provisioner", "reclaimPolicy"] {
        stays(new, old, name, errors);
    }
    immutable(new, old, "volumeBindingMode", &ROOT, errors);
}

/// Checks a new class of attributes.
pub(crate) fn attributes(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    provisioner(object, "driverName", errors);
    parameters(object, false, errors);
}

/// Checks a changed class of attributes: it stays.
pub(crate) fn attributes_update(new: &Value, old: &Value, errors: &mut Errors) {
    attributes(new, errors);
    meta::update(new, old, errors);
    for name in ["driverName", "parameters"] {
        stays(new, old, name, errors);
    }
    attributes(new, errors);
}

// === CSI ===

/// Checks a new driver.
pub(crate) fn driver(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    driver_spec(tree::get(object, "spec"), errors);
}

fn driver_spec(spec: &Value, errors: &mut Errors) {
    // Upstream's path for `attachRequired` is this one.
    for (name, shown) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !tree::has(spec, name) {
            errors.push(Error::required(&SPEC.child(shown), ""));
        }
    }
    let known = ["File", "None", "ReadWriteOnceWithFSType"];
    one_of_if_set(spec, "fsGroupPolicy", &known, &SPEC, errors);
    token_requests(spec, errors);
    let known = ["Persistent", "Ephemeral"];
    for mode in tree::texts(spec, "volumeLifecycleModes").filter(|mode| !known.contains(mode)) {
        errors.push(Error::not_supported(&SPEC.child("volumeLifecycleModes"), mode, &known));
    }
    if !tree::has(spec, "seLinuxMount") {
        errors.push(Error::required(&SPEC.child("seLinuxMount"), ""));
    }
    let name = "nodeAllocatableUpdatePeriodSeconds";
    if let Some(seconds) = tree::int_opt(spec, name).filter(|s| *s < UPDATE_PERIOD_SECONDS_MIN) {
        let detail = "must be greater than or equal to 10 seconds";
        errors.push(Error::invalid(&SPEC.child(name), seconds, detail));
    }
    let name = "serviceAccountTokenInSecrets";
    if tree::has(spec, name) && tree::list(spec, "tokenRequests").is_empty() {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        let value = tree::get(spec, name).clone();
        errors.push(Error::invalid(&SPEC.child(name), value, detail));
    }
}

fn token_requests(spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("tokenRequests");
    let mut seen = Vec::new();
    for (i, request) in tree::list(spec, "tokenRequests").iter().enumerate() {
        let path = list.index(i);
        let audience = tree::text(request, "audience");
        if seen.contains(&audience) {
            errors.push(Error::duplicate(&path.child("audience"), audience));
            continue;
        }
        seen.push(audience);
        let Some(seconds) = tree::int_opt(request, "expirationSeconds") else { continue };
        let path = path.child("expirationSeconds");
        if seconds < TOKEN_SECONDS_MIN {
            let detail = "may not specify a duration less than 10 minutes";
            errors.push(Error::invalid(&path, seconds, detail));
        }
        if seconds > TOKEN_SECONDS_MAX {
            let detail = "may not specify a duration larger than 2^32 seconds";
            errors.push(Error::invalid(&path, seconds, detail));
        }
    }
}

/// Checks a changed driver.
pub(crate) fn driver_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    driver_spec(after, errors);
    for (name, shown) in
        [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
    {
        let value = tree::get(after, name);
        if !tree::same(value, tree::get(before, name)) {
            errors.push(Error::invalid(&SPEC.child(shown), value.clone(), super::IMMUTABLE));
        }
    }
}

/// Checks what drivers a new node has.
pub(crate) fn node(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    let list = SPEC.child("drivers");
    let mut seen = Vec::new();
    for (i, driver) in tree::list(tree::get(object, "spec"), "drivers").iter().enumerate() {
        let path = list.index(i);
        let name = tree::text(driver, "name");
        csi_driver(name, &path.child("name"), errors);
        let id = tree::text(driver, "nodeID");
        let id_path = path.child("nodeID");
        if id.is_empty() {
            errors.push(Error::required(&id_path, ""));
        }
        if id.len() > NODE_ID_MAX {
            let detail = format!("must be {NODE_ID_MAX} characters or less");
            errors.push(Error::invalid(&id_path, id, detail));
        }
        let allocatable = tree::get(driver, "allocatable");
        not_negative(allocatable, "count", &path.child("allocatable"), errors);
        if seen.contains(&name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        seen.push(name);
        let mut keys = Vec::new();
        for key in tree::texts(driver, "topologyKeys") {
            if key.is_empty() {
                errors.push(Error::required(&path, ""));
            }
            if keys.contains(&key) {
                errors.push(Error::duplicate(&path, key));
            }
            keys.push(key);
            qualified(key, &path, errors);
        }
    }
}

/// Checks a change of what drivers a node has: each stays as it is, but for how many volumes it takes.
pub(crate) fn node_update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    node(new, errors);
    let drivers = |object| tree::list(tree::get(object, "spec"), "drivers");
    let bare = |driver: &Value| {
        let mut driver = driver.clone();
        tree::remove(&mut driver, "allocatable");
        driver
    };
    for before in drivers(old) {
        let name = tree::text(before, "name");
        for after in drivers(new).iter().filter(|driver| tree::text(driver, "name") == name) {
            let after = bare(after);
            if !tree::same(&after, &bare(before)) {
                errors.push(Error::invalid(&SPEC.child("drivers"), after, super::IMMUTABLE));
            }
        }
    }
}

/// Checks a new capacity.
pub(crate) fn capacity(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Namespaced, names::dns1123_subdomain, errors);
    let topology = tree::get(object, "nodeTopology");
    selector::label_selector(topology, &Path::new("nodeTopology"), errors);
    let class = tree::text(object, "storageClassName");
    subdomain(class, &Path::new("storageClassName"), errors);
    let amount = Quantity::from_json(tree::get(object, "capacity")).unwrap_or_default();
    if amount.sign() < 0 {
        let path = Path::new("capacity");
        errors.push(Error::invalid(&path, amount.to_string(), super::NOT_NEGATIVE));
    }
}

/// Checks a changed capacity: what it is of stays.
pub(crate) fn capacity_update(new: &Value, old: &Value, errors: &mut Errors) {
    capacity(new, errors);
    meta::update(new, old, errors);
    for name in ["nodeTopology", "storageClassName"] {
        immutable(new, old, name, &ROOT, errors);
    }
}

// === runtime classes ===

/// Checks a new runtime class.
pub(crate) fn runtime(object: &Value, errors: &mut Errors) {
    meta::object(object, Scope::Cluster, names::dns1123_subdomain, errors);
    super::label(tree::text(object, "handler"), &Path::new("handler"), errors);
    let overhead = tree::get(object, "overhead");
    if !overhead.is_null() {
        // Checked as the limits of a container are, and told as such.
        let limits = json!({"limits": tree::get(overhead, "podFixed")});
        resources::requirements(&limits, &[], &Path::new("overhead"), errors);
    }
    let scheduling = tree::get(object, "scheduling");
    let path = Path::new("scheduling");
    let nodes = tree::get(scheduling, "nodeSelector");
    meta::labels(nodes, &path.child("nodeSelector"), errors);
    affinity::tolerations(scheduling, &path, errors);
}

/// Checks a changed runtime class: its handler stays.
pub(crate) fn runtime_update(new: &Value, old: &Value, errors: &mut Errors) {
    runtime(new, errors);
    meta::update(new, old, errors);
    immutable(new, old, "handler", &ROOT, errors);
}
