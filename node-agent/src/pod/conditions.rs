//! The pod's conditions, with the kubelet's reasons and words. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::spec;
use super::status::whole_second;

/// What the conditions speak about.
pub(crate) struct Facts<'a> {
    pub(crate) init: Vec<(&'a Container, &'a ContainerStatus)>,
    pub(crate) main: Vec<(&'a Container, &'a ContainerStatus)>,
    pub(crate) sandbox_ready: bool,
    pub(crate) phase: &'a str,
    pub(crate) initialized: bool,
}

struct Verdict {
    status: bool,
    reason: Option<String>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Verdict { status: true, reason: None, message: None }
    }

    fn no(reason: &str, message: String) -> Self {
        let message = (!message.is_empty()).then_some(message);
        Verdict { status: false, reason: Some(reason.to_owned()), message }
    }
}

/// All conditions: the agent's own, and those others have set.
pub(crate) fn generate(
    pod: &Pod,
    facts: &Facts<'_>,
    previous: &PodStatus,
    now: Timestamp,
) -> Vec<PodCondition> {
    let containers = containers_ready(facts);
    let sandbox = Verdict { status: facts.sandbox_ready, reason: None, message: None };
    let own = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(facts)),
        ("Ready", ready(pod, &containers, previous)),
        ("ContainersReady", containers),
        ("PodScheduled", Verdict::yes()),
    ];
    let old = previous.conditions.as_deref().unwrap_or(&[]);
    let mut conditions: Vec<PodCondition> = own
        .into_iter()
        .map(|(kind, verdict)| {
            let status = if verdict.status { "True" } else { "False" };
            let old = old.iter().find(|old| old.type_ == kind && old.status == status);
            let changed = old.and_then(|old| old.last_transition_time.clone());
            PodCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: verdict.reason,
                message: verdict.message,
                last_transition_time: changed.or_else(|| Some(Time(whole_second(now)))),
                observed_generation: pod.metadata.generation,
                ..PodCondition::default()
            }
        })
        .collect();
    // Readiness gates, disruption targets and the like belong to others.
    let theirs = old.iter().filter(|old| !conditions.iter().any(|own| own.type_ == old.type_));
    let theirs: Vec<PodCondition> = theirs.cloned().collect();
    conditions.extend(theirs);
    conditions
}

fn names(
    list: &[(&Container, &ContainerStatus)],
    bad: impl Fn(&Container, &ContainerStatus) -> bool,
) -> String {
    let names: Vec<&str> =
        list.iter().filter(|(c, s)| bad(c, s)).map(|(c, _)| c.name.as_str()).collect();
    names.join(" ")
}

fn initialized(facts: &Facts<'_>) -> Verdict {
    if facts.phase == "Succeeded" {
        return Verdict { reason: Some("PodCompleted".to_owned()), ..Verdict::yes() };
    }
    if facts.initialized {
        return Verdict::yes();
    }
    let incomplete = names(&facts.init, |container, status| {
        if spec::is_sidecar(container) { status.started != Some(true) } else { !status.ready }
    });
    let message = format!("containers with incomplete status: [{incomplete}]");
    Verdict::no("ContainersNotInitialized", message)
}

fn containers_ready(facts: &Facts<'_>) -> Verdict {
    match facts.phase {
        "Succeeded" => return Verdict::no("PodCompleted", String::new()),
        "Failed" => return Verdict::no("PodFailed", String::new()),
        _ => {}
    }
    let sidecars: Vec<_> =
        facts.init.iter().filter(|(c, _)| spec::is_sidecar(c)).copied().collect();
    let all: Vec<_> = sidecars.into_iter().chain(facts.main.iter().copied()).collect();
    let unready = names(&all, |_, status| !status.ready);
    if unready.is_empty() {
        return Verdict::yes();
    }
    let message = format!("containers with unready status: [{unready}]");
    Verdict::no("ContainersNotReady", message)
}

fn ready(pod: &Pod, containers: &Verdict, previous: &PodStatus) -> Verdict {
    if !containers.status {
        return Verdict {
            status: false,
            reason: containers.reason.clone(),
            message: containers.message.clone(),
        };
    }
    let gates = spec::spec(pod).and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or(&[]);
    let mut missing = Vec::new();
    for gate in gates {
        let conditions = previous.conditions.as_deref().unwrap_or(&[]);
        let gate = &gate.condition_type;
        match conditions.iter().find(|condition| condition.type_ == *gate) {
            None => missing.push(format!(
                "corresponding condition of pod readiness gate \"{gate}\" does not exist."
            )),
            Some(condition) if condition.status != "True" => missing.push(format!(
                "the status of pod readiness gate \"{gate}\" is not \"True\", but {}",
                condition.status
            )),
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        return Verdict::yes();
    }
    Verdict::no("ReadinessGatesNotReady", missing.join(", "))
}
