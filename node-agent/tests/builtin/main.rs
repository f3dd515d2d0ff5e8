//! The built-in runtime with real containers, from an image made of this machine's busybox. Needs root.

// Helpers of tests may unwrap as tests do; the lint only knows functions marked as tests.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod images;
mod network;
mod registry;
mod security;
mod streams;
mod world;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use quorate_node_agent::runtime::{
    AttachOptions, ContainerConfig, ContainerId, ContainerState, Error, ExecOptions,
    LinuxResources, Mount, NamespaceMode, Runtime, SandboxId, SandboxState, SecurityProfile,
    TerminalSize,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, can_run};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_logs_and_ends() {
    if !can_run("a_container_runs_logs_and_ends") {
        return;
    }
    let world = World::new(1).await;
    let script = "echo out $FROM_IMAGE $OWN; echo err >&2; hostname; printf tail; exit 7";
    let mut config = World::shell(script);
    config.env = vec![("OWN".into(), "pod".into())];
    let (status, mut log) = world.output("hello", &config).await;
    log.sort();
    assert_eq!(status.exit_code, 7);
    assert_eq!(status.reason, "Error");
    assert!(status.started_at <= status.finished_at);
    assert_eq!(log, ["stderr F err", "stdout F hello", "stdout F out yes pod", "stdout F tail"]);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why() {
    if !can_run("what_cannot_start_says_why") {
        return;
    }
    let world = World::new(2).await;
    let pod = world.pod("bad");
    let sandbox = world.sandbox(&pod).await;
    let config = ContainerConfig { command: vec!["/nope".into()], ..World::shell("") };
    let id = world.runtime.create_container(&sandbox, &config, &pod).await.unwrap();
    let err = world.runtime.start_container(&id).await.unwrap_err();
    assert!(matches!(err, Error::Start(_)), "{err:?}");
    assert!(err.to_string().contains("exec: \"/nope\": no such file or directory"), "{err}");
    let status = world.runtime.container_status(&id).await.unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    let mut config = World::shell("true");
    config.security.seccomp = SecurityProfile::Localhost("x.json".into());
    let err = world.runtime.create_container(&sandbox, &config, &pod).await.unwrap_err();
    assert!(matches!(err, Error::Invalid(_)), "{err:?}");
    let mut config = World::shell("true");
    config.security.run_as_username = "ghost".into();
    let err = world.runtime.create_container(&sandbox, &config, &pod).await.unwrap_err();
    assert!(err.to_string().contains("unable to find user ghost"), "{err}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_with_pipes_and_with_a_terminal() {
    if !can_run("exec_with_pipes_and_with_a_terminal") {
        return;
    }
    let world = World::new(3).await;
    let (_, id) = world.run("exec", &World::shell("sleep 1000")).await;
    assert_eq!(world.sh(&id, "echo hi; echo no >&2; exit 3").await, (3, "hi\nno\n".into()));
    let slow = ["sleep", "1000"].map(str::to_owned);
    let err = world.runtime.exec_sync(&id, &slow, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(err, Error::Timeout(_)), "{err:?}");
    let missing = ["/nope".to_owned()];
    let err = world.runtime.exec_sync(&id, &missing, Duration::from_secs(5)).await.unwrap_err();
    assert!(err.to_string().contains("no such file"), "{err}");

    let command = vec!["cat".to_owned()];
    let options = ExecOptions { command, stdin: true, stdout: true, stderr: true, tty: false };
    let mut session = world.runtime.exec(&id, &options).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"through").await.unwrap();
    stdin.shutdown().await.unwrap();
    drop(stdin);
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), session.exit.await.unwrap()), ("through", 0));

    let command = ["sh", "-c", "read x; stty size; tty; exit 5"].map(str::to_owned).to_vec();
    let options = ExecOptions { command, stdin: true, stdout: true, stderr: false, tty: true };
    let mut session = world.runtime.exec(&id, &options).await.unwrap();
    let resize = session.resize.take().unwrap();
    resize.send(TerminalSize { width: 101, height: 33 }).await.unwrap();
    // The size is taken before the line is typed: the channel is empty again.
    while resize.capacity() < resize.max_capacity() {
        tokio::task::yield_now().await;
    }
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"go\n").await.unwrap();
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.contains("33 101"), "{text:?}");
    assert_eq!(session.exit.await.unwrap(), 5);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_reads_and_writes_the_process() {
    if !can_run("attach_reads_and_writes_the_process") {
        return;
    }
    let world = World::new(4).await;
    let mut config = World::shell("read line; echo got $line; exit 0");
    config.stdin = true;
    let (_, id) = world.run("attach", &config).await;
    let options = AttachOptions { stdin: true, stdout: true, stderr: true, tty: false };
    let mut session = world.runtime.attach(&id, &options).await.unwrap();
    session.stdin.take().unwrap().write_all(b"word\n").await.unwrap();
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "got word\n");
    assert_eq!(session.exit.await.unwrap(), 0);
    assert_eq!(World::log(&world.ended(&id).await), ["stdout F got word"]);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_asks_first_and_kills_after_the_grace() {
    if !can_run("stop_asks_first_and_kills_after_the_grace") {
        return;
    }
    let world = World::new(5).await;
    let script = "trap 'echo bye; exit 9' TERM; echo ready; while true; do sleep 0.1; done";
    let (_, id) = world.run("polite", &World::shell(script)).await;
    world.said(&id, "stdout F ready").await;
    world.runtime.stop_container(&id, Duration::from_secs(20)).await.unwrap();
    let status = world.runtime.container_status(&id).await.unwrap();
    let said = ["stdout F ready", "stdout F bye"].map(str::to_owned).to_vec();
    assert_eq!((status.exit_code, World::log(&status)), (9, said));
    let script = "trap '' TERM; echo ready; while true; do sleep 0.1; done";
    let (_, id) = world.run("deaf", &World::shell(script)).await;
    world.said(&id, "stdout F ready").await;
    world.runtime.stop_container(&id, Duration::from_millis(300)).await.unwrap();
    assert_eq!(world.runtime.container_status(&id).await.unwrap().exit_code, 137);
    // Idempotent.
    world.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
    world.runtime.remove_container(&id).await.unwrap();
    world.runtime.remove_container(&id).await.unwrap();
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_out_of_memory_is_told() {
    if !can_run("limits_hold_and_out_of_memory_is_told") {
        return;
    }
    // As agents do, and containers do not inherit it.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    let world = World::new(6).await;
    let mut config = World::shell("dd if=/dev/zero of=/dev/null bs=200M count=1; exit $?");
    config.command =
        ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"].map(str::to_owned).to_vec();
    config.resources = LinuxResources { memory_limit_bytes: 32 << 20, ..LinuxResources::default() };
    let (status, _) = world.output("oom", &config).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    let mut config = World::shell("sleep 1000");
    config.resources = LinuxResources {
        cpu_shares: 512,
        cpu_quota: 20_000,
        cpu_period: 100_000,
        pids_limit: Some(20),
        memory_limit_bytes: 64 << 20,
        memory_swap_limit_bytes: 64 << 20,
        ..LinuxResources::default()
    };
    let (_, id) = world.run("limits", &config).await;
    assert_eq!(world.sh(&id, "ulimit -n").await, (0, "1024\n".to_owned()));
    let (code, _) = world
        .sh(
            &id,
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21; do sleep 5 & done",
        )
        .await;
    assert_ne!(code, 0, "more processes than allowed");
    let stats = world.runtime.list_container_stats().await.unwrap();
    assert_eq!(stats.len(), 1);
    assert!(stats[0].memory_working_set_bytes > 0 && stats[0].cpu_usage_ns > 0);
    for mebibytes in [128, 48, 96] {
        let bytes = mebibytes << 20;
        let other = LinuxResources {
            memory_limit_bytes: bytes,
            memory_swap_limit_bytes: bytes,
            ..LinuxResources::default()
        };
        world.runtime.update_container_resources(&id, &other).await.unwrap();
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_reach_each_other_and_the_host_reaches_them() {
    if !can_run("pods_reach_each_other_and_the_host_reaches_them") {
        return;
    }
    let world = World::new(7).await;
    let server = World::shell("while true; do echo from-pod | nc -l -p 8080; done");
    let (first, _) = world.run("one", &server).await;
    let (_, second) = world.run("two", &World::shell("sleep 1000")).await;
    let status = world.runtime.pod_sandbox_status(&first).await.unwrap();
    let address = status.ips[0];
    let (code, text) = world.sh(&second, &format!("ping -c 1 -W 5 {address}")).await;
    assert_eq!(code, 0, "{text}");
    let (code, text) = world.sh(&second, &format!("ping -c 1 -W 5 {}", world.gateway())).await;
    assert_eq!(code, 0, "the host: {text}");
    let mut text = String::new();
    for _ in 0..100 {
        if let Ok(mut stream) = tokio::net::TcpStream::connect((address, 8080)).await {
            stream.read_to_string(&mut text).await.unwrap();
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(text, "from-pod\n");
    let mut text = String::new();
    for _ in 0..100 {
        if let Ok(mut stream) = world.runtime.port_forward(&first, 8080).await {
            stream.read_to_string(&mut text).await.unwrap();
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(text, "from-pod\n");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_adopts_what_runs_and_clears_what_died() {
    if !can_run("a_new_agent_adopts_what_runs_and_clears_what_died") {
        return;
    }
    let world = World::new(8).await;
    let (first, kept) = world.run("kept", &World::shell("sleep 1000")).await;
    let (second, lost) = world.run("lost", &World::shell("sleep 1000")).await;
    let started = world.runtime.container_status(&kept).await.unwrap().started_at;
    let shim = |sandbox: &SandboxId| {
        let dir = world.dir.path().join("agent/sandboxes").join(&sandbox.0);
        let text = std::fs::read_to_string(dir.join("shim.json")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        i32::try_from(value["pid"].as_i64().unwrap()).unwrap()
    };
    let pid = rustix::process::Pid::from_raw(shim(&second)).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let world = world.restart().await;
    let status = world.runtime.container_status(&kept).await.unwrap();
    assert_eq!((status.container.state, status.started_at), (ContainerState::Running, started));
    assert_eq!(world.sh(&kept, "echo alive").await, (0, "alive\n".into()));
    assert_eq!(world.ended(&lost).await.exit_code, 137);
    let states: BTreeMap<String, SandboxState> = world
        .runtime
        .list_pod_sandboxes()
        .await
        .unwrap()
        .into_iter()
        .map(|sandbox| (sandbox.id.0, sandbox.state))
        .collect();
    assert_eq!(states[&first.0], SandboxState::Ready);
    assert_eq!(states[&second.0], SandboxState::NotReady);
    // A shim killed under a living agent.
    let dir = world.dir.path().join("agent/sandboxes").join(&first.0);
    let text = std::fs::read_to_string(dir.join("shim.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pid =
        rustix::process::Pid::from_raw(i32::try_from(value["pid"].as_i64().unwrap()).unwrap())
            .unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(world.ended(&kept).await.exit_code, 137);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_users_and_a_readonly_root() {
    if !can_run("volumes_users_and_a_readonly_root") {
        return;
    }
    let world = World::new(9).await;
    let volume = world.dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("given"), "content").unwrap();
    std::os::unix::fs::chown(&volume, Some(33), Some(34)).unwrap();
    let mut config = World::shell(
        "id -u; id -g; id -G; cat /data/given; echo; touch /data/made; touch /x 2>/dev/null || echo readonly; \
         touch /fixed/y 2>/dev/null || echo fixed; echo x > /dev/shm/z && echo shm",
    );
    let mount = |to: &str, readonly| Mount {
        container_path: to.into(),
        host_path: volume.clone(),
        readonly,
        ..Mount::default()
    };
    config.mounts = vec![mount("/data", false), mount("/fixed", true)];
    config.security.run_as_username = "web".into();
    config.security.supplemental_groups = vec![500];
    config.security.readonly_rootfs = true;
    config.security.no_new_privs = true;
    config.security.drop_capabilities = vec!["ALL".into()];
    config.security.masked_paths = vec!["/proc/kcore".into()];
    config.security.readonly_paths = vec!["/proc/sys".into()];
    let (status, log) = world.output("volumes", &config).await;
    let log: Vec<&str> = log.iter().map(|line| line.trim_start_matches("stdout F ")).collect();
    assert_eq!(log, ["33", "34", "34 77 500", "content", "readonly", "fixed", "shm"]);
    assert_eq!(status.exit_code, 0);
    assert_eq!(volume.join("made").metadata().unwrap().uid(), 33);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_shared_when_the_pod_says_so() {
    if !can_run("processes_are_shared_when_the_pod_says_so") {
        return;
    }
    let world = World::new(10).await;
    let mut pod = world.pod("shared");
    pod.annotations.insert("shared".into(), "yes".into());
    let sandbox = world.sandbox(&pod).await;
    let mut ids = Vec::new();
    for name in ["a", "b"] {
        let mut config = World::shell("sleep 1234");
        config.name = name.into();
        config.log_path = format!("{name}/0.log").into();
        config.security.namespaces.pid = NamespaceMode::Pod;
        let id = world.runtime.create_container(&sandbox, &config, &pod).await.unwrap();
        world.runtime.start_container(&id).await.unwrap();
        ids.push(id);
    }
    let (_, text) = world.sh(&ids[0], "ps | grep -c 'sleep 123[4]'").await;
    assert_eq!(text.trim(), "2");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debugging_container_sees_the_processes_of_its_target() {
    if !can_run("a_debugging_container_sees_the_processes_of_its_target") {
        return;
    }
    let world = World::new(12).await;
    let pod = world.pod("debugged");
    let sandbox = world.sandbox(&pod).await;
    let create = async |name: &str, target: Option<ContainerId>| {
        let mut config = World::shell("sleep 1235");
        config.name = name.into();
        config.log_path = format!("{name}/0.log").into();
        config.security.pid_target = target;
        world.runtime.create_container(&sandbox, &config, &pod).await
    };
    let target = create("target", None).await.unwrap();
    let early = create("early", Some(target.clone())).await.unwrap_err().to_string();
    assert!(early.contains("is not running"), "{early}");
    world.runtime.start_container(&target).await.unwrap();
    let debugger = create("debugger", Some(target.clone())).await.unwrap();
    world.runtime.start_container(&debugger).await.unwrap();
    let (_, text) = world.sh(&debugger, "ps | grep -c 'sleep 123[5]'").await;
    assert_eq!(text.trim(), "2");
    // The namespace ends with its first process.
    world.runtime.stop_container(&target, Duration::ZERO).await.unwrap();
    world.ended(&debugger).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn start_latency() {
    if !can_run("start_latency") {
        return;
    }
    let world = World::new(11).await;
    let mut times = Vec::new();
    for number in 0..20 {
        let started = tokio::time::Instant::now();
        let (sandbox, _) = world.run(&format!("fast{number}"), &World::shell("sleep 1000")).await;
        times.push(started.elapsed());
        world.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    }
    times.sort();
    eprintln!("pod start: median {:?}, slowest {:?}", times[10], times[19]);
    assert!(times[10] < Duration::from_secs(5), "{times:?}");
    world.finish().await;
}
