//! Before a run on nodes that somebody else has: which of them take pods, and whether the image runs there. A cluster
//! is not blamed for an image that its nodes cannot get.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hyper::Method;
use serde_json::{Value, json};

use super::{Shared, change};
use crate::limits::{TRIAL_MAX, TRIAL_NODES_MAX};
use crate::real::client::{Answer, Connection};
use crate::real::workload;

/// Between two looks.
const POLL: Duration = Duration::from_millis(250);

/// Names of the nodes that are ready and take pods of everybody.
///
/// # Errors
/// When there is none, with what is wrong with those that are there.
pub fn usable(nodes: &[Value]) -> anyhow::Result<Vec<String>> {
    let (mut usable, mut others) = (Vec::new(), Vec::new());
    for node in nodes {
        let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
        let taints = node["spec"]["taints"].as_array().into_iter().flatten();
        let mut taints = taints.filter(|taint| taint["effect"] != "PreferNoSchedule");
        if ready.next().is_none_or(|condition| condition["status"] != "True") {
            others.push(format!("{name} is not ready"));
        } else if node["spec"]["unschedulable"] == true {
            others.push(format!("{name} is cordoned"));
        } else if let Some(taint) = taints.next() {
            let key = taint["key"].as_str().unwrap_or_default();
            others.push(format!("{name} has the taint {key}"));
        } else {
            usable.push(name);
        }
    }
    let none = match others.as_slice() {
        [] => "it has no nodes".to_owned(),
        some => some.join(", "),
    };
    ensure!(
        !usable.is_empty(),
        "the workload has Deployments, and the cluster has no node that is ready and takes pods: {none}"
    );
    usable.sort();
    Ok(usable)
}

/// Runs a pod on each node of the run, at most on [`TRIAL_NODES_MAX`] of them, and removes them again.
///
/// # Errors
/// When one is not ready after [`TRIAL_MAX`], with what the node says.
pub async fn run(run: &workload::Shared, kube: &Shared) -> anyhow::Result<()> {
    let begin = Instant::now();
    let pods = change::pods(&run.namespace);
    let container = kube.pods.container();
    let nodes = kube.nodes.iter().flatten().take(TRIAL_NODES_MAX);
    for (index, node) in nodes.enumerate() {
        let mut spec = change::pod(&container);
        spec.as_object_mut().context("a pod is an object")?.insert("nodeName".into(), json!(node));
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": format!("trial-{index}")},
            "spec": spec,
        });
        loop {
            let answer = call(run, Method::POST, &pods, Some(&pod)).await;
            match answer {
                Ok(answer) if matches!(answer.code, 201 | 409) => break,
                // A namespace gets its service account a moment later.
                Ok(answer) if answer.code != 403 || begin.elapsed() > TRIAL_MAX => {
                    bail!("a pod was refused: {} ({})", answer.code, answer.body["message"])
                }
                Err(error) if begin.elapsed() > TRIAL_MAX => return Err(error),
                Ok(_) | Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
    loop {
        let waiting: Vec<String> = list(run, &pods).await?.iter().filter_map(is_waiting).collect();
        if waiting.is_empty() {
            break;
        }
        ensure!(
            begin.elapsed() < TRIAL_MAX,
            "the image {} does not run {TRIAL_MAX:?} after it was asked for: {}; --image names another one",
            container["image"].as_str().unwrap_or_default(),
            waiting.join(", ")
        );
        tokio::time::sleep(POLL).await;
    }
    loop {
        let left = list(run, &pods).await?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(begin.elapsed() < TRIAL_MAX * 2, "{} pods do not end", left.len());
        for pod in left.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()) {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            call(run, Method::DELETE, &format!("{pods}/{name}"), None).await?;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Why a pod is not ready; nothing when it is.
fn is_waiting(pod: &Value) -> Option<String> {
    let status = &pod["status"];
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    if conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True") {
        return None;
    }
    let states = status["containerStatuses"].as_array().into_iter().flatten();
    let reason = states.flat_map(|found| {
        let (waiting, ended) = (&found["state"]["waiting"], &found["state"]["terminated"]);
        [&waiting["message"], &waiting["reason"], &ended["reason"]]
    });
    let phase = [&status["message"], &status["phase"]];
    let why = reason.chain(phase).find_map(Value::as_str).unwrap_or("nothing is said of it");
    Some(format!("on {}: {why}", pod["spec"]["nodeName"].as_str().unwrap_or("no node")))
}

/// By any master that answers.
async fn call(
    run: &workload::Shared,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Answer> {
    let mut last = None;
    for api in &run.apis {
        match Connection::open(*api, &run.tls).await {
            Ok(mut connection) => match connection.call(method.clone(), path, body).await {
                Ok(answer) if answer.code < 500 => return Ok(answer),
                other => last = Some(anyhow::anyhow!("{path}: {other:?}")),
            },
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("there are no masters")?)
}

async fn list(run: &workload::Shared, path: &str) -> anyhow::Result<Vec<Value>> {
    let mut answer = call(run, Method::GET, path, None).await?;
    match answer.body.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ if answer.code == 200 => Ok(Vec::new()),
        _ => bail!("{path}: {} ({})", answer.code, answer.body["message"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, ready: &str, spec: Value) -> Value {
        let conditions = json!([{"type": "Ready", "status": ready}]);
        json!({"metadata": {"name": name}, "spec": spec, "status": {"conditions": conditions}})
    }

    #[test]
    fn nodes_that_take_no_pods_are_left_out() {
        let taint = |effect: &str| json!({"taints": [{"key": "gpu", "effect": effect}]});
        let all = [
            node("down", "Unknown", json!({})),
            node("cordoned", "True", json!({"unschedulable": true})),
            node("special", "True", taint("NoSchedule")),
            node("soft", "True", taint("PreferNoSchedule")),
            node("good", "True", json!({})),
        ];
        assert_eq!(usable(&all).unwrap(), ["good", "soft"]);
        let said = usable(&all[..3]).unwrap_err().to_string();
        let wanted =
            "takes pods: down is not ready, cordoned is cordoned, special has the taint gpu";
        assert!(said.ends_with(wanted), "{said}");
        assert!(usable(&[]).unwrap_err().to_string().ends_with("it has no nodes"));
    }

    #[test]
    fn a_pod_that_waits_says_why() {
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(is_waiting(&ready), None);
        let waiting = json!({"reason": "ErrImagePull", "message": "no such image"});
        let pulls = json!({"spec": {"nodeName": "a"}, "status": {"phase": "Pending",
            "containerStatuses": [{"state": {"waiting": waiting}}]}});
        assert_eq!(is_waiting(&pulls).unwrap(), "on a: no such image");
        let pending = json!({"spec": {"nodeName": "a"}, "status": {"phase": "Pending"}});
        assert_eq!(is_waiting(&pending).unwrap(), "on a: Pending");
    }
}
