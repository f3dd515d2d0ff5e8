//! Which change wakes which key. Wake-ups carry no data: plans read the world.
//!
//! What is missing here is found only by the resync, whose repairs are counted and should be none.

mod policy;
mod workloads;

use k8s_openapi::api::core::v1::Service;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{Key, ObjectKey};

use crate::controllers::{definition, garbage, job, token_cleaner};
use crate::model::{Node, Pod};
use crate::plan::{Controller, WorkKey};
use crate::resources::{
    CONFIG_MAPS, DEPLOYMENTS, ENDPOINT_SLICES, ENDPOINTS, EVENTS, JOBS, NAMESPACES, NODES, PODS,
    REPLICA_SETS, SECRETS, SERVICE_ACCOUNTS, SERVICES, VALIDATING_POLICIES,
};
use crate::selector::find;
use crate::world::{Changed, ChangedPod, Changes, Object, World, in_namespace};

/// Where woken keys go.
type Wake<'a> = &'a mut dyn FnMut(WorkKey);

/// The label that names an EndpointSlice's service.
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Keys of controllers that look at the whole cluster at once.
pub(crate) fn whole_cluster(controller: Controller) -> WorkKey {
    let resource = match controller {
        Controller::PodGc => PODS,
        _ => NODES,
    };
    WorkKey::new(controller, resource.key("", ""))
}

/// Wakes what may have to do something because of changes.
pub(crate) fn wakes(world: &World, changes: &Changes, wake: Wake<'_>) {
    for change in &changes.all {
        by_resource(world, change, wake);
        garbage::wakes(world, change, wake);
        definition::wakes(world, change, wake);
        wake_namespace(world, change, wake);
        policy::wakes(world, change, wake);
    }
    for change in &changes.pods {
        policy::wakes_by_pod(world, change, wake);
        by_pod(world, change, wake);
    }
}

/// Wakes everything: the resync.
pub(crate) fn all(world: &World, wake: Wake<'_>) {
    for (_, resource) in world.view().resources() {
        for object in resource.iter() {
            let change = Changed { key: object.key.clone(), old: None, new: Some(object.clone()) };
            by_resource(world, &change, wake);
            garbage::wakes(world, &change, wake);
            policy::wakes(world, &change, wake);
            definition::wakes(world, &change, wake);
        }
    }
    for pod in world.all_pods() {
        by_pod(world, &ChangedPod { old: None, new: Some(pod.clone()) }, wake);
    }
}

/// Who publishes the authorities of the API.
pub(crate) fn root_ca(world: &World, wake: Wake<'_>) {
    let all = |resource| world.resource(resource).into_iter().flat_map(|found| found.iter());
    for namespace in all(NAMESPACES) {
        wake(WorkKey::new(Controller::RootCa, namespace.key.clone()));
    }
    for secret in all(SECRETS) {
        wake(WorkKey::new(Controller::AccountToken, secret.key.clone()));
    }
}

fn by_resource(world: &World, change: &Changed, wake: Wake<'_>) {
    let resource = &change.key.resource;
    wake_account_tokens(world, change, wake);
    workloads::by_resource(world, change, wake);
    if REPLICA_SETS.is(resource) {
        wake(WorkKey::new(Controller::ReplicaSet, change.key.clone()));
        wake_deployments_of(world, change, wake);
    } else if JOBS.is(resource) {
        wake_job(world, change, wake);
    } else if DEPLOYMENTS.is(resource) {
        wake(WorkKey::new(Controller::Deployment, change.key.clone()));
    } else if NODES.is(resource) {
        wake_node(world, change, wake);
    } else if NAMESPACES.is(resource) {
        wake(WorkKey::new(Controller::Namespace, change.key.clone()));
        wake_defaults_of(&change.key.object.name, wake);
    } else if SERVICES.is(resource) {
        wake_endpoints(&change.key.object, wake);
        let mirrored = ENDPOINTS.at(&change.key.object);
        wake(WorkKey::new(Controller::EndpointSliceMirroring, mirrored));
    } else if ENDPOINTS.is(resource) {
        wake(WorkKey::new(Controller::Endpoints, SERVICES.at(&change.key.object)));
        wake(WorkKey::new(Controller::EndpointSliceMirroring, change.key.clone()));
    } else if ENDPOINT_SLICES.is(resource) {
        for version in change.versions() {
            if let Some(service) = find(&version.image.header.labels, SERVICE_NAME_LABEL) {
                let key = SERVICES.key(&change.key.object.namespace, service);
                let mirrored = ENDPOINTS.at(&key.object);
                wake(WorkKey::new(Controller::EndpointSlice, key));
                wake(WorkKey::new(Controller::EndpointSliceMirroring, mirrored));
            }
        }
    } else if VALIDATING_POLICIES.is(resource) {
        wake(WorkKey::new(Controller::PolicyTypes, change.key.clone()));
    } else if EVENTS.is(resource) {
        if change.new.is_some() {
            wake(WorkKey::new(Controller::EventTtl, change.key.clone()));
        }
    } else if SECRETS.is(resource) && token_cleaner::is_token(&change.key.object) {
        wake(WorkKey::new(Controller::TokenCleaner, change.key.clone()));
    } else if (SERVICE_ACCOUNTS.is(resource) && &*change.key.object.name == "default")
        || (CONFIG_MAPS.is(resource) && &*change.key.object.name == "kube-root-ca.crt")
    {
        wake_defaults_of(&change.key.object.namespace, wake);
    }
}

fn wake_defaults_of(namespace: &str, wake: Wake<'_>) {
    let key = NAMESPACES.key("", namespace);
    wake(WorkKey::new(Controller::ServiceAccount, key.clone()));
    wake(WorkKey::new(Controller::RootCa, key));
}

/// Secrets are filled when they come, and go with their account.
fn wake_account_tokens(world: &World, change: &Changed, wake: Wake<'_>) {
    if SECRETS.is(&change.key.resource) && change.new.is_some() {
        wake(WorkKey::new(Controller::AccountToken, change.key.clone()));
    }
    let uid = |version: &Option<StoredRef>| version.as_ref().map(|stored| stored.uid().to_owned());
    let came_or_went = uid(&change.old) != uid(&change.new);
    if SERVICE_ACCOUNTS.is(&change.key.resource)
        && came_or_went
        && let Some(secrets) = world.resource(SECRETS)
    {
        for secret in secrets.range(&change.key.object.namespace, None) {
            wake(WorkKey::new(Controller::AccountToken, secret.key.clone()));
        }
    }
}

fn wake_endpoints(service: &ObjectKey, wake: Wake<'_>) {
    wake(WorkKey::new(Controller::EndpointSlice, SERVICES.at(service)));
    wake(WorkKey::new(Controller::Endpoints, SERVICES.at(service)));
}

/// When a Job is gone, nobody holds its pods any more.
fn wake_job(world: &World, change: &Changed, wake: Wake<'_>) {
    wake(WorkKey::new(Controller::Job, change.key.clone()));
    if let (Some(old), None) = (&change.old, &change.new) {
        for pod in world.pods_owned_by(old.uid()) {
            wake(WorkKey::new(Controller::Job, pod.stored.key.clone()));
        }
    }
}

/// A namespace that is being deleted waits for its content to go.
fn wake_namespace(world: &World, change: &Changed, wake: Wake<'_>) {
    let namespace = &change.key.object.namespace;
    if namespace.is_empty() || change.old.is_none() {
        return;
    }
    let key = NAMESPACES.key("", namespace);
    if world.get(&key).is_some_and(|found| found.image.header.deletion.is_some()) {
        wake(WorkKey::new(Controller::Namespace, key));
    }
}

/// The Deployments that own a ReplicaSet; for one that nobody owns, those that select it.
fn wake_deployments_of(world: &World, change: &Changed, wake: Wake<'_>) {
    for version in change.versions() {
        wake_owners(world, version, DEPLOYMENTS, Controller::Deployment, wake);
        if version.image.header.owners.is_empty() {
            let deployments = world.deployments.snapshot();
            for deployment in in_namespace(&deployments, &change.key.object.namespace) {
                let selector = &deployment.object.spec.selector;
                if selector.selects_sorted(&version.image.header.labels) {
                    let key = deployment.stored.key.clone();
                    wake(WorkKey::new(Controller::Deployment, key));
                }
            }
        }
    }
}

fn wake_owners(
    world: &World,
    version: &StoredRef,
    resource: crate::resources::Resource,
    controller: Controller,
    wake: Wake<'_>,
) {
    for owner in &version.image.header.owners {
        if let Some(key) = world.by_uid(owner).filter(|key| resource.is(&key.resource)) {
            wake(WorkKey::new(controller, key.clone()));
        }
    }
}

fn wake_node(world: &World, change: &Changed, wake: Wake<'_>) {
    let node = &change.key;
    wake(WorkKey::new(Controller::NodeLifecycle, node.clone()));
    wake(WorkKey::new(Controller::TaintEviction, node.clone()));
    wake(whole_cluster(Controller::NodeZones));
    let without_cidr = |node: &Object<Node>| node.object.spec.pod_cidrs.is_empty();
    if world.node(&node.object.name).is_none_or(without_cidr) {
        wake(whole_cluster(Controller::NodeIpam));
    }
    wake(WorkKey::new(Controller::PodGc, node.clone()));
    // Endpoints carry the zone of their node.
    if change.old.is_none() || change.new.is_none() || labels_differ(change) {
        for pod in world.pods_on(&node.object.name) {
            wake_services_of(world, pod, wake);
        }
    }
}

fn labels_differ(change: &Changed) -> bool {
    let labels = |version: &Option<StoredRef>| {
        version.as_ref().map(|stored| stored.image.header.labels.clone())
    };
    labels(&change.old) != labels(&change.new)
}

fn by_pod(world: &World, change: &ChangedPod, wake: Wake<'_>) {
    for pod in change.old.iter().chain(&change.new) {
        wake_managers_of(world, pod, change.new.is_none(), wake);
        wake_services_of(world, pod, wake);
        wake_for_node_of(world, &pod.object, wake);
    }
    let Some(pod) = &change.new else {
        return;
    };
    if pod.object.metadata.terminating() && pod.object.spec.node_name.is_empty() {
        wake(WorkKey::new(Controller::PodGc, pod.stored.key.clone()));
    }
    if pod.object.ended() {
        wake(whole_cluster(Controller::PodGc));
    }
}

/// The ReplicaSet that owns a pod; for one that nobody manages, those that select it. A Deployment
/// that recreates waits for the pods of its old ReplicaSets to be gone.
fn wake_managers_of(world: &World, pod: &Object<Pod>, gone: bool, wake: Wake<'_>) {
    workloads::by_pod(world, pod, wake);
    wake_owners(world, &pod.stored, JOBS, Controller::Job, wake);
    for owner in &pod.stored.image.header.owners {
        let Some(key) = world.by_uid(owner).filter(|key| REPLICA_SETS.is(&key.resource)) else {
            continue;
        };
        wake(WorkKey::new(Controller::ReplicaSet, key.clone()));
        if (gone || pod.object.ended() || pod.object.metadata.terminating())
            && let Some(replica_set) = world.get(key)
        {
            wake_owners(world, replica_set, DEPLOYMENTS, Controller::Deployment, wake);
        }
    }
    if job::holds(&pod.object) && !gone {
        wake(WorkKey::new(Controller::Job, pod.stored.key.clone()));
    }
    if pod.object.metadata.controller().is_none() {
        let jobs = world.jobs.snapshot();
        for job in in_namespace(&jobs, &pod.object.metadata.namespace) {
            if job.object.spec.selector.selects(&pod.object.metadata.labels) {
                wake(WorkKey::new(Controller::Job, job.stored.key.clone()));
            }
        }
        let replica_sets = world.replica_sets.snapshot();
        for replica_set in in_namespace(&replica_sets, &pod.object.metadata.namespace) {
            if replica_set.object.spec.selector.selects(&pod.object.metadata.labels) {
                wake(WorkKey::new(Controller::ReplicaSet, replica_set.stored.key.clone()));
            }
        }
    }
}

fn wake_services_of(world: &World, pod: &Object<Pod>, wake: Wake<'_>) {
    let services = world.services.snapshot();
    for service in in_namespace(&services, &pod.object.metadata.namespace) {
        if selects(&service.object, &pod.object) {
            wake_endpoints(&service.stored.key.object, wake);
        }
    }
}

/// Whether a service's selector, if it has one, selects a pod.
pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        !selector.is_empty()
            && selector.iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value))
    })
}

/// A pod comes to a node that evicts, that is not ready, or that is not there.
fn wake_for_node_of(world: &World, pod: &Pod, wake: Wake<'_>) {
    let name = pod.spec.node_name.as_str();
    if name.is_empty() {
        return;
    }
    let key = || NODES.key("", name);
    match world.node(name) {
        None => wake(WorkKey::new(Controller::PodGc, key())),
        Some(node) => {
            if evicts(&node.object) {
                wake(WorkKey::new(Controller::TaintEviction, key()));
            }
            if node.object.ready().is_some_and(|ready| ready != "True") {
                wake(WorkKey::new(Controller::NodeLifecycle, key()));
            }
            if pod.metadata.terminating() {
                wake(WorkKey::new(Controller::PodGc, key()));
            }
        }
    }
}

fn evicts(node: &Node) -> bool {
    node.spec.taints.iter().any(|taint| taint.effect == "NoExecute")
}

/// The key of an object as its controller's.
pub(crate) fn garbage_key(key: &Key) -> WorkKey {
    WorkKey::new(Controller::Garbage, key.clone())
}
