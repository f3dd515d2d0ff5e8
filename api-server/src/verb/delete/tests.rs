//! Deletion plans, as rows: what is there, what is asked, what it comes to.

use super::*;

fn def(plural: &str) -> &'static ResourceDef {
    quorate_api::resource::lookup("", "v1", plural).unwrap()
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p", "generation": 1}, "spec": spec, "status": {"phase": "Running"}})
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn marked(plan: DeletePlan) -> Value {
    match plan {
        DeletePlan::Mark(object) => object,
        DeletePlan::Remove => panic!("removed at once"),
    }
}

#[test]
fn a_pod_on_a_node_gets_its_grace_and_one_without_is_gone() {
    let scheduled = pod(json!({"nodeName": "n", "terminationGracePeriodSeconds": 30}));
    let object = marked(plan(def("pods"), &scheduled, &DeleteOptions::default(), at(0)));
    assert_eq!(object["metadata"]["deletionTimestamp"], "1970-01-01T00:00:30Z");
    assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(object["metadata"]["generation"], 2);
    let waiting = pod(json!({"terminationGracePeriodSeconds": 30}));
    assert_eq!(plan(def("pods"), &waiting, &DeleteOptions::default(), at(0)), DeletePlan::Remove);
}

#[test]
fn grace_is_only_shortened() {
    let scheduled = pod(json!({"nodeName": "n", "terminationGracePeriodSeconds": 30}));
    let first = marked(plan(def("pods"), &scheduled, &DeleteOptions::default(), at(0)));
    let again =
        |seconds| DeleteOptions { grace_period_seconds: Some(seconds), ..Default::default() };
    assert_eq!(plan(def("pods"), &first, &again(60), at(5)), DeletePlan::Mark(first.clone()));
    let shorter = marked(plan(def("pods"), &first, &again(10), at(5)));
    assert_eq!(shorter["metadata"]["deletionTimestamp"], "1970-01-01T00:00:10Z");
    assert_eq!(plan(def("pods"), &first, &again(0), at(5)), DeletePlan::Remove);
}

#[test]
fn jobs_leave_their_pods_when_nothing_is_said() {
    let jobs = quorate_api::resource::lookup("batch", "v1", "jobs").unwrap();
    let job = json!({"metadata": {"name": "j"}});
    let object = marked(plan(jobs, &job, &DeleteOptions::default(), at(0)));
    assert_eq!(object["metadata"]["finalizers"], json!(["orphan"]));
    let background =
        DeleteOptions { propagation: Some("Background".to_owned()), ..Default::default() };
    assert_eq!(plan(jobs, &job, &background, at(0)), DeletePlan::Remove);
    assert_eq!(default_warning(jobs, &background), Vec::<String>::new());
    assert_eq!(default_warning(jobs, &DeleteOptions::default()).len(), 1);
}

#[test]
fn propagation_sets_the_finalizers() {
    let map = json!({"metadata": {"name": "m"}});
    for (policy, finalizer) in [("Orphan", "orphan"), ("Foreground", "foregroundDeletion")] {
        let options = DeleteOptions { propagation: Some(policy.to_owned()), ..Default::default() };
        let object = marked(plan(def("configmaps"), &map, &options, at(0)));
        assert_eq!(object["metadata"]["finalizers"], json!([finalizer]));
        assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 0);
    }
    let held = json!({"metadata": {"name": "m", "finalizers": ["orphan"]}});
    let options =
        DeleteOptions { propagation: Some("Background".to_owned()), ..Default::default() };
    assert_eq!(plan(def("configmaps"), &held, &options, at(0)), DeletePlan::Remove);
}

#[test]
fn a_namespace_waits_for_its_controller() {
    let namespace = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}});
    let object = marked(plan(def("namespaces"), &namespace, &DeleteOptions::default(), at(0)));
    assert_eq!(object["status"]["phase"], "Terminating");
    let mut empty = object;
    empty["spec"]["finalizers"] = json!([]);
    assert_eq!(
        plan(def("namespaces"), &empty, &DeleteOptions::default(), at(1)),
        DeletePlan::Remove
    );
}

#[test]
fn an_evicted_pod_says_so_and_a_deleted_one_does_not() {
    let mut scheduled = pod(json!({"nodeName": "n", "terminationGracePeriodSeconds": 30}));
    scheduled["status"]["conditions"] = json!([
        {"type": "Ready", "status": "True"},
        {"type": "DisruptionTarget", "status": "False", "reason": "Old"},
    ]);
    let options = DeleteOptions { evicted: true, ..Default::default() };
    let evicted = marked(plan(def("pods"), &scheduled, &options, at(5)));
    assert_eq!(
        evicted["status"]["conditions"],
        json!([
            {"type": "Ready", "status": "True"},
            {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting", "lastProbeTime": null,
                "lastTransitionTime": "1970-01-01T00:00:05Z", "observedGeneration": 2},
        ])
    );
    assert_eq!(plan(def("pods"), &evicted, &options, at(9)), DeletePlan::Mark(evicted.clone()));
    let deleted = marked(plan(def("pods"), &scheduled, &DeleteOptions::default(), at(5)));
    assert_eq!(deleted["status"], scheduled["status"]);
}
