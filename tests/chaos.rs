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

#[test]
fn masters_pass_under_faults() {
    let directory = tempfile::tempdir().unwrap();
    let before = traces();
    step("20 s of faults on 3 masters");
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "run", "--duration=20", "--faults=kill,pause,isolate,link", "-o", "json"])
        .arg(format!("--directory={}", directory.path().join("run").display()))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["result"], "pass");
    assert!(report["faults"].as_array().unwrap().len() >= 4, "{text}");
    until("nothing is left", PATIENCE, || traces().is_subset(&before));
}

#[test]
fn stopping_a_run_removes_everything() {
    let directory = tempfile::tempdir().unwrap();
    let before = traces();
    let run = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "run", "--duration=600", "--masters=1", "--faults=isolate"])
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
