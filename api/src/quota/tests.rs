//! What counts, what fits, and the words for what does not.

use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn text(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, one)| format!("{name}={one}")).collect::<Vec<_>>().join(",")
}

fn quota(hard: &Value, used: &Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
}

fn attempt<'a>(group: &'a str, plural: &'a str, object: &'a Value) -> Attempt<'a> {
    Attempt { group, plural, object, old: None, now: now() }
}

fn pod(cpu: &str) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "a", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": "2"}}},
    ]}})
}

#[test]
fn names_belong_to_resources() {
    let cases = [
        ("pods", Some(("", "pods"))),
        ("count/pods", Some(("", "pods"))),
        ("requests.cpu", Some(("", "pods"))),
        ("hugepages-2Mi", Some(("", "pods"))),
        ("requests.example.com/gpu", Some(("", "pods"))),
        ("limits.example.com/gpu", None),
        ("requests.storage", Some(("", "persistentvolumeclaims"))),
        ("gold.storageclass.storage.k8s.io/requests.storage", Some(("", "persistentvolumeclaims"))),
        ("services.nodeports", Some(("", "services"))),
        ("count/deployments.apps", Some(("apps", "deployments"))),
        ("count/widgets.example.com", Some(("example.com", "widgets"))),
        ("count/events", None),
        ("secrets", Some(("", "secrets"))),
        ("storage", None),
    ];
    for (name, resource) in cases {
        assert_eq!(resource_of(name), resource, "{name}");
    }
}

#[test]
fn pods_count_for_their_containers_until_they_end() {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {
        "overhead": {"cpu": "50m"},
        "initContainers": [
            {"name": "i", "resources": {"requests": {"cpu": "3", "memory": "1Gi"}}},
            {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
        ],
        "containers": [
            {"name": "a", "resources": {"requests": {"cpu": "1", "example.com/gpu": "2"},
                "limits": {"cpu": "2", "example.com/gpu": "2"}}},
            {"name": "b", "resources": {"requests": {"cpu": "500m"}}},
        ],
    }});
    let alive = "count/pods=1,cpu=3050m,limits.cpu=2050m,memory=1Gi,pods=1,requests.cpu=3050m,\
        requests.example.com/gpu=2,requests.memory=1Gi";
    assert_eq!(text(&usage("", "pods", &pod, now())), alive);
    pod["metadata"]["deletionTimestamp"] = json!("2025-12-31T23:59:50Z");
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(10);
    assert_eq!(text(&usage("", "pods", &pod, now())), alive, "the second is not over");
    pod["metadata"]["deletionTimestamp"] = json!("2025-12-31T23:59:49Z");
    assert_eq!(text(&usage("", "pods", &pod, now())), "count/pods=1");
    pod["metadata"] = json!({});
    pod["status"]["phase"] = json!("Failed");
    assert_eq!(text(&usage("", "pods", &pod, now())), "count/pods=1");
}

#[test]
fn services_and_claims_count_for_more_than_themselves() {
    let service = |spec: Value| text(&usage("", "services", &json!({"spec": spec}), now()));
    let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30001}]);
    for (spec, ports, balancers) in [
        (json!({"type": "ClusterIP", "ports": ports}), 0, 0),
        (json!({"type": "NodePort", "ports": ports}), 2, 0),
        (json!({"type": "LoadBalancer", "ports": ports}), 2, 1),
        (
            json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false}),
            1,
            1,
        ),
    ] {
        let expected = format!(
            "count/services=1,services=1,services.loadbalancers={balancers},\
             services.nodeports={ports}"
        );
        assert_eq!(service(spec), expected);
    }
    let claim = json!({"spec": {"storageClassName": "gold",
        "resources": {"requests": {"storage": "1Gi"}}}});
    assert_eq!(
        text(&usage("", "persistentvolumeclaims", &claim, now())),
        "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
         gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,\
         requests.storage=1Gi"
    );
    assert_eq!(text(&usage("", "secrets", &json!({}), now())), "count/secrets=1,secrets=1");
    let deployment = usage("apps", "deployments", &json!({}), now());
    assert_eq!(text(&deployment), "count/deployments.apps=1");
    assert!(usage("", "events", &json!({}), now()).is_empty());
}

#[test]
fn what_does_not_fit_is_refused_in_upstreams_words() {
    let hard = json!({"pods": "2", "requests.cpu": "1", "limits.cpu": "10"});
    let fits = quota(&hard, &json!({"pods": "1", "requests.cpu": "500m", "limits.cpu": "2"}));
    let full = quota(&hard, &json!({"pods": "2", "requests.cpu": "800m", "limits.cpu": "2"}));
    let unknown = quota(&hard, &json!({"pods": "1"}));
    let other = quota(&json!({"count/deployments.apps": "1"}), &json!({}));
    let pod = pod("500m");
    let attempt = attempt("", "pods", &pod);
    let charged = charge(&[fits.clone(), other], &attempt).unwrap();
    assert_eq!(text(&charged[0]), "limits.cpu=4,pods=2,requests.cpu=1");
    assert!(charged[1].is_empty());
    assert_eq!(
        charge(&[fits.clone(), full], &attempt).unwrap_err(),
        "exceeded quota: q, requested: pods=1,requests.cpu=500m, used: pods=2,requests.cpu=800m, \
         limited: pods=2,requests.cpu=1"
    );
    assert_eq!(
        charge(&[unknown], &attempt).unwrap_err(),
        "status unknown for quota: q, resources: limits.cpu,pods,requests.cpu"
    );
    let bare = json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}});
    assert_eq!(
        charge(&[fits], &self::attempt("", "pods", &bare)).unwrap_err(),
        "failed quota: q: must specify limits.cpu for: a,b; requests.cpu for: a,b"
    );
}

#[test]
fn an_update_is_charged_for_the_difference() {
    let hard = json!({"services.nodeports": "2", "services.loadbalancers": "0"});
    let quota = quota(&hard, &json!({"services.nodeports": "1", "services.loadbalancers": "0"}));
    let ports = json!([{"port": 1}]);
    let plain = json!({"spec": {"type": "ClusterIP", "ports": ports}});
    let node_port = json!({"spec": {"type": "NodePort", "ports": ports}});
    let balanced = json!({"spec": {"type": "LoadBalancer", "ports": ports}});
    let change = |old: &Value, new: &Value| {
        let attempt = Attempt { old: Some(old), ..attempt("", "services", new) };
        charge(std::slice::from_ref(&quota), &attempt).map(|charged| text(&charged[0]))
    };
    assert_eq!(change(&plain, &node_port).unwrap(), "services.nodeports=2");
    assert_eq!(change(&node_port, &plain).unwrap(), "services.nodeports=0");
    assert_eq!(change(&plain, &plain).unwrap(), "");
    assert_eq!(
        change(&node_port, &balanced).unwrap_err(),
        "exceeded quota: q, requested: services.loadbalancers=1, used: services.loadbalancers=0, \
         limited: services.loadbalancers=0"
    );
}

#[test]
fn scopes_choose_pods() {
    let of =
        |spec: &Value, pod: &Value| in_scopes("", "pods", pod, &scopes(&json!({"spec": spec})));
    let by_class = |operator: &str, values: &[&str]| {
        json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values}]}})
    };
    let best_effort = json!({"spec": {"containers": [{"name": "a"}]}});
    let urgent = json!({"spec": {"activeDeadlineSeconds": 5, "priorityClassName": "high",
        "containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}}}]}});
    let cases = [
        (json!({}), true, true),
        (json!({"scopes": ["BestEffort"]}), true, false),
        (json!({"scopes": ["NotBestEffort"]}), false, true),
        (json!({"scopes": ["Terminating"]}), false, true),
        (json!({"scopes": ["NotTerminating", "BestEffort"]}), true, false),
        (by_class("Exists", &[]), false, true),
        (by_class("DoesNotExist", &[]), true, false),
        (by_class("In", &["high", "low"]), false, true),
        (by_class("NotIn", &["high"]), true, false),
    ];
    for (spec, first, second) in cases {
        assert_eq!(of(&spec, &best_effort), first, "{spec}");
        assert_eq!(of(&spec, &urgent), second, "{spec}");
    }
    let scopes = scopes(&json!({"spec": {"scopes": ["BestEffort"]}}));
    assert!(!in_scopes("", "services", &json!({}), &scopes));
}
