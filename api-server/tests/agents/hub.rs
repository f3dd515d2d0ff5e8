//! Stories of the control stream.

use quorate_proto::agent::from_agent::Message as Up;
use quorate_proto::agent::to_agent::Message as Down;
use quorate_proto::agent::{EventRecord, NodeStatus, PodGone, PodStatus, StatusAck, TokenRequest};
use serde_json::{Value, json};

use crate::fake::{Agent, hello, message_of};
use crate::world::{Master, eventually};

async fn ack(agent: &mut Agent) -> StatusAck {
    loop {
        if let Down::Ack(ack) = agent.next().await.expect("the stream goes on") {
            return ack;
        }
    }
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn pod_status(id: u64, pod: &Value, phase: &str) -> Up {
    Up::PodStatus(PodStatus {
        id,
        namespace: "default".to_owned(),
        name: pod["metadata"]["name"].as_str().unwrap().to_owned(),
        uid: uid(pod),
        status: json!({"phase": phase}).to_string().into(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_registers_and_keeps_what_others_said_of_it() {
    let master = Master::start().await;
    let mut agent = Agent::connect(&master.world, "n1").await.unwrap();
    let Some(Down::Welcome(welcome)) = agent.next().await else { panic!("no welcome") };
    assert_eq!((welcome.cluster_id.as_str(), welcome.full_sync), ("cluster", true));
    assert_eq!(welcome.cluster_dns, ["10.43.0.10"]);
    assert!(agent.changes().await.0.contains(&"+n1".to_owned()));
    let (code, node) = master.world.get("/api/v1/nodes/n1").await;
    assert_eq!(code, 200);
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    assert_eq!(node["status"]["capacity"]["pods"], "110");
    assert!(master.hub.holds("n1"));
    assert_eq!(master.hub.liveness().master_of("n1").as_deref(), Some("m1"));
    // A label of an administrator and the agent's newest status.
    master
        .world
        .call("PATCH", "/api/v1/nodes/n1", json!({"metadata": {"labels": {"a": "b"}}}))
        .await;
    let status = json!({"capacity": {"cpu": "4", "memory": "1Gi", "pods": "20"}}).to_string();
    agent.say(Up::NodeStatus(NodeStatus { status: status.into() })).await;
    eventually("the node's status is written", async || {
        let (_, node) = master.world.get("/api/v1/nodes/n1").await;
        node["status"]["capacity"]["pods"] == "20" && node["metadata"]["labels"]["a"] == "b"
    })
    .await;
    let second = Agent::connect(&master.world, "n1").await.unwrap();
    let (_, node) = master.world.get("/api/v1/nodes/n1").await;
    assert_eq!(node["metadata"]["labels"]["a"], "b");
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_lives_and_dies_by_its_nodes_word() {
    let master = Master::start().await;
    let mut agent = Agent::connect(&master.world, "n1").await.unwrap();
    agent.changes().await;
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"k": "v"},
    });
    master.world.create("/api/v1/namespaces/default/configmaps", config).await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "n1", "containers": [{
            "name": "c", "image": "i", "envFrom": [{"configMapRef": {"name": "settings"}}],
        }]},
    });
    let pod = master.world.create("/api/v1/namespaces/default/pods", pod).await;
    master.pod("elsewhere", "n2").await;
    let settings = agent.until("settings").await;
    assert!(!settings.deleted);
    let told = agent.until("p").await;
    assert_eq!(told.uid, uid(&pod));
    let object: Value = serde_json::from_slice(&told.object).unwrap();
    assert_eq!(object["metadata"]["resourceVersion"], told.revision.to_string());

    agent.say(pod_status(7, &pod, "Running")).await;
    assert_eq!(ack(&mut agent).await, StatusAck { id: 7, error: String::new(), gone: false });
    assert_eq!(master.get_pod("p").await.1["status"]["phase"], "Running");

    let gone = |id| {
        let (namespace, name) = ("default".to_owned(), "p".to_owned());
        Up::PodGone(PodGone { id, namespace, name, uid: uid(&pod) })
    };
    agent.say(gone(8)).await;
    let refused = ack(&mut agent).await;
    assert_eq!(refused.error, "pod default/p is not being deleted");
    let (code, _) =
        master.world.call("DELETE", "/api/v1/namespaces/default/pods/p", Value::Null).await;
    assert_eq!(code, 200);
    assert_eq!(master.get_pod("p").await.0, 200, "it waits for its node");
    agent.say(gone(9)).await;
    // The answer and the change come in any order.
    let (mut answered, mut deleted) = (false, false);
    while !(answered && deleted) {
        match agent.next().await.unwrap() {
            Down::Ack(ack) => {
                assert_eq!(ack, StatusAck { id: 9, error: String::new(), gone: false });
                answered = true;
            }
            Down::Change(change) if change.deleted && change.name == "p" => {
                assert_eq!(change.uid, uid(&pod));
                deleted = true;
            }
            _ => {}
        }
    }
    assert_eq!(master.get_pod("p").await.0, 404);
    agent.say(pod_status(10, &pod, "Failed")).await;
    assert_eq!(ack(&mut agent).await, StatusAck { id: 10, error: String::new(), gone: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_speaks_for_its_own_pods_only() {
    let master = Master::start().await;
    let mut agent = Agent::connect(&master.world, "n1").await.unwrap();
    let other = master.pod("other", "n2").await;
    agent.say(pod_status(1, &other, "Failed")).await;
    let refused = ack(&mut agent).await;
    assert_eq!(refused.error, "pod default/other is not bound to node n1");
    assert!(!refused.gone);
    assert_ne!(master.get_pod("other").await.1["status"]["phase"], "Failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_one_pod_are_written_in_their_order() {
    let master = Master::start().await;
    let mut agent = Agent::connect(&master.world, "n1").await.unwrap();
    let pod = master.pod("p", "n1").await;
    for (id, phase) in [(1, "Pending"), (2, "Running"), (3, "Succeeded")] {
        agent.say(pod_status(id, &pod, phase)).await;
    }
    let mut ids = vec![];
    for _ in 0..3 {
        let ack = ack(&mut agent).await;
        assert_eq!(ack.error, "");
        ids.push(ack.id);
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(master.get_pod("p").await.1["status"]["phase"], "Succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_stream_gets_only_what_it_missed() {
    let master = Master::start().await;
    let mut agent = Agent::connect(&master.world, "n1").await.unwrap();
    agent.changes().await;
    master.pod("old", "n1").await;
    agent.until("old").await;
    let (_, revision) = agent.changes().await;
    drop(agent);
    eventually("the node is gone", async || !master.hub.holds("n1")).await;
    master.pod("new", "n1").await;
    let hello = hello("n1", revision);
    let mut agent = Agent::connect_as(&master.world, "system:node:n1", hello).await.unwrap();
    let Some(Down::Welcome(welcome)) = agent.next().await else { panic!("no welcome") };
    assert!(!welcome.full_sync);
    let (changes, _) = agent.changes().await;
    assert!(
        changes.contains(&"+new".to_owned()) && !changes.contains(&"+old".to_owned()),
        "{changes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_stream_of_a_node_wins() {
    let master = Master::start().await;
    let mut first = Agent::connect(&master.world, "n1").await.unwrap();
    first.changes().await;
    let mut second = Agent::connect(&master.world, "n1").await.unwrap();
    while first.next().await.is_some() {}
    second.changes().await;
    master.pod("p", "n1").await;
    second.until("p").await;
    assert!(master.hub.holds("n1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn others_than_the_node_are_refused() {
    let master = Master::start().await;
    for user in ["system:node:n2", "admin"] {
        let error = Agent::connect_as(&master.world, user, hello("n1", 0)).await.err().unwrap();
        assert_eq!(error.code(), tonic::Code::PermissionDenied, "{user}: {error}");
    }
    let mut bad = hello("n1", 0);
    bad.node = json!({"metadata": {"name": "n2"}}).to_string().into();
    let mut agent = Agent::connect_as(&master.world, "system:node:n1", bad).await.unwrap();
    assert!(agent.next().await.is_none(), "no welcome for another node's object");
    assert_eq!(master.world.get("/api/v1/nodes/n2").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_for_the_nodes_own_pods() {
    let master = Master::start().await;
    let mut agent = Agent::connect(&master.world, "n1").await.unwrap();
    let mine = master.pod("mine", "n1").await;
    let other = master.pod("other", "n2").await;
    let ask = |id: u64, pod: &Value, account: &str, uid: &str| {
        Up::TokenRequest(TokenRequest {
            id,
            namespace: "default".to_owned(),
            service_account: account.to_owned(),
            audiences: Vec::new(),
            expiration_seconds: 3607,
            pod_name: pod["metadata"]["name"].as_str().unwrap().to_owned(),
            pod_uid: uid.to_owned(),
        })
    };
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x"}});
    master.world.create("/api/v1/namespaces/default/serviceaccounts", account).await;
    #[rustfmt::skip]
    let cases = [
        (ask(1, &mine, "default", &uid(&mine)), ""),
        (ask(2, &other, "default", &uid(&other)), "pod scheduled on a different node"),
        (ask(3, &mine, "default", "another uid"), "pods \"mine\" not found"),
        (ask(4, &mine, "x", &uid(&mine)), "different serviceaccount name"),
    ];
    for (request, want) in cases {
        agent.say(request).await;
        let reply = loop {
            if let Down::TokenReply(reply) = agent.next().await.unwrap() {
                break reply;
            }
        };
        if want.is_empty() {
            assert_eq!(reply.token.split('.').count(), 3);
            assert!(reply.expiration.ends_with('Z'), "{}", reply.expiration);
        } else {
            let message = message_of(&reply.error);
            assert!(message.contains(want) && reply.token.is_empty(), "{message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_written_as_their_agent_names_and_counts_them() {
    let master = Master::start().await;
    let agent = Agent::connect(&master.world, "n1").await.unwrap();
    let pod = master.pod("p", "n1").await;
    let event = |name: &str, count: u32, message: &str| {
        let event = json!({
            "metadata": {"name": name}, "count": count,
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": "default",
                "uid": uid(&pod),
            },
            "reason": "Pulled", "message": message, "type": "Normal",
        });
        Up::Event(EventRecord { event: event.to_string().into() })
    };
    let said = async || {
        let (_, list) = master.world.get("/api/v1/namespaces/default/events").await;
        let text =
            |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let line = |event: &Value| {
            let name = text(&event["metadata"], "name");
            format!("{name} {} {}", event["count"], text(event, "message"))
        };
        list["items"].as_array().unwrap().iter().map(line).collect::<Vec<_>>()
    };
    agent.say(event("p.1", 1, "a")).await;
    eventually("one", async || said().await == ["p.1 1 a"]).await;
    agent.say(event("p.1", 2, "a")).await;
    agent.say(event("p.2", 1, "b")).await;
    // One of another object's name gets a name of its own.
    agent.say(event("q.3", 1, "c")).await;
    eventually("two, and others", async || {
        let said = said().await;
        let has = |line: &str| said.iter().any(|said| said == line);
        let own = said.iter().any(|said| said.starts_with("p.") && said.ends_with(" 1 c"));
        said.len() == 3 && has("p.1 2 a") && has("p.2 1 b") && own
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connected_nodes_have_leases() {
    let master = Master::start().await;
    let _agent = Agent::connect(&master.world, "n1").await.unwrap();
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";
    eventually("the node's lease", async || {
        let (code, lease) = master.world.get(path).await;
        code == 200
            && lease["spec"]["holderIdentity"] == "n1"
            && lease["metadata"]["ownerReferences"][0]["kind"] == "Node"
            && lease["spec"]["renewTime"].is_string()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_hear_of_new_masters_and_of_the_end() {
    let master = Master::start().await;
    let mut agent = Agent::connect(&master.world, "n1").await.unwrap();
    agent.changes().await;
    master.urls.send(vec!["https://one".to_owned(), "https://two".to_owned()]).unwrap();
    loop {
        if let Down::Masters(masters) = agent.next().await.unwrap() {
            assert_eq!(masters.urls.len(), 2);
            break;
        }
    }
    master.hub.stop();
    while agent.next().await.is_some() {}
    tokio::time::timeout(std::time::Duration::from_secs(10), master.hub.stopped())
        .await
        .expect("nothing is left running");
    assert!(Agent::connect(&master.world, "n1").await.is_err());
}
