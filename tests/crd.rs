//! Custom kinds as an operator and its users see them: definitions made at one master, objects at others, with the real
//! kubectl and the `kube` crate.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use common::cluster::Cluster;
use common::kube::client;
use common::kubectl::Kubectl;
use common::{PATIENCE, step, until};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
    WatchEvent, WatchParams,
};
use serde_json::{Value, json};

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [version("v1", true), version("v1beta1", false)],
        },
    })
}

fn version(name: &str, storage: bool) -> Value {
    json!({
        "name": name, "served": true, "storage": storage,
        "deprecated": !storage,
        "subresources": {"status": {}, "scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector"}},
        "selectableFields": [{"jsonPath": ".spec.image"}],
        "additionalPrinterColumns": [
            {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
            {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
            {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
        ],
        "schema": {"openAPIV3Schema": {"type": "object", "description": "CronTab is a test.", "properties": {
            "spec": {"type": "object", "required": ["cronSpec"], "properties": {
                "cronSpec": {"type": "string", "pattern": "^[0-9* ]+$", "description": "When it runs."},
                "image": {"type": "string"},
                "replicas": {"type": "integer", "minimum": 0, "maximum": 10, "default": 1},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "port": {"x-kubernetes-int-or-string": true},
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {
                        "name": {"type": "string"}, "number": {"type": "integer"}}}},
            }},
            "status": {"type": "object", "properties": {
                "replicas": {"type": "integer"}, "selector": {"type": "string"},
                "conditions": {"type": "array", "items": {"type": "object", "properties": {
                    "type": {"type": "string"}, "status": {"type": "string"}}}},
            }},
        }}},
    })
}

fn crontab(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab",
           "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

const NAME: &str = "crontabs.stable.example.com";

/// Makes a definition, and waits until it is served.
fn define(kubectl: &Kubectl, definition: &Value) {
    kubectl.run_with(&["create", "-f", "-"], &definition.to_string());
    let name = format!("crd/{}", definition["metadata"]["name"].as_str().unwrap());
    kubectl.run(&["wait", "--for=condition=Established", &name, "--timeout=30s"]);
}

#[test]
fn definitions_are_served_on_every_master() {
    let mut cluster = Cluster::start(3);
    let Some(kubectl) = Kubectl::new(&cluster.kubeconfig()) else { return };
    let at = |number: usize| kubectl.at(&cluster.masters[number].url());
    refused(&kubectl);
    define(&at(0), &definition());
    let stored = kubectl.get(&["crd", NAME]);
    assert_eq!(stored["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(stored["status"]["acceptedNames"]["singular"], "crontab");
    assert_eq!(stored["status"]["acceptedNames"]["listKind"], "CronTabList");
    assert_eq!(stored["spec"]["conversion"]["strategy"], "None");
    for number in 0..3 {
        step(&format!("master {number} serves it"));
        let name = format!("one-{number}");
        let made = crontab(&name, json!({"cronSpec": "* * * * *"}));
        at(number).run_with(&["create", "-f", "-"], &made.to_string());
        assert_eq!(at((number + 1) % 3).field(&format!("ct/{name}"), "{.spec.replicas}"), "1");
    }
    objects(&kubectl);
    discovery(&kubectl);
    versions(&kubectl);

    step("after a restart");
    cluster.restart(2);
    let third = kubectl.at(&cluster.masters[2].url());
    until("the third master serves it again", PATIENCE, || {
        third.tried(&["get", "ct", "one-0"], "").0 == 0
    });
    owners(&kubectl);
    deleted(&kubectl);
}

/// What is wrong with definitions is told.
fn refused(kubectl: &Kubectl) {
    let mut bad = definition();
    bad["metadata"]["name"] = json!("other.stable.example.com");
    bad["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["bad"] =
        json!({"type": "array"});
    bad["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["bad"] =
        json!({"type": "array"});
    bad["spec"]["versions"][0]["storage"] = json!(false);
    let (code, _, complaint) = kubectl.tried(&["create", "-f", "-"], &bad.to_string());
    assert_eq!(code, 1);
    for part in [
        "metadata.name: Invalid value: \"other.stable.example.com\": must be spec.names.plural+\".\"+spec.group",
        "must have exactly one version marked as storage version",
        "spec.validation.openAPIV3Schema.properties[bad].items: Required value: must be specified",
    ] {
        assert!(complaint.contains(part), "{part:?} not in {complaint}");
    }
    let mut webhook = definition();
    webhook["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://example.com"}}});
    let (code, _, complaint) = kubectl.tried(&["create", "-f", "-"], &webhook.to_string());
    assert!(code == 1 && complaint.contains("conversion webhooks are not called"), "{complaint}");
}

/// Everything that is done with objects of a custom kind.
fn objects(kubectl: &Kubectl) {
    let create = |object: &Value| kubectl.tried(&["create", "-f", "-"], &object.to_string());
    let (_, _, complaint) = create(&crontab("bad", json!({"cronSpec": "x", "replicas": 11})));
    for part in [
        "spec.cronSpec: Invalid value: \"x\": spec.cronSpec in body should match '^[0-9* ]+$'",
        "spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10",
    ] {
        assert!(complaint.contains(part), "{part:?} not in {complaint}");
    }
    let (_, _, complaint) = create(&crontab("bad", json!({"cronSpec": "*", "extra": 1})));
    assert!(
        complaint.contains("strict decoding error: unknown field \"spec.extra\""),
        "{complaint}"
    );
    let unchecked = ["create", "--validate=false", "-f", "-"];
    let spec =
        json!({"cronSpec": "*", "extra": 1, "free": {"x": {"y": 1}}, "port": "http", "image": "i"});
    kubectl.run_with(&unchecked, &crontab("pruned", spec).to_string());
    let pruned = kubectl.get(&["ct", "pruned"]);
    assert_eq!(
        pruned["spec"],
        json!({"cronSpec": "*", "free": {"x": {"y": 1}}, "port": "http", "image": "i", "replicas": 1})
    );
    assert_eq!(pruned["metadata"]["generation"], 1);

    let table = kubectl.run(&["get", "ct"]);
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap(), ["NAME", "SPEC", "REPLICAS", "READY"]);
    let first = lines.next().unwrap();
    assert_eq!((first[0], first.last().unwrap()), ("one-0", &"1"));
    assert!(kubectl.run(&["get", "all"]).contains("crontab.stable.example.com/one-0"));
    let chosen = kubectl.run(&["get", "ct", "--field-selector=spec.image=i", "-o", "name"]);
    assert_eq!(chosen, "crontab.stable.example.com/pruned\n");
    let complaint = kubectl.fails(&["get", "ct", "--field-selector=spec.cronSpec=*"]);
    assert!(complaint.contains("field label not supported: spec.cronSpec"), "{complaint}");

    step("patches and subresources");
    kubectl.run(&["patch", "ct", "pruned", "--type=merge", "-p", r#"{"spec":{"image":"j"}}"#]);
    let operations = r#"[{"op":"replace","path":"/spec/image","value":"k"}]"#;
    kubectl.run(&["patch", "ct", "pruned", "--type=json", "-p", operations]);
    let complaint = kubectl.fails(&["patch", "ct", "pruned", "--type=strategic", "-p", "{}"]);
    assert!(complaint.contains("application/merge-patch+json"), "{complaint}");
    let status = r#"{"status":{"replicas":2,"selector":"a=b","conditions":[{"type":"Ready","status":"True"}]}}"#;
    kubectl.run(&["patch", "ct", "pruned", "--type=merge", "-p", status]);
    assert_eq!(kubectl.field("ct/pruned", "{.status}"), "", "the status is a subresource");
    let through = ["patch", "ct", "pruned", "--subresource=status", "--type=merge", "-p", status];
    kubectl.run(&through);
    let changed = kubectl.get(&["ct", "pruned"]);
    assert_eq!(
        (&changed["metadata"]["generation"], &changed["status"]["replicas"]),
        (&json!(3), &json!(2))
    );
    kubectl.run(&["scale", "ct", "pruned", "--replicas=4"]);
    assert_eq!(kubectl.field("ct/pruned", "{.spec.replicas}"), "4");
    let scale =
        kubectl.run(&["get", "ct", "pruned", "--subresource=scale", "-o", "jsonpath={.status}"]);
    assert_eq!(
        serde_json::from_str::<Value>(&scale).unwrap(),
        json!({"replicas": 2, "selector": "a=b"})
    );

    applies(kubectl);
}

/// Apply, by the client and by the server: lists are merged by their keys, conflicts are told.
fn applies(kubectl: &Kubectl) {
    step("apply");
    let applied =
        crontab("applied", json!({"cronSpec": "1", "ports": [{"name": "a", "number": 1}]}));
    kubectl.run_with(&["apply", "-f", "-"], &applied.to_string());
    let applied =
        crontab("applied", json!({"cronSpec": "2", "ports": [{"name": "a", "number": 2}]}));
    kubectl.run_with(&["apply", "-f", "-"], &applied.to_string());
    assert_eq!(kubectl.field("ct/applied", "{.spec.cronSpec}"), "2");
    let other = crontab("merged", json!({"cronSpec": "1", "ports": [{"name": "a", "number": 1}]}));
    let side =
        |manager: &'static str| ["apply", "--server-side", "--field-manager", manager, "-f", "-"];
    kubectl.run_with(&side("one"), &other.to_string());
    let other = crontab("merged", json!({"cronSpec": "1", "ports": [{"name": "b", "number": 2}]}));
    kubectl.run_with(&side("two"), &other.to_string());
    let names = kubectl.field("ct/merged", "{.spec.ports[*].name}");
    assert_eq!(names.split(' ').collect::<std::collections::BTreeSet<_>>().len(), 2, "{names}");
    let other = crontab("merged", json!({"cronSpec": "2"}));
    let (_, _, complaint) = kubectl.tried(&side("two"), &other.to_string());
    assert!(complaint.contains("conflict with \"one\""), "{complaint}");
    kubectl.run(&["delete", "ct", "merged", "applied"]);
}

fn discovery(kubectl: &Kubectl) {
    let resources =
        kubectl.run(&["api-resources", "--api-group=stable.example.com", "--no-headers"]);
    let words: Vec<&str> = resources.split_whitespace().collect();
    assert_eq!(words, ["crontabs", "ct", "stable.example.com/v1", "true", "CronTab"]);
    assert!(kubectl.run(&["api-versions"]).contains("stable.example.com/v1beta1\n"));
    let explained = kubectl.run(&["explain", "ct.spec.cronSpec"]);
    assert!(explained.contains("When it runs."), "{explained}");
    let old = kubectl.run(&["explain", "ct", "--output=plaintext-openapiv2"]);
    assert!(old.contains("CronTab is a test."), "{old}");
    let list: Value =
        serde_json::from_str(&kubectl.run(&["get", "--raw", "/apis/stable.example.com/v1"]))
            .unwrap();
    assert_eq!(list["resources"].as_array().unwrap().len(), 3, "{list}");
}

/// One version is kept, each is served.
fn versions(kubectl: &Kubectl) {
    let (_, old, warned) =
        kubectl.tried(&["get", "crontabs.v1beta1.stable.example.com", "one-0", "-o", "json"], "");
    let old: Value = serde_json::from_str(&old).unwrap();
    assert_eq!(old["apiVersion"], "stable.example.com/v1beta1");
    assert!(warned.contains("stable.example.com/v1beta1 CronTab is deprecated"), "{warned}");
    let mut made = crontab("beta", json!({"cronSpec": "1"}));
    made["apiVersion"] = json!("stable.example.com/v1beta1");
    kubectl.run_with(&["create", "-f", "-"], &made.to_string());
    assert_eq!(kubectl.field("ct/beta", "{.apiVersion}"), "stable.example.com/v1");
    step("a new default holds for what is there");
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/image/default";
    let patch = json!([{"op": "add", "path": path, "value": "new"}]).to_string();
    kubectl.run(&["patch", "crd", NAME, "--type=json", "-p", &patch]);
    until("the new default is served", PATIENCE, || {
        kubectl.field("ct/beta", "{.spec.image}") == "new"
    });
}

/// Garbage collection and namespaces know custom kinds.
fn owners(kubectl: &Kubectl) {
    let uid = kubectl.field("ct/one-0", "{.metadata.uid}");
    let owned = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned", "ownerReferences": [
        {"apiVersion": "stable.example.com/v1", "kind": "CronTab", "name": "one-0", "uid": uid}]}});
    kubectl.run_with(&["create", "-f", "-"], &owned.to_string());
    let mut child = crontab("child", json!({"cronSpec": "1"}));
    child["metadata"]["ownerReferences"] = owned["metadata"]["ownerReferences"].clone();
    kubectl.run_with(&["create", "-f", "-"], &child.to_string());
    kubectl.run(&["delete", "ct", "one-0"]);
    for object in ["cm/owned", "ct/child"] {
        kubectl.run(&["wait", "--for=delete", object, "--timeout=60s"]);
    }
    kubectl.run(&["create", "namespace", "other"]);
    let mut inside = crontab("inside", json!({"cronSpec": "1"}));
    inside["metadata"]["namespace"] = json!("other");
    kubectl.run_with(&["create", "-f", "-"], &inside.to_string());
    kubectl.run(&["delete", "namespace", "other", "--timeout=60s"]);
    assert!(!kubectl.run(&["get", "ct", "-A", "-o", "name"]).contains("inside"));
}

/// The objects go first, those with finalizers when they may.
fn deleted(kubectl: &Kubectl) {
    let patch = r#"{"metadata":{"finalizers":["example.com/wait"]}}"#;
    kubectl.run(&["patch", "ct", "one-1", "--type=merge", "-p", patch]);
    kubectl.run(&["delete", "crd", NAME, "--wait=false"]);
    kubectl.until("only one object is left", PATIENCE, &["ct"], |list| {
        list["items"].as_array().is_some_and(|items| items.len() == 1)
    });
    let (_, _, complaint) = kubectl
        .tried(&["create", "-f", "-"], &crontab("late", json!({"cronSpec": "1"})).to_string());
    let words = "create not allowed while custom resource definition is terminating";
    assert!(complaint.contains(words), "{complaint}");
    let terminating = "{.status.conditions[?(@.type==\"Terminating\")].status}";
    assert_eq!(kubectl.field(&format!("crd/{NAME}"), terminating), "True");
    let reason = "{.status.conditions[?(@.type==\"Terminating\")].reason}";
    until("the definition says that it goes", PATIENCE, || {
        kubectl.field(&format!("crd/{NAME}"), reason) == "InstanceDeletionInProgress"
    });
    let patch = r#"{"metadata":{"finalizers":null}}"#;
    kubectl.run(&["patch", "ct", "one-1", "--type=merge", "-p", patch]);
    kubectl.run(&["wait", "--for=delete", &format!("crd/{NAME}"), "--timeout=60s"]);
    // kubectl may remember what there was.
    let path = ["get", "--raw", "/apis/stable.example.com/v1/crontabs"];
    until("nobody serves it", PATIENCE, || kubectl.tried(&path, "").0 != 0);
    step("made again, there is nothing left of before");
    define(kubectl, &definition());
    assert_eq!(kubectl.run(&["get", "ct", "-o", "name"]), "");
}

#[test]
fn names_are_had_by_one() {
    let cluster = Cluster::start(1);
    let Some(kubectl) = Kubectl::new(&cluster.kubeconfig()) else { return };
    define(&kubectl, &definition());
    let mut other = definition();
    other["metadata"]["name"] = json!("cts.stable.example.com");
    other["spec"]["names"] = json!({"plural": "cts", "singular": "ct", "kind": "CronTab"});
    kubectl.run_with(&["create", "-f", "-"], &other.to_string());
    let refused = kubectl.until(
        "its names are judged",
        PATIENCE,
        &["crd", "cts.stable.example.com"],
        |one| one["status"]["conditions"].as_array().is_some_and(|all| all.len() == 2),
    );
    let conditions = &refused["status"]["conditions"];
    assert_eq!(
        (&conditions[0]["type"], &conditions[0]["status"]),
        (&json!("NamesAccepted"), &json!("False"))
    );
    assert_eq!(
        (&conditions[1]["type"], &conditions[1]["status"]),
        (&json!("Established"), &json!("False"))
    );
    kubectl.run(&["delete", "crd", NAME]);
    let accepted =
        ["wait", "--for=condition=Established", "crd/cts.stable.example.com", "--timeout=30s"];
    kubectl.run(&accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_use_the_kube_crate() {
    let cluster = Cluster::start(1);
    let client = client(&cluster.kubeconfig(), None).await;
    let kind = |group: &str, version: &str, kind: &str, plural: &str| {
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    };
    let definitions =
        kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
    let definitions: Api<DynamicObject> = Api::all_with(client.clone(), &definitions);
    let apply = PatchParams::apply("operator").force();
    let patch = Patch::Apply(definition());
    definitions.patch(NAME, &apply, &patch).await.unwrap();
    let established = |object: &DynamicObject| {
        let conditions =
            object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True")
    };
    let params = WatchParams::default().fields(&format!("metadata.name={NAME}")).timeout(30);
    let mut events = definitions.watch(&params, "0").await.unwrap().boxed();
    while let Some(event) = events.try_next().await.unwrap() {
        if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
            && established(&object)
        {
            break;
        }
    }
    let crontabs = kind("stable.example.com", "v1", "CronTab", "crontabs");
    let crontabs: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &crontabs);
    let version =
        crontabs.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let object: DynamicObject =
        serde_json::from_value(crontab("a", json!({"cronSpec": "1"}))).unwrap();
    let made = crontabs.create(&PostParams::default(), &object).await.unwrap();
    assert_eq!(made.data["spec"]["replicas"], 1);
    let patch = Patch::Apply(crontab("a", json!({"cronSpec": "2"})));
    crontabs.patch("a", &apply, &patch).await.unwrap();
    let status = Patch::Merge(json!({"status": {"replicas": 7}}));
    let after = crontabs.patch_status("a", &PatchParams::default(), &status).await.unwrap();
    assert_eq!(
        (&after.data["status"]["replicas"], &after.data["spec"]["cronSpec"]),
        (&json!(7), &json!("2"))
    );
    crontabs.delete("a", &kube::api::DeleteParams::default()).await.unwrap();
    let mut events =
        crontabs.watch(&WatchParams::default().timeout(20), &version).await.unwrap().boxed();
    let mut kinds = Vec::new();
    while kinds.last() != Some(&"DELETED") {
        kinds.push(match events.try_next().await.unwrap() {
            Some(WatchEvent::Added(_)) => "ADDED",
            Some(WatchEvent::Modified(_)) => "MODIFIED",
            Some(WatchEvent::Deleted(_)) => "DELETED",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(kinds, ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]);
}
