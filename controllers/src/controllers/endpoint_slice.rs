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

pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Endpoints with the same ports, by what tells them apart ([`identity`]).
pub(super) type Group = BTreeMap<(String, String), Endpoint>;

/// A slice that is there.
pub(super) struct Slice<'a> {
    pub(super) stored: &'a StoredRef,
    pub(super) before: EndpointSlice,
    endpoints: Vec<Endpoint>,
}

/// Whose slices are made, and what all of them have.
pub(super) struct Owner<'a> {
    /// `Service`, or `Endpoints` of a service without a selector.
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) uid: &'a str,
    pub(super) labels: BTreeMap<String, String>,
    /// Exactly these; `None` leaves those that others have put there.
    pub(super) annotations: Option<BTreeMap<String, String>>,
    /// How many endpoints a slice takes.
    pub(super) per_slice: usize,
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
    let mut existing = slices_of(ctx, found.stored.uid(), &key.object.name, CONTROLLER);
    let owner = Owner {
        kind: "Service",
        name: &key.object.name,
        namespace: &key.object.namespace,
        uid: found.stored.uid(),
        labels: labels_of(service),
        annotations: None,
        per_slice: ENDPOINTS_PER_SLICE_MAX,
    };
    for family in families(service) {
        let mine: Vec<Slice<'_>>;
        (mine, existing) =
            existing.into_iter().partition(|slice| slice.before.address_type == family.name());
        reconcile_family(ctx, service, family, mine, &owner, &mut plan);
    }
    // Of a family that the service no longer has.
    existing.iter().for_each(|slice| {
        plan.delete(slice.stored);
    });
    plan
}

/// The slices of an owner that a controller manages.
pub(super) fn slices_of<'a>(
    ctx: &Ctx<'a>,
    uid: &str,
    service: &str,
    controller: &str,
) -> Vec<Slice<'a>> {
    ctx.world
        .dependents(uid)
        .filter(|key| ENDPOINT_SLICES.is(&key.resource))
        .filter_map(|key| ctx.world.get(key))
        .filter(|stored| {
            let labels = &stored.image.header.labels;
            find(labels, MANAGED_BY) == Some(controller)
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
    existing: Vec<Slice<'_>>,
    owner: &Owner<'_>,
    plan: &mut Plan,
) {
    let groups = pods::groups(ctx, service, family);
    if groups.is_empty() {
        keep_placeholder(family, existing, owner, plan);
    } else {
        reconcile_groups(family, groups, existing, owner, plan);
    }
}

/// Each group into slices with its ports; slices with other ports go.
pub(super) fn reconcile_groups(
    family: Family,
    groups: Vec<(Vec<EndpointPort>, Group)>,
    mut existing: Vec<Slice<'_>>,
    owner: &Owner<'_>,
    plan: &mut Plan,
) {
    for (ports, group) in groups {
        let mine: Vec<Slice<'_>>;
        (mine, existing) = existing
            .into_iter()
            .partition(|slice| same_ports(slice.before.ports.as_deref().unwrap_or(&[]), &ports));
        reconcile_group(family, (&ports, group), mine, owner, plan);
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
fn keep_placeholder(family: Family, existing: Vec<Slice<'_>>, owner: &Owner<'_>, plan: &mut Plan) {
    let mut existing = existing.into_iter();
    match existing.next() {
        None => {
            let object = new_slice(family, &[], &[], owner);
            plan.create(ENDPOINT_SLICES.group_resource(), object);
        }
        Some(mut first) => {
            first.endpoints.clear();
            let ports = first.before.ports.clone().unwrap_or_default();
            write(&first, &ports, owner, plan);
        }
    }
    for slice in existing {
        plan.delete(slice.stored);
    }
}

/// Keeps what is there where it is, drops what is gone, and puts new endpoints into the fullest
/// slices with room before it makes new ones.
fn reconcile_group(
    family: Family,
    (ports, mut wanted): (&[EndpointPort], Group),
    mut slices: Vec<Slice<'_>>,
    owner: &Owner<'_>,
    plan: &mut Plan,
) {
    slices.sort_by(|a, b| a.stored.key.object.cmp(&b.stored.key.object));
    for slice in &mut slices {
        let kept =
            slice.endpoints.drain(..).filter_map(|endpoint| wanted.remove(&identity(&endpoint)));
        let kept: Vec<Endpoint> = kept.take(owner.per_slice).collect();
        slice.endpoints = kept;
    }
    let mut new: Vec<Endpoint> = wanted.into_values().collect();
    let mut by_room: Vec<usize> = (0..slices.len()).collect();
    by_room.sort_by_key(|at| std::cmp::Reverse(slices[*at].endpoints.len()));
    for at in by_room {
        let room = owner.per_slice.saturating_sub(slices[at].endpoints.len());
        let count = room.min(new.len());
        slices[at].endpoints.extend(new.drain(..count));
    }
    for slice in &slices {
        if slice.endpoints.is_empty() {
            plan.delete(slice.stored);
        } else {
            write(slice, ports, owner, plan);
        }
    }
    for chunk in new.chunks(owner.per_slice) {
        let object = new_slice(family, ports, chunk, owner);
        plan.create(ENDPOINT_SLICES.group_resource(), object);
    }
}

/// What tells one endpoint from another: the uid of what it stands for, if it says so, and its address.
pub(super) fn identity(endpoint: &Endpoint) -> (String, String) {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    (uid.unwrap_or_default(), endpoint.addresses.first().cloned().unwrap_or_default())
}

/// Writes a slice if it differs from what is stored.
fn write(slice: &Slice<'_>, ports: &[EndpointPort], owner: &Owner<'_>, plan: &mut Plan) {
    let before = slice.before.endpoints.as_deref().unwrap_or(&[]);
    let metadata = &slice.before.metadata;
    let no_annotations = BTreeMap::new();
    let annotations = metadata.annotations.as_ref().unwrap_or(&no_annotations);
    let annotated = owner.annotations.as_ref().is_none_or(|wanted| wanted == annotations);
    if before == slice.endpoints && metadata.labels.as_ref() == Some(&owner.labels) && annotated {
        return;
    }
    let mut object = to_value(slice.stored);
    object["metadata"]["labels"] = json!(owner.labels);
    if let Some(annotations) = &owner.annotations {
        object["metadata"]["annotations"] = json!(annotations);
    }
    object["endpoints"] = json!(slice.endpoints);
    object["ports"] = json!(ports);
    plan.update(slice.stored, object, "");
}

fn new_slice(
    family: Family,
    ports: &[EndpointPort],
    endpoints: &[Endpoint],
    owner: &Owner<'_>,
) -> Value {
    let mut metadata = json!({
        "generateName": format!("{}-", owner.name),
        "namespace": owner.namespace,
        "labels": owner.labels,
        "ownerReferences": [{
            "apiVersion": "v1",
            "kind": owner.kind,
            "name": owner.name,
            "uid": owner.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }],
    });
    if let Some(annotations) = &owner.annotations {
        metadata["annotations"] = json!(annotations);
    }
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family.name(),
        "endpoints": endpoints,
        "ports": ports,
    })
}

#[cfg(test)]
mod tests;
