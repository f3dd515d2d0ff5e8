//! What to report of a pod: its `status`, a pure function of what should run, what does, and what was reported before.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus as ApiStatus, HostIP, Pod, PodCondition, PodIP,
    PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions;
use super::observed::Observed;
use super::plan::{Memory, Plan, Waiting};
use super::{resources, spec};
use crate::labels;
use crate::runtime::{ContainerState, ContainerStatus};

/// Why a pod was ended before its containers wanted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// What the message of a pod begins with that its node did not take.
pub(crate) const REJECTED: &str = "Pod was rejected: ";

/// Reason of `DisruptionTarget` where the agent itself set it; others set that condition, too.
pub(crate) const BY_KUBELET: &str = "TerminationByKubelet";

/// Everything a status is made from.
pub(crate) struct Inputs<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) observed: &'a Observed,
    pub(crate) plan: &'a Plan,
    pub(crate) memory: &'a Memory,
    /// Running containers whose readiness probe succeeds, or that have none.
    pub(crate) ready: &'a dyn Fn(&ContainerStatus) -> bool,
    /// Termination messages, by container id.
    pub(crate) message: &'a dyn Fn(&ContainerStatus) -> Option<String>,
    /// The last status reported.
    pub(crate) previous: &'a PodStatus,
    /// `containerd`, for container ids.
    pub(crate) runtime_name: &'a str,
    pub(crate) host_ips: &'a [String],
    /// Set when the agent ended the pod (deadline, eviction).
    pub(crate) ended: Option<&'a Ended>,
    /// Why the node does not give the containers what they ask for now (`PodResizePending`).
    pub(crate) resize_refused: Option<&'a str>,
    /// No container will run again.
    pub(crate) terminal: bool,
    pub(crate) now: Timestamp,
}

/// The pod's status now.
pub(crate) fn generate(inputs: &Inputs<'_>) -> PodStatus {
    let pod = inputs.pod;
    let init = spec::init_containers(pod);
    let main = spec::containers(pod);
    let ephemeral = spec::ephemeral_containers(pod);
    let all_init = init.iter().filter(|c| !spec::is_sidecar(c)).count();
    let previous = inputs.previous;
    let init_statuses: Vec<ApiStatus> = init
        .iter()
        .map(|c| container(inputs, c, &previous.init_container_statuses, true))
        .collect();
    let initialized = all_init == 0
        || init.iter().zip(&init_statuses).all(|(c, status)| {
            if spec::is_sidecar(c) { status.started == Some(true) } else { status.ready }
        })
        || main.iter().any(|c| inputs.observed.latest(&c.name).is_some());
    let default_reason = !init.is_empty() && !initialized;
    let statuses: Vec<ApiStatus> = main
        .iter()
        .map(|c| container(inputs, c, &previous.container_statuses, default_reason))
        .collect();
    let ephemeral_statuses: Vec<ApiStatus> = ephemeral
        .iter()
        .map(|c| container(inputs, c, &previous.ephemeral_container_statuses, false))
        .collect();
    let mut statuses = statuses;
    if inputs.terminal && initialized {
        // What never came to run counts as failed, once the pod was on its way.
        for status in &mut statuses {
            if status.state.as_ref().is_none_or(|state| state.terminated.is_none()) {
                status.state = Some(not_located());
            }
        }
    }
    let phase = phase(inputs, &init_statuses, &statuses);
    let mut status = PodStatus {
        phase: Some(phase.clone()),
        qos_class: Some(resources::qos_class(pod).to_owned()),
        start_time: previous.start_time.clone().or_else(|| Some(Time(whole_second(inputs.now)))),
        observed_generation: pod.metadata.generation,
        nominated_node_name: previous.nominated_node_name.clone(),
        reason: inputs.ended.map(|ended| ended.reason.clone()),
        message: inputs.ended.map(|ended| ended.message.clone()),
        ..PodStatus::default()
    };
    addresses(inputs, &mut status);
    let facts = conditions::Facts {
        init: init.iter().zip(&init_statuses).collect(),
        main: main.iter().zip(&statuses).collect(),
        sandbox_ready: inputs.observed.ready_sandbox().is_some() && !inputs.terminal,
        phase: &phase,
        initialized,
    };
    status.conditions = Some(conditions::generate(pod, &facts, previous, inputs.now));
    extra_conditions(inputs, &mut status);
    // A pod that was never taken has no containers to speak of.
    let rejected = inputs.ended.is_some_and(|ended| ended.message.starts_with(REJECTED));
    let some = |list: Vec<ApiStatus>| (!list.is_empty() && !rejected).then_some(list);
    status.init_container_statuses = some(init_statuses);
    status.container_statuses = some(statuses);
    status.ephemeral_container_statuses = some(ephemeral_statuses);
    status
}

/// API times have whole seconds.
pub(crate) fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Conditions that are there only while they are true.
fn extra_conditions(inputs: &Inputs<'_>, status: &mut PodStatus) {
    let evicted = inputs.ended.filter(|ended| ended.reason == "Evicted");
    let failed_resize = inputs.memory.resize_errors.values().next();
    let failed_resize = failed_resize.map(|failed| failed.message.as_str());
    let extra = [
        ("DisruptionTarget", BY_KUBELET, evicted.map(|ended| ended.message.as_str())),
        ("PodResizePending", "Infeasible", inputs.resize_refused),
        ("PodResizeInProgress", "Error", failed_resize),
    ];
    let conditions = status.conditions.get_or_insert_default();
    for (kind, reason, message) in extra {
        let Some(message) = message else { continue };
        let old = inputs.previous.conditions.iter().flatten().find(|old| old.type_ == kind);
        let since = old.and_then(|old| old.last_transition_time.clone());
        conditions.retain(|condition| condition.type_ != kind);
        conditions.push(PodCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: since.or_else(|| Some(Time(whole_second(inputs.now)))),
            observed_generation: inputs.pod.metadata.generation,
            ..PodCondition::default()
        });
    }
}

fn addresses(inputs: &Inputs<'_>, status: &mut PodStatus) {
    if let Some(ip) = inputs.host_ips.first() {
        status.host_ip = Some(ip.clone());
        let ips = inputs.host_ips.iter().map(|ip| HostIP { ip: ip.clone() });
        status.host_ips = Some(ips.collect());
    }
    let ips: Vec<String> = if spec::host_network(inputs.pod) {
        // Known as soon as the sandbox is: the node's own.
        let ready = inputs.observed.sandbox().is_some();
        if ready { inputs.host_ips.to_vec() } else { Vec::new() }
    } else {
        let sandbox = inputs.observed.sandbox();
        sandbox.map(|s| s.ips.iter().map(ToString::to_string).collect()).unwrap_or_default()
    };
    let old = inputs.previous.pod_ips.clone().unwrap_or_default();
    let ips: Vec<PodIP> = if ips.is_empty() && inputs.observed.ready_sandbox().is_none() {
        old
    } else {
        ips.into_iter().map(|ip| PodIP { ip }).collect()
    };
    status.pod_ip = ips.first().map(|ip| ip.ip.clone());
    status.pod_ips = (!ips.is_empty()).then_some(ips);
}

fn container(
    inputs: &Inputs<'_>,
    container: &Container,
    previous: &Option<Vec<ApiStatus>>,
    initializing: bool,
) -> ApiStatus {
    let name = &container.name;
    let old = previous.iter().flatten().find(|status| status.name == *name);
    let latest = inputs.observed.latest(name);
    let waiting = inputs
        .plan
        .waiting
        .get(name)
        .or_else(|| inputs.memory.failures.get(name).map(|failure| &failure.waiting));
    let mut status = ApiStatus {
        name: name.clone(),
        image: container.image.clone().unwrap_or_default(),
        started: Some(false),
        ..ApiStatus::default()
    };
    let Some(latest) = latest else {
        missing(inputs, &mut status, old, waiting, initializing);
        return status;
    };
    status.container_id = Some(format!("{}://{}", inputs.runtime_name, latest.container.id));
    if !latest.image.is_empty() && !latest.image.starts_with("sha256:") {
        status.image.clone_from(&latest.image);
    }
    status.image_id.clone_from(&latest.image_id);
    status.restart_count = i32::try_from(latest.container.attempt).unwrap_or(i32::MAX);
    status.state = Some(state(inputs, latest));
    status.last_state =
        inputs.observed.previous(name).and_then(|previous| terminated(inputs, previous));
    let mut given_resources = None;
    if latest.container.state == ContainerState::Running {
        status.started = Some(inputs.memory.started.contains(&latest.container.id));
        // An init container that is to end is ready when it has.
        let ends = is_init(inputs.pod, name) && !spec::is_sidecar(container);
        status.ready = !ends && status.started == Some(true) && (inputs.ready)(latest);
        let given = inputs.memory.resized.get(&latest.container.id);
        let given = given.or_else(|| latest.container.annotations.get(labels::RESOURCES));
        given_resources = given.and_then(|text| serde_json::from_str(text).ok());
    } else if latest.container.state == ContainerState::Exited {
        let init = is_init(inputs.pod, name);
        status.ready = init && !spec::is_sidecar(container) && latest.exit_code == 0;
    }
    // One that has ended shows what its text says.
    status.resources = given_resources.or_else(|| container.resources.clone());
    status.allocated_resources = status.resources.as_ref().and_then(|given| given.requests.clone());
    status.volume_mounts = mounts(container);
    if let Some(waiting) = waiting
        && latest.container.state != ContainerState::Running
        && !inputs.terminal
    {
        let ended = terminated(inputs, latest);
        if ended.is_some() {
            status.last_state = ended;
        }
        status.state = Some(waiting_state(waiting));
    }
    status
}

fn is_init(pod: &Pod, name: &str) -> bool {
    spec::init_containers(pod).iter().any(|container| container.name == name)
}

fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?;
    Some(
        mounts
            .iter()
            .map(|mount| VolumeMountStatus {
                name: mount.name.clone(),
                mount_path: mount.mount_path.clone(),
                read_only: mount.read_only,
                recursive_read_only: mount
                    .read_only
                    .filter(|read_only| *read_only)
                    .map(|_| "Disabled".to_owned()),
                ..VolumeMountStatus::default()
            })
            .collect(),
    )
}

/// Nothing of that name in the runtime: not started yet, or lost.
fn missing(
    inputs: &Inputs<'_>,
    status: &mut ApiStatus,
    old: Option<&ApiStatus>,
    waiting: Option<&Waiting>,
    initializing: bool,
) {
    let reason = if initializing { "PodInitializing" } else { "ContainerCreating" };
    let default = Waiting { reason: reason.to_owned(), message: String::new() };
    status.state = Some(waiting_state(waiting.unwrap_or(&default)));
    let Some(old) = old else { return };
    status.restart_count = old.restart_count;
    status.last_state = old.last_state.clone();
    let old_state = old.state.clone().unwrap_or_default();
    if inputs.terminal {
        // It ended; the runtime has forgotten it, we have not.
        if old_state.terminated.is_some() {
            status.state = Some(old_state);
            status.container_id.clone_from(&old.container_id);
            status.image_id.clone_from(&old.image_id);
            status.ready = old.ready;
        } else if old_state.running.is_some() {
            status.state = Some(lost("deleted"));
            status.container_id.clone_from(&old.container_id);
            status.image_id.clone_from(&old.image_id);
        }
    } else if old_state.running.is_some() {
        status.last_state = Some(lost("restarted"));
        status.restart_count = old.restart_count + 1;
    }
}

fn lost(when: &str) -> ApiState {
    ApiState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some(format!(
                "The container could not be located when the pod was {when}.  The container used to be Running"
            )),
            ..ContainerStateTerminated::default()
        }),
        ..ApiState::default()
    }
}

fn not_located() -> ApiState {
    ApiState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some(
                "The container could not be located when the pod was terminated".to_owned(),
            ),
            ..ContainerStateTerminated::default()
        }),
        ..ApiState::default()
    }
}

fn waiting_state(waiting: &Waiting) -> ApiState {
    let message = (!waiting.message.is_empty()).then(|| waiting.message.clone());
    ApiState {
        waiting: Some(ContainerStateWaiting { reason: Some(waiting.reason.clone()), message }),
        ..ApiState::default()
    }
}

fn state(inputs: &Inputs<'_>, status: &ContainerStatus) -> ApiState {
    match status.container.state {
        ContainerState::Running => ApiState {
            running: Some(ContainerStateRunning {
                started_at: status.started_at.map(|time| Time(whole_second(time))),
            }),
            ..ApiState::default()
        },
        ContainerState::Exited => terminated(inputs, status).unwrap_or_default(),
        ContainerState::Unknown => ApiState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                container_id: Some(format!("{}://{}", inputs.runtime_name, status.container.id)),
                ..ContainerStateTerminated::default()
            }),
            ..ApiState::default()
        },
        ContainerState::Created => waiting_state(&Waiting {
            reason: "ContainerCreating".to_owned(),
            message: String::new(),
        }),
    }
}

fn terminated(inputs: &Inputs<'_>, status: &ContainerStatus) -> Option<ApiState> {
    if status.container.state != ContainerState::Exited {
        return None;
    }
    let default = if status.exit_code == 0 { "Completed" } else { "Error" };
    let reason = if status.reason.is_empty() { default } else { &status.reason };
    let time = |time: Option<Timestamp>| time.map(|time| Time(whole_second(time)));
    let left = (inputs.message)(status).unwrap_or_default();
    let words: Vec<&str> =
        [status.message.as_str(), &left].into_iter().filter(|text| !text.is_empty()).collect();
    let terminated = ContainerStateTerminated {
        exit_code: status.exit_code,
        reason: Some(reason.to_owned()),
        message: (!words.is_empty()).then(|| words.join(": ")),
        started_at: time(status.started_at.or(Some(Timestamp::UNIX_EPOCH))),
        finished_at: time(status.finished_at),
        container_id: Some(format!("{}://{}", inputs.runtime_name, status.container.id)),
        signal: None,
    };
    Some(ApiState { terminated: Some(terminated), ..ApiState::default() })
}

/// The kubelet's phase.
fn phase(inputs: &Inputs<'_>, init: &[ApiStatus], main: &[ApiStatus]) -> String {
    if inputs.ended.is_some() {
        return "Failed".to_owned();
    }
    let policy = spec::restart_policy(inputs.pod);
    let (mut pending, mut failed) = (0, 0);
    for (container, status) in spec::init_containers(inputs.pod).iter().zip(init) {
        if spec::is_sidecar(container) {
            pending += usize::from(status.started != Some(true));
            continue;
        }
        let state = status.state.clone().unwrap_or_default();
        let last = status.last_state.clone().unwrap_or_default();
        let code = state.terminated.as_ref().or(last.terminated.as_ref()).map(|t| t.exit_code);
        match (state.running.is_some(), code) {
            (true, _) | (false, None) => pending += 1,
            (false, Some(0)) if state.terminated.is_none() => pending += 1,
            (false, Some(0)) => {}
            (false, Some(_)) => failed += 1,
        }
    }
    let created = main.iter().any(|status| status.container_id.is_some());
    if failed > 0 && !created {
        return if policy == spec::RestartPolicy::Never { "Failed" } else { "Pending" }.to_owned();
    }
    if pending > 0 && !created && !inputs.terminal {
        return "Pending".to_owned();
    }
    main_phase(inputs, main, policy).to_owned()
}

fn main_phase(
    inputs: &Inputs<'_>,
    main: &[ApiStatus],
    policy: spec::RestartPolicy,
) -> &'static str {
    let (mut waiting, mut running, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for status in main {
        let state = status.state.as_ref();
        let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        if state.is_some_and(|state| state.running.is_some()) {
            running += 1;
        } else if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
            stopped += 1;
            succeeded += usize::from(ended.exit_code == 0);
        } else if last.is_some() {
            stopped += 1;
        } else {
            waiting += 1;
        }
    }
    if inputs.terminal && running == 0 {
        return if waiting == 0 && stopped == succeeded { "Succeeded" } else { "Failed" };
    }
    if waiting > 0 {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    match policy {
        spec::RestartPolicy::Always => "Running",
        _ if stopped == succeeded => "Succeeded",
        spec::RestartPolicy::Never => "Failed",
        spec::RestartPolicy::OnFailure => "Running",
    }
}
