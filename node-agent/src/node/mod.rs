//! The Node object: what this machine is and how it does, as measured.

mod machine;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

pub use machine::Usage;
pub(crate) use machine::{default_ips, measure};

use crate::config::Config;
use crate::limits::{IMAGES_IN_STATUS_MAX, NAMES_OF_IMAGE_MAX};
use crate::pod::status::whole_second;
use crate::runtime::{Image, RuntimeStatus, RuntimeVersion};

/// What a status is made from.
pub(crate) struct Inputs<'a> {
    pub(crate) config: &'a Config,
    pub(crate) host_ips: &'a [String],
    pub(crate) usage: &'a Usage,
    pub(crate) version: &'a RuntimeVersion,
    pub(crate) runtime: Result<&'a RuntimeStatus, &'a str>,
    pub(crate) images: &'a [Image],
    pub(crate) previous: Option<&'a NodeStatus>,
    pub(crate) now: Timestamp,
}

/// The Node as it should be created.
pub(crate) fn object(config: &Config, status: NodeStatus) -> Node {
    let (os, arch) = ("linux", go_arch());
    let name = config.node_name.clone();
    let mut labels = BTreeMap::from(
        [
            ("beta.kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", os),
            ("kubernetes.io/arch", arch),
            ("kubernetes.io/hostname", name.as_str()),
            ("kubernetes.io/os", os),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    labels.extend(config.labels.clone());
    let taints = (!config.taints.is_empty()).then(|| config.taints.clone());
    Node {
        metadata: ObjectMeta { name: Some(name), labels: Some(labels), ..ObjectMeta::default() },
        spec: Some(NodeSpec { taints, ..NodeSpec::default() }),
        status: Some(status),
    }
}

/// The architecture as Go names it.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// The node's status now. Pure.
pub(crate) fn status(inputs: &Inputs<'_>) -> NodeStatus {
    let usage = inputs.usage;
    let mut capacity = BTreeMap::from([
        ("cpu".to_owned(), Quantity(usage.cpus.to_string())),
        ("memory".to_owned(), Quantity(format!("{}Ki", usage.memory_bytes / 1024))),
        ("pods".to_owned(), Quantity(inputs.config.pods_max.to_string())),
        ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", usage.disk_bytes / 1024))),
    ]);
    for (size, bytes) in &usage.hugepages {
        capacity.insert(format!("hugepages-{size}"), Quantity(bytes.to_string()));
    }
    let mut allocatable = capacity.clone();
    let (_, memory, disk) = usage.allocatable(&inputs.config.thresholds);
    allocatable.insert("memory".to_owned(), Quantity(format!("{}Ki", memory / 1024)));
    allocatable.insert("ephemeral-storage".to_owned(), Quantity(disk.to_string()));
    let mut addresses: Vec<NodeAddress> = inputs
        .host_ips
        .iter()
        .map(|ip| NodeAddress { address: ip.clone(), type_: "InternalIP".to_owned() })
        .collect();
    addresses.push(NodeAddress {
        address: inputs.config.node_name.clone(),
        type_: "Hostname".to_owned(),
    });
    NodeStatus {
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        addresses: Some(addresses),
        conditions: Some(conditions(inputs)),
        node_info: Some(info(inputs)),
        images: Some(images(inputs.images)),
        // There is no port: the agent dials the masters.
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: 0 }),
        }),
        ..NodeStatus::default()
    }
}

fn info(inputs: &Inputs<'_>) -> NodeSystemInfo {
    let usage = inputs.usage;
    let version = crate::version().to_owned();
    NodeSystemInfo {
        architecture: go_arch().to_owned(),
        boot_id: usage.boot_id.clone(),
        container_runtime_version: format!("{}://{}", inputs.version.name, inputs.version.version),
        kernel_version: usage.kernel.clone(),
        // Upstream's nodes have not said it since v1.31.
        kube_proxy_version: String::new(),
        kubelet_version: version,
        machine_id: usage.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: usage.os_image.clone(),
        system_uuid: usage.system_uuid.clone(),
        ..NodeSystemInfo::default()
    }
}

/// The largest images, with the names people know first.
fn images(images: &[Image]) -> Vec<ContainerImage> {
    let mut sorted: Vec<&Image> = images.iter().collect();
    sorted.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.id.cmp(&b.id)));
    sorted
        .into_iter()
        .take(IMAGES_IN_STATUS_MAX)
        .map(|image| ContainerImage {
            names: Some(names(image)),
            size_bytes: i64::try_from(image.size_bytes).ok(),
        })
        .collect()
}

fn names(image: &Image) -> Vec<String> {
    let all = image.repo_digests.iter().chain(&image.repo_tags);
    all.take(NAMES_OF_IMAGE_MAX).cloned().collect()
}

fn conditions(inputs: &Inputs<'_>) -> Vec<NodeCondition> {
    let usage = inputs.usage;
    let keep = &inputs.config.thresholds;
    let memory = keep.memory.is_crossed(usage.memory_free_bytes, usage.memory_bytes);
    let disk = keep.disk.is_crossed(usage.disk_free_bytes, usage.disk_bytes);
    let pids = keep.pids.is_crossed(usage.pids_max.saturating_sub(usage.pids), usage.pids_max);
    let pressure = |yes: bool, bad: (&str, &str), good: (&str, &str)| {
        let (reason, message) = if yes { bad } else { good };
        (yes, reason.to_owned(), message.to_owned())
    };
    let ready = match inputs.runtime {
        Ok(status) if status.runtime_ready && status.network_ready => {
            (true, "KubeletReady".to_owned(), "kubelet is posting ready status".to_owned())
        }
        Ok(status) => (false, "KubeletNotReady".to_owned(), status.message.clone()),
        Err(error) => {
            (false, "KubeletNotReady".to_owned(), format!("container runtime is down: {error}"))
        }
    };
    let all = [
        (
            "MemoryPressure",
            pressure(
                memory,
                ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ),
        ),
        (
            "DiskPressure",
            pressure(
                disk,
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ),
        ),
        (
            "PIDPressure",
            pressure(
                pids,
                ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ),
        ),
        ("Ready", ready),
    ];
    all.into_iter().map(|(kind, verdict)| condition(inputs, kind, verdict)).collect()
}

fn condition(
    inputs: &Inputs<'_>,
    kind: &str,
    (yes, reason, message): (bool, String, String),
) -> NodeCondition {
    let now = Time(whole_second(inputs.now));
    let status = if yes { "True" } else { "False" };
    let old = inputs.previous.and_then(|previous| previous.conditions.as_ref());
    let old = old.into_iter().flatten().find(|old| old.type_ == kind && old.status == status);
    NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason),
        message: Some(message),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: old.and_then(|old| old.last_transition_time.clone()).or(Some(now)),
    }
}

/// Whether two statuses differ in more than their heartbeat times.
pub(crate) fn changed(old: &NodeStatus, new: &NodeStatus) -> bool {
    let strip = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    strip(old) != strip(new)
}

/// JSON of anything Kubernetes.
pub(crate) fn json<T: serde::Serialize>(object: &T) -> Vec<u8> {
    serde_json::to_vec(object).unwrap_or_default()
}

/// The node's addresses: as configured, else of the default route.
pub(crate) fn host_ips(config: &Arc<Config>) -> Vec<String> {
    let ips = if config.node_ips.is_empty() { default_ips() } else { config.node_ips.clone() };
    ips.iter().map(ToString::to_string).collect()
}
