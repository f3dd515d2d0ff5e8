//! Jobs and cron jobs.

use super::*;

fn job(spec: Value, want: &[&str]) {
    check("batch", "Job", json!({"spec": spec}), want);
}

fn cron_job(spec: Value, want: &[&str]) {
    check("batch", "CronJob", json!({"spec": spec}), want);
}

#[test]
fn selectors_are_generated() {
    let job = valid("batch", "Job");
    let labels = json!({"batch.kubernetes.io/controller-uid": "u", "controller-uid": "u",
        "batch.kubernetes.io/job-name": "x", "job-name": "x"});
    assert_eq!(job["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(job["metadata"]["labels"], labels);
    let selector = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}});
    assert_eq!(job["spec"]["selector"], selector);
    assert_eq!((&job["status"], &job["metadata"]["generation"]), (&json!({}), &json!(1)));
    check(
        "batch",
        "Job",
        json!({"spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b", "job-name": "y", "controller-uid": null}}}}}),
        &[
            "spec.template.metadata.labels[controller-uid]: Required value: must be 'u'",
            "spec.template.metadata.labels[job-name]: Invalid value: {\"a\":\"b\",\
             \"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"x\",\
             \"job-name\":\"y\"}: must be 'x'",
            "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\
             \"batch.kubernetes.io/controller-uid\":\"u\"}}: `selector` not auto-generated",
        ],
    );
}

#[test]
fn numbers_of_jobs() {
    job(
        json!({"template": {"spec": {"restartPolicy": "Always"}}}),
        &[
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ],
    );
    job(
        json!({"parallelism": -1, "backoffLimit": -1, "ttlSecondsAfterFinished": -1}),
        &[
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
            "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
            "spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
    job(
        json!({"backoffLimitPerIndex": 1}),
        &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
    );
    job(
        json!({"completionMode": "Odd", "managedBy": "me"}),
        &[
            "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            "spec.completionMode: Unsupported value: \"Odd\": supported values: \"NonIndexed\", \"Indexed\"",
        ],
    );
    job(
        json!({"completionMode": "Indexed", "completions": null, "parallelism": 100_001}),
        &[
            "spec.completions: Required value: when completion mode is Indexed",
            "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion \
         mode is Indexed",
        ],
    );
    job(
        json!({"completionMode": "Indexed", "completions": 2, "maxFailedIndexes": 3}),
        &[
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
            "spec.maxFailedIndexes: Invalid value: 3: must be less than or equal to completions",
        ],
    );
    let name = "a".repeat(62);
    check(
        "batch",
        "Job",
        json!({"metadata": {"name": name},
        "spec": {"completionMode": "Indexed", "completions": 11, "manualSelector": true}}),
        &[&format!(
            "metadata.name: Invalid value: \"{name}\": will not able to create pod with invalid DNS label: {name}-10"
        )],
    );
}

#[test]
fn policies_of_jobs() {
    job(
        json!({"podFailurePolicy": {"rules": [
        {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [3, 0, 3], "containerName": "z"}},
        {"action": "", "onPodConditions": [{"type": "a b", "status": "Maybe"}]},
        {"action": "Count"},
    ]}, "podReplacementPolicy": "TerminatingOrFailed"}),
        &[
            "spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the \
         backoffLimitPerIndex to be set",
            "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"z\": must be one of the \
         container or initContainer names in the pod template",
            "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
            "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 3",
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0,3]: must be ordered",
            "spec.podFailurePolicy.rules[1].action: Required value: valid values: [\"Count\" \"FailIndex\" \
         \"FailJob\" \"Ignore\"]",
            "spec.podFailurePolicy.rules[1].onPodConditions[0].type: Invalid value: \"a b\": name part must consist \
         of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
         (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "spec.podFailurePolicy.rules[1].onPodConditions[0].status: Unsupported value: \"Maybe\": supported \
         values: \"False\", \"True\", \"Unknown\"",
            "spec.podFailurePolicy.rules[2]: Invalid value: specifying one of OnExitCodes and OnPodConditions is \
         required",
            "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"",
        ],
    );
    let success = |rule: Value, want: &[&str]| {
        let policy = json!({"completionMode": "Indexed", "completions": 5, "successPolicy": {"rules": [rule]}});
        job(policy, want);
    };
    success(json!({"succeededIndexes": "0-2,4", "succeededCount": 4}), &[]);
    success(
        json!({"succeededIndexes": "0-2", "succeededCount": 6}),
        &[
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 6: must be less than or equal to 5 (the \
         number of specified completions)",
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 6: must be less than or equal to 3 (the \
         number of indexes in the specified succeededIndexes field)",
        ],
    );
    for (text, why) in [
        ("5", "too large index: \"5\""),
        ("a", "cannot convert string to integer for index: \"a\""),
        ("2-1", "non-increasing order, previous: 2, current: 1"),
        ("3,1", "non-increasing order, previous: 3, current: 1"),
        (
            "1-2-3",
            "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two \
             parts separated by '-'",
        ),
    ] {
        let want = format!(
            "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"{text}\": error parsing \
             succeededIndexes: {why}"
        );
        success(json!({"succeededIndexes": text}), &[&want]);
    }
    success(
        json!({}),
        &[
            "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must \
         be specified",
        ],
    );
}

#[test]
fn changes_of_jobs() {
    let update = |before: Value, patch: Value, want: &[&str]| {
        check_update("batch", "Job", before, patch, want);
    };
    update(json!({}), json!({"spec": {"parallelism": 3, "suspend": true, "backoffLimit": 1}}), &[]);
    update(
        json!({}),
        json!({"spec": {"completions": 3}}),
        &["spec.completions: Invalid value: 3: field is immutable"],
    );
    let indexed = json!({"spec": {"completionMode": "Indexed"}});
    update(indexed.clone(), json!({"spec": {"completions": 3, "parallelism": 3}}), &[]);
    update(
        indexed,
        json!({"spec": {"completions": 3}}),
        &[
            "spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism",
        ],
    );
    let select = json!({"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}});
    update(json!({"spec": {"suspend": true}}), select.clone(), &[]);
    let mut old = valid("batch", "Job");
    old["metadata"]["resourceVersion"] = json!("1");
    let mut new = old.clone();
    json_patch::merge(&mut new, &select);
    let errors = update_errors(&new, &old);
    assert!(errors.starts_with("spec.template: Invalid value: {"), "{errors}");
    assert!(errors.ends_with(": field is immutable"), "{errors}");
}

fn update_errors(new: &Value, old: &Value) -> String {
    show(&super::update("batch", "v1", "Job", new, old))
}

#[test]
fn the_status_of_jobs() {
    let yes = |kind: &str| json!({"type": kind, "status": "True"});
    let check = |before: Value, after: Value, want: &[&str]| {
        let mut old = valid("batch", "Job");
        old["status"] = before;
        let mut new = old.clone();
        new["status"] = after;
        assert_eq!(show(&status_update("batch", "v1", "Job", &new, &old)), want.join("\n"));
    };
    let (start, end) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
    let done = json!({"startTime": start, "completionTime": end, "succeeded": 1,
        "conditions": [yes("SuccessCriteriaMet"), yes("Complete")]});
    check(json!({"startTime": start, "active": 1, "ready": 1}), done.clone(), &[]);
    check(
        json!({}),
        json!({"active": 1, "conditions": [yes("Complete"), yes("Failed")]}),
        &[
            "status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions",
            "status.completionTime: Required value: completionTime is required for Complete jobs",
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
            "status.conditions: Invalid value: cannot set Complete=True condition without the \
         SuccessCriteriaMet=true condition",
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
            "status.startTime: Required value: startTime is required for finished job",
        ],
    );
    check(
        done,
        json!({"startTime": start, "failed": -1, "completedIndexes": "0"}),
        &[
            "status.failed: Invalid value: -1: must be greater than or equal to 0",
            "status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when non-indexed \
         completion mode",
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
            "status.failed: Invalid value: -1: cannot decrease the failed counter",
            "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
            "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
        ],
    );
    check(
        json!({}),
        json!({"ready": 1, "uncountedTerminatedPods": {"succeeded": ["a", ""], "failed": ["a"]}}),
        &[
            "status.uncountedTerminatedPods.succeeded[1]: Invalid value: \"\": must not be empty",
            "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"a\"",
            "status.ready: Invalid value: 1: cannot set more ready pods than active",
        ],
    );
}

#[test]
fn cron_jobs() {
    cron_job(
        json!({"schedule": "", "concurrencyPolicy": "Maybe", "startingDeadlineSeconds": -1}),
        &[
            "spec.schedule: Required value",
            "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
        ],
    );
    cron_job(
        json!({"schedule": "error"}),
        &["spec.schedule: Invalid value: \"error\": expected exactly 5 fields, found 1: [error]"],
    );
    cron_job(
        json!({"schedule": "TZ=UTC * * * * *"}),
        &[
            "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone \
         field instead",
        ],
    );
    for (zone, why) in [
        ("", "timeZone must be nil or non-empty string"),
        ("/Europe", "unknown time zone /Europe"),
        ("Europe/Nowhere", "unknown time zone Europe/Nowhere"),
        (
            "Local",
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        ),
    ] {
        cron_job(
            json!({"timeZone": zone}),
            &[&format!("spec.timeZone: Invalid value: \"{zone}\": {why}")],
        );
    }
    cron_job(json!({"timeZone": "Europe/Prague"}), &[]);
    cron_job(
        json!({"jobTemplate": {"spec": {"selector": {}, "manualSelector": true}}}),
        &[
            "spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated",
            "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
        ],
    );
    let name = "a".repeat(53);
    check(
        "batch",
        "CronJob",
        json!({"metadata": {"name": name}}),
        &[&format!("metadata.name: Invalid value: \"{name}\": must be no more than 52 bytes")],
    );
    check_update(
        "batch",
        "CronJob",
        json!({"spec": {"schedule": "TZ=UTC * * * * *"}}),
        json!({"spec": {"suspend": true}}),
        &[],
    );
}
