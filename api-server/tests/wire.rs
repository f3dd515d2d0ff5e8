//! What goes over the wire: refusals while a client still sends, HEAD, protobuf answers, OpenAPI v2, the deprecated
//! watch paths.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Events, World, bytes_of, json_of};
use http_body_util::BodyExt as _;
use quorate_api::codec::protobuf;
use quorate_api::resource;
use quorate_api::schema::ids;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const OPENAPI_V2: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_one_object_by_its_path_tells_of_no_other() {
    let world = World::start().await;
    for name in ["a", "b"] {
        world.create(MAPS, map(name)).await;
    }
    let watched = "/api/v1/watch/namespaces/default/configmaps/a";
    let path = format!("{watched}?timeoutSeconds=60");
    let mut events = Events::of(world.send("GET", &path, &[], "").await);
    assert_eq!(events.brief().await, ("ADDED".to_owned(), "a".to_owned()));
    for name in ["b", "a"] {
        let patch = json!({"data": {"a": "2"}});
        world.call("PATCH", &format!("{MAPS}/{name}"), patch).await;
    }
    assert_eq!(events.brief().await, ("MODIFIED".to_owned(), "a".to_owned()));
    let path = "/api/v1/watch/namespaces/default?timeoutSeconds=60";
    let mut events = Events::of(world.send("GET", path, &[], "").await);
    assert_eq!(events.brief().await, ("ADDED".to_owned(), "default".to_owned()));
    world
        .call(
            "PATCH",
            "/api/v1/namespaces/kube-system",
            json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await;
    world
        .call("PATCH", "/api/v1/namespaces/default", json!({"metadata": {"labels": {"a": "b"}}}))
        .await;
    assert_eq!(events.brief().await, ("MODIFIED".to_owned(), "default".to_owned()));
    let (code, status) = world.get(&format!("{watched}?fieldSelector=metadata.name%3Db")).await;
    assert_eq!(code, 400, "{status}");
    assert_eq!(status["message"], "fieldSelector metadata.name doesn't match requested name");
    assert_eq!(world.get("/api/v1/watch/configmaps/a").await.0, 404, "of which namespace?");
}

/// Sends a request with a long body and reads the head of the answer, on a connection of its own.
async fn send_slowly(world: &World, alpn: &[u8]) -> (u16, String) {
    let mut tls = common::tls(&world.pki, None);
    tls.alpn_protocols = vec![alpn.to_vec()];
    let stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls));
    let stream = connector.connect(name, stream).await.unwrap();
    let stream = hyper_util::rt::TokioIo::new(stream);
    // 3 MiB, far more than a window of HTTP/2 holds.
    let pieces = futures::stream::iter((0..48).map(|_| {
        Ok::<_, std::convert::Infallible>(http_body::Frame::data(bytes::Bytes::from(vec![
            b'x';
            64 * 1024
        ])))
    }));
    let body = http_body_util::StreamBody::new(pieces);
    let request = http::Request::post(world.url(MAPS))
        .header("host", "localhost")
        .header("authorization", "Bearer of-nobody")
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let response = if alpn == b"h2" {
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut send, connection) =
            hyper::client::conn::http2::handshake(executor, stream).await.unwrap();
        tokio::spawn(connection);
        send.send_request(request).await.unwrap()
    } else {
        let (mut send, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let response = send.send_request(request).await.unwrap();
        let code = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        // The same connection serves the next request.
        send.ready().await.unwrap();
        return (code.as_u16(), String::from_utf8_lossy(&bytes).into_owned());
    };
    let code = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code.as_u16(), String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_while_sending_hears_why() {
    let world = World::start().await;
    for alpn in [&b"http/1.1"[..], b"h2"] {
        for _ in 0..4 {
            let (code, body) = send_slowly(&world, alpn).await;
            assert_eq!(code, 401, "{body}");
            assert!(body.contains("\"reason\":\"Unauthorized\""), "{body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_no_body() {
    let world = World::start().await;
    let response = world.send("HEAD", "/version", &[], "").await;
    assert_eq!((response.version(), response.status().as_u16()), (http::Version::HTTP_2, 200));
    assert!(bytes_of(response).await.is_empty());
    let response = world.send("HEAD", "/api/v1/namespaces/default", &[], "").await;
    assert_eq!(response.status(), 200);
    assert!(bytes_of(response).await.is_empty());
    let response = world.send("HEAD", "/api/v1/namespaces/none", &[], "").await;
    assert_eq!(response.status(), 404);
    assert!(bytes_of(response).await.is_empty());
}

fn opened(body: &[u8], ty: quorate_api::schema::TypeId) -> (String, Value) {
    let envelope = protobuf::open(body).unwrap();
    (envelope.kind, protobuf::decode(envelope.raw, ty).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_protobuf_alone_gets_it() {
    let world = World::start().await;
    let def = resource::lookup("", "v1", "configmaps").unwrap();
    let headers = [("accept", PROTOBUF), ("content-type", "application/json")];
    let response = world.send("POST", MAPS, &headers, map("p").to_string()).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["content-type"], PROTOBUF);
    let (kind, made) = opened(&bytes_of(response).await, def.schema);
    assert_eq!((kind.as_str(), &made["data"]), ("ConfigMap", &json!({"a": "1"})));
    assert!(made["metadata"]["managedFields"][0]["fieldsV1"].is_object(), "{made}");
    let list = bytes_of(world.send("GET", MAPS, &headers, "").await).await;
    let (kind, list) = opened(&list, def.list_schema.unwrap());
    assert_eq!(
        (kind.as_str(), &list["items"][0]["metadata"]["name"]),
        ("ConfigMapList", &json!("p"))
    );
    let metadata = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let headers = [("accept", metadata.as_str())];
    let one = bytes_of(world.send("GET", &format!("{MAPS}/p"), &headers, "").await).await;
    let (kind, one) = opened(&one, ids::META_V1_PARTIALOBJECTMETADATA);
    assert_eq!((kind.as_str(), &one["metadata"]["name"]), ("PartialObjectMetadata", &json!("p")));
    // JSON is what they get who take both.
    let both = format!("{PROTOBUF},application/json");
    let response = world.send("GET", MAPS, &[("accept", &both)], "").await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    assert_eq!(world.send("GET", MAPS, &[("accept", &table)], "").await.status(), 406);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_frames_of_protobuf() {
    let world = World::start().await;
    world.create(MAPS, map("p")).await;
    let path = format!("{MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=1");
    let response = world.send("GET", &path, &[("accept", PROTOBUF)], "").await;
    assert_eq!(response.headers()["content-type"], format!("{PROTOBUF};stream=watch"));
    let all = bytes_of(response).await;
    let mut rest = &all[..];
    let mut kinds = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let (event, more) = more.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
        rest = more;
        // Its `object` is raw bytes there, JSON or not; the type is enough here.
        let length = usize::from(event[1]);
        kinds.push(String::from_utf8(event[2..2 + length].to_vec()).unwrap());
    }
    assert_eq!(kinds, ["ADDED", "BOOKMARK"]);
    assert!(all.windows(4).any(|bytes| bytes == b"k8s\0"), "objects have their envelope");
}

#[tokio::test(flavor = "multi_thread")]
async fn openapi_v2_is_served_in_both_its_forms() {
    let world = World::start().await;
    let response = world.send("GET", "/openapi/v2", &[], "").await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &http::HeaderValue::from_static("application/json"))
    );
    let etag = response.headers()["etag"].clone();
    assert_eq!(json_of(response).await["swagger"], "2.0");
    let again = [("if-none-match", etag.to_str().unwrap())];
    assert_eq!(world.send("GET", "/openapi/v2", &again, "").await.status(), 304);
    let response = world.send("GET", "/openapi/v2", &[("accept", OPENAPI_V2)], "").await;
    // The name that is asked for is no media type that Go can read.
    assert_eq!(
        response.headers()["content-type"],
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    assert!(bytes_of(response).await.starts_with(b"\x0a\x032.0"));
    assert_eq!(
        world.send("GET", "/openapi/v2", &[("accept", "text/html")], "").await.status(),
        406
    );
    if common::has_kubectl() {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "u", "resourceAttributes": {"verb": "get", "resource": "pods"}},
        });
        let file = world.dir.path().join("review.json");
        std::fs::write(&file, review.to_string()).unwrap();
        let file = file.to_str().unwrap();
        let out = world.kubectl_ok(&["create", "-f", file, "-o", "jsonpath={.status}"]).await;
        assert_eq!(out, r#"{"allowed":false}"#, "a review is created from a file");
        let out =
            world.kubectl_ok(&["explain", "deployment.spec", "--output=plaintext-openapiv2"]).await;
        assert!(out.contains("replicas\t<integer>"), "{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_in_its_old_version_is_taken_and_told() {
    let world = World::start().await;
    world.default_account("default").await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i:1"}]},
    });
    world.create(pods, pod).await;
    let eviction = |version: &str| json!({"apiVersion": version, "kind": "Eviction", "metadata": {"name": "p"}});
    let path = format!("{pods}/p/eviction");
    let (code, status) = world.call("POST", &path, eviction("policy/v1beta1")).await;
    assert_eq!((code.as_u16(), &status["status"]), (201, &json!("Success")), "{status}");
    let (_, pod) = world.get(&format!("{pods}/p")).await;
    assert!(pod["metadata"]["deletionTimestamp"].is_string(), "{pod}");
    let mut conditions = pod["status"]["conditions"].as_array().unwrap().iter();
    let told = conditions.find(|one| one["type"] == "DisruptionTarget").unwrap();
    assert_eq!(told["reason"], "EvictionByEvictionAPI");
    assert_eq!(world.call("POST", &path, eviction("policy/v1")).await.0, 201, "once more");
}
