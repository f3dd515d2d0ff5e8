//! Nodes, pods and stores for tests, from short JSON.
#![allow(dead_code)] // each test binary uses its part

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quorate_scheduler::node::NodeFacts;
use quorate_scheduler::pod::PodInfo;
use quorate_scheduler::{ClusterView, Decision, Profile, Seed};
use quorate_state_machine::object::{Header, Image};
use quorate_state_machine::{Key, ObjectKey, Op, Outcome, Revision, View};
use quorate_store::{Admit, Refused, Store, Write};
use serde_json::{Value, json};

/// Puts `over` into `base`, object by object.
pub(crate) fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// A node of 4 cores, 8 GiB and 10 pods, with what `over` says.
pub(crate) fn node_json(name: &str, over: Value) -> Value {
    let mut node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": format!("uid-{name}")},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
    });
    merge(&mut node, over);
    node
}

/// A pending pod with one container that asks for nothing, with what `over` says.
pub(crate) fn pod_json(name: &str, over: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "schedulerName": "default-scheduler",
            "containers": [{"name": "c", "image": "busybox"}],
        },
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    });
    merge(&mut pod, over);
    pod
}

/// What a container asks for, as the `spec` of a pod.
pub(crate) fn asks(cpu: &str, memory: &str) -> Value {
    json!({"spec": {"containers": [
        {"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}
    ]}})
}

pub(crate) fn facts(node: Value) -> NodeFacts {
    NodeFacts::new(&serde_json::from_value(node).expect("a node"))
}

pub(crate) fn info(pod: Value) -> Arc<PodInfo> {
    let name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
    let key = ObjectKey::new("default", &name);
    let pod = serde_json::from_value(pod).expect("a pod");
    Arc::new(PodInfo::new(&pod, key, Revision(1)))
}

pub(crate) fn view(nodes: Vec<Value>, pods: Vec<Value>) -> ClusterView {
    let mut view = ClusterView::default();
    for node in nodes {
        view.set_node(facts(node));
    }
    view.arrange();
    for pod in pods {
        view.set_pod(info(pod));
    }
    view
}

/// The node's name, or the message.
pub(crate) fn verdict(view: &ClusterView, pod: &PodInfo) -> String {
    match Profile::default().decide(view, pod, Seed(7)) {
        Decision::Bind { node, .. } => format!("-> {node}"),
        Decision::Unschedulable(why) => why.message,
    }
}

// === stores ===

/// The object as the store keeps it.
pub(crate) fn image(object: &Value) -> Image {
    let mut object = object.clone();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("resourceVersion");
    }
    let text = object.to_string();
    let at = text.find("\"metadata\":{").expect("metadata") + "\"metadata\":{".len();
    let header = Header {
        uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
        ..Header::default()
    };
    Image {
        header,
        bytes: Bytes::from(text.into_bytes()),
        revision_offset: u32::try_from(at).expect("small"),
    }
}

pub(crate) fn key_of(object: &Value) -> Key {
    let meta = &object["metadata"];
    let resource = match object["kind"].as_str().expect("a kind") {
        "Node" => "nodes",
        "Pod" => "pods",
        "Event" => "events",
        other => panic!("no resource for {other}"),
    };
    let namespace = meta["namespace"].as_str().unwrap_or_default();
    Key::new("", resource, namespace, meta["name"].as_str().expect("a name"))
}

pub(crate) fn create_op(object: &Value) -> Op {
    Op::Create { key: key_of(object), image: image(object), namespace: None }
}

pub(crate) async fn create(store: &Store, objects: &[Value]) {
    let ops = objects.iter().map(create_op).collect();
    for outcome in store.write(ops).await.expect("written") {
        assert!(outcome.done().is_some(), "{outcome:?}");
    }
}

/// Changes an object as a client would, until it is not overtaken.
pub(crate) async fn edit(store: &Store, kind: &str, name: &str, change: impl Fn(&mut Value)) {
    let key = key_of(&json!({
        "kind": kind,
        "metadata": {"name": name, "namespace": if kind == "Node" { "" } else { "default" }},
    }));
    loop {
        let stored = store.view().get(&key).expect("it is there").clone();
        let mut object: Value = serde_json::from_slice(&stored.to_json()).expect("JSON");
        change(&mut object);
        let expect = stored.revision;
        let op = Op::Update { key: key.clone(), expect, image: image(&object) };
        if matches!(store.write(vec![op]).await.expect("written")[0], Outcome::Done(_)) {
            return;
        }
    }
}

pub(crate) async fn delete(store: &Store, kind: &str, name: &str) {
    let namespace = if kind == "Node" { "" } else { "default" };
    let key = key_of(&json!({"kind": kind, "metadata": {"name": name, "namespace": namespace}}));
    store.write(vec![Op::Delete { key, expect: None, uid: None }]).await.expect("written");
}

pub(crate) fn get(view: &View, kind: &str, name: &str) -> Option<Value> {
    let namespace = if kind == "Node" { "" } else { "default" };
    let key = key_of(&json!({"kind": kind, "metadata": {"name": name, "namespace": namespace}}));
    view.get(&key).map(|stored| serde_json::from_slice(&stored.to_json()).expect("JSON"))
}

/// Waits until the store is as wanted.
pub(crate) async fn until(store: &Store, what: &str, is: impl Fn(&View) -> bool) {
    let mut published = store.published();
    let wait = async {
        while !is(&store.view()) {
            published.changed().await.expect("the store lives");
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait)
        .await
        .unwrap_or_else(|_| panic!("never came: {what}"));
}

/// Admits everything as it is.
#[derive(Debug)]
pub(crate) struct AdmitAll;

#[async_trait]
impl Admit for AdmitAll {
    async fn admit(
        &self,
        _view: &Arc<View>,
        _user: &str,
        write: Write,
    ) -> Result<Option<Op>, Refused> {
        Ok(Some(match write {
            Write::Create { object, .. } => create_op(&object),
            Write::Update { stored, object, .. } => Op::Update {
                key: stored.key.clone(),
                expect: stored.revision,
                image: image(&object),
            },
            Write::Delete { stored, .. } => {
                Op::Delete { key: stored.key.clone(), expect: None, uid: None }
            }
        }))
    }
}
