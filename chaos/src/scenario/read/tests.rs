//! What is read, and in which words everything else is refused.

use quorate_points::Point;

use super::*;
use crate::scenario::fault::Need;
use crate::scenario::fault::place::Place;

const GOOD: &str = "\
name: leader-loss
description: The leader dies
masters: 5
workload:
  clients: 4
  keys: 2
schedule:
- at: 3s
  for: 500ms
  fault: one-way
  target: m5
  direction: deaf
- at: 1s
  for: 2s
  fault: kill
  target: leader
- {at: 5s, for: 1s, fault: delay, target: minority, delay: 50ms, jitter: 10ms, required: false}
- {at: 7s, for: 1s, fault: ring}
expect:
  verdict: pass
  availability:
    majority_writes_within: 3s
  longest_silence_max: 4s
  healed_within: 10s
  answered_min: 50
";

fn refused(content: &str) -> String {
    text("s.yaml", content, 1).unwrap_err().to_string()
}

/// A file with one step.
fn step(step: &str) -> String {
    format!("name: s\nmasters: 3\nschedule:\n- {{at: 1s, for: 1s, {step}}}\n")
}

#[test]
fn a_file_is_read() {
    let scenario = text("s.yaml", GOOD, 1).unwrap();
    assert_eq!((scenario.masters, scenario.workload.clients), (5, 4));
    let steps: Vec<(u64, Fault, Option<Target>)> =
        scenario.schedule.iter().map(|s| (s.at.0, s.fault, s.target.clone())).collect();
    assert_eq!(
        steps,
        [
            (1000, Fault::Kill, Some(Target::Leader)),
            (3000, Fault::OneWay, Some(Target::Master(4))),
            (5000, Fault::Delay, Some(Target::Minority)),
            (7000, Fault::Ring, None),
        ]
    );
    assert_eq!(scenario.expect.availability.majority_writes_within, Some(Span(3000)));
    assert_eq!(scenario.required(), [Fault::Kill, Fault::OneWay, Fault::Ring]);
    assert_eq!(scenario.lasts(), Span(8000));
}

#[test]
fn what_is_written_is_read_again() {
    let scenario = text("s.yaml", GOOD, 1).unwrap();
    let yaml = scenario.to_yaml().unwrap();
    assert_eq!(text("again.yaml", &yaml, 2).unwrap(), scenario, "{yaml}");
}

#[test]
fn who_joins_is_named_once_and_is_not_the_first() {
    let scenario = text("s.yaml", &step("fault: join, target: m3"), 1).unwrap();
    assert_eq!(scenario.absent(), [2].into());
    for (wrong, wanted) in [
        ("fault: join", "s.yaml:4:3: schedule[0].target is missing: the name of the master"),
        ("fault: join, target: leader", "schedule[0].target: join needs the name of the master"),
        ("fault: join, target: m1", "schedule[0].target: join needs the name of the master"),
        ("fault: join, target: m4", "schedule[0].target: "),
        ("fault: memory, target: m1, mib: 0", "schedule[0].mib: 0 is not between 1 and"),
        ("fault: kill, target: m1, mib: 4", "schedule[0].mib: kill has no such detail"),
    ] {
        let error = refused(&step(wrong));
        assert!(error.contains(wanted) && error.lines().count() == 1, "{error}");
    }
    let twice = format!(
        "{}- {{at: 4s, for: 1s, fault: join, target: m3}}\n",
        step("fault: join, target: m3")
    );
    assert!(refused(&twice).contains("m3 joins twice"));
}

#[test]
fn who_forgets_needs_somebody_who_does_not() {
    for right in [
        "fault: fall-behind, target: minority",
        "fault: expired-watches, target: majority",
        "fault: certificates, target: all, certificate: early",
        "fault: short-lived, target: leader, away: killed",
        "fault: rotate-ca",
        "fault: clients-cut, target: all",
    ] {
        let scenario = text("s.yaml", &step(right), 1).unwrap();
        let again = text("again.yaml", &scenario.to_yaml().unwrap(), 1).unwrap();
        assert_eq!(again, scenario);
    }
    for (wrong, wanted) in [
        ("fault: fall-behind, target: majority", "target: fall-behind needs a majority that goes"),
        ("fault: fall-behind, target: all", "target: fall-behind needs a majority that goes"),
        ("fault: expired-watches, target: all", "target: expired-watches needs a master whose"),
        (
            "fault: certificates, certificate: bad",
            "schedule[0].certificate: \"bad\" is none; expired, ending, early, missing",
        ),
        ("fault: kill, certificate: early", "schedule[0].certificate: kill has no such detail"),
        ("fault: short-lived, away: gone", "schedule[0].away: \"gone\" is none; paused or killed"),
        ("fault: rotate-ca, target: m1", "schedule[0].target: rotate-ca meets all masters"),
        ("fault: api-flood, times: 0", "schedule[0].times: 0 is not between 1 and"),
    ] {
        let error = refused(&step(wrong));
        assert!(error.contains(wanted) && error.lines().count() == 1, "{error}");
    }
    let two = format!("masters: 2\n{}", step("fault: fall-behind").replace("masters: 3\n", ""));
    assert!(refused(&two).contains("fall-behind needs 3 masters or more, not 2"), "{two}");
}

#[test]
fn unknown_fields_are_refused_at_their_place() {
    let error = refused("name: s\nschedul: []\n");
    assert!(error.starts_with("s.yaml:2:1: "), "{error}");
    assert!(error.contains("schedul") && error.contains("schedule"), "{error}");
    let error = refused(&step("fault: kill, tarket: leader"));
    assert!(error.starts_with("s.yaml:4:"), "{error}");
    assert!(error.contains("tarket") && error.contains("target"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn no_yaml_is_refused_at_its_place() {
    let error = refused("name: s\nschedule: [\n");
    assert!(error.starts_with("s.yaml:"), "{error}");
    let error = refused("masters: 3\nschedule: []\n");
    assert!(error.contains("name"), "{error}");
    let error = refused("name: s\nmasters: many\nschedule: []\n");
    assert!(error.starts_with("s.yaml:2:10: "), "{error}");
}

#[test]
fn each_field_says_what_is_allowed() {
    for (content, wanted) in [
        (
            step("fault: kil"),
            "s.yaml:4:28: schedule[0].fault: there is no fault \"kil\" (did you mean kill?); there are kill, kill-all, ",
        ),
        (
            step("fault: explode"),
            "schedule[0].fault: there is no fault \"explode\"; there are kill,",
        ),
        (
            step("fault: kill, target: boss"),
            "s.yaml:4:42: schedule[0].target: \"boss\" is nobody; leader, follower, any, all, minority, majority, or one of m1 to m3",
        ),
        (step("fault: kill, target: m4"), "\"m4\" is nobody"),
        (
            step("fault: kill-all, target: m1"),
            "schedule[0].target: kill-all meets all masters: leave it away",
        ),
        (
            step("fault: majorities-ring"),
            "schedule[0].fault: majorities-ring needs 5 masters or more, not 3",
        ),
        (
            step("fault: kill, delay: 1s"),
            "schedule[0].delay: kill has no such detail; it has no details",
        ),
        (
            step("fault: loss, delay: 1s"),
            "schedule[0].delay: loss has no such detail; it has percent",
        ),
        (step("fault: loss, percent: 100"), "schedule[0].percent: 100 is not between 1 and 99"),
        (step("fault: one-way, direction: up"), "schedule[0].direction: \"up\" is none; deaf"),
        (
            step("fault: delay, delay: 5"),
            "schedule[0].delay: \"5\" is no duration: write a whole number and ms, s, m or h",
        ),
        (
            "name: s\nschedule:\n- {at: 1s, fault: kill}\n".into(),
            "s.yaml:3:3: schedule[0].for is missing",
        ),
        (
            "name: s\nschedule:\n- {at: 1s, for: 0s, fault: kill}\n".into(),
            "schedule[0].for: it does not last",
        ),
        ("name: s\nschedule: []\n".into(), "schedule: there is no fault in it"),
        ("name: s\n".into(), "neither a schedule"),
        (
            "name: A b\nschedule: []\n".into(),
            "s.yaml:1:7: name: \"A b\" is not made of a-z, 0-9 and -",
        ),
        (
            "name: s\nmasters: 10\nschedule: []\n".into(),
            "s.yaml:2:10: masters: 10 is not between 1 and 9",
        ),
        (
            "name: s\nworkload: {clients: 0}\nschedule: []\n".into(),
            "workload.clients: 0 is not between 1 and",
        ),
        (
            step("fault: kill") + "expect: {verdict: fail}\n",
            "s.yaml:5:19: expect.verdict: \"fail\" cannot be expected; only pass",
        ),
        (
            step("fault: kill") + "expect: {healed_within: soon}\n",
            "expect.healed_within: \"soon\" is no duration",
        ),
    ] {
        let error = refused(&content);
        assert!(error.contains(wanted), "{content}\n{error}\nwanted: {wanted}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let error = refused("name: s\nmasters: 0\nschedule:\n- {at: 1x, for: 1s, fault: kill}\n");
    assert_eq!(error.lines().count(), 2, "{error}");
}

const RANDOM: &str = "\
name: r
random:
  for: 20s
  every: 500ms..2s
  lasts: 300ms..1s
  faults:
  - {fault: kill, target: leader}
  - {fault: pause}
  - {fault: isolate, target: minority}
";

#[test]
fn a_seed_draws_a_schedule_and_always_the_same() {
    let one = text("r.yaml", RANDOM, 7).unwrap();
    assert_eq!(text("r.yaml", RANDOM, 7).unwrap().to_yaml().unwrap(), one.to_yaml().unwrap());
    assert_ne!(text("r.yaml", RANDOM, 8).unwrap().schedule, one.schedule);
    let own = RANDOM.replace("random:", "seed: 8\nrandom:");
    assert_eq!(
        text("r.yaml", &own, 7).unwrap().schedule,
        text("r.yaml", RANDOM, 8).unwrap().schedule
    );
    assert!(one.schedule.windows(2).all(|pair| {
        let quiet = pair[1].at.0 - pair[0].at.0 - pair[0].lasts.0;
        (500..=2000).contains(&quiet) && (300..=1000).contains(&pair[0].lasts.0)
    }));
    assert_eq!(one.required(), [Fault::Kill, Fault::Pause, Fault::Isolate]);
}

#[test]
fn random_is_checked_too() {
    for (from, to, wanted) in [
        ("500ms..2s", "2s..1s", "random.every: \"2s..1s\" ends before it begins"),
        ("500ms..2s", "0s..1s", "random: every and lasts begin with more than 0"),
        ("fault: pause", "fault: pause, at: 1s", "random.faults[1].at: times are drawn from"),
        ("for: 20s", "for: 20000h", "random: that are more than"),
        ("random:", "schedule: []\nrandom:", "random: there is a schedule already"),
    ] {
        let error = refused(&RANDOM.replace(from, to));
        assert!(error.contains(wanted), "{error}\nwanted: {wanted}");
    }
}

#[test]
fn workloads_in_three_forms() {
    use crate::model::Family::{Append, Bank, Leases, Register, Set};
    let kinds = |workload: &str| {
        let file = format!("{}workload: {workload}\n", step("fault: kill"));
        text("s.yaml", &file, 1).unwrap().workload
    };
    assert_eq!(kinds("bank").kinds, [Bank]);
    assert_eq!(kinds("[set, leases]").kinds, [Set, Leases]);
    let all = kinds("{kinds: [append, register], clients: 3}");
    assert_eq!((all.kinds, all.clients, all.keys), (vec![Append, Register], 3, 6));
    assert_eq!(kinds("{keys: 2}").kinds, [Register], "as it was before there were others");
    assert_eq!(kinds("{kinds: set}").kinds, [Set]);
    let scenario = text("s.yaml", &format!("{}workload: [set, bank]\n", step("fault: kill")), 1);
    let scenario = scenario.unwrap();
    assert_eq!(text("again.yaml", &scenario.to_yaml().unwrap(), 1).unwrap(), scenario);
}

#[test]
fn other_workloads_are_refused_at_their_place() {
    let refused = |workload: &str| refused(&format!("name: s\nworkload: {workload}\n{STEP}"));
    const STEP: &str = "schedule:\n- {at: 1s, for: 1s, fault: kill}\n";
    let error = refused("banc");
    assert!(error.starts_with("s.yaml:2:11: workload: there is no workload \"banc\""), "{error}");
    assert!(error.contains("did you mean bank?") && error.contains("leases"), "{error}");
    assert!(refused("[set, banc]").starts_with("s.yaml:2:17: "), "{}", refused("[set, banc]"));
    assert!(refused("[set, set]").contains("set is there twice"));
    assert!(refused("[]").contains("there is none in it"));
    assert!(refused("{kinds: [set, bank], clients: 1}").contains("too few for 2 kinds"));
    assert!(refused("{kind: set}").contains("kinds"), "{}", refused("{kind: set}"));
    assert_eq!(refused("{kinds: [set], clients: 0}").lines().count(), 1);
}

#[test]
fn faults_of_machines_are_read_and_written() {
    let content = "\
name: machines
masters: 3
schedule:
- {at: 1s, for: 1s, fault: clock-jump, target: leader, by: -90s}
- {at: 2s, for: 1s, fault: clock-drift, percent: 5, direction: slow, monotonic: true}
- {at: 3s, for: 1s, fault: clock-strobe, by: 1h, every: 50ms}
- {at: 4s, for: 1s, fault: disk-error, on: write, error: enospc, times: 3}
- {at: 5s, for: 9s, fault: power-loss, target: all, every: 3s}
- {at: 6s, for: 9s, fault: crash-point, target: all, point: vote.before-sync, times: 2}
- {at: 7s, for: 9s, fault: crash-point, point: any}
- {at: 8s, for: 9s, fault: crash-point, point: after-witness}
";
    let scenario = text("s.yaml", content, 1).unwrap();
    let with: Vec<Parameters> = scenario.schedule.iter().map(|step| step.with).collect();
    assert_eq!((with[0].by, with[1].monotonic), (Some(super::super::Shift(-90_000)), true));
    assert_eq!((with[1].direction, with[3].times), (Some(Direction::Slow), Some(3)));
    assert_eq!((with[3].on, with[3].error), (Some(DiskCall::Write), Some(DiskError::Enospc)));
    assert_eq!(with[5].point, Some(Place::Code(Point::VoteBeforeSync)));
    let needs: Vec<Need> = scenario.schedule[5..].iter().map(super::super::Step::need).collect();
    assert_eq!(needs, [Need::Points, Need::Points, Need::Shim]);
    let yaml = scenario.to_yaml().unwrap();
    assert_eq!(text("again.yaml", &yaml, 2).unwrap(), scenario, "{yaml}");
}

#[test]
fn details_of_machines_say_what_is_allowed() {
    for (content, wanted) in [
        (step("fault: clock-jump, by: 0s"), "schedule[0].by: that is no change"),
        (
            step("fault: crash-point, point: lunch"),
            "schedule[0].point: there is no point \"lunch\"; there are before-log-sync, ",
        ),
        (
            step("fault: crash-point, point: log.lunch"),
            "there is no point \"log.lunch\"; there are before-log-sync, ",
        ),
        (
            step("fault: bit-flip, file: pki"),
            "schedule[0].file: \"pki\" is none; log, witness, snapshot or identity",
        ),
        (
            step("fault: kill").replace("masters: 3", "masters: 3\nolder: [m4]"),
            "s.yaml:3:9: older: \"m4\" is no master; m1 to m3",
        ),
        (
            step("fault: clock-jump, by: 99999h"),
            "schedule[0].by: \"99999h\" is too far: 3650 days at most",
        ),
        (
            step("fault: clock-drift, direction: deaf"),
            "schedule[0].direction: \"deaf\" is none; fast or slow",
        ),
        (
            step("fault: disk-error, on: open"),
            "schedule[0].on: \"open\" does not fail; sync or write",
        ),
        (
            step("fault: disk-error, error: enoent"),
            "schedule[0].error: \"enoent\" is none; eio (broken) or enospc (full)",
        ),
        (
            step("fault: kill, times: 3"),
            "schedule[0].times: kill has no such detail; it has no details",
        ),
    ] {
        let error = refused(&content);
        assert!(error.contains(wanted), "{error}\n{wanted}");
    }
}

#[test]
fn node_agents_are_met_where_there_are_some() {
    let file = |workload: &str, step: &str| {
        format!("name: s\nworkload: {workload}\nschedule:\n- {{at: 1s, for: 1s, {step}}}\n")
    };
    let two = "{kinds: [kubernetes, set], nodes: 2}";
    let scenario = text("s.yaml", &file(two, "fault: isolate, target: n2"), 1).unwrap();
    assert_eq!(scenario.schedule[0].target, Some(Target::Agent(1)));
    assert_eq!(scenario.workload.nodes, 2);
    assert_eq!(text("again.yaml", &scenario.to_yaml().unwrap(), 1).unwrap(), scenario);
    assert_eq!(text("s.yaml", &file("kubernetes", "fault: kill"), 1).unwrap().workload.nodes, 2);
    let refused = |workload, step| refused(&file(workload, step));
    assert!(refused(two, "fault: kill, target: n3").contains("a node agent, n1 to n2"));
    assert!(refused(two, "fault: disk-full, target: n1").contains("cannot meet a node agent"));
    assert!(refused("set", "fault: kill, target: n1").contains("\"n1\" is nobody"));
}

#[test]
fn a_run_ends_once_and_on_directories_that_can_be_moved() {
    let of = |faults: &str| format!("name: s\nmasters: 3\nschedule:\n{faults}");
    let restore = "- {at: 1s, for: 1s, fault: restore}\n";
    text("s.yaml", &of(restore), 1).unwrap();
    let twice = of(&format!("{restore}- {{at: 3s, for: 1s, fault: quorum-lost}}\n"));
    assert!(refused(&twice).contains("restore ends the run, and so does quorum-lost"));
    let full = of(&format!("{restore}- {{at: 3s, for: 1s, fault: disk-full}}\n"));
    assert!(refused(&full).contains("restore moves directories aside, and with disk-full"));
}
