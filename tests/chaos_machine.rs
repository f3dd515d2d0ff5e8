//! `quorate chaos run` with faults of the masters' own machines: power that fails, disks and clocks that go wrong.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::step;

/// The verdict's exit code, and what `-o json` prints.
fn run(scenario: &str) -> (Option<i32>, serde_json::Value) {
    run_beside(scenario, None)
}

/// With an older program.
fn run_beside(scenario: &str, older: Option<&Path>) -> (Option<i32>, serde_json::Value) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scenario.yaml");
    std::fs::write(&file, scenario).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "run", "-o", "json", "--seed=1"])
        .arg(format!("--scenario={}", file.display()))
        .arg(format!("--directory={}", directory.path().join("run").display()))
        .args(older.map(|older| format!("--older-binary={}", older.display())))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// What the host showed of each of these faults.
fn assert_shown(report: &serde_json::Value, all: &[(usize, &str)]) {
    for (fault, shown) in all {
        let text = report["faults"][fault]["shown"].as_str().unwrap_or_default();
        assert!(text.contains(shown), "fault {fault} without {shown:?}: {report:#}");
    }
}

/// Whether the program can be ended at points of its code.
fn has_points() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let version = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .arg("version")
        .env("QUORATE_CRASH_POINTS", directory.path())
        .output()
        .unwrap();
    assert!(version.status.success());
    directory.path().join("listens").exists()
}

#[test]
fn masters_stand_power_losses_bad_disks_and_wrong_clocks() {
    step("20 s of them on 3 masters");
    let (code, report) = run("\
name: machine
masters: 3
schedule:
- {at: 1s, for: 1s, fault: power-loss, target: all}
- {at: 5s, for: 3s, fault: clock-jump, target: leader, by: 2m}
- {at: 9s, for: 3s, fault: clock-drift, target: leader, percent: 20, monotonic: true}
- {at: 13s, for: 2s, fault: disk-error, target: leader, times: 1}
- {at: 18s, for: 2s, fault: disk-slow, target: all, delay: 50ms}
");
    assert_eq!(code, Some(0), "{report:#}");
    assert_shown(
        &report,
        &[
            (0, "m3: 1 power losses: of "),
            (1, "its clock is 2m from the truth; met "),
            (2, "its clock is 20 % fast, the monotonic one too; met "),
            (3, "Input/output error"),
            (4, "its disk takes 50ms for each sync; met "),
        ],
    );
}

#[test]
fn disks_that_lie_are_found_out() {
    step("power is lost, and what was said to be synced with it");
    let (code, report) = run("\
name: lies
masters: 3
schedule:
- {at: 1s, for: 20s, fault: disk-lies, target: all}
- {at: 6s, for: 1s, fault: power-loss, target: all}
- {at: 14s, for: 1s, fault: power-loss, target: all}
");
    assert_eq!(code, Some(1), "{report:#}");
}

#[test]
fn damaged_masters_refuse_to_start_and_crash_points_are_met() {
    step("30 s of both on 3 masters");
    let (code, report) = run("\
name: damage
masters: 3
schedule:
- {at: 1s, for: 3s, fault: truncate-tail, target: follower}
- {at: 6s, for: 3s, fault: wipe-log, target: leader}
- {at: 12s, for: 2s, fault: crash-point, target: leader, point: during-log-write, times: 3}
- {at: 17s, for: 2s, fault: stop, target: leader}
- {at: 22s, for: 2s, fault: bit-flip, target: leader, file: snapshot, required: false}
");
    assert_eq!(code, Some(0), "{report:#}");
    assert_shown(
        &report,
        &[
            (0, "bytes of its raft/db are missing"),
            (1, "and without it this master must not vote again"),
            (2, "at during-log-write"),
            (3, "does not run"),
        ],
    );
    // It may have been killed while it wrote, and all of what is missing be of that write: then nothing was lost.
    let shown = report["faults"][0]["shown"].as_str().unwrap();
    assert!(shown.contains("is damaged") || shown.contains("goes on with that"), "{report:#}");
    let why = report["skipped"][0]["why"].as_str().unwrap();
    assert!(why.contains("there is no snapshot yet"), "{why}");
}

#[test]
fn masters_of_two_programs() {
    let directory = tempfile::tempdir().unwrap();
    let older = directory.path().join("older");
    std::fs::copy(env!("CARGO_BIN_EXE_quorate"), &older).unwrap();
    step("the same program under two names, one master upgraded, one downgraded");
    let scenario = "\
name: mixed
masters: 3
older: [m1]
schedule:
- {at: 1s, for: 4s, fault: upgrade, target: m1}
- {at: 8s, for: 4s, fault: downgrade, target: m2}
";
    let (code, report) = run_beside(scenario, Some(&older));
    assert_eq!(code, Some(0), "{report:#}");
    let shown = |fault: usize| report["faults"][fault]["shown"].as_str().unwrap().to_owned();
    let new = Path::new(env!("CARGO_BIN_EXE_quorate")).canonicalize().unwrap();
    assert!(shown(0).contains(&format!("m1 runs {}", new.display())), "{}", shown(0));
    assert!(shown(1).contains(&format!("m2 runs {}", older.display())), "{}", shown(1));
}

#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    step("the leader dies while all logs are blocked");
    let (code, report) = run("\
name: blocked
masters: 3
schedule:
- {at: 1s, for: 16s, fault: log-blocked, target: all}
- {at: 2s, for: 17s, fault: kill, target: leader}
- {at: 3s, for: 14s, fault: connections, target: all, times: 200}
expect:
  availability:
    majority_writes_within: 10s
");
    assert_eq!(code, Some(0), "{report:#}");
    let text = report["faults"][0]["shown"].as_str().unwrap();
    assert!(text.contains("the pipe of the log of m3 is full"), "{text}");
}

#[test]
fn masters_join_while_others_die_and_memory_ends() {
    step("two masters join one; one of them is killed on its way, and then there is no memory");
    let (code, report) = run("\
name: joins
masters: 3
schedule:
- {at: 1s, for: 8s, fault: join, target: m2}
- {at: 1s, for: 8s, fault: join, target: m3}
- {at: 1300ms, for: 1s, fault: kill, target: m3}
- {at: 10s, for: 1s, fault: slow-watchers, target: all, times: 50}
- {at: 12s, for: 6s, fault: memory, target: leader, mib: 1, required: false}
- {at: 12500ms, for: 4s, fault: slow-watchers, target: leader, times: 200, required: false}
expect: {healed_within: 60s}
");
    assert_eq!(code, Some(0), "{report:#}");
    let faults = report["faults"].as_array().unwrap();
    let shown = |name: &str| {
        let found = faults.iter().find(|fault| fault["what"].as_str().unwrap().starts_with(name));
        found.map(|fault| fault["shown"].as_str().unwrap())
    };
    for name in ["join of m2", "join of m3"] {
        let text = shown(name).unwrap();
        assert!(text.contains("is follower") || text.contains("is leader"), "{text}");
    }
    assert!(shown("slow-watchers").unwrap().contains("that do not read"), "{report:#}");
    match shown("memory") {
        Some(text) => {
            assert!(text.contains("gets 1 MiB more") && text.contains("; met "), "{text}");
        }
        None => eprintln!("SKIPPED: {}", report["skipped"][0]["why"]),
    }
    let checks = report["checks"].as_array().unwrap();
    let membership = checks.iter().find(|check| check["name"] == "membership").unwrap();
    assert_eq!(membership["checked"], "3 masters were asked", "and all vote");
}

#[test]
fn who_is_put_back_in_time_is_noticed() {
    step("the files of a follower are as they were some seconds ago");
    let (code, report) = run("\
name: rollback
masters: 3
schedule:
- {at: 2s, for: 8s, fault: rollback, target: follower}
- {at: 12s, for: 1s, fault: kill, target: m1, required: false}
");
    assert_eq!(code, Some(0), "{report:#}");
    let text = report["faults"][0]["shown"].as_str().unwrap();
    assert!(
        text.contains("ended by itself, saying") && text.contains("of an earlier time"),
        "{text}"
    );
}

#[test]
fn masters_end_at_points_of_their_code() {
    if !has_points() {
        eprintln!("SKIPPED: the program was built without crash points");
        return;
    }
    step("25 s of them on 3 masters");
    let (code, report) = run("\
name: points
masters: 3
schedule:
- {at: 1s, for: 2s, fault: crash-point, target: leader, point: log.before-sync, times: 5}
- {at: 5s, for: 2s, fault: crash-point, target: follower, point: log.opened}
- {at: 9s, for: 3s, fault: kill, target: leader}
- {at: 9s, for: 3s, fault: crash-point, target: all, point: leader.ready}
- {at: 16s, for: 4s, fault: crash-point, target: all, point: snapshot.before-rename}
- {at: 24s, for: 1s, fault: crash-point, target: m1, point: log.superseded, required: false}
");
    assert_eq!(code, Some(0), "{report:#}");
    assert_shown(
        &report,
        &[
            (0, "it ends at log.before-sync, the time of number 5; met 1 times; m"),
            (1, "saying \"crash point log.opened: this process ends here, "),
            (3, "saying \"crash point leader.ready: this process ends here, "),
            (4, "saying \"crash point snapshot.before-rename: this process ends here, "),
        ],
    );
    assert_eq!(
        report["skipped"][0]["why"], "it met nobody",
        "who does not come there has not met it"
    );
}

/// Passes with a fault that lasts until somebody is far enough behind, while clients are cut off from a master.
fn falls_behind(fault: &str, behind: &str, cut: &str) -> serde_json::Value {
    let (code, report) = run(&format!(
        "\
name: behind
masters: 3
schedule:
- {{at: 1s, for: 180s, fault: {fault}, target: {behind}}}
- {{at: 9s, for: 1s, fault: clients-cut, target: {cut}}}
expect: {{healed_within: 60s}}
"
    ));
    assert_eq!(code, Some(0), "{report:#}");
    report
}

#[test]
fn who_was_cut_off_until_the_log_was_forgotten_gets_a_snapshot() {
    step("a follower is cut off until the others have taken snapshots");
    let report = falls_behind("fall-behind", "follower", "any");
    assert_shown(
        &report,
        &[(0, ", and all others had forgotten those up to "), (0, ": a snapshot up to ")],
    );
}

#[test]
fn who_watched_not_until_history_was_forgotten_begins_anew() {
    step("a watcher stops until there is so much history that it is cut");
    let report = falls_behind("expired-watches", "m1", "m1");
    let told = ", and that was forgotten; m1: its watcher was told so, and began anew from a list";
    assert_shown(&report, &[(0, told)]);
    let checks = report["checks"].as_array().unwrap();
    let watches = checks.iter().find(|check| check["name"] == "watches").unwrap();
    assert!(watches["checked"].as_str().unwrap().contains(" times 410"), "{watches}");
}

#[test]
fn clients_and_masters_lose_their_way_and_certificates_their_worth() {
    step(
        "clients do not reach the leader; masters start with bad certificates, slowly, and elsewhere",
    );
    let (code, report) = run("\
name: ways
masters: 3
schedule:
- {at: 1s, for: 4s, fault: clients-cut, target: m1}
- {at: 6s, for: 3s, fault: certificates, target: m1, certificate: early}
- {at: 10s, for: 3s, fault: certificates, target: m2, certificate: expired}
- {at: 14s, for: 3s, fault: slow-start, target: m3, delay: 500ms}
- {at: 21s, for: 4s, fault: moved, target: leader}
expect: {healed_within: 60s}
");
    assert_eq!(code, Some(0), "{report:#}");
    assert_shown(
        &report,
        &[
            (0, "m1 drops what clients send"),
            (1, "its serving certificate is early"),
            (1, "it serves another one, "),
            (2, "its serving certificate is expired"),
            (2, "it serves another one, "),
            (3, "its disk takes 500ms for each sync; met "),
            (4, " listens to the others at "),
        ],
    );
}

#[test]
fn no_room_for_files_and_clients_that_want_everything() {
    step("both on 3 masters");
    let (code, report) = run("\
name: much
masters: 3
schedule:
- {at: 1s, for: 3s, fault: disk-inodes, target: leader}
- {at: 6s, for: 5s, fault: api-flood, target: all, times: 10}
expect: {healed_within: 60s}
");
    assert_eq!(code, Some(0), "{report:#}");
    assert_shown(
        &report,
        &[
            (0, "has room for 0 more files"),
            (1, "10 clients of m3 ask for everything; met "),
            (1, " lists of everything, and "),
        ],
    );
}

#[test]
fn masters_are_taken_out_and_leadership_goes_round() {
    step("the leader is taken out, then a follower while the leader dies in the middle of that");
    let crash =
        "- {at: 14s, for: 12s, fault: crash-point, target: leader, point: membership.applied}\n";
    let (code, report) = run(&format!(
        "\
name: members
masters: 5
schedule:
- {{at: 1s, for: 3s, fault: transfer, every: 500ms}}
- {{at: 6s, for: 3s, fault: replace, target: leader}}
{}- {{at: 15s, for: 6s, fault: replace, target: follower}}
expect: {{healed_within: 60s}}
",
        if has_points() { crash } else { "" }
    ));
    assert_eq!(code, Some(0), "{report:#}");
    let last = if has_points() { 3 } else { 2 };
    let ended = ", has ended as it was told to, and its directory is refused: ";
    assert_shown(
        &report,
        &[
            (0, "met "),
            (1, ended),
            (1, ": it votes again, as number "),
            (last, " is taken out (its number was "),
            (last, ": it votes again, as number "),
        ],
    );
}

#[test]
fn authorities_are_changed_while_a_master_dies() {
    step(
        "the authorities are changed by the commands of the runbook, and the leader dies meanwhile",
    );
    let (code, report) = run("\
name: authorities
masters: 3
workload: {kinds: [register, leases], clients: 6, keys: 4}
schedule:
- {at: 1s, for: 60s, fault: rotate-ca}
- {at: 1500ms, for: 2s, fault: kill, target: leader}
expect: {healed_within: 60s}
");
    assert_eq!(code, Some(0), "{report:#}");
    assert_shown(
        &report,
        &[
            (
                0,
                "the new authorities sign, all clients have a new kubeconfig, the old authorities are gone",
            ),
            (0, "all 3 masters have authorities of generation 2 alone"),
            (0, "a kubeconfig of before is refused by each"),
            (1, "the authorities are being changed: "),
        ],
    );
}

#[test]
fn who_is_away_until_its_certificate_has_ended_comes_back() {
    step("certificates live for 30 s, and a master hangs until its own has ended");
    let (code, report) = run("\
name: short
masters: 3
workload: {kinds: [register, leases], clients: 6, keys: 4}
schedule:
- {at: 1s, for: 90s, fault: short-lived, target: leader}
expect: {healed_within: 60s}
");
    assert_eq!(code, Some(0), "{report:#}");
    assert_shown(
        &report,
        &[(0, " is stopped"), (0, " has ended "), (0, ": it shows another one, and votes")],
    );
}

#[test]
fn a_cluster_is_taken_back_to_a_backup() {
    step("a backup is saved under load, and restored when all is over");
    let (code, report) = run("\
name: back
masters: 3
workload: {kinds: [register, append, leases], clients: 6, keys: 4}
schedule:
- {at: 1s, for: 1s, fault: kill, target: leader}
- {at: 4s, for: 1s, fault: restore}
- {at: 9s, for: 1s, fault: pause, target: any}
expect: {healed_within: 60s}
");
    assert_eq!(code, Some(0), "{report:#}");
    assert_shown(
        &report,
        &[
            (1, "a backup has "),
            (1, "all masters were ended, and "),
            (1, " is made of the backup; the others join "),
        ],
    );
    assert_lost_some(&report);
}

#[test]
fn a_survivor_goes_on_when_a_majority_is_lost_for_good() {
    step("two of three masters lose their disks while clients write");
    let (code, report) = run("\
name: survivor
masters: 3
workload: {kinds: [register, append], clients: 6, keys: 4}
schedule:
- {at: 1s, for: 1s, fault: kill, target: leader}
- {at: 9s, for: 1s, fault: quorum-lost}
expect: {healed_within: 60s}
");
    assert_eq!(code, Some(0), "{report:#}");
    assert_shown(
        &report,
        &[(1, " are gone for good; "), (1, " goes on alone with entries up to ")],
    );
    assert_lost_some(&report);
}

/// The check of what came back had something to say.
fn assert_lost_some(report: &serde_json::Value) {
    let checks = report["checks"].as_array().unwrap();
    let disaster = checks.iter().find(|check| check["name"] == "disaster").unwrap();
    let text = disaster["checked"].as_str().unwrap();
    assert!(text.starts_with("3 masters list the state of revision "), "{text}");
    assert!(
        text.contains(" acknowledged writes were later") && !text.contains("; 0 of "),
        "{text}"
    );
}
