//! A made-up run of ten seconds, for tests of checks and of the page.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

use std::time::Duration;

use quorate_chaos::check::membership::Membership;
use quorate_chaos::check::watch::{Change, Kind, Sent, Watcher};
use quorate_chaos::history::{Operation, Outcome, Tick};
use quorate_chaos::model::{RegisterInput, RegisterOutput};
use quorate_chaos::real::Options;
use quorate_chaos::real::masters::Act;
use quorate_chaos::real::nemesis::{Fault, Injected};
use quorate_chaos::real::observer::{Observed, State, Stretch};
use quorate_chaos::real::workload::{Recorded, Resource};
use quorate_chaos::report::{Evidence, Process};
use quorate_chaos::scenario::expect::Health;
use quorate_chaos::scenario::read;
use serde_json::json;

/// In ticks.
pub const MS: Tick = 1_000_000;

const SCENARIO: &str = "\
name: made-up
masters: 3
workload: {clients: 4, keys: 3}
schedule:
- {at: 2s, for: 2500ms, fault: kill, target: leader}
- {at: 6s, for: 4s, fault: pause, target: leader}
expect:
  verdict: pass
  healed_within: 10s
";

fn options() -> Options {
    Options {
        binary: "/bin/quorate".into(),
        older: None,
        directory: "run".into(),
        scenario: read::text("made-up.yaml", SCENARIO, 42).unwrap(),
        seed: 42,
        names: Vec::new(),
        beyond_quorum: true,
        command: "quorate chaos run --scenario made-up.yaml --seed 42".into(),
        say: |_| {},
        rewrite: None,
    }
}

fn injected(fault: Fault, what: &str, from: Tick, to: Tick) -> Injected {
    let (targets, shown) = (vec!["m1".to_owned()], "seen".to_owned());
    Injected { fault, what: what.into(), from: from * MS, to: to * MS, targets, shown }
}

fn recorded(
    key: usize,
    client: u32,
    called: Tick,
    input: RegisterInput,
    output: RegisterOutput,
) -> Recorded {
    let at = called + 4 * MS + u64::from(client) * MS / 3;
    let outcome = Outcome::Done { at, output: output.into() };
    let operation = Operation { client, called, input: input.into(), outcome };
    Recorded { key, master: key % 3, operation, revision: None, under: None }
}

fn membership(by: &str) -> Membership {
    let member = |id| json!({"name": format!("m{id}"), "nodeId": id, "voter": true});
    let masters = [1, 2, 3].map(member);
    Membership::of(&json!({"answeredBy": by, "leader": "m2", "masters": masters})).unwrap()
}

/// What three clients did in ten seconds, and what a watcher was sent.
#[derive(Default)]
struct Used {
    history: Vec<Recorded>,
    acknowledged: Vec<(u64, Change)>,
    sent: Vec<Sent>,
    at: Vec<Tick>,
    revision: u64,
}

fn used() -> Used {
    let mut used = Used { revision: 100, ..Used::default() };
    let mut there = [(0, 0); 3];
    for step in 0..100u64 {
        for (key, there) in there.iter_mut().enumerate() {
            let value = step * 10 + key as u64;
            let called = step * 100 * MS + key as u64 * 7 * MS;
            let (client, other) = (u32::try_from(key).unwrap(), 10 + u32::try_from(key).unwrap());
            let (from, under) = *there;
            let (input, kind, under) = match step {
                0 => (RegisterInput::Create(value), Kind::Added, None),
                _ => (RegisterInput::Swap { from, to: value }, Kind::Modified, Some(under)),
            };
            used.revision += 1;
            let write = recorded(key, client, called, input, RegisterOutput::Written);
            used.history.push(Recorded { revision: Some(used.revision), under, ..write });
            used.history.push(recorded(
                key,
                other,
                called + 30 * MS,
                RegisterInput::Read,
                RegisterOutput::Value(value),
            ));
            *there = (value, used.revision);
            let change = Change { key: format!("register-{key}"), kind, digest: value };
            used.acknowledged.push((used.revision, change.clone()));
            used.sent.push(Sent::Event(used.revision, change));
            used.at.push(called + 6 * MS);
        }
    }
    used
}

/// Ten seconds in which all went well.
pub fn good() -> Evidence {
    let Used { history, acknowledged, sent, at, revision } = used();
    let items: Vec<_> = (0..3)
        .map(|key| {
            let name = format!("register-{key}");
            json!({"metadata": {"name": name, "uid": "u", "resourceVersion": "500"},
            "data": {"v": (990 + key).to_string()}})
        })
        .collect();
    let injected = vec![
        injected(Fault::Kill, "m1 killed", 2000, 4500),
        injected(Fault::Pause, "m2 paused", 6000, 7000),
    ];
    let watcher = |name: &str| {
        let sent = sent.clone();
        Watcher { name: name.into(), from: 100, sent, ..Watcher::default() }
    };
    Evidence {
        options: options(),
        injected,
        skipped: Vec::new(),
        health: vec![
            Health { from: 0, majority: true },
            Health { from: 10_000 * MS, majority: true },
        ],
        healed: Some(Duration::from_millis(230)),
        began: "2026-11-21T20:00:00Z".parse().unwrap(),
        ended: 10_000 * MS,
        lasted: Duration::from_secs(10),
        stopped: false,
        troubles: Vec::new(),
        history,
        acknowledged,
        watchers: vec![watcher("watcher of m1"), watcher("watcher of m2")],
        arrivals: vec![at.clone(), at],
        refused: Vec::new(),
        marker: Some(revision),
        last: vec![json!({"items": items}); 3],
        resources: vec![Resource::ConfigMaps; 2],
        contents: Vec::new(),
        memberships: ["m1", "m2", "m3"].map(membership).to_vec(),
        disaster: None,
        kube: None,
        left: Some(Vec::new()),
        processes: vec![
            Process { at: 2000 * MS, master: 0, act: Act::Killed },
            Process { at: 4500 * MS, master: 0, act: Act::Started },
            Process { at: 6000 * MS, master: 1, act: Act::Paused },
            Process { at: 7000 * MS, master: 1, act: Act::Resumed },
        ],
        observed: observed(),
    }
}

/// What the masters were in the meantime.
fn observed() -> Observed {
    let up = |role: &str, term| State::Up { role: role.into(), term, leader: Some("m1".into()) };
    let stretch = |master, from, to, state| Stretch { master, from: from * MS, to: to * MS, state };
    Observed {
        stretches: vec![
            stretch(0, 0, 2000, up("leader", 3)),
            stretch(1, 0, 2200, up("follower", 3)),
            stretch(2, 0, 2200, up("follower", 3)),
            stretch(0, 2100, 4400, State::Down),
            stretch(1, 2300, 6000, up("leader", 4)),
            stretch(2, 2300, 6300, up("follower", 4)),
            stretch(0, 4500, 6300, up("follower", 4)),
            stretch(1, 6100, 7000, State::Silent),
            stretch(2, 6400, 10_000, up("leader", 5)),
            stretch(0, 6400, 10_000, up("follower", 5)),
            stretch(1, 7100, 10_000, up("follower", 5)),
        ],
        looks: 300,
        dropped: 0,
        back: Vec::new(),
        compared: 120,
        differ: Vec::new(),
    }
}

/// As [`good`], but one read in a fault tells what was there long before.
pub fn stale() -> Evidence {
    let mut evidence = good();
    let stale = recorded(1, 77, 6_340 * MS, RegisterInput::Read, RegisterOutput::Value(581));
    evidence.history.push(stale);
    let lost = Operation {
        client: 78,
        called: 2_010 * MS,
        input: RegisterInput::Patch(9_999).into(),
        outcome: Outcome::Unknown,
    };
    let lost = Recorded { key: 2, master: 0, operation: lost, revision: None, under: None };
    evidence.history.push(lost);
    evidence
}
