//! What is particular to kinds, over HTTPS: addresses of services, tokens, reviews, admission,
//! grants, warnings. Texts are Kubernetes'.
// Helpers are no test functions, to which the allowance of unwrap is bound.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::too_many_lines, reason = "tables of cases")]

mod common;

use common::{World, json_of};
use serde_json::{Value, json};

const NS: &str = "/api/v1/namespaces/default";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const AUTHZ: &str = "/apis/authorization.k8s.io/v1";
const TOKEN: &str = "/api/v1/namespaces/default/serviceaccounts/default/token";

fn object(version: &str, kind: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
    json_merge(&mut object, &rest);
    object
}

fn json_merge(target: &mut Value, patch: &Value) {
    match (target.as_object_mut(), patch.as_object()) {
        (Some(map), Some(patch)) => {
            for (key, value) in patch {
                json_merge(map.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        _ => *target = patch.clone(),
    }
}

fn service(name: &str, spec: Value) -> Value {
    let mut object = object("v1", "Service", name, json!({"spec": {"ports": [{"port": 80}]}}));
    json_merge(&mut object, &json!({"spec": spec}));
    object
}

fn pod(name: &str, spec: Value) -> Value {
    let mut object = object("v1", "Pod", name, json!({}));
    json_merge(
        &mut object,
        &json!({"spec": {"containers": [{"name": "c", "image": "example.com/i:1"}]}}),
    );
    json_merge(&mut object, &json!({"spec": spec}));
    object
}

/// The request is refused with this code and message.
async fn refused(world: &World, (method, path): (&str, &str), body: Value, code: u16, want: &str) {
    let (got, status) = world.call(method, path, body).await;
    assert_eq!((got.as_u16(), status["message"].as_str().unwrap_or_default()), (code, want));
}

async fn warnings(world: &World, method: &str, path: &str, body: Value) -> Vec<String> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = world.send(method, path, &[("content-type", "application/json")], body).await;
    assert!(response.status().is_success(), "{method} {path}: {}", response.status());
    let texts = response.headers().get_all("warning").iter();
    texts.map(|text| text.to_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_travel_in_headers() {
    let world = World::start().await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {
        "nodeSelector": {"beta.kubernetes.io/os": "linux"},
        "containers": [{"name": "c", "image": "i:1"}]}});
    let deployment = object(
        "apps/v1",
        "Deployment",
        "d",
        json!({"spec":
        {"selector": {"matchLabels": {"a": "b"}}, "template": template}}),
    );
    let path = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(
        warnings(&world, "POST", path, deployment.clone()).await,
        [
            "299 - \"spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; \
          use \\\"kubernetes.io/os\\\" instead\""
        ]
    );
    // Nothing new: nothing to say.
    let one = format!("{path}/d");
    assert_eq!(warnings(&world, "PUT", &one, deployment).await, Vec::<String>::new());
    let deprecated =
        "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
    let path = format!("{NS}/endpoints");
    assert_eq!(warnings(&world, "GET", &path, Value::Null).await, [deprecated]);
    let missing = world.send("GET", &format!("{path}/no"), &[], "").await;
    assert_eq!(missing.status(), 404);
    assert_eq!(missing.headers()["warning"], deprecated);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_get_addresses_and_ports() {
    let world = World::start().await;
    let path = format!("{NS}/services");
    let first = world.create(&path, service("first", json!({}))).await;
    let spec = &first["spec"];
    assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
    assert_eq!(spec["ipFamilyPolicy"], "SingleStack");
    assert_eq!(spec["clusterIPs"], json!([spec["clusterIP"]]));
    let taken = spec["clusterIP"].as_str().unwrap();
    let invalid = |name: &str, why: &str| format!("Service \"{name}\" is invalid: {why}");
    let node_port =
        |port: u32| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    world.create(&path, service("ported", node_port(30123))).await;
    for (spec, why) in [
        (
            json!({"clusterIP": taken}),
            format!(
                "spec.clusterIPs: Invalid value: [\"{taken}\"]: failed to allocate IP {taken}: \
                 provided IP is already allocated"
            ),
        ),
        (
            node_port(30123),
            "spec.ports[0].nodePort: Invalid value: 30123: provided port is already allocated"
                .to_owned(),
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30124}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"
                .to_owned(),
        ),
        (
            node_port(80),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. \
             The range of valid ports is 30000-32767"
                .to_owned(),
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not \
             configured for dual-stack services"
                .to_owned(),
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"
                .to_owned(),
        ),
        (
            json!({"clusterIP": "fd00::1"}),
            "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this \
             cluster"
                .to_owned(),
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv6"]}),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or \
             'PreferDualStack' when multiple IP families are specified"
                .to_owned(),
        ),
    ] {
        let want = invalid("other", &why);
        refused(&world, ("POST", &path), service("other", spec), 422, &want).await;
    }
    let headless = json!({"clusterIP": "None", "selector": {"a": "b"}});
    let headless = world.create(&path, service("headless", headless)).await;
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(headless["spec"]["ipFamilyPolicy"], "SingleStack");
    let free = world.create(&path, service("free", json!({"clusterIP": "None"}))).await;
    assert_eq!(free["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(free["spec"]["ipFamilyPolicy"], "RequireDualStack");
    let prefer = json!({"ipFamilyPolicy": "PreferDualStack"});
    let prefer = world.create(&path, service("prefer", prefer)).await;
    assert_eq!(prefer["spec"]["ipFamilies"], json!(["IPv4"]));
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
    let local = world.create(&path, service("local", local)).await;
    assert!(local["spec"]["healthCheckNodePort"].as_i64().unwrap_or(0) >= 30000, "{local}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_change_their_type() {
    let world = World::start().await;
    let path = format!("{NS}/services");
    let node_port = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30123}]});
    let one = format!("{path}/one");
    let made = world.create(&path, service("one", node_port.clone())).await;
    // Without a type it keeps its address and gives back its port.
    let mut plain = made.clone();
    plain["spec"]["type"] = json!("ClusterIP");
    let (code, plain) = world.call("PUT", &one, plain).await;
    assert_eq!(code, 200, "{plain}");
    assert_eq!(plain["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    assert_eq!(plain["spec"]["ports"][0]["nodePort"], Value::Null);
    world.create(&path, service("two", node_port)).await;
    refused(
        &world,
        ("PUT", &one),
        service("one", json!({"clusterIP": "10.9.9.9"})),
        422,
        "Service \"one\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.9.9.9\"]: may not \
         change once set",
    )
    .await;
    let mut external = plain;
    external["spec"]["type"] = json!("ExternalName");
    external["spec"]["externalName"] = json!("example.com");
    let (code, external) = world.call("PUT", &one, external).await;
    assert_eq!(code, 200, "{external}");
    assert_eq!(external["spec"]["clusterIP"], Value::Null);
    // Its address is free again.
    let again = json!({"clusterIP": made["spec"]["clusterIP"]});
    world.create(&path, service("three", again)).await;
    // A PUT makes what is not there; who needs no balancer any more has none.
    let four = format!("{path}/four");
    let (code, balanced) =
        world.call("PUT", &four, service("four", json!({"type": "LoadBalancer"}))).await;
    assert_eq!(code, 201, "{balanced}");
    let mut balanced = balanced;
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}});
    let (code, mut balanced) = world.call("PUT", &format!("{four}/status"), balanced).await;
    assert_eq!(code, 200, "{balanced}");
    assert_eq!(balanced["status"]["loadBalancer"]["ingress"][0]["ip"], "203.0.113.1");
    balanced["spec"]["type"] = json!("ClusterIP");
    let (code, plain) = world.call("PUT", &four, balanced).await;
    assert_eq!((code.as_u16(), &plain["status"]), (200, &json!({"loadBalancer": {}})), "{plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_range_of_a_node_has_two_names() {
    let world = World::start().await;
    let (one, two) = ("10.7.1.0/24", "10.7.2.0/24");
    let cases = [
        (json!({"podCIDR": one}), one),
        (json!({"podCIDRs": [one]}), one),
        (json!({"podCIDR": two, "podCIDRs": [one]}), two),
    ];
    for (number, (spec, wanted)) in cases.into_iter().enumerate() {
        let node = object("v1", "Node", &format!("n{number}"), json!({"spec": spec}));
        let node = world.create("/api/v1/nodes", node).await;
        assert_eq!(node["spec"]["podCIDR"], wanted);
        assert_eq!(node["spec"]["podCIDRs"], json!([wanted]));
    }
    let bad = object("v1", "Node", "bad", json!({"spec": {"podCIDR": "x"}}));
    let want = "Node \"bad\" is invalid: spec.podCIDRs[0]: Invalid value: \"x\": must be a valid CIDR \
                value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    refused(&world, ("POST", "/api/v1/nodes"), bad, 422, want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_completed_and_refused() {
    let world = World::start().await;
    world.default_account("default").await;
    let path = format!("{NS}/pods");
    let made = world.create(&path, pod("p", json!({}))).await;
    let spec = &made["spec"];
    let volume = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-") && volume.len() == 21, "{volume}");
    assert_eq!(
        spec["volumes"],
        json!([{"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt",
                           "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef":
                {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}])
    );
    assert_eq!(
        spec["containers"][0]["volumeMounts"],
        json!([{"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                "name": volume, "readOnly": true}])
    );
    let toleration = |key: &str| {
        json!({"effect": "NoExecute", "key": format!("node.kubernetes.io/{key}"),
               "operator": "Exists", "tolerationSeconds": 300})
    };
    assert_eq!(spec["tolerations"], json!([toleration("not-ready"), toleration("unreachable")]));
    assert_eq!(
        (&spec["priority"], &spec["preemptionPolicy"]),
        (&json!(0), &json!("PreemptLowerPriority"))
    );
    let critical = json!({"priorityClassName": "system-node-critical"});
    let critical = world.create(&path, pod("critical", critical)).await;
    assert_eq!(critical["spec"]["priority"], 2_000_001_000);
    for (spec, why) in [
        (json!({"priorityClassName": "gold"}), "no PriorityClass with name gold was found"),
        (
            json!({"priority": 5}),
            "the integer value of priority (5) must not be provided in pod spec; priority \
             admission controller computed 0 from the given PriorityClass name",
        ),
        (
            json!({"serviceAccountName": "nobody"}),
            "error looking up service account default/nobody: serviceaccount \"nobody\" not found",
        ),
    ] {
        let want = format!("pods \"q\" is forbidden: {why}");
        refused(&world, ("POST", &path), pod("q", spec), 403, &want).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subresources_of_pods_are_checked() {
    let world = World::start().await;
    world.default_account("default").await;
    let path = format!("{NS}/pods");
    let mut wanted = world.create(&path, pod("p", json!({}))).await;
    wanted["spec"]["ephemeralContainers"] = json!([{"name": "c", "image": "i:1"}]);
    let sub = format!("{path}/p/ephemeralcontainers");
    refused(
        &world,
        ("PUT", &sub),
        wanted.clone(),
        422,
        "Pod \"p\" is invalid: spec.ephemeralContainers[0].name: Duplicate value: \"c\"",
    )
    .await;
    wanted["spec"]["ephemeralContainers"][0]["name"] = json!("debug");
    let (code, changed) = world.call("PUT", &sub, wanted).await;
    assert_eq!((code.as_u16(), &changed["metadata"]["generation"]), (200, &json!(2)));
    let resize = format!("{path}/p/resize");
    let (code, status) = world.get(&resize).await;
    assert_eq!((code.as_u16(), &status["kind"]), (200, &json!("Pod")));
    let mut guaranteed = changed;
    guaranteed["spec"]["containers"][0]["resources"] =
        json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let (code, status) = world.call("PUT", &resize, guaranteed).await;
    assert_eq!(code, 422);
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("Pod QOS Class may not change as a result of resizing"), "{message}");
    let namespace = object("v1", "Namespace", "default", json!({"spec": {"finalizers": ["x"]}}));
    refused(
        &world,
        ("PUT", "/api/v1/namespaces/default/finalize"),
        namespace,
        422,
        "Namespace \"default\" is invalid: spec.finalizers[0]: Invalid value: \"x\": name is \
         neither a standard finalizer name nor is it fully qualified",
    )
    .await;
    refused(
        &world,
        ("DELETE", "/api/v1/namespaces/kube-system"),
        Value::Null,
        403,
        "namespaces \"kube-system\" is forbidden: this namespace may not be deleted",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_bound() {
    let world = World::start().await;
    world.default_account("default").await;
    let request = |rest: Value| {
        let mut request =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        json_merge(&mut request, &rest);
        request
    };
    for (rest, code, why) in [
        (
            json!({"metadata": {"name": "other"}}),
            422,
            "TokenRequest.authentication.k8s.io \"default\" is invalid: metadata.name: Invalid \
             value: \"other\": must match the service account name if specified",
        ),
        (
            json!({"spec": {"expirationSeconds": 60}}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid \
             value: 60: may not specify a duration less than 10 minutes",
        ),
        (
            json!({"spec": {"expirationSeconds": 4_294_967_297_i64}}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid \
             value: 4294967297: may not specify a duration larger than 2^32 seconds",
        ),
        (
            json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "no"}}}),
            404,
            "pods \"no\" not found",
        ),
        (
            json!({"spec": {"boundObjectRef": {"kind": "Service", "apiVersion": "v1"}}}),
            400,
            "cannot bind token to object of type /v1, Kind=Service",
        ),
    ] {
        refused(&world, ("POST", TOKEN), request(rest), code, why).await;
    }
    let issued = world.create(TOKEN, request(json!({"spec": {"audiences": ["vault"]}}))).await;
    assert_eq!(issued["spec"]["expirationSeconds"], 3600);
    let token = issued["status"]["token"].as_str().unwrap();
    let review = |token: &str, audiences: Value| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
               "spec": {"token": token, "audiences": audiences}})
    };
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let found = world.create(path, review(token, json!(["vault", "x"]))).await;
    assert_eq!(found["status"]["authenticated"], true, "{found}");
    assert_eq!(found["status"]["audiences"], json!(["vault"]));
    let other = world.create(path, review(token, json!(["x"]))).await;
    assert_eq!(other["status"]["authenticated"], Value::Null);
    let why = "token audiences [\"vault\"] is invalid for the target audiences [\"x\"]";
    assert_eq!(other["status"]["error"], why);
    let garbage = world.create(path, review("garbage", json!([]))).await;
    assert_eq!(garbage["status"], json!({"user": {}}));
    // A token for others does not open this door.
    let nobody = world.client_as(None);
    let bearer = format!("Bearer {token}");
    let as_token = [("authorization", bearer.as_str())];
    let response = world.send_with(&nobody, "GET", NS, &as_token, "").await;
    let (code, status) = (response.status(), json_of(response).await);
    assert_eq!((code.as_u16(), &status["message"]), (401, &json!("Unauthorized")));
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_are_checked() {
    let world = World::start().await;
    let review = |kind: &str, rest: Value| {
        let mut review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind});
        json_merge(&mut review, &rest);
        review
    };
    let access = "SubjectAccessReview.authorization.k8s.io \"\" is invalid: ";
    for (path, review, why) in [
        (
            format!("{AUTHZ}/subjectaccessreviews"),
            review("SubjectAccessReview", json!({"spec": {}})),
            format!(
                "{access}[spec.resourceAttributes: Invalid value: null: exactly one of \
                 nonResourceAttributes or resourceAttributes must be specified, spec.user: Invalid \
                 value: \"\": at least one of user or group must be specified]"
            ),
        ),
        (
            format!("{AUTHZ}/subjectaccessreviews"),
            review(
                "SubjectAccessReview",
                json!({"metadata": {"name": "x"}, "spec":
                {"user": "u", "resourceAttributes": {"verb": "get"}}}),
            ),
            format!("{access}metadata: Invalid value: {{\"name\":\"x\"}}: must be empty"),
        ),
        (
            format!("{AUTHZ}/namespaces/default/localsubjectaccessreviews"),
            review(
                "LocalSubjectAccessReview",
                json!({"spec":
                {"user": "u", "resourceAttributes": {"verb": "get", "namespace": "kube-system"}}}),
            ),
            format!(
                "Local{access}spec.resourceAttributes.namespace: Invalid value: \"kube-system\": \
                 must match metadata.namespace"
            ),
        ),
    ] {
        refused(&world, ("POST", &path), review, 422, &why).await;
    }
    let rules = review("SelfSubjectRulesReview", json!({"spec": {"namespace": "default"}}));
    let rules = world.create(&format!("{AUTHZ}/selfsubjectrulesreviews"), rules).await;
    let everything = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
    let listed = rules["status"]["resourceRules"].as_array().unwrap();
    assert_eq!(listed.iter().filter(|rule| **rule == everything).count(), 1, "{rules}");
    assert_eq!(rules["status"]["incomplete"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_grants_what_they_lack() {
    let world = World::start().await;
    let rule = |verb: &str, resource: &str| json!({"verbs": [verb], "apiGroups": [""], "resources": [resource]});
    let manager = json!({"rules": [
        {"verbs": ["create", "update", "get"], "apiGroups": ["rbac.authorization.k8s.io"],
         "resources": ["roles", "rolebindings"]},
        rule("get", "pods")]});
    let version = "rbac.authorization.k8s.io/v1";
    let role = |name: &str, rest: Value| object(version, "Role", name, rest);
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    world.create(&roles, role("manager", manager)).await;
    world.create(&roles, role("secrets", json!({"rules": [rule("get", "secrets")]}))).await;
    let binding = |name: &str, to: &str| {
        object(
            version,
            "RoleBinding",
            name,
            json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": to},
            "subjects": [{"kind": "User", "name": "jane"}]}),
        )
    };
    world.create(&bindings, binding("manager", "manager")).await;
    let jane = world.client_as(Some(("jane", &[])));
    let send = async |path: &str, body: Value| {
        let headers = [("content-type", "application/json")];
        let response = world.send_with(&jane, "POST", path, &headers, body.to_string()).await;
        (response.status().as_u16(), json_of(response).await)
    };
    let lacking = "user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC \
        permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], \
        Verbs:[\"get\"]}";
    let (code, status) =
        send(&roles, role("more", json!({"rules": [rule("get", "secrets")]}))).await;
    let want = format!("roles.rbac.authorization.k8s.io \"more\" is forbidden: {lacking}");
    assert_eq!((code, status["message"].as_str().unwrap()), (403, want.as_str()));
    let (code, status) = send(&bindings, binding("more", "secrets")).await;
    let want = format!("rolebindings.rbac.authorization.k8s.io \"more\" is forbidden: {lacking}");
    assert_eq!((code, status["message"].as_str().unwrap()), (403, want.as_str()));
    assert_eq!(send(&roles, role("same", json!({"rules": [rule("get", "pods")]}))).await.0, 201);
    let (code, status) = send(&format!("{NS}/pods"), pod("p", json!({}))).await;
    let want = "pods is forbidden: User \"jane\" cannot create resource \"pods\" in API group \"\" \
        in the namespace \"default\"";
    assert_eq!((code, status["message"].as_str().unwrap()), (403, want));
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_can_be_selected() {
    let world = World::start().await;
    for (path, code, want) in [
        ("/api/v1/nodes?fieldSelector=spec.unschedulable%3Dfalse", 200, ""),
        ("/api/v1/namespaces?fieldSelector=status.phase%3DActive", 200, ""),
        ("/api/v1/pods?fieldSelector=spec.foo%3Dx", 400, "field label not supported: spec.foo"),
        (
            "/api/v1/configmaps?fieldSelector=data.a%3Dx",
            400,
            "\"data.a\" is not a known field selector: only \"metadata.name\", \
             \"metadata.namespace\"",
        ),
    ] {
        let (got, body) = world.get(path).await;
        assert_eq!(got, code, "{path}");
        assert_eq!(body["message"].as_str().unwrap_or_default(), want, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_select_their_own_pods_and_leave_them() {
    let world = World::start().await;
    let path = "/apis/batch/v1/namespaces/default/jobs";
    let template =
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}});
    let spec = json!({"metadata": {"generateName": "j-"}, "spec": {"template": template}});
    let mut job = object("batch/v1", "Job", "", spec);
    job["metadata"].as_object_mut().unwrap().remove("name");
    let job = world.create(path, job).await;
    let (name, uid) = (&job["metadata"]["name"], &job["metadata"]["uid"]);
    assert!(name.as_str().unwrap().starts_with("j-"), "{job}");
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    assert_eq!((&labels["batch.kubernetes.io/job-name"], &labels["controller-uid"]), (name, uid));
    assert_eq!(job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], *uid);
    let one = format!("{path}/{}", name.as_str().unwrap());
    let warned = warnings(&world, "DELETE", &one, Value::Null).await;
    assert!(warned[0].contains("child pods are preserved by default"), "{warned:?}");
    let (_, left) = world.call("GET", &one, Value::Null).await;
    assert_eq!(left["metadata"]["finalizers"], json!(["orphan"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn autoscalers_are_one_in_both_versions() {
    let world = World::start().await;
    let [v1, v2] = ["v1", "v2"]
        .map(|v| format!("/apis/autoscaling/{v}/namespaces/default/horizontalpodautoscalers"));
    let spec = json!({"spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}});
    let old = object("autoscaling/v1", "HorizontalPodAutoscaler", "h", spec);
    let old = world.create(&v1, old).await;
    assert_eq!(old["spec"]["targetCPUUtilizationPercentage"], 50);
    let (code, mut new) = world.call("GET", &format!("{v2}/h"), Value::Null).await;
    assert_eq!((code.as_u16(), &new["apiVersion"]), (200, &json!("autoscaling/v2")), "{new}");
    assert_eq!(new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    let pods = json!({"type": "Pods", "pods": {"metric": {"name": "m"},
        "target": {"type": "AverageValue", "averageValue": "5"}}});
    new["spec"]["metrics"].as_array_mut().unwrap().push(pods);
    let (code, new) = world.call("PUT", &format!("{v2}/h"), new).await;
    assert_eq!(code, 200, "{new}");
    let (_, list) = world.call("GET", &v1, Value::Null).await;
    let old = &list["items"][0];
    assert_eq!(old["spec"]["targetCPUUtilizationPercentage"], 50, "{list}");
    let others = &old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"];
    assert!(others.as_str().unwrap().contains(r#""targetAverageValue":"5""#), "{old}");
    // What one version says goes through the other unharmed.
    let (code, old) = world.call("PUT", &format!("{v1}/h"), old.clone()).await;
    assert_eq!(code, 200, "{old}");
    let (_, again) = world.call("GET", &format!("{v2}/h"), Value::Null).await;
    let types = |object: &Value| -> Vec<Value> {
        let metrics = object["spec"]["metrics"].as_array().unwrap();
        metrics.iter().map(|metric| metric["type"].clone()).collect()
    };
    assert_eq!(types(&again), ["Pods", "Resource"], "{again}");
    let missing = object("autoscaling/v2", "HorizontalPodAutoscaler", "i", json!({}));
    refused(
        &world,
        ("POST", &v2),
        missing,
        422,
        "HorizontalPodAutoscaler.autoscaling \"i\" is invalid: [spec.maxReplicas: Invalid value: 0: must be greater \
         than 0, spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`, \
         spec.scaleTargetRef.kind: Required value, spec.scaleTargetRef.name: Required value]",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_controllers_scale() {
    let world = World::start().await;
    let path = format!("{NS}/replicationcontrollers");
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let controller =
        object("v1", "ReplicationController", "r", json!({"spec": {"template": template}}));
    world.create(&path, controller).await;
    let one = format!("{path}/r/scale");
    let (_, mut scale) = world.call("GET", &one, Value::Null).await;
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!(1), &json!("a=b"))
    );
    scale["spec"]["replicas"] = json!(3);
    let (code, scale) = world.call("PUT", &one, scale).await;
    assert_eq!((code.as_u16(), &scale["spec"]["replicas"]), (200, &json!(3)), "{scale}");
}
