//! What clients see, as stories over real HTTPS.

mod common;

use common::{Events, World, bytes_of, json_of};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines)] // a table of cases
async fn bad_input_gets_a_status_and_changes_nothing() {
    let world = World::start().await;
    world.create(MAPS, map("there")).await;
    let before = world.store.view().revision();
    let deployment = |replicas: i64| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
        .to_string()
    };
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let json = "application/json";
    let mut stale = map("there");
    stale["metadata"]["resourceVersion"] = json!("1");
    let mut unknown = map("x");
    unknown["datum"] = json!(1);
    let mut bad_label = map("x");
    bad_label["metadata"]["labels"] = json!({"a b": "c"});
    let mut other_kind = map("x");
    other_kind["kind"] = json!("Secret");
    let long = format!("{MAPS}?continue=nonsense&limit=1");
    let selector = format!("{MAPS}?labelSelector=a%3D%3D%3Db");
    let exact = format!("{MAPS}?resourceVersionMatch=Exact");
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let cases: Vec<(&str, &str, &str, String, u16, &str, &str)> = vec![
        ("POST", MAPS, json, "{\"apiVersion\": ".into(), 400, "BadRequest", ""),
        ("POST", MAPS, "application/yaml", "a: [".into(), 400, "BadRequest", ""),
        ("POST", &strict, json, unknown.to_string(), 400, "BadRequest", "unknown field \"datum\""),
        ("POST", MAPS, json, other_kind.to_string(), 400, "BadRequest", ""),
        (
            "POST",
            MAPS,
            json,
            map("No_Good").to_string(),
            422,
            "Invalid",
            "metadata.name: Invalid value",
        ),
        (
            "POST",
            MAPS,
            json,
            bad_label.to_string(),
            422,
            "Invalid",
            "metadata.labels: Invalid value",
        ),
        (
            "POST",
            MAPS,
            json,
            map("there").to_string(),
            409,
            "AlreadyExists",
            "configmaps \"there\" already exists",
        ),
        (
            "PUT",
            "/api/v1/namespaces/default/configmaps/there",
            json,
            stale.to_string(),
            409,
            "Conflict",
            "the object has been modified; please apply your changes to the latest version and try again",
        ),
        (
            "POST",
            deployments,
            json,
            deployment(-1),
            422,
            "Invalid",
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        ("GET", &selector, json, String::new(), 400, "BadRequest", ""),
        ("GET", &long, json, String::new(), 400, "BadRequest", "continue key is not valid"),
        (
            "GET",
            "/api/v1/namespaces/default/gadgets",
            json,
            String::new(),
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/none",
            json,
            String::new(),
            404,
            "NotFound",
            "configmaps \"none\" not found",
        ),
        (
            "POST",
            "/api/v1/namespaces/default/configmaps/there",
            json,
            "{}".into(),
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        ("POST", MAPS, "text/plain", "x".into(), 415, "UnsupportedMediaType", ""),
        (
            "PATCH",
            "/api/v1/namespaces/default/configmaps/there",
            json,
            "{}".into(),
            415,
            "UnsupportedMediaType",
            "",
        ),
        (
            "POST",
            "/api/v1/namespaces/nowhere/configmaps",
            json,
            map("x").to_string(),
            404,
            "NotFound",
            "namespaces \"nowhere\" not found",
        ),
        ("POST", MAPS, json, "x".repeat(3 * 1024 * 1024 + 1), 413, "RequestEntityTooLarge", ""),
        (
            "GET",
            &exact,
            json,
            String::new(),
            422,
            "Invalid",
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
    ];
    for (method, path, content_type, body, code, reason, text) in cases {
        let response = world.send(method, path, &[("content-type", content_type)], body).await;
        let got = response.status();
        let status = json_of(response).await;
        assert_eq!(
            (got.as_u16(), status["reason"].as_str()),
            (code, Some(reason)),
            "{method} {path} {status}"
        );
        assert_eq!(
            (status["kind"].as_str(), status["code"].as_u64()),
            (Some("Status"), Some(code.into()))
        );
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains(text), "{method} {path}: {message}");
    }
    assert_eq!(world.store.view().revision(), before, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_happens_and_selectors_turn_it() {
    let world = World::start().await;
    let first = world.create(MAPS, map("first")).await;
    let revision = first["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let path = format!("{MAPS}?watch=true&resourceVersion={revision}&labelSelector=on%3Dyes");
    let mut chosen = Events::of(world.send("GET", &path, &[], "").await);
    let mut all = Events::of(world.send("GET", &format!("{MAPS}?watch=true"), &[], "").await);
    assert_eq!(all.brief().await, ("ADDED".into(), "first".into()));
    let one = format!("{MAPS}/first");
    let label = |value: Value| json!({"metadata": {"labels": {"on": value}}});
    let (code, _) = world.call("PATCH", &one, label(json!("yes"))).await;
    assert_eq!(code, 200);
    assert_eq!(chosen.brief().await, ("ADDED".into(), "first".into()));
    world.call("PATCH", &one, json!({"data": {"a": "2"}})).await;
    assert_eq!(chosen.brief().await, ("MODIFIED".into(), "first".into()));
    world.call("PATCH", &one, label(Value::Null)).await;
    assert_eq!(chosen.brief().await, ("DELETED".into(), "first".into()));
    for _ in 0..3 {
        assert_eq!(all.brief().await, ("MODIFIED".into(), "first".into()));
    }
    let (_, status) = world.call("DELETE", &one, Value::Null).await;
    assert_eq!(status["status"], "Success");
    assert_eq!(status["details"]["uid"], first["metadata"]["uid"]);
    assert_eq!(all.brief().await, ("DELETED".into(), "first".into()));
    let initial = format!(
        "{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&\
         allowWatchBookmarks=true&timeoutSeconds=1"
    );
    world.create(MAPS, map("second")).await;
    let mut streamed = Events::of(world.send("GET", &initial, &[], "").await);
    assert_eq!(streamed.brief().await, ("ADDED".into(), "second".into()));
    let end = streamed.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(streamed.next().await.unwrap()["type"], "BOOKMARK", "the last one, at the timeout");
    assert!(streamed.next().await.is_none());
    let lead = world.store.lead().unwrap();
    let maps = quorate_state_machine::GroupResource::new("", "configmaps");
    lead.compact(vec![(maps, world.store.view().revision())]).await.unwrap();
    let mut late = Events::of(world.send("GET", &path, &[], "").await);
    let error = late.next().await.unwrap();
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(error["object"]["reason"], "Expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_one_state() {
    let world = World::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        world.create(MAPS, map(name)).await;
    }
    let (_, page) = world.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(page["metadata"]["remainingItemCount"], 3);
    world.call("DELETE", &format!("{MAPS}/d"), Value::Null).await;
    world.create(MAPS, map("aa")).await;
    let mut names = Vec::new();
    let mut page = page;
    loop {
        for item in page["items"].as_array().unwrap() {
            names.push(item["metadata"]["name"].as_str().unwrap().to_owned());
        }
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        let (code, next) = world.get(&format!("{MAPS}?limit=2&continue={token}")).await;
        assert_eq!(code, 200, "{next}");
        page = next;
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let (_, page) = world.get(&format!("{MAPS}?limit=1")).await;
    let token = page["metadata"]["continue"].as_str().unwrap();
    world.create(MAPS, map("later")).await;
    let maps = quorate_state_machine::GroupResource::new("", "configmaps");
    let lead = world.store.lead().unwrap();
    lead.compact(vec![(maps, world.store.view().revision())]).await.unwrap();
    let (code, gone) = world.get(&format!("{MAPS}?limit=1&continue={token}")).await;
    assert_eq!((code.as_u16(), gone["reason"].as_str()), (410, Some("Expired")), "{gone}");
    let fresh = gone["metadata"]["continue"].as_str().unwrap();
    let (code, page) = world.get(&format!("{MAPS}?limit=9&continue={fresh}")).await;
    assert_eq!((code.as_u16(), page["items"].as_array().unwrap().len()), (200, 5), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_get_addresses_that_no_other_has() {
    let world = World::start().await;
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, spec: Value| {
        let mut object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        object
    };
    let one = world.create(path, service("one", json!({}))).await;
    let ip = one["spec"]["clusterIP"].as_str().unwrap();
    assert!(ip.starts_with("10.43."), "{ip}");
    assert_eq!(one["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(one["spec"]["ipFamilies"], json!(["IPv4"]));
    let (code, status) = world.call("POST", path, service("two", json!({"clusterIP": ip}))).await;
    assert_eq!(code, 422);
    let message = status["message"].as_str().unwrap();
    assert!(
        message.ends_with(&format!("failed to allocate IP {ip}: provided IP is already allocated")),
        "{message}"
    );
    let (code, status) =
        world.call("POST", path, service("two", json!({"clusterIP": "192.168.0.1"}))).await;
    assert_eq!(code, 422);
    assert!(status["message"].as_str().unwrap().contains("The range of valid IPs is 10.43.0.0/16"));
    let headless = world.create(path, service("headless", json!({"clusterIP": "None"}))).await;
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let node_port = world.create(path, service("np", json!({"type": "NodePort"}))).await;
    let port = node_port["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30_000..=32_767).contains(&port));
    let taken = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    let (code, status) = world.call("POST", path, service("np2", taken)).await;
    assert_eq!(code, 422);
    assert!(status["message"].as_str().unwrap().contains("provided port is already allocated"));
    world.call("DELETE", &format!("{path}/one"), Value::Null).await;
    world.create(path, service("again", json!({"clusterIP": ip}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_admitted_bound_and_deleted_with_grace() {
    let world = World::start().await;
    let path = "/api/v1/namespaces/default/pods";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]}});
    let (code, status) = world.call("POST", path, pod.clone()).await;
    assert_eq!(code, 403, "{status}");
    assert!(status["message"].as_str().unwrap().ends_with(
        "error looking up service account default/default: serviceaccount \"default\" not found"
    ));
    world.default_account("default").await;
    let made = world.create(path, pod).await;
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("p-") && name.len() == 7, "{name}");
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    let mount = &made["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(made["spec"]["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&made["spec"]["priority"], &made["status"]["phase"]),
        (&json!(0), &json!("Pending"))
    );
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"kind": "Node", "name": "n1"}});
    let (code, status) =
        world.call("POST", &format!("{path}/{name}/binding"), binding.clone()).await;
    assert_eq!((code.as_u16(), &status["status"]), (201, &json!("Success")), "{status}");
    let (code, status) = world.call("POST", &format!("{path}/{name}/binding"), binding).await;
    assert_eq!(code, 409, "{status}");
    let (code, dying) = world.call("DELETE", &format!("{path}/{name}"), Value::Null).await;
    assert_eq!(
        (code.as_u16(), &dying["metadata"]["deletionGracePeriodSeconds"]),
        (200, &json!(30)),
        "{dying}"
    );
    let (code, _) =
        world.call("DELETE", &format!("{path}/{name}"), json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(code, 200);
    assert_eq!(world.get(&format!("{path}/{name}")).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_do_what() {
    let world = World::start().await;
    let jane = world.client_as(Some(("jane", &["dev"])));
    let response = world.send_with(&jane, "GET", MAPS, &[], "").await;
    assert_eq!(response.status(), 403);
    assert_eq!(
        json_of(response).await["message"],
        "configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \
         \"\" in the namespace \"default\""
    );
    let nobody = world.client_as(None);
    for (path, code) in
        [("/livez", 200), ("/version", 200), ("/api/v1/nodes", 403), ("/metrics", 403)]
    {
        assert_eq!(world.send_with(&nobody, "GET", path, &[], "").await.status(), code, "{path}");
    }
    let response =
        world.send_with(&nobody, "GET", MAPS, &[("authorization", "Bearer nonsense")], "").await;
    assert_eq!(response.status(), 401);
    world
        .create(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": "dev"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "Group", "name": "dev", "apiGroup": "rbac.authorization.k8s.io"},
                    {"kind": "ServiceAccount", "name": "default", "namespace": "default"}]}),
        )
        .await;
    assert_eq!(world.send_with(&jane, "GET", MAPS, &[], "").await.status(), 200);
    world.default_account("default").await;
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let issued = world.create(token, request).await;
    let bearer = format!("Bearer {}", issued["status"]["token"].as_str().unwrap());
    let as_account = [("authorization", bearer.as_str())];
    assert_eq!(world.send_with(&nobody, "GET", MAPS, &as_account, "").await.status(), 200);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": issued["status"]["token"]}});
    let review = world.create("/apis/authentication.k8s.io/v1/tokenreviews", review).await;
    assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:default:default");
    world.call("DELETE", "/api/v1/namespaces/default/serviceaccounts/default", Value::Null).await;
    assert_eq!(world.send_with(&nobody, "GET", MAPS, &as_account, "").await.status(), 401);
    let response = world.send("GET", MAPS, &[("impersonate-user", "joe")], "").await;
    assert_eq!(response.status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_secret_counts_while_the_secret_holds_it() {
    let world = World::start().await;
    world.default_account("default").await;
    let account = world.get("/api/v1/namespaces/default/serviceaccounts/default").await.1;
    let uid = account["metadata"]["uid"].as_str().unwrap();
    let tokens = quorate_api_server::authn::SecretTokens::new(&world.account_keys).unwrap();
    let token = tokens.token(("default", "default", uid), "tok").unwrap();
    let review = |token: &str| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token}})
    };
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    assert_ne!(world.create(reviews, review(&token)).await["status"]["authenticated"], true);
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = |token: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": "tok",
                "annotations": {"kubernetes.io/service-account.name": "default"}},
            "stringData": {"token": token}})
    };
    world.create(secrets, secret(&token)).await;
    let status = &world.create(reviews, review(&token)).await["status"];
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:default", "{status}");
    assert_eq!(status["user"]["uid"], uid);
    let mut elsewhere = review(&token);
    elsewhere["spec"]["audiences"] = json!(["vault"]);
    assert_ne!(world.create(reviews, elsewhere).await["status"]["authenticated"], true);
    world.call("PUT", &format!("{secrets}/tok"), secret("another")).await;
    assert_ne!(world.create(reviews, review(&token)).await["status"]["authenticated"], true);
    world.call("PUT", &format!("{secrets}/tok"), secret(&token)).await;
    assert_eq!(world.create(reviews, review(&token)).await["status"]["authenticated"], true);
    world.call("DELETE", &format!("{secrets}/tok"), Value::Null).await;
    assert_ne!(world.create(reviews, review(&token)).await["status"]["authenticated"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_the_form_that_is_asked_for() {
    let world = World::start().await;
    world.create(MAPS, map("a")).await;
    let accept = |value: &'static str| [("accept", value)];
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let answer = json_of(world.send("GET", MAPS, &accept(table), "").await).await;
    assert_eq!((&answer["kind"], &answer["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
    assert_eq!(answer["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let metadata = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let one = format!("{MAPS}/a");
    let answer = json_of(world.send("GET", &one, &accept(metadata), "").await).await;
    assert_eq!((&answer["kind"], &answer["data"]), (&json!("PartialObjectMetadata"), &Value::Null));
    let response = world.send("GET", &one, &accept("application/yaml"), "").await;
    let yaml = String::from_utf8(bytes_of(response).await.to_vec()).unwrap();
    assert!(yaml.contains("kind: ConfigMap"), "{yaml}");
    assert_eq!(world.send("GET", &one, &accept("image/png"), "").await.status(), 406);
    let mut big = map("big");
    big["data"]["a"] = json!("x".repeat(200 * 1024));
    world.create(MAPS, big).await;
    let response = world.send("GET", MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let mut warned = map("warned");
    warned["datum"] = json!(1);
    let response =
        world.send("POST", MAPS, &[("content-type", "application/json")], warned.to_string()).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["warning"], "299 - \"unknown field \\\"datum\\\"\"");
    // Ready when the default roles are there.
    for _ in 0..600 {
        if world.send("GET", "/readyz", &[], "").await.status() == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for path in
        ["/readyz?verbose", "/livez/ping", "/healthz?exclude=log", "/openapi/v3", "/metrics"]
    {
        assert_eq!(world.send("GET", path, &[], "").await.status(), 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_seen_in_both_groups() {
    let world = World::start().await;
    let old = "/api/v1/namespaces/default/events";
    let new = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Started", "message": "it runs", "type": "Normal",
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z"});
    world.create(old, event).await;
    let (_, served) = world.get(&format!("{new}/e")).await;
    assert_eq!(served["apiVersion"], "events.k8s.io/v1", "{served}");
    assert_eq!((&served["note"], &served["regarding"]["name"]), (&json!("it runs"), &json!("p")));
    let (_, chosen) = world.get(&format!("{old}?fieldSelector=involvedObject.name%3Dp")).await;
    assert_eq!(chosen["items"].as_array().unwrap().len(), 1, "{chosen}");
    let (_, none) = world.get(&format!("{old}?fieldSelector=involvedObject.name%3Dq")).await;
    assert_eq!(none["items"].as_array().unwrap().len(), 0, "{none}");
    let (_, listed) = world.get(&format!("{new}?fieldSelector=regarding.name%3Dp")).await;
    assert_eq!(listed["items"][0]["note"], "it runs", "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_when_its_finalizer_goes() {
    let world = World::start().await;
    let namespaces = "/api/v1/namespaces";
    let made = world
        .create(
            namespaces,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        )
        .await;
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    let path = format!("{namespaces}/shop");
    let (code, going) = world.call("DELETE", &path, Value::Null).await;
    assert_eq!((code.as_u16(), &going["status"]["phase"]), (200, &json!("Terminating")), "{going}");
    let (code, status) = world.call("POST", &format!("{path}/configmaps"), map("late")).await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        "configmaps \"late\" is forbidden: unable to create new content in namespace shop because \
         it is being terminated"
    );
    let mut emptied = going;
    emptied["spec"]["finalizers"] = json!([]);
    let (code, _) = world.call("PUT", &format!("{path}/finalize"), emptied).await;
    assert_eq!(code, 200);
    assert_eq!(world.get(&path).await.0, 404);
    let (code, status) = world.call("DELETE", "/api/v1/namespaces/default", Value::Null).await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_selector_hides_does_not_hold_a_watch_up() {
    use quorate_store::{Admit as _, Write};
    let world = World::start().await;
    let path = format!("{MAPS}?watch=true&labelSelector=on%3Dyes");
    let mut chosen = Events::of(world.send("GET", &path, &[], "").await);
    let view = world.store.view();
    let admit = world.server.admit();
    let mut ops = Vec::new();
    for number in 0..1100 {
        let mut object = map(&format!("m-{number}"));
        object["metadata"]["namespace"] = json!("default");
        if number == 1099 {
            object["metadata"]["labels"] = json!({"on": "yes"});
        }
        let resource = quorate_state_machine::GroupResource::new("", "configmaps");
        let op = admit.admit(&view, "test", Write::Create { resource, object }).await.unwrap();
        ops.extend(op);
    }
    world.store.write(ops).await.unwrap();
    assert_eq!(chosen.brief().await, ("ADDED".into(), "m-1099".into()));
}
