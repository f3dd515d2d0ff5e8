//! Pods as the scheduler sees them: everything that decisions need, computed once per version.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};
use quorate_state_machine::{ObjectKey, Revision, Uid};

use crate::company::{Company, Spread};
use crate::resources::{self, Requests};
use crate::selector::{Term, Terms};

/// A host port that a pod wants or holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Host address; "0.0.0.0" is every address.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port.
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be on one host.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        const ANY: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ANY || other.ip == ANY)
    }
}

/// The `PodScheduled` condition as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledCondition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Reason, "" when there is none.
    pub reason: String,
    /// Message, "" when there is none.
    pub message: String,
}

/// A pod.
#[derive(Debug, Clone, PartialEq)]
pub struct PodInfo {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`.
    pub uid: Uid,
    /// The version that this was made from.
    pub revision: Revision,
    /// `metadata.creationTimestamp` in milliseconds since 1970.
    pub created_ms: i64,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// Whether the pod is being deleted.
    pub deleting: bool,
    /// `Succeeded` or `Failed`: it uses nothing any more.
    pub finished: bool,
    /// `spec.nodeName`.
    pub node_name: Option<Arc<str>>,
    /// `spec.schedulerName`.
    pub scheduler_name: String,
    /// Names of `spec.schedulingGates`.
    pub gates: Vec<String>,
    /// Whether it has `spec.resourceClaims`.
    pub claims_devices: bool,
    /// `spec.priority`, 0 when there is none.
    pub priority: i32,
    /// Whether `spec.preemptionPolicy` is `Never`.
    pub preempts_never: bool,
    /// What it asks for.
    pub requests: Requests,
    /// Host ports that it wants.
    pub ports: Vec<HostPort>,
    /// `spec.nodeSelector`.
    pub node_selector: BTreeMap<String, String>,
    /// Required node affinity.
    pub required_nodes: Option<Terms>,
    /// Preferred node affinity with weights.
    pub preferred_nodes: Vec<(i64, Term)>,
    /// Affinity and anti-affinity to other pods, if there is any.
    pub company: Option<Arc<Company>>,
    /// `spec.topologySpreadConstraints`.
    pub spread: Vec<Spread>,
    /// `spec.tolerations`.
    pub tolerations: Vec<Toleration>,
    /// Images of its containers, with a tag.
    pub images: Vec<String>,
    /// The `PodScheduled` condition.
    pub scheduled: Option<ScheduledCondition>,
    /// `metadata.generation`.
    pub generation: Option<i64>,
}

impl PodInfo {
    /// A pod at one version.
    #[must_use]
    pub fn new(pod: &Pod, key: ObjectKey, revision: Revision) -> Self {
        let meta = &pod.metadata;
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let nodes = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required =
            nodes.and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred =
            nodes.and_then(|n| n.preferred_during_scheduling_ignored_during_execution.as_ref());
        let company = Company::compile(spec.affinity.as_ref(), &key.namespace).map(Arc::new);
        let spread = spec.topology_spread_constraints.iter().flatten();
        Self {
            key,
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            revision,
            created_ms: meta.creation_timestamp.as_ref().map_or(0, |t| t.0.as_millisecond()),
            labels: meta.labels.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            node_name: spec.node_name.as_deref().filter(|name| !name.is_empty()).map(Arc::from),
            scheduler_name: spec.scheduler_name.clone().unwrap_or_default(),
            gates: spec.scheduling_gates.iter().flatten().map(|gate| gate.name.clone()).collect(),
            claims_devices: spec.resource_claims.as_ref().is_some_and(|all| !all.is_empty()),
            priority: spec.priority.unwrap_or(0),
            preempts_never: spec.preemption_policy.as_deref() == Some("Never"),
            requests: resources::requests(pod),
            ports: host_ports(spec),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            required_nodes: required.map(Terms::compile),
            preferred_nodes: preferred
                .into_iter()
                .flatten()
                .map(|term| (i64::from(term.weight), Term::compile(&term.preference)))
                .collect(),
            company,
            spread: spread.map(Spread::compile).collect(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            images: images(spec),
            scheduled: scheduled_condition(pod),
            generation: meta.generation,
        }
    }

    /// Whether the pod holds resources of a node.
    #[must_use]
    pub fn occupies(&self) -> Option<&Arc<str>> {
        if self.finished { None } else { self.node_name.as_ref() }
    }

    /// Whether another version of the same pod would be decided alike.
    #[must_use]
    pub fn same_for_scheduling(&self, other: &Self) -> bool {
        let of = |pod: &Self| Self {
            revision: Revision(0),
            scheduled: None,
            generation: None,
            ..pod.clone()
        };
        of(self) == of(other)
    }
}

fn scheduled_condition(pod: &Pod) -> Option<ScheduledCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    Some(ScheduledCondition {
        status: condition.status.clone(),
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    })
}

/// Host ports of containers and of sidecars (which run beside them).
fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let host_port = port.host_port.filter(|port| *port > 0)?;
            let or = |text: &Option<String>, default: &str| match text.as_deref() {
                Some("") | None => default.to_owned(),
                Some(text) => text.to_owned(),
            };
            Some(HostPort {
                ip: or(&port.host_ip, "0.0.0.0"),
                protocol: or(&port.protocol, "TCP"),
                port: host_port,
            })
        })
        .collect()
}

fn images(spec: &PodSpec) -> Vec<String> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers
        .filter_map(|container| container.image.as_deref())
        .map(|image| {
            // The tag comes after the last slash; a colon before it is a registry's port.
            let name = image.rsplit('/').next().unwrap_or(image);
            if name.contains(':') { image.to_owned() } else { format!("{image}:latest") }
        })
        .collect()
}
