//! The running scheduler on a whole store in memory: what clients see of it.

mod support;

use std::sync::Arc;
use std::time::Duration;

use quorate_scheduler::{Config, Ended, Metrics, Parts, Scheduler, Seed};
use quorate_state_machine::{GroupResource, View};
use quorate_store::{Clock, Recorder, Store};
use serde_json::{Value, json};
use support::{AdmitAll, asks, create, delete, edit, get, node_json, pod_json, until};

struct World {
    store: Store,
    scheduler: Scheduler,
    events: tokio::task::JoinHandle<()>,
}

impl World {
    fn start(store: Store) -> Self {
        let (clock, _hand) = Clock::manual("2026-02-03T04:05:06Z".parse().expect("a time"));
        let recorder = Recorder::new(clock.clone());
        let leader = store.lead().expect("it leads");
        let parts = Parts { clock, recorder: recorder.clone(), metrics: Metrics::default() };
        let scheduler = Scheduler::start(leader.clone(), Config::new(Seed(1)), parts);
        let events = tokio::spawn(async move {
            let admit: Arc<AdmitAll> = Arc::new(AdmitAll);
            recorder.run(&leader, &*admit, "system:kube-scheduler").await;
        });
        Self { store, scheduler, events }
    }

    async fn pod(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(&self.store, what, |view| get(view, "Pod", name).is_some_and(|pod| is(&pod))).await;
        get(&self.store.view(), "Pod", name).expect("it is there")
    }

    async fn event(&self, reason: &str, pod: &str) -> String {
        let find = |view: &View| {
            let events = view.resource(&GroupResource::new("", "events"))?.clone();
            events.iter().find_map(|event| {
                let event: Value = serde_json::from_slice(&event.to_json()).ok()?;
                let it = event["reason"] == reason && event["involvedObject"]["name"] == pod;
                it.then(|| event["message"].as_str().unwrap_or_default().to_owned())
            })
        };
        until(&self.store, reason, |view| find(view).is_some()).await;
        find(&self.store.view()).expect("it is there")
    }

    async fn stop(self) {
        assert!(matches!(self.scheduler.stop().await, Ended::Asked));
        self.events.abort();
    }
}

fn bound(pod: &Value) -> bool {
    pod["spec"]["nodeName"].is_string()
}

fn refused(pod: &Value) -> bool {
    pod["status"]["conditions"][0]["reason"] == "Unschedulable"
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_and_says_so() {
    let world = World::start(Store::in_memory());
    create(&world.store, &[node_json("n1", json!({})), pod_json("p", asks("1", "1Gi"))]).await;
    let pod = world.pod("p", "bound", bound).await;
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(
        pod["status"],
        json!({
            "phase": "Pending",
            "qosClass": "BestEffort",
            "conditions": [{
                "type": "PodScheduled", "status": "True", "observedGeneration": 1,
                "lastTransitionTime": "2026-02-03T04:05:06Z",
            }],
        })
    );
    assert_eq!(world.event("Scheduled", "p").await, "Successfully assigned default/p to n1");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_says_why_and_is_placed_when_something_helps() {
    let world = World::start(Store::in_memory());
    create(&world.store, &[node_json("n1", json!({})), pod_json("p", asks("5", "1Gi"))]).await;
    let pod = world.pod("p", "refused", refused).await;
    let message = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are \
                   available: 1 Preemption is not helpful for scheduling.";
    assert_eq!(
        pod["status"]["conditions"],
        json!([{
            "type": "PodScheduled", "status": "False", "observedGeneration": 1,
            "reason": "Unschedulable", "message": message,
            "lastTransitionTime": "2026-02-03T04:05:06Z",
        }])
    );
    assert_eq!(world.event("FailedScheduling", "p").await, message);
    edit(&world.store, "Node", "n1", |node| node["status"]["allocatable"]["cpu"] = json!("5"))
        .await;
    world.pod("p", "bound", bound).await;
    world.stop().await;
}

/// What wakes a pod, each tried on a fresh store: before, the change, after.
#[tokio::test(start_paused = true)]
async fn what_could_help_wakes_a_pod() {
    type Change = fn(&mut Value);
    let pod_over = |over: Value| pod_json("p", over);
    let cases: Vec<(&str, Value, Value, &str, Change)> = vec![
        ("uncordoned", json!({"spec": {"unschedulable": true}}), json!({}), "Node", |node| {
            node["spec"]["unschedulable"] = json!(false);
        }),
        (
            "taint gone",
            json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
            json!({}),
            "Node",
            |node| node["spec"]["taints"] = json!([]),
        ),
        ("labelled", json!({}), json!({"spec": {"nodeSelector": {"a": "b"}}}), "Node", |node| {
            node["metadata"]["labels"] = json!({"a": "b"});
        }),
        (
            "tolerates now",
            json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
            json!({}),
            "Pod",
            |pod| pod["spec"]["tolerations"] = json!([{"operator": "Exists"}]),
        ),
        ("asks for less", json!({}), asks("9", "1Gi"), "Pod", |pod| {
            pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("1");
        }),
    ];
    for (what, node, pod, kind, change) in cases {
        let world = World::start(Store::in_memory());
        create(&world.store, &[node_json("n1", node), pod_over(pod)]).await;
        world.pod("p", what, refused).await;
        let name = if kind == "Node" { "n1" } else { "p" };
        edit(&world.store, kind, name, change).await;
        world.pod("p", what, bound).await;
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn room_made_by_other_pods_is_used() {
    let world = World::start(Store::in_memory());
    create(&world.store, &[node_json("n1", json!({})), pod_json("a", asks("3", "1Gi"))]).await;
    world.pod("a", "a bound", bound).await;
    create(&world.store, &[pod_json("b", asks("3", "1Gi"))]).await;
    world.pod("b", "b refused", refused).await;
    edit(&world.store, "Pod", "a", |pod| pod["status"]["phase"] = json!("Succeeded")).await;
    world.pod("b", "b bound", bound).await;
    create(&world.store, &[pod_json("c", asks("3", "1Gi"))]).await;
    world.pod("c", "c refused", refused).await;
    delete(&world.store, "Pod", "b").await;
    world.pod("c", "c bound", bound).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn changes_that_cannot_help_cost_no_write() {
    let world = World::start(Store::in_memory());
    create(&world.store, &[node_json("n1", json!({})), pod_json("p", asks("5", "1Gi"))]).await;
    world.pod("p", "refused", refused).await;
    world.event("FailedScheduling", "p").await;
    let before = get(&world.store.view(), "Pod", "p").expect("it is there");
    for beat in 0..50 {
        edit(&world.store, "Node", "n1", |node| {
            node["metadata"]["annotations"] = json!({"beat": beat.to_string()});
        })
        .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // The flush after five minutes tries again, finds the same, and writes nothing to the pod.
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(get(&world.store.view(), "Pod", "p"), Some(before));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn gates_hold_a_pod_back_until_they_are_gone() {
    let world = World::start(Store::in_memory());
    let gated = json!({"spec": {"schedulingGates": [{"name": "example.com/wait"}]}});
    create(&world.store, &[node_json("n1", json!({})), pod_json("p", gated)]).await;
    let pod = world
        .pod("p", "gated", |pod| pod["status"]["conditions"][0]["reason"] == "SchedulingGated")
        .await;
    assert_eq!(
        pod["status"]["conditions"][0]["message"],
        "Scheduling is blocked due to non-empty scheduling gates"
    );
    edit(&world.store, "Pod", "p", |pod| pod["spec"]["schedulingGates"] = json!([])).await;
    let pod = world.pod("p", "bound", bound).await;
    assert_eq!(pod["status"]["conditions"].as_array().map(Vec::len), Some(1));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_claims_devices_stays_pending_and_says_why() {
    let world = World::start(Store::in_memory());
    let claims = json!({"spec": {"resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]}});
    create(&world.store, &[node_json("n1", json!({})), pod_json("p", claims)]).await;
    let reason = |pod: &Value| pod["status"]["conditions"][0]["reason"] == "Unschedulable";
    let pod = world.pod("p", "pending", reason).await;
    let message = pod["status"]["conditions"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("cannot allocate all claims"), "{message}");
    assert!(!bound(&pod));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_others_are_left_alone() {
    let world = World::start(Store::in_memory());
    let other = json!({"spec": {"schedulerName": "mine"}});
    let deleting = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    create(
        &world.store,
        &[
            node_json("n1", json!({})),
            pod_json("a", other),
            pod_json("b", deleting),
            pod_json("c", json!({"status": {"phase": "Failed"}})),
            pod_json("z", json!({})),
        ],
    )
    .await;
    world.pod("z", "bound", bound).await;
    for name in ["a", "b", "c"] {
        let pod = get(&world.store.view(), "Pod", name).expect("it is there");
        assert!(!bound(&pod) && pod["status"]["conditions"].is_null(), "{pod}");
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn priority_goes_first_then_age() {
    let store = Store::in_memory();
    let pod = |name: &str, priority: i64, created: &str| {
        let mut pod = pod_json(name, asks("3", "1Gi"));
        support::merge(
            &mut pod,
            json!({"spec": {"priority": priority}, "metadata": {"creationTimestamp": created}}),
        );
        pod
    };
    create(
        &store,
        &[
            node_json("n1", json!({})),
            pod("a-low", 0, "2026-01-01T00:00:00Z"),
            pod("b-young", 5, "2026-01-01T00:00:02Z"),
            pod("c-old", 5, "2026-01-01T00:00:01Z"),
        ],
    )
    .await;
    let world = World::start(store);
    world.pod("a-low", "refused", refused).await;
    let view = world.store.view();
    assert!(bound(&get(&view, "Pod", "c-old").expect("it is there")));
    assert!(!bound(&get(&view, "Pod", "b-young").expect("it is there")));
    world.stop().await;
}

/// Clients write the pods all the time while they are placed: every bind that took effect was decided
/// on the version that it replaced, and each pod is bound exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_bound_once_whatever_else_writes_it() {
    let world = World::start(Store::in_memory());
    let nodes: Vec<Value> = (0..20)
        .map(|i| node_json(&format!("n{i}"), json!({"status": {"allocatable": {"pods": "100"}}})))
        .collect();
    create(&world.store, &nodes).await;
    let pods: Vec<Value> =
        (0..200).map(|i| pod_json(&format!("p{i}"), asks("10m", "1Mi"))).collect();
    create(&world.store, &pods).await;
    let writer = {
        let store = world.store.clone();
        tokio::spawn(async move {
            for round in 0..5 {
                for i in 0..200 {
                    edit(&store, "Pod", &format!("p{i}"), |pod| {
                        pod["metadata"]["annotations"] = json!({"round": round.to_string()});
                    })
                    .await;
                }
            }
        })
    };
    writer.await.expect("the writer ends");
    until(&world.store, "all bound", |view| {
        (0..200).all(|i| get(view, "Pod", &format!("p{i}")).is_some_and(|pod| bound(&pod)))
    })
    .await;
    let view = world.store.view();
    let resource = view.resource(&GroupResource::new("", "pods")).expect("pods");
    let node_of = |bytes: &[u8]| -> Option<String> {
        let pod: Value = serde_json::from_slice(bytes).ok()?;
        pod["spec"]["nodeName"].as_str().map(str::to_owned)
    };
    for change in resource.changes_after(quorate_state_machine::Revision(0)).expect("history") {
        let (Some(before), Some(after)) = (&change.previous, &change.current) else { continue };
        let before = node_of(&before.image.bytes);
        assert!(before.is_none() || before == node_of(&after.image.bytes), "{}", change.key());
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_continues_from_what_is_stored() {
    let store = Store::in_memory();
    let world = World::start(store.clone());
    create(&store, &[node_json("n1", json!({})), pod_json("a", asks("3", "1Gi"))]).await;
    world.pod("a", "bound", bound).await;
    world.stop().await;
    create(&store, &[pod_json("b", asks("3", "1Gi"))]).await;
    let world = World::start(store);
    world.pod("b", "refused, for a is counted", refused).await;
    world.stop().await;
}
