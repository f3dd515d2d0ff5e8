//! Stories of one cron job.

use serde_json::{Value, json};

use crate::resources::{CRON_JOBS, JOBS, PODS};
use crate::testing::{Cluster, text};

fn cron_job(spec: &Value) -> Value {
    let mut all = json!({
        "schedule": "*/5 * * * *",
        "concurrencyPolicy": "Allow",
        "suspend": false,
        "successfulJobsHistoryLimit": 2,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": {
            "metadata": { "labels": { "app": "report" }, "annotations": { "note": "x" } },
            "spec": {
                "completions": 1, "parallelism": 1, "backoffLimit": 0,
                "selector": { "matchLabels": { "app": "report" } },
                "template": {
                    "metadata": { "labels": { "app": "report" } },
                    "spec": { "restartPolicy": "Never", "containers": [{ "name": "c" }] },
                },
            },
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": { "name": "report", "namespace": "default" },
        "spec": all,
    })
}

/// Made at midnight.
async fn begun(spec: Value) -> Cluster {
    let mut cluster = Cluster::new().await;
    cluster.put_node("n1", json!({})).await;
    cluster.put(CRON_JOBS, cron_job(&spec)).await;
    cluster.settle().await;
    cluster
}

async fn pass(cluster: &mut Cluster, seconds: i64) {
    cluster.advance(seconds);
    cluster.settle().await;
}

/// All pods that run end like that.
async fn end(cluster: &mut Cluster, phase: &str) {
    for pod in cluster.list(PODS) {
        if pod["status"]["phase"].is_null() {
            let name = text(&pod["metadata"]["name"]);
            cluster
                .edit(PODS, "default", &name, |pod| pod["status"] = json!({ "phase": phase }))
                .await;
        }
    }
    cluster.settle().await;
}

fn status(cluster: &Cluster) -> Value {
    cluster.get(CRON_JOBS, "default", "report").unwrap()["status"].clone()
}

/// The minutes after midnight that have a Job.
fn minutes(cluster: &Cluster) -> Vec<i64> {
    let midnight = crate::testing::start().as_second() / 60;
    let minute = |job: &Value| {
        let name = text(&job["metadata"]["name"]);
        name.strip_prefix("report-").unwrap().parse::<i64>().unwrap() - midnight
    };
    cluster.list(JOBS).iter().map(minute).collect()
}

#[tokio::test]
async fn each_time_has_its_job() {
    let mut cluster = begun(json!({})).await;
    pass(&mut cluster, 299).await;
    assert!(minutes(&cluster).is_empty());
    pass(&mut cluster, 1).await;
    assert_eq!(minutes(&cluster), [5]);
    let job = cluster.list(JOBS).remove(0);
    let annotations = json!({ "note": "x",
        "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T00:05:00Z" });
    assert_eq!(job["metadata"]["annotations"], annotations);
    assert_eq!(job["metadata"]["labels"], json!({ "app": "report" }));
    let owner = &job["metadata"]["ownerReferences"][0];
    assert_eq!((text(&owner["kind"]), &owner["controller"]), ("CronJob".into(), &json!(true)));
    let now = status(&cluster);
    assert_eq!(now["active"][0]["uid"], job["metadata"]["uid"]);
    assert_eq!(now["lastScheduleTime"], "2026-01-01T00:05:00Z");
    assert!(cluster.said[0].starts_with("Created job report-"), "{:?}", cluster.said);
    pass(&mut cluster, 30).await;
    end(&mut cluster, "Succeeded").await;
    let now = status(&cluster);
    assert_eq!(now["active"], Value::Null);
    assert_eq!(now["lastSuccessfulTime"], "2026-01-01T00:05:30Z");
    assert_eq!(minutes(&cluster), [5], "once");
}

#[tokio::test]
async fn those_who_have_ended_are_kept_within_limits() {
    let mut cluster = begun(json!({})).await;
    for phase in ["Succeeded", "Failed", "Succeeded", "Failed", "Succeeded"] {
        pass(&mut cluster, 300).await;
        end(&mut cluster, phase).await;
        cluster.run_pods(0).await;
        cluster.settle().await;
    }
    assert_eq!(minutes(&cluster), [15, 20, 25]);
}

#[tokio::test]
async fn policies_decide_about_two_at_once() {
    for (policy, expected) in [("Allow", vec![5, 10]), ("Forbid", vec![5]), ("Replace", vec![10])] {
        let mut cluster = begun(json!({ "concurrencyPolicy": policy })).await;
        pass(&mut cluster, 300).await;
        pass(&mut cluster, 300).await;
        assert_eq!(minutes(&cluster), expected, "{policy}");
        if policy == "Forbid" {
            pass(&mut cluster, 60).await;
            end(&mut cluster, "Succeeded").await;
            assert_eq!(minutes(&cluster), [5, 10], "its turn comes when the first has ended");
        }
    }
}

#[tokio::test]
async fn what_was_missed_comes_once_or_is_too_late() {
    let mut cluster = begun(json!({ "suspend": true })).await;
    pass(&mut cluster, 3_600).await;
    assert!(minutes(&cluster).is_empty(), "it is suspended");
    cluster.edit(CRON_JOBS, "default", "report", |job| job["spec"]["suspend"] = json!(false)).await;
    cluster.settle().await;
    assert_eq!(minutes(&cluster), [60], "the last one only");
    let deadline = json!({ "suspend": true, "startingDeadlineSeconds": 100 });
    let mut cluster = begun(deadline).await;
    pass(&mut cluster, 401).await;
    cluster.edit(CRON_JOBS, "default", "report", |job| job["spec"]["suspend"] = json!(false)).await;
    cluster.settle().await;
    assert!(minutes(&cluster).is_empty(), "that of minute 5 is 101 s late");
    pass(&mut cluster, 199).await;
    assert_eq!(minutes(&cluster), [10]);
}

#[tokio::test]
async fn zones_count() {
    let spec = json!({ "schedule": "30 1 * * *", "timeZone": "Europe/Prague" });
    let mut cluster = begun(spec).await;
    pass(&mut cluster, 1_800).await;
    assert_eq!(minutes(&cluster), [30]);
    let job = cluster.list(JOBS).remove(0);
    assert_eq!(
        job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"],
        "2026-01-01T01:30:00+01:00"
    );
}

#[tokio::test]
async fn what_a_leader_left_half_done_is_not_done_twice() {
    let mut cluster = begun(json!({})).await;
    pass(&mut cluster, 300).await;
    cluster.edit(CRON_JOBS, "default", "report", |job| job["status"] = json!({})).await;
    cluster.settle().await;
    assert_eq!(minutes(&cluster), [5]);
    let now = status(&cluster);
    assert_eq!(now["lastScheduleTime"], "2026-01-01T00:05:00Z");
    assert_eq!(now["active"].as_array().unwrap().len(), 1);
}
