//! The life of pods on a runtime that runs nothing: what is asked of it, in which order, and what the masters hear.
#![allow(missing_docs, unreachable_pub, dead_code)]
// A test panics where it is wrong, and tells a story in one go.
#![allow(clippy::unwrap_used, clippy::too_many_lines, reason = "helpers of tests")]

#[path = "support/master.rs"]
mod master;

use std::sync::Arc;
use std::time::Duration;

use master::{Listening, Master, wait_until};
use quorate_node_agent::pretend::Pretend;
use quorate_node_agent::{Agent, Config};
use quorate_proto::agent::ObjectKind;
use serde_json::{Value, json};

/// Generous: machines that run tests are busy.
const SOON: Duration = Duration::from_secs(60);

struct World {
    dir: tempfile::TempDir,
    fake: Pretend,
    master: Master,
    listening: Option<Listening>,
    agent: Option<Agent>,
}

impl World {
    async fn start() -> World {
        let master = Master::default();
        let listening = Some(master.listen().await);
        let dir = tempfile::tempdir().unwrap();
        let mut world = World { dir, fake: Pretend::default(), master, listening, agent: None };
        world.start_agent().await;
        world
    }

    async fn start_agent(&mut self) {
        let mut config = Config::new("node-1", self.dir.path());
        let nowhere = "http://127.0.0.1:1".to_owned();
        config.masters = vec![self.listening.as_ref().map_or(nowhere, |at| at.url.clone())];
        self.agent = Some(Agent::start(config, Arc::new(self.fake.clone())).await.unwrap());
    }

    async fn stop_agent(&mut self) {
        self.agent.take().unwrap().shutdown().await;
    }

    async fn apply(&self, spec: Value) {
        self.master.apply(ObjectKind::Pod, pod(spec)).await;
    }

    fn status(&self) -> Value {
        self.master.status("uid-p")
    }

    async fn until(&self, what: &str, good: impl Fn(&Value, &[String]) -> bool) -> Value {
        wait_until(what, SOON, || {
            let (status, calls) = (self.status(), self.fake.calls());
            (good(&status, &calls), (status, calls, self.master.events("p")))
        })
        .await;
        self.status()
    }

    /// Deletes the pod and waits until nothing is left, so that no mount outlives the test.
    async fn end(mut self) {
        self.master.delete_pod("ns", "p", 5).await;
        wait_until("the pod is gone", SOON, || (self.master.is_gone("uid-p"), self.status())).await;
        self.stop_agent().await;
    }
}

fn pod(spec: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ns", "uid": "uid-p", "generation": 1},
        "spec": spec,
    })
}

fn container(name: &str, command: &[&str]) -> Value {
    json!({"name": name, "image": "busybox:test", "command": command})
}

fn with(mut container: Value, more: Value) -> Value {
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    container
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let all = status["conditions"].as_array();
    all.and_then(|all| all.iter().find(|c| c["type"] == kind)).unwrap_or(&Value::Null)
}

fn is(status: &Value, kind: &str, value: &str) -> bool {
    condition(status, kind)["status"] == value
}

fn position(calls: &[String], call: &str) -> Option<usize> {
    calls.iter().position(|found| found.starts_with(call))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_containers_and_sidecars_come_and_go_in_order() {
    let world = World::start().await;
    let sidecar = |name: &str| {
        with(
            container(name, &["run"]),
            json!({"restartPolicy": "Always", "startupProbe": {
                "exec": {"command": ["flag", name]}, "periodSeconds": 1, "failureThreshold": 1000}}),
        )
    };
    world
        .apply(json!({
            "initContainers": [container("i", &["run"]), sidecar("s"), sidecar("t")],
            "containers": [container("a", &["run"])],
        }))
        .await;
    let status =
        world.until("i runs", |s, _| s["initContainerStatuses"][0]["state"]["running"].is_object());
    let status = status.await;
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["initContainerStatuses"][0]["ready"], false);
    assert_eq!(condition(&status, "Initialized")["reason"], "ContainersNotInitialized");
    assert_eq!(
        condition(&status, "Initialized")["message"],
        "containers with incomplete status: [i s t]"
    );
    let waiting = &status["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "PodInitializing");
    world.fake.kill("i", 0);
    world.until("s is asked whether it has started", |_, c| position(c, "exec s").is_some()).await;
    assert_eq!(position(&world.fake.calls(), "start t"), None, "t waits for s");
    world.fake.set("s");
    world.until("t is asked", |_, c| position(c, "exec t").is_some()).await;
    assert_eq!(position(&world.fake.calls(), "start a"), None, "a waits for t");
    world.fake.set("t");
    let status = world.until("the pod is ready", |s, _| is(s, "Ready", "True")).await;
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["initContainerStatuses"][0]["ready"], true);
    assert!(is(&status, "Initialized", "True") && is(&status, "PodReadyToStartContainers", "True"));
    // A sidecar that dies comes back and takes nobody along.
    world.fake.kill("t", 3);
    world.until("t is back", |s, _| s["initContainerStatuses"][2]["restartCount"] == 1).await;
    let fake = world.fake.clone();
    world.end().await;
    let calls = fake.calls();
    let stops: Vec<&str> = calls.iter().filter_map(|c| c.strip_prefix("stop ")?.get(..1)).collect();
    assert_eq!(stops, ["a", "t", "s"], "main containers first, then sidecars from the last");
    assert_eq!(calls.iter().filter(|c| *c == "start a").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_cannot_be_had_are_named() {
    let world = World::start().await;
    let with_image = |name: &str, image: &str, policy: &str| json!({"name": name, "image": image, "imagePullPolicy": policy, "command": ["run"]});
    world
        .apply(json!({"containers": [
            with_image("missing", "nowhere.invalid/x:1", "IfNotPresent"),
            with_image("never", "other:1", "Never"),
            with_image("wrong", "Wrong Name", "Always"),
        ]}))
        .await;
    let reason = |status: &Value, index: usize| {
        status["containerStatuses"][index]["state"]["waiting"]["reason"].clone()
    };
    world.until("the pull fails", |s, _| reason(s, 0) == "ErrImagePull").await;
    let status = world.until("it backs off", |s, _| reason(s, 0) == "ImagePullBackOff").await;
    assert_eq!(reason(&status, 1), "ErrImageNeverPull");
    assert_eq!(reason(&status, 2), "InvalidImageName");
    assert_eq!(status["phase"], "Pending");
    let message = |index: usize| {
        let waiting = &status["containerStatuses"][index]["state"]["waiting"];
        waiting["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        message(0),
        "Back-off pulling image \"nowhere.invalid/x:1\": ErrImagePull: nowhere.invalid/x:1: not found"
    );
    assert_eq!(message(1), "Container image \"other:1\" is not present with pull policy of Never");
    assert!(message(2).contains("couldn't parse image name \"Wrong Name\""));
    let events = world.master.events("p");
    for expected in [
        "Pulling: Pulling image \"nowhere.invalid/x:1\"",
        "Failed: Error: ErrImagePull",
        "BackOff: Back-off pulling image \"nowhere.invalid/x:1\"",
        "Failed: Error: ImagePullBackOff",
        "Failed: Error: ErrImageNeverPull",
        "Failed: Error: InvalidImageName",
    ] {
        assert!(events.iter().any(|event| event == expected), "{expected} in {events:#?}");
    }
    // The image appears: the pod starts without anybody's help.
    world.fake.add_image("nowhere.invalid/x:1");
    world
        .until("it starts", |s, _| s["containerStatuses"][0]["state"]["running"].is_object())
        .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_says_why() {
    let world = World::start().await;
    let long = format!("{}end", "x".repeat(5000));
    let fallback = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
    world
        .apply(json!({"restartPolicy": "Never", "containers": [
            container("file", &["exit", "1", "why", "log"]),
            with(container("log", &["exit", "1", "", "last words"]), fallback.clone()),
            with(container("good", &["exit", "0", "", "no matter"]), fallback),
            container("long", &["exit", "2", &long]),
        ]}))
        .await;
    let status = world.until("all have ended", |s, _| s["phase"] == "Failed").await;
    let ended = |index: usize| status["containerStatuses"][index]["state"]["terminated"].clone();
    assert_eq!(ended(0)["message"], "why");
    assert_eq!(ended(0)["reason"], "Error");
    assert_eq!(ended(1)["message"], "last words\n");
    assert_eq!((&ended(2)["message"], &ended(2)["reason"]), (&Value::Null, &json!("Completed")));
    let message = ended(3)["message"].as_str().unwrap().to_owned();
    assert!(message.len() == 4096 && message.ends_with("xend"), "{}", message.len());
    assert_eq!(condition(&status, "Ready")["reason"], "PodFailed");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_liveness_probe_restarts_by_policy_and_its_own_grace() {
    let world = World::start().await;
    world.fake.set("alive");
    let probe = json!({"exec": {"command": ["flag", "alive", "a-stopped"]}, "periodSeconds": 1,
        "failureThreshold": 1, "terminationGracePeriodSeconds": 7});
    let a = with(container("a", &["run"]), json!({"livenessProbe": probe}));
    // Ended by us it exits with 0, which alone would be no reason to start again.
    world.apply(json!({"restartPolicy": "OnFailure", "containers": [a]})).await;
    world.until("it is ready", |s, _| is(s, "Ready", "True")).await;
    world.fake.clear("alive");
    let again = |s: &Value, _: &[String]| {
        s["containerStatuses"][0]["restartCount"].as_i64() >= Some(1) && is(s, "Ready", "True")
    };
    world.until("it is back", again).await;
    assert!(world.fake.calls().contains(&"stop a 7".to_owned()), "{:?}", world.fake.calls());
    let events = world.master.events("p");
    assert!(
        events
            .contains(&"Killing: Container a failed liveness probe, will be restarted".to_owned()),
        "{events:#?}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_run_where_they_belong() {
    let world = World::start().await;
    world.fake.set("good");
    let hooks = |start: &str| {
        json!({"lifecycle": {
            "postStart": {"exec": {"command": ["flag", start]}},
            "preStop": {"exec": {"command": ["flag", "bye"]}},
        }})
    };
    world.apply(json!({"containers": [with(container("a", &["run"]), hooks("good"))]})).await;
    world.until("it is ready", |s, _| is(s, "Ready", "True")).await;
    let (fake, master) = (world.fake.clone(), world.master.clone());
    world.end().await;
    let calls = fake.calls();
    let order = ["start a", "exec a flag good", "exec a flag bye", "stop a"];
    let places: Vec<_> = order.iter().map(|call| position(&calls, call).unwrap()).collect();
    assert!(places.is_sorted(), "{calls:?}");
    let events = master.events("p");
    assert!(events.contains(&"FailedPreStopHook: PreStopHook failed".to_owned()), "{events:#?}");

    let world = World::start().await;
    let bad = with(container("a", &["run"]), hooks("bad"));
    world.apply(json!({"restartPolicy": "Never", "containers": [bad]})).await;
    world.until("it has failed", |s, _| s["phase"] == "Succeeded" || s["phase"] == "Failed").await;
    let events = world.master.events("p");
    assert!(
        events.contains(&"FailedPostStartHook: PostStartHook failed".to_owned()),
        "{events:#?}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_restart_is_noticed_by_nobody() {
    let mut world = World::start().await;
    let secret = json!({"metadata": {"name": "s", "namespace": "ns"}, "data": {"k": "c2hoaA=="}});
    world.master.apply(ObjectKind::Secret, secret).await;
    world.fake.set("ready");
    let probe = json!({"exec": {"command": ["flag", "ready"]}, "periodSeconds": 3600});
    let a = with(
        container("a", &["run"]),
        json!({
            "readinessProbe": probe, "startupProbe": probe,
            "env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        }),
    );
    let spec = json!({"containers": [a]});
    world.apply(spec.clone()).await;
    let status = world.until("it is ready", |s, _| is(s, "Ready", "True")).await;
    // The object carries its status, as a real master's does.
    let mut object = pod(spec);
    object["status"] = status.clone();
    world.master.apply(ObjectKind::Pod, object).await;
    // What an agent did not hear before its end, the next one does not know before it hears it again.
    let checkpoint = world.dir.path().join("agent/state/desired.json");
    wait_until("the agent has heard of it", SOON, || {
        let text = std::fs::read_to_string(&checkpoint).unwrap_or_default();
        (text.contains(r#""ready":true"#), text)
    })
    .await;
    world.stop_agent().await;
    let before = world.master.history("uid-p").len();
    world.start_agent().await;
    wait_until("the new agent greets", SOON, || (world.master.hellos().len() > 1, ())).await;
    let told = || world.master.history("uid-p");
    wait_until("the new agent reports", SOON, || (told().len() > before, told())).await;
    let history = told();
    // From here on it may well be unready: its probes are asked while it goes.
    world.fake.kill("a", 9);
    world.until("it is restarted", |s, _| s["containerStatuses"][0]["restartCount"] == 1).await;
    let id = &status["containerStatuses"][0]["containerID"];
    for seen in &history[before..] {
        let container = &seen["containerStatuses"][0];
        if container["containerID"] == *id && container["state"]["running"].is_object() {
            assert!(is(seen, "Ready", "True"), "the adopted container was unready: {seen:#}");
        }
    }

    // Now with every master gone, the secret is still there for a container that has to start again.
    world.stop_agent().await;
    world.listening = None;
    world.start_agent().await;
    world.fake.kill("a", 9);
    let starts = |calls: &[String]| calls.iter().filter(|call| *call == "start a").count();
    let fake = world.fake.clone();
    if std::path::Path::new("/run/quorate").exists()
        || std::path::Path::new("/dev/shm/quorate").exists()
    {
        wait_until("it starts a third time", SOON, || (starts(&fake.calls()) >= 3, fake.calls()))
            .await;
        let env = fake.config("a").unwrap().env;
        assert!(env.contains(&("S".to_owned(), "shhh".to_owned())), "{env:?}");
    }
    world.stop_agent().await;
    let kept = world.dir.path().canonicalize().unwrap().join("agent");
    let kept = kept.to_string_lossy().replace(['/', '.'], "-");
    for base in ["/run/quorate", "/dev/shm/quorate"] {
        let _ = std::fs::remove_dir_all(std::path::Path::new(base).join(&kept));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_pod_reaches_its_containers() {
    let world = World::start().await;
    world.fake.add_image("docker.io/library/other:1");
    let cpu = |cpu: &str| json!({"resources": {"limits": {"cpu": cpu}, "requests": {"cpu": cpu}}});
    world.apply(json!({"containers": [with(container("a", &["run"]), cpu("100m"))]})).await;
    let status = world.until("it is ready", |s, _| is(s, "Ready", "True")).await;
    assert_eq!(status["containerStatuses"][0]["allocatedResources"]["cpu"], "100m");
    world.apply(json!({"containers": [with(container("a", &["run"]), cpu("200m"))]})).await;
    let resized =
        |s: &Value, _: &[String]| s["containerStatuses"][0]["resources"]["limits"]["cpu"] == "200m";
    let status = world.until("it is resized", resized).await;
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
    assert!(world.fake.calls().contains(&"update a 20000".to_owned()), "{:?}", world.fake.calls());
    // What the runtime refuses is said, not tried again at once, and not claimed.
    world.apply(json!({"containers": [with(container("a", &["run"]), cpu("333m"))]})).await;
    let status = world.until("it failed", |s, _| is(s, "PodResizeInProgress", "True")).await;
    assert_eq!(condition(&status, "PodResizeInProgress")["reason"], "Error");
    assert_eq!(status["containerStatuses"][0]["resources"]["limits"]["cpu"], "200m");
    world.apply(json!({"containers": [with(container("a", &["run"]), cpu("200m"))]})).await;
    let gone = |s: &Value, _: &[String]| condition(s, "PodResizeInProgress").is_null();
    world.until("nothing is to be resized", gone).await;
    let tries = world.fake.calls().iter().filter(|call| *call == "update a 33300").count();
    assert_eq!(tries, 1);
    // Some of it may have been done: what it had is written again.
    let back = world.fake.calls().iter().filter(|call| *call == "update a 20000").count();
    assert_eq!(back, 2);
    // More than the node has: it says so and keeps what it has.
    world.apply(json!({"containers": [with(container("a", &["run"]), cpu("100000"))]})).await;
    let status = world.until("it is refused", |s, _| is(s, "PodResizePending", "True")).await;
    assert_eq!(condition(&status, "PodResizePending")["reason"], "Infeasible");
    assert_eq!(status["containerStatuses"][0]["resources"]["limits"]["cpu"], "200m");
    // Another image: started anew.
    let other = with(container("a", &["run"]), json!({"image": "other:1"}));
    world.apply(json!({"containers": [with(other, cpu("200m"))]})).await;
    let status = world
        .until("it is restarted", |s, _| {
            s["containerStatuses"][0]["restartCount"] == 1 && is(s, "Ready", "True")
        })
        .await;
    assert_eq!(status["containerStatuses"][0]["image"], "other:1");
    assert_eq!(condition(&status, "PodResizePending"), &Value::Null);
    let events = world.master.events("p");
    let text = "Killing: Container a definition changed, will be restarted";
    assert!(events.iter().any(|event| event == text), "{events:#?}");
    // An ephemeral container looks into it.
    let id = status["containerStatuses"][0]["containerID"].as_str().unwrap().to_owned();
    let other = with(container("a", &["run"]), json!({"image": "other:1"}));
    let debugger = with(container("d", &["run"]), json!({"targetContainerName": "a"}));
    world
        .apply(json!({"containers": [with(other, cpu("200m"))], "ephemeralContainers": [debugger]}))
        .await;
    world
        .until("the debugger runs", |s, _| {
            s["ephemeralContainerStatuses"][0]["state"]["running"].is_object()
        })
        .await;
    let target = world.fake.config("d").unwrap().security.pid_target.unwrap();
    assert_eq!(format!("pretend://{target}"), id);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_ends_what_it_must_not_run() {
    let world = World::start().await;
    let sysctl = json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]});
    world.apply(json!({"securityContext": sysctl, "containers": [container("a", &["run"])]})).await;
    let status = world.until("it is refused", |s, _| s["phase"] == "Failed").await;
    assert_eq!(status["reason"], "SysctlForbidden");
    assert_eq!(
        status["message"],
        "Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted"
    );
    assert_eq!(position(&world.fake.calls(), "start a"), None);
    world.end().await;

    let world = World::start().await;
    world
        .apply(json!({"activeDeadlineSeconds": 1, "containers": [container("a", &["run"])]}))
        .await;
    let status = world.until("its time is over", |s, _| s["phase"] == "Failed").await;
    assert_eq!(status["reason"], "DeadlineExceeded");
    world.end().await;

    let world = World::start().await;
    world
        .apply(json!({
            "terminationGracePeriodSeconds": 600,
            "containers": [with(container("a", &["run"]),
                json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "sub/dir"}]}))],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}],
        }))
        .await;
    world.until("it is ready", |s, _| is(s, "Ready", "True")).await;
    let mounts = world.fake.config("a").unwrap().mounts;
    let volume = mounts.iter().find(|mount| mount.container_path == "/v").unwrap();
    let mode = std::fs::metadata(&volume.host_path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777;
    assert_eq!(mode, 0o777, "any user may write to a sub-path of an emptyDir");
    std::fs::write(volume.host_path.join("big"), vec![1; 2 << 20]).unwrap();
    let status = world.until("it is evicted", |s, _| s["phase"] == "Failed").await;
    assert_eq!(status["reason"], "Evicted");
    assert_eq!(status["message"], "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ");
    assert_eq!(condition(&status, "DisruptionTarget")["reason"], "TerminationByKubelet");
    assert!(world.fake.calls().contains(&"stop a 2".to_owned()), "{:?}", world.fake.calls());
    world.end().await;
}
