//! Valid objects of the kinds beyond the first ones, for the tables of each group.

use super::*;

/// Group and kind, as in the table of kinds.
pub(super) const MORE: &[(&str, &str)] = &[
    ("apps", "ControllerRevision"),
    ("apps", "DaemonSet"),
    ("apps", "StatefulSet"),
    ("batch", "Job"),
    ("batch", "CronJob"),
];

/// What a valid object has beside its metadata.
pub(super) fn valid(_: &str, kind: &str) -> Value {
    let once = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]});
    let workload = json!({"spec": {"selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}});
    match kind {
        "ControllerRevision" => json!({"data": {"a": "b"}, "revision": 1}),
        "DaemonSet" | "StatefulSet" => workload,
        "Job" => json!({"spec": {"template": {"spec": once}}}),
        "CronJob" => json!({"spec": {"schedule": "* * * * *",
            "jobTemplate": {"spec": {"template": {"spec": once}}}}}),
        _ => json!({}),
    }
}
