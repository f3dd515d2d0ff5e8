//! Stories of one ReplicaSet.

use serde_json::{Value, json};

use crate::plan::Controller;
use crate::resources::{PODS, REPLICA_SETS};
use crate::testing::{Cluster, text};

fn replica_set(replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": { "name": "rs", "namespace": "default" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web", "tier": "x" } },
                "spec": { "containers": [{ "name": "c" }] },
            },
        },
    })
}

async fn scale(cluster: &mut Cluster, replicas: i32) {
    cluster
        .edit(REPLICA_SETS, "default", "rs", |rs| rs["spec"]["replicas"] = json!(replicas))
        .await;
}

fn status(cluster: &Cluster) -> Value {
    cluster.get(REPLICA_SETS, "default", "rs").unwrap()["status"].clone()
}

#[tokio::test]
async fn creates_what_is_missing_and_counts_what_runs() {
    let mut cluster = Cluster::new().await;
    cluster.put(REPLICA_SETS, replica_set(3)).await;
    cluster.settle().await;
    let pods = cluster.list(PODS);
    assert_eq!(pods.len(), 3);
    assert_eq!(pods[0]["metadata"]["labels"], json!({"app": "web", "tier": "x"}));
    let owner = &pods[0]["metadata"]["ownerReferences"][0];
    assert_eq!(
        (text(&owner["kind"]), owner["controller"].as_bool()),
        ("ReplicaSet".into(), Some(true))
    );
    assert_eq!(cluster.said.len(), 3);
    assert!(cluster.said[0].starts_with("Created pod: rs-"), "{:?}", cluster.said);
    cluster.run_pods(2).await;
    cluster.settle().await;
    assert_eq!(
        status(&cluster),
        json!({"replicas": 3, "fullyLabeledReplicas": 3, "readyReplicas": 2,
            "availableReplicas": 2, "terminatingReplicas": 0, "observedGeneration": 1})
    );
}

#[tokio::test]
async fn a_large_one_comes_in_bursts() {
    let mut cluster = Cluster::new().await;
    cluster.put(REPLICA_SETS, replica_set(1_200)).await;
    cluster.follow();
    let key = REPLICA_SETS.key("default", "rs");
    assert_eq!(cluster.plan(Controller::ReplicaSet, &key).steps.len(), 500 + 1);
    cluster.settle().await;
    assert_eq!(cluster.list(PODS).len(), 1_200);
}

#[tokio::test]
async fn deletes_in_upstreams_order() {
    // From the first to go to the last: each differs from the next in one thing.
    let pods = [
        ("unassigned", json!({}), json!({"phase": "Pending"}), json!({})),
        ("pending", json!({"nodeName": "n1"}), json!({"phase": "Pending"}), json!({})),
        ("not-ready", json!({"nodeName": "n1"}), json!({"phase": "Running"}), json!({})),
        (
            "cheap",
            json!({"nodeName": "n2"}),
            ready("2026-01-01T00:00:00Z", 0),
            json!({"controller.kubernetes.io/pod-deletion-cost": "-5"}),
        ),
        ("doubled", json!({"nodeName": "n1"}), ready("2025-12-01T00:00:00Z", 0), json!({})),
        ("young", json!({"nodeName": "n3"}), ready("2025-12-31T23:59:50Z", 0), json!({})),
        ("restarted", json!({"nodeName": "n4"}), ready("2025-12-01T00:00:00Z", 7), json!({})),
        ("old", json!({"nodeName": "n5"}), ready("2025-12-01T00:00:00Z", 0), json!({})),
    ];
    for left in (0..pods.len()).rev() {
        let mut cluster = Cluster::new().await;
        for (name, spec, status, annotations) in &pods {
            cluster
                .put(
                    PODS,
                    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
                    "name": name, "namespace": "default", "annotations": annotations,
                    "labels": {"app": "web", "tier": "x"}}, "spec": spec, "status": status}),
                )
                .await;
        }
        cluster.put(REPLICA_SETS, replica_set(i32::try_from(left).unwrap())).await;
        cluster.settle().await;
        cluster.run_pods(0).await;
        let mut stayed: Vec<String> =
            cluster.list(PODS).iter().map(|pod| text(&pod["metadata"]["name"])).collect();
        let mut expected: Vec<String> =
            pods[pods.len() - left..].iter().map(|pod| pod.0.to_owned()).collect();
        stayed.sort();
        expected.sort();
        assert_eq!(stayed, expected, "with {left} left");
    }
}

fn ready(since: &str, restarts: i32) -> Value {
    json!({"phase": "Running", "containerStatuses": [{"restartCount": restarts}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]})
}

#[tokio::test]
async fn adopts_what_matches_and_releases_what_no_longer_does() {
    let mut cluster = Cluster::new().await;
    cluster
        .put(
            PODS,
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {},
            "metadata": {"name": "orphan", "namespace": "default", "labels": {"app": "web"}}}),
        )
        .await;
    cluster.put(REPLICA_SETS, replica_set(1)).await;
    cluster.settle().await;
    assert_eq!(cluster.list(PODS).len(), 1, "the orphan is enough");
    assert_eq!(status(&cluster)["fullyLabeledReplicas"], Value::Null);
    cluster.edit(PODS, "default", "orphan", |pod| pod["metadata"]["labels"] = json!({})).await;
    cluster.settle().await;
    let orphan = cluster.get(PODS, "default", "orphan").unwrap();
    assert!(orphan["metadata"]["ownerReferences"].is_null(), "released");
    assert_eq!(cluster.list(PODS).len(), 2, "and replaced");
}

#[tokio::test]
async fn a_refusal_is_said_and_tried_with_one_pod() {
    let mut cluster = Cluster::new().await;
    *cluster.admit.refuse.lock().unwrap() = Some("pods");
    cluster.put(REPLICA_SETS, replica_set(5)).await;
    let key = REPLICA_SETS.key("default", "rs");
    cluster.follow();
    let work = crate::plan::WorkKey::new(Controller::ReplicaSet, key.clone());
    for _ in 0..2 {
        let plan = cluster.plan(Controller::ReplicaSet, &key);
        cluster.carry_out(&work, plan).await;
        cluster.follow();
    }
    assert_eq!(cluster.said[0], "Error creating: exceeded quota");
    let plan = cluster.plan(Controller::ReplicaSet, &key);
    let creations = plan.steps.iter().filter(|step| step.refused.is_some()).count();
    assert_eq!(creations, 1, "one try after a refusal");
    let condition = status(&cluster)["conditions"][0].clone();
    assert_eq!(
        (text(&condition["type"]), text(&condition["reason"])),
        ("ReplicaFailure".into(), "FailedCreate".into())
    );
    assert_eq!(text(&condition["message"]), "exceeded quota");
    *cluster.admit.refuse.lock().unwrap() = None;
    cluster.advance(1);
    cluster.settle().await;
    assert_eq!(cluster.list(PODS).len(), 5);
    assert!(status(&cluster)["conditions"].is_null());
}

#[tokio::test]
async fn pods_become_available_by_time() {
    let mut cluster = Cluster::new().await;
    let mut object = replica_set(1);
    object["spec"]["minReadySeconds"] = json!(10);
    cluster.put(REPLICA_SETS, object).await;
    cluster.settle().await;
    cluster.run_pods(1).await;
    cluster.settle().await;
    assert_eq!(status(&cluster)["availableReplicas"], Value::Null);
    let plan = cluster.plan(Controller::ReplicaSet, &REPLICA_SETS.key("default", "rs"));
    assert_eq!(plan.wake_after, Some(std::time::Duration::from_secs(10)));
    cluster.advance(10);
    cluster.settle().await;
    assert_eq!(status(&cluster)["availableReplicas"], json!(1));
}

#[tokio::test]
async fn scaling_counts_terminating_pods_apart() {
    let mut cluster = Cluster::new().await;
    cluster.put(REPLICA_SETS, replica_set(4)).await;
    cluster.settle().await;
    cluster.run_pods(4).await;
    cluster.settle().await;
    scale(&mut cluster, 1).await;
    cluster.settle().await;
    let now = status(&cluster);
    assert_eq!((now["replicas"].clone(), now["terminatingReplicas"].clone()), (json!(1), json!(3)));
    cluster.run_pods(0).await;
    cluster.settle().await;
    assert_eq!(status(&cluster)["terminatingReplicas"], json!(0));
    assert_eq!(cluster.list(PODS).len(), 1);
}
