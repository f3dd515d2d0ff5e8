//! EndpointSlice mirroring: Endpoints that somebody wrote for a service without a selector, as slices,
//! which is where proxies and DNS look.
//!
//! Desired: for each IP family and each set of ports of such an Endpoints object, slices with its
//! addresses. Writes: the slices that this controller manages; those of an Endpoints object that is
//! gone go by their owner reference. Endpoints with the label `skip-mirror` are left to who wrote them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use quorate_state_machine::Key;
use quorate_state_machine::object::StoredRef;

use super::endpoint_slice::{
    Family, Group, MANAGED_BY, Owner, identity, reconcile_groups, slices_of,
};
use crate::limits::ENDPOINTS_ADDRESSES_MAX;
use crate::model::decode;
use crate::plan::{Ctx, Plan};
use crate::resources::SERVICES;
use crate::selector::find;
use crate::wake::SERVICE_NAME_LABEL;

const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// Annotations of Endpoints that say something about them alone.
const NOT_COPIED: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// What is to be done for one Endpoints object.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(stored) = ctx.world.get(key) else {
        return plan;
    };
    let mut existing = slices_of(ctx, stored.uid(), &key.object.name, CONTROLLER);
    let found: Option<Endpoints> = decode(stored);
    let Some(endpoints) = found.filter(|endpoints| is_mirrored(ctx, stored, endpoints)) else {
        existing.iter().for_each(|slice| {
            plan.delete(slice.stored);
        });
        return plan;
    };
    let owner = owner(stored, &endpoints);
    for family in [Family::V4, Family::V6] {
        let mine: Vec<_>;
        (mine, existing) =
            existing.into_iter().partition(|slice| slice.before.address_type == family.name());
        reconcile_groups(family, groups(&endpoints, family), mine, &owner, &mut plan);
    }
    plan
}

/// Whether the Endpoints are somebody's own words about a service without a selector.
fn is_mirrored(ctx: &Ctx<'_>, stored: &StoredRef, endpoints: &Endpoints) -> bool {
    let header = &stored.image.header;
    let annotations = endpoints.metadata.annotations.as_ref();
    let elects = annotations.is_some_and(|annotations| annotations.contains_key(LEADER));
    let skips = find(&header.labels, SKIP) == Some("true");
    let service = ctx.world.services.get(&SERVICES.at(&stored.key.object).object);
    let no_selector =
        service.and_then(|service| service.object.spec.as_ref()).is_some_and(|spec| {
            spec.selector.as_ref().is_none_or(BTreeMap::is_empty)
                && spec.type_.as_deref() != Some("ExternalName")
        });
    header.deletion.is_none() && !elects && !skips && no_selector
}

fn owner<'a>(stored: &'a StoredRef, endpoints: &Endpoints) -> Owner<'a> {
    let name = &*stored.key.object.name;
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), name.to_owned());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !NOT_COPIED.contains(&key.as_str()));
    Owner {
        kind: "Endpoints",
        name,
        namespace: &stored.key.object.namespace,
        uid: stored.uid(),
        labels,
        annotations: Some(annotations),
        per_slice: ENDPOINTS_ADDRESSES_MAX,
    }
}

/// The addresses of one family, those with the same ports together.
fn groups(endpoints: &Endpoints, family: Family) -> Vec<(Vec<EndpointPort>, Group)> {
    let mut groups: BTreeMap<String, (Vec<EndpointPort>, Group)> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset);
        let mut members = members(subset, family).peekable();
        if members.peek().is_none() {
            continue;
        }
        // Whatever their order: so they are compared with what is there.
        let mut names: Vec<String> = ports.iter().map(|port| format!("{port:?}")).collect();
        names.sort();
        let group = groups.entry(names.concat()).or_insert_with(|| (ports, Group::default()));
        for endpoint in members {
            // Of two that say the same address the first counts: ready ones come first.
            group.1.entry(identity(&endpoint)).or_insert(endpoint);
        }
    }
    groups.into_values().collect()
}

fn members(subset: &EndpointSubset, family: Family) -> impl Iterator<Item = Endpoint> + '_ {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    let all = ready.chain(not_ready).filter(move |(address, _)| family.is_of(&address.ip));
    all.take(ENDPOINTS_ADDRESSES_MAX).map(|(address, ready)| endpoint(address, ready))
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let port = |port: &k8s_openapi::api::core::v1::EndpointPort| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    };
    subset.ports.iter().flatten().map(port).collect()
}
