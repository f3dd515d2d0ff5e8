//! Names, labels and volumes of a set's pods.

use serde_json::{Value, json};

use super::claims;
use crate::controllers::history::HASH_LABEL;
use crate::controllers::pod_template::{self, label};
use crate::model::{Pod, StatefulSet};

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The set that a pod's name says it is of, and its ordinal.
pub(super) fn parent_and_ordinal(name: &str) -> Option<(&str, i32)> {
    let (parent, digits) = name.rsplit_once('-')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((parent, digits.parse().ok()?))
}

/// The name of the pod of an ordinal.
pub(super) fn name_of(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.metadata.name)
}

/// The pod of an ordinal, as a revision's template says.
pub(super) fn pod_of(
    set: &StatefulSet,
    ordinal: i32,
    (revision, template): (&str, &Value),
) -> Value {
    let mut pod = pod_template::pod(template, &set.metadata, "apps/v1", "StatefulSet");
    let name = name_of(set, ordinal);
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.remove("generateName");
    }
    pod["metadata"]["name"] = json!(name);
    set_labels(&mut pod, &name, ordinal);
    label(&mut pod, HASH_LABEL, revision);
    pod["spec"]["hostname"] = json!(name);
    if !set.spec.service_name.is_empty() {
        pod["spec"]["subdomain"] = json!(set.spec.service_name);
    }
    mount_claims(set, ordinal, &mut pod["spec"]);
    pod
}

/// A volume of the template that is named as a claim gives way to it.
fn mount_claims(set: &StatefulSet, ordinal: i32, spec: &mut Value) {
    if set.spec.volume_claim_templates.is_empty() {
        return;
    }
    let mut volumes: Vec<Value> = Vec::new();
    for template in &set.spec.volume_claim_templates {
        let claim = claims::name_of(set, template, ordinal);
        volumes.push(json!({
            "name": template["metadata"]["name"],
            "persistentVolumeClaim": { "claimName": claim },
        }));
    }
    let own = spec["volumes"].as_array().cloned().unwrap_or_default();
    let others = |volume: &Value| !volumes.iter().any(|claim| claim["name"] == volume["name"]);
    let kept: Vec<Value> = own.into_iter().filter(others).collect();
    volumes.extend(kept);
    spec["volumes"] = json!(volumes);
}

/// Whether the labels say who it is.
pub(super) fn matches(pod: &Pod, ordinal: i32) -> bool {
    let label = |key: &str| pod.metadata.labels.get(key).map(String::as_str);
    label(NAME_LABEL) == Some(&pod.metadata.name)
        && label(INDEX_LABEL) == Some(&ordinal.to_string())
}

/// Labels a pod with who it is.
pub(super) fn set_labels(pod: &mut Value, name: &str, ordinal: i32) {
    label(pod, NAME_LABEL, name);
    label(pod, INDEX_LABEL, &ordinal.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_set_and_ordinal() {
        for (name, expected) in [
            ("web-0", Some(("web", 0))),
            ("my-web-12", Some(("my-web", 12))),
            ("web", None),
            ("web-", None),
            ("web-x1", None),
            ("web-99999999999", None),
        ] {
            assert_eq!(parent_and_ordinal(name), expected, "{name}");
        }
    }
}
