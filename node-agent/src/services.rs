//! Cluster IPs on this node: what the masters say of Services and EndpointSlices, as rules for the pod network.

use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::desired::Objects;
use crate::limits::SERVICES_INTERVAL;
use crate::network::{PodNetwork, ServiceRule};
use crate::runtime::Protocol;
use crate::shared::Shared;

/// Names the Service of an EndpointSlice.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Keeps the rules as the masters' objects are. What cannot be written is said once and tried
/// again with the next change.
pub(crate) async fn keep(shared: Arc<Shared>, network: PodNetwork) {
    let mut done = None;
    let mut ticks = tokio::time::interval(SERVICES_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (version, rules) = shared.desired.read(|objects| {
            let news = objects.synced && done != Some(objects.services_version);
            (objects.services_version, news.then(|| rules(objects)))
        });
        let Some(rules) = rules else { continue };
        if let Err(error) = network.sync_services(rules).await {
            tracing::warn!(%error, "cluster IPs do not lead anywhere on this node");
        }
        done = Some(version);
    }
}

/// One rule for each port of each Service that has an IPv4 cluster IP.
fn rules(objects: &Objects) -> Vec<ServiceRule> {
    let mut rules = Vec::new();
    for ((namespace, name), service) in &objects.services {
        let Some(cluster_ip) = cluster_ip(service) else { continue };
        let slices: Vec<&EndpointSlice> = objects
            .endpoint_slices
            .iter()
            .filter(|((of, _), slice)| {
                let labels = slice.metadata.labels.as_ref();
                of == namespace && labels.and_then(|l| l.get(SERVICE_LABEL)) == Some(name)
            })
            .map(|(_, slice)| &**slice)
            .collect();
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        for port in ports {
            let Some(number) = u16::try_from(port.port).ok() else { continue };
            rules.push(ServiceRule {
                cluster_ip,
                port: number,
                protocol: protocol(port.protocol.as_deref()),
                endpoints: endpoints(port, &slices),
            });
        }
    }
    rules
}

fn cluster_ip(service: &Service) -> Option<Ipv4Addr> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.cluster_ip.as_deref()?.parse().ok()
}

fn protocol(text: Option<&str>) -> Protocol {
    match text {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

/// The ready endpoints of one port of a Service.
fn endpoints(port: &ServicePort, slices: &[&EndpointSlice]) -> Vec<(Ipv4Addr, u16)> {
    let wanted = port.name.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    for slice in slices {
        let number = slice
            .ports
            .iter()
            .flatten()
            .find(|of| of.name.as_deref().unwrap_or_default() == wanted)
            .and_then(|of| u16::try_from(of.port?).ok());
        let Some(number) = number else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
            let addresses = endpoint.addresses.iter().filter(|_| ready);
            found.extend(
                addresses.filter_map(|address| Some((address.parse::<Ipv4Addr>().ok()?, number))),
            );
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn objects(service: serde_json::Value, slice: serde_json::Value) -> Objects {
        let mut objects = Objects::default();
        let key = |name: &str| ("d".to_owned(), name.to_owned());
        objects.services.insert(key("s"), Arc::new(serde_json::from_value(service).unwrap()));
        objects
            .endpoint_slices
            .insert(key("s-1"), Arc::new(serde_json::from_value(slice).unwrap()));
        objects
    }

    #[test]
    fn ready_endpoints_are_found_by_the_ports_name() {
        let service = json!({"spec": {"clusterIP": "10.43.0.9", "ports": [
            {"name": "web", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"},
        ]}});
        let slice = json!({
            "metadata": {"labels": {SERVICE_LABEL: "s"}}, "addressType": "IPv4",
            "ports": [{"name": "web", "port": 8080}],
            "endpoints": [
                {"addresses": ["10.42.0.2"], "conditions": {"ready": true}},
                {"addresses": ["10.42.0.3"], "conditions": {"ready": false}},
                {"addresses": ["10.42.0.4"]},
            ],
        });
        let rules = rules(&objects(service, slice));
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[0].endpoints, [(ip("10.42.0.2"), 8080), (ip("10.42.0.4"), 8080)]);
        assert_eq!((rules[1].protocol, rules[1].endpoints.len()), (Protocol::Udp, 0));
    }

    #[test]
    fn headless_and_external_services_have_no_rules() {
        let slice = json!({"metadata": {}, "addressType": "IPv4", "endpoints": []});
        for spec in [
            json!({"clusterIP": "None", "ports": [{"port": 80}]}),
            json!({"type": "ExternalName", "ports": [{"port": 80}]}),
        ] {
            assert_eq!(rules(&objects(json!({"spec": spec}), slice.clone())), []);
        }
    }
}
