//! Joining a cluster: with which token, under which name, and what a node knows at its next start.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::cluster::Cluster;
use common::process::{Process, run_to_end};
use common::{PATIENCE, free_port, until};
use serde_json::Value;

/// What somebody with that command line is told, who may not join.
fn refusal(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(words).args(["--log-level", "error"]).env_remove("KUBECONFIG");
    let Output { status, stderr, .. } = run_to_end(&mut command, b"", PATIENCE);
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "{words:?} should be refused");
    assert_eq!(said.lines().count(), 1, "one line: {said}");
    said.trim().strip_prefix("error: ").unwrap().to_owned()
}

fn nodes_run_here() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let there = is_root && Path::new("/usr/sbin/nft").exists();
    if !there {
        eprintln!("SKIPPED: the built-in runtime needs root and nft, no node was started");
    }
    there
}

fn uses_left(cluster: &Cluster, token: &str) -> Value {
    let listed = cluster.quorate(&["token", "list", "-o", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let items = listed["items"].as_array().unwrap();
    let found = items.iter().find(|item| token.starts_with(item["id"].as_str().unwrap()));
    found.unwrap()["usesLeft"].clone()
}

fn a_token(cluster: &Cluster, words: &[&str]) -> String {
    cluster.quorate(&[&["token", "create"], words].concat()).trim().to_owned()
}

#[test]
fn a_masters_name_and_addresses_are_its_own_and_a_token_is_used_up() {
    let mut cluster = Cluster::start(1);
    let token = a_token(&cluster, &["--role", "server", "--uses", "1"]);
    let url = cluster.masters[0].url();
    let directory = cluster.directory.path().to_owned();
    let line = |name: &str, data: &str, token: &str| -> Vec<String> {
        let data = directory.join(data).display().to_string();
        let address = || format!("127.0.0.1:{}", free_port());
        let (listen, peer) = (address(), address());
        let words = ["server", "--name", name, "--data", &data, "--join", &url, "--token", token];
        let addresses = ["--listen", &listen, "--peer-listen", &peer];
        words.into_iter().chain(addresses).map(str::to_owned).collect()
    };
    let refused = |name: &str, data: &str, token: &str| {
        let words = line(name, data, token);
        refusal(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let said = refused("m0", "again", &token);
    assert!(said.contains("a master named \"m0\" already: give this one another --name"), "{said}");
    assert_eq!(uses_left(&cluster, &token), "1", "what is refused costs no use");

    let words = line("m1", "m1", &token);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut second = Process::start(&directory.join("m1.log"), &words);
    second.says("ready after");
    let said = refused("m2", "m2", &token);
    assert!(said.contains("is used up: create another with `quorate token create`"), "{said}");
    assert!(!directory.join("m2/cluster.json").exists(), "who was refused has nothing");
    // It needs neither the token nor --join again, and what it was told of the cluster is its own.
    assert!(second.stop().success());
    let again: Vec<&str> =
        words.iter().copied().take(5).chain(words[9..].iter().copied()).collect();
    let mut second = Process::start(&directory.join("m1-again.log"), &again);
    second.says("ready after");
    // Each column is known of each master that answers.
    let fields = ["name", "nodeId", "role", "apiAddress", "peerAddress", "term", "appliedIndex"];
    let whole = |master: &Value| {
        fields.iter().all(|field| !master[field].is_null())
            && (&master["answers"], &master["voter"]) == (&"yes".into(), &true.into())
            && master["version"] == env!("CARGO_PKG_VERSION")
    };
    until("both masters are shown as they are", PATIENCE, || {
        let status = cluster.quorate(&["status", "-o", "json"]);
        let status: Value = serde_json::from_str(&status).unwrap();
        let masters = status["masters"].as_array().unwrap();
        masters.len() == 2 && masters.iter().all(whole)
    });
    assert!(second.stop().success());
    // Without a quorum a master still stops when it is asked to.
    assert!(cluster.masters[0].process.stop().success());
}

#[test]
fn a_node_keeps_its_name_and_its_masters() {
    if !nodes_run_here() {
        return;
    }
    let cluster = Cluster::start(1);
    let url = cluster.masters[0].url();
    let path = |name: &str| cluster.directory.path().join(name);
    let (data, other) = (path("n").display().to_string(), path("other").display().to_string());
    let token = a_token(&cluster, &["--role", "agent", "--uses", "2"]);
    let join = ["--runtime", "builtin", "--server", &url, "--token", &token];
    let agent = |log: &str, words: &[&str]| {
        Process::start(&path(log), &[&["agent", "--data", &data], words].concat())
    };
    let mut first = agent("n.log", &[&["--name", "n"], &join[..]].concat());
    first.says("connected");
    assert_eq!(uses_left(&cluster, &token), "1");

    // While it lives, no other gets its name; a stranger is not even told that it lives.
    let words = [&["agent", "--data", &other, "--name", "n"], &join[..]].concat();
    let said = refusal(&words);
    assert!(said.contains("a node named \"n\" is running already"), "{said}");
    let wrong = token.replacen(&token[7..23], "0123456789abcdef", 1);
    let mut stranger = words.clone();
    stranger.pop();
    stranger.push(&wrong);
    assert!(refusal(&stranger).contains("is not known here"));
    assert_eq!(uses_left(&cluster, &token), "1", "what is refused costs no use");

    // It is the same node at its next start, and finds the masters by itself.
    assert!(first.stop().success());
    let renamed = refusal(&["agent", "--data", &data, "--name", "z", "--server", &url]);
    assert!(renamed.contains("belongs to node \"n\""), "{renamed}");
    let mut again = agent("again.log", &["--runtime", "builtin"]);
    again.says("connected");
    assert!(again.text().contains("quorate agent \"n\""), "{}", again.text());
    let ready = || {
        let status = cluster.quorate(&["status", "-o", "json"]);
        let status: Value = serde_json::from_str(&status).unwrap();
        status["nodes"][0]["name"] == "n" && status["nodes"][0]["status"] == "Ready"
    };
    until("the node is ready", PATIENCE, ready);
    assert!(again.stop().success());
}
