//! Pods on a real containerd, asked for by a master in this process.
#![allow(missing_docs, unreachable_pub)]
// A test panics where it is wrong, and tells a story in one go.
#![allow(clippy::unwrap_used, clippy::too_many_lines, clippy::large_futures)]

#[path = "../../tests/common/containerd.rs"]
#[allow(dead_code, reason = "each test uses its own part")]
mod containerd;
#[path = "support/master.rs"]
mod master;
#[path = "../../tests/common/scratch.rs"]
mod scratch;

use std::sync::Arc;
use std::time::Duration;

use containerd::{Containerd, TAGGED as IMAGE};
use master::{Master, wait_until};
use quorate_node_agent::cri::CriRuntime;
use quorate_node_agent::runtime::Runtime;
use quorate_node_agent::{Agent, Config};
use quorate_proto::agent::{
    AttachRequest, ChannelFrame, ExecRequest, LogRequest, ObjectKind, PortForwardRequest, Resize,
    channel_frame, open_channel::Request,
};
use serde_json::{Value, json};
use tokio_stream::StreamExt;

const SOON: Duration = Duration::from_secs(40);

fn pod(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "generation": 1},
        "spec": spec,
    })
}

fn config(containerd: &Containerd, urls: &[&str]) -> Config {
    let mut config = Config::new("node-1", containerd.dir.path().join("data"));
    config.masters = urls.iter().map(|url| (*url).to_owned()).collect();
    config
}

async fn start(containerd: &Containerd, urls: &[&str]) -> Agent {
    let runtime = Arc::new(CriRuntime::new(containerd.socket()));
    Agent::start(config(containerd, urls), runtime).await.unwrap()
}

fn ready(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn exec(command: &[&str]) -> Request {
    Request::Exec(ExecRequest {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        stdin: false,
        stdout: true,
        stderr: true,
        tty: false,
    })
}

async fn run(master: &Master, pod: &Value, command: &[&str]) -> (String, String, Value) {
    let ends = master.open(pod, "c", exec(command)).await.unwrap();
    master.read(ends).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_lives_is_adopted_and_goes() {
    let Some(containerd) = Containerd::start(Some(("qrtagent", "10.211.7.0/24"))) else { return };
    let master = Master::default();
    let first = master.listen().await;
    let second = master.listen().await;
    let urls = [first.url.as_str(), second.url.as_str()];
    let agent = start(&containerd, &urls).await;
    let map = json!({"metadata": {"name": "map", "namespace": "ns"}, "data": {"greeting": "hello", "color": "red"}});
    master.apply(ObjectKind::ConfigMap, map.clone()).await;
    let web = pod(
        "web",
        json!({
            "initContainers": [{"name": "init", "image": "busybox:test", "command": ["/bin/sh", "-c", "echo \
             made > /work/file"],
                "volumeMounts": [{"name": "work", "mountPath": "/work"}]}],
            "containers": [{
                "name": "c", "image": "busybox:test",
                "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; echo $GREETING $(POD) $FROM_IMAGE; echo oops \
                 >&2; httpd -p 8080 -h /work; while true; do sleep 0.2; done"],
                "env": [
                    {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "greeting"}}},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
                ],
                "volumeMounts": [{"name": "work", "mountPath": "/work"}, {"name": "map", "mountPath": "/map"},
                    {"name": "token", "mountPath": "/token"}],
                "readinessProbe": {"httpGet": {"path": "/file", "port": 8080}, "periodSeconds": 1},
                "livenessProbe": {"exec": {"command": ["/bin/test", "!", "-e", "/tmp/dead"]},
                "periodSeconds": 1, "failureThreshold": 1}
            }],
            "terminationGracePeriodSeconds": 10,
            "volumes": [
                {"name": "work", "emptyDir": {}},
                {"name": "map", "configMap": {"name": "map"}},
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
            ]
        }),
    );
    master.apply(ObjectKind::Pod, web.clone()).await;
    wait_until("web is ready", SOON, || {
        let status = master.status("uid-web");
        (ready(&status), (status, master.events("web")))
    })
    .await;
    let status = master.status("uid-web");
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    assert!(status["podIP"].as_str().unwrap().starts_with("10.211.7."), "{status:#}");

    // Logs, exec, port-forward.
    let log = Request::Log(LogRequest { tail_lines: Some(5), ..Default::default() });
    let ends = master.open(&web, "c", log).await.unwrap();
    let (out, _, end) = master.read(ends).await;
    assert!(out.contains("hello web yes\n") && out.contains("oops\n"), "{out:?} {end}");
    assert_eq!(end["status"], "Success");
    let (out, err, end) = run(
        &master,
        &web,
        &["/bin/sh", "-c", "cat /map/color /token/token /etc/hosts; echo bad >&2; exit 3"],
    )
    .await;
    assert!(out.starts_with("redtoken of default# Kubernetes-managed"), "{out:?}");
    assert_eq!(err, "bad\n");
    assert_eq!(end["reason"], "NonZeroExitCode");
    assert_eq!(end["details"]["causes"][0]["message"], "3");
    let (up, mut frames) = master
        .open(&web, "", Request::PortForward(PortForwardRequest { port: 8080 }))
        .await
        .unwrap();
    let get = channel_frame::Frame::Stdin("GET /file HTTP/1.0\r\n\r\n".into());
    up.send(Ok(ChannelFrame { frame: Some(get) })).await.unwrap();
    let mut page = String::new();
    while let Some(Ok(frame)) = frames.next().await {
        if let Some(channel_frame::Frame::Stdout(bytes)) = frame.frame {
            page.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    assert!(page.contains(" 200 OK") && page.ends_with("made\n"), "{page:?}");

    // The volume follows its ConfigMap.
    let mut blue = map;
    blue["data"]["color"] = "blue".into();
    master.apply(ObjectKind::ConfigMap, blue).await;
    let mut color = String::new();
    for _ in 0..100 {
        color = run(&master, &web, &["/bin/cat", "/map/color"]).await.0;
        if color == "blue" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(color, "blue");

    // Its master dies: the agent is with the other one within two seconds, and nothing restarts.
    let id = master.status("uid-web")["containerStatuses"][0]["containerID"].clone();
    let lost = agent.connected_master().unwrap();
    let (dead, left) = if lost == first.url { (first, second) } else { (second, first) };
    drop(dead);
    wait_until("the other master is greeted", Duration::from_secs(2), || {
        (agent.connected_master().as_ref() == Some(&left.url), agent.connected_master())
    })
    .await;
    assert!(master.hellos()[1].resume_revision > 0, "it goes on where it was");

    // The agent dies; a new one adopts the pod.
    agent.shutdown().await;
    let agent = start(&containerd, &[&left.url]).await;
    wait_until("the new agent greets", SOON, || {
        (master.hellos().len() >= 3, master.hellos().len())
    })
    .await;
    let uids = master.hellos().last().unwrap().pod_uids.clone();
    assert!(uids.contains(&"uid-web".to_owned()), "{uids:?}");
    let (_, _, end) = run(&master, &web, &["/bin/test", "-e", "/work/file"]).await;
    assert_eq!(end["status"], "Success", "{end}");
    assert_eq!(master.status("uid-web")["containerStatuses"][0]["containerID"], id);

    // containerd tells when containers end.
    let mut ends = CriRuntime::new(containerd.socket()).watch();
    let told = tokio::spawn(async move { ends.next().await });

    // The liveness probe fails: restarted.
    run(&master, &web, &["/bin/touch", "/tmp/dead"]).await;
    wait_until("web is restarted and ready", SOON, || {
        let status = master.status("uid-web");
        (
            status["containerStatuses"][0]["restartCount"] == 1 && ready(&status),
            (status, master.events("web")),
        )
    })
    .await;
    let events = master.events("web");
    assert!(
        events.iter().any(|e| e == "Killing: Container c failed liveness probe, will be restarted"),
        "{events:#?}"
    );

    // Deleted: stopped with grace, reported, gone.
    master.delete_pod("ns", "web", 10).await;
    wait_until("web is gone", SOON, || {
        (master.is_gone("uid-web"), (master.status("uid-web"), master.events("web")))
    })
    .await;
    let state = master.status("uid-web")["containerStatuses"][0]["state"].clone();
    assert_eq!(state["terminated"]["exitCode"], 0, "{state:#}");
    let left = containerd.dir.path().join("data/agent/volumes/uid-web");
    assert!(!left.exists(), "nothing of it is left");

    terminals_and_attached_streams(&master).await;
    crash_loop(&master).await;
    run_to_completion(&master).await;
    assert_eq!(tokio::time::timeout(SOON, told).await.unwrap().unwrap(), Some(()));
    agent.shutdown().await;
}

/// Reads a channel until the text has come.
async fn read_until(frames: &mut tonic::Streaming<ChannelFrame>, text: &str) -> String {
    let mut out = String::new();
    while !out.contains(text) {
        let frame = tokio::time::timeout(SOON, frames.next()).await;
        let frame = frame.unwrap_or_else(|_| panic!("no {text:?} after {out:?}")).unwrap().unwrap();
        if let Some(channel_frame::Frame::Stdout(bytes)) = frame.frame {
            out.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    out
}

/// A terminal that changes its size, the input of a running process, and a debug container that sees its processes.
async fn terminals_and_attached_streams(master: &Master) {
    let cat = |name: &str| {
        json!({"name": name, "image": "busybox:test", "stdin": true,
            "command": ["/bin/sh", "-c", "echo ready; exec /bin/cat"]})
    };
    let talk = pod("talk", json!({"containers": [cat("c")], "terminationGracePeriodSeconds": 1}));
    master.apply(ObjectKind::Pod, talk.clone()).await;
    wait_until("talk is ready", SOON, || {
        let status = master.status("uid-talk");
        (ready(&status), (status, master.events("talk")))
    })
    .await;
    let script =
        "while [ \"$(/bin/busybox stty size)\" != '33 99' ]; do sleep 0.1; done; echo sized";
    let request = Request::Exec(ExecRequest {
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    });
    let (up, mut frames) = master.open(&talk, "c", request).await.unwrap();
    let size = channel_frame::Frame::Resize(Resize { width: 99, height: 33 });
    up.send(Ok(ChannelFrame { frame: Some(size) })).await.unwrap();
    read_until(&mut frames, "sized\r\n").await;

    let request =
        Request::Attach(AttachRequest { stdin: true, stdout: true, stderr: true, tty: false });
    let (up, mut frames) = master.open(&talk, "c", request).await.unwrap();
    let text = channel_frame::Frame::Stdin("over to you\n".into());
    up.send(Ok(ChannelFrame { frame: Some(text) })).await.unwrap();
    read_until(&mut frames, "over to you\n").await;

    let mut debugged = talk.clone();
    debugged["spec"]["ephemeralContainers"] = json!([{
        "name": "d", "image": "busybox:test", "targetContainerName": "c",
        "command": ["/bin/sh", "-c", "/bin/busybox ps; exec /bin/sleep 1000"],
    }]);
    master.apply(ObjectKind::Pod, debugged.clone()).await;
    wait_until("the debugger runs", SOON, || {
        let status = master.status("uid-talk");
        let state = &status["ephemeralContainerStatuses"][0]["state"];
        (state["running"].is_object(), (status.clone(), master.events("talk")))
    })
    .await;
    let follow = Request::Log(LogRequest { follow: true, ..Default::default() });
    let (_up, mut frames) = master.open(&debugged, "d", follow).await.unwrap();
    read_until(&mut frames, "/bin/cat").await;
    master.delete_pod("ns", "talk", 1).await;
    wait_until("talk is gone", SOON, || (master.is_gone("uid-talk"), master.status("uid-talk")))
        .await;
}

async fn crash_loop(master: &Master) {
    let crash = pod(
        "crash",
        json!({
            "containers": [{"name": "c", "image": IMAGE, "command": ["/bin/sh", "-c", "echo why > \
             /dev/termination-log; exit 7"]}]
        }),
    );
    master.apply(ObjectKind::Pod, crash).await;
    wait_until("crash loops", SOON, || {
        let status = master.status("uid-crash");
        let state = &status["containerStatuses"][0]["state"]["waiting"];
        (state["reason"] == "CrashLoopBackOff", (status.clone(), master.events("crash")))
    })
    .await;
    let status = master.status("uid-crash");
    let container = &status["containerStatuses"][0];
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 7);
    assert_eq!(container["lastState"]["terminated"]["message"], "why\n");
    assert_eq!(
        container["state"]["waiting"]["message"],
        "back-off 10s restarting failed container=c pod=crash_ns(uid-crash)"
    );
    assert_eq!(status["phase"], "Running");
    // Its object is removed by force: nothing of it stays.
    master.remove(ObjectKind::Pod, "ns", "crash").await;
}

async fn run_to_completion(master: &Master) {
    let job = pod(
        "job",
        json!({
            "restartPolicy": "Never",
            "containers": [{"name": "c", "image": IMAGE, "command": ["/bin/echo", "done"]}]
        }),
    );
    master.apply(ObjectKind::Pod, job).await;
    wait_until("job succeeds", SOON, || {
        let status = master.status("uid-job");
        (status["phase"] == "Succeeded", (status, master.events("job")))
    })
    .await;
    let nopull = pod(
        "nopull",
        json!({
            "containers": [{"name": "c", "image": "nowhere.invalid/x:1", "imagePullPolicy": "Never"}]
        }),
    );
    master.apply(ObjectKind::Pod, nopull).await;
    wait_until("nopull waits", SOON, || {
        let status = master.status("uid-nopull");
        let reason = status["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
        (
            reason == "ErrImageNeverPull" && status["phase"] == "Pending",
            (status, master.events("nopull")),
        )
    })
    .await;
    for name in ["job", "nopull"] {
        master.delete_pod("ns", name, 1).await;
        let uid = format!("uid-{name}");
        wait_until("it is gone", SOON, || (master.is_gone(&uid), master.status(&uid))).await;
    }
}
