//! Stories of one daemon set.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::resources::{CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS};
use crate::testing::{Cluster, text};

fn daemon_set(image: &str, strategy: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": { "name": "ds", "namespace": "default",
            "annotations": { "deprecated.daemonset.template.generation": "1" } },
        "spec": {
            "selector": { "matchLabels": { "app": "log" } },
            "updateStrategy": strategy,
            "revisionHistoryLimit": 2,
            "template": template(image),
        },
        "status": { "currentNumberScheduled": 0, "numberMisscheduled": 0,
            "desiredNumberScheduled": 0, "numberReady": 0 },
    })
}

fn template(image: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": "log" } },
        "spec": { "containers": [{ "name": "c", "image": image }] },
    })
}

fn rolling(unavailable: Value, surge: Value) -> Value {
    json!({ "type": "RollingUpdate",
        "rollingUpdate": { "maxUnavailable": unavailable, "maxSurge": surge } })
}

/// A cluster of so many nodes whose pods run.
async fn running(nodes: usize, object: Value) -> Cluster {
    let mut cluster = Cluster::new().await;
    for number in 0..nodes {
        cluster.put_node(&format!("n{number}"), json!({ "disk": "ssd" })).await;
    }
    cluster.put(DAEMON_SETS, object).await;
    cluster.settle().await;
    cluster.run_pods(usize::MAX).await;
    cluster.settle().await;
    cluster
}

fn status(cluster: &Cluster) -> Value {
    cluster.get(DAEMON_SETS, "default", "ds").unwrap()["status"].clone()
}

/// The images that run on each node, those of pods that go not counted.
fn images(cluster: &Cluster) -> BTreeMap<String, Vec<String>> {
    let mut images: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in cluster.list(PODS) {
        if pod["metadata"]["deletionTimestamp"].is_null() {
            let node = crate::node_selector::target(&pod["spec"]).unwrap().to_owned();
            images.entry(node).or_default().push(text(&pod["spec"]["containers"][0]["image"]));
        }
    }
    images.values_mut().for_each(|images| images.sort());
    images
}

fn count(cluster: &Cluster, image: &str) -> usize {
    images(cluster).values().flatten().filter(|found| *found == image).count()
}

async fn update(cluster: &mut Cluster, image: &str) {
    cluster
        .edit(DAEMON_SETS, "default", "ds", |set| {
            set["spec"]["template"] = template(image);
            let annotations = &mut set["metadata"]["annotations"];
            let key = "deprecated.daemonset.template.generation";
            let generation: i64 = text(&annotations[key]).parse().unwrap();
            annotations[key] = json!((generation + 1).to_string());
        })
        .await;
    cluster.settle().await;
}

fn revisions(cluster: &Cluster) -> Vec<(i64, String)> {
    let mut all: Vec<(i64, String)> = cluster
        .list(CONTROLLER_REVISIONS)
        .iter()
        .map(|revision| {
            let template = &revision["data"]["spec"]["template"];
            assert_eq!(template["$patch"], "replace");
            let image = text(&template["spec"]["containers"][0]["image"]);
            (revision["revision"].as_i64().unwrap(), image)
        })
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn each_node_has_one_pod() {
    let mut cluster = running(3, daemon_set("a", rolling(json!(1), json!(0)))).await;
    assert_eq!(count(&cluster, "a"), 3);
    let expected = json!({"currentNumberScheduled": 3, "numberMisscheduled": 0,
        "desiredNumberScheduled": 3, "numberReady": 3, "observedGeneration": 1,
        "updatedNumberScheduled": 3, "numberAvailable": 3});
    assert_eq!(status(&cluster), expected);
    let pod = cluster.list(PODS).remove(0);
    let revision = cluster.list(CONTROLLER_REVISIONS).remove(0);
    let hash = &pod["metadata"]["labels"]["controller-revision-hash"];
    assert_eq!(revision["metadata"]["labels"]["controller-revision-hash"], *hash);
    assert_eq!(text(&revision["metadata"]["name"]), format!("ds-{}", text(hash)));
    assert_eq!(pod["metadata"]["labels"]["pod-template-generation"], "1");
    let tolerations = pod["spec"]["tolerations"].as_array().unwrap();
    assert_eq!(tolerations.len(), 6, "{tolerations:?}");
    cluster.put_node("n9", json!({})).await;
    cluster.settle().await;
    assert_eq!(count(&cluster, "a"), 4);
    cluster.delete(NODES, "", "n9", None, "Background").await;
    cluster.settle().await;
    assert_eq!(count(&cluster, "a"), 3, "it was for a node that is gone");
    let name = text(&cluster.list(PODS)[0]["metadata"]["name"]);
    cluster.delete(PODS, "default", &name, Some(0), "Background").await;
    cluster.settle().await;
    assert_eq!(count(&cluster, "a"), 3, "it came again");
}

#[tokio::test]
async fn nodes_are_chosen_by_labels_and_taints() {
    let mut object = daemon_set("a", rolling(json!(1), json!(0)));
    object["spec"]["template"]["spec"]["nodeSelector"] = json!({ "disk": "ssd" });
    let mut cluster = running(3, object).await;
    assert_eq!(count(&cluster, "a"), 3);
    let taint = |effect: &str| json!([{ "key": "k", "value": "v", "effect": effect }]);
    cluster.edit(NODES, "", "n0", |node| node["spec"]["taints"] = taint("NoSchedule")).await;
    cluster.settle().await;
    assert_eq!(count(&cluster, "a"), 3, "whom no new one may join stays");
    assert_eq!(status(&cluster)["numberMisscheduled"], 1);
    cluster.edit(NODES, "", "n1", |node| node["spec"]["taints"] = taint("NoExecute")).await;
    cluster
        .edit(NODES, "", "n2", |node| node["metadata"]["labels"] = json!({ "disk": "hdd" }))
        .await;
    cluster.settle().await;
    assert_eq!(images(&cluster).into_keys().collect::<Vec<_>>(), ["n0"]);
    // What every daemon tolerates drives none away.
    let pressure = json!([{ "key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule" }]);
    cluster.edit(NODES, "", "n1", |node| node["spec"]["taints"] = pressure).await;
    cluster.run_pods(0).await;
    cluster.settle().await;
    assert_eq!(count(&cluster, "a"), 2);
}

#[tokio::test]
async fn an_update_goes_on_within_what_may_be_missing() {
    let mut cluster = running(4, daemon_set("a", rolling(json!(2), json!(0)))).await;
    update(&mut cluster, "b").await;
    assert_eq!((count(&cluster, "a"), count(&cluster, "b")), (2, 0), "two go");
    for (old, new) in [(2, 2), (0, 2), (0, 4), (0, 4)] {
        cluster.run_pods(usize::MAX).await;
        cluster.settle().await;
        assert_eq!((count(&cluster, "a"), count(&cluster, "b")), (old, new));
    }
    assert_eq!(status(&cluster)["updatedNumberScheduled"], 4);
    assert_eq!(revisions(&cluster), [(1, "a".to_owned()), (2, "b".to_owned())]);
}

#[tokio::test]
async fn new_pods_may_come_beside_old_ones() {
    let mut cluster = running(2, daemon_set("a", rolling(json!(0), json!(1)))).await;
    update(&mut cluster, "b").await;
    let on = |cluster: &Cluster| images(cluster).into_values().collect::<Vec<_>>();
    assert_eq!(on(&cluster), [vec!["a", "b"], vec!["a"]]);
    assert_eq!(status(&cluster)["numberAvailable"], 2, "nothing is missing");
    cluster.run_pods(usize::MAX).await;
    cluster.settle().await;
    assert_eq!(on(&cluster), [vec!["b"], vec!["a", "b"]]);
    cluster.run_pods(usize::MAX).await;
    cluster.settle().await;
    cluster.run_pods(usize::MAX).await;
    cluster.settle().await;
    assert_eq!(on(&cluster), [vec!["b"], vec!["b"]]);
}

#[tokio::test]
async fn on_delete_waits_for_people() {
    let mut cluster = running(2, daemon_set("a", json!({ "type": "OnDelete" }))).await;
    update(&mut cluster, "b").await;
    assert_eq!(count(&cluster, "a"), 2);
    assert_eq!(status(&cluster)["updatedNumberScheduled"], Value::Null);
    let name = text(&cluster.list(PODS)[0]["metadata"]["name"]);
    cluster.delete(PODS, "default", &name, Some(0), "Background").await;
    cluster.settle().await;
    assert_eq!((count(&cluster, "a"), count(&cluster, "b")), (1, 1));
}

#[tokio::test]
async fn history_is_kept_within_its_limit_and_rolled_back_to() {
    let mut cluster = running(1, daemon_set("a", rolling(json!(1), json!(0)))).await;
    for image in ["b", "a", "c", "d", "e"] {
        update(&mut cluster, image).await;
        for _ in 0..3 {
            cluster.run_pods(usize::MAX).await;
            cluster.settle().await;
        }
        assert_eq!(count(&cluster, image), 1);
        if image == "a" {
            let expected = [(2, "b".to_owned()), (3, "a".to_owned())];
            assert_eq!(revisions(&cluster), expected, "what it was becomes the newest");
        }
    }
    let expected = [(4, "c".to_owned()), (5, "d".to_owned()), (6, "e".to_owned())];
    assert_eq!(revisions(&cluster), expected);
}

#[tokio::test]
async fn a_taken_name_gives_another_hash() {
    let mut cluster = running(1, daemon_set("a", rolling(json!(1), json!(0)))).await;
    let mut taken = cluster.list(CONTROLLER_REVISIONS).remove(0);
    cluster.delete(DAEMON_SETS, "default", "ds", None, "Background").await;
    cluster.settle().await;
    cluster.run_pods(0).await;
    cluster.settle().await;
    assert!(cluster.list(CONTROLLER_REVISIONS).is_empty(), "history goes with it");
    let name = text(&taken["metadata"]["name"]);
    taken["metadata"] = json!({ "name": name, "namespace": "default" });
    cluster.put(CONTROLLER_REVISIONS, taken).await;
    cluster.put(DAEMON_SETS, daemon_set("a", rolling(json!(1), json!(0)))).await;
    cluster.settle().await;
    assert_eq!(status(&cluster)["collisionCount"], 1);
    assert_eq!(count(&cluster, "a"), 1);
}

#[tokio::test]
async fn who_fails_is_replaced_ever_later() {
    let mut cluster = running(1, daemon_set("a", rolling(json!(1), json!(0)))).await;
    for wait in [0, 1, 2, 4] {
        let pods = cluster.list(PODS);
        let name = text(&pods[0]["metadata"]["name"]);
        cluster.edit(PODS, "default", &name, |pod| pod["status"]["phase"] = json!("Failed")).await;
        cluster.settle().await;
        if wait > 0 {
            assert!(cluster.get(PODS, "default", &name).is_some(), "{wait} s are not over");
            cluster.advance(wait);
            cluster.settle().await;
        }
        assert!(cluster.get(PODS, "default", &name).is_none(), "after {wait} s");
        assert_eq!(count(&cluster, "a"), 1);
        cluster.run_pods(usize::MAX).await;
        cluster.settle().await;
    }
}

#[tokio::test]
async fn pods_become_available_by_time() {
    let mut object = daemon_set("a", rolling(json!(1), json!(0)));
    object["spec"]["minReadySeconds"] = json!(10);
    let mut cluster = running(1, object).await;
    let now = status(&cluster);
    assert_eq!((&now["numberReady"], &now["numberUnavailable"]), (&json!(1), &json!(1)));
    cluster.advance(10);
    cluster.settle().await;
    assert_eq!(status(&cluster)["numberAvailable"], 1);
}
