//! What a run found: a verdict, what it rests on, and what to do to see it again.

pub mod file;
mod logs;
mod page;
mod timeline;
pub mod violation;
mod words;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check;
use crate::check::disaster::Disaster;
use crate::check::membership::Membership;
use crate::check::watch::{Change, Revision, Watcher};
use crate::history::Tick;
use crate::limits::NAMED_MAX;
use crate::real::Options;
use crate::real::course::Trouble;
use crate::real::kube;
use crate::real::masters::Act;
use crate::real::nemesis::{Fault, Injected, Skipped};
use crate::real::observer::Observed;
use crate::real::workload::{Recorded, Resource, Told};
use crate::scenario::expect::Health;
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
    /// What each of them watched.
    pub resources: Vec<Resource>,
    /// When each of it arrived, of each watcher.
    pub arrivals: Vec<Vec<Tick>>,
    /// Watches that were refused.
    pub refused: Vec<String>,
    /// Every watcher must have come this far; `None` when the run did not come so far.
    pub marker: Option<Revision>,
    /// What watchers were told of accounts and leases, each once, by revision.
    pub contents: Vec<Told>,
    /// What each master listed at the end, of all that clients wrote; nothing when the run did not come so far.
    pub last: Vec<Value>,
    /// How each master saw the cluster at the end; nothing when the run did not come so far.
    pub memberships: Vec<Membership>,
    /// What came of the disaster that ended the run; `None` when there was none.
    pub disaster: Option<Disaster>,
    /// What became of Kubernetes as a workload; `None` when it was not asked for.
    pub kube: Option<kube::Evidence>,
    /// What was still on the host when all masters had been ended; `None` when nobody looked.
    pub left: Option<Vec<String>>,
    /// What was done to processes.
    pub processes: Vec<Process>,
    /// What the masters were seen to be.
    pub observed: Observed,
}

impl Evidence {
    /// Of a run that ended before there were masters: by hand, or because of this trouble.
    #[must_use]
    pub fn of_nothing(options: &Options, trouble: Option<Trouble>) -> Self {
        Self {
            options: options.clone(),
            injected: Vec::new(),
            skipped: Vec::new(),
            health: Vec::new(),
            healed: None,
            began: Timestamp::now(),
            ended: 0,
            lasted: Duration::ZERO,
            stopped: trouble.is_none(),
            troubles: trouble.into_iter().collect(),
            history: Vec::new(),
            acknowledged: Vec::new(),
            watchers: Vec::new(),
            resources: Vec::new(),
            arrivals: Vec::new(),
            refused: Vec::new(),
            marker: None,
            contents: Vec::new(),
            last: Vec::new(),
            memberships: Vec::new(),
            disaster: None,
            kube: None,
            left: None,
            processes: Vec::new(),
            observed: Observed::default(),
        }
    }
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

/// A check that is no part of such a run: it is neither passed nor unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotChecked {
    /// Its name.
    pub name: &'static str,
    /// Why it cannot be made there.
    pub why: String,
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
    /// Checks that are no part of such a run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_checked: Vec<NotChecked>,
    /// The earliest violation that has a place in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_violation: Option<Violation>,
}

impl Report {
    /// Checks everything.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let checks = check::all(evidence);
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
            not_checked: check::not_checked(evidence),
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
        for NotChecked { name, why } in &self.not_checked {
            let _ = writeln!(text, "{:<8} {name:<14} {why}", "-");
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

impl Check {
    /// With the first few of what was found.
    pub(crate) fn new(
        name: &'static str,
        checked: String,
        result: Result,
        found: Vec<String>,
    ) -> Self {
        let more = found.len().saturating_sub(NAMED_MAX);
        let mut found: Vec<String> = found.into_iter().take(NAMED_MAX).collect();
        if more > 0 {
            found.push(format!("and {more} more"));
        }
        Self { name, result, checked, found, violation: None }
    }

    /// Fails when anything was found.
    pub(crate) fn broken(name: &'static str, checked: String, found: Vec<String>) -> Self {
        let result = if found.is_empty() { Result::Pass } else { Result::Fail };
        Self::new(name, checked, result, found)
    }

    /// Nothing can be said, for this reason.
    pub(crate) fn unknown(name: &'static str, checked: String, why: &str) -> Self {
        Self::new(name, checked, Result::Unknown, vec![why.to_owned()])
    }
}

fn counts(history: &[Recorded]) -> BTreeMap<&'static str, Count> {
    let mut times: BTreeMap<&'static str, (Vec<Tick>, usize)> = BTreeMap::new();
    for Recorded { operation, .. } in history {
        let entry = times.entry(words::verb(&operation.input)).or_default();
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

pub(crate) fn silence(history: &[Recorded]) -> Tick {
    let mut answers: Vec<Tick> =
        history.iter().filter_map(|found| found.operation.returned()).collect();
    answers.sort_unstable();
    answers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

fn millis(ticks: Tick) -> f64 {
    Duration::from_nanos(ticks).as_secs_f64() * 1e3
}
