//! One row per kind that has semantics of its own. Adding a kind to defaulting, strategies,
//! validation, warnings and tables is adding its row here.

mod more;

use serde_json::Value;

use crate::defaults::{
    apps, autoscaling, batch, core, definition, discovery, networking, pod, rbac, service, storage,
};
use crate::field::Error;
use crate::strategy::{
    batch as prepare_batch, certificates as prepare_certificates, definition as prepare_definition,
    kinds as prepare, service as prepare_service, storage as prepare_storage,
    workload as prepare_workload,
};
use crate::validation::{self, meta};
use crate::warnings;

/// What defaulting and strategies do for one kind.
pub(crate) struct Kind {
    /// The API group.
    pub(crate) group: &'static str,
    /// The kind.
    pub(crate) kind: &'static str,
    /// Fills what the client left out.
    pub(crate) defaults: fn(&mut Value),
    /// What happens to a new object before it is validated.
    pub(crate) create: fn(&mut Value),
    /// What happens to a changed object: which changes are ignored, whether generation rises.
    pub(crate) update: fn(&mut Value, &Value),
    /// What a write to the status subresource may change.
    pub(crate) status: fn(&mut Value, &Value),
    /// What is wrong with a new object.
    pub(crate) validate: fn(&Value, &mut Vec<Error>),
    /// What is wrong with a changed object.
    pub(crate) validate_update: fn(&Value, &Value, &mut Vec<Error>),
    /// What is wrong with a write to the status.
    pub(crate) validate_status: fn(&Value, &Value, &mut Vec<Error>),
    /// What is worth a word about an object that is accepted; the old version for a changed one.
    pub(crate) warnings: fn(&Value, Option<&Value>, &mut Vec<String>),
    /// Whether a PUT may create the object.
    pub(crate) create_on_update: bool,
    /// Whether a PUT without a resource version is fine.
    pub(crate) unconditional_update: bool,
}

// Not inlined, so that there is one of each to compare with.
#[inline(never)]
#[allow(
    clippy::missing_const_for_fn,
    reason = "constant functions are made anew where they are used"
)]
fn none(_: &mut Value) {}
#[inline(never)]
#[allow(clippy::missing_const_for_fn, reason = "as above")]
fn keep(_: &mut Value, _: &Value) {}
#[inline(never)]
#[allow(clippy::missing_const_for_fn, reason = "as above")]
fn anything(_: &Value, _: &mut Vec<Error>) {}
const fn silent(_: &Value, _: Option<&Value>, _: &mut Vec<String>) {}

/// A kind without semantics of its own.
pub(crate) const PLAIN: Kind = Kind {
    group: "",
    kind: "",
    defaults: none,
    create: none,
    update: keep,
    status: prepare::status_only,
    validate: anything,
    validate_update: meta::update,
    validate_status: meta::update,
    warnings: silent,
    create_on_update: false,
    unconditional_update: true,
};

const NETWORKING: &str = "networking.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

static KINDS: &[Kind] = &[
    Kind {
        kind: "Namespace",
        validate: validation::core::namespace,
        validate_update: validation::core::namespace_update,
        validate_status: validation::core::namespace_status,
        defaults: core::namespace,
        create: prepare::create_namespace,
        update: prepare::update_namespace,
        status: prepare::namespace_status,
        ..PLAIN
    },
    Kind {
        kind: "Pod",
        warnings: warnings::pod,
        validate: validation::pod::create,
        validate_update: validation::pod_update::update,
        validate_status: validation::pod_update::status,
        defaults: pod::pod,
        create: prepare::create_pod,
        update: prepare::update_pod,
        status: prepare::pod_status,
        ..PLAIN
    },
    Kind {
        kind: "Node",
        warnings: warnings::node,
        validate: validation::node::create,
        validate_update: validation::node::update,
        validate_status: validation::node::update,
        defaults: core::node,
        create: prepare::create_node,
        update: prepare::update_node,
        ..PLAIN
    },
    Kind {
        kind: "ConfigMap",
        validate: validation::core::config_map,
        validate_update: validation::core::config_map_update,
        ..PLAIN
    },
    Kind {
        kind: "Secret",
        warnings: warnings::secret,
        validate: validation::core::secret,
        validate_update: validation::core::secret_update,
        defaults: core::secret,
        ..PLAIN
    },
    Kind {
        kind: "Service",
        warnings: warnings::service,
        validate: validation::service::create,
        validate_update: validation::service::update,
        validate_status: validation::service::status,
        defaults: service::service,
        create: prepare_service::create_service,
        update: prepare_service::update_service,
        create_on_update: true,
        ..PLAIN
    },
    Kind {
        kind: "Endpoints",
        warnings: warnings::endpoints,
        validate: validation::network::endpoints,
        validate_update: validation::network::endpoints_update,
        defaults: core::endpoints,
        create_on_update: true,
        ..PLAIN
    },
    Kind {
        kind: "ServiceAccount",
        warnings: warnings::service_account,
        validate: validation::core::service_account,
        validate_update: validation::core::service_account_update,
        create: prepare::create_service_account,
        update: prepare::update_service_account,
        ..PLAIN
    },
    Kind {
        kind: "Event",
        validate: validation::event::core,
        validate_update: validation::event::core_update,
        create_on_update: true,
        ..PLAIN
    },
    Kind {
        group: "events.k8s.io",
        kind: "Event",
        validate: validation::event::strict,
        validate_update: validation::event::strict_update,
        create_on_update: true,
        ..PLAIN
    },
    Kind {
        group: "apps",
        kind: "Deployment",
        warnings: warnings::deployment,
        validate: validation::workload::deployment,
        validate_update: validation::workload::deployment_update,
        validate_status: validation::workload::deployment_status,
        defaults: apps::deployment,
        create: prepare::create_deployment,
        update: prepare::update_deployment,
        status: prepare::deployment_status,
        ..PLAIN
    },
    Kind {
        group: "apps",
        kind: "ReplicaSet",
        warnings: warnings::replica_set,
        validate: validation::workload::replica_set,
        validate_update: validation::workload::replica_set_update,
        validate_status: validation::workload::replica_set_status,
        defaults: apps::replica_set,
        create: prepare::create_replica_set,
        update: prepare::update_replica_set,
        ..PLAIN
    },
    Kind {
        kind: "LimitRange",
        validate: validation::quota::limit_range,
        validate_update: validation::quota::limit_range_update,
        defaults: core::limit_range,
        create_on_update: true,
        ..PLAIN
    },
    Kind {
        kind: "ResourceQuota",
        validate: validation::quota::quota,
        validate_update: validation::quota::quota_update,
        validate_status: validation::quota::quota_status,
        defaults: core::quota,
        create: prepare::no_status,
        update: prepare::keep_status,
        ..PLAIN
    },
    Kind {
        kind: "PodTemplate",
        warnings: warnings::pod_template,
        validate: validation::replication::pod_template,
        validate_update: validation::replication::pod_template_update,
        defaults: core::pod_template,
        create: prepare::first_generation,
        update: prepare_workload::update_pod_template,
        create_on_update: true,
        ..PLAIN
    },
    Kind {
        kind: "ReplicationController",
        warnings: warnings::replica_set,
        validate: validation::replication::controller,
        validate_update: validation::replication::controller_update,
        validate_status: validation::workload::replica_set_status,
        defaults: core::replication_controller,
        create: prepare_workload::create_replication_controller,
        update: prepare_workload::update,
        ..PLAIN
    },
    Kind {
        kind: "PersistentVolume",
        warnings: warnings::persistent_volume,
        validate: validation::persistent_volume::create,
        validate_update: validation::persistent_volume::update,
        defaults: storage::volume,
        create: prepare_storage::create_volume,
        update: prepare::keep_status,
        ..PLAIN
    },
    Kind {
        kind: "PersistentVolumeClaim",
        warnings: warnings::claim,
        validate: validation::claim::create,
        validate_update: validation::claim::update,
        validate_status: validation::claim::status,
        defaults: storage::claim,
        create: prepare_storage::create_claim,
        update: prepare_storage::update_claim,
        ..PLAIN
    },
    Kind {
        group: "apps",
        kind: "DaemonSet",
        warnings: warnings::daemon_set,
        validate: validation::workload_set::daemon_set,
        validate_update: validation::workload_set::daemon_set_update,
        validate_status: validation::workload_set::daemon_set_status,
        defaults: apps::daemon_set,
        create: prepare_workload::create_daemon_set,
        update: prepare_workload::update_daemon_set,
        ..PLAIN
    },
    Kind {
        group: "apps",
        kind: "StatefulSet",
        warnings: warnings::stateful_set,
        validate: validation::workload_set::stateful_set,
        validate_update: validation::workload_set::stateful_set_update,
        validate_status: validation::workload_set::stateful_set_status,
        defaults: apps::stateful_set,
        create: prepare_workload::create_stateful_set,
        update: prepare_workload::update,
        ..PLAIN
    },
    Kind {
        group: "apps",
        kind: "ControllerRevision",
        validate: validation::workload_set::revision,
        validate_update: validation::workload_set::revision_update,
        ..PLAIN
    },
    Kind {
        group: "autoscaling",
        kind: "HorizontalPodAutoscaler",
        validate: validation::autoscaler::create,
        validate_update: validation::autoscaler::update,
        validate_status: validation::autoscaler::status,
        defaults: autoscaling::autoscaler,
        create: prepare_workload::create_autoscaler,
        update: prepare::keep_status,
        ..PLAIN
    },
    Kind {
        group: "policy",
        kind: "PodDisruptionBudget",
        validate: validation::autoscaler::budget,
        validate_update: validation::autoscaler::budget_update,
        validate_status: validation::autoscaler::budget_status,
        create: prepare_workload::create_budget,
        update: prepare_workload::update,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: "certificates.k8s.io",
        kind: "CertificateSigningRequest",
        validate: validation::certificates::create,
        validate_update: validation::certificates::update,
        validate_status: validation::certificates::status,
        create: prepare_certificates::create,
        update: prepare_certificates::update,
        status: prepare_certificates::status,
        ..PLAIN
    },
    Kind {
        group: NETWORKING,
        kind: "Ingress",
        warnings: warnings::ingress,
        validate: validation::ingress::create,
        validate_update: validation::ingress::update,
        validate_status: validation::ingress::status,
        create: prepare_workload::create_ingress,
        update: prepare_workload::update,
        ..PLAIN
    },
    Kind {
        group: NETWORKING,
        kind: "IngressClass",
        validate: validation::ingress::class,
        validate_update: validation::ingress::class_update,
        defaults: networking::ingress_class,
        create: prepare::first_generation,
        update: prepare_workload::update_spec_only,
        ..PLAIN
    },
    Kind {
        group: NETWORKING,
        kind: "NetworkPolicy",
        warnings: warnings::network_policy,
        validate: validation::network_policy::create,
        validate_update: validation::network_policy::update,
        defaults: networking::network_policy,
        create: prepare::first_generation,
        update: prepare_workload::update_spec_only,
        ..PLAIN
    },
    Kind {
        group: NETWORKING,
        kind: "IPAddress",
        validate: validation::network_policy::address,
        validate_update: validation::network_policy::address_update,
        ..PLAIN
    },
    Kind {
        group: NETWORKING,
        kind: "ServiceCIDR",
        validate: validation::network_policy::range,
        validate_update: validation::network_policy::range_update,
        create: prepare::no_status,
        update: prepare::keep_status,
        ..PLAIN
    },
    Kind {
        group: STORAGE,
        kind: "StorageClass",
        validate: validation::storage::class,
        validate_update: validation::storage::class_update,
        defaults: storage::class,
        ..PLAIN
    },
    Kind {
        group: STORAGE,
        kind: "VolumeAttributesClass",
        validate: validation::storage::attributes,
        validate_update: validation::storage::attributes_update,
        ..PLAIN
    },
    Kind {
        group: STORAGE,
        kind: "VolumeAttachment",
        validate: validation::attachment::create,
        validate_update: validation::attachment::update,
        validate_status: validation::attachment::update,
        create: prepare_storage::create_attachment,
        update: prepare::keep_status,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: STORAGE,
        kind: "CSIDriver",
        validate: validation::storage::driver,
        validate_update: validation::storage::driver_update,
        defaults: storage::driver,
        update: prepare_workload::update_spec_only,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: STORAGE,
        kind: "CSINode",
        validate: validation::storage::node,
        validate_update: validation::storage::node_update,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: STORAGE,
        kind: "CSIStorageCapacity",
        validate: validation::storage::capacity,
        validate_update: validation::storage::capacity_update,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: "node.k8s.io",
        kind: "RuntimeClass",
        validate: validation::storage::runtime,
        validate_update: validation::storage::runtime_update,
        defaults: storage::runtime,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: crate::custom::GROUP,
        kind: "CustomResourceDefinition",
        validate: validation::definition::create,
        validate_update: validation::definition::update,
        validate_status: validation::definition::status,
        defaults: definition::definition,
        create: prepare_definition::create,
        update: prepare_definition::update,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: "batch",
        kind: "Job",
        warnings: warnings::job,
        validate: validation::job::create,
        validate_update: validation::job::update,
        validate_status: validation::job_status::update,
        defaults: batch::job,
        create: prepare_batch::create_job,
        update: prepare_batch::update,
        ..PLAIN
    },
    Kind {
        group: "batch",
        kind: "CronJob",
        warnings: warnings::cron_job,
        validate: validation::cron_job::create,
        validate_update: validation::cron_job::update,
        defaults: batch::cron_job,
        create: prepare_batch::start_empty,
        update: prepare_batch::update,
        ..PLAIN
    },
    Kind {
        group: "coordination.k8s.io",
        kind: "Lease",
        validate: validation::access::lease,
        validate_update: validation::access::lease_update,
        create_on_update: true,
        unconditional_update: false,
        ..PLAIN
    },
    Kind {
        group: "discovery.k8s.io",
        kind: "EndpointSlice",
        warnings: warnings::endpoint_slice,
        validate: validation::network::slice,
        validate_update: validation::network::slice_update,
        defaults: discovery::endpoint_slice,
        create: prepare::create_endpoint_slice,
        update: prepare::update_endpoint_slice,
        ..PLAIN
    },
    Kind {
        group: RBAC,
        kind: "Role",
        validate: validation::access::role,
        validate_update: validation::access::role_update,
        create_on_update: true,
        ..PLAIN
    },
    Kind {
        group: RBAC,
        kind: "ClusterRole",
        validate: validation::access::cluster_role,
        validate_update: validation::access::cluster_role_update,
        create_on_update: true,
        ..PLAIN
    },
    Kind {
        group: RBAC,
        kind: "RoleBinding",
        validate: validation::access::role_binding,
        validate_update: validation::access::role_binding_update,
        defaults: rbac::binding,
        create_on_update: true,
        ..PLAIN
    },
    Kind {
        group: RBAC,
        kind: "ClusterRoleBinding",
        validate: validation::access::cluster_role_binding,
        validate_update: validation::access::cluster_role_binding_update,
        defaults: rbac::binding,
        create_on_update: true,
        ..PLAIN
    },
    Kind {
        group: "scheduling.k8s.io",
        kind: "PriorityClass",
        validate: validation::core::priority_class,
        validate_update: validation::core::priority_class_update,
        defaults: core::priority_class,
        create: prepare::first_generation,
        ..PLAIN
    },
    Kind {
        group: "autoscaling",
        kind: "Scale",
        validate: validation::workload::scale,
        validate_update: validation::workload::scale_update,
        ..PLAIN
    },
];

/// The row of a kind. Kinds without one have no semantics beyond metadata.
pub(crate) fn find(group: &str, kind: &str) -> Option<&'static Kind> {
    KINDS.iter().chain(more::KINDS).find(|row| row.kind == kind && row.group == group)
}
