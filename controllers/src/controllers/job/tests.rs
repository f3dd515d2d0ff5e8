//! Stories of one Job.

use serde_json::{Value, json};

use crate::resources::{JOBS, PODS};
use crate::testing::{Cluster, text};

/// As the API has made it: with the selector that it generates.
fn job(spec: &Value) -> Value {
    let mut all = json!({
        "selector": { "matchLabels": { "batch.kubernetes.io/controller-uid": "u" } },
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "suspend": false,
        "template": {
            "metadata": { "labels": { "batch.kubernetes.io/controller-uid": "u", "job-name": "j" } },
            "spec": { "restartPolicy": "Never", "containers": [{ "name": "c" }] },
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "j", "namespace": "default" },
        "spec": all,
    })
}

async fn begun(spec: Value) -> Cluster {
    let mut cluster = Cluster::new().await;
    cluster.put_node("n1", json!({})).await;
    cluster.put(JOBS, job(&spec)).await;
    cluster.settle().await;
    cluster
}

fn status(cluster: &Cluster) -> Value {
    cluster.get(JOBS, "default", "j").unwrap()["status"].clone()
}

fn conditions(cluster: &Cluster) -> Vec<String> {
    let shown = |condition: &Value| {
        format!(
            "{}={} {}",
            text(&condition["type"]),
            text(&condition["status"]),
            text(&condition["reason"])
        )
    };
    status(cluster)["conditions"].as_array().into_iter().flatten().map(shown).collect()
}

fn is_active(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn active(cluster: &Cluster) -> Vec<Value> {
    cluster.list(PODS).into_iter().filter(is_active).collect()
}

/// So many active pods end like that.
async fn end(cluster: &mut Cluster, phase: &str, count: usize) {
    let now = cluster.clock.now().to_string();
    for pod in active(cluster).into_iter().take(count) {
        cluster
            .edit(PODS, "default", &text(&pod["metadata"]["name"]), |pod| {
                pod["spec"]["nodeName"] = json!("n1");
                pod["status"] = json!({ "phase": phase, "containerStatuses": [
                    { "restartCount": 0, "state": { "terminated": { "finishedAt": now } } },
                ]});
            })
            .await;
    }
    cluster.settle().await;
}

#[tokio::test]
async fn it_is_complete_when_enough_have_succeeded() {
    let mut cluster = begun(json!({ "completions": 3, "parallelism": 2 })).await;
    assert_eq!(active(&cluster).len(), 2);
    let pod = active(&cluster).remove(0);
    assert_eq!(pod["metadata"]["finalizers"], json!(["batch.kubernetes.io/job-tracking"]));
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "Job");
    assert_eq!(status(&cluster)["active"], 2);
    assert_eq!(status(&cluster)["startTime"], "2026-01-01T00:00:00Z");
    end(&mut cluster, "Succeeded", 2).await;
    assert_eq!((active(&cluster).len(), &status(&cluster)["succeeded"]), (1, &json!(2)));
    end(&mut cluster, "Succeeded", 1).await;
    let met = ["SuccessCriteriaMet=True CompletionsReached", "Complete=True CompletionsReached"];
    assert_eq!(conditions(&cluster), met);
    let status = status(&cluster);
    assert_eq!((&status["succeeded"], &status["active"]), (&json!(3), &Value::Null));
    assert_eq!(status["completionTime"], "2026-01-01T00:00:00Z");
    assert_eq!(status["uncountedTerminatedPods"], json!({}));
    let pods = cluster.list(PODS);
    assert_eq!(pods.len(), 3, "they stay for their logs");
    assert!(
        pods.iter().all(|pod| pod["metadata"]["finalizers"] == json!([])),
        "and are held by nobody"
    );
}

#[tokio::test]
async fn a_queue_of_work_ends_with_its_workers() {
    let mut cluster = begun(json!({ "parallelism": 3 })).await;
    assert_eq!(active(&cluster).len(), 3);
    end(&mut cluster, "Succeeded", 1).await;
    assert_eq!(active(&cluster).len(), 2, "nobody new comes, nobody is stopped");
    assert!(conditions(&cluster).is_empty());
    end(&mut cluster, "Succeeded", 2).await;
    assert_eq!(conditions(&cluster).len(), 2);
    assert_eq!(status(&cluster)["succeeded"], 3);
}

#[tokio::test]
async fn failures_are_tried_again_ever_later_and_not_for_ever() {
    let mut cluster = begun(json!({ "completions": 1, "backoffLimit": 2 })).await;
    for (failures, wait) in [(1, 10), (2, 20)] {
        end(&mut cluster, "Failed", 1).await;
        assert_eq!(status(&cluster)["failed"], failures);
        cluster.advance(wait - 1);
        cluster.settle().await;
        assert_eq!(active(&cluster).len(), 0, "{wait} s are not over");
        cluster.advance(1);
        cluster.settle().await;
        assert_eq!(active(&cluster).len(), 1);
    }
    end(&mut cluster, "Failed", 1).await;
    let failed = ["FailureTarget=True BackoffLimitExceeded", "Failed=True BackoffLimitExceeded"];
    assert_eq!(conditions(&cluster), failed);
    assert_eq!(status(&cluster)["failed"], 3);
    assert_eq!(status(&cluster)["completionTime"], Value::Null);
    cluster.advance(3600);
    cluster.settle().await;
    assert_eq!(cluster.list(PODS).len(), 3);
}

#[tokio::test]
async fn restarts_on_the_node_count_as_tries() {
    let template = json!({
        "metadata": { "labels": { "batch.kubernetes.io/controller-uid": "u" } },
        "spec": { "restartPolicy": "OnFailure", "containers": [{ "name": "c" }] },
    });
    let mut cluster =
        begun(json!({ "completions": 1, "backoffLimit": 3, "template": template })).await;
    let name = text(&active(&cluster)[0]["metadata"]["name"]);
    for (restarts, fails) in [(2, false), (3, true)] {
        cluster
            .edit(PODS, "default", &name, |pod| {
                pod["status"] = json!({ "phase": "Running",
                    "containerStatuses": [{ "restartCount": restarts }] });
            })
            .await;
        cluster.settle().await;
        assert_eq!(!conditions(&cluster).is_empty(), fails, "{restarts} restarts");
    }
    assert_eq!(active(&cluster).len(), 0, "it is stopped");
}

#[tokio::test]
async fn its_time_is_limited() {
    let mut cluster = begun(json!({ "completions": 1, "activeDeadlineSeconds": 60 })).await;
    cluster.run_pods(1).await;
    cluster.settle().await;
    assert_eq!(status(&cluster)["ready"], 1);
    cluster.advance(59);
    cluster.settle().await;
    assert_eq!(active(&cluster).len(), 1);
    cluster.advance(1);
    cluster.settle().await;
    assert_eq!(
        conditions(&cluster),
        ["FailureTarget=True DeadlineExceeded"],
        "its pod is still there"
    );
    cluster.run_pods(0).await;
    cluster.settle().await;
    assert_eq!(conditions(&cluster)[1], "Failed=True DeadlineExceeded");
    assert_eq!((cluster.list(PODS).len(), &status(&cluster)["failed"]), (0, &json!(1)));
}

#[tokio::test]
async fn it_is_suspended_and_goes_on() {
    let mut cluster = begun(json!({ "completions": 4, "parallelism": 2, "suspend": true })).await;
    assert_eq!(active(&cluster).len(), 0);
    assert_eq!(conditions(&cluster), ["Suspended=True JobSuspended"]);
    assert_eq!(status(&cluster)["startTime"], Value::Null);
    cluster.advance(100);
    cluster.edit(JOBS, "default", "j", |job| job["spec"]["suspend"] = json!(false)).await;
    cluster.settle().await;
    assert_eq!(conditions(&cluster), ["Suspended=False JobResumed"]);
    assert_eq!(status(&cluster)["startTime"], "2026-01-01T00:01:40Z");
    assert_eq!(active(&cluster).len(), 2);
    cluster.run_pods(2).await;
    cluster.edit(JOBS, "default", "j", |job| job["spec"]["suspend"] = json!(true)).await;
    cluster.settle().await;
    cluster.run_pods(0).await;
    cluster.settle().await;
    assert_eq!(cluster.list(PODS).len(), 0);
    assert_eq!(status(&cluster)["failed"], Value::Null, "whom it stopped has not failed");
}

#[tokio::test]
async fn what_is_too_much_goes_and_has_not_failed() {
    let mut cluster = begun(json!({ "completions": 10, "parallelism": 5 })).await;
    cluster.run_pods(2).await;
    cluster.edit(JOBS, "default", "j", |job| job["spec"]["parallelism"] = json!(2)).await;
    cluster.settle().await;
    let left = active(&cluster);
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|pod| pod["status"]["phase"] == "Running"), "the best stay");
    assert_eq!(status(&cluster)["failed"], Value::Null);
    assert!(cluster.said.iter().filter(|said| said.starts_with("Deleted pod: j-")).count() == 3);
}

#[tokio::test]
async fn each_index_completes_once() {
    let spec = json!({ "completions": 4, "parallelism": 3, "completionMode": "Indexed" });
    let mut cluster = begun(spec).await;
    let indexes = |cluster: &Cluster| -> Vec<String> {
        let mut all: Vec<String> = active(cluster)
            .iter()
            .map(|pod| {
                text(&pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])
            })
            .collect();
        all.sort();
        all
    };
    assert_eq!(indexes(&cluster), ["0", "1", "2"]);
    let pod = active(&cluster).remove(0);
    let index = indexes(&cluster).remove(0);
    assert_eq!(pod["spec"]["hostname"], format!("j-{index}"));
    let variable = &pod["spec"]["containers"][0]["env"][0];
    assert_eq!(variable["name"], "JOB_COMPLETION_INDEX");
    // One succeeds, one fails: that index comes again, later.
    let name = |cluster: &Cluster, index: &str| {
        let key = "batch.kubernetes.io/job-completion-index";
        let found = active(cluster);
        let found = found.iter().find(|pod| pod["metadata"]["labels"][key] == index).unwrap();
        text(&found["metadata"]["name"])
    };
    for (index, phase) in [("1", "Succeeded"), ("0", "Failed")] {
        let name = name(&cluster, index);
        cluster.edit(PODS, "default", &name, |pod| pod["status"] = json!({ "phase": phase })).await;
    }
    cluster.settle().await;
    assert_eq!(status(&cluster)["completedIndexes"], "1");
    cluster.advance(20);
    cluster.settle().await;
    assert_eq!(indexes(&cluster), ["0", "2", "3"]);
    end(&mut cluster, "Succeeded", 3).await;
    assert_eq!(status(&cluster)["completedIndexes"], "0-3");
    assert_eq!(conditions(&cluster)[1], "Complete=True CompletionsReached");
    assert_eq!(
        (&status(&cluster)["succeeded"], &status(&cluster)["failed"]),
        (&json!(4), &json!(1))
    );
}

#[tokio::test]
async fn it_goes_after_its_time_and_its_pods_are_let_go() {
    let mut cluster = begun(json!({ "completions": 1, "ttlSecondsAfterFinished": 30 })).await;
    end(&mut cluster, "Succeeded", 1).await;
    cluster.advance(29);
    cluster.settle().await;
    assert!(cluster.get(JOBS, "default", "j").is_some());
    cluster.advance(1);
    cluster.settle().await;
    assert!(cluster.get(JOBS, "default", "j").is_none());
    assert!(cluster.list(PODS).is_empty());
}

#[tokio::test]
async fn deleting_it_lets_its_pods_go() {
    for propagation in ["Background", "Foreground", "Orphan"] {
        let mut cluster = begun(json!({ "completions": 2, "parallelism": 2 })).await;
        cluster.run_pods(2).await;
        cluster.settle().await;
        cluster.delete(JOBS, "default", "j", None, propagation).await;
        for _ in 0..3 {
            cluster.settle().await;
            cluster.run_pods(0).await;
        }
        cluster.settle().await;
        assert!(cluster.get(JOBS, "default", "j").is_none(), "{propagation}");
        let left = cluster.list(PODS);
        let orphans = if propagation == "Orphan" { 2 } else { 0 };
        assert_eq!(left.len(), orphans, "{propagation}");
        assert!(left.iter().all(|pod| pod["metadata"]["finalizers"] == json!([])));
    }
}

#[tokio::test]
async fn who_is_managed_elsewhere_is_left_alone() {
    let cluster = begun(json!({ "completions": 1, "managedBy": "example.com/queue" })).await;
    assert_eq!((cluster.list(PODS).len(), status(&cluster)), (0, Value::Null));
}

/// A pod of an index, or any when there is none, ends with this code.
async fn exit(cluster: &mut Cluster, index: Option<i32>, code: i32) {
    const INDEX: &str = "batch.kubernetes.io/job-completion-index";
    let now = cluster.clock.now().to_string();
    let wanted = index.map_or(Value::Null, |index| json!(index.to_string()));
    let mut all = active(cluster).into_iter();
    let pod = all.find(|pod| pod["metadata"]["annotations"][INDEX] == wanted).unwrap();
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    cluster
        .edit(PODS, "default", &text(&pod["metadata"]["name"]), |pod| {
            pod["status"] = json!({ "phase": phase, "containerStatuses": [
                { "name": "c", "restartCount": 0,
                    "state": { "terminated": { "exitCode": code, "finishedAt": now } } },
            ]});
        })
        .await;
    cluster.settle().await;
}

#[tokio::test]
async fn the_failure_policy_decides_what_a_failure_means() {
    let codes = |action: &str, code: i32| json!({ "action": action, "onExitCodes": { "operator": "In", "values": [code] } });
    let disrupted = json!({ "action": "Ignore",
        "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] });
    let rules = json!([codes("Ignore", 3), disrupted, codes("FailJob", 42)]);
    let spec = json!({ "completions": 1, "backoffLimit": 1, "podReplacementPolicy": "Failed",
        "podFailurePolicy": { "rules": rules } });
    let mut cluster = begun(spec).await;
    for _ in 0..3 {
        exit(&mut cluster, None, 3).await;
        assert_eq!(status(&cluster)["failed"], Value::Null, "it is ignored");
        cluster.advance(600);
        cluster.settle().await;
    }
    exit(&mut cluster, None, 1).await;
    assert_eq!(status(&cluster)["failed"], 1, "it counts");
    cluster.advance(600);
    cluster.settle().await;
    let name = text(&active(&cluster)[0]["metadata"]["name"]);
    exit(&mut cluster, None, 42).await;
    let failed = ["FailureTarget=True PodFailurePolicy", "Failed=True PodFailurePolicy"];
    assert_eq!(conditions(&cluster), failed);
    let message = format!(
        "Container c for pod default/{name} failed with exit code 42 matching FailJob rule at index 2"
    );
    assert_eq!(status(&cluster)["conditions"][1]["message"], message);
}

#[tokio::test]
async fn the_success_policy_may_be_content_with_less() {
    for (rule, needed) in [
        (json!({ "succeededIndexes": "0,2" }), vec![2, 0]),
        (json!({ "succeededCount": 1 }), vec![1]),
        (json!({ "succeededIndexes": "1-3", "succeededCount": 2 }), vec![0, 3, 1]),
    ] {
        let spec = json!({ "completions": 4, "parallelism": 4, "completionMode": "Indexed",
            "successPolicy": { "rules": [rule] } });
        let mut cluster = begun(spec).await;
        cluster.run_pods(usize::MAX).await;
        for index in &needed {
            assert!(conditions(&cluster).is_empty(), "{rule}");
            exit(&mut cluster, Some(*index), 0).await;
        }
        assert_eq!(conditions(&cluster)[0], "SuccessCriteriaMet=True SuccessPolicy", "{rule}");
        cluster.run_pods(0).await;
        cluster.settle().await;
        assert_eq!(conditions(&cluster)[1], "Complete=True SuccessPolicy");
        assert_eq!(status(&cluster)["conditions"][1]["message"], "Matched rules at index 0");
        assert_eq!(status(&cluster)["failed"], Value::Null, "the others have not failed");
        let left = cluster.list(PODS).len();
        assert_eq!(left, needed.len(), "{rule}");
    }
}

#[tokio::test]
async fn each_index_has_its_own_limit() {
    let spec = json!({ "completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1 });
    let mut cluster = begun(spec).await;
    exit(&mut cluster, Some(0), 1).await;
    assert_eq!(active(&cluster).len(), 2, "it waits");
    assert_eq!(status(&cluster)["failedIndexes"], "");
    cluster.advance(10);
    cluster.settle().await;
    assert_eq!(active(&cluster).len(), 3);
    assert_eq!(status(&cluster)["failed"], 1);
    exit(&mut cluster, Some(0), 1).await;
    assert_eq!(status(&cluster)["failedIndexes"], "0");
    exit(&mut cluster, Some(1), 0).await;
    cluster.advance(600);
    cluster.settle().await;
    assert_eq!(active(&cluster).len(), 1, "the first index is given up");
    assert!(conditions(&cluster).is_empty());
    exit(&mut cluster, Some(2), 0).await;
    let failed = ["FailureTarget=True FailedIndexes", "Failed=True FailedIndexes"];
    assert_eq!(conditions(&cluster), failed);
    let now = status(&cluster);
    assert_eq!((&now["completedIndexes"], &now["failed"]), (&json!("1,2"), &json!(2)));
    let held = |pod: &Value| pod["metadata"]["finalizers"] != json!([]);
    assert!(!cluster.list(PODS).iter().any(held), "nobody is held any more");
}

#[tokio::test]
async fn too_many_failed_indexes_are_the_end() {
    let rules = json!([{ "action": "FailIndex",
        "onExitCodes": { "containerName": "c", "operator": "NotIn", "values": [1] } }]);
    let spec = json!({ "completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 5, "maxFailedIndexes": 1,
        "podReplacementPolicy": "Failed", "podFailurePolicy": { "rules": rules } });
    let mut cluster = begun(spec).await;
    cluster.run_pods(usize::MAX).await;
    exit(&mut cluster, Some(1), 2).await;
    assert_eq!(status(&cluster)["failedIndexes"], "1");
    assert!(conditions(&cluster).is_empty());
    exit(&mut cluster, Some(2), 2).await;
    assert_eq!(conditions(&cluster).len(), 1, "one is still on its way out");
    for pod in cluster.list(PODS) {
        let name = text(&pod["metadata"]["name"]);
        cluster.edit(PODS, "default", &name, |pod| pod["status"]["phase"] = json!("Failed")).await;
    }
    cluster.settle().await;
    let end = "MaxFailedIndexesExceeded";
    assert_eq!(
        conditions(&cluster),
        [format!("FailureTarget=True {end}"), format!("Failed=True {end}")]
    );
}
