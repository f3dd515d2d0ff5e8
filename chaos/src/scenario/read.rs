//! Scenario files: read, checked, and refused with the place and what is allowed there.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use clap::ValueEnum as _;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::expect::{Availability, Expect, Verdict};
use super::fault::machine::{Away, Certificate, DiskCall, DiskError, HarmedFile};
use super::fault::{Direction, Fault, Need, Target};
use super::{Parameters, Scenario, Span, Step, span};
use crate::limits::{DISK_ERRORS_MAX, MASTERS_MAX, MEMORY_MIB_MAX, SCENARIO_BYTES_MAX, STEPS_MAX};
use workload::RawWorkload;

/// What is wrong with a file, each with its place.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    file: String,
    problems: Vec<Problem>,
}

#[derive(Debug, PartialEq, Eq)]
struct Problem {
    line: u64,
    column: u64,
    what: String,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Problem { line, column, what }) in self.problems.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{line}:{column}: {what}", self.file)?;
        }
        Ok(())
    }
}

type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    name: Text,
    description: Option<String>,
    masters: Option<Spanned<u64>>,
    #[serde(default)]
    older: Vec<Text>,
    seed: Option<u64>,
    workload: Option<Spanned<RawWorkload>>,
    schedule: Option<Vec<Spanned<RawStep>>>,
    random: Option<Spanned<RawRandom>>,
    #[serde(default)]
    expect: RawExpect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    at: Option<Text>,
    r#for: Option<Text>,
    fault: Text,
    target: Option<Text>,
    delay: Option<Text>,
    jitter: Option<Text>,
    percent: Option<Spanned<u64>>,
    kib_per_second: Option<Spanned<u64>>,
    every: Option<Text>,
    direction: Option<Text>,
    by: Option<Text>,
    monotonic: Option<Spanned<bool>>,
    on: Option<Text>,
    error: Option<Text>,
    times: Option<Spanned<u64>>,
    point: Option<Text>,
    mib: Option<Spanned<u64>>,
    file: Option<Text>,
    certificate: Option<Text>,
    away: Option<Text>,
    required: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRandom {
    r#for: Text,
    every: Text,
    lasts: Text,
    faults: Vec<Spanned<RawStep>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpect {
    verdict: Option<Text>,
    #[serde(default)]
    availability: RawAvailability,
    longest_silence_max: Option<Text>,
    healed_within: Option<Text>,
    answered_min: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAvailability {
    majority_writes_within: Option<Text>,
}

/// Reads a file. What is random in it is drawn from its own `seed`, else from `seed`.
///
/// # Errors
/// When it cannot be read, or [`Refused`].
pub fn file(path: &Path, seed: u64) -> anyhow::Result<Scenario> {
    use anyhow::Context as _;
    let name = path.display().to_string();
    let what = || format!("cannot read the scenario {name}");
    let size = std::fs::metadata(path).with_context(what)?.len();
    anyhow::ensure!(
        size <= SCENARIO_BYTES_MAX,
        "{name} has {size} bytes; a scenario has {SCENARIO_BYTES_MAX} at most"
    );
    let content = std::fs::read_to_string(path).with_context(what)?;
    Ok(text(&name, &content, seed)?)
}

/// Reads the text of a file of this name.
///
/// # Errors
/// [`Refused`].
pub fn text(file: &str, text: &str, seed: u64) -> Result<Scenario, Refused> {
    let refused = |problems| Refused { file: file.to_owned(), problems };
    let raw: RawScenario = serde_saphyr::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        refused(vec![Problem { line, column, what: said(&error) }])
    })?;
    let mut reader = Reader { problems: Vec::new(), masters: 3, nodes: 0 };
    let scenario = reader.scenario(raw, seed);
    if reader.problems.is_empty() { Ok(scenario) } else { Err(refused(reader.problems)) }
}

/// The parser's words, without the place and without a drawing of the text.
fn said(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.split_once(" at line ").map_or(text, |(what, _)| what).to_owned()
}

impl RawStep {
    /// Names and places of the details that are there.
    fn given(&self) -> [(&'static str, Option<Location>); 16] {
        [
            ("delay", self.delay.as_ref().map(|raw| raw.referenced)),
            ("jitter", self.jitter.as_ref().map(|raw| raw.referenced)),
            ("percent", self.percent.as_ref().map(|raw| raw.referenced)),
            ("kib_per_second", self.kib_per_second.as_ref().map(|raw| raw.referenced)),
            ("every", self.every.as_ref().map(|raw| raw.referenced)),
            ("direction", self.direction.as_ref().map(|raw| raw.referenced)),
            ("by", self.by.as_ref().map(|raw| raw.referenced)),
            ("monotonic", self.monotonic.as_ref().map(|raw| raw.referenced)),
            ("on", self.on.as_ref().map(|raw| raw.referenced)),
            ("error", self.error.as_ref().map(|raw| raw.referenced)),
            ("times", self.times.as_ref().map(|raw| raw.referenced)),
            ("point", self.point.as_ref().map(|raw| raw.referenced)),
            ("mib", self.mib.as_ref().map(|raw| raw.referenced)),
            ("file", self.file.as_ref().map(|raw| raw.referenced)),
            ("certificate", self.certificate.as_ref().map(|raw| raw.referenced)),
            ("away", self.away.as_ref().map(|raw| raw.referenced)),
        ]
    }
}

struct Reader {
    problems: Vec<Problem>,
    masters: usize,
    nodes: usize,
}

impl Reader {
    fn refuse(&mut self, at: Location, what: String) {
        self.problems.push(Problem { line: at.line(), column: at.column(), what });
    }

    fn read<T: Default, S>(
        &mut self,
        field: &str,
        raw: &Spanned<S>,
        read: impl FnOnce(&S) -> Result<T, String>,
    ) -> T {
        read(&raw.value).unwrap_or_else(|why| {
            self.refuse(raw.referenced, format!("{field}: {why}"));
            T::default()
        })
    }

    fn span(&mut self, field: &str, raw: &Text) -> Span {
        self.read(field, raw, |text| text.parse().map(Some)).unwrap_or(Span(0))
    }

    fn count(&mut self, field: &str, raw: Option<&Spanned<u64>>, max: usize) -> Option<usize> {
        raw.map(|raw| {
            self.read(field, raw, |value| match usize::try_from(*value) {
                Ok(value) if (1..=max).contains(&value) => Ok(value),
                _ => Err(format!("{value} is not between 1 and {max}")),
            })
        })
    }

    fn scenario(&mut self, raw: RawScenario, seed: u64) -> Scenario {
        let name = self.read("name", &raw.name, |name| {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            match !name.is_empty() && name.len() <= 63 && name.chars().all(fits) {
                true => Ok(name.clone()),
                false => Err(format!("{name:?} is not made of a-z, 0-9 and -, 63 at most")),
            }
        });
        let masters = self.count("masters", raw.masters.as_ref(), MASTERS_MAX).unwrap_or(3);
        // A wrong number is one problem, not one of each fault.
        self.masters = if masters == 0 { MASTERS_MAX } else { masters };
        let workload = self.workload(raw.workload.as_ref());
        self.nodes = workload.nodes;
        let older = self.older(&raw.older);
        let mut schedule = Vec::new();
        match (&raw.schedule, &raw.random) {
            (Some(steps), None) => {
                for (index, step) in steps.iter().enumerate() {
                    schedule.push(self.step(&format!("schedule[{index}]"), step, true));
                }
                if steps.is_empty() {
                    self.refuse(raw.name.referenced, "schedule: there is no fault in it".into());
                }
            }
            (None, Some(random)) => schedule = self.random(random, raw.seed.unwrap_or(seed)),
            (Some(_), Some(random)) => self.refuse(
                random.referenced,
                "random: there is a schedule already; write one of the two".into(),
            ),
            (None, None) => self.refuse(
                raw.name.referenced,
                "there is neither a schedule (faults at given times) nor random".into(),
            ),
        }
        if schedule.len() > STEPS_MAX {
            let what = format!("{} faults are too many: {STEPS_MAX} at most", schedule.len());
            self.refuse(raw.name.referenced, what);
        }
        self.joins(&schedule, raw.name.referenced);
        self.ending(&schedule, raw.name.referenced);
        // Stable: those of one time begin in the order of the file.
        schedule.sort_by_key(|step| step.at);
        let description = raw.description.unwrap_or_default();
        let expect = self.expect(&raw.expect);
        let masters = self.masters;
        Scenario { name, description, masters, older, seed: raw.seed, workload, schedule, expect }
    }

    fn older(&mut self, names: &[Text]) -> Vec<Target> {
        let masters = self.masters;
        let name = |name: &Text| {
            self.read("older", name, |text| match target(text, (masters, 0)) {
                Ok(master @ Target::Master(_)) => Ok(Some(master)),
                _ => Err(format!("{text:?} is no master; m1 to m{masters}")),
            })
        };
        names.iter().filter_map(name).collect()
    }

    fn step(&mut self, path: &str, raw: &Spanned<RawStep>, timed: bool) -> Step {
        let (place, raw) = (raw.referenced, &raw.value);
        let path = &|field: &str| format!("{path}.{field}");
        let (mut at, mut lasts) = (Span(0), Span(0));
        for (field, found, into) in [("at", &raw.at, &mut at), ("for", &raw.r#for, &mut lasts)] {
            match (found, timed) {
                (Some(text), true) => *into = self.span(&path(field), text),
                (None, true) => self.refuse(place, format!("{} is missing: 2s", path(field))),
                (Some(text), false) => {
                    let why = "times are drawn from random.every and random.lasts: leave it away";
                    self.refuse(text.referenced, format!("{}: {why}", path(field)));
                }
                (None, false) => {}
            }
        }
        if let (Some(text), true, Span(0)) = (&raw.r#for, timed, lasts)
            && text.value.parse() == Ok(Span(0))
        {
            self.refuse(text.referenced, format!("{}: it does not last", path("for")));
        }
        let fault = self.read(&path("fault"), &raw.fault, |name| fault(name).map(Some));
        let fault = fault.unwrap_or(Fault::Kill);
        if self.masters < fault.masters_min() {
            let (needs, has) = (fault.masters_min(), self.masters);
            let what =
                format!("{}: {fault} needs {needs} masters or more, not {has}", path("fault"));
            self.refuse(raw.fault.referenced, what);
        }
        let target = self.target((&path("target"), place), raw.target.as_ref(), fault);
        let with = self.parameters(path, raw, fault);
        Step { at, lasts, fault, target, with, required: raw.required.unwrap_or(true) }
    }

    fn target(
        &mut self,
        (path, place): (&str, Location),
        raw: Option<&Text>,
        fault: Fault,
    ) -> Option<Target> {
        match raw {
            Some(text) if !fault.has_target() => {
                let what = format!("{path}: {fault} meets all masters: leave it away");
                self.refuse(text.referenced, what);
                None
            }
            Some(text) => {
                let there = (self.masters, self.nodes);
                self.read(path, text, |name| match target(name, there)? {
                    Target::Agent(_) if !fault.meets_agents() => Err(format!(
                        "{fault} cannot meet a node agent; kill, pause, restart-loop, isolate and short-lived can"
                    )),
                    Target::Master(1..) if fault == Fault::Join => target(name, there).map(Some),
                    _ if fault == Fault::Join => {
                        Err(format!("{fault} needs the name of the master that joins, not m1: m4"))
                    }
                    Target::All | Target::Majority if fault == Fault::FallBehind => Err(format!(
                        "{fault} needs a majority that goes on without the targets"
                    )),
                    Target::All if fault == Fault::ExpiredWatches => Err(format!(
                        "{fault} needs a master whose watchers see what the others miss"
                    )),
                    target => Ok(Some(target)),
                })
            }
            None if fault == Fault::Join && self.problems.is_empty() => {
                self.refuse(place, format!("{path} is missing: the name of the master that joins"));
                None
            }
            None => fault.has_target().then_some(Target::Any),
        }
    }

    /// Each master joins once.
    fn joins(&mut self, schedule: &[Step], at: Location) {
        let joins: Vec<&Step> = schedule.iter().filter(|step| step.fault == Fault::Join).collect();
        for (index, step) in joins.iter().enumerate() {
            if let Some(target) = &step.target
                && joins[..index].iter().any(|other| other.target == step.target)
            {
                self.refuse(at, format!("schedule: {target} joins twice"));
            }
        }
    }

    /// One fault at most takes the whole cluster back, and moves directories that are no mounts.
    fn ending(&mut self, schedule: &[Step], at: Location) {
        let ends: Vec<Fault> =
            schedule.iter().map(|step| step.fault).filter(|fault| fault.ends_run()).collect();
        if let [first, second, ..] = ends.as_slice() {
            self.refuse(at, format!("schedule: {first} ends the run, and so does {second}"));
        }
        let disks = schedule.iter().find(|step| step.need() == Need::Disks);
        if let ([first, ..], Some(disk)) = (ends.as_slice(), disks) {
            let what = format!(
                "schedule: {first} moves directories aside, and with {} they are disks of their own",
                disk.fault
            );
            self.refuse(at, what);
        }
    }

    fn parameters(
        &mut self,
        path: &dyn Fn(&str) -> String,
        raw: &RawStep,
        fault: Fault,
    ) -> Parameters {
        for (field, at) in raw.given() {
            if let Some(at) = at
                && !fault.parameters().contains(&field)
            {
                let takes = match fault.parameters() {
                    [] => "it has no details".to_owned(),
                    some => format!("it has {}", some.join(", ")),
                };
                self.refuse(at, format!("{}: {fault} has no such detail; {takes}", path(field)));
            }
        }
        let mut span =
            |field: &str, raw: &Option<Text>| raw.as_ref().map(|raw| self.span(&path(field), raw));
        let (delay, jitter) = (span("delay", &raw.delay), span("jitter", &raw.jitter));
        let every = span("every", &raw.every);
        let percent = self.count(&path("percent"), raw.percent.as_ref(), 99);
        let rate =
            self.count(&path("kib_per_second"), raw.kib_per_second.as_ref(), KIB_PER_SECOND_MAX);
        let direction = raw.direction.as_ref().and_then(|raw| {
            self.read(&path("direction"), raw, |text| direction(text, fault).map(Some))
        });
        let by = raw.by.as_ref();
        let by = by.and_then(|raw| self.read(&path("by"), raw, |text| text.parse().map(Some)));
        let on = raw.on.as_ref().and_then(|raw| {
            self.read(&path("on"), raw, |text| match text.as_str() {
                "sync" => Ok(Some(DiskCall::Sync)),
                "write" => Ok(Some(DiskCall::Write)),
                _ => Err(format!("{text:?} does not fail; sync or write")),
            })
        });
        let error = raw.error.as_ref().and_then(|raw| {
            self.read(&path("error"), raw, |text| match text.to_ascii_lowercase().as_str() {
                "eio" => Ok(Some(DiskError::Eio)),
                "enospc" => Ok(Some(DiskError::Enospc)),
                _ => Err(format!("{text:?} is none; eio (broken) or enospc (full)")),
            })
        });
        let times = self.count(&path("times"), raw.times.as_ref(), DISK_ERRORS_MAX);
        let mib = self.count(&path("mib"), raw.mib.as_ref(), MEMORY_MIB_MAX);
        let point = raw.point.as_ref();
        let point =
            point.and_then(|raw| self.read(&path("point"), raw, |text| text.parse().map(Some)));
        let file = raw.file.as_ref();
        let file = file.and_then(|raw| self.read(&path("file"), raw, |text| harmed(text)));
        let certificate = raw.certificate.as_ref().and_then(|raw| {
            self.read(&path("certificate"), raw, |text| certificate(text).map(Some))
        });
        let away = raw.away.as_ref();
        let away = away.and_then(|raw| self.read(&path("away"), raw, |text| away_of(text)));
        Parameters {
            delay,
            jitter,
            percent: percent.and_then(|percent| u8::try_from(percent).ok()),
            kib_per_second: rate.and_then(|rate| u32::try_from(rate).ok()),
            every,
            direction,
            by,
            monotonic: raw.monotonic.as_ref().is_some_and(|raw| raw.value),
            on,
            error,
            times: times.and_then(|times| u32::try_from(times).ok()),
            point,
            mib: mib.and_then(|mib| u32::try_from(mib).ok()),
            file,
            certificate,
            away,
        }
    }

    /// One after the other, each kind as often as the others.
    fn random(&mut self, raw: &Spanned<RawRandom>, seed: u64) -> Vec<Step> {
        let end = self.span("random.for", &raw.value.r#for);
        let ranges = |reader: &mut Self, field: &str, raw: &Text| {
            reader
                .read(field, raw, |text| span::range(text).map(Some))
                .unwrap_or((Span(0), Span(0)))
        };
        let every = ranges(self, "random.every", &raw.value.every);
        let lasts = ranges(self, "random.lasts", &raw.value.lasts);
        let mut kinds = Vec::new();
        for (index, step) in raw.value.faults.iter().enumerate() {
            kinds.push(self.step(&format!("random.faults[{index}]"), step, false));
        }
        if kinds.is_empty() {
            self.refuse(raw.referenced, "random.faults: there is no fault in it".into());
        }
        if every.0 == Span(0) || lasts.0 == Span(0) {
            if self.problems.is_empty() {
                let what = "random: every and lasts begin with more than 0".to_owned();
                self.refuse(raw.referenced, what);
            }
            return Vec::new();
        }
        if end.0 / (every.0.0) > STEPS_MAX as u64 {
            let what = format!("random: that are more than {STEPS_MAX} faults");
            self.refuse(raw.referenced, what);
            return Vec::new();
        }
        draw(&kinds, end, every, lasts, &mut StdRng::seed_from_u64(seed))
    }

    fn expect(&mut self, raw: &RawExpect) -> Expect {
        if let Some(verdict) = &raw.verdict {
            self.read("expect.verdict", verdict, |text| match text.as_str() {
                "pass" => Ok(()),
                _ => Err(format!("{text:?} cannot be expected; only pass")),
            });
        }
        let mut span =
            |field: &str, raw: &Option<Text>| raw.as_ref().map(|raw| self.span(field, raw));
        let within = &raw.availability.majority_writes_within;
        let within = span("expect.availability.majority_writes_within", within);
        Expect {
            verdict: Verdict::Pass,
            availability: Availability { majority_writes_within: within },
            longest_silence_max: span("expect.longest_silence_max", &raw.longest_silence_max),
            healed_within: span("expect.healed_within", &raw.healed_within),
            answered_min: raw.answered_min,
        }
    }
}

/// More than any link of this harness carries.
const KIB_PER_SECOND_MAX: usize = 1 << 20;

/// Faults one after the other, with pauses, until `end` and until each of `kinds` had its turn.
pub(super) fn draw(
    kinds: &[Step],
    end: Span,
    every: (Span, Span),
    lasts: (Span, Span),
    random: &mut StdRng,
) -> Vec<Step> {
    let between =
        |(from, to): (Span, Span), random: &mut StdRng| Span(random.random_range(from.0..=to.0));
    let (mut at, mut steps, mut round) = (0, Vec::new(), Vec::new());
    while !kinds.is_empty() && (at < end.0 || steps.len() < kinds.len()) {
        if round.is_empty() {
            round = kinds.to_vec();
        }
        let mut step = round.swap_remove(random.random_range(0..round.len()));
        at += between(every, random).0;
        step.at = Span(at);
        step.lasts = between(lasts, random);
        at += step.lasts.0;
        steps.push(step);
    }
    steps
}

/// A kind of fault by its name.
///
/// # Errors
/// A sentence that names all of them.
pub fn fault(name: &str) -> Result<Fault, String> {
    Fault::from_str(name, false).map_err(|_| {
        let all: Vec<String> = Fault::all().iter().map(ToString::to_string).collect();
        let near = all.iter().find(|other| is_near(name, other));
        let near = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
        format!("there is no fault {name:?}{near}; there are {}", all.join(", "))
    })
}

/// Whether one letter more, less or another makes the one the other, or one begins the other.
fn is_near(a: &str, b: &str) -> bool {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let tail = |text: &str, skip: usize| text.chars().skip(same + skip).collect::<String>();
    (same >= 3 && (same == a.len() || same == b.len()))
        || tail(a, 1) == tail(b, 1)
        || tail(a, 0) == tail(b, 1)
        || tail(a, 1) == tail(b, 0)
}

fn harmed(text: &str) -> Result<Option<HarmedFile>, String> {
    Ok(Some(match text {
        "log" => HarmedFile::Log,
        "witness" => HarmedFile::Witness,
        "snapshot" => HarmedFile::Snapshot,
        "identity" => HarmedFile::Identity,
        _ => return Err(format!("{text:?} is none; log, witness, snapshot or identity")),
    }))
}

fn certificate(text: &str) -> Result<Certificate, String> {
    let found = Certificate::ALL.into_iter().find(|certificate| certificate.name() == text);
    let all = Certificate::ALL.map(Certificate::name).join(", ");
    found.ok_or_else(|| format!("{text:?} is none; {all}"))
}

fn away_of(text: &str) -> Result<Option<Away>, String> {
    match text {
        "paused" => Ok(Some(Away::Paused)),
        "killed" => Ok(Some(Away::Killed)),
        _ => Err(format!("{text:?} is none; paused or killed")),
    }
}

fn direction(text: &str, fault: Fault) -> Result<Direction, String> {
    match (text, fault) {
        ("fast", Fault::ClockDrift) => Ok(Direction::Fast),
        ("slow", Fault::ClockDrift) => Ok(Direction::Slow),
        (_, Fault::ClockDrift) => Err(format!("{text:?} is none; fast or slow")),
        ("deaf", _) => Ok(Direction::Deaf),
        ("mute", _) => Ok(Direction::Mute),
        _ => Err(format!(
            "{text:?} is none; deaf (the targets hear nothing) or mute (nobody hears them)"
        )),
    }
}

fn target(name: &str, (masters, nodes): (usize, usize)) -> Result<Target, String> {
    Ok(match name {
        "leader" => Target::Leader,
        "follower" => Target::Follower,
        "any" => Target::Any,
        "all" => Target::All,
        "minority" => Target::Minority,
        "majority" => Target::Majority,
        _ => {
            let one_of = |letter, count| {
                let number = usize::from_str(name.strip_prefix(letter)?).ok()?;
                (1..=count).contains(&number).then(|| number - 1)
            };
            match (one_of('m', masters), one_of('n', nodes)) {
                (Some(master), _) => Target::Master(master),
                (None, Some(agent)) => Target::Agent(agent),
                (None, None) => {
                    let agents = match nodes {
                        0 => String::new(),
                        _ => format!(", or a node agent, n1 to n{nodes}"),
                    };
                    return Err(format!(
                        "{name:?} is nobody; leader, follower, any, all, minority, majority, or \
                         one of m1 to m{masters}{agents}"
                    ));
                }
            }
        }
    })
}

pub mod workload;

#[cfg(test)]
mod tests;
