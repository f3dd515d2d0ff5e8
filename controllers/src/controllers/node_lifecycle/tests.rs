//! Stories of nodes that fall silent.

use std::time::Duration;

use serde_json::{Value, json};

use crate::plan::Controller;
use crate::resources::{NODES, PODS};
use crate::testing::{Cluster, text};

async fn cluster(nodes: &[&str]) -> Cluster {
    let mut cluster = Cluster::new().await;
    for node in nodes {
        cluster.put_node(node, json!({})).await;
    }
    cluster.settle().await;
    cluster
}

async fn silent(cluster: &mut Cluster, node: &str) {
    cluster.silence = Duration::from_secs(51);
    let key = NODES.key("", node);
    cluster.settle_key(Controller::NodeLifecycle, &key).await;
    cluster.silence = Duration::ZERO;
}

async fn put_pod(cluster: &mut Cluster, node: &str, tolerations: Value) {
    cluster
        .put(
            PODS,
            json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("on-{node}"), "namespace": "default"},
            "spec": {"nodeName": node, "tolerations": tolerations}}),
        )
        .await;
    cluster.run_pods(usize::MAX).await;
}

fn taints(cluster: &Cluster, node: &str) -> Vec<String> {
    let node = cluster.get(NODES, "", node).unwrap();
    let taint = |taint: &Value| {
        let key = text(&taint["key"]);
        format!("{}:{}", key.rsplit('/').next().unwrap(), text(&taint["effect"]))
    };
    node["spec"]["taints"].as_array().into_iter().flatten().map(taint).collect()
}

fn ready(cluster: &Cluster, node: &str) -> Value {
    let node = cluster.get(NODES, "", node).unwrap();
    let conditions = node["status"]["conditions"].as_array().unwrap().clone();
    conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap()
}

async fn report(cluster: &mut Cluster, node: &str, status: &str) {
    cluster
        .edit(NODES, "", node, |node| {
            node["status"]["conditions"] = json!([{"type": "Ready", "status": status,
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        })
        .await;
}

fn for_five_minutes() -> Value {
    json!([
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
    ])
}

#[tokio::test]
async fn a_silent_node_becomes_unknown_and_loses_its_pods_after_their_toleration() {
    let mut cluster = cluster(&["n1", "n2", "n3"]).await;
    put_pod(&mut cluster, "n1", for_five_minutes()).await;
    silent(&mut cluster, "n1").await;
    let condition = ready(&cluster, "n1");
    assert_eq!(
        (text(&condition["status"]), text(&condition["reason"]), text(&condition["message"])),
        (
            "Unknown".into(),
            "NodeStatusUnknown".into(),
            "Kubelet stopped posting node status.".into()
        )
    );
    cluster.settle().await;
    assert_eq!(taints(&cluster, "n1"), ["unreachable:NoSchedule", "unreachable:NoExecute"]);
    assert!(cluster.said.contains(&"Node n1 status is now: NodeNotReady".to_owned()));
    let pod = cluster.get(PODS, "default", "on-n1").unwrap();
    assert_eq!(pod["status"]["conditions"][0]["status"], "False");

    let plan = cluster.plan(Controller::TaintEviction, &NODES.key("", "n1"));
    assert_eq!(plan.wake_after, Some(Duration::from_secs(300)), "an exact timer");
    cluster.advance(299);
    cluster.settle().await;
    assert!(
        cluster.get(PODS, "default", "on-n1").unwrap()["metadata"]["deletionTimestamp"].is_null()
    );
    cluster.advance(1);
    cluster.settle().await;
    let pod = cluster.get(PODS, "default", "on-n1").unwrap();
    assert!(!pod["metadata"]["deletionTimestamp"].is_null());
    assert_eq!(pod["status"]["conditions"][1]["reason"], "DeletionByTaintManager");
    assert!(cluster.said.contains(&"Marking for deletion Pod default/on-n1".to_owned()));
}

#[tokio::test]
async fn a_pod_that_meets_an_old_taint_has_its_full_time() {
    let mut cluster = cluster(&["n1"]).await;
    cluster
        .edit(NODES, "", "n1", |node| {
            node["spec"]["taints"] = json!([{"key": "mine", "effect": "NoExecute",
                "timeAdded": "2025-12-31T00:00:00Z"}]);
        })
        .await;
    let minute = json!([{"key": "mine", "operator": "Exists", "tolerationSeconds": 60}]);
    put_pod(&mut cluster, "n1", minute).await;
    let leaves = |cluster: &Cluster| {
        !cluster.get(PODS, "default", "on-n1").unwrap()["metadata"]["deletionTimestamp"].is_null()
    };
    cluster.settle().await;
    assert!(!leaves(&cluster));
    cluster.advance(59);
    cluster.settle().await;
    assert!(!leaves(&cluster));
    cluster.advance(1);
    cluster.settle().await;
    assert!(leaves(&cluster));
}

#[tokio::test]
async fn a_node_that_comes_back_keeps_its_pods() {
    let mut cluster = cluster(&["n1", "n2"]).await;
    put_pod(&mut cluster, "n1", for_five_minutes()).await;
    silent(&mut cluster, "n1").await;
    cluster.settle().await;
    report(&mut cluster, "n1", "True").await;
    cluster.settle().await;
    assert!(taints(&cluster, "n1").is_empty());
    cluster.advance(1_000);
    cluster.settle().await;
    assert!(
        cluster.get(PODS, "default", "on-n1").unwrap()["metadata"]["deletionTimestamp"].is_null()
    );
}

#[tokio::test]
async fn a_new_leader_gives_a_full_grace_period() {
    let mut cluster = cluster(&["n1", "n2"]).await;
    put_pod(&mut cluster, "n1", json!([])).await;
    cluster.watching_for = Duration::from_secs(10);
    silent(&mut cluster, "n1").await;
    assert_eq!(
        text(&ready(&cluster, "n1")["status"]),
        "True",
        "silence from before is not its fault"
    );
    cluster.silence = Duration::from_secs(500);
    let plan = cluster.plan(Controller::NodeLifecycle, &NODES.key("", "n1"));
    assert_eq!(plan.wake_after, Some(Duration::from_millis(40_001)));
    cluster.silence = Duration::ZERO;

    // The leader before had tainted it already; its pods stay until this one has watched.
    cluster
        .edit(NODES, "", "n1", |node| {
            node["spec"]["taints"] = json!([{"key": "node.kubernetes.io/unreachable",
                "effect": "NoExecute", "timeAdded": "2025-12-31T00:00:00Z"}]);
            node["status"]["conditions"][0]["status"] = json!("Unknown");
        })
        .await;
    cluster.settle().await;
    assert!(
        cluster.get(PODS, "default", "on-n1").unwrap()["metadata"]["deletionTimestamp"].is_null()
    );
    cluster.watching_for = Duration::from_secs(50);
    cluster.advance(1);
    cluster.settle().await;
    assert!(
        !cluster.get(PODS, "default", "on-n1").unwrap()["metadata"]["deletionTimestamp"].is_null()
    );
}

#[tokio::test]
async fn when_all_nodes_are_gone_nothing_is_evicted() {
    let mut cluster = cluster(&["n1", "n2"]).await;
    put_pod(&mut cluster, "n1", json!([])).await;
    for node in ["n1", "n2"] {
        silent(&mut cluster, node).await;
    }
    cluster.settle().await;
    for node in ["n1", "n2"] {
        assert_eq!(taints(&cluster, node), ["unreachable:NoSchedule"]);
    }
    cluster.advance(3_600);
    cluster.settle().await;
    assert!(
        cluster.get(PODS, "default", "on-n1").unwrap()["metadata"]["deletionTimestamp"].is_null()
    );
}

#[tokio::test]
async fn evictions_come_one_node_after_the_other() {
    let mut cluster = cluster(&["n1", "n2", "n3", "n4", "n5"]).await;
    for node in ["n1", "n2"] {
        silent(&mut cluster, node).await;
    }
    let evicted = |cluster: &Cluster| {
        ["n1", "n2"]
            .iter()
            .filter(|node| taints(cluster, node).contains(&"unreachable:NoExecute".to_owned()))
            .count()
    };
    cluster.settle().await;
    assert_eq!(evicted(&cluster), 1);
    cluster.advance(9);
    cluster.settle().await;
    assert_eq!(evicted(&cluster), 1);
    cluster.advance(1);
    cluster.settle().await;
    assert_eq!(evicted(&cluster), 2);
}

#[tokio::test]
async fn a_small_unhealthy_zone_is_not_evicted() {
    let mut cluster = cluster(&["n1", "n2", "n3", "n4", "n5"]).await;
    for node in ["n1", "n2", "n3"] {
        report(&mut cluster, node, "Unknown").await;
    }
    cluster.settle().await;
    assert_eq!(taints(&cluster, "n1"), ["unreachable:NoSchedule"], "3 of 5 are not ready");
    report(&mut cluster, "n3", "True").await;
    cluster.settle().await;
    assert_eq!(taints(&cluster, "n1"), ["unreachable:NoSchedule", "unreachable:NoExecute"]);
    report(&mut cluster, "n1", "False").await;
    cluster.settle().await;
    assert_eq!(taints(&cluster, "n1"), ["not-ready:NoSchedule", "not-ready:NoExecute"], "swapped");
}

#[tokio::test]
async fn conditions_and_cordon_become_taints() {
    let mut cluster = cluster(&["n1"]).await;
    cluster
        .edit(NODES, "", "n1", |node| {
            node["spec"]["unschedulable"] = json!(true);
            node["spec"]["taints"] = json!([{"key": "mine", "effect": "NoSchedule"}]);
            node["status"]["conditions"]
                .as_array_mut()
                .unwrap()
                .push(json!({"type": "DiskPressure", "status": "True"}));
        })
        .await;
    cluster.settle().await;
    assert_eq!(
        taints(&cluster, "n1"),
        ["mine:NoSchedule", "disk-pressure:NoSchedule", "unschedulable:NoSchedule"]
    );
    cluster
        .edit(NODES, "", "n1", |node| {
            node["spec"]["unschedulable"] = json!(false);
            node["status"]["conditions"][1]["status"] = json!("False");
        })
        .await;
    cluster.settle().await;
    assert_eq!(taints(&cluster, "n1"), ["mine:NoSchedule"]);
}
