//! Lists and watches as connections carry them: in pieces, in order, with an end.
// Helpers are no test functions, to which the allowance of unwrap is bound.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Events, World, bytes_of};
use http_body_util::BodyExt as _;
use quorate_store::{Admit as _, Write};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Writes config maps past HTTP, `count` with `bytes` of data each.
async fn fill(world: &World, from: usize, count: usize, bytes: usize) {
    let admit = world.server.admit();
    for start in (from..from + count).step_by(500) {
        let view = world.store.view();
        let mut ops = Vec::new();
        for number in start..(start + 500).min(from + count) {
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": format!("m-{number:06}"), "namespace": "default"},
                "data": {"a": "x".repeat(bytes)}});
            let resource = quorate_state_machine::GroupResource::new("", "configmaps");
            let write = Write::Create { resource, object };
            ops.extend(admit.admit(&view, "test", write).await.unwrap());
        }
        world.store.write(ops).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_comes_in_pieces_and_is_one_document() {
    let world = World::start().await;
    fill(&world, 0, 700, 1000).await;
    let response = world.send("GET", MAPS, &[], "").await;
    assert_eq!(response.headers().get("content-length"), None);
    assert_eq!(response.headers()["content-type"], "application/json");
    let list: Value = serde_json::from_slice(&bytes_of(response).await).unwrap();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 700);
    for (number, item) in items.iter().enumerate() {
        assert_eq!(item["metadata"]["name"], format!("m-{number:06}"));
    }
    let short = world.send("GET", &format!("{MAPS}?limit=3"), &[], "").await;
    assert!(short.headers().get("content-length").is_some());
    let packed = world.send("GET", MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(packed.headers()["content-encoding"], "gzip");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_watch_gets_every_event_in_order_and_its_end_in_time() {
    let world = World::start().await;
    let path = format!("{MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=3");
    let started = Instant::now();
    let mut events = Events::of(world.send("GET", &path, &[], "").await);
    fill(&world, 0, 1500, 100).await;
    for number in 0..1500 {
        assert_eq!(events.brief().await, ("ADDED".to_owned(), format!("m-{number:06}")));
    }
    let last = events.next().await.expect("a bookmark before the end");
    assert_eq!(last["type"], "BOOKMARK");
    assert_eq!(
        last["object"]["metadata"]["resourceVersion"],
        world.store.view().revision().to_string()
    );
    assert!(events.next().await.is_none(), "the watch ends");
    let took = started.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_secs(9)).contains(&took), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_that_share_events_each_get_all_of_theirs_in_order() {
    const COUNT: usize = 300;
    let world = World::start().await;
    let revision = world.store.view().revision();
    let all = format!("{MAPS}?watch=true&resourceVersion={revision}");
    let one = format!("{all}&fieldSelector=metadata.name%3Dm-000123");
    let metadata = [("accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")];
    let mut readers = Vec::new();
    for _ in 0..5 {
        readers.push(Events::of(world.send("GET", &all, &[], "").await));
    }
    let mut others = Events::of(world.send("GET", &all, &metadata, "").await);
    let mut selected = Events::of(world.send("GET", &one, &[], "").await);
    for from in (0..COUNT).step_by(15) {
        fill(&world, from, 15, 100).await;
    }
    // It begins where the others were long ago.
    readers.push(Events::of(world.send("GET", &all, &[], "").await));
    for (place, reader) in readers.iter_mut().enumerate() {
        for number in 0..COUNT {
            let expected = ("ADDED".to_owned(), format!("m-{number:06}"));
            assert_eq!(reader.brief().await, expected, "watcher {place}");
        }
    }
    for number in 0..COUNT {
        let event = others.next().await.expect("an event");
        assert_eq!(event["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(event["object"]["metadata"]["name"], format!("m-{number:06}"));
    }
    assert_eq!(selected.brief().await, ("ADDED".to_owned(), "m-000123".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_ends_its_watches() {
    let world = World::start().await;
    let path = format!("{MAPS}?watch=true&allowWatchBookmarks=true");
    let mut events = Events::of(world.send("GET", &path, &[], "").await);
    let World { server, .. } = world;
    let started = Instant::now();
    let stop = tokio::spawn(server.shutdown());
    assert_eq!(events.next().await.expect("a last bookmark")["type"], "BOOKMARK");
    assert!(events.next().await.is_none(), "the watch ends");
    drop(events);
    stop.await.unwrap();
    assert!(started.elapsed() < quorate_api_server::limits::DRAIN_TIMEOUT, "nothing was cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_shakes_hands_is_let_go() {
    let world = World::start().await;
    let mut silent = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let limit = quorate_api_server::limits::TLS_HANDSHAKE_TIMEOUT + Duration::from_secs(10);
    let read = tokio::time::timeout(limit, silent.read(&mut [0; 16])).await;
    assert_eq!(read.expect("closed in time").unwrap_or(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_see_that_it_lives_and_nothing_else() {
    let world = World::start().await;
    let nobody = world.client_as(None);
    for path in ["/healthz", "/livez", "/readyz", "/readyz?verbose", "/version"] {
        let answer = world.send_with(&nobody, "GET", path, &[], "").await;
        assert_eq!(answer.status(), 200, "{path}");
    }
    for path in [
        "/",
        "/api",
        "/apis",
        "/api/v1",
        "/api/v1/namespaces",
        "/apis/apps/v1/deployments",
        "/healthz/ping",
        "/metrics",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/.well-known/openid-configuration",
        "/nothing",
    ] {
        let answer = world.send_with(&nobody, "GET", path, &[], "").await;
        assert_eq!(answer.status(), 403, "{path}");
        let status = common::json_of(answer).await;
        assert_eq!((&status["kind"], &status["reason"]), (&json!("Status"), &json!("Forbidden")));
        let said = status["message"].as_str().unwrap();
        assert!(said.contains("User \"system:anonymous\" cannot "), "{path}: {said}");
    }
    // People who look with curl get it laid out.
    let curl = [("user-agent", "curl/8.0")];
    let answer = world.send_with(&nobody, "GET", "/api", &curl, "").await;
    let text = String::from_utf8(bytes_of(answer).await.to_vec()).unwrap();
    let head = "{\n  \"kind\": \"Status\",\n  \"apiVersion\": \"v1\",\n  \"metadata\": {},\n";
    assert!(text.starts_with(head) && text.ends_with("\n}"), "{text}");
    for headers in [[("authorization", "Bearer wrong")], [("authorization", "Bearer a.b.c")]] {
        let answer = world.send_with(&nobody, "GET", "/version", &headers, "").await;
        assert_eq!(answer.status(), 401);
        assert_eq!(common::json_of(answer).await["message"], "Unauthorized");
    }
}

/// A kubeconfig may hold a certificate of another cluster beside a good token.
#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_beside_a_foreign_certificate_counts() {
    let world = World::start().await;
    world.default_account("default").await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let order =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let (_, issued) = world.call("POST", path, order).await;
    let token = issued["status"]["token"].as_str().unwrap();
    let foreign = common::Pki::new().client("jane", &["system:masters"]);
    let client = world.client_with(&foreign);
    for (token, code) in [(Some(token), 200), (Some("wrong"), 401), (None, 401)] {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> =
            bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        let answer = world.send_with(&client, "GET", "/api", &headers, "").await;
        assert_eq!(answer.status(), code, "{token:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: cargo test --release -p quorate-api-server --test serving -- --ignored --nocapture"]
async fn figures_of_lists_and_watches() {
    let world = World::start().await;
    fill(&world, 0, 10_000, 1200).await;
    let started = Instant::now();
    let size = bytes_of(world.send("GET", MAPS, &[], "").await).await.len();
    eprintln!("LIST of 10,000: {size} bytes in {:?}", started.elapsed());
    let revision = world.store.view().revision();
    let mut readers = Vec::new();
    for _ in 0..100 {
        let path = format!("{MAPS}?watch=true&resourceVersion={revision}");
        let client = world.client_as(Some(("admin", &["system:masters"])));
        let mut body = world.send_with(&client, "GET", &path, &[], "").await.into_body();
        readers.push(tokio::spawn(async move {
            let mut seen = 0;
            while seen < 5_000 {
                let frame = body.frame().await.expect("the watch goes on").unwrap();
                let data = frame.into_data().unwrap_or_default();
                seen += data.iter().filter(|byte| **byte == b'\n').count();
            }
            drop(client);
        }));
    }
    let started = Instant::now();
    fill(&world, 10_000, 5_000, 1200).await;
    for reader in readers {
        reader.await.unwrap();
    }
    let took = started.elapsed();
    eprintln!("100 watchers, 5,000 creates: {took:?}, {:.0} events/s", 500e3 / took.as_secs_f64());
}
