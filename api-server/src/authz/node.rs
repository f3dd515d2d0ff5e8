//! What node agents may do: what the role `system:node` says, but of secrets, config maps and
//! tokens only what the node's own pods refer to (upstream's node authorizer, its essentials).

use quorate_state_machine::{GroupResource, View};

use super::Attributes;
use super::index::RbacIndex;

/// `Ok` when the node may; else why not.
pub(super) fn decide(
    view: &View,
    index: &RbacIndex,
    node: &str,
    wanted: &Attributes,
) -> Result<(), String> {
    let graph_only = |what: &str| {
        Err(format!("no relationship found between node '{node}' and this object: {what}"))
    };
    match (wanted.group.as_str(), wanted.resource.as_str()) {
        ("", resource @ ("secrets" | "configmaps" | "persistentvolumeclaims"))
            if wanted.path.is_none() =>
        {
            if !matches!(wanted.verb.as_str(), "get" | "list" | "watch") || wanted.name.is_empty() {
                return Err("can only read resources of this type by name".to_owned());
            }
            if refers(view, node, &wanted.namespace, resource, &wanted.name) {
                return Ok(());
            }
            graph_only(resource)
        }
        ("", "serviceaccounts") if wanted.subresource == "token" => {
            if wanted.verb != "create" {
                return Err("can only create tokens for individual service accounts".to_owned());
            }
            if refers(view, node, &wanted.namespace, "serviceaccounts", &wanted.name) {
                return Ok(());
            }
            graph_only("serviceaccounts")
        }
        ("coordination.k8s.io", "leases") => {
            if wanted.namespace != "kube-node-lease" {
                return Err(
                    "can only access leases in the \"kube-node-lease\" system namespace".to_owned()
                );
            }
            if !wanted.name.is_empty() && wanted.name != node {
                return Err("can only access node lease with the same name as the requesting node"
                    .to_owned());
            }
            Ok(())
        }
        _ => by_role(index, wanted),
    }
}

fn by_role(index: &RbacIndex, wanted: &Attributes) -> Result<(), String> {
    let allowed = index
        .role("ClusterRole", "", "system:node")
        .is_some_and(|rules| rules.iter().any(|rule| rule.allows(wanted)));
    if allowed { Ok(()) } else { Err(String::new()) }
}

/// Whether a pod of the node refers to the object.
fn refers(view: &View, node: &str, namespace: &str, resource: &str, name: &str) -> bool {
    let Some(pods) = view.resource(&GroupResource::new("", "pods")) else { return false };
    pods.range(namespace, None).any(|stored| {
        crate::model::field_of(stored, "spec.nodeName").as_deref() == Some(node)
            && serde_json::from_slice::<serde_json::Value>(&stored.image.bytes)
                .is_ok_and(|pod| mentions(&pod["spec"], resource, name))
    })
}

fn mentions(spec: &serde_json::Value, resource: &str, name: &str) -> bool {
    let is = |value: &serde_json::Value| value.as_str() == Some(name);
    let any = |list: &serde_json::Value, test: &dyn Fn(&serde_json::Value) -> bool| {
        list.as_array().is_some_and(|items| items.iter().any(test))
    };
    if resource == "serviceaccounts" {
        return is(&spec["serviceAccountName"]);
    }
    let (volume, key, source, from, reference) = match resource {
        "secrets" => ("secret", "secretName", "secret", "secretRef", "secretKeyRef"),
        "configmaps" => ("configMap", "name", "configMap", "configMapRef", "configMapKeyRef"),
        _ => ("persistentVolumeClaim", "claimName", "", "", ""),
    };
    let in_volume = |one: &serde_json::Value| {
        is(&one[volume][key])
            || (!source.is_empty()
                && any(&one["projected"]["sources"], &|item| is(&item[source]["name"])))
    };
    if any(&spec["volumes"], &in_volume) {
        return true;
    }
    if resource == "secrets" && any(&spec["imagePullSecrets"], &|one| is(&one["name"])) {
        return true;
    }
    let in_container = |one: &serde_json::Value| {
        any(&one["envFrom"], &|item| is(&item[from]["name"]))
            || any(&one["env"], &|item| is(&item["valueFrom"][reference]["name"]))
    };
    !from.is_empty()
        && ["containers", "initContainers", "ephemeralContainers"]
            .iter()
            .any(|list| any(&spec[*list], &in_container))
}
