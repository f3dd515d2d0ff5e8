//! Server-side tables: what `kubectl get` shows for each kind, column by column.
//!
//! Columns and cells follow upstream's `pkg/printers/internalversion`. Everything is a pure
//! function of the object and the time; kinds without a printer show their name and age.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::tree;

mod access;
mod admission;
mod autoscaling;
mod batch;
mod certificates;
mod core;
mod definition;
mod devices;
pub mod duration;
mod master;
mod network;
mod networking;
mod node;
mod pod;
mod storage;
mod workload;

/// One column of a table, as `metav1.TableColumnDefinition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: &'static str,
    /// `string`, `integer`, `boolean` or `date`.
    pub kind: &'static str,
    /// `name` for the column with the object's name.
    pub format: &'static str,
    /// 0: always shown; above: only with `-o wide`.
    pub priority: u8,
    /// What `kubectl` tells about it; may be empty.
    pub description: &'static str,
}

impl Column {
    /// The column's definition as the API sends it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }
}

const NAME_TEXT: &str = "Name must be unique within a namespace. Is required when creating \
    resources, although some resources may allow a client to request the generation of an \
    appropriate name automatically. Name is primarily intended for creation idempotence and \
    configuration definition. Cannot be updated. More info: \
    https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE_TEXT: &str = "CreationTimestamp is a timestamp representing the server time when this \
    object was created. It is not guaranteed to be set in happens-before order across separate \
    operations. Clients may not set this value. It is represented in RFC3339 form and is in \
    UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

pub(crate) const NAME: Column =
    Column { name: "Name", kind: "string", format: "name", priority: 0, description: NAME_TEXT };
pub(crate) const AGE: Column = text("Age").described(AGE_TEXT);

pub(crate) const fn text(name: &'static str) -> Column {
    Column { name, kind: "string", format: "", priority: 0, description: "" }
}

pub(crate) const fn integer(name: &'static str) -> Column {
    Column { kind: "integer", ..text(name) }
}

pub(crate) const fn boolean(name: &'static str) -> Column {
    Column { kind: "boolean", ..text(name) }
}

impl Column {
    /// Only shown with `-o wide`.
    pub(crate) const fn wide(self) -> Column {
        Column { priority: 1, ..self }
    }

    pub(crate) const fn described(self, description: &'static str) -> Column {
        Column { description, ..self }
    }
}

/// How a kind is shown.
pub(crate) struct Printer {
    group: &'static str,
    kind: &'static str,
    columns: &'static [Column],
    row: fn(&Value, Timestamp) -> Vec<Value>,
}

/// Of kinds that upstream has no printer for.
static GENERIC: &[Column] =
    &[NAME, Column { name: "Created At", kind: "date", ..text("").described(AGE_TEXT) }];

const ADMISSION: &str = "admissionregistration.k8s.io";
const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const DEVICES: &str = "resource.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

macro_rules! printer {
    ($group:expr, $kind:expr, $columns:expr, $row:expr) => {
        Printer { group: $group, kind: $kind, columns: $columns, row: $row }
    };
}

static PRINTERS: &[Printer] = &[
    printer!("", "Pod", pod::COLUMNS, pod::row),
    printer!("", "Node", node::COLUMNS, node::row),
    printer!("", "Namespace", core::NAMESPACE, core::namespace),
    printer!("", "ConfigMap", core::CONFIG_MAP, core::config_map),
    printer!("", "Secret", core::SECRET, core::secret),
    printer!("", "ServiceAccount", core::SERVICE_ACCOUNT, core::service_account),
    printer!("", "Event", core::EVENT, core::event),
    printer!("events.k8s.io", "Event", core::EVENT, core::event),
    printer!("", "Service", network::SERVICE, network::service),
    printer!("", "Endpoints", network::ENDPOINTS, network::endpoints),
    printer!("discovery.k8s.io", "EndpointSlice", network::SLICE, network::slice),
    printer!("apps", "Deployment", workload::DEPLOYMENT, workload::deployment),
    printer!("apps", "ReplicaSet", workload::REPLICA_SET, workload::replica_set),
    printer!("", "ResourceQuota", core::QUOTA, core::quota),
    printer!("", "PodTemplate", workload::POD_TEMPLATE, workload::pod_template),
    printer!("", "ReplicationController", workload::REPLICA_SET, workload::replication_controller),
    printer!("", "PersistentVolume", storage::VOLUME, storage::volume),
    printer!("", "PersistentVolumeClaim", storage::CLAIM, storage::claim),
    printer!("apps", "DaemonSet", workload::DAEMON_SET, workload::daemon_set),
    printer!("apps", "StatefulSet", workload::STATEFUL_SET, workload::stateful_set),
    printer!("apps", "ControllerRevision", workload::REVISION, workload::revision),
    printer!(
        "autoscaling",
        "HorizontalPodAutoscaler",
        autoscaling::AUTOSCALER,
        autoscaling::autoscaler
    ),
    printer!("policy", "PodDisruptionBudget", autoscaling::BUDGET, autoscaling::budget),
    printer!(NETWORKING, "Ingress", networking::INGRESS, networking::ingress),
    printer!(NETWORKING, "IngressClass", networking::CLASS, networking::class),
    printer!(NETWORKING, "NetworkPolicy", networking::POLICY, networking::policy),
    printer!(NETWORKING, "IPAddress", networking::ADDRESS, networking::address),
    printer!(NETWORKING, "ServiceCIDR", networking::RANGE, networking::range),
    printer!("node.k8s.io", "RuntimeClass", storage::RUNTIME, storage::runtime),
    printer!(STORAGE, "StorageClass", storage::STORAGE_CLASS, storage::storage_class),
    printer!(STORAGE, "VolumeAttributesClass", storage::ATTRIBUTES, storage::attributes),
    printer!(STORAGE, "VolumeAttachment", storage::ATTACHMENT, storage::attachment),
    printer!(STORAGE, "CSIDriver", storage::DRIVER, storage::driver),
    printer!(STORAGE, "CSINode", storage::NODE, storage::node),
    printer!(STORAGE, "CSIStorageCapacity", storage::CAPACITY, storage::capacity),
    printer!(
        "certificates.k8s.io",
        "CertificateSigningRequest",
        certificates::REQUEST,
        certificates::request
    ),
    printer!("batch", "Job", batch::JOB, batch::job),
    printer!("batch", "CronJob", batch::CRON_JOB, batch::cron_job),
    printer!("autoscaling", "Scale", workload::SCALE, workload::scale),
    printer!("coordination.k8s.io", "Lease", core::LEASE, core::lease),
    printer!(RBAC, "Role", access::ROLE, access::role),
    printer!(RBAC, "ClusterRole", access::ROLE, access::role),
    printer!(RBAC, "RoleBinding", access::BINDING, access::binding),
    printer!(RBAC, "ClusterRoleBinding", access::BINDING, access::binding),
    printer!("scheduling.k8s.io", "PriorityClass", access::PRIORITY, access::priority),
    printer!(ADMISSION, "ValidatingWebhookConfiguration", admission::WEBHOOKS, admission::webhooks),
    printer!(ADMISSION, "MutatingWebhookConfiguration", admission::WEBHOOKS, admission::webhooks),
    printer!(ADMISSION, "ValidatingAdmissionPolicy", admission::VALIDATING, admission::validating),
    printer!(ADMISSION, "ValidatingAdmissionPolicyBinding", admission::BINDING, admission::binding),
    printer!(ADMISSION, "MutatingAdmissionPolicy", admission::MUTATING, admission::mutating),
    printer!(ADMISSION, "MutatingAdmissionPolicyBinding", admission::BINDING, admission::binding),
    printer!(FLOW, "FlowSchema", admission::SCHEMA, admission::schema),
    printer!(FLOW, "PriorityLevelConfiguration", admission::LEVEL, admission::level),
    printer!(
        "apiregistration.k8s.io",
        "APIService",
        admission::API_SERVICE,
        admission::api_service
    ),
    printer!(
        "storagemigration.k8s.io",
        "StorageVersionMigration",
        admission::MIGRATION,
        admission::migration
    ),
    printer!("", "ComponentStatus", admission::COMPONENT, admission::component),
    printer!(DEVICES, "DeviceClass", devices::NAMED, devices::named),
    printer!(DEVICES, "ResourceClaim", devices::CLAIM, devices::claim),
    printer!(DEVICES, "ResourceClaimTemplate", devices::NAMED, devices::named),
    printer!(DEVICES, "ResourceSlice", devices::SLICE, devices::slice),
    printer!(
        crate::custom::GROUP,
        "CustomResourceDefinition",
        definition::COLUMNS,
        definition::row
    ),
    printer!("quorate.io", "Master", master::COLUMNS, master::row),
];

fn find(group: &str, kind: &str) -> Option<&'static Printer> {
    PRINTERS.iter().find(|p| p.kind == kind && p.group == group)
}

/// Whether a kind is shown in a way of its own.
pub(crate) fn has_printer(group: &str, kind: &str) -> bool {
    find(group, kind).is_some()
}

/// The columns of a kind's table.
#[must_use]
pub fn columns(group: &str, kind: &str) -> &'static [Column] {
    find(group, kind).map_or(GENERIC, |printer| printer.columns)
}

/// The cells of one object's row, one for each column.
#[must_use]
pub fn row(group: &str, kind: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    match find(group, kind) {
        Some(printer) => (printer.row)(object, now),
        None => {
            let metadata = tree::get(object, "metadata");
            vec![json!(name(object)), tree::get(metadata, "creationTimestamp").clone()]
        }
    }
}

/// What the API says about an object in a table beside its cells: the pod's phase conditions.
#[must_use]
pub fn conditions(group: &str, kind: &str, object: &Value) -> Option<Value> {
    (group.is_empty() && kind == "Pod").then(|| pod::conditions(object)).flatten()
}

pub(crate) fn name(object: &Value) -> &str {
    tree::text(tree::get(object, "metadata"), "name")
}

pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
    json!(duration::since(tree::text(tree::get(object, "metadata"), "creationTimestamp"), now))
}

/// Labels as `a=b,c=d`, or `<none>`.
pub(crate) fn labels(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// Text, or a stand-in when it is empty.
pub(crate) fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

#[cfg(test)]
mod tests;
