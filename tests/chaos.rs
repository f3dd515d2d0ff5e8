//! `quorate chaos run` on the real binary: it comes to a verdict, and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use common::{PATIENCE, step, until};

/// Bridges and namespaces of chaos runs on this host.
fn traces() -> BTreeSet<String> {
    let said = |arguments: &[&str]| {
        let output = Command::new("ip").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (links, namespaces) = (said(&["-br", "link"]), said(&["netns", "list"]));
    let names =
        links.lines().chain(namespaces.lines()).filter_map(|line| line.split([' ', '@']).next());
    names
        .filter(|name| {
            name.strip_prefix("qc")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
        .map(str::to_owned)
        .collect()
}

const SCENARIO: &str = "\
name: by-hand
masters: 3
schedule:
- {at: 1s, for: 2s, fault: kill, target: leader}
- {at: 2s, for: 2s, fault: pause, target: follower}
- {at: 7s, for: 2s, fault: isolate, target: leader}
- {at: 11s, for: 2s, fault: link, target: m1}
- {at: 12s, for: 2s, fault: one-way, target: m2, direction: deaf}
expect:
  verdict: pass
  healed_within: 60s
";

#[test]
fn masters_pass_a_scenario() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("by-hand.yaml");
    std::fs::write(&file, SCENARIO).unwrap();
    let before = traces();
    step("14 s of faults on 3 masters, some at the same time");
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "run", "-o", "json"])
        .arg(format!("--scenario={}", file.display()))
        .arg(format!("--directory={}", directory.path().join("run").display()))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["result"], "pass");
    let faults = report["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 5, "{text}");
    // Each was seen on the host, not only asked for.
    for (fault, shown) in
        [(0, "does not run"), (1, "is stopped"), (2, "drops from"), (4, "m2 drops from m1, m3")]
    {
        assert!(faults[fault]["shown"].as_str().unwrap().contains(shown), "{text}");
    }
    until("nothing is left", PATIENCE, || traces().is_subset(&before));
}

#[test]
fn a_wrong_scenario_is_refused_at_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wrong.yaml");
    std::fs::write(&file, SCENARIO.replace("fault: pause", "fault: paus")).unwrap();
    for arguments in [vec!["scenarios", "check"], vec!["run", "--scenario"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .current_dir(directory.path())
            .arg("chaos")
            .args(arguments)
            .arg(&file)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8_lossy(&output.stderr);
        let wanted =
            "wrong.yaml:5:28: schedule[1].fault: there is no fault \"paus\" (did you mean pause?)";
        assert!(text.contains(wanted), "{text}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing was begun");
}

#[test]
fn stopping_a_run_removes_everything() {
    let directory = tempfile::tempdir().unwrap();
    let before = traces();
    let run = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "run", "--duration=600", "--masters=1", "--faults=pause"])
        .arg(format!("--directory={}", directory.path().join("run").display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the network is there", PATIENCE, || !traces().is_subset(&before));
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&run),
        rustix::process::Signal::INT,
    )
    .unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "nothing was checked");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("stopped:"), "{text}");
    until("nothing is left", PATIENCE, || traces().is_subset(&before));
}
