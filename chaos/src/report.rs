//! What a run found: a verdict, what it rests on, and what to do to see it again.

pub mod file;
mod logs;
mod page;
mod timeline;
pub mod violation;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::linear::{self, Verdict};
use crate::check::watch::{Change, Kind, Log, Revision, Sent, Watcher};
use crate::history::{Operation, Tick, well_formed};
use crate::limits::{ANSWERED_MIN, NAMED_MAX};
use crate::model::{Register, RegisterInput, RegisterOutput};
use crate::real::Options;
use crate::real::course::Trouble;
use crate::real::masters::Act;
use crate::real::nemesis::{Fault, Injected, Skipped};
use crate::real::observer::Observed;
use crate::real::workload::{Recorded, name, told};
use crate::scenario::expect::{Health, Seen};
pub use page::page;
use violation::Violation;

/// What was done to a master's process, or what it did.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Process {
    /// When.
    pub at: Tick,
    /// Which master.
    pub master: usize,
    /// What.
    pub act: Act,
}

/// What a run leaves for the checks.
#[derive(Debug)]
pub struct Evidence {
    /// What was asked for.
    pub options: Options,
    /// Faults that were there.
    pub injected: Vec<Injected>,
    /// Faults of the scenario that were not.
    pub skipped: Vec<Skipped>,
    /// When a majority was fit.
    pub health: Vec<Health>,
    /// From the end of the last fault until every master served again; `None` when they did not.
    pub healed: Option<Duration>,
    /// Tick 0.
    pub began: Timestamp,
    /// The last tick.
    pub ended: Tick,
    /// How long faults were injected.
    pub lasted: Duration,
    /// The run was stopped by hand.
    pub stopped: bool,
    /// What went wrong on the way.
    pub troubles: Vec<Trouble>,
    /// What clients did and saw.
    pub history: Vec<Recorded>,
    /// Writes that were acknowledged, with their revisions.
    pub acknowledged: Vec<(Revision, Change)>,
    /// What watchers were sent.
    pub watchers: Vec<Watcher>,
    /// When each of it arrived, of each watcher.
    pub arrivals: Vec<Vec<Tick>>,
    /// Watches that were refused.
    pub refused: Vec<String>,
    /// Every watcher must have come this far; `None` when the run did not come so far.
    pub marker: Option<Revision>,
    /// What each master listed at the end; nothing when the run did not come so far.
    pub last: Vec<Value>,
    /// What was done to processes.
    pub processes: Vec<Process>,
    /// What the masters were seen to be.
    pub observed: Observed,
}

/// Pass, fail, or nothing can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Result {
    /// Everything that was checked holds, and enough was.
    Pass,
    /// Too little happened, or a check was given up.
    Unknown,
    /// A promise was broken.
    Fail,
}

impl Result {
    /// What the process ends with: 0, 1 (fail) or 2 (unknown).
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Unknown => 2,
        }
    }
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What came of it.
    pub result: Result,
    /// How much was checked, in words.
    pub checked: String,
    /// What was found, the first few.
    pub found: Vec<String>,
    /// Where the first of it is, as far as that has a place in time.
    #[serde(skip)]
    pub violation: Option<Violation>,
}

/// Operations of one kind.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Count {
    /// With an answer.
    pub answered: usize,
    /// Nobody knows.
    pub unknown: usize,
    /// Median time to the answer, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// Longest time to an answer, in milliseconds.
    pub max_ms: f64,
}

/// What a run found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The worst of the checks.
    pub result: Result,
    /// Chose faults and what clients did.
    pub seed: u64,
    /// How many masters.
    pub masters: usize,
    /// Name of the scenario.
    pub scenario: String,
    /// Faults that were there.
    pub faults: Vec<Injected>,
    /// Faults that were to be there.
    pub skipped: Vec<Skipped>,
    /// Operations by kind.
    pub operations: BTreeMap<&'static str, Count>,
    /// Longest time in which no operation of any client was answered, in milliseconds.
    pub longest_silence_ms: f64,
    /// From the end of the last fault until every master served reads and writes, in milliseconds.
    /// Null when they did not.
    pub healed_ms: Option<f64>,
    /// All checks.
    pub checks: Vec<Check>,
    /// The earliest violation that has a place in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_violation: Option<Violation>,
}

impl Report {
    /// Checks everything.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let checks = vec![
            course(evidence),
            coverage(evidence),
            linearizable(evidence),
            watches(evidence),
            revisions(evidence),
            agreement(evidence),
            expectations(evidence),
        ];
        Self {
            result: checks.iter().map(|check| check.result).max().unwrap_or(Result::Unknown),
            seed: evidence.options.seed,
            masters: evidence.options.scenario.masters,
            scenario: evidence.options.scenario.name.clone(),
            faults: evidence.injected.clone(),
            skipped: evidence.skipped.clone(),
            operations: counts(&evidence.history),
            longest_silence_ms: millis(silence(&evidence.history)),
            healed_ms: evidence.healed.map(|healed| healed.as_secs_f64() * 1e3),
            first_violation: checks
                .iter()
                .filter_map(|check| check.violation.clone())
                .min_by_key(|violation| violation.at),
            checks,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "\n{:<10} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "OPERATION",
            "ANSWERED",
            { "UNKNOWN" },
            "P50 MS",
            "P99 MS",
            "MAX MS"
        );
        for (kind, count) in &self.operations {
            let Count { answered, unknown, p50_ms, p99_ms, max_ms } = count;
            let _ = writeln!(
                text,
                "{kind:<10} {answered:>9} {unknown:>9} {p50_ms:>9.1} {p99_ms:>9.1} {max_ms:>9.0}"
            );
        }
        let mut kinds: BTreeMap<Fault, usize> = BTreeMap::new();
        for fault in &self.faults {
            *kinds.entry(fault.fault).or_default() += 1;
        }
        let kinds: Vec<String> =
            kinds.iter().map(|(fault, count)| format!("{count} {fault}")).collect();
        let _ = writeln!(text, "\nfaults: {}", kinds.join(", "));
        let healed = self.healed_ms.map_or_else(
            || "not all served after the last fault".to_owned(),
            |ms| format!("all served {ms:.0} ms after the last fault"),
        );
        let silence = self.longest_silence_ms;
        let _ = writeln!(text, "longest time without any answer {silence:.0} ms; {healed}\n");
        for check in &self.checks {
            let _ =
                writeln!(text, "{:<8} {:<14} {}", word(check.result), check.name, check.checked);
            for found in &check.found {
                let _ = writeln!(text, "         {found}");
            }
        }
        let _ = write!(text, "\n{} (seed {})", word(self.result), self.seed);
        text
    }
}

fn word(result: Result) -> &'static str {
    match result {
        Result::Pass => "pass",
        Result::Unknown => "UNKNOWN",
        Result::Fail => "FAIL",
    }
}

fn check(name: &'static str, checked: String, result: Result, found: Vec<String>) -> Check {
    let more = found.len().saturating_sub(NAMED_MAX);
    let mut found: Vec<String> = found.into_iter().take(NAMED_MAX).collect();
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    Check { name, result, checked, found, violation: None }
}

fn broken(name: &'static str, checked: String, found: Vec<String>) -> Check {
    let result = if found.is_empty() { Result::Pass } else { Result::Fail };
    check(name, checked, result, found)
}

/// What cut the run short, and whether every master served again in time after the faults.
fn course(evidence: &Evidence) -> Check {
    let asked = evidence.options.scenario.lasts().duration().as_secs_f64();
    let lasted = evidence.lasted.as_secs_f64();
    let mut found = Vec::new();
    if evidence.stopped {
        found.push(format!("stopped by hand after {lasted:.1} of {asked:.0} s"));
    }
    found.extend(evidence.troubles.iter().map(|trouble| trouble.what.clone()));
    let healed = evidence.healed.map_or_else(
        || "not all masters served after them".to_owned(),
        |healed| format!("all masters served {:.1} s after them", healed.as_secs_f64()),
    );
    let result = if evidence.troubles.iter().any(|trouble| trouble.broke) {
        Result::Fail
    } else if !found.is_empty() || evidence.healed.is_none() {
        Result::Unknown
    } else {
        Result::Pass
    };
    check("course", format!("{lasted:.0} s of faults, {healed}"), result, found)
}

/// A run in which too little happened says nothing.
fn coverage(evidence: &Evidence) -> Check {
    let mut missing = Vec::new();
    for Skipped { fault, why, .. } in evidence.skipped.iter().filter(|skipped| skipped.required) {
        missing.push(format!("{fault} did not happen: {why}"));
    }
    for fault in evidence.options.scenario.required() {
        let had_turn = evidence.injected.iter().any(|injected| injected.fault == fault)
            || evidence.skipped.iter().any(|skipped| skipped.fault == fault);
        if !had_turn {
            missing.push(format!("{fault} did not happen: the run ended before"));
        }
    }
    let answered =
        evidence.history.iter().filter(|found| found.operation.returned().is_some()).count();
    if answered < ANSWERED_MIN {
        missing.push(format!("{answered} operations were answered, {ANSWERED_MIN} are needed"));
    }
    let during = evidence.injected.iter().any(|fault| {
        evidence.history.iter().any(|found| {
            found.operation.returned().is_some_and(|at| at > fault.from && at < fault.to)
        })
    });
    if !during && !evidence.injected.is_empty() {
        missing.push("no operation was answered during a fault".into());
    }
    let checked = format!("{} faults, {answered} answers", evidence.injected.len());
    let result = if missing.is_empty() { Result::Pass } else { Result::Unknown };
    check("coverage", checked, result, missing)
}

fn linearizable(evidence: &Evidence) -> Check {
    let all: Vec<Operation<RegisterInput, RegisterOutput>> =
        evidence.history.iter().map(|found| found.operation.clone()).collect();
    let (mut found, mut result, mut first) = (Vec::new(), Result::Pass, None::<Violation>);
    if let Err(error) = well_formed(&all) {
        let text = format!("the harness recorded nonsense: {error}");
        return check("linearizable", String::new(), Result::Unknown, vec![text]);
    }
    for key in 0..evidence.options.scenario.workload.keys {
        let own = violation::of_key(evidence, key);
        let operations: Vec<_> = own.iter().map(|found| found.operation.clone()).collect();
        match linear::check(&Register, &operations) {
            Verdict::Linearizable(_) => {}
            Verdict::Violation(violation) => {
                result = result.max(Result::Fail);
                let there = violation::of_answer(evidence, key, &violation);
                if first.as_ref().is_none_or(|first| there.at < first.at) {
                    first = Some(there);
                }
                let sentence = |index: usize| violation::sentence(own[index]);
                let wrong = sentence(violation.operation);
                found.push(format!("{}: nothing explains {wrong}", name(key)));
                let same = violation.window.iter();
                found.extend(same.map(|index| format!("  at the same time {}", sentence(*index))));
            }
            Verdict::Undecided { steps } => {
                result = result.max(Result::Unknown);
                found.push(format!("{}: given up after {steps} steps", name(key)));
            }
        }
    }
    let keys = evidence.options.scenario.workload.keys;
    let checked = format!("{} operations on {keys} objects", all.len());
    Check { violation: first, ..check("linearizable", checked, result, found) }
}

fn log_of(evidence: &Evidence) -> (Log, Vec<String>) {
    let (mut log, mut found) = (Log::default(), Vec::new());
    for watcher in &evidence.watchers {
        found.extend(log.tell_all(watcher).err().map(|error| error.to_string()));
    }
    for (revision, change) in &evidence.acknowledged {
        found.extend(log.tell(*revision, change.clone()).err().map(|error| error.to_string()));
    }
    (log, found)
}

/// The first broken promise of a watch, where it shows.
fn first_of_watches(evidence: &Evidence, log: &Log) -> Option<Violation> {
    let mut scratch = Log::default();
    let told_twice = evidence.watchers.iter().filter_map(|watcher| scratch.tell_all(watcher).err());
    let kinds = log.check_kinds().err();
    let own = evidence.watchers.iter().filter_map(|watcher| log.check(watcher).err());
    told_twice
        .chain(kinds)
        .chain(own)
        .map(|broken| violation::of_watch(evidence, &broken))
        .min_by_key(|violation| violation.at)
}

fn watches(evidence: &Evidence) -> Check {
    let (log, mut found) = log_of(evidence);
    found.extend(log.check_kinds().err().map(|error| error.to_string()));
    for watcher in &evidence.watchers {
        found.extend(log.check(watcher).err().map(|error| error.to_string()));
        let last = watcher.sent.last().map(|sent| match sent {
            Sent::Event(revision, _) | Sent::Bookmark(revision) => *revision,
        });
        if let Some(marker) = evidence.marker.filter(|to| last.unwrap_or(watcher.from) < *to) {
            let name = &watcher.name;
            found.push(format!("{name}: came to {last:?}, not to {marker}"));
        }
    }
    found.extend(evidence.refused.iter().cloned());
    let events: usize = evidence.watchers.iter().map(|watcher| watcher.sent.len()).sum();
    let checked = format!("{events} events to {} watchers", evidence.watchers.len());
    let violation = first_of_watches(evidence, &log);
    if found.is_empty() && evidence.marker.is_none() {
        let short = "how far they had to come is not known: the run was cut short".to_owned();
        return check("watches", checked, Result::Unknown, vec![short]);
    }
    Check { violation, ..broken("watches", checked, found) }
}

/// One revision, one write; and of one object they go up in the order of its writes.
fn revisions(evidence: &Evidence) -> Check {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut violation = None;
    for (revision, change) in &evidence.acknowledged {
        if !seen.insert(*revision) {
            let what = format!("revision {revision} was given twice, once for {}", change.key);
            if violation.is_none() {
                violation =
                    Some(violation::of_revision(evidence, "revisions", &what, *revision, change));
            }
            found.push(what);
        }
    }
    let checked = format!("{} acknowledged writes", seen.len());
    Check { violation, ..broken("revisions", checked, found) }
}

/// At the end every master lists the same, and what the log of changes leads to.
fn agreement(evidence: &Evidence) -> Check {
    let content = |list: &Value| -> BTreeMap<String, Option<(Revision, u64)>> {
        let items = list["items"].as_array();
        items
            .into_iter()
            .flatten()
            .filter_map(|item| {
                let name = item["metadata"]["name"].as_str()?;
                name.starts_with("register-").then(|| (name.to_owned(), told(item)))
            })
            .collect()
    };
    let mut found = Vec::new();
    let mut violation = None;
    let first = evidence.last.first().map(&content).unwrap_or_default();
    for (master, list) in evidence.last.iter().enumerate().skip(1) {
        if content(list) != first {
            found.push(format!("master {} lists other objects than the first", master + 1));
        }
    }
    let newest = evidence.acknowledged.iter().filter(|(_, change)| change.kind != Kind::Deleted);
    for (revision, change) in newest {
        // Later changes may have replaced it; what is there must not be older.
        if first.get(&change.key).is_some_and(|there| there.is_none_or(|there| there.0 < *revision))
        {
            let what = format!("{} is older than the acknowledged {revision}", change.key);
            if violation.is_none() {
                violation =
                    Some(violation::of_revision(evidence, "agreement", &what, *revision, change));
            }
            found.push(what);
        }
    }
    let checked = format!("{} masters, {} objects", evidence.last.len(), first.len());
    if found.is_empty() && evidence.last.len() < evidence.options.scenario.masters {
        let short = "not every master was asked at the end: the run was cut short".to_owned();
        return check("agreement", checked, Result::Unknown, vec![short]);
    }
    Check { violation, ..broken("agreement", checked, found) }
}

/// What the scenario asks for beside that nothing is wrong.
fn expectations(evidence: &Evidence) -> Check {
    let operations = || evidence.history.iter().map(|found| &found.operation);
    let mut writes: Vec<Tick> = operations()
        .filter(|operation| operation.output() == Some(&RegisterOutput::Written))
        .filter_map(Operation::returned)
        .collect();
    writes.sort_unstable();
    let mut expect = evidence.options.scenario.expect.clone();
    // Who did not serve at all is told by the course of the run.
    let healing = expect.healed_within.take_if(|_| evidence.healed.is_none());
    let mut judged = expect.judge(&Seen {
        health: &evidence.health,
        writes: &writes,
        silence: silence(&evidence.history),
        healed: Tick::try_from(evidence.healed.unwrap_or_default().as_nanos()).unwrap_or(Tick::MAX),
        answered: operations().filter_map(Operation::returned).count(),
    });
    judged.unknown.extend(healing.map(|_| "not every master served again".to_owned()));
    let result = match (judged.broken.is_empty(), judged.unknown.is_empty()) {
        (false, _) => Result::Fail,
        (true, false) => Result::Unknown,
        (true, true) => Result::Pass,
    };
    let found = [judged.broken, judged.unknown].concat();
    check("expectations", judged.checked.join("; "), result, found)
}

fn counts(history: &[Recorded]) -> BTreeMap<&'static str, Count> {
    let mut times: BTreeMap<&'static str, (Vec<Tick>, usize)> = BTreeMap::new();
    for Recorded { operation, .. } in history {
        let entry = times.entry(kind(&operation.input)).or_default();
        match operation.returned() {
            Some(at) => entry.0.push(at - operation.called),
            None => entry.1 += 1,
        }
    }
    let count = |(mut times, unknown): (Vec<Tick>, usize)| {
        times.sort_unstable();
        let at = |percent: usize| {
            times.get(times.len().saturating_sub(1) * percent / 100).map_or(0.0, |t| millis(*t))
        };
        Count { answered: times.len(), unknown, p50_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    };
    times.into_iter().map(|(kind, found)| (kind, count(found))).collect()
}

/// The verb that a user knows an operation by.
fn kind(input: &RegisterInput) -> &'static str {
    match input {
        RegisterInput::Read => "get",
        RegisterInput::Write(_) | RegisterInput::Swap { .. } => "update",
        RegisterInput::Patch(_) => "patch",
        RegisterInput::Create(_) => "create",
        RegisterInput::Delete => "delete",
    }
}

fn silence(history: &[Recorded]) -> Tick {
    let mut answers: Vec<Tick> =
        history.iter().filter_map(|found| found.operation.returned()).collect();
    answers.sort_unstable();
    answers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

fn millis(ticks: Tick) -> f64 {
    Duration::from_nanos(ticks).as_secs_f64() * 1e3
}
