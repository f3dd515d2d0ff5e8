//! Who is next, who waits, who is woken: the queue as a value, time by hand.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_scheduler::Profile;
use quorate_scheduler::queue::{Queue, Sizes};
use quorate_state_machine::ObjectKey;
use serde_json::{Value, json};
use support::{asks, facts, info, merge, node_json, pod_json, view};
use tokio::time::Instant;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn by(plugin: &'static str) -> BTreeSet<&'static str> {
    BTreeSet::from([plugin])
}

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn the_wait_doubles_up_to_ten_seconds() {
    let (profile, mut queue, mut now) = (Profile::default(), Queue::default(), Instant::now());
    queue.put(&profile, info(pod_json("p", json!({}))), now);
    for seconds in [1, 2, 4, 8, 10, 10] {
        assert!(queue.pop(now).is_some());
        queue.again(&key("p"), false, now);
        assert_eq!(queue.next(), Some(after(now, seconds)));
        assert!(queue.pop(after(now, seconds) - Duration::from_millis(1)).is_none());
        now = after(now, seconds);
    }
    // Overtaken by another write: at once.
    assert!(queue.pop(now).is_some());
    queue.again(&key("p"), true, now);
    assert!(queue.pop(now).is_some_and(|attempt| attempt.number == 8));
}

#[tokio::test(start_paused = true)]
async fn a_refused_pod_is_woken_only_by_what_could_help() {
    let (profile, start) = (Profile::default(), Instant::now());
    let mut cluster = view(vec![node_json("n1", json!({})), node_json("n2", json!({}))], vec![]);
    let mut queue = Queue::default();
    queue.put(&profile, info(pod_json("p", asks("6", "1Gi"))), start);
    queue.pop(start).expect("it is active");
    queue.refused(&key("p"), by("NodeResourcesFit"), start);
    let mut change = |over: Value| {
        let mut changes: Vec<_> =
            cluster.set_node(facts(node_json("n1", over))).into_iter().collect();
        cluster.arrange();
        queue.wake(&profile, &cluster, &mut changes, after(start, 60))
    };
    assert_eq!(change(json!({"metadata": {"labels": {"a": "b"}}})), 0, "labels are not cores");
    assert_eq!(change(json!({"status": {"allocatable": {"cpu": "5"}}})), 0, "not enough");
    assert_eq!(change(json!({"status": {"allocatable": {"cpu": "6"}}})), 1, "enough");
    assert!(queue.pop(after(start, 60)).is_some(), "its backoff is over");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_nothing_woke_is_tried_after_five_minutes() {
    let (profile, start) = (Profile::default(), Instant::now());
    let mut queue = Queue::default();
    queue.put(&profile, info(pod_json("p", json!({}))), start);
    queue.pop(start).expect("it is active");
    queue.refused(&key("p"), by("NodePorts"), start);
    assert_eq!(queue.next(), Some(after(start, 300)));
    assert_eq!(queue.flush(after(start, 299)), 0);
    assert_eq!(queue.flush(after(start, 300)), 1);
    assert!(queue.pop(after(start, 300)).is_some());
}

#[tokio::test(start_paused = true)]
async fn newer_versions_of_a_pod() {
    let (profile, now) = (Profile::default(), Instant::now());
    let mut queue = Queue::default();
    let sizes =
        |active, backoff, unschedulable, gated| Sizes { active, backoff, unschedulable, gated };
    let gate = json!({"spec": {"schedulingGates": [{"name": "g"}]}});
    queue.put(&profile, info(pod_json("p", gate)), now);
    assert_eq!((queue.sizes(), queue.pop(now).is_none()), (sizes(0, 0, 0, 1), true));
    // The gate goes.
    queue.put(&profile, info(pod_json("p", json!({}))), now);
    assert_eq!(queue.sizes(), sizes(1, 0, 0, 0));
    queue.pop(now).expect("it is active");
    queue.refused(&key("p"), by("TaintToleration"), now);
    // Our own condition comes back: nothing that decisions depend on.
    let conditions =
        json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]);
    queue.put(&profile, info(pod_json("p", json!({"status": {"conditions": conditions}}))), now);
    assert_eq!(queue.sizes(), sizes(0, 0, 1, 0));
    // It tolerates more now: tried again, but not before its backoff is over.
    let tolerant = pod_json("p", json!({"spec": {"tolerations": [{"operator": "Exists"}]}}));
    queue.put(&profile, info(tolerant), now);
    assert_eq!(queue.sizes(), sizes(0, 1, 0, 0));
    // Another pod of the same name starts anew.
    let mut other = pod_json("p", json!({}));
    merge(&mut other, json!({"metadata": {"uid": "other"}}));
    queue.put(&profile, info(other), now);
    assert_eq!(queue.sizes(), sizes(1, 0, 0, 0));
    assert!(queue.pop(now).is_some_and(|attempt| attempt.number == 1));
    queue.remove(&key("p"));
    assert_eq!((queue.sizes(), queue.next()), (sizes(0, 0, 0, 0), None));
}
