//! What may change in a pod, in its status, and through its other subresources.

use serde_json::{Value, json};

use super::pod::{APPARMOR, MIRROR, metadata_and_spec, pod_annotations};
use super::{Errors, affinity, invalid_each, ip, meta, names, qualified};
use crate::field::{Error, Path};
use crate::strategy::pod::qos_class;
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const UPDATABLE: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks a changed pod.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    metadata_and_spec(new, errors);
    annotation_changes(new, old, errors);
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    for list in ["containers", "initContainers"] {
        if !images(after, before, list, errors) {
            return;
        }
    }
    if !deadline(after, before, errors) {
        return;
    }
    only_added_tolerations(after, before, errors);
    only_removed_gates(after, before, errors);
    if tree::same(after, before) {
        return;
    }
    if qos_class(new) != qos_class(old) {
        let class = tree::text(tree::get(new, "status"), "qosClass");
        let path = Path::new("metadata");
        errors.push(Error::invalid(&path, class, "Pod QoS is immutable"));
    }
    let changed = differences(&munged(after, before, errors), before);
    if !changed.is_empty() {
        errors.push(Error::forbidden(&SPEC, format!("{UPDATABLE}\n{changed}")));
    }
}

/// Images may change, the number of containers may not; says whether to go on.
fn images(after: &Value, before: &Value, list: &str, errors: &mut Errors) -> bool {
    let path = SPEC.child(list);
    let containers = tree::list(after, list);
    if containers.len() != tree::list(before, list).len() {
        errors.push(Error::forbidden(&path, "pod updates may not add or remove containers"));
        return false;
    }
    for (i, container) in containers.iter().enumerate() {
        let item = path.index(i);
        if tree::text(container, "image").is_empty() {
            errors.push(Error::required(&item.child("image"), ""));
        }
        super::container::image_spacing(container, &item, errors);
    }
    true
}

/// The deadline may be set once and then only be shortened; says whether to go on.
fn deadline(after: &Value, before: &Value, errors: &mut Errors) -> bool {
    let name = "activeDeadlineSeconds";
    let path = SPEC.child(name);
    let most = i64::from(i32::MAX);
    match (tree::int_opt(after, name), tree::int_opt(before, name)) {
        (Some(new), _) if !(0..=most).contains(&new) => {
            errors.push(Error::invalid(&path, new, names::range(0, most)));
            false
        }
        (Some(new), Some(old)) if old < new => {
            let detail = "must be less than or equal to previous value";
            errors.push(Error::invalid(&path, new, detail));
            false
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(Error::invalid(&path, Value::Null, detail));
            true
        }
        (Some(_) | None, _) => true,
    }
}

fn only_added_tolerations(after: &Value, before: &Value, errors: &mut Errors) {
    let path = SPEC.child("tolerations");
    let new = tree::list(after, "tolerations");
    for old in tree::list(before, "tolerations") {
        let kept = new.iter().any(|n| {
            let mut old = old.clone();
            tree::copy(n, &mut old, "tolerationSeconds");
            tree::same(&old, n)
        });
        if !kept {
            let detail = "existing toleration can not be modified except its tolerationSeconds";
            errors.push(Error::forbidden(&path, detail));
            return;
        }
    }
    affinity::tolerations(after, &SPEC, errors);
}

fn only_removed_gates(after: &Value, before: &Value, errors: &mut Errors) {
    let path = SPEC.child("schedulingGates");
    let names = |spec| tree::list(spec, "schedulingGates").iter().map(|g| tree::text(g, "name"));
    let old: Vec<&str> = names(before).collect();
    for (i, gate) in names(after).enumerate() {
        if !old.contains(&gate) {
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{gate}'");
            errors.push(Error::forbidden(&path.index(i).child("name"), detail));
        }
    }
}

/// The new spec with everything that may change put back to what it was.
fn munged(after: &Value, before: &Value, errors: &mut Errors) -> Value {
    let mut spec = after.clone();
    for list in ["containers", "initContainers"] {
        let old = tree::list(before, list);
        for (container, old) in tree::items_mut(&mut spec, list).zip(old) {
            tree::copy(old, container, "image");
        }
    }
    for name in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        tree::copy(before, &mut spec, name);
    }
    let grace = "terminationGracePeriodSeconds";
    if tree::int(before, grace) < 0 && tree::int(&spec, grace) == 1 {
        tree::copy(before, &mut spec, grace);
    }
    if !tree::list(before, "schedulingGates").is_empty() {
        gated_pod(&mut spec, before, errors);
    }
    spec
}

/// A pod that is not to be scheduled yet may have its node selection narrowed.
fn gated_pod(spec: &mut Value, before: &Value, errors: &mut Errors) {
    let path = SPEC.child("nodeSelector");
    let added_only = tree::entries(before, "nodeSelector")
        .all(|(key, value)| tree::get(tree::get(spec, "nodeSelector"), key) == value);
    if !added_only {
        let value = tree::get(spec, "nodeSelector").clone();
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(Error::invalid(&path, value, detail));
    }
    tree::copy(before, spec, "nodeSelector");
    let affinity = |spec: &Value| tree::at(spec, &["affinity", "nodeAffinity"]).clone();
    let (new, old) = (affinity(spec), affinity(before));
    if tree::same(&new, &old) {
        return;
    }
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms =
        |affinity: &Value| tree::list(tree::get(affinity, required), "nodeSelectorTerms").to_vec();
    let (new_terms, old_terms) = (terms(&new), terms(&old));
    let narrowed = |(new, old): (&Value, &Value)| {
        ["matchExpressions", "matchFields"]
            .iter()
            .all(|list| tree::list(new, list).starts_with(tree::list(old, list)))
    };
    let fine = old_terms.is_empty()
        || (new_terms.len() == old_terms.len() && new_terms.iter().zip(&old_terms).all(narrowed));
    if !fine {
        let path = SPEC.child("affinity.nodeAffinity").to_string();
        let path = Path::new(&path);
        let list = path.child(required);
        let detail = "no deletions/mutations allowed";
        let value = Value::from(new_terms);
        errors.push(Error::invalid(&list.child("nodeSelectorTerms"), value, detail));
    }
    if let Some(affinity) = tree::child_mut(spec, "affinity") {
        tree::copy(tree::get(before, "affinity"), affinity, "nodeAffinity");
    }
    if !tree::has(before, "affinity") && tree::is_empty(tree::get(spec, "affinity")) {
        tree::remove(spec, "affinity");
    }
}

/// The paths that differ with both values, one a line, `-` before the old and `+` before the new.
pub(super) fn differences(new: &Value, old: &Value) -> String {
    let mut out = Vec::new();
    walk(new, old, "spec", &mut out);
    out.join("\n")
}

fn walk(new: &Value, old: &Value, path: &str, out: &mut Vec<String>) {
    if tree::same(new, old) {
        return;
    }
    match (new, old) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                walk(tree::get(new, key), tree::get(old, key), &format!("{path}.{key}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                walk(a, b, &format!("{path}[{i}]"), out);
            }
        }
        _ => {
            out.push(format!("- {path}: {old}"));
            out.push(format!("+ {path}: {new}"));
        }
    }
}

fn annotation_changes(new: &Value, old: &Value, errors: &mut Errors) {
    let of = |pod| tree::at(pod, &["metadata", "annotations"]);
    let (after, before) = (of(new), of(old));
    let metadata = Path::new("metadata");
    let path = metadata.child("annotations");
    for (key, value) in before.as_object().into_iter().flatten() {
        if tree::get(after, key) == value {
            continue;
        }
        if key.starts_with(APPARMOR) {
            let detail = "may not remove or update AppArmor annotations";
            errors.push(Error::forbidden(&path.key(key), detail));
        }
        if key == MIRROR {
            let detail = "may not remove or update mirror pod annotation";
            errors.push(Error::forbidden(&path.key(key), detail));
        }
    }
    for (key, _) in after.as_object().into_iter().flatten() {
        if tree::has(before, key) {
            continue;
        }
        if key.starts_with(APPARMOR) {
            errors.push(Error::forbidden(&path.key(key), "may not add AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(Error::forbidden(&path.key(key), "may not add mirror pod annotation"));
        }
    }
    pod_annotations(after, tree::get(new, "spec"), &path, errors);
}

// === status ===

/// Checks a write to a pod's status.
pub(crate) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    meta::update(new, old, errors);
    annotation_changes(new, old, errors);
    let (after, before) = (tree::get(new, "status"), tree::get(old, "status"));
    let metadata = Path::new("metadata");
    let path = metadata.child("conditions");
    for (i, condition) in tree::list(after, "conditions").iter().enumerate() {
        let kind = tree::text(condition, "type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            qualified(kind, &path.index(i).child("Type"), errors);
        }
    }
    let spec = tree::get(old, "spec");
    if tree::text(tree::get(new, "spec"), "nodeName") != tree::text(spec, "nodeName") {
        let detail = "may not be changed directly";
        errors.push(Error::forbidden(&STATUS.child("nodeName"), detail));
    }
    let nominated = tree::text(after, "nominatedNodeName");
    if !nominated.is_empty() && nominated != tree::text(before, "nominatedNodeName") {
        let problems = names::dns1123_subdomain(nominated);
        invalid_each(&STATUS.child("nominatedNodeName"), nominated, problems, errors);
    }
    super::immutable(after, before, "qosClass", &STATUS, errors);
    claim_statuses(after, spec, errors);
    let policy = tree::text(spec, "restartPolicy");
    for (list, policy) in [
        ("containerStatuses", policy),
        ("initContainerStatuses", policy),
        ("ephemeralContainerStatuses", "Never"),
    ] {
        no_resurrection(after, before, list, policy, spec, errors);
    }
    addresses(after, errors);
}

/// What is said of resource claims is said of the pod's own, once each.
fn claim_statuses(status: &Value, spec: &Value, errors: &mut Errors) {
    let path = STATUS.child("resourceClaimStatuses");
    let claims = tree::list(spec, "resourceClaims");
    let mut seen: Vec<&str> = Vec::new();
    for (i, one) in tree::list(status, "resourceClaimStatuses").iter().enumerate() {
        let path = path.index(i);
        let name = tree::text(one, "name");
        if !claims.iter().any(|claim| tree::text(claim, "name") == name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(Error::invalid(&path.child("name"), name, detail));
        }
        if seen.contains(&name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        seen.push(name);
        if let Some(claim) = tree::text_opt(one, "resourceClaimName") {
            invalid_each(&path.child("name"), claim, names::dns1123_subdomain(claim), errors);
        }
    }
}

/// A container that ended for good does not come back.
fn no_resurrection(
    after: &Value,
    before: &Value,
    list: &str,
    policy: &str,
    spec: &Value,
    errors: &mut Errors,
) {
    if policy == "Always" {
        return;
    }
    let path = STATUS.child(list);
    for (i, old) in tree::list(before, list).iter().enumerate() {
        let terminated = tree::at(old, &["state", "terminated"]);
        let failed = tree::int(terminated, "exitCode") != 0;
        if terminated.is_null() || (failed && policy == "OnFailure") {
            continue;
        }
        let name = tree::text(old, "name");
        let restarts_itself = ["initContainers", "containers"].iter().any(|list| {
            tree::list(spec, list).iter().any(|c| {
                tree::text(c, "name") == name
                    && (tree::text(c, "restartPolicy") == "Always"
                        || (failed && tree::text(c, "restartPolicy") == "OnFailure")
                        || !tree::list(c, "restartPolicyRules").is_empty())
            })
        });
        let back = tree::list(after, list).iter().any(|new| {
            tree::text(new, "name") == name && tree::at(new, &["state", "terminated"]).is_null()
        });
        if back && !restarts_itself {
            let detail = "may not be transitioned to non-terminated state";
            errors.push(Error::forbidden(&path.index(i).child("state"), detail));
        }
    }
}

fn addresses(status: &Value, errors: &mut Errors) {
    for (list, single) in [("podIPs", "podIP"), ("hostIPs", "hostIP")] {
        let path = STATUS.child(list);
        let all: Vec<&str> = tree::list(status, list).iter().map(|i| tree::text(i, "ip")).collect();
        if let Some(first) = all.first()
            && single == "hostIP"
            && *first != tree::text(status, single)
        {
            let detail = "must be equal to `hostIP`";
            errors.push(Error::invalid(&path.index(0).child("ip"), *first, detail));
        }
        for (i, address) in all.iter().enumerate() {
            ip(address, &path.index(i), errors);
            if all[..i].contains(address) {
                errors.push(Error::duplicate(&path.index(i), json!({"ip": address})));
            }
        }
        if all.len() > 1 {
            let v4 = all.iter().filter_map(|a| names::parse_ip(a)).filter(|a| a.is_ipv4()).count();
            if all.len() > 2 || v4 != 1 {
                let value = tree::get(status, list).clone();
                let detail = "may specify no more than one IP for each IP family";
                errors.push(Error::invalid(&path, value, detail));
            }
        }
    }
}

// === other subresources ===

/// What is wrong with a write to a pod's `ephemeralcontainers`: they can only be added.
#[must_use]
pub fn ephemeral_containers_update(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Errors::new();
    if tree::has(tree::at(old, &["metadata", "annotations"]), MIRROR) {
        let detail = "static pods do not support ephemeral containers";
        let mut error = Error::forbidden(&Path::new(""), detail);
        "[]".clone_into(&mut error.field); // as upstream writes the object itself
        return vec![error];
    }
    meta::update(new, old, &mut errors);
    metadata_and_spec(new, &mut errors);
    annotation_changes(new, old, &mut errors);
    let path = SPEC.child("ephemeralContainers");
    let of = |pod| tree::list(tree::get(pod, "spec"), "ephemeralContainers");
    for container in of(old) {
        let name = tree::text(container, "name");
        let shown = crate::text::quote(name);
        match of(new).iter().find(|c| tree::text(c, "name") == name) {
            None => {
                let detail = format!("existing ephemeral containers {shown} may not be removed\n");
                errors.push(Error::forbidden(&path, detail));
            }
            Some(now) if !tree::same(now, container) => {
                let changed = differences(now, container);
                let detail =
                    format!("existing ephemeral containers {shown} may not be changed\n{changed}");
                errors.push(Error::forbidden(&path, detail));
            }
            Some(_) => {}
        }
    }
    errors
}

/// What is wrong with a pod's `Binding`.
#[must_use]
pub fn pod_binding(binding: &Value) -> Vec<Error> {
    let target = tree::get(binding, "target");
    let path = Path::new("target");
    let mut errors = Errors::new();
    let kind = tree::text(target, "kind");
    if !matches!(kind, "" | "Node") {
        errors.push(Error::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    if tree::text(target, "name").is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    errors
}
