//! Pods and pod templates.

use serde_json::Value;

use super::meta::{self, Scope};
use super::pod_spec::{Owner, pod_spec};
use super::{Errors, container, names};
use crate::field::{Error, Path};
use crate::tree;

const SPEC: Path<'static> = Path::new("spec");
/// Marks a pod that a node made from a file; it can only exist on that node.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// The annotation that chose a container's AppArmor profile before the field did.
pub(super) const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Checks a new pod.
pub(crate) fn create(pod: &Value, errors: &mut Errors) {
    metadata_and_spec(pod, errors);
    let spec = tree::get(pod, "spec");
    if !tree::list(spec, "ephemeralContainers").is_empty() {
        errors
            .push(Error::forbidden(&SPEC.child("ephemeralContainers"), "cannot be set on create"));
    }
    let gated = !tree::list(spec, "schedulingGates").is_empty();
    if !tree::text(spec, "nodeName").is_empty() && gated {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(Error::forbidden(&SPEC.child("nodeName"), detail));
    }
    let annotations = tree::at(pod, &["metadata", "annotations"]);
    profiles_match(annotations, spec, &SPEC, errors);
}

/// What creates and updates of pods check alike.
pub(super) fn metadata_and_spec(pod: &Value, errors: &mut Errors) {
    meta::object(pod, Scope::Namespaced, names::dns1123_subdomain, errors);
    let spec = tree::get(pod, "spec");
    let metadata = Path::new("metadata");
    let annotations = tree::at(pod, &["metadata", "annotations"]);
    pod_annotations(annotations, spec, &metadata.child("annotations"), errors);
    pod_spec(spec, Owner::Pod, &SPEC, errors);
    let volumes = SPEC.child("volumes");
    for (i, volume) in tree::list(spec, "volumes").iter().enumerate() {
        let image = tree::get(volume, "image");
        if !image.is_null() && tree::text(image, "reference").is_empty() {
            let path = volumes.index(i);
            errors.push(Error::required(&path.child("image.reference"), ""));
        }
    }
    if tree::text(spec, "serviceAccountName").is_empty() {
        token_volumes(spec, errors);
    }
    for list in ["containers", "initContainers"] {
        let path = SPEC.child(list);
        for (i, item) in tree::list(spec, list).iter().enumerate() {
            container::image_spacing(item, &path.index(i), errors);
        }
    }
}

fn token_volumes(spec: &Value, errors: &mut Errors) {
    let path = SPEC.child("volumes");
    for (i, volume) in tree::list(spec, "volumes").iter().enumerate() {
        let item = path.index(i);
        let sources = item.child("projected.sources");
        let parts = tree::list(tree::get(volume, "projected"), "sources");
        for (j, part) in parts.iter().enumerate() {
            if tree::has(part, "serviceAccountToken") {
                let detail = "must not be specified when serviceAccountName is not set";
                let path = sources.index(j);
                errors.push(Error::forbidden(&path.child("serviceAccountToken"), detail));
            }
        }
    }
}

/// Annotations that change how a pod runs.
pub(super) fn pod_annotations(
    annotations: &Value,
    spec: &Value,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if let Some(value) = tree::text_opt(annotations, MIRROR)
        && tree::text(spec, "nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(Error::invalid(&path.key(MIRROR), value, detail));
    }
    for (key, value) in annotations.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            seccomp_annotation(value, &path.child(key), errors);
        }
        if let Some(name) = key.strip_prefix(APPARMOR) {
            if !containers(spec).any(|(_, _, c)| tree::text(c, "name") == name) {
                errors.push(Error::invalid(&path.key(key), name, "container not found"));
            }
            let known = matches!(value, "" | "runtime/default" | "unconfined");
            if !known && !value.starts_with("localhost/") {
                let shown = crate::text::quote(value);
                let detail = format!("invalid AppArmor profile name: {shown}");
                errors.push(Error::invalid(&path.key(key), value, detail));
            }
        }
        if key == DELETION_COST && !value.is_empty() && !is_cost(value) {
            errors.push(Error::invalid(&path.key(key), value, "must be a 32bit integer"));
        }
    }
}

/// No leading zeros or plus sign: one number has one text.
fn is_cost(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let plain = digits == "0" || (!digits.starts_with('0') && !digits.starts_with('+'));
    value != "-0" && plain && value.parse::<i32>().is_ok()
}

fn seccomp_annotation(value: &str, path: &Path<'_>, errors: &mut Errors) {
    match value {
        "runtime/default" | "docker/default" | "unconfined" => {}
        _ => match value.strip_prefix("localhost/") {
            Some(file) => super::volume::descending(file, path, errors),
            None => errors.push(Error::invalid(path, value, "must be a valid seccomp profile")),
        },
    }
}

/// All containers of a spec with their list and place.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |list| {
        tree::list(spec, list).iter().enumerate().map(move |(i, c)| (list, i, c))
    })
}

/// When a profile is given by field and by annotation, both must say the same.
fn profiles_match(annotations: &Value, spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    if annotations.is_null() {
        return;
    }
    let pod_context = tree::get(spec, "securityContext");
    if let Some(text) = tree::text_opt(annotations, SECCOMP_POD) {
        let path = path.child("securityContext.seccompProfile");
        same_profile(text, tree::get(pod_context, "seccompProfile"), "seccomp", &path, errors);
    }
    for (list, i, container) in containers(spec) {
        let name = tree::text(container, "name");
        let context = tree::get(container, "securityContext");
        let list = path.child(list);
        let item = list.index(i);
        if let Some(text) = tree::text_opt(annotations, &format!("{SECCOMP_CONTAINER}{name}")) {
            let path = item.child("securityContext.seccompProfile");
            same_profile(text, tree::get(context, "seccompProfile"), "seccomp", &path, errors);
        }
        if let Some(text) = tree::text_opt(annotations, &format!("{APPARMOR}{name}")) {
            let own = tree::get(context, "appArmorProfile");
            let pods = tree::get(pod_context, "appArmorProfile");
            let profile = if own.is_null() { pods } else { own };
            let path = item.child("securityContext.appArmorProfile");
            same_profile(text, profile, "apparmor", &path, errors);
        }
    }
}

fn same_profile(text: &str, profile: &Value, what: &str, path: &Path<'_>, errors: &mut Errors) {
    let local = text.strip_prefix("localhost/");
    let kinds = match tree::text(profile, "type") {
        "Unconfined" => text == "unconfined",
        "RuntimeDefault" => {
            text == "runtime/default" || (what == "seccomp" && text == "docker/default")
        }
        "Localhost" => local.is_some(),
        _ => true,
    };
    if !kinds {
        let detail = format!("{what} type in annotation and field must match");
        errors.push(Error::forbidden(&path.child("type"), detail));
    } else if tree::text(profile, "type") == "Localhost"
        && tree::text_opt(profile, "localhostProfile") != local
    {
        let detail = format!("{what} profile in annotation and field must match");
        errors.push(Error::forbidden(&path.child("localhostProfile"), detail));
    }
}

/// Checks the template of a workload.
pub(super) fn template(template: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (metadata, spec) = (tree::get(template, "metadata"), tree::get(template, "spec"));
    let annotations = tree::get(metadata, "annotations");
    let annotations_path = path.child("annotations");
    meta::labels(tree::get(metadata, "labels"), &path.child("labels"), errors);
    meta::annotations(annotations, &annotations_path, errors);
    pod_annotations(annotations, spec, &annotations_path, errors);
    let spec_path = path.child("spec");
    pod_spec(spec, Owner::Template, &spec_path, errors);
    profiles_match(annotations, spec, &spec_path, errors);
    if !tree::list(spec, "ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(Error::forbidden(&spec_path.child("ephemeralContainers"), detail));
    }
}
