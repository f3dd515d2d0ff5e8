//! The resources that controllers know by name.

use quorate_state_machine::{GroupResource, Key, ObjectKey};

/// A group and a plural name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resource(pub(crate) &'static str, pub(crate) &'static str);

pub(crate) const PODS: Resource = Resource("", "pods");
pub(crate) const NODES: Resource = Resource("", "nodes");
pub(crate) const NAMESPACES: Resource = Resource("", "namespaces");
pub(crate) const SERVICES: Resource = Resource("", "services");
pub(crate) const ENDPOINTS: Resource = Resource("", "endpoints");
pub(crate) const SECRETS: Resource = Resource("", "secrets");
pub(crate) const CONFIG_MAPS: Resource = Resource("", "configmaps");
pub(crate) const SERVICE_ACCOUNTS: Resource = Resource("", "serviceaccounts");
pub(crate) const EVENTS: Resource = Resource("", "events");
pub(crate) const DEPLOYMENTS: Resource = Resource("apps", "deployments");
pub(crate) const REPLICA_SETS: Resource = Resource("apps", "replicasets");
pub(crate) const JOBS: Resource = Resource("batch", "jobs");
pub(crate) const CRON_JOBS: Resource = Resource("batch", "cronjobs");
pub(crate) const DAEMON_SETS: Resource = Resource("apps", "daemonsets");
pub(crate) const STATEFUL_SETS: Resource = Resource("apps", "statefulsets");
pub(crate) const CONTROLLER_REVISIONS: Resource = Resource("apps", "controllerrevisions");
pub(crate) const REPLICATION_CONTROLLERS: Resource = Resource("", "replicationcontrollers");
pub(crate) const CLAIMS: Resource = Resource("", "persistentvolumeclaims");
pub(crate) const ENDPOINT_SLICES: Resource = Resource("discovery.k8s.io", "endpointslices");
pub(crate) const RESOURCE_QUOTAS: Resource = Resource("", "resourcequotas");
pub(crate) const POD_DISRUPTION_BUDGETS: Resource = Resource("policy", "poddisruptionbudgets");
pub(crate) const VOLUMES: Resource = Resource("", "persistentvolumes");
pub(crate) const SIGNING_REQUESTS: Resource =
    Resource("certificates.k8s.io", "certificatesigningrequests");
pub(crate) const DEFINITIONS: Resource =
    Resource("apiextensions.k8s.io", "customresourcedefinitions");
pub(crate) const VALIDATING_POLICIES: Resource =
    Resource("admissionregistration.k8s.io", "validatingadmissionpolicies");
pub(crate) const LEASES: Resource = Resource("coordination.k8s.io", "leases");

impl Resource {
    pub(crate) fn is(self, resource: &GroupResource) -> bool {
        *resource.resource == *self.1 && *resource.group == *self.0
    }

    pub(crate) fn group_resource(self) -> GroupResource {
        GroupResource::new(self.0, self.1)
    }

    pub(crate) fn key(self, namespace: &str, name: &str) -> Key {
        Key { resource: self.group_resource(), object: ObjectKey::new(namespace, name) }
    }

    pub(crate) fn at(self, object: &ObjectKey) -> Key {
        Key { resource: self.group_resource(), object: object.clone() }
    }
}
