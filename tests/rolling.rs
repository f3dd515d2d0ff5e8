//! Masters as objects of the API, and restarting all of them, one after the other, while clients write.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::cluster::Cluster;
use common::kubectl::Kubectl;
use common::process::Process;
use common::{PATIENCE, free_port, kube::client, step, until};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use serde_json::Value;

/// Rows of `kubectl get masters` without their last columns.
fn shown(kubectl: &Kubectl) -> Vec<String> {
    let table = kubectl.run(&["get", "masters", "--no-headers"]);
    let row = |line: &str| line.split_whitespace().take(5).collect::<Vec<_>>().join(" ");
    table.lines().map(row).collect()
}

#[test]
fn masters_are_objects_of_the_api() {
    let mut cluster = Cluster::start(3);
    let Some(kubectl) = Kubectl::new(&cluster.kubeconfig()) else { return };
    cluster.quorate(&["masters", "transfer-leader", "m1"]);
    let version = env!("CARGO_PKG_VERSION");
    let row =
        |name: &str, role: &str, ready: &str| format!("{name} {role} {ready} <none> {version}");
    let expected = |roles: [&str; 3]| {
        let rows = roles.iter().enumerate();
        rows.map(|(n, role)| row(&format!("m{n}"), role, "True")).collect::<Vec<_>>()
    };
    let mut rows = Vec::new();
    until("kubectl shows the masters", PATIENCE, || {
        rows = shown(&kubectl);
        rows == expected(["Follower", "Leader", "Follower"])
    });
    let heads = kubectl.run(&["get", "masters", "-o", "wide"]);
    for head in ["NAME", "ROLE", "READY", "ALARMS", "VERSION", "AGE", "ID", "API-ADDRESS"] {
        assert!(heads.lines().next().unwrap().contains(head), "{heads}");
    }
    let address = kubectl.field("master/m1", "{.spec.apiAddress}");
    assert_eq!(address, format!("127.0.0.1:{}", cluster.masters[1].api_port));
    let described = kubectl.run(&["describe", "master", "m1"]);
    assert!(described.contains("LeaderElected"), "its events: {described}");
    let explained = kubectl.run(&["explain", "masters.status"]);
    assert!(explained.contains("conditions"), "{explained}");
    step("nobody else writes them");
    let refused = kubectl.fails(&["delete", "master", "m1"]);
    assert!(refused.contains("the server does not allow this method"), "{refused}");
    let refused = kubectl.fails(&["label", "master", "m1", "mine=yes"]);
    assert!(refused.contains("the server does not allow this method"), "{refused}");
    step("they follow what happens");
    let watching = kubectl.start(&["get", "masters", "-w"]);
    cluster.masters[2].process.kill_9();
    until("m2 is not ready", PATIENCE, || {
        shown(&kubectl).contains(&row("m2", "Follower", "False"))
    });
    cluster.quorate(&["masters", "remove", "m2", "--yes"]);
    until("m2 is gone", PATIENCE, || shown(&kubectl).len() == 2);
    drop(watching);
    let again =
        serde_json::from_str::<Value>(&kubectl.run(&["get", "masters", "-o", "json"])).unwrap();
    let versions = || {
        let items = again["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["resourceVersion"].clone()).collect::<Vec<_>>()
    };
    step("nothing happens, nothing is written");
    std::thread::sleep(Duration::from_secs(5));
    let later =
        serde_json::from_str::<Value>(&kubectl.run(&["get", "masters", "-o", "json"])).unwrap();
    let items = later["items"].as_array().unwrap().iter();
    let later: Vec<Value> = items.map(|item| item["metadata"]["resourceVersion"].clone()).collect();
    assert_eq!(later, versions());
}

/// A `quorate kubeconfig --proxy` of the cluster, and the kubeconfig it has written.
fn proxy(cluster: &Cluster) -> (Process, std::path::PathBuf) {
    let kubeconfig = cluster.directory.path().join("proxied");
    let log = cluster.directory.path().join("proxy.log");
    let data = cluster.masters[0].data.display().to_string();
    let (file, listen) = (kubeconfig.display().to_string(), free_port().to_string());
    let line =
        ["kubeconfig", "--proxy", "--listen", &listen, "--data", &data, "--kubeconfig", &file];
    let mut process = Process::start(&log, &line);
    process.says("forwarding https://127.0.0.1:");
    (process, kubeconfig)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_is_not_noticed() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let pids: Vec<u32> = cluster.masters.iter().map(|master| master.process.pid()).collect();
    let dry = cluster.quorate(&["masters", "rolling-restart", "--dry-run"]);
    assert!(
        dry.trim_end().ends_with(&format!("then m{leader} (dry run)")),
        "the leader last: {dry}"
    );
    let (_proxy, kubeconfig) = proxy(&cluster);
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&kubeconfig, None).await);
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writing = tokio::spawn({
        let (maps, stop, written) = (maps.clone(), stop.clone(), written.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let number = written.load(Ordering::Relaxed);
                let metadata =
                    ObjectMeta { name: Some(format!("w-{number}")), ..ObjectMeta::default() };
                let map = ConfigMap { metadata, ..ConfigMap::default() };
                maps.create(&PostParams::default(), &map)
                    .await
                    .map_err(|error| format!("write {number}: {error:?}"))?;
                written.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), String>(())
        }
    });
    let mut rolling = Command::new(env!("CARGO_BIN_EXE_quorate"));
    rolling.args(["masters", "rolling-restart", "--data"]).arg(&cluster.masters[0].data);
    let rolled = tokio::task::spawn_blocking(move || rolling.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&rolled.stdout).into_owned();
    assert!(rolled.status.success(), "{said}{}", String::from_utf8_lossy(&rolled.stderr));
    let back: Vec<&str> = said.lines().filter(|line| line.contains("is back after")).collect();
    assert_eq!(back.len(), 3, "{said}");
    assert!(back[2].starts_with(&format!("m{leader} ")), "{said}");
    stop.store(true, Ordering::Relaxed);
    writing.await.unwrap().unwrap();
    let count = written.load(Ordering::Relaxed);
    let list = maps.list(&ListParams::default()).await.unwrap().items;
    let there = list.iter().filter(|map| map.metadata.name.as_deref().unwrap().starts_with("w-"));
    assert_eq!(there.count() as u64, count, "all that was acknowledged is there");
    assert!(count > 30, "{count} writes");
    for (number, master) in cluster.masters.iter().enumerate() {
        assert_eq!(master.process.pid(), pids[number]);
        let starts = master.process.text().matches("ready after").count();
        assert_eq!(starts, 2, "m{number} began anew in its process");
    }
    step("who is ill is not made worse");
    let mut cluster = cluster;
    cluster.masters[1].process.kill_9();
    let other = if cluster.leader_as_seen_by(0) == 1 { 2 } else { 0 };
    let refused = cluster.refused_at(other, &["masters", "rolling-restart"]);
    assert!(refused.contains("m1 does not answer: nothing was restarted"), "{refused}");
}
