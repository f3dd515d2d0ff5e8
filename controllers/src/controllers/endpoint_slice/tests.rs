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

#[tokio::test]
async fn endpoints_of_a_service_without_a_selector_are_mirrored() {
    let mut cluster = Cluster::new().await;
    let ports = json!([{"name": "db", "port": 5432, "protocol": "TCP"}]);
    cluster.put(SERVICES, service(json!({"clusterIP": "10.43.0.9", "ports": ports.clone()}))).await;
    let endpoints = |addresses: Value, labels: Value| {
        json!({"apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "web", "namespace": "default", "labels": labels,
                "annotations": {"a": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
            "subsets": [{"addresses": addresses, "notReadyAddresses": [{"ip": "10.0.0.9"}],
                "ports": ports.clone()}]})
    };
    let both = json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"ip": "10.0.0.2", "nodeName": "n"}]);
    cluster.put(ENDPOINTS, endpoints(both, json!({"x": "y"}))).await;
    cluster.settle().await;
    let slices = cluster.list(ENDPOINT_SLICES);
    let families: Vec<String> = slices.iter().map(|slice| text(&slice["addressType"])).collect();
    assert_eq!(families.len(), 2, "{slices:?}");
    let v4 = slices.iter().find(|slice| slice["addressType"] == "IPv4").unwrap();
    assert_eq!(
        v4["endpoints"],
        json!([
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": true}, "nodeName": "n"},
            {"addresses": ["10.0.0.9"], "conditions": {"ready": false}},
        ])
    );
    assert_eq!(v4["ports"], ports);
    assert_eq!(v4["metadata"]["ownerReferences"][0]["kind"], "Endpoints");
    assert_eq!(v4["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(
        v4["metadata"]["labels"],
        json!({"x": "y", "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"})
    );
    // An address goes, one comes; the slice stays the same object.
    cluster
        .edit(ENDPOINTS, "default", "web", |object| {
            object["subsets"][0]["addresses"] = json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.3"}]);
        })
        .await;
    cluster.settle().await;
    let after = cluster.list(ENDPOINT_SLICES);
    assert_eq!(after.len(), 1, "none is left of the other family");
    assert_eq!(after[0]["metadata"]["uid"], v4["metadata"]["uid"]);
    assert_eq!(sizes(&cluster), [3]);
    // Up to a thousand are in one slice, and an annotation that is taken away there goes here, too.
    let many: Vec<Value> =
        (1..=999).map(|n| json!({"ip": format!("10.1.{}.{}", n / 250, n % 250 + 1)})).collect();
    cluster
        .edit(ENDPOINTS, "default", "web", |object| {
            object["subsets"][0]["addresses"] = json!(many);
            object["metadata"]["annotations"] = json!({"c": "d"});
        })
        .await;
    cluster.settle().await;
    assert_eq!(sizes(&cluster), [1000]);
    let annotations = &cluster.list(ENDPOINT_SLICES)[0]["metadata"]["annotations"];
    assert_eq!(*annotations, json!({"c": "d"}));
    // Who says that he writes slices himself is left alone.
    cluster
        .edit(ENDPOINTS, "default", "web", |object| {
            object["metadata"]["labels"]["endpointslice.kubernetes.io/skip-mirror"] = json!("true");
        })
        .await;
    cluster.settle().await;
    assert!(cluster.list(ENDPOINT_SLICES).is_empty());
}

#[tokio::test]
async fn the_order_of_ports_makes_no_other_slice() {
    let mut cluster = Cluster::new().await;
    let (http, https) = (json!({"name": "a", "port": 80}), json!({"name": "b", "port": 443}));
    cluster.put(SERVICES, service(json!({"clusterIP": "10.43.0.9", "ports": [http, https]}))).await;
    let subset = |ip: &str, ports: [&Value; 2]| json!({"addresses": [{"ip": ip}], "ports": ports});
    cluster
        .put(
            ENDPOINTS,
            json!({"apiVersion": "v1", "kind": "Endpoints",
                "metadata": {"name": "web", "namespace": "default"},
                "subsets": [subset("10.0.0.1", [&http, &https]), subset("10.0.0.2", [&https, &http])]}),
        )
        .await;
    cluster.settle().await;
    assert_eq!(sizes(&cluster), [2]);
}

#[tokio::test]
async fn traffic_that_is_to_stay_near_has_hints() {
    let mut cluster = Cluster::new().await;
    cluster.put_node("n1", json!({"topology.kubernetes.io/zone": "z1"})).await;
    let spec = json!({"clusterIP": "10.43.0.9", "selector": {"app": "web"},
        "trafficDistribution": "PreferClose",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}]});
    cluster.put(SERVICES, service(spec)).await;
    put_pods(&mut cluster, 1, 80).await;
    cluster.settle().await;
    let hints =
        |cluster: &Cluster| cluster.list(ENDPOINT_SLICES)[0]["endpoints"][0]["hints"].clone();
    assert_eq!(hints(&cluster), json!({"forZones": [{"name": "z1"}]}));
    cluster
        .edit(SERVICES, "default", "web", |service| {
            service["spec"]["trafficDistribution"] = json!("PreferSameNode");
        })
        .await;
    cluster.settle().await;
    assert_eq!(
        hints(&cluster),
        json!({"forNodes": [{"name": "n1"}], "forZones": [{"name": "z1"}]})
    );
    cluster
        .edit(SERVICES, "default", "web", |service| {
            service["spec"].as_object_mut().unwrap().remove("trafficDistribution");
        })
        .await;
    cluster.settle().await;
    assert!(hints(&cluster).is_null());
}
