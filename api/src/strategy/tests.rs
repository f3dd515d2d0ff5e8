//! What survives a create, an update and a status update of each kind.

use super::*;
use serde_json::json;

#[test]
fn clients_do_not_choose_the_systems_metadata() {
    let mut object = json!({"metadata": {"name": "a", "deletionTimestamp": "t",
        "deletionGracePeriodSeconds": 3, "selfLink": "/x"}});
    prepare_create("", "ConfigMap", &mut object);
    assert_eq!(object, json!({"metadata": {"name": "a"}}));

    let old = json!({"metadata": {"uid": "u", "creationTimestamp": "t0", "generation": 4,
        "deletionTimestamp": "t1", "deletionGracePeriodSeconds": 30}});
    let mut new = json!({"metadata": {"creationTimestamp": "t9", "generation": 9}});
    prepare_update("", "ConfigMap", &mut new, &old);
    assert_eq!(new, old);
}

#[test]
fn a_namespace_starts_with_its_finalizer() {
    let mut object = json!({"metadata": {"name": "n"}, "status": {"phase": "Terminating"}});
    prepare_create("", "Namespace", &mut object);
    assert_eq!(object["spec"], json!({"finalizers": ["kubernetes"]}));
    assert_eq!(object["status"], json!({"phase": "Active"}));
    let mut new = json!({"metadata": {}, "spec": {"finalizers": []}});
    prepare_update("", "Namespace", &mut new, &object);
    assert_eq!(new["spec"], object["spec"]);
    assert_eq!(new["status"], object["status"]);
}

#[test]
fn quality_of_service() {
    let with = |resources: Value| json!({"spec": {"containers": [{"resources": resources}]}});
    for (pod, want) in [
        (with(json!({})), "BestEffort"),
        (with(json!({"requests": {"cpu": "0"}})), "BestEffort"),
        (with(json!({"requests": {"cpu": "1"}})), "Burstable"),
        (with(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}})), "Burstable"),
        (
            with(json!({"limits": {"cpu": "1", "memory": "1Gi"},
                        "requests": {"cpu": "1000m", "memory": "1024Mi"}})),
            "Guaranteed",
        ),
        (
            with(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1"}})),
            "Burstable",
        ),
    ] {
        assert_eq!(pod::qos_class(&pod), want, "{pod}");
    }
}

#[test]
fn a_pods_status_and_spec_have_different_doors() {
    let mut old = json!({"metadata": {"uid": "u"}, "spec": {"nodeName": "n"},
        "status": {"phase": "Failed"}});
    prepare_create("", "Pod", &mut old);
    assert_eq!(old["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(old["metadata"]["generation"], 1);

    let mut new = old.clone();
    new["status"]["phase"] = json!("Running");
    prepare_update("", "Pod", &mut new, &old);
    assert_eq!(new, old);

    new["spec"]["nodeName"] = json!("other");
    new["status"] = json!({"phase": "Running"});
    new["metadata"]["ownerReferences"] = json!([{}]);
    prepare_status_update("", "Pod", &mut new, &old);
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(new["status"], json!({"phase": "Running", "qosClass": "BestEffort"}));
    assert!(new["metadata"].get("ownerReferences").is_none());
}

#[test]
fn generation_follows_the_spec() {
    let mut old = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1}, "status": {"x": 1}});
    prepare_create("apps", "Deployment", &mut old);
    assert_eq!(old["status"], json!({}));
    for (change, generation) in [
        (json!({"spec": {"replicas": 2}}), 2),
        (json!({"metadata": {"annotations": {"a": "b"}}}), 2),
        (json!({"metadata": {"labels": {"a": "b"}}}), 1),
        (json!({"status": {"replicas": 2}}), 1),
    ] {
        let mut new = old.clone();
        json_patch::merge(&mut new, &change);
        prepare_update("apps", "Deployment", &mut new, &old);
        assert_eq!(new["metadata"]["generation"], generation, "{change}");
        assert_eq!(new["status"], json!({}));
    }
}

#[test]
fn label_keys_become_expressions() {
    let mut pod = json!({"metadata": {"labels": {"app": "a"}}, "spec": {
        "topologySpreadConstraints": [
            {"labelSelector": {"matchLabels": {"x": "y"}}, "matchLabelKeys": ["app", "other"]}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {}, "mismatchLabelKeys": ["app"]}]}}}});
    prepare_create("", "Pod", &mut pod);
    assert_eq!(
        pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"],
        json!([{"key": "app", "operator": "In", "values": ["a"]}])
    );
    let term = &pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        [0];
    assert_eq!(term["labelSelector"]["matchExpressions"][0]["operator"], "NotIn");
}

#[test]
fn a_service_that_becomes_external_loses_its_addresses() {
    let old = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1",
        "clusterIPs": ["10.0.0.1"], "ports": [{"port": 1}]}});
    let mut new = old.clone();
    new["spec"]["type"] = json!("ExternalName");
    prepare_update("", "Service", &mut new, &old);
    assert_eq!(new["spec"], json!({"type": "ExternalName", "ports": [{"port": 1}]}));
}

#[test]
fn a_service_keeps_what_was_allocated() {
    let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1",
        "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{"name": "a", "port": 1, "nodePort": 30001}]}});
    for (new, want) in [
        (json!({"type": "NodePort", "ports": [{"name": "a", "port": 1}]}), old["spec"].clone()),
        (
            json!({"type": "NodePort", "ports": [{"name": "b", "port": 2, "nodePort": 30001},
                                                  {"name": "a", "port": 1}]}),
            json!({"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
                   "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                   "ports": [{"name": "b", "port": 2, "nodePort": 30001}, {"name": "a", "port": 1}]}),
        ),
        (
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.1"],
                   "ports": [{"name": "a", "port": 1, "nodePort": 30001}]}),
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"],
                   "ports": [{"name": "a", "port": 1}]}),
        ),
    ] {
        let mut object = json!({"spec": new});
        prepare_update("", "Service", &mut object, &old);
        assert_eq!(object["spec"], want);
    }
    let mut object = json!({"spec": {"clusterIP": "None"}});
    prepare_create("", "Service", &mut object);
    assert_eq!(object["spec"]["clusterIPs"], json!(["None"]));
}
