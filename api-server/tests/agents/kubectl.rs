//! kubectl itself, unchanged, over WebSocket and over SPDY.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::common::{World, has_kubectl};
use crate::world::{Master, eventually};

/// How kubectl is made to carry its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    WebSocket,
    Spdy,
}

const BOTH: [Over; 2] = [Over::WebSocket, Over::Spdy];

fn command(world: &World, over: Over, arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command
        .arg("--kubeconfig")
        .arg(world.kubeconfig())
        .arg("--cache-dir")
        .arg(world.dir.path().join("cache"))
        .args(arguments)
        .env("HOME", world.dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if over == Over::Spdy {
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false");
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false");
    }
    command
}

async fn run(world: &World, over: Over, arguments: &[&str], stdin: &[u8]) -> (i32, String, String) {
    let mut child = command(world, over, arguments).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    let writer = tokio::spawn(async move {
        // kubectl may end without having read it all.
        let _ = pipe.write_all(&stdin).await;
    });
    let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output())
        .await
        .unwrap_or_else(|_| panic!("kubectl {arguments:?} over {over:?} does not end"))
        .unwrap();
    writer.await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

async fn ok(world: &World, over: Over, arguments: &[&str]) -> String {
    let (code, out, err) = run(world, over, arguments, b"").await;
    assert_eq!(code, 0, "kubectl {arguments:?} over {over:?}\n{out}\n{err}");
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn logs() {
    if !has_kubectl() {
        return;
    }
    let (master, agent) = Master::with_pod().await;
    let world = &master.world;
    for line in ["one", "two", "three"] {
        agent.print(line);
    }
    assert_eq!(ok(world, Over::WebSocket, &["logs", "p"]).await, "one\ntwo\nthree\n");
    let out = ok(world, Over::WebSocket, &["logs", "p", "--tail=1", "--timestamps"]).await;
    assert_eq!(out, "2026-01-01T00:00:00.000000000Z three\n");
    let (code, _, err) = run(world, Over::WebSocket, &["logs", "-p", "p"], b"").await;
    assert_eq!(code, 1);
    assert!(
        err.contains(
            "Error from server (BadRequest): previous terminated container \"c\" in pod \"p\" not \
             found"
        ),
        "{err}"
    );
    let (_, _, err) = run(world, Over::WebSocket, &["logs", "p", "-c", "x"], b"").await;
    assert!(err.contains("container x is not valid for pod p"), "{err}");

    let mut following =
        command(world, Over::WebSocket, &["logs", "-f", "--tail=1", "p"]).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    assert_eq!(next_line(&mut lines).await.as_deref(), Some("three"));
    agent.print("four");
    assert_eq!(next_line(&mut lines).await.as_deref(), Some("four"));
    agent.end_container();
    assert_eq!(next_line(&mut lines).await, None, "the container has ended");
    assert!(following.wait().await.unwrap().success());

    master.pod("unbound", "").await;
    assert_eq!(ok(world, Over::WebSocket, &["logs", "unbound"]).await, "");
}

type Lines<R> = tokio::io::Lines<BufReader<R>>;

async fn next_line<R: tokio::io::AsyncRead + Unpin>(lines: &mut Lines<R>) -> Option<String> {
    tokio::time::timeout(Duration::from_secs(20), lines.next_line())
        .await
        .expect("a line within twenty seconds")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_gives_output_and_exit_code() {
    if !has_kubectl() {
        return;
    }
    let (master, _agent) = Master::with_pod().await;
    let world = &master.world;
    for over in BOTH {
        assert_eq!(ok(world, over, &["exec", "p", "--", "echo", "a b"]).await, "a b\n");
        let script = "echo out; echo err >&2; exit 3";
        let (code, out, err) =
            run(world, over, &["exec", "p", "--", "sh", "-c", script], b"").await;
        assert_eq!((code, out.as_str()), (3, "out\n"), "{over:?} {err}");
        assert!(err.starts_with("err\ncommand terminated with exit code 3"), "{over:?} {err}");
        let input = b"line\n".repeat(50_000);
        let arguments = ["exec", "-i", "p", "--", "sha256sum"];
        let (code, out, err) = run(world, over, &arguments, &input).await;
        assert_eq!(code, 0, "{over:?} {err}");
        let want = ok_host(&input).await;
        assert_eq!(out, want, "{over:?}");
        let out = ok(world, over, &["exec", "p", "--", "head", "-c", "3000000", "/dev/zero"]).await;
        assert_eq!(out.len(), 3_000_000, "{over:?}");
        let (code, _, err) = run(world, over, &["exec", "p", "--", "refuse"], b"").await;
        assert_eq!(code, 1);
        assert!(err.contains("container not found (\"c\")"), "{over:?} {err}");
    }
}

async fn ok_host(input: &[u8]) -> String {
    let mut child =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(input).await.unwrap();
    drop(pipe);
    String::from_utf8(child.wait_with_output().await.unwrap().stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_with_a_terminal() {
    if !has_kubectl() {
        return;
    }
    let (master, _agent) = Master::with_pod().await;
    let world = &master.world;
    for over in BOTH {
        // A terminal for kubectl; its size reaches the agent, which tells it.
        let kubectl = format!(
            "stty cols 91 rows 37; kubectl --kubeconfig {} exec -it p -- cat",
            world.kubeconfig().display()
        );
        let mut child = Command::new("script");
        child
            .args(["-qefc", &kubectl, "/dev/null"])
            .env("HOME", world.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if over == Over::Spdy {
            child.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false");
        }
        let mut child = child.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut seen = String::new();
        read_until(&mut stdout, &mut seen, "[91x37]").await;
        stdin.write_all(b"typed\n").await.unwrap();
        read_until(&mut stdout, &mut seen, "typed\r\ntyped").await;
        stdin.write_all(b"\x04").await.unwrap();
        let status = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
        assert!(status.expect("it ends").unwrap().success(), "{over:?} {seen}");
    }
}

async fn read_until(from: &mut (impl tokio::io::AsyncRead + Unpin), seen: &mut String, what: &str) {
    let mut buffer = [0; 4096];
    let found = tokio::time::timeout(Duration::from_secs(20), async {
        while !seen.contains(what) {
            match from.read(&mut buffer).await {
                Ok(got @ 1..) => seen.push_str(&String::from_utf8_lossy(&buffer[..got])),
                _ => return false,
            }
        }
        true
    });
    assert!(found.await.unwrap_or(false), "{what:?} not in {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cp_both_ways() {
    if !has_kubectl() {
        return;
    }
    let (master, _agent) = Master::with_pod().await;
    let world = &master.world;
    let content: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let path = |name: &str| world.dir.path().join(name).display().to_string();
    std::fs::write(path("source"), &content).unwrap();
    for over in BOTH {
        let (inside, back) = (path(&format!("inside-{over:?}")), path(&format!("back-{over:?}")));
        ok(world, over, &["cp", &path("source"), &format!("p:{inside}")]).await;
        assert!(std::fs::read(&inside).unwrap() == content, "{over:?}: what arrived differs");
        ok(world, over, &["cp", &format!("p:{inside}"), &back]).await;
        assert!(std::fs::read(&back).unwrap() == content, "{over:?}: what came back differs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attach() {
    if !has_kubectl() {
        return;
    }
    let (master, _agent) = Master::with_pod().await;
    // kubectl attaches stdin only to containers that have one.
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "q"},
        "spec": {"nodeName": "n1", "containers": [
            {"name": "c", "image": "i", "stdin": true},
        ]},
    });
    master.world.create("/api/v1/namespaces/default/pods", pod).await;
    master.running("q").await;
    for over in BOTH {
        let (code, out, err) = run(&master.world, over, &["attach", "-i", "q"], b"echoed\n").await;
        assert_eq!((code, out.as_str()), (0, "echoed\n"), "{over:?} {err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn port_forward() {
    if !has_kubectl() {
        return;
    }
    let (master, _agent) = Master::with_pod().await;
    for over in BOTH {
        let arguments = ["port-forward", "pod/p", ":7", ":9"];
        let mut child = command(&master.world, over, &arguments).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut ports = std::collections::BTreeMap::new();
        while ports.len() < 2 {
            let line = next_line(&mut lines).await.expect("kubectl goes on");
            // Forwarding from 127.0.0.1:41235 -> 7
            let words: Vec<&str> = line.split(' ').collect();
            if let Some(port) = words[2].strip_prefix("127.0.0.1:") {
                ports.insert(words[4].to_owned(), port.parse::<u16>().unwrap());
            }
        }
        let one = converse(ports["7"], vec![b'x'; 500_000]);
        let other = converse(ports["7"], b"hello".to_vec());
        tokio::join!(one, other);
        refused(&mut child, ports["9"], over).await;
    }
}

/// Sends everything and closes; the echo comes back whole.
async fn converse(port: u16, data: Vec<u8>) {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let sent = data.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    let all = tokio::time::timeout(Duration::from_secs(20), read.read_to_end(&mut got)).await;
    all.expect("the echo ends").unwrap();
    writer.await.unwrap();
    assert!(got == data, "{} of {} bytes came back", got.len(), data.len());
}

async fn refused(child: &mut Child, port: u16, over: Over) {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut got = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut got)).await;
    // Reset or end, whatever kubectl makes of it.
    let _ = end.expect("the connection ends");
    assert!(got.is_empty());
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = next_line(&mut lines).await.expect("an error is told");
        if line.contains("error forwarding port 9 to pod p_default") {
            assert!(line.contains("connection refused"), "{over:?} {line}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_there_is_named() {
    if !has_kubectl() {
        return;
    }
    let (master, agent) = Master::with_pod().await;
    drop(agent);
    eventually("the node is gone", async || !master.hub.holds("n1")).await;
    for over in BOTH {
        let (code, _, err) = run(&master.world, over, &["exec", "p", "--", "true"], b"").await;
        assert_eq!(code, 1);
        assert!(
            err.contains("error dialing backend: node n1 is not connected to any master"),
            "{over:?} {err}"
        );
    }
}
