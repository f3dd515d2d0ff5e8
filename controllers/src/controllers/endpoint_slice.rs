//! EndpointSlice: the addresses behind each service with a selector, for proxies and DNS.
//!
//! Desired: for each IP family and each set of ports, slices of at most 100 endpoints that hold the
//! matching pods. Writes: the slices that this controller manages. Endpoints that did not change
//! stay in their slice, so that a change of one pod is a write of one slice. Services without a
//! selector and of type ExternalName are not ours; slices of a deleted service go by their owner
//! reference.

mod pods;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use quorate_state_machine::Key;
use quorate_state_machine::object::StoredRef;
use serde_json::{Value, json};

use crate::limits::ENDPOINTS_PER_SLICE_MAX;
use crate::model::{decode, to_value};
use crate::plan::{Ctx, Plan};
use crate::resources::ENDPOINT_SLICES;
use crate::selector::find;
use crate::wake::SERVICE_NAME_LABEL;
pub(super) use pods::{Family, endpoint_ports, families, hostname, is_headless, may_be_endpoint};

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Endpoints with the same ports, by the pod's uid.
type Group = BTreeMap<String, Endpoint>;

/// A slice that is there.
struct Slice<'a> {
    stored: &'a StoredRef,
    before: EndpointSlice,
    endpoints: Vec<Endpoint>,
}

/// What is to be done for one service.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(found) = ctx.world.services.get(&key.object) else {
        return plan;
    };
    let service = &found.object;
    let spec = service.spec.clone().unwrap_or_default();
    let no_selector = spec.selector.as_ref().is_none_or(BTreeMap::is_empty);
    if no_selector
        || spec.type_.as_deref() == Some("ExternalName")
        || service.metadata.deletion_timestamp.is_some()
    {
        return plan;
    }
    let mut existing = slices_of(ctx, found.stored.uid(), &key.object.name);
    let labels = labels_of(service);
    for family in families(service) {
        let mine: Vec<Slice<'_>>;
        (mine, existing) =
            existing.into_iter().partition(|slice| slice.before.address_type == family.name());
        reconcile_family(ctx, service, family, mine, &labels, &mut plan);
    }
    // Of a family that the service no longer has.
    existing.iter().for_each(|slice| {
        plan.delete(slice.stored);
    });
    plan
}

fn slices_of<'a>(ctx: &Ctx<'a>, uid: &str, service: &str) -> Vec<Slice<'a>> {
    ctx.world
        .dependents(uid)
        .filter(|key| ENDPOINT_SLICES.is(&key.resource))
        .filter_map(|key| ctx.world.get(key))
        .filter(|stored| {
            let labels = &stored.image.header.labels;
            find(labels, MANAGED_BY) == Some(CONTROLLER)
                && find(labels, SERVICE_NAME_LABEL) == Some(service)
                && stored.image.header.deletion.is_none()
        })
        .filter_map(|stored| {
            let before: EndpointSlice = decode(stored)?;
            let endpoints = before.endpoints.clone().unwrap_or_default();
            Some(Slice { stored, before, endpoints })
        })
        .collect()
}

/// The service's labels and ours.
fn labels_of(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), name);
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels
}

fn reconcile_family(
    ctx: &Ctx<'_>,
    service: &Service,
    family: Family,
    mut existing: Vec<Slice<'_>>,
    labels: &BTreeMap<String, String>,
    plan: &mut Plan,
) {
    let groups = pods::groups(ctx, service, family);
    if groups.is_empty() {
        keep_placeholder(service, family, existing, labels, plan);
        return;
    }
    for (ports, group) in groups {
        let mine: Vec<Slice<'_>>;
        (mine, existing) = existing
            .into_iter()
            .partition(|slice| same_ports(slice.before.ports.as_deref().unwrap_or(&[]), &ports));
        reconcile_group(service, family, (&ports, group), mine, labels, plan);
    }
    existing.iter().for_each(|slice| {
        plan.delete(slice.stored);
    });
}

fn same_ports(a: &[EndpointPort], b: &[EndpointPort]) -> bool {
    let sorted = |ports: &[EndpointPort]| {
        let mut ports: Vec<_> = ports
            .iter()
            .map(|port| {
                (
                    port.name.clone().unwrap_or_default(),
                    port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                    port.port,
                    port.app_protocol.clone(),
                )
            })
            .collect();
        ports.sort();
        ports
    };
    sorted(a) == sorted(b)
}

/// A service without endpoints has one empty slice: so everybody sees that it was looked at.
fn keep_placeholder(
    service: &Service,
    family: Family,
    existing: Vec<Slice<'_>>,
    labels: &BTreeMap<String, String>,
    plan: &mut Plan,
) {
    let mut existing = existing.into_iter();
    match existing.next() {
        None => {
            let object = new_slice(service, family, &[], &[], labels);
            plan.create(ENDPOINT_SLICES.group_resource(), object);
        }
        Some(mut first) => {
            first.endpoints.clear();
            let ports = first.before.ports.clone().unwrap_or_default();
            write(&first, &ports, labels, plan);
        }
    }
    for slice in existing {
        plan.delete(slice.stored);
    }
}

/// Keeps what is there where it is, drops what is gone, and puts new endpoints into the fullest
/// slices with room before it makes new ones.
fn reconcile_group(
    service: &Service,
    family: Family,
    (ports, mut wanted): (&[EndpointPort], Group),
    mut slices: Vec<Slice<'_>>,
    labels: &BTreeMap<String, String>,
    plan: &mut Plan,
) {
    slices.sort_by(|a, b| a.stored.key.object.cmp(&b.stored.key.object));
    for slice in &mut slices {
        let kept =
            slice.endpoints.drain(..).filter_map(|endpoint| wanted.remove(&uid_of(&endpoint)));
        let kept: Vec<Endpoint> = kept.take(ENDPOINTS_PER_SLICE_MAX).collect();
        slice.endpoints = kept;
    }
    let mut new: Vec<Endpoint> = wanted.into_values().collect();
    let mut by_room: Vec<usize> = (0..slices.len()).collect();
    by_room.sort_by_key(|at| std::cmp::Reverse(slices[*at].endpoints.len()));
    for at in by_room {
        let room = ENDPOINTS_PER_SLICE_MAX.saturating_sub(slices[at].endpoints.len());
        let count = room.min(new.len());
        slices[at].endpoints.extend(new.drain(..count));
    }
    for slice in &slices {
        if slice.endpoints.is_empty() {
            plan.delete(slice.stored);
        } else {
            write(slice, ports, labels, plan);
        }
    }
    for chunk in new.chunks(ENDPOINTS_PER_SLICE_MAX) {
        let object = new_slice(service, family, ports, chunk, labels);
        plan.create(ENDPOINT_SLICES.group_resource(), object);
    }
}

fn uid_of(endpoint: &Endpoint) -> String {
    endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default()
}

/// Writes a slice if it differs from what is stored.
fn write(
    slice: &Slice<'_>,
    ports: &[EndpointPort],
    labels: &BTreeMap<String, String>,
    plan: &mut Plan,
) {
    let before = slice.before.endpoints.as_deref().unwrap_or(&[]);
    let same = before == slice.endpoints && slice.before.metadata.labels.as_ref() == Some(labels);
    if same {
        return;
    }
    let mut object = to_value(slice.stored);
    object["metadata"]["labels"] = json!(labels);
    object["endpoints"] = json!(slice.endpoints);
    object["ports"] = json!(ports);
    plan.update(slice.stored, object, "");
}

fn new_slice(
    service: &Service,
    family: Family,
    ports: &[EndpointPort],
    endpoints: &[Endpoint],
    labels: &BTreeMap<String, String>,
) -> Value {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{name}-"),
            "namespace": service.metadata.namespace,
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": "v1",
                "kind": "Service",
                "name": name,
                "uid": service.metadata.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "addressType": family.name(),
        "endpoints": endpoints,
        "ports": ports,
    })
}

#[cfg(test)]
mod tests;
