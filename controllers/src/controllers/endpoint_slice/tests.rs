//! Stories of one service.

use serde_json::{Value, json};

use crate::plan::Controller;
use crate::resources::{ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES};
use crate::testing::{Cluster, text};

fn service(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "labels": {"a": "b"}}, "spec": spec})
}

async fn put_pods(cluster: &mut Cluster, count: usize, port: i32) {
    for number in 0..count {
        cluster
            .put(
                PODS,
                json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("p{port}-{number:03}"), "namespace": "default",
                    "labels": {"app": "web"}},
                "spec": {"nodeName": "n1", "containers": [
                    {"name": "c", "ports": [{"name": "http", "containerPort": port}]}]}}),
            )
            .await;
    }
    cluster.run_pods(usize::MAX).await;
}

fn sizes(cluster: &Cluster) -> Vec<usize> {
    let size = |slice: &Value| slice["endpoints"].as_array().map_or(0, Vec::len);
    let mut sizes: Vec<usize> = cluster.list(ENDPOINT_SLICES).iter().map(size).collect();
    sizes.sort_unstable();
    sizes
}

#[tokio::test]
async fn slices_hold_a_hundred_and_change_alone() {
    let mut cluster = Cluster::new().await;
    cluster.put_node("n1", json!({"topology.kubernetes.io/zone": "z1"})).await;
    cluster
        .put(
            SERVICES,
            service(json!({"clusterIP": "10.43.0.9", "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]})),
        )
        .await;
    cluster.settle().await;
    assert_eq!(sizes(&cluster), [0], "an empty slice says that it was looked at");
    put_pods(&mut cluster, 250, 8080).await;
    cluster.settle().await;
    assert_eq!(sizes(&cluster).iter().sum::<usize>(), 250);
    assert!(sizes(&cluster).iter().all(|size| *size <= 100));
    let slice = cluster
        .list(ENDPOINT_SLICES)
        .into_iter()
        .max_by_key(|slice| slice["endpoints"].as_array().unwrap().len())
        .unwrap();
    assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    let labels = &slice["metadata"]["labels"];
    assert_eq!(
        (text(&labels["kubernetes.io/service-name"]), text(&labels["a"])),
        ("web".into(), "b".into())
    );
    let endpoint = &slice["endpoints"][0];
    assert_eq!((text(&endpoint["zone"]), text(&endpoint["nodeName"])), ("z1".into(), "n1".into()));
    assert_eq!(
        endpoint["conditions"],
        json!({"ready": true, "serving": true, "terminating": false})
    );

    cluster.delete(PODS, "default", "p8080-123", None, "Background").await;
    cluster.follow();
    let key = SERVICES.key("default", "web");
    assert_eq!(cluster.plan(Controller::EndpointSlice, &key).steps.len(), 1, "one slice changes");
    cluster.settle().await;
    let terminating: Vec<Value> = cluster
        .list(ENDPOINT_SLICES)
        .iter()
        .flat_map(|slice| slice["endpoints"].as_array().unwrap().clone())
        .filter(|endpoint| endpoint["conditions"]["terminating"] == true)
        .collect();
    assert_eq!(terminating.len(), 1);
    assert_eq!(
        terminating[0]["conditions"],
        json!({"ready": false, "serving": true, "terminating": true})
    );
}

#[tokio::test]
async fn pods_with_other_ports_are_in_other_slices() {
    let mut cluster = Cluster::new().await;
    cluster
        .put(
            SERVICES,
            service(json!({"selector": {"app": "web"}, "clusterIP": "None",
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}]})),
        )
        .await;
    put_pods(&mut cluster, 2, 8080).await;
    put_pods(&mut cluster, 3, 9090).await;
    cluster.settle().await;
    assert_eq!(sizes(&cluster), [2, 3]);
    let labels = cluster.list(ENDPOINT_SLICES)[0]["metadata"]["labels"].clone();
    assert_eq!(labels["service.kubernetes.io/headless"], "");
    let endpoints = cluster.get(ENDPOINTS, "default", "web").unwrap();
    let ports: Vec<i64> = endpoints["subsets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|subset| subset["ports"][0]["port"].as_i64().unwrap())
        .collect();
    assert_eq!(ports, [8080, 9090]);
    cluster.delete(SERVICES, "default", "web", None, "Background").await;
    cluster.settle().await;
    assert!(cluster.list(ENDPOINT_SLICES).is_empty() && cluster.list(ENDPOINTS).is_empty());
}

#[tokio::test]
async fn pods_that_are_not_ready_are_listed_as_such() {
    for (publish, ready, addresses, not_ready) in [(false, false, 0, 1), (true, true, 1, 0)] {
        let mut cluster = Cluster::new().await;
        cluster
            .put(
                SERVICES,
                service(json!({"selector": {"app": "web"},
                "publishNotReadyAddresses": publish, "ports": [{"port": 80}]})),
            )
            .await;
        put_pods(&mut cluster, 1, 8080).await;
        cluster
            .edit(PODS, "default", "p8080-000", |pod| pod["status"]["conditions"] = json!([]))
            .await;
        cluster.settle().await;
        let slice = cluster.list(ENDPOINT_SLICES).remove(0);
        let conditions = &slice["endpoints"][0]["conditions"];
        assert_eq!(*conditions, json!({"ready": ready, "serving": false, "terminating": false}));
        let subset = cluster.get(ENDPOINTS, "default", "web").unwrap()["subsets"][0].clone();
        let count = |field: &str| subset[field].as_array().map_or(0, Vec::len);
        assert_eq!((count("addresses"), count("notReadyAddresses")), (addresses, not_ready));
    }
}

#[tokio::test]
async fn services_without_selector_are_not_ours() {
    let mut cluster = Cluster::new().await;
    cluster.put(SERVICES, service(json!({"ports": [{"port": 80}]}))).await;
    cluster
        .put(
            ENDPOINTS,
            json!({"apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "mine", "namespace": "default"}}),
        )
        .await;
    cluster.settle().await;
    assert!(cluster.list(ENDPOINT_SLICES).is_empty());
    assert_eq!(cluster.list(ENDPOINTS).len(), 1);
}
