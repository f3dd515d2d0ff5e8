//! Server-side apply over HTTP: owners, conflicts, kubectl's and controllers' ways.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{World, has_kubectl, json_of};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

async fn apply(world: &World, path: &str, config: &Value) -> (u16, Value) {
    let media = [("content-type", "application/apply-patch+yaml")];
    let response = world.send("PATCH", path, &media, config.to_string()).await;
    (response.status().as_u16(), json_of(response).await)
}

fn managers(object: &Value) -> Vec<(&str, &str, &str)> {
    let list = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    list.map(|one| {
        let [manager, operation, subresource] = ["manager", "operation", "subresource"]
            .map(|name| one[name].as_str().unwrap_or_default());
        (manager, operation, subresource)
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_makes_changes_and_refuses() {
    let world = World::start().await;
    let path = format!("{MAPS}/m?fieldManager=one");
    let (code, made) = apply(&world, &path, &map("m", &json!({"a": "1"}))).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(managers(&made), [("one", "Apply", "")]);
    let (code, same) = apply(&world, &path, &map("m", &json!({"a": "1"}))).await;
    assert_eq!((code, &same["metadata"]), (200, &made["metadata"]), "no change, no new version");
    let (code, more) = apply(&world, &path, &map("m", &json!({"b": "1"}))).await;
    assert_eq!((code, &more["data"]), (200, &json!({"b": "1"})));
    let other = format!("{MAPS}/m?fieldManager=two");
    let (code, status) = apply(&world, &other, &map("m", &json!({"b": "2"}))).await;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")));
    assert_eq!(status["message"], "Apply failed with 1 conflict: conflict with \"one\": .data.b");
    assert_eq!(
        status["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"one\"",
            "field": ".data.b"}])
    );
    let forced = format!("{other}&force=true");
    let (code, taken) = apply(&world, &forced, &map("m", &json!({"b": "2"}))).await;
    assert_eq!((code, managers(&taken)), (200, vec![("two", "Apply", "")]), "{taken}");
    let dry = format!("{MAPS}/dry?fieldManager=one&dryRun=All");
    assert_eq!(apply(&world, &dry, &map("dry", &json!({"a": "1"}))).await.0, 201);
    assert_eq!(world.get(&format!("{MAPS}/dry")).await.0, 404);
    let cases = [
        (
            format!("{MAPS}/m"),
            map("m", &json!({})),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required \
             for apply patch",
        ),
        (
            path.clone(),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "m"}}),
            400,
            "invalid object type: v1, Kind=Secret",
        ),
        (
            path.clone(),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "datum": 1}),
            500,
            "failed to create typed patch object (/m; v1, Kind=ConfigMap): .datum: field not \
             declared in schema",
        ),
        (
            format!("{MAPS}/new?fieldManager=one"),
            json!({"apiVersion": "v1", "kind": "ConfigMap"}),
            400,
            "the name of the object (new based on URL) was undeterminable: name must be provided",
        ),
    ];
    for (path, config, code, message) in cases {
        let (got, status) = apply(&world, &path, &config).await;
        assert_eq!((got, status["message"].as_str().unwrap()), (code, message), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_leaves_its_owner() {
    let world = World::start().await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let path = format!("{DEPLOYMENTS}/d");
    let agent = [("content-type", "application/json"), ("user-agent", "tool/1.0 (x)")];
    let made = json_of(world.send("POST", DEPLOYMENTS, &agent, deployment.to_string()).await).await;
    assert_eq!(managers(&made), [("tool", "Update", "")]);
    let scale = json!({"spec": {"replicas": 3}});
    world.call("PATCH", &format!("{path}/scale?fieldManager=scaler"), scale).await;
    let status = json!({"status": {"observedGeneration": 1}});
    world.call("PATCH", &format!("{path}/status?fieldManager=controller"), status).await;
    let (_, now) = world.get(&path).await;
    let mut found = managers(&now);
    found.sort_unstable();
    assert_eq!(
        found,
        [("controller", "Update", "status"), ("scaler", "Update", "scale"), ("tool", "Update", ""),]
    );
    let (code, refused) = apply(&world, &format!("{path}?fieldManager=gitops"), &deployment).await;
    assert_eq!(code, 409);
    assert_eq!(
        refused["message"],
        "Apply failed with 1 conflict: conflict with \"scaler\" with subresource \"scale\" using \
         apps/v1: .spec.replicas"
    );
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "status": {"replicas": 3, "readyReplicas": 1}});
    let status = format!("{path}/status?fieldManager=operator&force=true");
    let (code, now) = apply(&world, &status, &config).await;
    assert_eq!((code, &now["status"]["readyReplicas"]), (200, &json!(1)), "{now}");
    assert_eq!(now["spec"]["replicas"], 3, "the spec stays");
    assert!(managers(&now).contains(&("operator", "Apply", "status")), "{now}");
    let (code, _) = apply(&world, &format!("{DEPLOYMENTS}/x/status?fieldManager=o"), &config).await;
    assert_eq!(code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_on_the_server() {
    if !has_kubectl() {
        return;
    }
    let world = World::start().await;
    let config = |value: &str| map("m", &json!({"a": value})).to_string();
    let run = async |arguments: &[&str], stdin: String| world.kubectl_with(arguments, &stdin).await;
    let (code, out, err) = run(&["apply", "--server-side", "-f", "-"], config("1")).await;
    assert_eq!((code, &*out), (0, "configmap/m serverside-applied\n"), "{err}");
    let (code, _, err) =
        run(&["apply", "-f", "-"], map("old", &json!({"a": "1"})).to_string()).await;
    assert_eq!(code, 0, "{err}");
    let changed = map("old", &json!({"a": "2"})).to_string();
    let (code, _, err) = run(&["apply", "--server-side", "-f", "-"], changed).await;
    assert_eq!(code, 0, "client-side apply is taken over: {err}");
    let (code, _, err) =
        run(&["apply", "--server-side", "--field-manager=x", "-f", "-"], config("2")).await;
    assert_eq!(code, 1);
    assert!(err.contains("conflict with \"kubectl\": .data.a"), "{err}");
    let (code, out, err) = run(
        &["apply", "--server-side", "--field-manager=x", "--force-conflicts", "-f", "-"],
        config("2"),
    )
    .await;
    assert_eq!((code, &*out), (0, "configmap/m serverside-applied\n"), "{err}");
    let (code, out, err) =
        run(&["diff", "--server-side", "--field-manager=x", "-f", "-"], config("3")).await;
    assert!(code == 1 && out.contains("+  a: \"3\""), "{code} {out} {err}");
    let out =
        world.kubectl_ok(&["get", "configmap", "m", "-o", "yaml", "--show-managed-fields"]).await;
    assert!(out.contains("f:data:") && out.contains("operation: Apply"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_apply_typed_objects_again_and_again() {
    use k8s_openapi::api::apps::v1::Deployment;
    use kube::api::{Api, Patch, PatchParams};
    let world = World::start().await;
    let api: Api<Deployment> = Api::namespaced(world.kube().await, "default");
    // As Go programs send it: with what their structs always write.
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "creationTimestamp": null},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "strategy": {}, "template": {
            "metadata": {"creationTimestamp": null, "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {},
                "ports": [{"containerPort": 80}],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}]}}},
        "status": {}});
    let params = PatchParams::apply("operator");
    let first = api.patch("d", &params, &Patch::Apply(&config)).await.unwrap();
    let again = api.patch("d", &params, &Patch::Apply(&config)).await.unwrap();
    assert_eq!(first.metadata.resource_version, again.metadata.resource_version);
    assert_eq!(first.metadata.managed_fields, again.metadata.managed_fields);
    assert_eq!(first.spec.as_ref().unwrap().replicas, Some(1), "defaults are set");
    let typed: Deployment = serde_json::from_value(config).unwrap();
    let typed = api.patch("d", &params, &Patch::Apply(&typed)).await.unwrap();
    assert_eq!(typed.metadata.generation, Some(1), "the typed form changes nothing of the spec");
    let mut fewer = typed.clone();
    fewer.metadata = kube::core::ObjectMeta { name: Some("d".to_owned()), ..Default::default() };
    fewer.status = None;
    let spec = fewer.spec.as_mut().unwrap();
    let container = &mut spec.template.spec.as_mut().unwrap().containers[0];
    container.env.as_mut().unwrap().remove(0);
    let fewer = api.patch("d", &params, &Patch::Apply(&fewer)).await.unwrap();
    let container = &fewer.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0];
    let names: Vec<&str> =
        container.env.iter().flatten().map(|variable| variable.name.as_str()).collect();
    assert_eq!((names, fewer.metadata.generation), (vec!["B"], Some(2)));
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "status": {"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]}});
    let shown = api.patch_status("d", &params, &Patch::Apply(&status)).await.unwrap();
    assert_eq!(shown.status.unwrap().replicas, Some(1));
    let more = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "status": {"conditions": [{"type": "Progressing", "status": "True"}]}});
    let other = PatchParams::apply("other");
    let shown = api.patch_status("d", &other, &Patch::Apply(&more)).await.unwrap();
    assert_eq!(shown.status.unwrap().conditions.unwrap().len(), 2, "conditions merge by type");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_checks_lists_by_the_older_document() {
    if !has_kubectl() {
        return;
    }
    let world = World::start().await;
    world.default_account("default").await;
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: one}\nspec: {ports: [{port: 80}]}\n";
    let item = service.replace('\n', "\n  ");
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {item}\n- apiVersion: v1\n  kind: ConfigMap\n  \
         metadata: {{name: two}}\n  data: {{a: b}}\n"
    );
    for (verb, what) in [("create", "created"), ("apply", "configured")] {
        let (code, out, err) = world.kubectl_with(&[verb, "-f", "-"], &list).await;
        assert_eq!(code, 0, "{err}");
        assert!(out.contains(&format!("service/one {what}")), "{out}");
        assert!(out.contains(&format!("configmap/two {what}")), "{out}");
    }
    let wrong = list.replace("port: 80", "prt: 80");
    let (code, _, err) = world.kubectl_with(&["create", "-f", "-"], &wrong).await;
    assert_eq!(code, 1);
    assert!(err.contains("unknown field \"prt\" in io.k8s.api.core.v1.ServicePort"), "{err}");
    let explain = ["explain", "pod.spec.affinity", "--output=plaintext-openapiv2"];
    let out = world.kubectl_ok(&explain).await;
    assert!(out.contains("scheduling constraints"), "{out}");
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_applied_through_their_scale() {
    let world = World::start().await;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i:1"}]}}},
    });
    let path = format!("{DEPLOYMENTS}/d?fieldManager=owner");
    assert_eq!(apply(&world, &path, &deployment).await.0, 201);
    let scale = |replicas: i32| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"},
            "spec": {"replicas": replicas}})
    };
    let scaler = format!("{DEPLOYMENTS}/d/scale?fieldManager=scaler");
    let (code, status) = apply(&world, &scaler, &scale(3)).await;
    assert_eq!(code, 409, "{status}");
    assert_eq!(
        status["message"],
        "Apply failed with 1 conflict: conflict with \"owner\": .spec.replicas"
    );
    let (code, taken) = apply(&world, &format!("{scaler}&force=true"), &scale(3)).await;
    assert_eq!(
        (code, &taken["kind"], &taken["spec"]["replicas"]),
        (200, &json!("Scale"), &json!(3))
    );
    let (_, now) = world.get(&format!("{DEPLOYMENTS}/d")).await;
    assert_eq!(now["spec"]["replicas"], 3);
    assert_eq!(managers(&now), [("owner", "Apply", ""), ("scaler", "Apply", "scale")]);
    let of_scaler = &now["metadata"]["managedFields"][1];
    assert_eq!(of_scaler["apiVersion"], "apps/v1");
    assert_eq!(of_scaler["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    // Whoever applies the whole object with other replicas now conflicts; without them, leaves them alone.
    let (code, status) = apply(&world, &path, &deployment).await;
    assert_eq!(code, 409, "{status}");
    assert!(
        status["message"].as_str().unwrap().contains("\"scaler\" with subresource \"scale\""),
        "{status}"
    );
    let mut without = deployment.clone();
    without["spec"].as_object_mut().unwrap().remove("replicas");
    let (code, left) = apply(&world, &path, &without).await;
    assert_eq!((code, &left["spec"]["replicas"]), (200, &json!(3)), "{left}");
    let (code, same) = apply(&world, &scaler, &scale(3)).await;
    assert_eq!(
        (code, &same["metadata"]["resourceVersion"]),
        (200, &left["metadata"]["resourceVersion"])
    );
    let other = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}});
    assert_eq!(apply(&world, &scaler, &other).await.0, 400);
    let gone = format!("{DEPLOYMENTS}/none/scale?fieldManager=scaler");
    let (code, status) = apply(&world, &gone, &scale(1)).await;
    assert_eq!(
        (code, &status["message"]),
        (404, &json!("deployments/scale.apps \"none\" not found"))
    );
}
