//! Pods: how many containers are ready, what the pod is doing in one word, how often it restarted.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, duration, name, or, text};
use crate::tree;

pub(super) static COLUMNS: &[Column] = &[
    NAME,
    text("Ready").described("The aggregate readiness state of this pod for accepting traffic."),
    text("Status").described("The aggregate status of the containers in this pod."),
    text("Restarts").described(
        "The number of times the containers in this pod have been restarted and when the last \
         container in this pod has restarted.",
    ),
    AGE,
    text("IP").wide(),
    text("Node").wide(),
    text("Nominated Node").wide(),
    text("Readiness Gates").wide(),
];

/// The parts of the status that the walk over the containers finds.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    /// The latest restart among the containers counted in `restarts`.
    last: Option<Timestamp>,
}

pub(super) fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (tree::get(pod, "spec"), tree::get(pod, "status"));
    let summary = summarise(pod);
    let restarts = match summary.last {
        Some(last) if summary.restarts != 0 => {
            let ago = duration::human(duration::seconds_between(last, now));
            format!("{} ({ago} ago)", summary.restarts)
        }
        _ => summary.restarts.to_string(),
    };
    let first_ip = tree::list(status, "podIPs").first().map(|ip| tree::text(ip, "ip"));
    let ip = first_ip.unwrap_or_else(|| tree::text(status, "podIP"));
    vec![
        json!(name(pod)),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.reason),
        json!(restarts),
        age(pod, now),
        json!(or(ip, "<none>")),
        json!(or(tree::text(spec, "nodeName"), "<none>")),
        json!(or(tree::text(status, "nominatedNodeName"), "<none>")),
        json!(gates(spec, status)),
    ]
}

/// Pods that are done carry a condition in their table row.
pub(super) fn conditions(pod: &Value) -> Option<Value> {
    let phase = tree::text(tree::get(pod, "status"), "phase");
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    Some(json!([
        {"type": "Completed", "status": "True", "reason": phase, "message": message}
    ]))
}

fn gates(spec: &Value, status: &Value) -> String {
    let gates = tree::list(spec, "readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = |gate: &&Value| {
        let kind = tree::text(gate, "conditionType");
        let mut conditions = tree::list(status, "conditions").iter();
        conditions
            .find(|c| tree::text(c, "type") == kind)
            .is_some_and(|c| tree::text(c, "status") == "True")
    };
    format!("{}/{}", gates.iter().filter(open).count(), gates.len())
}

fn summarise(pod: &Value) -> Summary {
    let (spec, status) = (tree::get(pod, "spec"), tree::get(pod, "status"));
    let mut reason = tree::text(status, "phase").to_owned();
    if !tree::text(status, "reason").is_empty() {
        tree::text(status, "reason").clone_into(&mut reason);
    }
    let gated = |c: &&Value| {
        tree::text(c, "type") == "PodScheduled" && tree::text(c, "reason") == "SchedulingGated"
    };
    if tree::list(status, "conditions").iter().any(|c| gated(&c)) {
        "SchedulingGated".clone_into(&mut reason);
    }
    let total = tree::list(spec, "containers").len();
    let mut summary = Summary { ready: 0, total, reason, restarts: 0, last: None };
    let mut sidecars =
        Summary { ready: 0, total: 0, reason: String::new(), restarts: 0, last: None };
    let initializing = init_containers(spec, status, &mut summary, &mut sidecars);
    if !initializing || is_initialized(status) {
        summary.restarts = sidecars.restarts;
        summary.last = sidecars.last;
        app_containers(status, &mut summary);
    }
    let deleted = tree::has(tree::get(pod, "metadata"), "deletionTimestamp");
    if deleted && tree::text(status, "reason") == "NodeLost" {
        "Unknown".clone_into(&mut summary.reason);
    } else if deleted && !matches!(tree::text(status, "phase"), "Failed" | "Succeeded") {
        "Terminating".clone_into(&mut summary.reason);
    }
    summary
}

fn is_initialized(status: &Value) -> bool {
    let mut conditions = tree::list(status, "conditions").iter();
    conditions.any(|c| tree::text(c, "type") == "Initialized" && tree::text(c, "status") == "True")
}

/// Walks the init containers; says whether one of them is still at work.
fn init_containers(
    spec: &Value,
    status: &Value,
    summary: &mut Summary,
    sidecars: &mut Summary,
) -> bool {
    let inits = tree::list(spec, "initContainers");
    let sidecar = |name: &str| {
        inits
            .iter()
            .any(|c| tree::text(c, "name") == name && tree::text(c, "restartPolicy") == "Always")
    };
    summary.total += inits.iter().filter(|c| tree::text(c, "restartPolicy") == "Always").count();
    let mut waiting_at = None;
    for (i, container) in tree::list(status, "initContainerStatuses").iter().enumerate() {
        let is_sidecar = sidecar(tree::text(container, "name"));
        count_restarts(container, summary);
        if is_sidecar {
            count_restarts(container, sidecars);
        }
        let state = tree::get(container, "state");
        let terminated = tree::get(state, "terminated");
        if !terminated.is_null() && tree::int(terminated, "exitCode") == 0 {
            continue;
        }
        if is_sidecar && tree::flag(container, "started") {
            if tree::flag(container, "ready") {
                summary.ready += 1;
            }
            continue;
        }
        let waiting = tree::text(tree::get(state, "waiting"), "reason");
        summary.reason = if !terminated.is_null() {
            format!("Init:{}", terminated_reason(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{}", inits.len())
        };
        waiting_at = Some(i);
        break;
    }
    waiting_at.is_some()
}

fn app_containers(status: &Value, summary: &mut Summary) {
    let mut running = false;
    for container in tree::list(status, "containerStatuses").iter().rev() {
        count_restarts(container, summary);
        let state = tree::get(container, "state");
        let waiting = tree::text(tree::get(state, "waiting"), "reason");
        let terminated = tree::get(state, "terminated");
        if !waiting.is_empty() {
            waiting.clone_into(&mut summary.reason);
        } else if !terminated.is_null() {
            summary.reason = terminated_reason(terminated);
        } else if tree::flag(container, "ready") && tree::has(state, "running") {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        let mut conditions = tree::list(status, "conditions").iter();
        let ready = conditions
            .any(|c| tree::text(c, "type") == "Ready" && tree::text(c, "status") == "True");
        if ready { "Running" } else { "NotReady" }.clone_into(&mut summary.reason);
    }
}

fn terminated_reason(terminated: &Value) -> String {
    let reason = tree::text(terminated, "reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match tree::int(terminated, "signal") {
        0 => format!("ExitCode:{}", tree::int(terminated, "exitCode")),
        signal => format!("Signal:{signal}"),
    }
}

fn count_restarts(container: &Value, summary: &mut Summary) {
    summary.restarts += tree::int(container, "restartCount");
    let finished = tree::at(container, &["lastState", "terminated", "finishedAt"]);
    let finished = finished.as_str().and_then(|t| t.parse::<Timestamp>().ok());
    summary.last = summary.last.max(finished);
}
