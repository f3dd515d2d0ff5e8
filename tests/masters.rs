//! Masters are listed, handed over and taken out while clients write: with `quorate masters`, as its users do it.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::cluster::Cluster;
use common::{PATIENCE, kube::client, until};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, PostParams};
use serde_json::Value;

/// Writes at one master until told to stop; each call must succeed.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Result<(), String>>,
}

impl Writer {
    async fn start(cluster: &Cluster, number: usize) -> Self {
        let client = client(&cluster.kubeconfig(), Some(&cluster.masters[number].url())).await;
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), written.clone());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let name = format!("m{number}-{}", count.load(Ordering::Relaxed));
                let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
                let map = ConfigMap { metadata, ..ConfigMap::default() };
                maps.create(&PostParams::default(), &map)
                    .await
                    .map_err(|error| format!("{name}: {error}"))?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            let list = maps.list(&kube::api::ListParams::default()).await;
            let list = list.map_err(|error| error.to_string())?;
            let own = list.items.iter().filter_map(|map| map.metadata.name.as_deref());
            let own = own.filter(|name| name.starts_with(&format!("m{number}-"))).count();
            let want = count.load(Ordering::Relaxed);
            if own as u64 == want { Ok(()) } else { Err(format!("{own} of {want} are there")) }
        });
        Self { stop, written, task }
    }

    /// Waits until it has written some more.
    async fn goes_on(&self) {
        let before = self.written.load(Ordering::Relaxed);
        let more = async {
            while self.written.load(Ordering::Relaxed) < before + 10 {
                assert!(!self.task.is_finished(), "the writer has ended");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, more).await.expect("writes go on");
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap().unwrap();
        assert!(self.written.load(Ordering::Relaxed) > 30);
    }
}

fn listed(cluster: &Cluster, number: usize) -> Value {
    let text = cluster.quorate_at(number, &["masters", "list", "-o", "json"]);
    serde_json::from_str(&text).unwrap()
}

fn names(list: &Value, wanted: impl Fn(&Value) -> bool) -> Vec<String> {
    let masters = list["masters"].as_array().unwrap().iter();
    masters.filter(|m| wanted(m)).map(|m| m["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_is_replaced_while_clients_write() {
    let mut cluster = Cluster::start(3);
    let list = listed(&cluster, 0);
    assert_eq!(names(&list, |master| master["voter"] == true), ["m0", "m1", "m2"]);
    assert_eq!(list["summary"], "3 voters, quorum 2, survives the loss of 1");
    let wide = cluster.quorate_at(1, &["masters", "list", "-o", "wide"]);
    let header = wide.lines().next().unwrap();
    let columns = ["MASTER", "ID", "ROLE", "PEER ADDRESS", "LAST LOG", "FSYNC P99 MS", "VERSION"];
    assert!(columns.iter().all(|column| header.contains(column)), "{header}");

    let writers = [Writer::start(&cluster, 1).await, Writer::start(&cluster, 2).await];
    for to in ["m1", "m2", "m0"] {
        writers[0].goes_on().await;
        let said = cluster.quorate_at(1, &["masters", "transfer-leader", to]);
        assert_eq!(said.trim(), format!("{to} leads"));
        assert_eq!(listed(&cluster, 2)["leader"], to);
    }
    // Whoever is up to date.
    let said = cluster.quorate_at(2, &["masters", "transfer-leader"]);
    assert!(["m1 leads", "m2 leads"].contains(&said.trim()), "{said}");
    cluster.quorate_at(1, &["masters", "transfer-leader", "m0"]);

    // The new one first, then the old one, which leads.
    cluster.add_master(3, 1);
    until("it votes", PATIENCE, || {
        names(&listed(&cluster, 1), |master| master["voter"] == true).len() == 4
    });
    let even =
        "4 voters, quorum 3, survives the loss of 1 (as 3 would: an even number adds nothing)";
    assert_eq!(listed(&cluster, 1)["summary"], even);
    let said = cluster.quorate_at(1, &["masters", "remove", "m0", "--yes"]);
    let remains = "3 voters, quorum 2, survives the loss of 1";
    assert_eq!(said.trim(), format!("master \"m0\" removed: {remains}"));
    let old = &mut cluster.masters[0].process;
    until("it has ended", PATIENCE, || !old.is_running());
    assert!(old.stopped().success(), "it did as it was told");
    let text = old.text();
    assert!(text.contains("master \"m0\" was removed from the cluster"), "{text}");
    for writer in &writers {
        writer.goes_on().await;
    }
    let list = listed(&cluster, 3);
    assert_eq!(names(&list, |master| master["voter"] == true), ["m1", "m2", "m3"]);
    assert_ne!(list["leader"], "m0");
    for writer in writers {
        writer.finish().await;
    }

    // Its directory is of no use, and says what to do.
    cluster.restart(0);
    let old = &mut cluster.masters[0].process;
    until("it is refused", PATIENCE, || !old.is_running());
    assert!(!old.stopped().success());
    let text = old.text();
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("error: ") && last.contains("quorate server --join"), "{last}");
    // Its name is free.
    let data = cluster.masters[0].data.clone();
    std::fs::remove_dir_all(data).unwrap();
    let moved = cluster.masters.remove(0);
    drop(moved);
}

/// Nobody would lead until an election.
fn nobody_who_hangs_is_asked_to_lead(cluster: &Cluster) {
    let leader = cluster.leader();
    let hung = if leader == 2 { 1 } else { 2 };
    let (name, pid) = (format!("m{hung}"), cluster.masters[hung].process.pid().to_string());
    let signal = |signal: &str| {
        let sent = std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    let wanted = format!("master {name:?} does not answer");
    until("the hung one is missed", PATIENCE, || {
        let output = cluster.tried_at(leader, &["masters", "transfer-leader", &name, "--dry-run"]);
        String::from_utf8(output.stderr).unwrap().contains(&wanted)
    });
    let said = cluster.refused_at(leader, &["masters", "transfer-leader", &name]);
    assert!(said.contains(&wanted), "{said}");
    signal("-CONT");
    assert_eq!(cluster.leader_as_seen_by(leader), leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_needed_stays_and_the_dead_may_go() {
    let mut cluster = Cluster::start(3);
    let said = cluster.refused_at(0, &["masters", "remove", "m9", "--yes"]);
    assert!(said.contains("no master is named \"m9\""), "{said}");
    let said = cluster.refused_at(0, &["masters", "remove", "m1"]);
    assert!(said.contains("What remains: 2 voters") && said.contains("say --yes"), "{said}");
    let said = cluster.refused_at(0, &["masters", "transfer-leader", "m9"]);
    assert!(said.contains("no master is named \"m9\""), "{said}");
    assert_eq!(listed(&cluster, 0)["masters"].as_array().unwrap().len(), 3, "nothing was done");
    // Who may not, cannot.
    let kubeconfig = cluster.directory.path().join("jane");
    let file = kubeconfig.display().to_string();
    let jane = ["kubeconfig", "--user", "jane", "--kubeconfig", &file];
    cluster.quorate_at(0, &jane);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(["masters", "remove", "m2", "--yes", "--kubeconfig", &file]);
    // An option goes before a variable.
    command.env("QUORATE_DATA", &cluster.masters[0].data);
    let output = common::process::run_to_end(&mut command, b"", PATIENCE);
    let said = String::from_utf8(output.stderr).unwrap();
    let denied = "User \"jane\" cannot post path \"/quorate/v1/masters/remove\"";
    assert!(!output.status.success() && said.contains(denied), "{said}");

    nobody_who_hangs_is_asked_to_lead(&cluster);
    cluster.masters[2].process.kill_9();
    let mut refusal = String::new();
    until("the dead one is missed", PATIENCE, || {
        let output = cluster.tried_at(0, &["masters", "remove", "m1", "--yes"]);
        refusal = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "m1 is needed");
        refusal.contains("without master \"m1\" the cluster would have no quorum")
    });
    assert!(
        refusal.contains("\"m2\" does not. Repair that first, or remove it instead"),
        "{refusal}"
    );
    // Nothing helps with somebody who is dead.
    let said = cluster.refused_at(0, &["masters", "remove", "m1", "--yes", "--force"]);
    assert!(said.contains("without master \"m1\" the cluster would have no quorum"), "{said}");
    let said = cluster.quorate_at(1, &["masters", "remove", "m2", "-y"]);
    assert!(said.contains("2 voters, quorum 2, survives the loss of 0"), "{said}");
    cluster.restart(2);
    let dead = &mut cluster.masters[2].process;
    until("it learns that it was removed", PATIENCE, || !dead.is_running());
    assert!(dead.stopped().success(), "it does as it is told");
    let text = dead.text();
    assert!(text.contains("master \"m2\" was removed from the cluster"), "{text}");

    // Without a quorum: what is known is told, nothing is changed.
    cluster.masters[1].process.kill_9();
    let list = listed(&cluster, 0);
    assert_eq!(names(&list, |master| master["answers"] == "yes"), ["m0"]);
    let summary = list["summary"].as_str().unwrap();
    assert!(summary.contains("m1 does not answer: NO QUORUM, writes wait"), "{summary}");
    let said = cluster.refused_at(0, &["masters", "remove", "m1", "--yes"]);
    assert!(said.contains("no quorum"), "{said}");
    until("it no longer leads", PATIENCE, || listed(&cluster, 0)["leader"].is_null());
    for change in [&["remove", "m1", "--yes"][..], &["demote", "m1"], &["transfer-leader"]] {
        let said = cluster.refused_at(0, &[&["masters"], change].concat());
        let wanted = "no quorum: 2 of 2 masters must answer, and m1 does not";
        assert!(said.contains(wanted) && said.contains("masters recover"), "{said}");
    }
    cluster.restart(1);
    until("both vote on", PATIENCE, || {
        let list = listed(&cluster, 0);
        names(&list, |master| master["answers"] == "yes").len() == 2
    });
}

/// What the table says each is.
fn roles(cluster: &Cluster, number: usize) -> Vec<String> {
    let list = listed(cluster, number);
    let masters = list["masters"].as_array().unwrap().iter();
    let field = |master: &Value, name: &str| master[name].as_str().unwrap().to_owned();
    masters.map(|master| format!("{} {}", field(master, "name"), field(master, "role"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_are_demoted_promoted_and_replaced_by_a_standby() {
    let mut cluster = Cluster::start(3);
    cluster.quorate_at(0, &["masters", "transfer-leader", "m0"]);
    let writers = [Writer::start(&cluster, 0).await, Writer::start(&cluster, 1).await];
    cluster.options = vec!["--standby".to_owned()];
    cluster.add_master(3, 1);
    assert_eq!(roles(&cluster, 0), ["m0 leader", "m1 follower", "m2 follower", "m3 standby"]);
    assert_eq!(listed(&cluster, 0)["summary"], "3 voters, quorum 2, survives the loss of 1");

    let said = cluster.refused_at(1, &["masters", "transfer-leader", "m3"]);
    assert!(said.contains("master \"m3\" does not vote") && said.contains("promote m3"), "{said}");

    // What is only asked about is not done.
    let two =
        "2 voters, quorum 2, survives the loss of 0 (as 1 would: an even number adds nothing)";
    let said = cluster.quorate_at(1, &["masters", "demote", "m2", "--dry-run"]);
    assert_eq!(said.trim(), format!("master \"m2\" is a standby (dry run): {two}"));
    let said = cluster.quorate_at(1, &["masters", "remove", "m0", "--dry-run"]);
    assert_eq!(said.trim(), format!("master \"m0\" removed (dry run): {two}"));
    let said = cluster.quorate_at(1, &["masters", "transfer-leader", "m2", "--dry-run"]);
    assert_eq!(said.trim(), "m2 would lead (dry run)");
    assert_eq!(roles(&cluster, 0), ["m0 leader", "m1 follower", "m2 follower", "m3 standby"]);

    let said = cluster.quorate_at(1, &["masters", "demote", "m2"]);
    assert_eq!(said.trim(), format!("master \"m2\" is a standby: {two}"));
    until("it is a standby", PATIENCE, || {
        roles(&cluster, 2) == ["m0 leader", "m1 follower", "m2 standby", "m3 standby"]
    });
    for writer in &writers {
        writer.goes_on().await;
    }
    let said = cluster.quorate_at(2, &["masters", "promote", "m2"]);
    assert_eq!(said.trim(), "master \"m2\" votes: 3 voters, quorum 2, survives the loss of 1");
    // The leader is demoted: another leads first.
    let said = cluster.quorate_at(3, &["masters", "demote", "m0"]);
    assert!(said.starts_with("master \"m0\" is a standby: 2 voters"), "{said}");
    until("it follows", PATIENCE, || roles(&cluster, 0).contains(&"m0 standby".to_owned()));
    cluster.quorate_at(0, &["masters", "promote", "m0"]);
    for writer in writers {
        writer.goes_on().await;
        writer.finish().await;
    }

    // A dead one is replaced by the standby.
    let said = cluster.refused_at(0, &["masters", "replace", "m2", "m7", "--yes"]);
    assert!(
        said.contains("master \"m7\" has not joined yet: run `quorate server --join"),
        "{said}"
    );
    let said = cluster.refused_at(0, &["masters", "replace", "m2", "m2", "--yes"]);
    assert!(said.contains("\"m2\" cannot replace itself"), "{said}");
    let said = cluster.refused_at(0, &["masters", "replace", "m2", "m3"]);
    assert!(said.contains("let \"m3\" vote instead?") && said.contains("say --yes"), "{said}");
    cluster.masters[2].process.kill_9();
    let mut said = String::new();
    until("it is replaced", PATIENCE, || {
        let output = cluster.tried_at(0, &["masters", "replace", "m2", "m3", "--yes"]);
        said = String::from_utf8(output.stdout).unwrap();
        output.status.success()
    });
    let remains = "3 voters, quorum 2, survives the loss of 1";
    assert_eq!(said.trim(), format!("master \"m2\" removed, \"m3\" votes: {remains}"));
    assert_eq!(names(&listed(&cluster, 3), |master| master["voter"] == true), ["m0", "m1", "m3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_cannot_finish_is_taken_back_and_can_be_tried_again() {
    let mut cluster = Cluster::start_with(1, &["--join-timeout", "5s"]);
    // An address at which nobody is: seen before anything is changed, by who looks first...
    let said = cluster.failing_join("m1", &["--advertise", "127.0.0.9"]);
    let why =
        "so nothing was changed: from m0: it does not get through to our peer address 127.0.0.9:";
    assert!(said.contains(why), "{said}");
    assert_eq!(names(&listed(&cluster, 0), |_| true), ["m0"]);
    // ... and in time, by who does not.
    let said = cluster.failing_join("m1", &["--advertise", "127.0.0.9", "--skip-preflight"]);
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("error: the join failed: the other masters have taken it out"),
        "{said}"
    );
    assert!(last.contains("No other master has reached this one at 127.0.0.9:"), "{said}");
    let list = listed(&cluster, 0);
    assert_eq!(names(&list, |_| true), ["m0"]);
    let log = cluster.masters[0].process.text();
    assert!(log.contains("a join came to no end: taking it out"), "{log}");
    // The same directory does for the next try.
    cluster.add_master(1, 0);
    assert_eq!(names(&listed(&cluster, 1), |master| master["voter"] == true), ["m0", "m1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_says_what_is_in_the_way_of_a_join() {
    let mut cluster = Cluster::start(3);
    let (token, agents) = (cluster.token("server"), cluster.token("agent"));
    let url = cluster.masters[1].url();
    let data = cluster.directory.path().join("new").display().to_string();
    let preflight = |name: &str, token: &str, more: &[&str]| {
        let (api, peer) = (common::free_port(), common::free_port());
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(["masters", "preflight", "--join", &url, "--token", token, "--name", name]);
        command.args(["--data", &data, "--listen", &format!("127.0.0.1:{api}")]);
        command.args(["--peer-listen", &format!("127.0.0.1:{peer}")]).args(more);
        let output = common::process::run_to_end(&mut command, b"", PATIENCE);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let outcomes = |text: &str| -> Vec<(String, String)> {
        let report: Value = serde_json::from_str(text).unwrap();
        let field = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
        let checks = report["checks"].as_array().unwrap().iter();
        checks.map(|check| (field(check, "name"), field(check, "outcome"))).collect()
    };
    let (fine, table, complaint) = preflight("m3", &token, &[]);
    assert!(fine && table.starts_with("CHECK "), "{table}{complaint}");
    let (_, json, _) = preflight("m3", &token, &["-o", "json"]);
    let of = |name: &str, outcome: &str| (name.to_owned(), outcome.to_owned());
    for name in
        ["cluster", "version", "clock", "to m0", "to m1", "from m0", "from m1", "free space"]
    {
        assert!(outcomes(&json).contains(&of(name, "ok")), "{name}: {json}");
    }
    assert!(!std::path::Path::new(&data).exists(), "nothing was made");
    let (fine, json, complaint) =
        preflight("m0", &token, &["-o", "json", "--cluster-domain", "else.where"]);
    assert!(!fine, "the name is taken");
    let refused = outcomes(&json).into_iter().filter(|check| *check == of("admission", "failed"));
    assert_eq!(refused.count(), 2, "{json}");
    assert!(complaint.contains("the cluster has a master named \"m0\" already"), "{complaint}");
    let (fine, _, complaint) = preflight("m3", &token, &["--advertise", "127.0.0.9"]);
    assert!(!fine && complaint.contains("from m1: it does not get through"), "{complaint}");
    let (fine, _, complaint) = preflight("m3", &agents, &[]);
    assert!(!fine && complaint.contains("server"), "{complaint}");
    // Who is dead itself keeps nobody away.
    cluster.masters[0].process.kill_9();
    let (fine, json, complaint) = preflight("m3", &token, &["-o", "json"]);
    assert!(fine, "{json}{complaint}");
    for name in ["to m0", "from m0"] {
        assert!(outcomes(&json).contains(&of(name, "warning")), "{name}: {json}");
    }
}
