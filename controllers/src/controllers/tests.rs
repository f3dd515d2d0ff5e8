//! Stories of the smaller controllers.

use serde_json::{Value, json};

use crate::resources::{
    CONFIG_MAPS, DEPLOYMENTS, EVENTS, NAMESPACES, NODES, PODS, Resource, SECRETS, SERVICE_ACCOUNTS,
};
use crate::testing::{Cluster, deployment, text};

async fn put(cluster: &mut Cluster, resource: Resource, name: &str, more: Value) {
    let mut object = json!({"apiVersion": "v1", "kind": "Any",
        "metadata": {"name": name, "namespace": "default"}});
    merge(&mut object, more);
    cluster.put(resource, object).await;
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn names(cluster: &Cluster, resource: Resource) -> Vec<String> {
    cluster.list(resource).iter().map(|object| text(&object["metadata"]["name"])).collect()
}

fn owned_by(owners: &[(&str, bool)]) -> Value {
    let owner = |(uid, block): &(&str, bool)| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": uid, "blockOwnerDeletion": block});
    json!({"metadata": {"ownerReferences": owners.iter().map(owner).collect::<Vec<_>>()}})
}

#[tokio::test]
async fn a_namespace_has_its_service_account_and_root_ca() {
    let mut cluster = Cluster::new().await;
    cluster.config.root_ca_pem = "PEM".to_owned();
    cluster.settle().await;
    assert_eq!(names(&cluster, SERVICE_ACCOUNTS), ["default"]);
    cluster.delete(SERVICE_ACCOUNTS, "default", "default", None, "Background").await;
    cluster
        .edit(CONFIG_MAPS, "default", "kube-root-ca.crt", |map| map["data"]["ca.crt"] = json!("x"))
        .await;
    cluster.settle().await;
    assert_eq!(names(&cluster, SERVICE_ACCOUNTS), ["default"], "made again");
    let map = cluster.get(CONFIG_MAPS, "default", "kube-root-ca.crt").unwrap();
    assert_eq!(map["data"]["ca.crt"], "PEM", "put right again");
}

#[tokio::test]
async fn a_deleted_namespace_is_emptied_pods_first_and_then_goes() {
    let mut cluster = Cluster::new().await;
    cluster.put(DEPLOYMENTS, deployment(3, "a")).await;
    put(&mut cluster, CONFIG_MAPS, "held", json!({"metadata": {"finalizers": ["example.com/x"]}}))
        .await;
    cluster.settle().await;
    cluster.run_pods(usize::MAX).await;
    cluster.settle().await;
    cluster.delete(NAMESPACES, "", "default", None, "Background").await;
    cluster.settle().await;
    assert_eq!(cluster.list(DEPLOYMENTS).len(), 1, "pods go first");
    let namespace = cluster.get(NAMESPACES, "", "default").unwrap();
    let remaining = &namespace["status"]["conditions"][3];
    assert_eq!(text(&remaining["reason"]), "SomeResourcesRemain");
    assert!(text(&remaining["message"]).contains("pods. has 3 resource instances"), "{remaining}");
    cluster.run_pods(0).await;
    cluster.settle().await;
    assert!(cluster.list(DEPLOYMENTS).is_empty() && cluster.list(PODS).is_empty());
    let namespace = cluster.get(NAMESPACES, "", "default").unwrap();
    let message = text(&namespace["status"]["conditions"][4]["message"]);
    assert_eq!(
        message,
        "Some content in the namespace has finalizers remaining: example.com/x in 1 resource instances"
    );
    cluster
        .edit(CONFIG_MAPS, "default", "held", |map| map["metadata"]["finalizers"] = json!([]))
        .await;
    cluster.settle().await;
    assert!(cluster.get(NAMESPACES, "", "default").is_none());
}

#[tokio::test]
async fn dependents_of_absent_owners_go() {
    let mut cluster = Cluster::new().await;
    put(&mut cluster, CONFIG_MAPS, "owner", json!({"metadata": {"uid": "o"}})).await;
    put(&mut cluster, CONFIG_MAPS, "dangling", owned_by(&[("gone", false)])).await;
    put(&mut cluster, CONFIG_MAPS, "partly", owned_by(&[("gone", false), ("o", false)])).await;
    put(&mut cluster, CONFIG_MAPS, "owned", owned_by(&[("o", false)])).await;
    cluster.settle().await;
    assert_eq!(names(&cluster, CONFIG_MAPS), ["owned", "owner", "partly"]);
    let partly = cluster.get(CONFIG_MAPS, "default", "partly").unwrap();
    assert_eq!(partly["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
    cluster.delete(CONFIG_MAPS, "default", "owner", None, "Background").await;
    cluster.settle().await;
    assert!(names(&cluster, CONFIG_MAPS).is_empty());
}

#[tokio::test]
async fn whether_an_owner_of_an_unknown_kind_is_there_cannot_be_said() {
    let mut cluster = Cluster::new().await;
    let mut owned = owned_by(&[("gone", false)]);
    owned["metadata"]["ownerReferences"][0]["kind"] = json!("Widget");
    owned["metadata"]["ownerReferences"][0]["apiVersion"] = json!("example.com/v1");
    put(&mut cluster, CONFIG_MAPS, "of-a-widget", owned).await;
    put(&mut cluster, CONFIG_MAPS, "dangling", owned_by(&[("gone", false)])).await;
    cluster.settle().await;
    assert_eq!(names(&cluster, CONFIG_MAPS), ["of-a-widget"]);
}

#[tokio::test]
async fn a_circle_of_owners_goes_in_the_foreground() {
    for others in [1, 2, 3] {
        let mut cluster = Cluster::new().await;
        for number in 0..=others {
            let owner = format!("uid-{}", (number + 1) % (others + 1));
            let mut object = owned_by(&[(owner.as_str(), true)]);
            merge(&mut object, json!({"metadata": {"uid": format!("uid-{number}")}}));
            put(&mut cluster, CONFIG_MAPS, &format!("m{number}"), object).await;
        }
        cluster.settle().await;
        assert_eq!(names(&cluster, CONFIG_MAPS).len(), others + 1);
        cluster.delete(CONFIG_MAPS, "default", "m0", None, "Foreground").await;
        cluster.settle().await;
        assert!(names(&cluster, CONFIG_MAPS).is_empty(), "{:?}", cluster.list(CONFIG_MAPS));
    }
    let mut cluster = Cluster::new().await;
    let mut own = owned_by(&[("self", true)]);
    merge(&mut own, json!({"metadata": {"uid": "self"}}));
    put(&mut cluster, CONFIG_MAPS, "own", own).await;
    cluster.delete(CONFIG_MAPS, "default", "own", None, "Foreground").await;
    cluster.settle().await;
    assert!(names(&cluster, CONFIG_MAPS).is_empty(), "nothing waits for itself");
}

#[tokio::test]
async fn in_the_foreground_the_owner_goes_last() {
    let mut cluster = Cluster::new().await;
    put(&mut cluster, CONFIG_MAPS, "owner", json!({"metadata": {"uid": "o"}})).await;
    let mut held = owned_by(&[("o", true)]);
    merge(&mut held, json!({"metadata": {"finalizers": ["example.com/x"]}}));
    put(&mut cluster, CONFIG_MAPS, "held", held).await;
    put(&mut cluster, CONFIG_MAPS, "free", owned_by(&[("o", true)])).await;
    cluster.delete(CONFIG_MAPS, "default", "owner", None, "Foreground").await;
    cluster.settle().await;
    assert_eq!(names(&cluster, CONFIG_MAPS), ["held", "owner"]);
    cluster
        .edit(CONFIG_MAPS, "default", "held", |map| map["metadata"]["finalizers"] = json!([]))
        .await;
    cluster.settle().await;
    assert!(names(&cluster, CONFIG_MAPS).is_empty());
}

#[tokio::test]
async fn orphans_forget_their_owner_and_stay() {
    let mut cluster = Cluster::new().await;
    put(&mut cluster, CONFIG_MAPS, "owner", json!({"metadata": {"uid": "o"}})).await;
    put(&mut cluster, CONFIG_MAPS, "owned", owned_by(&[("o", true)])).await;
    cluster.delete(CONFIG_MAPS, "default", "owner", None, "Orphan").await;
    cluster.settle().await;
    assert_eq!(names(&cluster, CONFIG_MAPS), ["owned"]);
    let owned = cluster.get(CONFIG_MAPS, "default", "owned").unwrap();
    assert!(owned["metadata"]["ownerReferences"].is_null());
}

#[tokio::test]
async fn owners_do_not_reach_across_namespaces() {
    let mut cluster = Cluster::new().await;
    put(&mut cluster, CONFIG_MAPS, "owner", json!({"metadata": {"uid": "o"}})).await;
    cluster
        .put(
            NAMESPACES,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}),
        )
        .await;
    let mut away = owned_by(&[("o", false)]);
    merge(&mut away, json!({"metadata": {"namespace": "other"}}));
    put(&mut cluster, CONFIG_MAPS, "away", away).await;
    let mut scoped = owned_by(&[("o", false)]);
    merge(&mut scoped, json!({"metadata": {"namespace": null}}));
    put(&mut cluster, NODES, "scoped", scoped).await;
    cluster.settle().await;
    assert_eq!(names(&cluster, CONFIG_MAPS), ["owner"]);
    assert_eq!(names(&cluster, NODES), ["scoped"], "whether its owner is there cannot be said");
}

#[tokio::test]
async fn nodes_get_cidrs_that_do_not_overlap() {
    let mut cluster = Cluster::new().await;
    cluster.config.cluster_cidr = vec!["10.42.0.0/22".parse().unwrap()];
    for number in 0..5 {
        cluster.put_node(&format!("n{number}"), json!({})).await;
    }
    cluster.settle_key(crate::plan::Controller::NodeIpam, &NODES.key("", "")).await;
    let cidrs = |cluster: &Cluster| -> Vec<String> {
        let mut cidrs: Vec<String> =
            cluster.list(NODES).iter().map(|node| text(&node["spec"]["podCIDR"])).collect();
        cidrs.sort();
        cidrs
    };
    assert_eq!(
        cidrs(&cluster),
        ["", "10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24", "10.42.3.0/24"]
    );
    let with =
        cluster.list(NODES).into_iter().find(|node| node["spec"]["podCIDR"] == "10.42.2.0/24");
    let name = text(&with.unwrap()["metadata"]["name"]);
    cluster.delete(NODES, "", &name, None, "Background").await;
    cluster.settle().await;
    assert_eq!(cidrs(&cluster), ["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24", "10.42.3.0/24"]);
}

#[tokio::test]
async fn pods_of_a_node_that_is_gone_are_removed_after_a_while() {
    let mut cluster = Cluster::new().await;
    cluster.put_node("n1", json!({})).await;
    put(&mut cluster, PODS, "p", json!({"spec": {"nodeName": "n1"}})).await;
    cluster.run_pods(usize::MAX).await;
    cluster.settle().await;
    cluster.delete(NODES, "", "n1", None, "Background").await;
    cluster.settle().await;
    cluster.advance(39);
    cluster.settle().await;
    assert_eq!(names(&cluster, PODS), ["p"]);
    cluster.advance(1);
    cluster.settle().await;
    assert!(names(&cluster, PODS).is_empty());
}

#[tokio::test]
async fn ended_pods_are_kept_up_to_the_threshold() {
    let mut cluster = Cluster::new().await;
    cluster.config.terminated_pod_gc_threshold = 2;
    for name in ["a", "b", "c"] {
        put(&mut cluster, PODS, name, json!({"status": {"phase": "Succeeded"}})).await;
        cluster.advance(1);
    }
    cluster.settle().await;
    assert_eq!(names(&cluster, PODS), ["b", "c"]);
}

#[tokio::test]
async fn events_and_tokens_expire() {
    let mut cluster = Cluster::new().await;
    put(&mut cluster, EVENTS, "old", json!({"lastTimestamp": "2026-01-01T00:00:00Z"})).await;
    put(&mut cluster, EVENTS, "lively", json!({"lastTimestamp": "2026-01-01T00:00:00Z"})).await;
    let mut token = json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "default"}});
    // "2026-01-01T00:30:00Z"
    token["data"] = json!({"expiration": "MjAyNi0wMS0wMVQwMDozMDowMFo="});
    token["metadata"]["namespace"] = json!("kube-system");
    cluster
        .put(
            NAMESPACES,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}),
        )
        .await;
    cluster.put(SECRETS, token).await;
    cluster.settle().await;
    assert_eq!((cluster.list(EVENTS).len(), cluster.list(SECRETS).len()), (2, 1));
    cluster.advance(1_800);
    cluster
        .edit(EVENTS, "default", "lively", |event| {
            event["lastTimestamp"] = json!("2026-01-01T00:30:00Z")
        })
        .await;
    cluster.settle().await;
    assert!(cluster.list(SECRETS).is_empty(), "the token has expired");
    cluster.advance(1_800);
    cluster.settle().await;
    assert_eq!(names(&cluster, EVENTS), ["lively"]);
}

/// Signs nothing, but says what it was asked.
#[derive(Debug)]
struct Signer;

impl crate::AccountTokens for Signer {
    fn token(&self, account: (&str, &str, &str), secret: &str) -> Option<String> {
        Some(format!("{account:?} {secret}"))
    }
}

#[tokio::test]
async fn secrets_of_accounts_hold_their_token_and_go_with_them() {
    let mut cluster = Cluster::new().await;
    cluster.config.root_ca_pem = "PEM".to_owned();
    cluster.config.account_tokens = Some(std::sync::Arc::new(Signer));
    let secret = |account: &str| {
        json!({"type": "kubernetes.io/service-account-token",
            "metadata": {"annotations": {"kubernetes.io/service-account.name": account}}})
    };
    put(&mut cluster, SECRETS, "early", secret("robot")).await;
    put(&mut cluster, SECRETS, "nobodys", secret("nobody")).await;
    put(&mut cluster, SECRETS, "plain", json!({"type": "Opaque", "data": {"a": "Yg=="}})).await;
    cluster.settle().await;
    put(&mut cluster, SERVICE_ACCOUNTS, "robot", json!({"metadata": {"uid": "u"}})).await;
    cluster.settle().await;
    let early = cluster.get(SECRETS, "default", "early").unwrap();
    assert!(early["data"]["token"].is_string(), "it is filled when the account comes: {early}");
    cluster.advance(10);
    cluster.settle().await;
    assert_eq!(names(&cluster, SECRETS), ["early", "plain"], "nobody never came");
    let early = cluster.get(SECRETS, "default", "early").unwrap();
    let held = |key: &str| {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::STANDARD;
        String::from_utf8(engine.decode(text(&early["data"][key])).unwrap()).unwrap()
    };
    assert_eq!(held("token"), r#"("default", "robot", "u") early"#);
    assert_eq!((held("ca.crt"), held("namespace")), ("PEM".into(), "default".into()));
    assert_eq!(early["metadata"]["annotations"]["kubernetes.io/service-account.uid"], "u");
    cluster.delete(SERVICE_ACCOUNTS, "default", "robot", None, "Background").await;
    cluster.settle().await;
    assert_eq!(names(&cluster, SECRETS), ["plain"]);
}
