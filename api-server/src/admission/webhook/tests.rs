//! Which webhooks are asked, as what.

use quorate_api::resource;
use serde_json::json;

use super::client::{Client, Target};
use super::configuration::Hook;
use super::*;
use crate::admission::{Asked, Ownership};

fn hook(parts: Value) -> Hook {
    let mut webhook = json!({"name": "h.example.com", "matchPolicy": "Equivalent",
        "clientConfig": {"url": "https://h/"}, "admissionReviewVersions": ["v9", "v1"],
        "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]});
    for (name, value) in parts.as_object().unwrap() {
        webhook[name] = value.clone();
    }
    let dialer = Arc::new(Dialer { store: Store::in_memory(), streams: None });
    let client = Client::new(&Target::of(&webhook["clientConfig"]), &dialer);
    Hook::of(Kind::Validating, "c/0", &webhook, Arc::new(client))
}

fn draft(group: &str, version: &str, plural: &str, object: Value) -> Draft {
    let def = resource::lookup(group, version, plural).unwrap();
    Draft {
        def,
        sub: "",
        operation: Operation::Update,
        namespace: if def.namespaced { "n" } else { "" }.to_owned(),
        name: "x".to_owned(),
        object,
        old: json!({"metadata": {"labels": {"old": "yes"}}}),
        warnings: Vec::new(),
        ownership: Ownership::Keep,
        asked: Asked::default(),
    }
}

#[test]
fn the_same_objects_in_another_version_are_meant_when_the_policy_says_so() {
    let view = Store::in_memory().view();
    let events = |policy: &str| {
        hook(json!({"matchPolicy": policy, "rules": [{"operations": ["UPDATE"],
            "apiGroups": ["events.k8s.io"], "apiVersions": ["v1"], "resources": ["events"]}]}))
    };
    let core = draft("", "v1", "events", json!({}));
    let named = case::named_as(&events("Equivalent"), &core, &view).unwrap();
    assert_eq!((named.group(), named.plural), ("events.k8s.io", "events"));
    assert!(case::named_as(&events("Exact"), &core, &view).is_none());
    // What the rules name themselves comes first.
    let everything = case::named_as(&hook(json!({})), &core, &view).unwrap();
    assert_eq!(everything.group(), "");
    let pods = draft("", "v1", "pods", json!({}));
    assert!(case::named_as(&events("Equivalent"), &pods, &view).is_none());
}

#[test]
fn autoscalers_are_converted_both_ways() {
    let view = Store::in_memory().view();
    let object = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"},
            "targetCPUUtilizationPercentage": 50}});
    let v1 = draft("autoscaling", "v1", "horizontalpodautoscalers", object.clone());
    let newer = hook(
        json!({"rules": [{"operations": ["*"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"],
        "resources": ["*"]}]}),
    );
    let shown_as = case::named_as(&newer, &v1, &view).unwrap();
    let by = Identity::anonymous();
    let case = Case::of(&v1, &by);
    let mut shown = case::shown(&case, shown_as, &object);
    assert_eq!(shown["apiVersion"], "autoscaling/v2");
    assert_eq!(shown["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    shown["spec"]["maxReplicas"] = json!(7);
    let taken = case::taken(&case, shown_as, &object, shown);
    assert_eq!(
        (&taken["apiVersion"], &taken["spec"]["maxReplicas"]),
        (&json!("autoscaling/v1"), &json!(7))
    );
    assert_eq!(taken["spec"]["targetCPUUtilizationPercentage"], 50);
}

#[test]
fn selectors_look_at_both_versions_and_at_the_namespace() {
    let view = Store::in_memory().view();
    let labelled = |labels: Value| json!({"metadata": {"labels": labels}});
    let selects = |hook: &Hook, draft: &Draft| {
        case::selected(hook, draft, &view, seen(draft)).map_err(|why| why.code)
    };
    let of = |selector: &str, labels: Value| hook(json!({selector: {"matchLabels": labels}}));
    let pod = draft("", "v1", "pods", labelled(json!({"new": "yes"})));
    for (labels, selected) in [
        (json!({"new": "yes"}), true),
        (json!({"old": "yes"}), true),
        (json!({"new": "yes", "old": "yes"}), false),
    ] {
        assert_eq!(selects(&of("objectSelector", labels.clone()), &pod), Ok(selected), "{labels}");
    }
    // What is no object has no labels.
    let mut options = pod.clone();
    (options.object, options.old) = (json!({"kind": "PodExecOptions"}), Value::Null);
    let without = hook(
        json!({"objectSelector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}}),
    );
    assert_eq!(selects(&without, &options), Ok(false));
    assert_eq!(selects(&without, &pod), Ok(true));
    let by_namespace = of("namespaceSelector", json!({"team": "a"}));
    assert_eq!(selects(&by_namespace, &pod), Err(404), "nobody knows the namespace");
    let node = draft("", "v1", "nodes", json!({"metadata": {}}));
    assert_eq!(selects(&by_namespace, &node), Ok(true), "no namespace is against it");
    let mut namespace = draft("", "v1", "namespaces", labelled(json!({"team": "a"})));
    assert_eq!(selects(&by_namespace, &namespace), Ok(true));
    namespace.object = labelled(json!({"team": "b"}));
    assert_eq!(selects(&by_namespace, &namespace), Ok(false));
}

#[test]
fn configurations_are_repaired_without_webhooks() {
    let group = "admissionregistration.k8s.io";
    for (plural, asked) in [
        ("validatingwebhookconfigurations", false),
        ("mutatingwebhookconfigurations", false),
        ("validatingadmissionpolicies", false),
        ("validatingadmissionpolicybindings", false),
    ] {
        let draft = draft(group, "v1", plural, json!({}));
        assert_eq!(case::concerns_webhooks(&draft), asked, "{plural}");
    }
    let mut pod = draft("", "v1", "pods", json!({}));
    assert!(case::concerns_webhooks(&pod));
    pod.asked.silent = true;
    assert!(!case::concerns_webhooks(&pod));
}

#[test]
fn a_review_says_who_does_what() {
    let by = Identity::component("system:serviceaccount:kube-system:replicaset-controller");
    let mut pod = draft("", "v1", "pods", json!({"metadata": {"name": "x"}}));
    pod.operation = Operation::Delete;
    pod.asked.dry_run = true;
    pod.asked.options = crate::admission::Options::Delete(crate::verb::DeleteOptions {
        grace_period_seconds: Some(3),
        uid: Some("u".to_owned()),
        ..Default::default()
    });
    let case = Case::of(&pod, &by);
    let (object, old) = seen(&pod);
    let request = review::request(&case, pod.def, "uid", (object, old));
    let expected = json!({
        "uid": "uid", "operation": "DELETE", "name": "x", "namespace": "n", "dryRun": true,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "requestResource": {"group": "", "version": "v1", "resource": "pods"},
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"]},
        "object": null, "oldObject": {"metadata": {"labels": {"old": "yes"}}},
        "options": {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 3,
            "preconditions": {"uid": "u"}, "dryRun": ["All"]},
    });
    assert_eq!(request, expected);
    assert_eq!(hook(json!({})).version, Some(review::Version::V1), "the first that is known");
}
