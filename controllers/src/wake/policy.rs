//! Wakes those who count what others make: quotas and disruption budgets; and who protects what is used.

use super::Wake;
use crate::plan::{Controller, WorkKey};
use crate::resources::{
    CLAIMS, DEPLOYMENTS, EVENTS, POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS,
    REPLICATION_CONTROLLERS, RESOURCE_QUOTAS, Resource, SERVICES, SIGNING_REQUESTS, STATEFUL_SETS,
    VOLUMES,
};
use crate::world::{Changed, ChangedPod, World};

/// Whoever has to look again because one object changed.
pub(super) fn wakes(world: &World, change: &Changed, wake: Wake<'_>) {
    let resource = &change.key.resource;
    for (own, controller) in [
        (RESOURCE_QUOTAS, Controller::ResourceQuota),
        (POD_DISRUPTION_BUDGETS, Controller::Disruption),
        (CLAIMS, Controller::ClaimProtection),
        (VOLUMES, Controller::VolumeProtection),
        (SIGNING_REQUESTS, Controller::Certificates),
    ] {
        if own.is(resource) {
            wake(WorkKey::new(controller, change.key.clone()));
        }
    }
    let namespace = &*change.key.object.namespace;
    if namespace.is_empty() || EVENTS.is(resource) {
        return;
    }
    let came_or_went = change.old.is_none() || change.new.is_none();
    // Others count for the same all their life.
    if came_or_went || [PODS, SERVICES, CLAIMS].iter().any(|one| one.is(resource)) {
        all_of(world, RESOURCE_QUOTAS, namespace, Controller::ResourceQuota, wake);
    }
    let scalable = [DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS];
    if scalable.iter().any(|one| one.is(resource)) {
        all_of(world, POD_DISRUPTION_BUDGETS, namespace, Controller::Disruption, wake);
    }
}

fn all_of(
    world: &World,
    resource: Resource,
    namespace: &str,
    controller: Controller,
    wake: Wake<'_>,
) {
    let all = world.resource(resource);
    for found in all.into_iter().flat_map(|all| all.range(namespace, None)) {
        wake(WorkKey::new(controller, found.key.clone()));
    }
}

/// Whoever has to look again because one pod changed.
pub(super) fn wakes_by_pod(world: &World, change: &ChangedPod, wake: Wake<'_>) {
    let Some(pod) = change.new.as_ref().or(change.old.as_ref()) else { return };
    let namespace = pod.object.metadata.namespace.as_str();
    all_of(world, POD_DISRUPTION_BUDGETS, namespace, Controller::Disruption, wake);
    let over = change.new.as_ref().is_none_or(|pod| pod.object.ended());
    if !over {
        return;
    }
    let claims = world.resource(CLAIMS);
    for claim in claims.into_iter().flat_map(|all| all.range(namespace, None)) {
        if claim.image.header.deletion.is_some() {
            wake(WorkKey::new(Controller::ClaimProtection, claim.key.clone()));
        }
    }
}
