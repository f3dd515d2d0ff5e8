//! What upstream's server-side apply does, case by case.

use serde_json::{Value, json};

use super::*;
use crate::codec::decode_value;
use crate::resource;

const T0: &str = "2026-01-01T00:00:00Z";
const T1: &str = "2026-01-01T00:01:00Z";

fn target(group: &str, version: &str, kind: &str) -> Target {
    let def = resource::by_kind(group, version, kind).expect("a kind that is served");
    let has_status = def.subresource("status").is_some();
    Target { gvk: def.gvk, schema: def.schema, has_status, custom: def.custom }
}

fn deployments() -> Target {
    target("apps", "v1", "Deployment")
}

fn by(manager: &str) -> Writer<'_> {
    Writer { manager, subresource: "", now: T0 }
}

/// In normal form, as the server has it.
fn decoded(object: &Value, target: Target) -> Value {
    let def = resource::by_kind(target.gvk.group, target.gvk.version, target.gvk.kind).unwrap();
    let decoded = decode_value(object, def.target()).unwrap();
    decoded.value
}

fn web(spec: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"}, "spec": spec})
}

fn map(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "m", "namespace": "default"}, "data": data})
}

fn maps() -> Target {
    target("", "v1", "ConfigMap")
}

/// (manager, operation, fields) of each entry.
fn owners(object: &Value) -> Vec<(String, String, Value)> {
    let list = field(object).as_array().cloned().unwrap_or_default();
    let entries = list.iter().map(|entry| {
        let text = |name: &str| tree::text(entry, name).to_owned();
        (text("manager"), text("operation"), tree::get(entry, "fieldsV1").clone())
    });
    entries.collect()
}

fn owner(manager: &str, operation: &str, fields: Value) -> (String, String, Value) {
    (manager.to_owned(), operation.to_owned(), fields)
}

#[test]
fn a_create_owns_what_it_sets_as_kubernetes_records_it() {
    let mut object = decoded(
        &web(&json!({
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}], "args": ["a"]}],
                    "securityContext": {}},
            },
        })),
        deployments(),
    );
    update(None, &mut object, deployments(), by("kubectl-create"));
    let none = json!({});
    let want = json!({"f:spec": {
        "f:replicas": none,
        "f:selector": none,
        "f:strategy": {"f:rollingUpdate": {".": none, "f:maxSurge": none}, "f:type": none},
        "f:template": {
            "f:metadata": {"f:labels": {".": none, "f:app": none}},
            "f:spec": {
                "f:containers": {"k:{\"name\":\"c\"}": {
                    ".": none, "f:args": none, "f:image": none, "f:name": none,
                    "f:ports": {".": none, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
                        {".": none, "f:containerPort": none, "f:protocol": none}},
                    "f:resources": none,
                }},
                "f:securityContext": none,
            },
        },
    }});
    assert_eq!(owners(&object), [owner("kubectl-create", "Update", want)]);
    let entry = &field(&object)[0];
    assert_eq!((&entry["time"], &entry["apiVersion"]), (&json!(T0), &json!("apps/v1")));
    assert_eq!(entry["fieldsType"], "FieldsV1");
}

#[test]
fn an_update_takes_what_it_changes_and_nothing_else() {
    let mut first = map(&json!({"a": "1", "b": "1"}));
    update(None, &mut first, maps(), by("one"));
    let mut second = first.clone();
    second["data"] = json!({"a": "1", "b": "2", "c": "3"});
    update(Some(&first), &mut second, maps(), Writer { now: T1, ..by("two") });
    let none = json!({});
    assert_eq!(
        owners(&second),
        [
            owner("one", "Update", json!({"f:data": {".": none, "f:a": none}})),
            owner("two", "Update", json!({"f:data": {"f:b": none, "f:c": none}})),
        ]
    );
    let mut same = second.clone();
    update(Some(&second), &mut same, maps(), Writer { now: T1, ..by("three") });
    assert_eq!(same, second, "no change, no owner");
    let mut reset = second.clone();
    set_field(&mut reset, json!([{}]));
    update(Some(&second), &mut reset, maps(), by("four"));
    assert!(field(&reset).is_null(), "an empty entry resets the tracking");
    let mut untracked = reset.clone();
    untracked["data"]["a"] = json!("9");
    update(Some(&reset), &mut untracked, maps(), by("four"));
    assert!(field(&untracked).is_null(), "what nobody tracks stays so");
}

#[test]
fn what_is_applied_no_more_goes_unless_somebody_else_owns_it() {
    let one = apply(None, &map(&json!({"a": "1", "b": "1"})), maps(), by("one"), false).unwrap();
    let none = json!({});
    let fields = json!({"f:data": {"f:a": none, "f:b": none}});
    assert_eq!(owners(&one), [owner("one", "Apply", fields)]);
    let both = apply(Some(&one), &map(&json!({"b": "1"})), maps(), by("two"), false).unwrap();
    let less = apply(Some(&both), &map(&json!({"c": "1"})), maps(), by("one"), false).unwrap();
    assert_eq!(less["data"], json!({"b": "1", "c": "1"}));
    assert_eq!(
        owners(&less),
        [
            owner("one", "Apply", json!({"f:data": {"f:c": none}})),
            owner("two", "Apply", json!({"f:data": {"f:b": none}})),
        ]
    );
    let mut other = less.clone();
    other["data"]["x"] = json!("by hand");
    let mut other = {
        update(Some(&less), &mut other, maps(), by("editor"));
        other
    };
    other["metadata"]["labels"] = json!({"kept": "yes"});
    let left = apply(Some(&other), &map(&json!({"a": "1"})), maps(), by("one"), false).unwrap();
    assert_eq!(left["data"], json!({"a": "1", "b": "1", "x": "by hand"}));
    assert_eq!(left["metadata"]["labels"], json!({"kept": "yes"}), "what nobody owns stays");
}

#[test]
fn a_field_of_another_with_another_value_is_a_conflict_until_forced() {
    let mut live = map(&json!({"a": "1", "b": "1"}));
    update(None, &mut live, maps(), by("editor"));
    let config = map(&json!({"a": "2"}));
    let error = apply(Some(&live), &config, maps(), by("one"), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"editor\" using v1: .data.a"
    );
    let two = map(&json!({"a": "2", "b": "2"}));
    let error = apply(Some(&live), &two, maps(), by("one"), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"editor\" using v1:\n- .data.a\n- .data.b"
    );
    let taken = apply(Some(&live), &config, maps(), by("one"), true).unwrap();
    assert_eq!(taken["data"], json!({"a": "2", "b": "1"}));
    let none = json!({});
    assert_eq!(
        owners(&taken),
        [
            owner("one", "Apply", json!({"f:data": {"f:a": none}})),
            owner("editor", "Update", json!({"f:data": {".": none, "f:b": none}})),
        ]
    );
    let shared = apply(Some(&live), &map(&json!({"a": "1"})), maps(), by("one"), false).unwrap();
    assert_eq!(owners(&shared).len(), 2, "the same value is shared");
}

#[test]
fn lists_are_merged_by_their_keys_and_atomic_ones_replaced() {
    let config = |containers: Value| {
        web(&json!({"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}}}))
    };
    let first = config(json!([
        {"name": "a", "image": "a:1", "args": ["1", "2"],
            "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]},
        {"name": "b", "image": "b:1"},
    ]));
    let one = apply(None, &first, deployments(), by("one"), false).unwrap();
    let second = config(json!([
        {"name": "c", "image": "c:1"}, {"name": "a", "image": "a:1", "args": ["1", "2"]},
    ]));
    let two = apply(Some(&one), &second, deployments(), by("two"), false).unwrap();
    let names = |object: &Value| -> Vec<String> {
        let list = object["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone();
        list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&two), ["c", "a", "b"]);
    assert_eq!(two["spec"]["template"]["spec"]["containers"][1]["ports"][1]["protocol"], "UDP");
    let third = config(json!([{"name": "b", "image": "b:1"}]));
    let three = apply(Some(&two), &third, deployments(), by("one"), false).unwrap();
    assert_eq!(names(&three), ["c", "a", "b"], "two still owns a");
    let a = &three["spec"]["template"]["spec"]["containers"][1];
    assert!(a["ports"].is_null() && a["args"] == json!(["1", "2"]), "{a}");
    let change = config(json!([{"name": "a", "image": "a:1", "args": ["3"]}]));
    let error = apply(Some(&three), &change, deployments(), by("three"), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"two\": \
         .spec.template.spec.containers[name=\"a\"].args"
    );
    let finalizers = |list: Value| {
        let mut object = map(&json!({"k": "v"}));
        object["metadata"]["finalizers"] = list;
        object
    };
    let own = apply(None, &finalizers(json!(["x/a"])), maps(), by("one"), false).unwrap();
    let both = apply(Some(&own), &finalizers(json!(["x/b"])), maps(), by("two"), false).unwrap();
    assert_eq!(both["metadata"]["finalizers"], json!(["x/a", "x/b"]));
    let set = json!({"v:\"x/b\"": {}});
    assert_eq!(owners(&both)[1].2["f:metadata"]["f:finalizers"], set);
}

#[test]
fn objects_that_nobody_tracked_belong_to_those_before_the_first_apply() {
    let live = map(&json!({"a": "1"}));
    let applied = apply(Some(&live), &map(&json!({"b": "2"})), maps(), by("one"), false).unwrap();
    assert_eq!(applied["data"], json!({"a": "1", "b": "2"}));
    let before = json!({"f:data": {".": {}, "f:a": {}}});
    assert_eq!(owners(&applied)[1], owner("before-first-apply", "Update", before));
    let error = apply(Some(&live), &map(&json!({"a": "2"})), maps(), by("one"), false).unwrap_err();
    assert!(error.to_string().contains("\"before-first-apply\" using v1: .data.a"), "{error}");
}

#[test]
fn kubectl_takes_over_what_client_side_apply_owned() {
    let mut live = map(&json!({"a": "1", "b": "1"}));
    let last = map(&json!({"a": "1"})).to_string();
    live["metadata"]["annotations"] = json!({LAST_APPLIED: last});
    update(None, &mut live, maps(), by("kubectl-client-side-apply"));
    let config = map(&json!({"a": "2"}));
    assert!(apply(Some(&live), &config, maps(), by("other"), false).is_err());
    let applied = apply(Some(&live), &config, maps(), by("kubectl"), false).unwrap();
    assert_eq!(applied["data"], json!({"a": "2", "b": "1"}));
    let last = applied["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(last).unwrap(), config);
    let config = map(&json!({"b": "2"}));
    assert!(apply(Some(&live), &config, maps(), by("kubectl"), false).is_err());
}

#[test]
fn statuses_belong_to_those_who_write_the_subresource() {
    let mut config = web(&json!({"replicas": 1}));
    config["status"] = json!({"replicas": 3});
    let applied = apply(None, &config, deployments(), by("one"), false).unwrap();
    let own = json!({"f:spec": {"f:replicas": {}}});
    assert_eq!(owners(&applied), [owner("one", "Apply", own)]);
    let mut updated = applied.clone();
    updated["status"] = json!({"replicas": 1});
    updated["spec"]["replicas"] = json!(7);
    let writer = Writer { subresource: "status", ..by("kubelet") };
    update(Some(&applied), &mut updated, deployments(), writer);
    let status = json!({"f:status": {"f:replicas": {}}});
    assert_eq!(owners(&updated)[1], owner("kubelet", "Update", status));
    assert_eq!(field(&updated)[1]["subresource"], "status");
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let text = |config: &Value| {
        apply(None, config, deployments(), by("one"), false).unwrap_err().to_string()
    };
    let head = "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): ";
    let unknown = web(&json!({"replcas": 1}));
    assert_eq!(text(&unknown), format!("{head}.spec.replcas: field not declared in schema"));
    let wrong = web(&json!({"replicas": "1"}));
    assert_eq!(
        text(&wrong),
        format!("{head}.spec.replicas: expected numeric (int or float), got string")
    );
    let twice = json!([{"name": "c"}, {"name": "c"}]);
    let twice = web(&json!({"template": {"spec": {"containers": twice}}}));
    assert_eq!(
        text(&twice),
        format!("{head}.spec.template.spec.containers: duplicate entries for key [name=\"c\"]")
    );
    let mut other = web(&json!({}));
    other["kind"] = json!("ReplicaSet");
    assert_eq!(text(&other), "invalid object type: apps/v1, Kind=ReplicaSet");
    let mut managed = web(&json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(text(&managed), "metadata.managedFields must be nil");
}

#[test]
fn too_many_updaters_become_one_of_ancient_changes() {
    let mut live = map(&json!({"k": "0"}));
    update(None, &mut live, maps(), by("first"));
    for number in 0..14 {
        let mut next = live.clone();
        next["data"][format!("k{number}")] = json!("v");
        let now = format!("2026-01-01T00:00:{number:02}Z");
        let name = format!("m{number}");
        update(Some(&live), &mut next, maps(), Writer { now: &now, ..by(&name) });
        live = next;
    }
    let owners = owners(&live);
    assert_eq!(owners.len(), crate::limits::UPDATE_MANAGERS_MAX);
    let ancient = owners.iter().find(|one| one.0 == "ancient-changes").unwrap();
    assert!(ancient.2["f:data"]["f:k0"].is_object(), "{ancient:?}");
}
