//! The `kubernetes` Service and the masters behind it.

use std::net::SocketAddr;

use quorate_state_machine::Key;
use serde_json::{Value, json};

use super::Wanted;
use crate::config::ClusterFacts;

/// The three objects for these masters.
pub(super) fn wanted(facts: &ClusterFacts, masters: &[SocketAddr]) -> Vec<Wanted> {
    let mut masters = masters.to_vec();
    masters.sort_unstable();
    masters.dedup();
    let port = masters.first().map_or(facts.api_port, SocketAddr::port);
    vec![service(facts, port), endpoints(&masters, port), slice(&masters, port)]
}

fn service(facts: &ClusterFacts, port: u16) -> Wanted {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
        },
    });
    if let Some(ip) = facts.kubernetes_service_ip() {
        object["spec"]["clusterIP"] = json!(ip.to_string());
        object["spec"]["clusterIPs"] = json!([ip.to_string()]);
    }
    let merge = |current: &Value, wanted: &Value| {
        let (have, want) = (&current["spec"], &wanted["spec"]);
        if have["ports"] == want["ports"] && have["type"] == want["type"] {
            return None;
        }
        let mut object = current.clone();
        object["spec"]["ports"] = want["ports"].clone();
        object["spec"]["type"] = want["type"].clone();
        Some(object)
    };
    Wanted { key: Key::new("", "services", "default", "kubernetes"), object, merge }
}

fn endpoints(masters: &[SocketAddr], port: u16) -> Wanted {
    let addresses: Vec<Value> =
        masters.iter().map(|master| json!({"ip": master.ip().to_string()})).collect();
    let object = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": addresses,
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }],
    });
    let merge = |current: &Value, wanted: &Value| replaced(current, wanted, &["subsets"]);
    Wanted { key: Key::new("", "endpoints", "default", "kubernetes"), object, merge }
}

fn slice(masters: &[SocketAddr], port: u16) -> Wanted {
    let family = if masters.first().is_some_and(SocketAddr::is_ipv6) { "IPv6" } else { "IPv4" };
    let endpoints: Vec<Value> = masters
        .iter()
        .map(
            |master| json!({"addresses": [master.ip().to_string()], "conditions": {"ready": true}}),
        )
        .collect();
    let object = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    let merge =
        |current: &Value, wanted: &Value| replaced(current, wanted, &["endpoints", "ports"]);
    let key = Key::new("discovery.k8s.io", "endpointslices", "default", "kubernetes");
    Wanted { key, object, merge }
}

fn replaced(current: &Value, wanted: &Value, fields: &[&str]) -> Option<Value> {
    if fields.iter().all(|field| current[*field] == wanted[*field]) {
        return None;
    }
    let mut object = current.clone();
    for field in fields {
        object[*field] = wanted[*field].clone();
    }
    Some(object)
}
