//! From the pods of a service to endpoints and ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Group;
use crate::model::{Container, Pod};
use crate::plan::Ctx;

/// An IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::controllers) enum Family {
    V4,
    V6,
}

impl Family {
    pub(in crate::controllers) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The pod's first address of the family.
    pub(in crate::controllers) fn address(self, pod: &Pod) -> Option<&str> {
        pod.ips().find(|ip| self.is_of(ip))
    }

    /// Whether an address is of the family.
    pub(in crate::controllers) fn is_of(self, ip: &str) -> bool {
        match ip.parse() {
            Ok(IpAddr::V4(_)) => self == Self::V4,
            Ok(IpAddr::V6(_)) => self == Self::V6,
            Err(_) => false,
        }
    }
}

/// The families of a service; IPv4 when it does not say.
pub(in crate::controllers) fn families(service: &Service) -> Vec<Family> {
    let spec = service.spec.as_ref();
    let given = spec.and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    if !given.is_empty() {
        let family = |name: String| if name == "IPv6" { Family::V6 } else { Family::V4 };
        return given.into_iter().map(family).collect();
    }
    let v6 = spec.and_then(|spec| spec.cluster_ip.as_deref()).is_some_and(|ip| ip.contains(':'));
    vec![if v6 { Family::V6 } else { Family::V4 }]
}

pub(in crate::controllers) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// Whether a pod is to be listed at all.
pub(in crate::controllers) fn may_be_endpoint(pod: &Pod, with_terminating: bool) -> bool {
    !pod.ended() && pod.ips().next().is_some() && (with_terminating || !pod.metadata.terminating())
}

/// The pod's name in DNS, when the service is its subdomain.
pub(in crate::controllers) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let is_ours = service.metadata.name.as_deref() == Some(&pod.spec.subdomain)
        && !pod.spec.hostname.is_empty();
    is_ours.then(|| pod.spec.hostname.clone())
}

/// The service's pods as endpoints, those with the same ports together.
pub(super) fn groups(
    ctx: &Ctx<'_>,
    service: &Service,
    family: Family,
) -> Vec<(Vec<EndpointPort>, Group)> {
    let spec = service.spec.clone().unwrap_or_default();
    let selector = spec.selector.unwrap_or_default();
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let not_ready_too = spec.publish_not_ready_addresses == Some(true);
    let mut groups: BTreeMap<String, (Vec<EndpointPort>, Group)> = BTreeMap::new();
    for pod in ctx.world.pods_with_labels(namespace, &selector) {
        let pod = &pod.object;
        let Some(address) = family.address(pod).filter(|_| may_be_endpoint(pod, true)) else {
            continue;
        };
        let ports = endpoint_ports(service, pod);
        let endpoint = endpoint(ctx, service, pod, address, not_ready_too);
        let group = groups.entry(format!("{ports:?}")).or_insert_with(|| (ports, Group::default()));
        group.1.insert(super::identity(&endpoint), endpoint);
    }
    groups.into_values().collect()
}

fn endpoint(
    ctx: &Ctx<'_>,
    service: &Service,
    pod: &Pod,
    address: &str,
    not_ready_too: bool,
) -> Endpoint {
    let serving = pod.ready();
    let terminating = pod.metadata.terminating();
    let node = pod.spec.node_name.as_str();
    let zone = ctx
        .world
        .node(node)
        .and_then(|node| node.object.metadata.labels.get("topology.kubernetes.io/zone").cloned());
    let ready = not_ready_too || (serving && !terminating);
    Endpoint {
        addresses: vec![address.to_owned()],
        hints: hints(service, zone.as_deref(), node).filter(|_| ready),
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(service, pod),
        node_name: (!node.is_empty()).then(|| node.to_owned()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.metadata.namespace.clone()),
            name: Some(pod.metadata.name.clone()),
            uid: Some(pod.metadata.uid.clone()),
            ..ObjectReference::default()
        }),
        zone,
        ..Endpoint::default()
    }
}

/// For whom an endpoint is meant first, when the service wants its traffic kept near.
fn hints(service: &Service, zone: Option<&str>, node: &str) -> Option<EndpointHints> {
    let wish = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let same_node = match wish {
        "PreferClose" | "PreferSameZone" => false,
        "PreferSameNode" => true,
        _ => return None,
    };
    let zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    let nodes = (same_node && !node.is_empty()).then(|| vec![ForNode { name: node.to_owned() }]);
    let some = zones.is_some() || nodes.is_some();
    some.then_some(EndpointHints { for_nodes: nodes, for_zones: zones })
}

/// The service's ports on this pod; ports whose name the pod does not have are left out.
pub(in crate::controllers) fn endpoint_ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or(&[]);
    let endpoint_port = |port: &ServicePort| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(target_port(port, pod)?),
            protocol: Some(protocol(port).to_owned()),
            app_protocol: port.app_protocol.clone(),
        })
    };
    ports.iter().filter_map(endpoint_port).collect()
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let sidecar = |container: &&Container| container.restart_policy == "Always";
            let containers =
                pod.spec.containers.iter().chain(pod.spec.init_containers.iter().filter(sidecar));
            let matches = |found: &&crate::model::ContainerPort| {
                let found_protocol =
                    if found.protocol.is_empty() { "TCP" } else { found.protocol.as_str() };
                found.name == *name && found_protocol == protocol(port)
            };
            containers
                .flat_map(|container| &container.ports)
                .find(matches)
                .map(|found| found.container_port)
        }
    }
}
