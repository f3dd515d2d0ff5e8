//! What is wrong with a request, told as Kubernetes tells it: each case with the whole `Status`.
// Helpers are no test functions, to which the allowance of unwrap is bound.
#![allow(clippy::unwrap_used)]

mod common;

use common::{World, json_of};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// A request, and what is to come back: code, reason, message, and (reason, field, message) of its
/// causes. `…` at an end of the message: what another library's parser says is not compared.
struct Case {
    method: &'static str,
    path: String,
    content_type: &'static str,
    body: String,
    code: u16,
    reason: &'static str,
    message: String,
    causes: Vec<(&'static str, &'static str)>,
}

fn case(
    (method, path): (&'static str, &str),
    (content_type, body): (&'static str, impl ToString),
    (code, reason): (u16, &'static str),
    message: impl ToString,
    causes: &[(&'static str, &'static str)],
) -> Case {
    Case {
        method,
        path: path.to_owned(),
        content_type,
        body: body.to_string(),
        code,
        reason,
        message: message.to_string(),
        causes: causes.to_vec(),
    }
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

/// An object with one thing changed, by JSON pointer; `null` takes it away.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a parent");
    let parent = object.pointer_mut(parent).expect("the parent is there");
    if value.is_null() {
        parent.as_object_mut().expect("the parent is a map").remove(key);
    } else {
        parent[key] = value;
    }
    object
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

const BAD: (u16, &str) = (400, "BadRequest");
const INVALID: (u16, &str) = (422, "Invalid");

#[allow(clippy::too_many_lines)] // a table of cases
fn bodies() -> Vec<Case> {
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let typo = with(map("x"), "/datum", json!(1));
    let nested = with(deployment("x"), "/spec/replcas", json!(1));
    vec![
        case(
            ("POST", MAPS),
            (JSON, "{\"apiVersion\": "),
            BAD,
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get \
             version/kind; json parse error: unexpected end of JSON input ({\"apiVersion\": )",
            &[],
        ),
        case(
            ("POST", MAPS),
            (YAML, "a: ["),
            BAD,
            "the object provided is unrecognized (must be of type ConfigMap): …",
            &[],
        ),
        case(
            ("POST", &strict),
            (JSON, typo),
            BAD,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: \
             unknown field \"datum\"",
            &[],
        ),
        case(
            ("POST", &format!("{DEPLOYMENTS}?fieldValidation=Strict")),
            (JSON, nested),
            BAD,
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding \
             error: unknown field \"spec.replcas\"",
            &[],
        ),
        case(
            ("POST", &format!("{MAPS}?fieldValidation=Maybe")),
            (JSON, map("x")),
            INVALID,
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \
             \"Maybe\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
            &[("FieldValueNotSupported", "fieldValidation")],
        ),
        case(
            ("POST", MAPS),
            (JSON, with(map("x"), "/kind", json!("Secret"))),
            BAD,
            "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to \
             (core.ConfigMap): unknown conversion",
            &[],
        ),
        case(
            ("POST", MAPS),
            (JSON, with(map("x"), "/apiVersion", json!("apps/v1"))),
            BAD,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" \
             is registered for version \"apps/v1\" in scheme …",
            &[],
        ),
        case(
            ("POST", MAPS),
            ("text/plain", "x"),
            (415, "UnsupportedMediaType"),
            "the body of the request was in an unknown format - accepted media types include: \
             application/json, application/yaml, application/vnd.kubernetes.protobuf",
            &[],
        ),
        case(
            ("PATCH", &format!("{MAPS}/there")),
            (JSON, "{}"),
            (415, "UnsupportedMediaType"),
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, \
             application/strategic-merge-patch+json, application/apply-patch+yaml",
            &[],
        ),
        case(
            ("POST", MAPS),
            (JSON, "x".repeat(3 * 1024 * 1024 + 1)),
            (413, "RequestEntityTooLarge"),
            "Request entity too large: limit is 3145728",
            &[],
        ),
    ]
}

#[allow(clippy::too_many_lines)] // a table of cases
fn objects() -> Vec<Case> {
    let name_rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                     characters, '-' or '.', and must start and end with an alphanumeric character \
                     (e.g. 'example.com', regex used for validation is \
                     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let key_rule = "name part must consist of alphanumeric characters, '-', '_' or '.', and must \
                    start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
                    '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let labels = json!({"a b": "c"});
    vec![
        case(
            ("POST", MAPS),
            (JSON, map("No_Good")),
            INVALID,
            format!(
                "ConfigMap \"No_Good\" is invalid: metadata.name: Invalid value: \"No_Good\": \
                 {name_rule}"
            ),
            &[("FieldValueInvalid", "metadata.name")],
        ),
        case(
            ("POST", MAPS),
            (JSON, with(map("x"), "/metadata/labels", labels)),
            INVALID,
            format!(
                "ConfigMap \"x\" is invalid: metadata.labels: Invalid value: \"a b\": {key_rule}"
            ),
            &[("FieldValueInvalid", "metadata.labels")],
        ),
        case(
            ("POST", MAPS),
            (JSON, with(map("x"), "/metadata/name", Value::Null)),
            INVALID,
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is \
             required",
            &[("FieldValueRequired", "metadata.name")],
        ),
        case(
            ("POST", DEPLOYMENTS),
            (JSON, with(deployment("x"), "/spec/replicas", json!(-1))),
            INVALID,
            "Deployment.apps \"x\" is invalid: spec.replicas: Invalid value: -1: must be greater \
             than or equal to 0",
            &[("FieldValueInvalid", "spec.replicas")],
        ),
        case(
            ("POST", DEPLOYMENTS),
            (JSON, with(deployment("x"), "/spec/template/spec/containers/0/name", Value::Null)),
            INVALID,
            "Deployment.apps \"x\" is invalid: spec.template.spec.containers[0].name: Required \
             value",
            &[("FieldValueRequired", "spec.template.spec.containers[0].name")],
        ),
        case(
            ("PUT", &format!("{DEPLOYMENTS}/there")),
            (
                JSON,
                with(
                    with(deployment("there"), "/spec/selector/matchLabels/a", json!("c")),
                    "/spec/template/metadata/labels/a",
                    json!("c"),
                ),
            ),
            INVALID,
            "Deployment.apps \"there\" is invalid: spec.selector: Invalid value: \
             {\"matchLabels\":{\"a\":\"c\"}}: field is immutable",
            &[("FieldValueInvalid", "spec.selector")],
        ),
        case(
            ("POST", MAPS),
            (JSON, map("there")),
            (409, "AlreadyExists"),
            "configmaps \"there\" already exists",
            &[],
        ),
        case(
            ("PUT", &format!("{MAPS}/there")),
            (JSON, with(map("there"), "/metadata/resourceVersion", json!("1"))),
            (409, "Conflict"),
            "Operation cannot be fulfilled on configmaps \"there\": the object has been modified; \
             please apply your changes to the latest version and try again",
            &[],
        ),
        case(
            ("PUT", &format!("{MAPS}/there")),
            (JSON, map("other")),
            BAD,
            "the name of the object (other) does not match the name on the URL (there)",
            &[],
        ),
        case(
            ("POST", MAPS),
            (JSON, with(map("x"), "/metadata/resourceVersion", json!("1"))),
            BAD,
            "resourceVersion should not be set on objects to be created",
            &[],
        ),
        case(
            ("POST", "/api/v1/namespaces/nowhere/configmaps"),
            (JSON, map("x")),
            (404, "NotFound"),
            "namespaces \"nowhere\" not found",
            &[],
        ),
    ]
}

fn questions() -> Vec<Case> {
    let get = |path: String, outcome, message: &str| {
        case(("GET", &path), (JSON, ""), outcome, message, &[])
    };
    vec![
        get(
            format!("{MAPS}?labelSelector=a%3D%3D%3Db"),
            BAD,
            "unable to parse requirement: found '=', expected: identifier",
        ),
        get(
            format!("{MAPS}?fieldSelector=data.a%3Db"),
            BAD,
            "\"data.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        get(format!("{MAPS}?fieldSelector=nonsense"), BAD, "invalid selector: 'nonsense'; …"),
        get(
            format!("{MAPS}?continue=nonsense&limit=1"),
            BAD,
            "invalid continue token: continue key is not valid: …",
        ),
        get(
            "/api/v1/namespaces/default/gadgets".into(),
            (404, "NotFound"),
            "the server could not find the requested resource",
        ),
        get(
            "/apis/no.such/v1/things".into(),
            (404, "NotFound"),
            "the server could not find the requested resource",
        ),
        get(format!("{MAPS}/none"), (404, "NotFound"), "configmaps \"none\" not found"),
        case(
            ("POST", &format!("{MAPS}/there")),
            (JSON, "{}"),
            (405, "MethodNotAllowed"),
            "the server does not allow this method on the requested resource",
            &[],
        ),
        case(
            ("PUT", MAPS),
            (JSON, "{}"),
            (405, "MethodNotAllowed"),
            "the server does not allow this method on the requested resource",
            &[],
        ),
    ]
}

/// What differs from what was asked for, as text; empty when nothing does.
fn difference(case: &Case, code: u16, status: &Value) -> String {
    let causes: Vec<(&str, &str)> = status["details"]["causes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|cause| {
            (cause["reason"].as_str().unwrap_or(""), cause["field"].as_str().unwrap_or(""))
        })
        .collect();
    let message = status["message"].as_str().unwrap_or_default();
    let same_message = match case.message.strip_suffix('…') {
        Some(start) => message.starts_with(start),
        None => message == case.message,
    };
    let envelope = status["kind"] == "Status"
        && status["apiVersion"] == "v1"
        && status["status"] == "Failure"
        && status["code"] == case.code;
    if same_message
        && envelope
        && (code, status["reason"].as_str()) == (case.code, Some(case.reason))
        && causes == case.causes
    {
        return String::new();
    }
    format!(
        "{} {}\n  wanted {} {} {:?} {:?}\n  got    {code} {status}\n",
        case.method, case.path, case.code, case.reason, case.message, case.causes
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_as_kubernetes_tells_it_and_changes_nothing() {
    let world = World::start().await;
    world.create(MAPS, map("there")).await;
    world.create(DEPLOYMENTS, deployment("there")).await;
    let before = world.store.view().revision();
    let mut differences = String::new();
    for case in bodies().into_iter().chain(objects()).chain(questions()) {
        let headers = [("content-type", case.content_type)];
        let response = world.send(case.method, &case.path, &headers, case.body.clone()).await;
        let code = response.status().as_u16();
        differences += &difference(&case, code, &json_of(response).await);
    }
    assert!(differences.is_empty(), "{differences}");
    assert_eq!(world.store.view().revision(), before, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_duplicate_fields_are_warned_about_or_ignored_as_asked() {
    let world = World::start().await;
    let body = "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"NAME\"},\
                \"datum\":1,\"immutable\":false,\"immutable\":false}";
    let unknown = "299 - \"unknown field \\\"datum\\\"\"";
    let duplicate = "299 - \"duplicate field \\\"immutable\\\"\"";
    let cases: [(&str, &[&str]); 3] =
        [("Warn", &[unknown, duplicate]), ("Ignore", &[]), ("", &[unknown, duplicate])];
    for (number, (validation, wanted)) in cases.into_iter().enumerate() {
        let path = format!("{MAPS}?fieldValidation={validation}");
        let body = body.replace("NAME", &format!("m{number}"));
        let response = world.send("POST", &path, &[("content-type", JSON)], body).await;
        assert_eq!(response.status(), 201, "{validation}");
        let mut warnings: Vec<String> = response
            .headers()
            .get_all("warning")
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect();
        let mut wanted: Vec<String> = wanted.iter().map(|text| (*text).to_owned()).collect();
        warnings.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(warnings, wanted, "{validation}");
        assert_eq!(json_of(response).await["datum"], Value::Null);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_may_leave_its_namespace_to_the_path() {
    let world = World::start().await;
    for (collection, object) in [(MAPS, map("there")), (DEPLOYMENTS, deployment("there"))] {
        world.create(collection, object.clone()).await;
        let labelled = with(object, "/metadata/labels", json!({"on": "yes"}));
        let (code, made) = world.call("PUT", &format!("{collection}/there"), labelled).await;
        assert_eq!(code, 200, "{made}");
        assert_eq!(
            (&made["metadata"]["namespace"], &made["metadata"]["labels"]["on"]),
            (&json!("default"), &json!("yes"))
        );
    }
}
