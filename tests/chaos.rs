//! `quorate chaos run` on the real binary: it comes to a verdict, and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{PATIENCE, step, until};

/// Bridges and namespaces of a run on this host; other runs have theirs at the same time.
fn traces(run: u32) -> Vec<String> {
    let said = |arguments: &[&str]| {
        let output = Command::new("ip").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (links, namespaces) = (said(&["-br", "link"]), said(&["netns", "list"]));
    let names =
        links.lines().chain(namespaces.lines()).filter_map(|line| line.split([' ', '@']).next());
    let prefix = format!("qc{run}");
    let own = |name: &&str| {
        name.strip_prefix(&prefix)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    names.filter(own).map(str::to_owned).collect()
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
    step("14 s of faults on 3 masters, some at the same time");
    let run = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "run", "-o", "json"])
        .arg(format!("--scenario={}", file.display()))
        .arg(format!("--directory={}", directory.path().join("run").display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let pid = run.id();
    until("the network is there", PATIENCE, || !traces(pid).is_empty());
    let output = run.wait_with_output().unwrap();
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
    let run = directory.path().join("run");
    assert!(report.get("evidence").is_none(), "that is for the file");
    step("the page, and the same verdict from the file");
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(
        page.contains("quorate chaos run --scenario") && page.contains("leader of term"),
        "{page}"
    );
    assert!(page.contains("class=\"log\""), "lines of the masters' logs");
    let again = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "replay", "-o", "json"])
        .arg(&run)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(0));
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again, report);
    until("nothing is left", PATIENCE, || traces(pid).is_empty());
}

/// A process that this one started and that is stopped by a signal: a master, paused.
fn paused_child(parent: &Child) -> Option<rustix::process::Pid> {
    let parent = parent.id().to_string();
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|found| {
        let pid = found.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(found.path().join("stat")).ok()?;
        // After the name, which may contain anything: state, parent.
        let mut fields = stat.rsplit(')').next()?.split_whitespace();
        let paused = fields.next() == Some("T") && fields.next() == Some(parent.as_str());
        rustix::process::Pid::from_raw(pid).filter(|_| paused)
    })
}

/// A run of one master that is paused now and then, in its first fault.
fn paused_run(directory: &Path) -> (Child, rustix::process::Pid) {
    let run = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "run", "--duration=600", "--masters=1", "--faults=pause", "--minimise=0"])
        .arg(format!("--directory={}", directory.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut paused = None;
    until("a fault is there", PATIENCE, || {
        paused = paused_child(&run);
        paused.is_some()
    });
    (run, paused.unwrap())
}

#[test]
fn a_master_that_dies_by_itself_is_a_fail() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("run");
    let (run, master) = paused_run(&directory);
    let pid = run.id();
    rustix::process::kill_process(master, rustix::process::Signal::KILL).unwrap();
    let output = run.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("m1 ended by itself (signal: 9 (SIGKILL))"), "{text}");
    let page = std::fs::read_to_string(directory.join("report.html")).unwrap();
    assert!(page.contains("m1 ended by itself"), "{page}");
    let again = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "replay"])
        .arg(&directory)
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(1), "it fails again");
    until("nothing is left", PATIENCE, || traces(pid).is_empty());
}

#[test]
fn stopping_a_run_takes_back_faults_and_reports() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("run");
    let (run, _) = paused_run(&directory);
    let pid = run.id();
    interrupt(&run);
    let output = run.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("stopped by hand after") && text.contains("UNKNOWN"), "{text}");
    let page = std::fs::read_to_string(directory.join("report.html")).unwrap();
    assert!(page.contains("stopped by hand after"), "{page}");
    let report = std::fs::read_to_string(directory.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["result"], "unknown");
    assert_eq!(report["faults"][0]["what"], "pause of m1", "the one that was taken back");
    assert!(!report["evidence"]["operations"].as_array().unwrap().is_empty());
    let again = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "replay"])
        .arg(directory.join("report.json"))
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(2));
    until("nothing is left", PATIENCE, || traces(pid).is_empty());
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
fn what_is_no_report_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    std::fs::write(&file, "{\"result\": \"pass\"}").unwrap();
    for path in [directory.path(), &file, &directory.path().join("none.json")] {
        let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(["chaos", "replay"])
            .arg(path)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

const CONTAINERS: &str = "\
name: containers
masters: 1
workload: {kinds: [register, kubernetes], nodes: 1, clients: 2, keys: 2}
schedule:
- {at: 6s, for: 1s, fault: kill-all}
- {at: 12s, for: 1s, fault: pause, target: m1}
expect: {healed_within: 60s}
";

#[test]
fn pods_really_run_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("containers.yaml");
    std::fs::write(&file, CONTAINERS).unwrap();
    step("13 s with a node agent and a user of Deployments");
    let run = directory.path().join("run");
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "run", "-o", "json"])
        .arg(format!("--scenario={}", file.display()))
        .arg(format!("--directory={}", run.display()))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let check = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    if let Some(lacks) = check("bound")["found"][0].as_str()
        && check("bound")["result"] == "unknown"
        && lacks.starts_with("pods need")
    {
        eprintln!("SKIPPED: {lacks}");
        assert_eq!(output.status.code(), Some(2), "what was not there is not passed");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(check("converged")["checked"].as_str().unwrap().contains("created"), "{text}");
    assert!(check("bound")["checked"] != "0 pods", "{text}");
    assert_eq!(check("left")["result"], "pass");
    // A directory with mounts or of living processes could not be removed.
    std::fs::remove_dir_all(&run).unwrap();
}

fn interrupt(run: &Child) {
    let pid = rustix::process::Pid::from_child(run);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

#[test]
fn stopping_a_run_that_starts_removes_everything() {
    let directory = tempfile::tempdir().unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "run", "--duration=600", "--masters=1", "--faults=pause"])
        .arg(format!("--directory={}", directory.path().join("run").display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the network is there", PATIENCE, || !traces(run.id()).is_empty());
    let pid = run.id();
    interrupt(&run);
    let output = run.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("stopped"), "{text}");
    let page = std::fs::read_to_string(directory.path().join("run/report.html")).unwrap();
    assert!(page.contains("stopped by hand after"), "{page}");
    let again = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "replay"])
        .arg(directory.path().join("run"))
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(2));
    until("nothing is left", PATIENCE, || traces(pid).is_empty());
}
