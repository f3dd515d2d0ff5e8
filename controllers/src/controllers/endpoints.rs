//! Endpoints: the older form of what EndpointSlices say, for clients that still read it.
//!
//! Desired: one object with the service's name and its pods' addresses of the first IP family.
//! Writes: that object; it goes with its service. Objects that are not marked as ours are left
//! alone when there is no such service.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Service,
};
use quorate_state_machine::Key;
use quorate_state_machine::object::StoredRef;
use serde_json::json;

use super::endpoint_slice::{endpoint_ports, families, hostname, is_headless, may_be_endpoint};
use crate::limits::ENDPOINTS_ADDRESSES_MAX;
use crate::model::{Pod, decode, to_value};
use crate::plan::{Ctx, Plan};
use crate::resources::ENDPOINTS;
use crate::selector::find;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// Name, number, protocol and application protocol of a port: ordered, so that subsets are.
type Port = (String, i32, String, Option<String>);

/// What is to be done for one service.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let stored = ctx.world.get(&ENDPOINTS.at(&key.object));
    let Some(found) = ctx.world.services.get(&key.object) else {
        let ours = |stored: &&StoredRef| {
            let header = &stored.image.header;
            find(&header.labels, MANAGED_BY) == Some(CONTROLLER) && header.deletion.is_none()
        };
        if let Some(stored) = stored.filter(ours) {
            plan.delete(stored);
        }
        return plan;
    };
    let service = &found.object;
    let spec = service.spec.clone().unwrap_or_default();
    if spec.selector.as_ref().is_none_or(BTreeMap::is_empty)
        || spec.type_.as_deref() == Some("ExternalName")
    {
        return plan;
    }
    let (subsets, truncated) = subsets(ctx, service);
    let labels = labels(service);
    let before: Option<Endpoints> = stored.and_then(decode);
    match (stored, before) {
        (Some(stored), Some(before)) => {
            let annotations = before.metadata.annotations.clone().unwrap_or_default();
            let same = before.subsets.unwrap_or_default() == subsets
                && before.metadata.labels.as_ref() == Some(&labels)
                && annotations.contains_key(OVER_CAPACITY) == truncated;
            if !same {
                let mut object = to_value(stored);
                object["subsets"] = json!(subsets);
                object["metadata"]["labels"] = json!(labels);
                if truncated {
                    object["metadata"]["annotations"][OVER_CAPACITY] = json!("truncated");
                } else if let Some(annotations) = object["metadata"]["annotations"].as_object_mut()
                {
                    annotations.remove(OVER_CAPACITY);
                }
                plan.update(stored, object, "");
            }
        }
        _ => {
            let mut metadata = json!({
                "name": service.metadata.name,
                "namespace": service.metadata.namespace,
                "labels": labels,
            });
            if truncated {
                metadata["annotations"] = json!({ OVER_CAPACITY: "truncated" });
            }
            plan.create(
                ENDPOINTS.group_resource(),
                json!({
                    "apiVersion": "v1",
                    "kind": "Endpoints",
                    "metadata": metadata,
                    "subsets": subsets,
                }),
            );
        }
    }
    plan
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels
}

/// Addresses by the set of ports that they have, and whether some had to be left out.
fn subsets(ctx: &Ctx<'_>, service: &Service) -> (Vec<EndpointSubset>, bool) {
    let spec = service.spec.clone().unwrap_or_default();
    let selector = spec.selector.unwrap_or_default();
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let not_ready_too = spec.publish_not_ready_addresses == Some(true);
    let has_ports = spec.ports.is_some_and(|ports| !ports.is_empty());
    let Some(family) = families(service).into_iter().next() else {
        return (Vec::new(), false);
    };
    let mut found: Vec<(bool, EndpointAddress, BTreeSet<Port>)> = Vec::new();
    for pod in ctx.world.pods_with_labels(namespace, &selector) {
        let pod = &pod.object;
        let Some(ip) = family.address(pod).filter(|_| may_be_endpoint(pod, not_ready_too)) else {
            continue;
        };
        let ports: BTreeSet<Port> = endpoint_ports(service, pod)
            .into_iter()
            .map(|port| {
                let protocol = port.protocol.unwrap_or_default();
                let name = port.name.unwrap_or_default();
                (name, port.port.unwrap_or_default(), protocol, port.app_protocol)
            })
            .collect();
        if ports.is_empty() && has_ports {
            continue;
        }
        found.push((not_ready_too || pod.ready(), address(service, pod, ip), ports));
    }
    // Ready ones are kept first when there are too many.
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.ip.cmp(&b.1.ip)));
    let truncated = found.len() > ENDPOINTS_ADDRESSES_MAX;
    found.truncate(ENDPOINTS_ADDRESSES_MAX);
    let mut subsets: BTreeMap<BTreeSet<Port>, EndpointSubset> = BTreeMap::new();
    for (ready, address, ports) in found {
        let subset = subsets.entry(ports).or_default();
        let list = if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    let with_ports = |(ports, mut subset): (BTreeSet<Port>, EndpointSubset)| {
        let ports: Vec<EndpointPort> = ports.into_iter().map(port).collect();
        subset.ports = (!ports.is_empty()).then_some(ports);
        subset
    };
    (subsets.into_iter().map(with_ports).collect(), truncated)
}

fn port((name, port, protocol, app_protocol): Port) -> EndpointPort {
    EndpointPort {
        name: (!name.is_empty()).then_some(name),
        port,
        protocol: Some(protocol),
        app_protocol,
    }
}

fn address(service: &Service, pod: &Pod, ip: &str) -> EndpointAddress {
    let node = &pod.spec.node_name;
    EndpointAddress {
        ip: ip.to_owned(),
        hostname: hostname(service, pod),
        node_name: (!node.is_empty()).then(|| node.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.metadata.namespace.clone()),
            name: Some(pod.metadata.name.clone()),
            uid: Some(pod.metadata.uid.clone()),
            ..ObjectReference::default()
        }),
    }
}
