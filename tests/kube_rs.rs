//! The `kube` crate, as an operator uses it, on a real master and a real node.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use std::fmt::Debug;
use std::time::Duration;

use common::dev::Dev;
use common::kube::client;
use common::{PATIENCE, cluster::Cluster, step};
use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{
    Api, AttachParams, DeleteParams, EvictParams, ListParams, LogParams, Patch, PatchParams,
    PostParams,
};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What every kind can do: created, read, changed by each kind of patch, watched, deleted.
async fn lives<K>(client: &Client, api: Api<K>, object: Value)
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    let object: K = serde_json::from_value(object).unwrap();
    let name = object.name_any();
    step(&format!("{}/{name}", api.resource_url()));
    let config = || watcher::Config::default().labels("lives=yes");
    let list_watch = tokio::spawn(history(api.clone(), config()));
    let streaming = tokio::spawn(history(api.clone(), config().streaming_lists()));

    let post = PostParams::default();
    let created = api.create(&post, &object).await.unwrap();
    assert!(created.uid().is_some() && created.meta().creation_timestamp.is_some());
    let again = api.create(&post, &object).await.unwrap_err();
    assert!(
        matches!(&again, kube::Error::Api(s) if s.code == 409 && s.is_already_exists()),
        "{again}"
    );
    let merge = Patch::Merge(json!({"metadata": {"annotations": {"merge": "1", "gone": null}}}));
    let params = PatchParams::default();
    api.patch(&name, &params, &merge).await.unwrap();
    let strategic = Patch::Strategic(json!({"metadata": {"finalizers": ["example.com/a"]}}));
    api.patch(&name, &params, &strategic).await.unwrap();
    let strategic = Patch::Strategic(json!({"metadata": {"finalizers": ["example.com/b"]}}));
    let both = api.patch(&name, &params, &strategic).await.unwrap();
    assert_eq!(both.finalizers().len(), 2, "finalizers are merged");
    let operations = json!([
        {"op": "test", "path": "/metadata/annotations/merge", "value": "1"},
        {"op": "add", "path": "/metadata/annotations/json", "value": "2"},
        {"op": "replace", "path": "/metadata/finalizers", "value": []},
    ]);
    // What `Patch::Json` sends.
    let request = http::Request::patch(format!("{}/{name}", api.resource_url()))
        .header("Content-Type", "application/json-patch+json")
        .body(serde_json::to_vec(&operations).unwrap())
        .unwrap();
    let patched: K = client.request(request).await.unwrap();
    assert_eq!(patched.annotations()["json"], "2");
    // Optimistic concurrency: what was read before that cannot be written any more.
    let stale = api.replace(&name, &post, &both).await.unwrap_err();
    assert!(matches!(&stale, kube::Error::Api(s) if s.code == 409 && s.is_conflict()), "{stale}");
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    api.delete(&name, &dry).await.unwrap();
    let kept = api.get(&name).await.unwrap();
    assert_eq!((kept.uid(), &kept.meta().deletion_timestamp), (patched.uid(), &None));
    let listed =
        api.list_metadata(&ListParams::default().labels("lives=yes").limit(1)).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    let uid = patched.uid().unwrap();
    let deleting = DeleteParams::default().grace_period(0);
    api.delete(&name, &deleting).await.unwrap();
    let gone = await_condition(api.clone(), &name, conditions::is_deleted(&uid));
    tokio::time::timeout(PATIENCE, gone).await.expect("it goes").unwrap();
    for history in [list_watch, streaming] {
        let seen = tokio::time::timeout(PATIENCE, history).await.expect("the deletion is seen");
        let seen = seen.unwrap();
        assert_eq!(seen.first().map(String::as_str), Some("init"), "{seen:?}");
        assert_eq!(seen.last().map(String::as_str), Some("delete"), "{seen:?}");
        assert!(seen.len() >= 3, "{seen:?}");
    }
}

/// What a watcher sees until an object is deleted.
async fn history<K>(api: Api<K>, config: watcher::Config) -> Vec<String>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut events = watcher(api, config).boxed();
    let mut seen = Vec::new();
    while let Some(event) = events.try_next().await.unwrap() {
        match event {
            watcher::Event::Init => seen.push("init".to_owned()),
            watcher::Event::InitDone => {}
            watcher::Event::InitApply(_) => seen.push("there".to_owned()),
            watcher::Event::Apply(_) => seen.push("apply".to_owned()),
            watcher::Event::Delete(_) => {
                seen.push("delete".to_owned());
                return seen;
            }
        }
    }
    seen
}

async fn namespaced<K>(client: &Client, name: &str, rest: Value)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    lives::<K>(client, Api::namespaced(client.clone(), "kinds"), object(name, rest)).await;
}

fn object(name: &str, rest: Value) -> Value {
    let mut object = json!({"metadata": {"name": name, "labels": {"lives": "yes"}}});
    let fields = rest.as_object().unwrap().clone();
    object.as_object_mut().unwrap().extend(fields);
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_lives_and_goes() {
    let cluster = Cluster::start(1);
    let client = client(&cluster.kubeconfig(), None).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "kinds"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();

    let c = &client;
    let template = json!({
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    });
    let workload = json!({"spec": {
        "replicas": 0, "selector": {"matchLabels": {"app": "x"}}, "template": template,
    }});
    let rules = json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    let binding = |kind: &str, name: &str| {
        json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "kinds"}],
        })
    };
    namespaced::<ConfigMap>(c, "map", json!({"data": {"a": "b"}})).await;
    namespaced::<Secret>(c, "secret", json!({"stringData": {"a": "b"}})).await;
    namespaced::<Service>(c, "service", json!({"spec": {"ports": [{"port": 80}]}})).await;
    let address = json!({"subsets": [{"addresses": [{"ip": "1.2.3.4"}], "ports": [{"port": 80}]}]});
    namespaced::<Endpoints>(c, "endpoints", address).await;
    namespaced::<ServiceAccount>(c, "account", json!({})).await;
    let involved = json!({"kind": "Pod", "namespace": "kinds", "name": "x"});
    let event = json!({"involvedObject": involved, "reason": "Because", "type": "Normal"});
    namespaced::<Event>(c, "event", event).await;
    // Nothing ever runs it: there is no node.
    namespaced::<Pod>(c, "pod", json!({"spec": template["spec"]})).await;
    namespaced::<Deployment>(c, "deployment", workload.clone()).await;
    namespaced::<ReplicaSet>(c, "replicas", workload).await;
    namespaced::<Lease>(c, "lease", json!({"spec": {"holderIdentity": "me"}})).await;
    let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"]}]});
    namespaced::<EndpointSlice>(c, "slice", slice).await;
    namespaced::<Role>(c, "role", rules.clone()).await;
    namespaced::<RoleBinding>(c, "binding", binding("Role", "role")).await;
    lives::<ClusterRole>(c, Api::all(c.clone()), object("role", rules)).await;
    let bound = object("binding", binding("ClusterRole", "role"));
    lives::<ClusterRoleBinding>(c, Api::all(c.clone()), bound).await;
    lives::<Node>(c, Api::all(c.clone()), object("node", json!({}))).await;
    lives::<Namespace>(c, Api::all(c.clone()), object("another", json!({}))).await;

    step("the namespace goes with all that is in it");
    let maps: Api<ConfigMap> = Api::namespaced(c.clone(), "kinds");
    let map = serde_json::from_value(json!({"metadata": {"name": "left"}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    let uid = namespaces.get("kinds").await.unwrap().uid().unwrap();
    namespaces.delete("kinds", &DeleteParams::default()).await.unwrap();
    let gone = await_condition(namespaces.clone(), "kinds", conditions::is_deleted(&uid));
    tokio::time::timeout(PATIENCE, gone).await.expect("it goes").unwrap();
    assert!(maps.list(&ListParams::default()).await.unwrap().items.is_empty());
}

const SCRIPT: &str = "echo begun; trap 'exit 0' TERM; echo page > /tmp/page; httpd -p 8080 -h /tmp; \
                      while read line; do echo heard $line; done; sleep 3600 & wait";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_pod() {
    let Some(dev) = Dev::start() else { return };
    let client = client(&dev.directory.path().join("kubeconfig"), None).await;
    let pods: Api<Pod> = Api::default_namespaced(client);
    let pod = json!({
        "metadata": {"name": "p", "labels": {"app": "p"}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": [{
                "name": "c", "image": "busybox:test", "stdin": true, "command": ["sh", "-c", SCRIPT],
            }],
        },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let uid = pods.create(&PostParams::default(), &pod).await.unwrap().uid().unwrap();
    let running = await_condition(pods.clone(), "p", conditions::is_pod_running());
    step("the pod runs");
    tokio::time::timeout(PATIENCE, running).await.expect("it runs").unwrap();
    exec(&pods).await;
    attach_and_log(&pods).await;
    forward(&pods).await;

    step("it is evicted");
    let status = pods.evict("p", &EvictParams::default()).await.unwrap();
    assert_eq!(status.code, 201, "{status:?}");
    let gone = await_condition(pods.clone(), "p", conditions::is_deleted(&uid));
    tokio::time::timeout(PATIENCE, gone).await.expect("it goes").unwrap();
}

async fn exec(pods: &Api<Pod>) {
    step("exec");
    let script = "cat; echo err >&2; exit 3";
    let params = AttachParams::default().stdin(true);
    let mut process = pods.exec("p", ["sh", "-c", script], &params).await.unwrap();
    let mut stdin = process.stdin().unwrap();
    stdin.write_all(b"typed").await.unwrap();
    stdin.shutdown().await.unwrap();
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    process.stdout().unwrap().read_to_string(&mut out).await.unwrap();
    process.stderr().unwrap().read_to_string(&mut err).await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("typed", "err\n"));
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"), "{status:?}");
    process.join().await.unwrap();
}

async fn attach_and_log(pods: &Api<Pod>) {
    step("attach and log_stream");
    let follow = LogParams { follow: true, ..LogParams::default() };
    let mut lines = pods.log_stream("p", &follow).await.unwrap().lines();
    let mut next = async || {
        let line = tokio::time::timeout(PATIENCE, lines.try_next()).await;
        line.expect("a line in time").unwrap()
    };
    assert_eq!(next().await.as_deref(), Some("begun"));
    let params = AttachParams::default().stdin(true).stderr(false);
    let mut attached = pods.attach("p", &params).await.unwrap();
    let mut stdin = attached.stdin().unwrap();
    stdin.write_all(b"words\n").await.unwrap();
    let mut out = attached.stdout().unwrap();
    let mut buffer = [0; 12];
    let heard = tokio::time::timeout(PATIENCE, out.read_exact(&mut buffer)).await;
    heard.expect("an answer in time").unwrap();
    assert_eq!(&buffer, b"heard words\n");
    assert_eq!(next().await.as_deref(), Some("heard words"));
    attached.abort();
    let tail = LogParams { tail_lines: Some(1), timestamps: true, ..LogParams::default() };
    let tail = pods.logs("p", &tail).await.unwrap();
    assert!(tail.starts_with("20") && tail.ends_with(" heard words\n"), "{tail:?}");
}

async fn forward(pods: &Api<Pod>) {
    step("portforward");
    let mut forwarder = pods.portforward("p", &[8080]).await.unwrap();
    let mut stream = forwarder.take_stream(8080).unwrap();
    stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").await.unwrap();
    let mut page = String::new();
    let read =
        tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut page)).await;
    read.expect("the page in time").unwrap();
    assert!(page.contains(" 200 OK") && page.ends_with("page\n"), "{page:?}");
    drop(stream);
    forwarder.abort();
}
