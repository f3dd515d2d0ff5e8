//! Which change wakes replication controllers, daemon sets, stateful sets and cron jobs.

use quorate_state_machine::object::StoredRef;

use super::{Wake, wake_owners};
use crate::model::{Meta, Node, Pod, decode};
use crate::plan::{Controller, WorkKey};
use crate::resources::{
    CLAIMS, CONTROLLER_REVISIONS, CRON_JOBS, DAEMON_SETS, JOBS, NODES, REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
};
use crate::selector::LabelSelector;
use crate::world::{Changed, Object, World, in_namespace};

/// Controllers whose keys are their own objects.
const OWN: [(crate::resources::Resource, Controller); 4] = [
    (REPLICATION_CONTROLLERS, Controller::ReplicationController),
    (DAEMON_SETS, Controller::DaemonSet),
    (STATEFUL_SETS, Controller::StatefulSet),
    (CRON_JOBS, Controller::CronJob),
];

pub(super) fn by_resource(world: &World, change: &Changed, wake: Wake<'_>) {
    let resource = &change.key.resource;
    if let Some((_, controller)) = OWN.iter().find(|(own, _)| own.is(resource)) {
        wake(WorkKey::new(*controller, change.key.clone()));
    } else if NODES.is(resource) {
        by_node(world, change, wake);
    } else if CLAIMS.is(resource) {
        by_claim(world, change, wake);
    } else if JOBS.is(resource) {
        for version in change.versions() {
            wake_owners(world, version, CRON_JOBS, Controller::CronJob, wake);
        }
    } else if CONTROLLER_REVISIONS.is(resource) {
        for version in change.versions() {
            wake_owners(world, version, DAEMON_SETS, Controller::DaemonSet, wake);
            wake_owners(world, version, STATEFUL_SETS, Controller::StatefulSet, wake);
            if version.image.header.owners.is_empty() {
                let labels = &version.image.header.labels;
                let namespace = &change.key.object.namespace;
                wake_matching(world, namespace, |selector| selector.selects_sorted(labels), wake);
            }
        }
    }
}

/// Daemon sets look at what decides whether they run there, not at every report of a node.
fn by_node(world: &World, change: &Changed, wake: Wake<'_>) {
    let node = |version: &Option<StoredRef>| version.as_ref().and_then(decode::<Node>);
    let matters = match (node(&change.old), node(&change.new)) {
        (Some(old), Some(new)) => {
            old.metadata.labels != new.metadata.labels
                || old.spec.taints != new.spec.taints
                || old.spec.unschedulable != new.spec.unschedulable
        }
        _ => true,
    };
    if matters {
        for daemon_set in world.all_daemon_sets() {
            wake(WorkKey::new(Controller::DaemonSet, daemon_set.stored.key.clone()));
        }
    }
}

/// A claim that comes, goes or changes its owners is looked at by the set that it is named after.
fn by_claim(world: &World, change: &Changed, wake: Wake<'_>) {
    let sets = world.stateful_sets.snapshot();
    for set in in_namespace(&sets, &change.key.object.namespace) {
        let infix = format!("-{}-", set.object.metadata.name);
        if !set.object.spec.volume_claim_templates.is_empty()
            && change.key.object.name.contains(&infix)
        {
            wake(WorkKey::new(Controller::StatefulSet, set.stored.key.clone()));
        }
    }
}

/// Those who own a pod; for one that nobody manages, those that select it.
pub(super) fn by_pod(world: &World, pod: &Object<Pod>, wake: Wake<'_>) {
    for (resource, controller) in OWN {
        wake_owners(world, &pod.stored, resource, controller, wake);
    }
    let Meta { namespace, labels, .. } = &pod.object.metadata;
    if pod.object.metadata.controller().is_none() {
        wake_matching(world, namespace, |selector| selector.selects(labels), wake);
        let controllers = world.replication_controllers.snapshot();
        for found in in_namespace(&controllers, namespace) {
            if found.object.0.spec.selector.selects(labels) {
                let key = found.stored.key.clone();
                wake(WorkKey::new(Controller::ReplicationController, key));
            }
        }
    }
}

fn wake_matching(
    world: &World,
    namespace: &str,
    selects: impl Fn(&LabelSelector) -> bool,
    wake: Wake<'_>,
) {
    let daemon_sets = world.daemon_sets.snapshot();
    for found in in_namespace(&daemon_sets, namespace) {
        if selects(&found.object.spec.selector) {
            wake(WorkKey::new(Controller::DaemonSet, found.stored.key.clone()));
        }
    }
    let stateful_sets = world.stateful_sets.snapshot();
    for found in in_namespace(&stateful_sets, namespace) {
        if selects(&found.object.spec.selector) {
            wake(WorkKey::new(Controller::StatefulSet, found.stored.key.clone()));
        }
    }
}
