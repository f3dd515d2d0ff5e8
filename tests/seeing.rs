//! What people see of the masters while things happen to them: `quorate status --watch`, and events.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::process::Command;

use common::cluster::Cluster;
use common::disk::SmallDisk;
use common::kubectl::Kubectl;
use common::process::Running;
use common::{PATIENCE, step};
use serde_json::Value;

/// `quorate status --watch` at one master.
fn watch(cluster: &Cluster, number: usize, more: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(["status", "--watch", "--interval", "1"]).args(more);
    command.arg("--data").arg(&cluster.masters[number].data);
    Running::start(&mut command)
}

/// The blocks that were printed so far.
fn blocks(text: &str) -> Vec<&str> {
    text.split("--- ").skip(1).collect()
}

#[test]
fn the_status_goes_on_whichever_master_is_lost() {
    let mut cluster = Cluster::start(3);
    cluster.quorate(&["masters", "transfer-leader", "m1"]);
    let mut watched = watch(&cluster, 0, &[]);
    let text = watched.says("m1 leads");
    for part in ["3 voters, quorum 2, survives the loss of 1", "no alarms", "TRAILS BY", "VERSION"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The one that is asked; what was known of the others goes on.
    cluster.masters[0].process.kill_9();
    watched.says("m0 does not answer");
    cluster.masters[1].process.kill_9();
    watched.says("m0, m1 do not answer: NO QUORUM, writes wait");
    cluster.masters[2].process.kill_9();
    watched.says("NO MASTER ANSWERS");
    for number in 0..3 {
        cluster.restart(number);
    }
    let back = |block: &&str| block.contains(" leads, ") && !block.contains("do not answer");
    let text = watched.says_by("all are back", |text| {
        blocks(text).last().is_some_and(|block| back(block) && !block.contains("does not answer"))
    });
    step("nothing happens, nothing is said");
    let said = blocks(&text).len();
    assert!(said < 20, "{text}");

    // In a terminal it stays where it is, as wide as that is.
    let line = format!(
        "stty cols 60 rows 9; exec {} status --watch --interval 1 --data {}",
        env!("CARGO_BIN_EXE_quorate"),
        cluster.masters[1].data.display()
    );
    let mut terminal = Running::start(Command::new("script").args(["-qefc", &line, "/dev/null"]));
    let text = terminal.says_by("it is drawn anew", |text| text.matches("\x1b[8A\r").count() >= 2);
    assert!(text.contains("more lines\x1b[K"), "nine rows are too few: {text}");
    let widest = text.lines().map(|line| line.replace("\x1b[K", "").trim_end().chars().count());
    assert!(widest.max() <= Some(60 + "\x1b[J\x1b[8A\r".len()), "{text}");
    terminal.types("\x03");
    let (code, _) = terminal.ends();
    assert_eq!(code, 0, "Ctrl-C is how it ends");
}

/// Events about masters so far: reason, master, message.
fn events(kubectl: &Kubectl) -> Vec<[String; 3]> {
    let list = kubectl.get(&["events", "--field-selector", "involvedObject.kind=Master"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let event = |event: &Value| {
        [&event["reason"], &event["involvedObject"]["name"], &event["message"]].map(text)
    };
    list["items"].as_array().into_iter().flatten().map(event).collect()
}

/// Waits until one is there.
fn told(kubectl: &Kubectl, reason: &str, master: &str, words: &str) {
    let what = format!("{reason} of {master}: {words}");
    let mut all = Vec::new();
    common::until(&what, PATIENCE, || {
        all = events(kubectl);
        let is = |[r, m, text]: &[String; 3]| r == reason && m == master && text.contains(words);
        all.iter().any(is)
    });
}

#[test]
fn what_happens_to_masters_is_told_as_events() {
    let mut cluster = Cluster::start(3);
    let Some(kubectl) = Kubectl::new(&cluster.kubeconfig()) else { return };
    told(&kubectl, "LeaderElected", "m0", "m0 leads in term");
    for master in ["m1", "m2"] {
        told(&kubectl, "MasterAdded", master, "has joined as number");
        told(&kubectl, "MasterPromoted", master, "voters now: ");
    }
    cluster.quorate(&["masters", "transfer-leader", "m1"]);
    told(&kubectl, "LeaderElected", "m1", "m1 leads in term");
    cluster.masters[2].process.kill_9();
    cluster.quorate(&["masters", "remove", "m2", "--yes"]);
    told(&kubectl, "MasterRemoved", "m2", "voters now: 2");
    let seen = kubectl.run(&["get", "events"]);
    assert!(seen.contains("master/m2") && seen.contains("MasterRemoved"), "{seen}");
    // Once each, however long one waits: the leader told it, and no other.
    let removed = events(&kubectl).into_iter().filter(|[reason, ..]| reason == "MasterRemoved");
    assert_eq!(removed.count(), 1);
}

#[test]
fn a_full_disk_is_an_alarm_everywhere() {
    let Some(disk) = SmallDisk::mount(512) else { return };
    let cluster = Cluster::start_in(Some(disk.path()), 1);
    let Some(kubectl) = Kubectl::new(&cluster.kubeconfig()) else { return };
    told(&kubectl, "LeaderElected", "m0", "m0 leads in term");
    let mut watched = watch(&cluster, 0, &[]);
    watched.says("no alarms");
    let metric = |value: &str| {
        let line = format!("quorate_alarm{{alarm=\"NOSPACE\"}} {value}");
        common::until(&line, PATIENCE, || {
            kubectl.run(&["get", "--raw", "/metrics"]).lines().any(|known| known == line)
        });
    };
    metric("0.0");
    disk.leave(100);
    metric("1.0");
    watched.says("ALARM NOSPACE on m0: its disk is nearly full");
    assert!(kubectl.fails(&["create", "configmap", "more"]).contains("no space"));
    // Told all the same.
    told(&kubectl, "AlarmRaised", "m0", "NOSPACE on m0: its disk is nearly full");
    disk.leave(512);
    metric("0.0");
    told(&kubectl, "AlarmCleared", "m0", "NOSPACE on m0 is over");
    watched.says_by("it is over", |text| {
        blocks(text).last().is_some_and(|block| block.contains("no alarms"))
    });
}
