//! Defaults of the kinds in `networking.k8s.io/v1`.

use serde_json::{Value, json};

use crate::tree;

/// `SetDefaults_NetworkPolicy` and `SetDefaults_NetworkPolicyPort`.
pub(crate) fn network_policy(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    for direction in ["ingress", "egress"] {
        for rule in tree::items_mut(spec, direction) {
            for port in tree::items_mut(rule, "ports") {
                tree::default(port, "protocol", "TCP");
            }
        }
    }
    if tree::list(spec, "policyTypes").is_empty() {
        let both = !tree::list(spec, "egress").is_empty();
        let types = if both { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        tree::set(spec, "policyTypes", types);
    }
}

/// `SetDefaults_IngressClass`.
pub(crate) fn ingress_class(object: &mut Value) {
    if let Some(spec) = tree::existing_mut(object, "spec")
        && let Some(parameters) = tree::existing_mut(spec, "parameters")
    {
        tree::default(parameters, "scope", "Cluster");
    }
}
