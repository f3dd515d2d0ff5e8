//! The loop with all controllers, against a store in memory.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::resources::{DEPLOYMENTS, EVENTS, NODES, PODS, Resource};
use crate::testing::{Cluster, deployment};
use crate::{Controllers, ControllersConfig, ControllersMetrics, NodeLiveness, StoredHeartbeats};

fn run(cluster: &Cluster, metrics: &ControllersMetrics) -> Controllers {
    let config = ControllersConfig {
        min_resync_period: Duration::from_millis(200),
        ..ControllersConfig::default()
    };
    Controllers::start(
        cluster.lead(),
        cluster.admit.clone(),
        config,
        cluster.clock.clone(),
        Arc::new(StoredHeartbeats),
        metrics.clone(),
    )
}

async fn wait_for(cluster: &Cluster, what: &str, holds: impl Fn(&Cluster) -> bool) {
    let mut published = cluster.store.published();
    let reached = async {
        while !holds(cluster) {
            published.changed().await.unwrap();
        }
    };
    timeout(Duration::from_secs(60), reached).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn count(cluster: &Cluster, resource: Resource) -> usize {
    let view = cluster.store.view();
    view.resource(&resource.group_resource()).map_or(0, |found| found.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_deployment_comes_and_goes_through_the_loop() {
    let mut cluster = Cluster::new().await;
    let metrics = ControllersMetrics::default();
    let controllers = run(&cluster, &metrics);
    cluster.put(DEPLOYMENTS, deployment(2_000, "a")).await;
    wait_for(&cluster, "2,000 pods", |cluster| count(cluster, PODS) == 2_000).await;
    wait_for(&cluster, "status", |cluster| {
        let web = cluster.get(DEPLOYMENTS, "default", "web").unwrap();
        web["status"]["replicas"] == 2_000
    })
    .await;
    wait_for(&cluster, "events", |cluster| count(cluster, EVENTS) > 1).await;
    // Bursts, not one proposal each: entries of the log are far fewer than pods.
    assert!(cluster.store.view().index().0 < 400, "{} entries", cluster.store.view().index().0);
    cluster.delete(DEPLOYMENTS, "default", "web", None, "Background").await;
    wait_for(&cluster, "no pods", |cluster| count(cluster, PODS) == 0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(metrics.resync_repairs(), 0, "wake-ups are complete");
    timeout(Duration::from_secs(5), controllers.stop()).await.expect("all tasks are joined");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_tried_again() {
    let mut cluster = Cluster::new().await;
    *cluster.admit.refuse.lock().unwrap() = Some("pods");
    let metrics = ControllersMetrics::default();
    let controllers = run(&cluster, &metrics);
    cluster.put(DEPLOYMENTS, deployment(3, "a")).await;
    wait_for(&cluster, "failure in status", |cluster| {
        let web = cluster.get(DEPLOYMENTS, "default", "web").unwrap();
        let conditions = web["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["reason"] == json!("FailedCreate"))
    })
    .await;
    *cluster.admit.refuse.lock().unwrap() = None;
    wait_for(&cluster, "pods", |cluster| count(cluster, PODS) == 3).await;
    controllers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_somebody_outside_holds_up_nobody_else() {
    let mut cluster = Cluster::new().await;
    cluster.admit.hangs.store(true, std::sync::atomic::Ordering::SeqCst);
    let metrics = ControllersMetrics::default();
    let controllers = run(&cluster, &metrics);
    let named = |name: &str, replicas: i32, image: &str| {
        let mut object = deployment(replicas, image);
        object["metadata"]["name"] = json!(name);
        object["spec"]["selector"]["matchLabels"]["app"] = json!(name);
        object["spec"]["template"]["metadata"]["labels"]["app"] = json!(name);
        object
    };
    // More than may wait at a time.
    let many = crate::limits::OUTSIDE_KEYS_MAX + 10;
    for number in 0..many {
        cluster.put(DEPLOYMENTS, named(&format!("held{number}"), 20, "held")).await;
    }
    cluster.put(DEPLOYMENTS, named("quick", 3, "a")).await;
    wait_for(&cluster, "the pods of the other", |cluster| count(cluster, PODS) == 3).await;
    cluster.admit.hangs.store(false, std::sync::atomic::Ordering::SeqCst);
    wait_for(&cluster, "all pods", |cluster| count(cluster, PODS) == 3 + 20 * many).await;
    timeout(Duration::from_secs(5), controllers.stop()).await.expect("all tasks are joined");
}

/// Hears one node only.
struct Hears(&'static str);

impl NodeLiveness for Hears {
    fn silent_for(&self, node: &str) -> Option<Duration> {
        (node == self.0).then_some(Duration::ZERO)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_silent_nodes_become_unknown() {
    let mut cluster = Cluster::new().await;
    for node in ["heard", "silent"] {
        cluster.put_node(node, json!({})).await;
    }
    let config = ControllersConfig {
        node_monitor_grace_period: Duration::from_millis(300),
        ..ControllersConfig::default()
    };
    let controllers = Controllers::start(
        cluster.lead(),
        cluster.admit.clone(),
        config,
        cluster.clock.clone(),
        Arc::new(Hears("heard")),
        ControllersMetrics::default(),
    );
    let taints = |cluster: &Cluster, node: &str| {
        let node = cluster.get(NODES, "", node).unwrap();
        node["spec"]["taints"].as_array().map_or(0, Vec::len)
    };
    wait_for(&cluster, "both taints", |cluster| taints(cluster, "silent") == 2).await;
    assert_eq!(taints(&cluster, "heard"), 0);
    let cidr = |node: &str| cluster.get(NODES, "", node).unwrap()["spec"]["podCIDR"].clone();
    assert!(cidr("heard").is_string() && cidr("heard") != cidr("silent"));
    controllers.stop().await;
}
