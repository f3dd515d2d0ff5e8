//! Output, input and ends: much of it, at once, again, and when the other side is gone.

use std::time::Duration;

use quorate_node_agent::runtime::{
    AttachOptions, ContainerState, Error, ExecOptions, NamespaceMode, Runtime, TerminalSize,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, can_run};

const BOTH: AttachOptions = AttachOptions { stdin: true, stdout: true, stderr: false, tty: false };

#[tokio::test(flavor = "multi_thread")]
async fn much_output_arrives_whole() {
    if !can_run("much_output_arrives_whole") {
        return;
    }
    let world = World::new(40).await;
    let line = "a line that is as long as lines of logs usually are, more or less";
    let (status, log) =
        world.output("chatty", &World::shell(&format!("yes '{line}' | head -n 50000"))).await;
    assert_eq!((status.exit_code, log.len()), (0, 50_000));
    assert!(log.iter().all(|said| said.strip_prefix("stdout F ") == Some(line)));
    let (_, id) = world.run("exec", &World::shell("sleep 1000")).await;
    let command = ["head", "-c", "8000000", "/dev/zero"].map(str::to_owned).to_vec();
    let options = ExecOptions { command, stdout: true, ..ExecOptions::default() };
    let mut session = world.runtime.exec(&id, &options).await.unwrap();
    let mut bytes = Vec::new();
    session.stdout.take().unwrap().read_to_end(&mut bytes).await.unwrap();
    assert_eq!((bytes.len(), session.exit.await.unwrap()), (8_000_000, 0));
    // More than is kept of a probe's output ends the probe nevertheless.
    let command = ["head", "-c", "40000000", "/dev/zero"].map(str::to_owned);
    let output = world.runtime.exec_sync(&id, &command, Duration::from_secs(60)).await.unwrap();
    assert_eq!(output.exit_code, 0);
    assert!(output.stdout.len() < 40_000_000 && !output.stdout.is_empty());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_log_goes_on_in_a_new_file() {
    if !can_run("a_rotated_log_goes_on_in_a_new_file") {
        return;
    }
    let world = World::new(41).await;
    let mut config = World::shell("while read line; do echo $line; done");
    config.stdin = true;
    let (_, id) = world.run("rotate", &config).await;
    let mut session = world.runtime.attach(&id, &BOTH).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"before\n").await.unwrap();
    world.said(&id, "stdout F before").await;
    let path = world.runtime.container_status(&id).await.unwrap().log_path;
    let old = path.with_extension("old");
    std::fs::rename(&path, &old).unwrap();
    world.runtime.reopen_log(&id).await.unwrap();
    stdin.write_all(b"after\n").await.unwrap();
    world.said(&id, "stdout F after").await;
    assert!(std::fs::read_to_string(&old).unwrap().contains("before"));
    assert!(!std::fs::read_to_string(&path).unwrap().contains("before"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attached_twice_and_left_in_between() {
    if !can_run("attached_twice_and_left_in_between") {
        return;
    }
    let world = World::new(42).await;
    let mut config = World::shell("while read line; do echo got $line; done; echo end");
    config.stdin = true;
    let (_, id) = world.run("twice", &config).await;
    for word in ["one", "two"] {
        let mut session = world.runtime.attach(&id, &BOTH).await.unwrap();
        session.stdin.take().unwrap().write_all(format!("{word}\n").as_bytes()).await.unwrap();
        world.said(&id, &format!("stdout F got {word}")).await;
        // Leaving neither ends its input nor stops its output.
    }
    assert_eq!(
        world.runtime.container_status(&id).await.unwrap().container.state,
        ContainerState::Running
    );
    // With `stdinOnce` the first who leaves ends the input.
    config.stdin_once = true;
    let (_, id) = world.run("once", &config).await;
    let mut session = world.runtime.attach(&id, &BOTH).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"only\n").await.unwrap();
    drop(stdin);
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "got only\nend\n");
    assert_eq!(world.ended(&id).await.exit_code, 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containers_own_terminal_is_resized_by_who_is_attached() {
    if !can_run("a_containers_own_terminal_is_resized_by_who_is_attached") {
        return;
    }
    let world = World::new(43).await;
    let mut config = World::shell("while read line; do stty size; done");
    config.stdin = true;
    config.tty = true;
    let (_, id) = world.run("tty", &config).await;
    let options = AttachOptions { tty: true, ..BOTH };
    let mut session = world.runtime.attach(&id, &options).await.unwrap();
    let (mut stdin, mut stdout) = (session.stdin.take().unwrap(), session.stdout.take().unwrap());
    session.resize.as_ref().unwrap().send(TerminalSize { width: 77, height: 22 }).await.unwrap();
    let mut text = String::new();
    let work = async {
        while !text.contains("22 77") {
            stdin.write_all(b"again\n").await.unwrap();
            let mut chunk = [0; 512];
            let count = stdout.read(&mut chunk).await.unwrap();
            text.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    };
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("the size arrives");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_cannot_be_entered() {
    if !can_run("what_ended_cannot_be_entered") {
        return;
    }
    let world = World::new(44).await;
    let (sandbox, id) = world.run("short", &World::shell("true")).await;
    world.ended(&id).await;
    let command = ["true".to_owned()];
    let err = world.runtime.exec_sync(&id, &command, Duration::from_secs(5)).await.unwrap_err();
    assert!(err.is_not_found() && err.to_string().contains("is not running"), "{err:?}");
    let err = world.runtime.attach(&id, &BOTH).await.err().unwrap();
    assert!(err.is_not_found(), "{err:?}");
    // An exec that is under way when the container ends, ends with it.
    let (_, id) = world.run("long", &World::shell("sleep 1000")).await;
    let command = ["sleep", "1000"].map(str::to_owned).to_vec();
    let options = ExecOptions { command, stdout: true, ..ExecOptions::default() };
    let session = world.runtime.exec(&id, &options).await.unwrap();
    world.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(60), session.exit).await.expect("it ends");
    assert_eq!(end.unwrap(), 137);
    world.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    let err = world.runtime.port_forward(&sandbox, 80).await.err().unwrap();
    assert!(matches!(err, Error::NotFound(_)), "{err:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_of_a_shared_process_namespace_are_reaped() {
    if !can_run("orphans_of_a_shared_process_namespace_are_reaped") {
        return;
    }
    let world = World::new(45).await;
    let mut pod = world.pod("orphans");
    pod.annotations.insert("shared".into(), "yes".into());
    let sandbox = world.sandbox(&pod).await;
    let mut config = World::shell("for i in 1 2 3 4 5; do (sleep 0.1 &); done; sleep 1000");
    config.security.namespaces.pid = NamespaceMode::Pod;
    let id = world.runtime.create_container(&sandbox, &config, &pod).await.unwrap();
    world.runtime.start_container(&id).await.unwrap();
    let mut text = String::new();
    for _ in 0..200 {
        (_, text) = world.sh(&id, "ps -o stat,comm | grep -c -E '^Z|sleep'").await;
        if text.trim() == "1" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(text.trim(), "1", "only the long sleep is left");
    world.finish().await;
}
