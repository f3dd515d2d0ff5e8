//! Budgets of a small cluster: what is counted, what cannot be, and what evictions leave.

use serde_json::{Value, json};

use super::*;
use crate::plan::Controller;
use crate::resources::{DEPLOYMENTS, POD_DISRUPTION_BUDGETS, PODS};
use crate::testing::{Cluster, deployment};

async fn budget(cluster: &mut Cluster, spec: Value) {
    let mut spec = spec;
    if spec["selector"].is_null() {
        spec["selector"] = json!({"matchLabels": {"app": "web"}});
    }
    let object = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": "default"}, "spec": spec});
    cluster.put(POD_DISRUPTION_BUDGETS, object).await;
}

fn status(cluster: &Cluster) -> Value {
    cluster.get(POD_DISRUPTION_BUDGETS, "default", "b").unwrap()["status"].clone()
}

fn counts(cluster: &Cluster) -> (i64, i64, i64, i64) {
    let status = status(cluster);
    let of = |name: &str| status[name].as_i64().unwrap();
    (of("expectedPods"), of("desiredHealthy"), of("currentHealthy"), of("disruptionsAllowed"))
}

#[tokio::test]
async fn a_budget_counts_what_a_deployment_wants_and_has() {
    for (spec, expected) in [
        (json!({"maxUnavailable": 1}), (4, 3, 4, 1)),
        (json!({"maxUnavailable": "30%"}), (4, 2, 4, 2)),
        (json!({"maxUnavailable": 9}), (4, 0, 4, 4)),
        (json!({"minAvailable": "51%"}), (4, 3, 4, 1)),
        (json!({"minAvailable": 4}), (4, 4, 4, 0)),
        (json!({"minAvailable": 1, "selector": {}}), (4, 1, 4, 3)),
    ] {
        let mut cluster = Cluster::new().await;
        cluster.put(DEPLOYMENTS, deployment(4, "a")).await;
        budget(&mut cluster, spec.clone()).await;
        cluster.settle().await;
        assert_eq!(counts(&cluster).3, 0, "none is ready");
        cluster.run_pods(usize::MAX).await;
        cluster.settle().await;
        assert_eq!(counts(&cluster), expected, "{spec}");
        let condition = &status(&cluster)["conditions"][0];
        let (value, reason) =
            if expected.3 > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
        assert_eq!((&condition["status"], &condition["reason"]), (&json!(value), &json!(reason)));
        assert_eq!(condition["observedGeneration"], 1);
    }
}

#[tokio::test]
async fn who_does_not_scale_cannot_be_counted() {
    let mut cluster = Cluster::new().await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p",
        "namespace": "default", "labels": {"app": "web"}, "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true}]}});
    cluster.put(PODS, pod).await;
    budget(&mut cluster, json!({"maxUnavailable": 1})).await;
    cluster.follow();
    let key = POD_DISRUPTION_BUDGETS.key("default", "b");
    cluster.settle_key(Controller::Disruption, &key).await;
    let status = status(&cluster);
    assert_eq!(status["disruptionsAllowed"], 0);
    assert_eq!(status["conditions"][0]["reason"], "SyncFailed");
    let message = "jobs.batch does not implement the scale subresource";
    assert_eq!(status["conditions"][0]["message"], message);
}

#[tokio::test]
async fn a_granted_eviction_counts_until_the_pod_is_gone_or_two_minutes_are_over() {
    let mut cluster = Cluster::new().await;
    cluster.put(DEPLOYMENTS, deployment(3, "a")).await;
    budget(&mut cluster, json!({"minAvailable": 1})).await;
    cluster.settle().await;
    cluster.run_pods(usize::MAX).await;
    cluster.settle().await;
    assert_eq!(counts(&cluster), (3, 1, 3, 2));
    let name = crate::testing::text(&cluster.list(PODS)[0]["metadata"]["name"]);
    cluster
        .edit(POD_DISRUPTION_BUDGETS, "default", "b", |budget| {
            budget["status"]["disruptedPods"] = json!({name: "2026-01-01T00:00:00Z"});
            budget["status"]["disruptionsAllowed"] = json!(1);
        })
        .await;
    cluster.settle().await;
    assert_eq!(counts(&cluster), (3, 1, 2, 1), "it is as good as gone");
    cluster.advance(121);
    cluster.follow();
    let key = POD_DISRUPTION_BUDGETS.key("default", "b");
    cluster.settle_key(Controller::Disruption, &key).await;
    assert_eq!(counts(&cluster), (3, 1, 3, 2), "it stayed");
    assert!(status(&cluster)["disruptedPods"].is_null());
}

#[test]
fn shares_are_rounded_up() {
    let cases = [(json!(3), 10, Ok(3)), (json!("50%"), 3, Ok(2)), (json!("0%"), 5, Ok(0))];
    for (value, of, expected) in cases {
        assert_eq!(share(&value, of), expected, "{value} of {of}");
    }
    assert!(share(&json!("x"), 1).is_err());
}
