//! What clients are told about versions, patches, deletes, limits and waiting, in Kubernetes' words.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{Events, World, json_of};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

fn lease(name: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15}})
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

fn revision(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

/// What a request is answered: code, and message of the `Status`.
async fn told(world: &World, method: &str, path: &str, media: &str, body: &str) -> (u16, String) {
    let response = world.send(method, path, &[("content-type", media)], body.to_owned()).await;
    let code = response.status().as_u16();
    let status = json_of(response).await;
    (code, status["message"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_as_fresh_and_as_long_as_asked_for() {
    let world = World::start().await;
    let mut made = Vec::new();
    for name in ["a", "b", "c"] {
        made.push(world.create(MAPS, map(name)).await);
    }
    let (one, three) = (revision(&made[0]), revision(&made[2]));
    #[rustfmt::skip]
    let sizes = [
        (String::new(), 3),
        ("resourceVersion=0".into(), 3),
        ("resourceVersion=0&limit=1".into(), 3),
        ("resourceVersion=0&resourceVersionMatch=NotOlderThan&limit=2".into(), 3),
        (format!("resourceVersion={one}"), 3),
        (format!("resourceVersion={one}&resourceVersionMatch=NotOlderThan"), 3),
        (format!("resourceVersion={one}&resourceVersionMatch=Exact"), 1),
        (format!("resourceVersion={one}&limit=5"), 1),
        (format!("resourceVersion={three}&resourceVersionMatch=NotOlderThan&limit=2"), 2),
        ("limit=2&watch=false".into(), 2),
    ];
    for (query, size) in sizes {
        let (code, list) = world.get(&format!("{MAPS}?{query}")).await;
        assert_eq!(code, 200, "{query}: {list}");
        assert_eq!(list["items"].as_array().unwrap().len(), size, "{query}");
    }
    let (_, exact) =
        world.get(&format!("{MAPS}?resourceVersion={one}&resourceVersionMatch=Exact")).await;
    assert_eq!(revision(&exact), one);
    let invalid = "ListOptions.meta.k8s.io \"\" is invalid: ";
    let matching = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden";
    #[rustfmt::skip]
    let refused = [
        ("resourceVersion=abc", 400, "invalid resource version: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax".to_owned()),
        ("resourceVersionMatch=Exact", 422, format!("{invalid}{matching} unless resourceVersion is provided")),
        ("resourceVersion=0&resourceVersionMatch=Exact", 422, format!("{invalid}resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")),
        ("resourceVersion=1&resourceVersionMatch=Some", 422, format!("{invalid}resourceVersionMatch: Unsupported value: \"Some\": supported values: \"Exact\", \"NotOlderThan\", \"\"")),
        ("sendInitialEvents=true", 422, format!("{invalid}sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list")),
        ("watch=true&resourceVersionMatch=NotOlderThan", 422, format!("{invalid}{matching} for watch unless sendInitialEvents is provided")),
        ("watch=true&sendInitialEvents=true", 422, format!("{invalid}resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")),
        ("limit=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax".into()),
        ("continue=e30", 400, "invalid continue token: continue key is not valid: …".into()),
        ("continue=eyJ2IjoibWV0YS5rOHMuaW8vdjIiLCJydiI6MSwic3RhcnQiOiJhIn0", 400, "invalid continue token: continue key is not valid: server does not recognize this encoded version meta.k8s.io/v2".into()),
        ("continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MCwic3RhcnQiOiJhIn0", 400, "invalid continue token: continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)".into()),
        ("timeout=10", 400, "invalid timeout specified in the request URL - time: missing unit in duration \"10\"".into()),
    ];
    for (query, code, message) in refused {
        let (got, text) = told(&world, "GET", &format!("{MAPS}?{query}"), "", "").await;
        let same = match message.strip_suffix('…') {
            Some(start) => text.starts_with(start),
            None => text == message,
        };
        assert!(got == code && same, "{query}\n  wanted {code} {message}\n  got    {got} {text}");
    }
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let response = world.send("GET", &format!("{MAPS}?includeObject=All"), &table, "").await;
    assert_eq!(
        json_of(response).await["message"],
        "Unable to convert to Table as requested: includeObject: Invalid value: \"All\": must be \
         'Metadata', 'Object', 'None', or empty"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines)] // a table of cases
async fn patches_that_do_not_fit_are_told_as_kubernetes_tells_them() {
    let world = World::start().await;
    world.create(MAPS, map("m")).await;
    world.create(DEPLOYMENTS, deployment("d")).await;
    let before = world.store.view().revision();
    let (m, d) = (format!("{MAPS}/m"), format!("{DEPLOYMENTS}/d"));
    let rejected = "the server rejected our request due to an error in our request";
    let strict = |path: &str| format!("{path}?fieldValidation=Strict");
    let many = Value::Array(vec![json!({"op": "test", "path": "/a", "value": 1}); 10_001]);
    #[rustfmt::skip]
    let cases: Vec<(String, &str, String, u16, String)> = vec![
        (m.clone(), JSON_PATCH, json!([{"op": "test", "path": "/data/a", "value": "2"}]).to_string(), 422, rejected.into()),
        (m.clone(), JSON_PATCH, json!([{"op": "remove", "path": "/data/zz"}]).to_string(), 422, rejected.into()),
        (m.clone(), JSON_PATCH, json!([{"op": "jump", "path": "/data/a"}]).to_string(), 422, rejected.into()),
        (m.clone(), JSON_PATCH, "{}".into(), 400, "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp".into()),
        (m.clone(), JSON_PATCH, many.to_string(), 413, "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001".into()),
        (m.clone(), MERGE, "[]".into(), 400, "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}".into()),
        (m.clone(), MERGE, "{\"data\"".into(), 400, "error decoding patch: …".into()),
        (m.clone(), STRATEGIC, "[]".into(), 400, "json: cannot unmarshal array into Go value of type map[string]interface {}".into()),
        (m.clone(), STRATEGIC, json!({"metadata": {"labels": "x"}}).to_string(), 422, " \"\" is invalid: patch: Invalid value: \"map[metadata:map[labels:x]]\": cannot restore map from string".into()),
        (strict(&d), STRATEGIC, json!({"spec": {"replcas": 1}}).to_string(), 422, " \"\" is invalid: patch: Invalid value: \"map[spec:map[replcas:1]]\": strict decoding error: unknown field \"spec.replcas\"".into()),
        (strict(&d), MERGE, json!({"spec": {"replcas": 1}}).to_string(), 422, " \"\" is invalid: patch: Invalid value: \"{\\\"apiVersion\\\":…".into()),
        (strict(&d), MERGE, "{\"spec\": {\"paused\": true, \"paused\": false}}".into(), 422, " \"\" is invalid: patch: Invalid value: …".into()),
        (d.clone(), MERGE, json!({"spec": {"replicas": "x"}}).to_string(), 422, " \"\" is invalid: patch: Invalid value: …".into()),
        (d.clone(), STRATEGIC, json!({"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}).to_string(), 500, "map: map[image:x] does not contain declared merge key: name".into()),
        (d.clone(), STRATEGIC, json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}}).to_string(), 422, rejected.into()),
        (format!("{MAPS}/none"), MERGE, "{}".into(), 404, "configmaps \"none\" not found".into()),
        (m.clone(), MERGE, json!({"metadata": {"name": "other"}}).to_string(), 400, "the name of the object (other) does not match the name on the URL (m)".into()),
        (m.clone(), MERGE, json!({"metadata": {"resourceVersion": "1"}}).to_string(), 409, "Operation cannot be fulfilled on configmaps \"m\": the object has been modified; please apply your changes to the latest version and try again".into()),
        (format!("{m}?force=true"), MERGE, "{}".into(), 422, "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch".into()),
        (format!("{m}?fieldManager=a%07b"), MERGE, "{}".into(), 422, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\ab\": invalid character U+0007 (at position 1)".into()),
        (format!("{m}?fieldManager={}", "x".repeat(129)), MERGE, "{}".into(), 422, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes".into()),
        (format!("{m}?dryRun=Some"), MERGE, "{}".into(), 422, "PatchOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: …".into()),
    ];
    for (path, media, body, code, message) in cases {
        let (got, text) = told(&world, "PATCH", &path, media, &body).await;
        let same = match message.strip_suffix('…') {
            Some(start) => text.starts_with(start),
            None => text == message,
        };
        assert!(
            got == code && same,
            "{path} {media}\n  wanted {code} {message}\n  got    {got} {text}"
        );
    }
    assert_eq!(world.store.view().revision(), before, "nothing was changed");
    let patch = json!([{"op": "add", "path": "/data/b", "value": "2", "why": 1}]).to_string();
    let response = world.send("PATCH", &m, &[("content-type", JSON_PATCH)], patch).await;
    assert_eq!(response.status(), 200);
    let warning = response.headers()["warning"].to_str().unwrap();
    assert_eq!(warning, "299 - \"json patch unknown field \\\"[0].why\\\"\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_or_update_of_another_object_is_a_conflict() {
    let world = World::start().await;
    let made = world.create(MAPS, map("m")).await;
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let path = format!("{MAPS}/m");
    let conflict = "Operation cannot be fulfilled on";
    let (code, status) =
        world.call("DELETE", &path, json!({"preconditions": {"uid": "other"}})).await;
    assert_eq!(
        (code.as_u16(), status["message"].as_str().unwrap()),
        (
            409,
            &*format!(
                "{conflict} ConfigMap \"m\": the UID in the precondition (other) does not match \
                 the UID in record ({uid}). The object might have been deleted and then recreated"
            )
        )
    );
    let (code, status) =
        world.call("DELETE", &path, json!({"preconditions": {"resourceVersion": "1"}})).await;
    assert_eq!(
        (code.as_u16(), status["message"].as_str().unwrap()),
        (
            409,
            &*format!(
                "{conflict} ConfigMap \"m\": the ResourceVersion in the precondition (1) does not \
                 match the ResourceVersion in record ({}). The object might have been modified",
                revision(&made)
            )
        )
    );
    let mut other = map("m");
    other["metadata"]["uid"] = json!("other");
    let (code, status) = world.call("PUT", &path, other).await;
    assert_eq!(
        (code.as_u16(), status["message"].as_str().unwrap()),
        (
            409,
            &*format!(
                "{conflict} configmaps \"m\": StorageError: invalid object, Code: 4, Key: \
                 /registry/configmaps/default/m, ResourceVersion: 0, AdditionalErrorMsg: \
                 Precondition failed: UID in precondition: other, UID in object meta: {uid}"
            )
        )
    );
    let both = json!({"propagationPolicy": "Orphan", "orphanDependents": true});
    let (code, status) = world.call("DELETE", &path, both).await;
    assert_eq!(code, 422);
    assert_eq!(status["details"]["causes"][0]["field"], "propagationPolicy");
    let (code, gone) = world.call("DELETE", &format!("{path}?dryRun=All"), Value::Null).await;
    assert_eq!((code.as_u16(), &gone["details"]["uid"]), (200, &json!(uid)));
    assert_eq!(world.get(&path).await.0, 200, "a dry run deletes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_makes_what_may_be_made_so_and_only_for_who_may_create() {
    let world = World::start().await;
    let (code, status) = world.call("PUT", &format!("{DEPLOYMENTS}/d"), deployment("d")).await;
    assert_eq!((code.as_u16(), &status["reason"]), (404, &json!("NotFound")), "{status}");
    let path = format!("{LEASES}/l");
    let mut stale = lease("l");
    stale["metadata"]["resourceVersion"] = json!("7");
    let (code, made) = world.call("PUT", &path, stale).await;
    assert_eq!(code, 201, "{made}");
    let (code, status) = world.call("PUT", &path, lease("l")).await;
    assert_eq!(
        (code.as_u16(), status["message"].as_str().unwrap()),
        (
            422,
            "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid \
             value: 0: must be specified for an update"
        )
    );
    world.call("DELETE", &path, Value::Null).await;
    let (code, status) = world.call("PUT", &path, made).await;
    assert_eq!((code.as_u16(), &status["reason"]), (409, &json!("Conflict")), "{status}");
    let rules = json!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
        "verbs": ["update"]}]);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "changer"}, "rules": rules});
    world.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "changer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "changer"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}]});
    world.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    let jane = world.client_as(Some(("jane", &[])));
    let json = [("content-type", "application/json")];
    let response = world.send_with(&jane, "PUT", &path, &json, lease("l").to_string()).await;
    assert_eq!(response.status(), 403, "may change, may not create");
}

#[tokio::test(flavor = "multi_thread")]
async fn taken_names_are_told_with_their_reason() {
    let world = World::start().await;
    world.create(MAPS, map("m")).await;
    let mut both = map("m");
    both["metadata"]["generateName"] = json!("m-");
    let (code, status) = world.call("POST", MAPS, both).await;
    assert_eq!(
        (code.as_u16(), status["message"].as_str().unwrap()),
        (
            409,
            "configmaps \"m\" already exists, the server was not able to generate a unique name \
             for the object"
        )
    );
    assert_eq!(status["details"]["retryAfterSeconds"], 1);
    let mut kept = map("kept");
    kept["metadata"]["finalizers"] = json!(["example.com/wait"]);
    world.create(MAPS, kept).await;
    world.call("DELETE", &format!("{MAPS}/kept"), Value::Null).await;
    for query in ["", "?dryRun=All"] {
        let (code, status) = world.call("POST", &format!("{MAPS}{query}"), map("kept")).await;
        assert_eq!(
            (code.as_u16(), status["message"].as_str().unwrap()),
            (409, "object is being deleted: configmaps \"kept\" already exists")
        );
    }
    let mut owned = map("owned");
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "m", "uid": "u-1"});
    owned["metadata"]["ownerReferences"] = json!([owner, owner]);
    let response =
        world.send("POST", MAPS, &[("content-type", "application/json")], owned.to_string()).await;
    let warning = response.headers()["warning"].to_str().unwrap().to_owned();
    assert!(warning.contains("duplicate UID(s) observed: u-1"), "{warning}");
    assert_eq!(json_of(response).await["metadata"]["ownerReferences"], json!([owner]));
}

#[tokio::test(flavor = "multi_thread")]
async fn dry_runs_answer_and_change_nothing() {
    let world = World::start().await;
    world.create(DEPLOYMENTS, deployment("d")).await;
    let before = world.store.view().revision();
    let d = format!("{DEPLOYMENTS}/d");
    let mut five = deployment("d");
    five["spec"]["replicas"] = json!(5);
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": "d", "namespace": "default"}, "spec": {"replicas": 5}});
    let status = json!({"status": {"replicas": 5}});
    let cases = [
        ("POST", DEPLOYMENTS.to_owned(), deployment("new"), 201, "/spec/replicas", json!(1)),
        ("PUT", d.clone(), five.clone(), 200, "/spec/replicas", json!(5)),
        ("PATCH", d.clone(), json!({"spec": {"replicas": 5}}), 200, "/spec/replicas", json!(5)),
        ("PATCH", format!("{d}/status"), status, 200, "/status/replicas", json!(5)),
        ("PUT", format!("{d}/scale"), scale, 200, "/spec/replicas", json!(5)),
        ("DELETE", d.clone(), Value::Null, 200, "/status", json!("Success")),
        ("DELETE", DEPLOYMENTS.to_owned(), Value::Null, 200, "/items/0/metadata/name", json!("d")),
    ];
    for (method, path, body, code, pointer, want) in cases {
        let (got, answer) = world.call(method, &format!("{path}?dryRun=All"), body).await;
        assert_eq!(got.as_u16(), code, "{method} {path} {answer}");
        assert_eq!(answer.pointer(pointer), Some(&want), "{method} {path} {answer}");
    }
    assert_eq!(world.store.view().revision(), before, "nothing was changed");
}

/// A token of a service account that may do everything, for requests without a socket.
async fn token(world: &World) -> String {
    world.default_account("default").await;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]});
    world.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let order =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let issued = world.create(path, order).await;
    format!("Bearer {}", issued["status"]["token"].as_str().unwrap())
}

type Body = quorate_api_server::reply::Body;

fn request(method: &str, path: &str, token: &str, body: Body) -> http::Request<Body> {
    http::Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", token)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

fn never_ending() -> Body {
    use http_body_util::{BodyExt as _, StreamBody};
    StreamBody::new(futures::stream::pending()).boxed_unsync()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_limit_are_sent_away_but_for_administrators() {
    let world = std::sync::Arc::new(World::start().await);
    let token = token(&world).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..quorate_api_server::limits::WRITES_IN_FLIGHT_MAX {
        let (world, token) = (world.clone(), token.clone());
        waiting.spawn(async move {
            // One that is refused because the request below has its slot just then comes again.
            loop {
                let asked = request("POST", MAPS, &token, never_ending());
                if world.server.handle(asked).await.status() != 429 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    let refused = async {
        loop {
            let ended = http_body_util::BodyExt::boxed_unsync(http_body_util::BodyExt::map_err(
                http_body_util::Full::new(bytes::Bytes::from("{}")),
                |never: std::convert::Infallible| match never {},
            ));
            let response = world.server.handle(request("POST", MAPS, &token, ended)).await;
            if response.status() == 429 {
                return response;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(60), refused).await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(world.get(MAPS).await.0, 200, "reads have slots of their own");
    world.create(MAPS, map("by-an-administrator")).await;
    waiting.shutdown().await;
}

#[tokio::test]
async fn a_quiet_watch_gets_a_bookmark_every_minute() {
    use http_body_util::BodyExt as _;
    let world = World::start().await;
    let token = token(&world).await;
    let made = world.create(MAPS, map("m")).await;
    let path =
        format!("{MAPS}?watch=true&resourceVersion={}&allowWatchBookmarks=true", revision(&made));
    let empty = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut watch = world.server.handle(request("GET", &path, &token, empty)).await;
    assert_eq!(watch.status(), 200);
    tokio::time::pause();
    for _ in 0..2 {
        let before = tokio::time::Instant::now();
        let frame = watch.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        let event: Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!(event["type"], "BOOKMARK");
        assert_eq!(event["object"]["kind"], "ConfigMap");
        assert!(before.elapsed() >= Duration::from_secs(55), "{:?}", before.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_begin_and_end_as_asked_for() {
    let world = World::start().await;
    let made = world.create(MAPS, map("a")).await;
    world.create(MAPS, map("b")).await;
    let initial = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                   &allowWatchBookmarks=true&timeoutSeconds=1";
    let mut events = Events::of(world.send("GET", &format!("{MAPS}?{initial}"), &[], "").await);
    assert_eq!(events.brief().await.0, "ADDED");
    assert_eq!(events.brief().await, ("ADDED".into(), "b".into()));
    let end = events.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let last = events.next().await.unwrap();
    assert_eq!(last["type"], "BOOKMARK", "the end of the watch says where to go on");
    assert!(events.next().await.is_none(), "timeoutSeconds ends it");
    let one = format!("{MAPS}?watch=true&fieldSelector=metadata.name%3Da&resourceVersion=");
    let path = format!("{one}{}", revision(&made));
    let mut events = Events::of(world.send("GET", &path, &[], "").await);
    let labels = json!({"metadata": {"labels": {"on": "yes"}}});
    world.call("PATCH", &format!("{MAPS}/b"), labels.clone()).await;
    world.call("PATCH", &format!("{MAPS}/a"), labels).await;
    assert_eq!(events.brief().await, ("MODIFIED".into(), "a".into()));
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let mut rows = Events::of(world.send("GET", &format!("{one}0"), &table, "").await);
    let first = rows.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert!(!first["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    let meta = [("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")];
    let mut metas = Events::of(world.send("GET", &format!("{one}0"), &meta, "").await);
    let first = metas.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "PartialObjectMetadata");
    assert!(first["object"]["data"].is_null());
    let (code, status) =
        world.get(&format!("{MAPS}?watch=true&resourceVersion=99999999&timeoutSeconds=1")).await;
    assert_eq!((code.as_u16(), &status["reason"]), (504, &json!("Timeout")), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_takes_no_longer_than_its_timeout() {
    let world = World::start().await;
    let path = format!("{MAPS}?resourceVersion=99999999&timeout=300ms");
    let (code, message) = told(&world, "GET", &path, "", "").await;
    assert_eq!(
        (code, &*message),
        (504, "Timeout: request did not complete within the allotted timeout")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_methods_that_are_not_there_are_told_apart() {
    let world = World::start().await;
    world.create(MAPS, map("m")).await;
    #[rustfmt::skip]
    let cases = [
        ("GET", format!("{MAPS}/"), 200),
        ("GET", format!("{MAPS}/m/"), 200),
        ("GET", format!("{MAPS}/m?pretty=true"), 200),
        ("GET", format!("{MAPS}?limit=1&limit=x"), 200),
        ("GET", format!("{MAPS}/m/nothing"), 404),
        ("GET", format!("{MAPS}/m/status"), 404),
        ("GET", "/api/v1/configmaps/m".to_owned(), 404),
        ("GET", "/api/v2/configmaps".to_owned(), 404),
        ("GET", "/apis/apps/v9/deployments".to_owned(), 404),
        ("GET", "/nothing".to_owned(), 404),
        ("POST", "/api/v1/configmaps".to_owned(), 405),
        ("DELETE", "/api/v1/configmaps".to_owned(), 405),
        ("PATCH", MAPS.to_owned(), 405),
        ("OPTIONS", MAPS.to_owned(), 405),
        ("DELETE", "/version".to_owned(), 405),
    ];
    for (method, path, code) in cases {
        let response = world.send(method, &path, &[("audit-id", "mine")], "").await;
        assert_eq!(response.status(), code, "{method} {path}");
        let headers = response.headers();
        assert_eq!(headers["audit-id"], "mine", "{method} {path}");
        assert_eq!(headers["cache-control"], "no-cache, private", "{method} {path}");
        assert!(headers.contains_key("date"), "{method} {path}");
        assert_eq!(headers["content-type"], "application/json", "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_table_is_not_shown_in_one() {
    let world = World::start().await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}})
    .to_string();
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    for (accept, code) in [(table.to_owned(), 406), (format!("{table},application/json"), 201)] {
        let headers = [("accept", &*accept), ("content-type", "application/json")];
        let response = world.send("POST", path, &headers, review.clone()).await;
        assert_eq!(response.status(), code, "{accept}");
        let kind = if code == 406 { "Status" } else { "SelfSubjectAccessReview" };
        assert_eq!(json_of(response).await["kind"], kind);
    }
    world.create(DEPLOYMENTS, deployment("d")).await;
    let path = format!("{DEPLOYMENTS}/d/scale");
    let shown = json_of(world.send("GET", &path, &[("accept", table)], "").await).await;
    let columns = shown["columnDefinitions"].as_array().unwrap();
    let names: Vec<&str> = columns.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(shown["rows"][0]["cells"][0], "d");
    assert_eq!(shown["rows"][0]["object"]["kind"], "PartialObjectMetadata");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_keep_is_asked_for_once() {
    let world = World::start().await;
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let both = format!("{aggregated},application/json");
    let (_, index) = world.get("/openapi/v3").await;
    let kept = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let v2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let cases = [
        ("/api", &*both, aggregated, "public, max-age=0"),
        ("/apis", &*both, aggregated, "public, max-age=0"),
        ("/apis", "application/json", "application/json", "public, max-age=0"),
        ("/apis/apps/v1", "application/json", "application/json", "public, max-age=0"),
        ("/openapi/v2", "application/json", "application/json", "public, max-age=0"),
        ("/openapi/v2", v2, &v2.replace('@', "."), "public, max-age=0"),
        (kept, "application/json", "application/json", "public, immutable"),
    ];
    for (path, accept, content_type, cache) in cases {
        let response = world.send("GET", path, &[("accept", accept)], "").await;
        assert_eq!(response.status(), 200, "{path}");
        let headers = response.headers().clone();
        assert_eq!(headers["content-type"], content_type, "{path}");
        assert_eq!(headers["cache-control"], cache, "{path}");
        let tag = headers["etag"].to_str().unwrap();
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 60, "{path} {tag}");
        let again = [("accept", accept), ("if-none-match", tag)];
        let response = world.send("GET", path, &again, "").await;
        assert_eq!(response.status(), 304, "{path}");
        assert_eq!(response.headers()["etag"], tag, "{path}");
    }
    let old = "/openapi/v3/apis/apps/v1?hash=00";
    let response = world.send("GET", old, &[], "").await;
    assert_eq!(
        (response.status().as_u16(), response.headers()["location"].to_str().unwrap()),
        (301, kept)
    );
    let protobuf = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
    let response = world.send("GET", kept, &[("accept", protobuf)], "").await;
    assert_eq!(response.status(), 406);
    let response = world.send("GET", kept, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
}
