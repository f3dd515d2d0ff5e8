//! Other clients: `kube`, and raw connections that misbehave.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, LogParams};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::common::{World, tls};
use crate::fake::{Agent, message_of};
use crate::world::{Master, eventually};

const EXEC: &str = "/api/v1/namespaces/default/pods/p/exec";

/// A connection that speaks HTTP/1.1, as the administrator.
async fn connect(world: &World) -> TlsStream<TcpStream> {
    connect_as(world, &world.admin).await
}

async fn connect_as(world: &World, pair: &(String, String)) -> TlsStream<TcpStream> {
    let config = tls(&world.pki, Some(pair));
    let tcp = TcpStream::connect(world.address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

/// Sends a request; gives the head of the answer.
async fn ask(stream: &mut TlsStream<TcpStream>, head: &str) -> String {
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(Duration::from_secs(10), stream.read_u8()).await;
        answer.push(byte.expect("an answer within ten seconds").unwrap());
    }
    String::from_utf8(answer).unwrap()
}

fn websocket_head(path: &str, protocols: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {protocols}\r\n\r\n"
    )
}

/// A WebSocket to a path, with one subprotocol.
async fn websocket(
    world: &World,
    path: &str,
    protocol: &str,
) -> WebSocketStream<TlsStream<TcpStream>> {
    let mut stream = connect(world).await;
    let answer = ask(&mut stream, &websocket_head(path, protocol)).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let line = format!("sec-websocket-protocol: {protocol}\r\n");
    assert!(answer.to_lowercase().contains(&line), "{answer}");
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

async fn message(socket: &mut WebSocketStream<TlsStream<TcpStream>>) -> Option<Message> {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(10), socket.next()).await;
        match next.expect("a message within ten seconds")? {
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(message) => return Some(message),
            Err(error) => {
                eprintln!("the connection: {error}");
                return None;
            }
        }
    }
}

async fn pods(world: &World) -> Api<Pod> {
    Api::namespaced(world.kube().await, "default")
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_execs_follows_and_forwards() {
    let (master, agent) = Master::with_pod().await;
    let pods = pods(&master.world).await;
    agent.print("one");
    let logs = LogParams { container: Some("c".to_owned()), ..LogParams::default() };
    assert_eq!(pods.logs("p", &logs).await.unwrap(), "one\n");

    let params = AttachParams::default().stdin(true).stderr(false);
    let mut process = pods.exec("p", ["sh", "-c", "cat; exit 4"], &params).await.unwrap();
    let status = process.take_status().unwrap();
    let mut stdin = process.stdin().unwrap();
    stdin.write_all(b"through").await.unwrap();
    stdin.shutdown().await.unwrap();
    drop(stdin);
    let mut out = String::new();
    process.stdout().unwrap().read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "through");
    let status = tokio::time::timeout(Duration::from_secs(10), status).await.unwrap().unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));

    let mut forward = pods.portforward("p", &[7, 9]).await.unwrap();
    let error = forward.take_error(9).unwrap();
    let mut stream = forward.take_stream(7).unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut got = [0; 5];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
    let error = tokio::time::timeout(Duration::from_secs(10), error).await.unwrap().unwrap();
    assert!(error.contains("error forwarding port 9 to pod p_default"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_websocket_protocol_carries_a_command() {
    let (master, _agent) = Master::with_pod().await;
    let path = format!("{EXEC}?command=sh&command=-c&command=echo+hi;exit+2&stdout=true");
    for (protocol, code_is_told) in [
        ("v5.channel.k8s.io", true),
        ("v4.channel.k8s.io", true),
        ("v4.base64.channel.k8s.io", true),
        ("channel.k8s.io", false),
        ("base64.channel.k8s.io", false),
    ] {
        let mut socket = websocket(&master.world, &path, protocol).await;
        let (mut out, mut error, mut closed) = (Vec::new(), Vec::new(), false);
        while let Some(message) = message(&mut socket).await {
            let (channel, data) = match message {
                Message::Binary(data) => (data[0], data[1..].to_vec()),
                Message::Text(text) => {
                    use base64::Engine as _;
                    let engine = base64::engine::general_purpose::STANDARD;
                    (text.as_bytes()[0] - b'0', engine.decode(&text.as_str()[1..]).unwrap())
                }
                Message::Close(frame) => {
                    assert_eq!(u16::from(frame.unwrap().code), 1000, "{protocol}");
                    closed = true;
                    continue;
                }
                other => panic!("{other:?}"),
            };
            match channel {
                1 => out.extend(data),
                3 => error.extend(data),
                _ => panic!("{protocol}: channel {channel}"),
            }
        }
        assert!(closed, "{protocol}");
        assert_eq!(String::from_utf8_lossy(&out), "hi\n", "{protocol}");
        if code_is_told {
            assert!(message_of(&error).ends_with("exit status 2"), "{protocol}");
        } else {
            assert!(error.ends_with(b"exit status 2"), "{protocol}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upgrade_ends_its_connection() {
    let (master, _agent) = Master::with_pod().await;
    let good = format!("{EXEC}?command=true&stdout=true");
    let spdy = |path: &str, protocol: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n\
             Content-Length: 0\r\n\r\n"
        )
    };
    let refused = format!("{EXEC}?command=refuse&stdout=true");
    let nothing = format!("{EXEC}?command=true");
    let cases = [
        (websocket_head(&good, "v9.channel.k8s.io"), "403"),
        (websocket_head(&nothing, "v5.channel.k8s.io"), "400"),
        (websocket_head(&refused, "v4.channel.k8s.io"), "500"),
        (spdy(&good, "v9.channel.k8s.io"), "403"),
        (spdy(&refused, "v4.channel.k8s.io"), "500"),
        (websocket_head(&good, "v5.channel.k8s.io").replace("websocket", "h2c"), "400"),
    ];
    for (head, code) in cases {
        let mut stream = connect(&master.world).await;
        // A second request follows at once, as an attacker would have it.
        let smuggled = "GET /api/v1/secrets HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let answer = ask(&mut stream, &format!("{head}{smuggled}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{head}\n{answer}");
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
        let _ = end.await.expect("the connection ends");
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.contains("\"kind\":\"Status\""), "{rest}");
        assert!(!rest.contains("HTTP/1.1"), "the second request was answered: {rest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_slows_its_node() {
    let (master, agent) = Master::with_pod().await;
    let path = format!("{EXEC}?command=cat&command=/dev/zero&stdout=true");
    let mut socket = websocket(&master.world, &path, "v5.channel.k8s.io").await;
    message(&mut socket).await.unwrap();
    // Nobody reads: what the agent could send comes to rest far below what it would like to.
    let mut last = 0;
    let settled = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let taken = agent.taken.load(Ordering::SeqCst);
            if taken > 0 && taken == last {
                return taken;
            }
            last = taken;
        }
    };
    let taken = tokio::time::timeout(Duration::from_secs(20), settled).await.expect("it stops");
    assert!(taken < 32 * 1024 * 1024, "{taken} bytes are in flight");
    drop(socket);
    drop(master);
}

/// A command that has begun and goes on for long.
async fn running(master: &Master) -> WebSocketStream<TlsStream<TcpStream>> {
    let path = format!("{EXEC}?command=sh&command=-c&command=echo+up;sleep+1000&stdout=true");
    let mut socket = websocket(&master.world, &path, "v5.channel.k8s.io").await;
    assert_eq!(message(&mut socket).await, Some(Message::binary(b"\x01".to_vec())));
    assert_eq!(message(&mut socket).await, Some(Message::binary(b"\x01up\n".to_vec())));
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_their_master() {
    let (master, _agent) = Master::with_pod().await;
    let mut socket = running(&master).await;
    master.hub.stop();
    let Some(Message::Close(Some(frame))) = message(&mut socket).await else {
        panic!("no goodbye");
    };
    assert_eq!(u16::from(frame.code), 1001);
    tokio::time::timeout(Duration::from_secs(10), master.hub.stopped())
        .await
        .expect("nothing is left running");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_their_node() {
    let master = Master::start().await;
    let (address, wire) = crate::fake::wire(&master.world).await;
    let hello = crate::fake::hello("n1", 0);
    let _agent = Agent::connect_at(&master.world, address, "system:node:n1", hello).await.unwrap();
    master.pod("p", "n1").await;
    eventually("the node is there", async || master.hub.holds("n1")).await;
    let mut socket = running(&master).await;
    let pods = pods(&master.world).await;
    let follow = LogParams { follow: true, ..LogParams::default() };
    let mut log = pods.log_stream("p", &follow).await.unwrap();
    wire.abort();
    let mut status = Vec::new();
    while let Some(message) = message(&mut socket).await {
        if let Message::Binary(data) = message
            && data[0] == 3
        {
            status.extend_from_slice(&data[1..]);
        }
    }
    assert!(message_of(&status).contains("the connection to the node was lost"));
    let mut rest = Vec::new();
    let read = futures::AsyncReadExt::read_to_end(&mut log, &mut rest);
    let end = tokio::time::timeout(Duration::from_secs(10), read).await.expect("the log ends");
    assert!(end.is_err(), "a log that broke looks broken");
    eventually("the node is gone", async || !master.hub.holds("n1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_ends_its_command() {
    let (master, agent) = Master::with_pod().await;
    let path = format!("{EXEC}?command=cat&command=/dev/zero&stdout=true");
    for _ in 0..3 {
        let mut socket = websocket(&master.world, &path, "v5.channel.k8s.io").await;
        message(&mut socket).await.unwrap();
        drop(socket);
    }
    eventually("its output stands still", async || {
        let before = agent.taken.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(300)).await;
        before == agent.taken.load(Ordering::SeqCst)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_rights_run_no_commands() {
    let (master, _agent) = Master::with_pod().await;
    let world = &master.world;
    let role = |name: &str, verbs: &[&str]| {
        serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [{
                "apiGroups": [""], "verbs": verbs,
                "resources": ["pods/exec", "pods/portforward", "pods/log"],
            }],
        })
    };
    for (name, verbs) in [("reader", &["get"][..]), ("operator", &["get", "create"][..])] {
        let roles = "/apis/rbac.authorization.k8s.io/v1";
        world.create(&format!("{roles}/clusterroles"), role(name, verbs)).await;
        let binding = serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        });
        world.create(&format!("{roles}/clusterrolebindings"), binding).await;
    }
    let exec = format!("{EXEC}?command=true&stdout=true");
    let forward = "/api/v1/namespaces/default/pods/p/portforward?ports=7".to_owned();
    for (user, code) in [("reader", "403"), ("operator", "101")] {
        let pair = world.pki.client(user, &[]);
        for path in [&exec, &forward] {
            let mut stream = connect_as(world, &pair).await;
            let answer = ask(&mut stream, &websocket_head(path, "v4.channel.k8s.io")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{user} {path}: {answer}");
        }
        let mut stream = connect_as(world, &pair).await;
        let log = "/api/v1/namespaces/default/pods/p/log";
        let head = format!("GET {log} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(ask(&mut stream, &head).await.starts_with("HTTP/1.1 200 "), "{user} reads logs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_upgraded_is_told_why() {
    let (master, _agent) = Master::with_pod().await;
    let exec = format!("{EXEC}?command=true&stdout=true");
    let (code, status) = master.world.get(&exec).await;
    assert_eq!(
        (code.as_u16(), status["message"].as_str()),
        (400, Some("Upgrade request required"))
    );
    let log = "/api/v1/namespaces/default/pods/p/log?tailLines=-1";
    let (code, status) = master.world.get(log).await;
    assert_eq!((code.as_u16(), status["reason"].as_str()), (422, Some("Invalid")));
    assert_eq!(
        status["message"],
        "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or \
         equal to 0"
    );
    master.pod("unbound", "").await;
    let path = "/api/v1/namespaces/default/pods/unbound";
    let response = master.world.send("GET", &format!("{path}/log"), &[], "").await;
    assert_eq!(response.status(), 204);
    let mut stream = connect(&master.world).await;
    let head = websocket_head(&format!("{path}/exec?command=true&stdout=1"), "v5.channel.k8s.io");
    assert!(ask(&mut stream, &head).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_reader_of_a_log_loses_nothing() {
    let (master, agent) = Master::with_pod().await;
    let line = "x".repeat(1023);
    for _ in 0..8 * 1024 {
        agent.print(&line);
    }
    let path = "/api/v1/namespaces/default/pods/p/log";
    let response = master.world.send("GET", path, &[], "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain");
    let mut last = 0;
    let settled = async {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let taken = agent.taken.load(Ordering::SeqCst);
            if taken > 0 && taken == last {
                return taken;
            }
            last = taken;
        }
    };
    let taken = tokio::time::timeout(Duration::from_secs(20), settled).await.expect("it stops");
    assert!(taken < 8 * 1024 * 1024, "all of it was taken while nobody read");
    let body = crate::common::bytes_of(response).await;
    assert_eq!(body.len(), 8 * 1024 * 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_readers_hold_up_nobody_else_on_the_node() {
    let (master, agent) = Master::with_pod().await;
    let path = format!("{EXEC}?command=cat&command=/dev/zero&stdout=true");
    let mut paused = Vec::new();
    for _ in 0..24 {
        let mut socket = websocket(&master.world, &path, "v5.channel.k8s.io").await;
        message(&mut socket).await.unwrap();
        paused.push(socket);
    }
    let mut last = 0;
    let settled = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let taken = agent.taken.load(Ordering::SeqCst);
            if taken > 0 && taken == last {
                return;
            }
            last = taken;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), settled).await.expect("all of them pause");
    let _running = running(&master).await;
    let age = master.hub.liveness().age("n1").unwrap();
    assert!(age < Duration::from_secs(5), "nothing was heard of the node for {age:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_watches_come_over_websockets() {
    let (master, agent) = Master::with_pod().await;
    agent.print("one");
    let path = "/api/v1/namespaces/default/pods/p/log?container=c";
    let mut socket = websocket(&master.world, path, "binary.k8s.io").await;
    let mut text = Vec::new();
    while let Some(Message::Binary(piece)) = message(&mut socket).await {
        text.extend_from_slice(&piece);
    }
    assert_eq!(text, b"one\n");
    let path = "/api/v1/namespaces/default/pods?watch=true";
    let mut socket = websocket(&master.world, path, "any").await;
    let Some(Message::Text(event)) = message(&mut socket).await else { panic!("an event") };
    let event: serde_json::Value = serde_json::from_str(&event).unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["metadata"]["name"]),
        (&"ADDED".into(), &"p".into())
    );
}
