//! The report of a made-up run: what is found in it, its page, and that it can be checked again.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod made;

use std::time::Duration;

use quorate_chaos::check::watch::{Gone, Relist, Sent};
use quorate_chaos::history::{Operation, Outcome};
use quorate_chaos::model::{Content, Family, Input, Output, VersionedInput, VersionedOutput};
use quorate_chaos::real::course::Trouble;
use quorate_chaos::real::nemesis::Injected;
use quorate_chaos::real::observer::State;
use quorate_chaos::real::workload::Recorded;
use quorate_chaos::report::{Evidence, Report, Result, file, page};
use quorate_chaos::scenario::Fault;
use serde_json::json;

use made::{MS, good, stale};

const BAD: &str = "</script><img src=x onerror=alert(1)>&\"'";

fn result(report: &Report, check: &str) -> Result {
    report.checks.iter().find(|found| found.name == check).unwrap().result
}

#[test]
fn a_good_run_passes() {
    let report = Report::of(&good());
    assert_eq!(report.result, Result::Pass, "{}", report.text());
    assert!(report.first_violation.is_none());
}

#[test]
fn the_violation_has_a_small_window_and_is_on_the_page() {
    let evidence = stale();
    let report = Report::of(&evidence);
    assert_eq!((report.result, result(&report, "linearizable")), (Result::Fail, Result::Fail));
    let violation = report.first_violation.as_ref().unwrap();
    let (context, window): (Vec<_>, Vec<_>) =
        violation.operations.iter().partition(|shown| shown.context);
    assert!(window.len() <= 3, "{violation:?}");
    let written: Vec<_> = context.iter().map(|shown| shown.asked.as_str()).collect();
    assert_eq!(written, ["update 571 → 581", "update 621 → 631"], "where the values come from");
    let wrong: Vec<_> = violation.operations.iter().filter(|shown| shown.wrong).collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!((wrong[0].client, wrong[0].told.as_deref()), (77, Some("581")));
    let directory = tempfile::tempdir().unwrap();
    let log = "2026-11-21T20:00:06.100000Z  WARN quorate_raft: read index reused\n  and its second line\n";
    std::fs::write(directory.path().join("m2.log"), log).unwrap();
    let html = page(&report, &evidence, directory.path());
    for part in [
        "id=\"violation\"",
        "href=\"#violation\"",
        "register-1: get was answered with",
        "class=\"wrong\"",
        "Faults at that time: m2 paused",
        "quorate chaos run --scenario made-up.yaml --seed 42",
        "prefers-color-scheme: dark",
        "leader, term 4",
        "read index reused",
        "and its second line",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // For whoever wants to look at one.
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/chaos-report.html"), &html).unwrap();
    assert!(!html.contains("http://") && !html.contains("https://"), "nothing is loaded");
}

#[test]
fn other_checks_have_their_place_in_time_too() {
    let mut evidence = good();
    evidence.watchers[1].sent.remove(150);
    evidence.arrivals[1].remove(150);
    let report = Report::of(&evidence);
    assert_eq!((report.result, result(&report, "watches")), (Result::Fail, Result::Fail));
    let violation = report.first_violation.unwrap();
    assert_eq!(violation.check, "watches");
    assert_eq!(violation.at, evidence.arrivals[1][150], "when the next one came");
    assert!(!violation.operations.is_empty());
}

/// A way to break one promise, and the check that has to find it.
type Break = (&'static str, fn(&mut Evidence));

#[test]
fn each_promise_can_be_broken() {
    let breaks: [Break; 13] = [
        ("lost", |evidence| {
            for list in &mut evidence.last {
                list["items"][2]["metadata"]["resourceVersion"] = json!("130");
            }
        }),
        // What was acknowledged is not there: the last read of it has no place in any order.
        ("linearizable", |evidence| {
            for list in &mut evidence.last {
                list["items"].as_array_mut().unwrap().pop();
            }
        }),
        ("agreement", |evidence| evidence.last[2]["items"][0]["data"]["v"] = json!("7")),
        ("state", |evidence| evidence.observed.differ.push("after entry 7 m1 has a, m2 b".into())),
        ("revisions", |evidence| evidence.acknowledged[9].0 = 107),
        ("revisions", |evidence| {
            let late = evidence.history.iter_mut().rfind(|found| found.revision.is_some());
            late.unwrap().revision = Some(333);
        }),
        ("revisions", |evidence| evidence.observed.back.push("m1: revision 3 after 4".into())),
        ("conditional", |evidence| {
            let update = evidence.history.iter_mut().rfind(|found| found.under.is_some());
            let update = update.unwrap();
            update.under = update.under.map(|under| under - 3);
        }),
        ("leaders", |evidence| {
            let last = evidence.observed.stretches.last_mut().unwrap();
            if let State::Up { term, .. } = &mut last.state {
                *term = 3;
            }
        }),
        ("membership", |evidence| evidence.memberships[1].leader = Some("m1".into())),
        ("membership", |evidence| drop(evidence.memberships[1].members.pop_first())),
        ("left", |evidence| evidence.left = Some(vec!["the link qc7".into()])),
        ("watches", |evidence| evidence.refused.push("410 for a watch from 5".into())),
    ];
    for (name, break_it) in breaks {
        let mut evidence = good();
        break_it(&mut evidence);
        let report = Report::of(&evidence);
        assert_eq!(result(&report, name), Result::Fail, "{name}: {}", report.text());
    }
}

#[test]
fn history_is_gone_only_where_masters_show_it_and_have_a_reason() {
    let told = |asked: u64, forgotten: Option<u64>, fault: Fault| {
        let mut evidence = good();
        evidence.injected[0].fault = fault;
        let watcher = &mut evidence.watchers[0];
        watcher.gone.push(Gone { at: 1, asked, forgotten });
        let report = Report::of(&evidence);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        file::save(&path, &report, &evidence).unwrap();
        assert_eq!(file::load(&path).unwrap().watchers, evidence.watchers);
        result(&report, "watches")
    };
    assert_eq!(told(5, Some(6), Fault::ExpiredWatches), Result::Pass);
    assert_eq!(told(5, Some(6), Fault::Kill), Result::Fail, "nothing pushed history out");
    assert_eq!(told(5, Some(5), Fault::ExpiredWatches), Result::Fail, "it was still there");
    assert_eq!(told(5, None, Fault::ExpiredWatches), Result::Fail, "nobody shows it");
}

#[test]
fn a_list_explains_what_a_watcher_missed() {
    let missed = |without: Option<usize>| {
        let mut evidence = good();
        let (known, watcher) = (evidence.watchers[1].sent.clone(), &mut evidence.watchers[0]);
        let mut there = std::collections::BTreeMap::new();
        for sent in &known[..150] {
            if let Sent::Event(revision, change) = sent {
                there.insert(change.key.clone(), *revision);
            }
        }
        let Sent::Event(revision, _) = &known[149] else { panic!("an event") };
        watcher.sent.drain(100..150);
        evidence.arrivals[0].drain(100..150);
        let mut objects: Vec<(String, u64)> = there.into_iter().collect();
        without.map(|index| objects.remove(index));
        watcher.gone.push(Gone { at: 1, asked: 1, forgotten: Some(2) });
        watcher.relists.push(Relist { after: 100, revision: *revision, objects });
        evidence.injected[0].fault = Fault::ExpiredWatches;
        Report::of(&evidence)
    };
    assert_eq!(result(&missed(None), "watches"), Result::Pass);
    let report = missed(Some(0));
    assert_eq!(result(&report, "watches"), Result::Fail);
    assert!(report.text().contains("is not in it"), "{}", report.text());
}

#[test]
fn a_term_goes_back_only_with_the_files() {
    let broken = |leads: bool, fault: Fault| {
        let mut evidence = good();
        let last = evidence.observed.stretches.last_mut().unwrap();
        let (from, master) = (last.from, last.master);
        let role = if leads { "leader" } else { "follower" };
        last.state = State::Up { role: role.into(), term: 3, leader: None };
        evidence.injected.push(Injected {
            fault,
            what: String::new(),
            from: from - 1,
            to: from + 1,
            targets: vec![evidence.options.name(master)],
            shown: String::new(),
        });
        result(&Report::of(&evidence), "leaders")
    };
    assert_eq!(broken(false, Fault::Rollback), Result::Pass);
    assert_eq!(broken(false, Fault::Kill), Result::Fail);
    assert_eq!(broken(true, Fault::Rollback), Result::Fail);
}

#[test]
fn what_nobody_looked_at_is_unknown() {
    let blinds: [Break; 8] = [
        ("left", |evidence| evidence.left = None),
        ("membership", |evidence| evidence.memberships.clear()),
        ("leaders", |evidence| evidence.observed.stretches.clear()),
        ("state", |evidence| evidence.observed.compared = 0),
        ("watches", |evidence| evidence.watchers.clear()),
        ("conditional", |evidence| {
            evidence.history.iter_mut().for_each(|found| found.under = None);
        }),
        ("lost", |evidence| drop(evidence.last.pop())),
        ("bank", |evidence| evidence.options.scenario.workload.kinds.push(Family::Bank)),
    ];
    for (name, blind) in blinds {
        let mut evidence = good();
        blind(&mut evidence);
        let report = Report::of(&evidence);
        assert_eq!(result(&report, name), Result::Unknown, "{name}: {}", report.text());
        assert_eq!(report.result, Result::Unknown);
    }
}

fn lease(holder: &str, transitions: u64) -> Content {
    Content::Lease { holder: holder.into(), transitions }
}

fn balances(first: i64) -> Content {
    Content::Balances(vec![first, 200 - first, 100, 100, 100])
}

/// As [`good`], with accounts, and a lease that its first holder keeps.
fn with_others() -> Evidence {
    let mut evidence = good();
    evidence.options.scenario.workload.kinds.extend([Family::Bank, Family::Leases]);
    let mut called = 20_000 * MS;
    evidence.ended = 30_000 * MS;
    let holder = || lease("candidate-200", 0);
    for serial in 0..25 {
        let bank = balances(100 - i64::try_from(serial).unwrap());
        let put = |content: Content| match serial {
            0 => VersionedInput::Create(1, content),
            _ => VersionedInput::Update { from: serial, to: serial + 1, content },
        };
        let is = VersionedOutput::Is(serial + 1, bank.clone());
        for (client, input, output) in [
            (100, Input::Bank(put(bank.clone())), VersionedOutput::Written),
            (101, Input::Bank(VersionedInput::Read), is),
            (200, Input::Lease(put(holder())), VersionedOutput::Written),
        ] {
            called += 80 * MS;
            let outcome = Outcome::Done { at: called + MS, output: Output::Versioned(output) };
            let operation = Operation { client, called, input, outcome };
            let recorded = Recorded { key: 0, master: 0, operation, revision: None, under: None };
            evidence.history.push(recorded);
        }
        evidence.contents.push((1000 + serial * 2, "bank-0".into(), bank));
        evidence.contents.push((1001 + serial * 2, "lease-0".into(), holder()));
    }
    let bank = |account: usize| if account == 0 { "76" } else { "124" };
    let data = json!({"a0": bank(0), "a1": bank(1), "a2": "100", "a3": "100", "a4": "100", "serial": "25"});
    let items = [
        json!({"metadata": {"name": "bank-0", "uid": "b", "resourceVersion": "1048"}, "data": data}),
        json!({
            "metadata": {"name": "lease-0", "uid": "l", "resourceVersion": "1049",
                "annotations": {"chaos.quorate/serial": "25"}},
            "spec": {"holderIdentity": "candidate-200", "leaseTransitions": 0},
        }),
    ];
    for list in &mut evidence.last {
        list["items"].as_array_mut().unwrap().extend(items.clone());
    }
    evidence
}

#[test]
fn money_and_leases_are_watched_over() {
    let good = Report::of(&with_others());
    assert_eq!(good.result, Result::Pass, "{}", good.text());
    let breaks: [Break; 6] = [
        ("bank", |evidence| {
            let read = evidence.history.iter_mut().rfind(|found| found.operation.client == 101);
            let read = &mut read.unwrap().operation;
            let content = Content::Balances(vec![76, 124, 100, 100, 99]);
            let output = Output::Versioned(VersionedOutput::Is(25, content));
            read.outcome = Outcome::Done { at: read.called + MS, output };
        }),
        ("bank", |evidence| evidence.contents[20].2 = balances(-10)),
        ("bank", |evidence| evidence.last[1]["items"][3]["data"]["a3"] = json!("101")),
        ("linearizable", |evidence| evidence.last[0]["items"][3]["data"]["serial"] = json!("24")),
        ("leases", |evidence| evidence.contents[21].2 = lease("candidate-300", 0)),
        ("leases", |evidence| {
            let renewal = evidence.history.iter_mut().rfind(|found| found.operation.client == 200);
            let operation = &mut renewal.unwrap().operation;
            operation.client = 300;
            let content = lease("candidate-300", 1);
            operation.input = Input::Lease(VersionedInput::Update { from: 24, to: 25, content });
        }),
    ];
    for (name, break_it) in breaks {
        let mut evidence = with_others();
        break_it(&mut evidence);
        let report = Report::of(&evidence);
        assert_eq!(result(&report, name), Result::Fail, "{name}: {}", report.text());
        // And from the file as well.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(file::NAME);
        file::save(&path, &report, &evidence).unwrap();
        let again = Report::of(&file::load(&path).unwrap());
        assert_eq!(again.text(), report.text());
    }
}

#[test]
fn whatever_comes_from_a_run_is_escaped() {
    let mut evidence = stale();
    evidence.options.directory = BAD.into();
    evidence.options.command = BAD.into();
    evidence.options.scenario.description = BAD.into();
    evidence.injected[1].shown = BAD.into();
    evidence.injected[0].what = BAD.into();
    evidence.refused.push(BAD.into());
    evidence.watchers[0].name = BAD.into();
    evidence.watchers[0].sent.swap(3, 4);
    evidence.troubles.push(Trouble { what: BAD.into(), broke: true });
    for stretch in &mut evidence.observed.stretches {
        if let State::Up { role, leader, .. } = &mut stretch.state {
            *leader = Some(BAD.into());
            if role != "leader" {
                *role = BAD.into();
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("m1.log"),
        format!("2026-11-21T20:00:02.5Z  INFO {BAD}\n"),
    )
    .unwrap();
    let html = page(&Report::of(&evidence), &evidence, directory.path());
    assert!(!html.contains("<img"), "an element of a run's text");
    assert!(html.contains("&lt;img src=x"));
    assert_eq!(html.matches("</script>").count(), 2, "the numbers' and the script's own");
}

#[test]
fn a_run_that_was_cut_short_is_not_called_right() {
    let mut evidence = good();
    (evidence.stopped, evidence.lasted) = (true, Duration::from_secs(3));
    let report = Report::of(&evidence);
    assert_eq!((report.result, result(&report, "course")), (Result::Unknown, Result::Unknown));
    (evidence.healed, evidence.marker) = (None, None);
    evidence.last.clear();
    let report = Report::of(&evidence);
    for check in ["course", "watches", "agreement"] {
        assert_eq!(result(&report, check), Result::Unknown, "{check}");
    }
    assert!(report.text().contains("stopped by hand after 3.0 of 10 s"));
    // What was found before counts.
    let mut evidence = stale();
    evidence.stopped = true;
    assert_eq!(Report::of(&evidence).result, Result::Fail);
}

#[test]
fn who_broke_decides() {
    let mut evidence = good();
    evidence.troubles.push(Trouble { what: "nft: no".into(), broke: false });
    assert_eq!(Report::of(&evidence).result, Result::Unknown);
    evidence.troubles.push(Trouble { what: "m2 ended by itself".into(), broke: true });
    assert_eq!(Report::of(&evidence).result, Result::Fail);
}

#[test]
fn an_old_run_is_checked_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(file::NAME);
    for evidence in [good(), stale()] {
        let report = Report::of(&evidence);
        file::save(&path, &report, &evidence).unwrap();
        let again = file::load(&file::path(directory.path())).unwrap();
        let (first, second) = (serde_json::to_string(&report).unwrap(), Report::of(&again));
        assert_eq!(serde_json::to_string(&second).unwrap(), first);
        assert_eq!(
            page(&second, &again, directory.path()),
            page(&report, &evidence, directory.path())
        );
        // Scripts that read the file find what they found before there was evidence in it.
        let text = std::fs::read_to_string(&path).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for field in ["result", "seed", "masters", "faults", "operations", "healed_ms", "checks"] {
            assert!(value.get(field).is_some(), "{field}");
        }
    }
}

#[test]
fn what_cannot_be_trusted_is_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(file::NAME);
    let evidence = stale();
    file::save(&path, &Report::of(&evidence), &evidence).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let refused = |text: &str, word: &str| {
        std::fs::write(&path, text).unwrap();
        let error = format!("{:#}", file::load(&path).unwrap_err());
        assert!(error.contains(word) && !error.contains('\n'), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
    };
    refused(
        &text.replacen("\"version\":1", "\"version\":2", 1),
        "is of version 2, this program knows 1",
    );
    refused(&text[..text.len() / 2], "is damaged");
    refused(
        &text.replacen("\"value\":581", "\"value\":631", 1),
        "the checksum of its evidence is another",
    );
    refused("", "is damaged");
    refused("[1, 2", "is no report that can be checked again");
    refused("{\"result\": \"pass\"}", "is no report that can be checked again");
    refused(
        &text.replacen("quorate-chaos-report", "something-else", 1),
        "is no report of a chaos run",
    );
    std::fs::remove_file(&path).unwrap();
    assert!(format!("{:#}", file::load(&path).unwrap_err()).contains("cannot open"));
}
