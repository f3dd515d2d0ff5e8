//! Questions one asks of a pod all the time. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

use crate::labels;
use crate::probe::Kind;
use crate::runtime::ContainerStatus;

/// When a container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        }
    }
}

/// The pod's own policy.
pub(crate) fn restart_policy(pod: &Pod) -> RestartPolicy {
    RestartPolicy::parse(spec(pod).and_then(|spec| spec.restart_policy.as_deref()))
}

/// Whether a container of this exit code runs again: its own rules first, then its own policy, then the pod's.
pub(crate) fn restarts(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
        let matches = if codes.operator == "NotIn" { !listed } else { listed };
        if matches && rule.action.starts_with("Restart") {
            return true;
        }
    }
    let policy = match container.restart_policy.as_deref() {
        own @ Some(_) => RestartPolicy::parse(own),
        None => restart_policy(pod),
    };
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// The spec.
pub(crate) fn spec(pod: &Pod) -> Option<&PodSpec> {
    pod.spec.as_ref()
}

/// Init containers, in order.
pub(crate) fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).and_then(|spec| spec.init_containers.as_deref()).unwrap_or(&[])
}

/// Main containers.
pub(crate) fn containers(pod: &Pod) -> &[Container] {
    spec(pod).map_or(&[], |spec| &spec.containers)
}

/// Ephemeral (debug) containers, as containers.
pub(crate) fn ephemeral_containers(pod: &Pod) -> Vec<Container> {
    let list = spec(pod).and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or(&[]);
    list.iter().filter_map(as_container).collect()
}

fn as_container(ephemeral: &EphemeralContainer) -> Option<Container> {
    // The two types differ in `targetContainerName` alone.
    serde_json::from_value(serde_json::to_value(ephemeral).ok()?).ok()
}

/// An init container that keeps running beside the main ones.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// A container of any kind, by name.
pub(crate) fn find_container(pod: &Pod, name: &str) -> Option<Container> {
    let all = init_containers(pod).iter().chain(containers(pod));
    let found = all.into_iter().find(|container| container.name == name).cloned();
    found.or_else(|| ephemeral_containers(pod).into_iter().find(|found| found.name == name))
}

/// The pod shares the host's network.
pub(crate) fn host_network(pod: &Pod) -> bool {
    spec(pod).and_then(|spec| spec.host_network).unwrap_or(false)
}

/// `metadata.namespace`.
pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// `metadata.name`.
pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// `metadata.uid`.
pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// `name_namespace(uid)`, as the kubelet's messages name a pod.
pub(crate) fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// Somebody asked for its deletion.
pub(crate) fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// How long its containers have from SIGTERM to SIGKILL.
pub(crate) fn grace_period(pod: &Pod) -> Duration {
    let asked = pod
        .metadata
        .deletion_grace_period_seconds
        .filter(|_| is_deleted(pod))
        .or_else(|| spec(pod).and_then(|spec| spec.termination_grace_period_seconds));
    Duration::from_secs(asked.unwrap_or(30).try_into().unwrap_or(0))
}

/// The grace period of a container whose probe failed: the probe's own, else the pod's.
pub(crate) fn probe_grace(pod: &Pod, container: &Container, kind: Kind) -> Duration {
    let probe = match kind {
        Kind::Startup => container.startup_probe.as_ref(),
        Kind::Liveness | Kind::Readiness => container.liveness_probe.as_ref(),
    };
    let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
    own.and_then(|seconds| u64::try_from(seconds).ok())
        .map_or_else(|| grace_period(pod), Duration::from_secs)
}

/// The container runs another image than its text names now.
pub(crate) fn image_changed(container: &Container, status: &ContainerStatus) -> bool {
    let made_from = status.container.annotations.get(labels::IMAGE);
    made_from.is_some_and(|image| Some(image) != container.image.as_ref())
}

/// The container whose processes an ephemeral container of this name wants to see.
pub(crate) fn target_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let list = spec(pod).and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or(&[]);
    let found = list.iter().find(|container| container.name == name)?;
    found.target_container_name.as_deref().filter(|target| !target.is_empty())
}

/// When the pod has run too long, and by `activeDeadlineSeconds`.
pub(crate) fn deadline(pod: &Pod, started: Option<Timestamp>) -> Option<Timestamp> {
    let seconds = spec(pod)?.active_deadline_seconds?;
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Some(super::backoff::after(started?, Duration::from_secs(seconds)))
}
