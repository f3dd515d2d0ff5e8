//! Defaults of `Service`. Addresses, families and node ports are allocated by the API server.

use serde_json::{Value, json};

use crate::tree;

const CLIENT_IP_SECONDS: i64 = 10800;

/// `SetDefaults_Service`.
pub(crate) fn service(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    tree::default_text(spec, "sessionAffinity", "None");
    match tree::text(spec, "sessionAffinity") {
        "None" => tree::remove(spec, "sessionAffinityConfig"),
        "ClientIP" => {
            if let Some(config) = tree::child_mut(spec, "sessionAffinityConfig")
                && let Some(client) = tree::child_mut(config, "clientIP")
            {
                tree::default(client, "timeoutSeconds", CLIENT_IP_SECONDS);
            }
        }
        _ => {}
    }
    tree::default_text(spec, "type", "ClusterIP");
    for port in tree::items_mut(spec, "ports") {
        tree::default_text(port, "protocol", "TCP");
        let target = tree::get(port, "targetPort");
        if target.is_null() || target == 0 || target == "" {
            let number = tree::int(port, "port");
            tree::set(port, "targetPort", number);
        }
    }
    let kind = tree::text(spec, "type").to_owned();
    let outside = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    if outside || (kind == "ClusterIP" && !tree::list(spec, "externalIPs").is_empty()) {
        tree::default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if outside || kind == "ClusterIP" {
        tree::default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        tree::default(spec, "allocateLoadBalancerNodePorts", json!(true));
        if let Some(status) = tree::existing_mut(object, "status")
            && let Some(balancer) = tree::existing_mut(status, "loadBalancer")
        {
            for ingress in tree::items_mut(balancer, "ingress") {
                if !tree::text(ingress, "ip").is_empty() {
                    tree::default(ingress, "ipMode", "VIP");
                }
            }
        }
    }
}
