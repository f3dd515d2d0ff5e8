//! The `kubernetes` Service and the masters behind it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, Key, View};
use serde_json::{Value, json};

use super::Wanted;
use crate::config::ClusterFacts;

/// The objects for these masters: the Service, its Endpoints, and one EndpointSlice for each address
/// family and port (a slice has one set of ports; masters on one host differ in theirs).
pub(super) fn wanted(facts: &ClusterFacts, masters: &[SocketAddr]) -> Vec<Wanted> {
    let mut masters = masters.to_vec();
    masters.sort_unstable();
    masters.dedup();
    let port = masters.first().map_or(facts.api_port, SocketAddr::port);
    let mut wanted = vec![service(facts, port), endpoints(&masters)];
    wanted.extend(slices(&masters));
    wanted
}

/// The masters by port.
fn by_port(masters: &[SocketAddr]) -> BTreeMap<u16, Vec<SocketAddr>> {
    let mut groups = BTreeMap::<u16, Vec<SocketAddr>>::new();
    for master in masters {
        groups.entry(master.port()).or_default().push(*master);
    }
    groups
}

/// Our EndpointSlices that no master is behind any more.
pub(super) fn outdated(
    view: &View,
    facts: &ClusterFacts,
    masters: &[SocketAddr],
) -> Vec<StoredRef> {
    let wanted = wanted(facts, masters);
    let slices = view.resource(&GroupResource::new(SLICES.0, SLICES.1));
    slices
        .into_iter()
        .flat_map(|slices| slices.iter())
        .filter(|stored| {
            stored.key.object.namespace.as_ref() == "default"
                && is_ours(&stored.key.object.name)
                && wanted.iter().all(|wanted| wanted.key != stored.key)
        })
        .cloned()
        .collect()
}

const SLICES: (&str, &str) = ("discovery.k8s.io", "endpointslices");

/// Names of our slices: `kubernetes`, `kubernetes-<port>`, `kubernetes-ipv6-<port>`.
fn is_ours(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("kubernetes-") else { return name == "kubernetes" };
    let port = rest.strip_prefix("ipv6-").unwrap_or(rest);
    port.parse::<u16>().is_ok()
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

fn endpoints(masters: &[SocketAddr]) -> Wanted {
    let subset = |(port, masters): (u16, Vec<SocketAddr>)| {
        let address = |master: &SocketAddr| json!({"ip": master.ip().to_string()});
        json!({
            "addresses": masters.iter().map(address).collect::<Vec<_>>(),
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        })
    };
    let subsets: Vec<Value> = by_port(masters).into_iter().map(subset).collect();
    let object = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": subsets,
    });
    let merge = |current: &Value, wanted: &Value| replaced(current, wanted, &["subsets"]);
    Wanted { key: Key::new("", "endpoints", "default", "kubernetes"), object, merge }
}

/// The first port's IPv4 slice has upstream's name.
fn slices(masters: &[SocketAddr]) -> Vec<Wanted> {
    let mut slices = Vec::new();
    for (port, masters) in by_port(masters) {
        let (six, four): (Vec<SocketAddr>, Vec<SocketAddr>) =
            masters.into_iter().partition(SocketAddr::is_ipv6);
        if !four.is_empty() {
            let name = if slices.is_empty() {
                "kubernetes".to_owned()
            } else {
                format!("kubernetes-{port}")
            };
            slices.push(slice(&name, "IPv4", &four, port));
        }
        if !six.is_empty() {
            slices.push(slice(&format!("kubernetes-ipv6-{port}"), "IPv6", &six, port));
        }
    }
    slices
}

fn slice(name: &str, family: &str, masters: &[SocketAddr], port: u16) -> Wanted {
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
            "name": name,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    let merge =
        |current: &Value, wanted: &Value| replaced(current, wanted, &["endpoints", "ports"]);
    let key = Key::new(SLICES.0, SLICES.1, "default", name);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(masters: &[&str]) -> Vec<Wanted> {
        let masters: Vec<SocketAddr> = masters.iter().map(|text| text.parse().unwrap()).collect();
        wanted(&ClusterFacts::default(), &masters)
    }

    #[test]
    fn masters_on_one_host_are_listed_each_with_its_port() {
        let wanted = of(&["10.0.0.1:7443", "10.0.0.1:6443", "10.0.0.2:6443"]);
        let address = |ip: &str| json!({"ip": ip});
        let ports = |port: u16| json!([{"name": "https", "port": port, "protocol": "TCP"}]);
        assert_eq!(
            wanted[1].object["subsets"],
            json!([
                {"addresses": [address("10.0.0.1"), address("10.0.0.2")], "ports": ports(6443)},
                {"addresses": [address("10.0.0.1")], "ports": ports(7443)},
            ])
        );
        let slices: Vec<(&str, &Value)> = wanted[2..]
            .iter()
            .map(|wanted| (&*wanted.key.object.name, &wanted.object["ports"][0]["port"]))
            .collect();
        assert_eq!(slices, [("kubernetes", &json!(6443)), ("kubernetes-7443", &json!(7443))]);
    }

    #[test]
    fn both_address_families_have_slices_of_their_own() {
        let wanted = of(&["10.0.0.1:6443", "[fd00::1]:6443"]);
        let slices: Vec<(&str, &Value)> = wanted[2..]
            .iter()
            .map(|wanted| (&*wanted.key.object.name, &wanted.object["addressType"]))
            .collect();
        assert_eq!(
            slices,
            [("kubernetes", &json!("IPv4")), ("kubernetes-ipv6-6443", &json!("IPv6"))]
        );
        assert!(slices.iter().all(|(name, _)| is_ours(name)));
        assert!(!is_ours("kubernetes-dashboard"));
    }
}
