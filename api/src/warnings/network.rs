//! Services, endpoints and endpoint slices.

use serde_json::Value;

use super::{Warnings, address};
use crate::field::Path;
use crate::text::quote;
use crate::tree;
use crate::validation::ingress::CLASS;

const SPEC: Path<'static> = Path::new("spec");
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";

/// Fields of a service that are ignored, deprecated or oddly written.
pub(crate) fn service(service: &Value, _: Option<&Value>, warnings: &mut Warnings) {
    let spec = tree::get(service, "spec");
    let kind = tree::text(spec, "type");
    let single = tree::text(spec, "clusterIP");
    let headless = kind == "ClusterIP" && single == "None";
    if tree::has(tree::at(service, &["metadata", "annotations"]), TOPOLOGY_HINTS) {
        warnings.push(format!(
            "annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"
        ));
    }
    if !matches!(single, "" | "None") {
        let path = SPEC.child("clusterIPs");
        for (i, ip) in tree::texts(spec, "clusterIPs").enumerate() {
            address::ip(ip, &path.index(i), warnings);
        }
    }
    let balancer = tree::text(spec, "loadBalancerIP");
    let external: Vec<&str> = tree::texts(spec, "externalIPs").collect();
    if headless {
        if !balancer.is_empty() {
            warnings.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if !external.is_empty() {
            warnings.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if tree::text(spec, "sessionAffinity") != "None" {
            warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    let path = SPEC.child("externalIPs");
    for (i, ip) in external.iter().enumerate() {
        address::ip(ip, &path.index(i), warnings);
    }
    if !external.is_empty() && !headless && kind != "ExternalName" {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
                .to_owned(),
        );
    }
    if !balancer.is_empty() {
        address::ip(balancer, &SPEC.child("loadBalancerIP"), warnings);
    }
    let path = SPEC.child("loadBalancerSourceRanges");
    for (i, range) in tree::texts(spec, "loadBalancerSourceRanges").enumerate() {
        address::range(range, &path.index(i), warnings);
    }
    if kind == "ExternalName" && !external.is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if kind != "ExternalName" && !tree::text(spec, "externalName").is_empty() {
        warnings
            .push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if tree::text(spec, "trafficDistribution") == "PreferClose" {
        warnings.push(format!(
            "spec.trafficDistribution: {} is deprecated; use {}",
            quote("PreferClose"),
            quote("PreferSameZone")
        ));
    }
}

fn managed_by(object: &Value, label: &str, managers: &[&str]) -> bool {
    managers.contains(&tree::text(tree::at(object, &["metadata", "labels"]), label))
}

/// Oddly written addresses of endpoints. Those of our own controllers are not looked at.
pub(crate) fn endpoints(endpoints: &Value, _: Option<&Value>, warnings: &mut Warnings) {
    if managed_by(endpoints, "endpoints.kubernetes.io/managed-by", &["endpoint-controller"]) {
        return;
    }
    let list = Path::new("subsets");
    for (i, subset) in tree::list(endpoints, "subsets").iter().enumerate() {
        let path = list.index(i);
        for name in ["addresses", "notReadyAddresses"] {
            let list = path.child(name);
            for (j, address) in tree::list(subset, name).iter().enumerate() {
                let path = list.index(j);
                address::ip(tree::text(address, "ip"), &path.child("ip"), warnings);
            }
        }
    }
}

/// A deprecated type of addresses, and oddly written ones.
pub(crate) fn endpoint_slice(slice: &Value, _: Option<&Value>, warnings: &mut Warnings) {
    let kind = tree::text(slice, "addressType");
    if kind == "FQDN" {
        warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        return;
    }
    let managers = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
    if managed_by(slice, "endpointslice.kubernetes.io/managed-by", &managers) {
        return;
    }
    let list = Path::new("endpoints");
    for (i, endpoint) in tree::list(slice, "endpoints").iter().enumerate() {
        let path = list.index(i);
        let list = path.child("addresses");
        for (j, text) in tree::texts(endpoint, "addresses").enumerate() {
            address::ip(text, &list.index(j), warnings);
        }
    }
}

/// An ingress whose class is only named by an annotation.
pub(crate) fn ingress(ingress: &Value, old: Option<&Value>, warnings: &mut Warnings) {
    let annotations = tree::at(ingress, &["metadata", "annotations"]);
    let field = tree::has(tree::get(ingress, "spec"), "ingressClassName");
    if old.is_none() && tree::has(annotations, CLASS) && !field {
        warnings.push(format!(
            "annotation {} is deprecated, please use 'spec.ingressClassName' instead",
            quote(CLASS)
        ));
    }
}

/// Ranges of a policy that are oddly written.
pub(crate) fn network_policy(policy: &Value, _: Option<&Value>, warnings: &mut Warnings) {
    let spec = tree::get(policy, "spec");
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let list = SPEC.child(direction);
        for (i, rule) in tree::list(spec, direction).iter().enumerate() {
            let path = list.index(i);
            let path = path.child(peers);
            for (j, peer) in tree::list(rule, peers).iter().enumerate() {
                let block = tree::get(peer, "ipBlock");
                let path = path.index(j);
                let path = path.child("ipBlock");
                if block.is_null() {
                    continue;
                }
                address::range(tree::text(block, "cidr"), &path.child("cidr"), warnings);
                let path = path.child("except");
                for (k, text) in tree::texts(block, "except").enumerate() {
                    address::range(text, &path.index(k), warnings);
                }
            }
        }
    }
}
