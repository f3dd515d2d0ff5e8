//! Stories of one stateful set.

use serde_json::{Value, json};

use crate::resources::{CLAIMS, CONTROLLER_REVISIONS, PODS, STATEFUL_SETS};
use crate::testing::{Cluster, text};

fn template(image: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": "db" } },
        "spec": { "containers": [{ "name": "c", "image": image }] },
    })
}

fn stateful_set(spec: &Value) -> Value {
    let mut all = json!({
        "replicas": 3,
        "serviceName": "db",
        "podManagementPolicy": "OrderedReady",
        "selector": { "matchLabels": { "app": "db" } },
        "updateStrategy": { "type": "RollingUpdate",
            "rollingUpdate": { "partition": 0, "maxUnavailable": 1 } },
        "revisionHistoryLimit": 1,
        "template": template("a"),
    });
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": { "name": "db", "namespace": "default" },
        "spec": all,
        "status": { "replicas": 0, "availableReplicas": 0 },
    })
}

async fn begun(spec: Value) -> Cluster {
    let mut cluster = Cluster::new().await;
    cluster.put_node("n1", json!({})).await;
    cluster.put(STATEFUL_SETS, stateful_set(&spec)).await;
    cluster.settle().await;
    cluster
}

/// Lets pods run until nothing changes any more.
async fn settled(cluster: &mut Cluster) {
    for _ in 0..50 {
        let ran = cluster.run_pods(usize::MAX).await;
        cluster.settle().await;
        if ran == 0 {
            return;
        }
    }
    panic!("it does not settle");
}

async fn running(spec: Value) -> Cluster {
    let mut cluster = begun(spec).await;
    settled(&mut cluster).await;
    cluster
}

fn status(cluster: &Cluster) -> Value {
    cluster.get(STATEFUL_SETS, "default", "db").unwrap()["status"].clone()
}

/// Names and images of the pods, those that go in brackets.
fn pods(cluster: &Cluster) -> Vec<String> {
    let shown = |pod: &Value| {
        let name = text(&pod["metadata"]["name"]);
        let image = text(&pod["spec"]["containers"][0]["image"]);
        match pod["metadata"]["deletionTimestamp"].is_null() {
            true => format!("{name} {image}"),
            false => format!("({name} {image})"),
        }
    };
    cluster.list(PODS).iter().map(shown).collect()
}

async fn edit(cluster: &mut Cluster, change: impl FnOnce(&mut Value)) {
    cluster.edit(STATEFUL_SETS, "default", "db", |set| change(&mut set["spec"])).await;
    cluster.settle().await;
}

#[tokio::test]
async fn pods_come_one_after_the_other_and_go_backwards() {
    let mut cluster = begun(json!({})).await;
    for expected in 1..=3 {
        assert_eq!(cluster.list(PODS).len(), expected);
        cluster.run_pods(1).await;
        cluster.settle().await;
    }
    assert_eq!(pods(&cluster), ["db-0 a", "db-1 a", "db-2 a"]);
    let pod = cluster.get(PODS, "default", "db-1").unwrap();
    assert_eq!(
        (text(&pod["spec"]["hostname"]), text(&pod["spec"]["subdomain"])),
        ("db-1".into(), "db".into())
    );
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "db-1");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "1");
    let now = status(&cluster);
    assert_eq!(labels["controller-revision-hash"], now["updateRevision"]);
    let counts =
        ["replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"];
    assert!(counts.iter().all(|count| now[count] == 3), "{now}");
    assert_eq!(
        (&now["collisionCount"], &now["currentRevision"]),
        (&json!(0), &now["updateRevision"])
    );
    assert_eq!(cluster.said[0], "create Pod db-0 in StatefulSet db successful");
    edit(&mut cluster, |spec| spec["replicas"] = json!(1)).await;
    assert_eq!(pods(&cluster), ["db-0 a", "db-1 a", "(db-2 a)"]);
    cluster.run_pods(0).await;
    cluster.settle().await;
    assert_eq!(pods(&cluster), ["db-0 a", "(db-1 a)"]);
    cluster.run_pods(0).await;
    cluster.settle().await;
    assert_eq!(pods(&cluster), ["db-0 a"]);
    assert_eq!(cluster.said.last().unwrap(), "delete Pod db-1 in StatefulSet db successful");
}

#[tokio::test]
async fn parallel_ones_come_and_go_at_once() {
    let mut cluster =
        begun(json!({ "podManagementPolicy": "Parallel", "ordinals": { "start": 5 } })).await;
    assert_eq!(pods(&cluster), ["db-5 a", "db-6 a", "db-7 a"]);
    settled(&mut cluster).await;
    edit(&mut cluster, |spec| spec["replicas"] = json!(1)).await;
    assert_eq!(pods(&cluster), ["db-5 a", "(db-6 a)", "(db-7 a)"]);
}

#[tokio::test]
async fn an_update_goes_from_the_last_to_the_first() {
    let mut cluster = running(json!({})).await;
    let before = text(&status(&cluster)["currentRevision"]);
    edit(&mut cluster, |spec| spec["template"] = template("b")).await;
    for last in ["db-2", "db-1", "db-0"] {
        let gone = format!("({last} a)");
        assert!(pods(&cluster).contains(&gone), "{:?}", pods(&cluster));
        assert_eq!(text(&status(&cluster)["currentRevision"]), before);
        cluster.run_pods(0).await;
        cluster.settle().await;
        assert!(pods(&cluster).contains(&format!("{last} b")), "{:?}", pods(&cluster));
        cluster.run_pods(1).await;
        cluster.settle().await;
    }
    let now = status(&cluster);
    assert_ne!(text(&now["currentRevision"]), before);
    assert_eq!(now["currentRevision"], now["updateRevision"]);
    assert_eq!(pods(&cluster), ["db-0 b", "db-1 b", "db-2 b"]);
}

#[tokio::test]
async fn the_partition_holds_the_others_back() {
    let mut cluster = running(json!({})).await;
    edit(&mut cluster, |spec| {
        spec["template"] = template("b");
        spec["updateStrategy"]["rollingUpdate"]["partition"] = json!(2);
    })
    .await;
    settled(&mut cluster).await;
    assert_eq!(pods(&cluster), ["db-0 a", "db-1 a", "db-2 b"]);
    let now = status(&cluster);
    assert_eq!((&now["currentReplicas"], &now["updatedReplicas"]), (&json!(2), &json!(1)));
    assert_ne!(now["currentRevision"], now["updateRevision"]);
    cluster.delete(PODS, "default", "db-0", Some(0), "Background").await;
    cluster.settle().await;
    assert_eq!(pods(&cluster)[0], "db-0 a", "it comes back as it was");
    edit(&mut cluster, |spec| spec["updateStrategy"]["rollingUpdate"]["partition"] = json!(0))
        .await;
    settled(&mut cluster).await;
    assert_eq!(pods(&cluster), ["db-0 b", "db-1 b", "db-2 b"]);
}

#[tokio::test]
async fn several_may_be_missing_and_on_delete_waits() {
    let strategy = json!({ "type": "RollingUpdate",
        "rollingUpdate": { "partition": 0, "maxUnavailable": "70%" } });
    let mut cluster = running(json!({ "updateStrategy": strategy })).await;
    edit(&mut cluster, |spec| spec["template"] = template("b")).await;
    assert_eq!(pods(&cluster), ["db-0 a", "(db-1 a)", "(db-2 a)"]);
    settled(&mut cluster).await;
    edit(&mut cluster, |spec| {
        spec["updateStrategy"] = json!({ "type": "OnDelete" });
        spec["template"] = template("c");
    })
    .await;
    settled(&mut cluster).await;
    assert_eq!(pods(&cluster), ["db-0 b", "db-1 b", "db-2 b"]);
    cluster.delete(PODS, "default", "db-1", Some(0), "Background").await;
    cluster.settle().await;
    assert_eq!(pods(&cluster), ["db-0 b", "db-1 c", "db-2 b"]);
}

#[tokio::test]
async fn history_is_kept_within_its_limit_and_rolled_back_to() {
    let mut cluster = running(json!({ "replicas": 1 })).await;
    let numbers = |cluster: &Cluster| {
        let all = cluster.list(CONTROLLER_REVISIONS);
        let shown = all.iter().map(|revision| {
            let image = &revision["data"]["spec"]["template"]["spec"]["containers"][0]["image"];
            (revision["revision"].as_i64().unwrap(), text(image))
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort();
        shown
    };
    for image in ["b", "a", "c"] {
        edit(&mut cluster, |spec| spec["template"] = template(image)).await;
        settled(&mut cluster).await;
        assert_eq!(pods(&cluster), [format!("db-0 {image}")]);
    }
    assert_eq!(numbers(&cluster), [(3, "a".to_owned()), (4, "c".to_owned())]);
    cluster.delete(STATEFUL_SETS, "default", "db", None, "Background").await;
    cluster.settle().await;
    assert!(cluster.list(CONTROLLER_REVISIONS).is_empty());
}

#[tokio::test]
async fn who_ends_comes_again_and_who_is_not_well_holds_up() {
    let mut cluster = running(json!({ "replicas": 2 })).await;
    cluster.edit(PODS, "default", "db-0", |pod| pod["status"]["phase"] = json!("Failed")).await;
    cluster.settle().await;
    assert_eq!(pods(&cluster), ["db-0 a", "db-1 a"], "it is new");
    edit(&mut cluster, |spec| spec["replicas"] = json!(3)).await;
    assert_eq!(cluster.list(PODS).len(), 2, "db-0 is not ready");
    settled(&mut cluster).await;
    assert_eq!(cluster.list(PODS).len(), 3);
}

#[tokio::test]
async fn pods_become_available_by_time() {
    let mut cluster = begun(json!({ "replicas": 2, "minReadySeconds": 10 })).await;
    cluster.run_pods(1).await;
    cluster.settle().await;
    assert_eq!(cluster.list(PODS).len(), 1);
    let now = status(&cluster);
    assert_eq!((&now["readyReplicas"], &now["availableReplicas"]), (&json!(1), &json!(0)));
    cluster.advance(10);
    cluster.settle().await;
    assert_eq!(cluster.list(PODS).len(), 2);
}

fn with_claims(retention: Value) -> Value {
    json!({
        "replicas": 2,
        "podManagementPolicy": "Parallel",
        "persistentVolumeClaimRetentionPolicy": retention,
        "volumeClaimTemplates": [{
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": "data", "labels": { "x": "y" } },
            "spec": { "accessModes": ["ReadWriteOnce"] },
            "status": { "phase": "Pending" },
        }],
    })
}

fn claims(cluster: &Cluster) -> Vec<String> {
    let shown = |claim: &Value| {
        let owner = claim["metadata"]["ownerReferences"][0]["kind"].as_str().unwrap_or("nobody");
        format!("{} {owner}", text(&claim["metadata"]["name"]))
    };
    cluster.list(CLAIMS).iter().map(shown).collect()
}

#[tokio::test]
async fn each_pod_has_its_claims_and_they_are_kept() {
    let retain = json!({ "whenDeleted": "Retain", "whenScaled": "Retain" });
    let mut cluster = running(with_claims(retain)).await;
    assert_eq!(claims(&cluster), ["data-db-0 nobody", "data-db-1 nobody"]);
    let claim = cluster.get(CLAIMS, "default", "data-db-0").unwrap();
    assert_eq!(claim["metadata"]["labels"], json!({ "app": "db", "x": "y" }));
    assert_eq!(claim["status"], Value::Null);
    let pod = cluster.get(PODS, "default", "db-1").unwrap();
    let volume = json!({ "name": "data", "persistentVolumeClaim": { "claimName": "data-db-1" } });
    assert_eq!(pod["spec"]["volumes"], json!([volume]));
    edit(&mut cluster, |spec| spec["replicas"] = json!(0)).await;
    settled(&mut cluster).await;
    cluster.delete(STATEFUL_SETS, "default", "db", None, "Background").await;
    cluster.settle().await;
    assert_eq!(cluster.list(CLAIMS).len(), 2);
}

#[tokio::test]
async fn claims_go_where_the_policy_says_so() {
    let delete = json!({ "whenDeleted": "Delete", "whenScaled": "Delete" });
    let mut cluster = running(with_claims(delete)).await;
    assert_eq!(claims(&cluster), ["data-db-0 StatefulSet", "data-db-1 StatefulSet"]);
    edit(&mut cluster, |spec| spec["replicas"] = json!(1)).await;
    assert_eq!(claims(&cluster), ["data-db-0 StatefulSet", "data-db-1 Pod"]);
    settled(&mut cluster).await;
    assert_eq!(claims(&cluster), ["data-db-0 StatefulSet"], "it went with its pod");
    cluster.delete(STATEFUL_SETS, "default", "db", None, "Background").await;
    cluster.settle().await;
    assert_eq!(claims(&cluster), ["data-db-0 StatefulSet"], "its pod still uses it");
    settled(&mut cluster).await;
    assert!(cluster.list(CLAIMS).is_empty());
}
