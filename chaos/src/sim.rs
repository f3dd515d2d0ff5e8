//! The simulated world: the real store, Raft, log and state machine of several masters on one thread,
//! with time, network and disk made here, so that hours of faults pass in seconds, and the same seed is
//! the same run.
//!
//! `world` has the clock and carries messages, `plan` draws the faults and `faults` does them, `node` is one master,
//! `host` what it stands on instead of a machine, `disk` its log's disk, `client` who uses it, `trace` what happened
//! as one number, `judge` asks whether all promises were kept.

mod agent;
mod being;
mod changes;
mod client;
mod disaster;
mod disk;
mod faults;
mod host;
mod joins;
mod judge;
mod kube;
mod lines;
mod node;
mod oaths;
mod panics;
mod pipe;
pub mod plan;
mod points;
mod survivor;
mod trace;
mod users;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::limits::{SIM_ANSWER_MAX, SIM_HEALED_MAX, SIM_MASTERS_MAX, SIM_SETTLE};
use crate::report::Result as Outcome;
use plan::{Kind, Plan};
use quorate_mutants::Mutant;
use world::World;

/// The beat of a simulation in which no more time passes.
pub const OVER: u64 = u64::MAX;

/// What a simulation is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Chooses everything.
    pub seed: u64,
    /// How many masters, all voters.
    pub masters: usize,
    /// How many nodes, each with an agent; without any there is no API and nothing that runs on the leader.
    pub agents: usize,
    /// Clients, each with one operation at a time.
    pub clients: usize,
    /// What goes wrong.
    pub plan: Plan,
    /// A bug on purpose.
    pub mutant: Option<Mutant>,
    /// Counts while simulated time passes: a simulation in which something never comes to an end stands still.
    pub beat: Arc<AtomicU64>,
    /// Where the lines of the trace go, if anywhere.
    pub trace: Option<PathBuf>,
}

/// What became of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The verdict.
    pub result: Outcome,
    /// The seed.
    pub seed: u64,
    /// Masters, in the end.
    pub masters: usize,
    /// Simulated time in all, in seconds.
    pub simulated_s: f64,
    /// Nodes.
    pub agents: usize,
    /// What the user of Deployments did, with success.
    pub deeds: BTreeMap<String, usize>,
    /// Time that it took, in seconds.
    pub took_s: f64,
    /// Time of the thread that simulated, in seconds.
    pub processor_s: f64,
    /// Operations with an answer.
    pub answered: usize,
    /// Operations whose outcome nobody knows.
    pub unknown: usize,
    /// Terms that had a leader.
    pub terms: usize,
    /// Faults, by their kind.
    pub faults: BTreeMap<Kind, usize>,
    /// Points of the code at which masters ended, how often.
    pub points: BTreeMap<&'static str, usize>,
    /// Events in the trace, and the number that stands for all of them: the same for the same run.
    pub events: u64,
    /// See `events`.
    pub trace: String,
    /// Checks that found something.
    pub broken: BTreeSet<&'static str>,
    /// Broken promises; when the result is unknown, why.
    pub found: Vec<String>,
}

/// How many nodes the simulation of a seed has, where nobody asks for another number.
#[must_use]
pub fn agents_of(seed: u64) -> usize {
    if seed.is_multiple_of(3) { 3 } else { 0 }
}

/// How many masters the simulation of a seed begins with, where nobody asks for another number: some grow from three
/// to five.
#[must_use]
pub fn masters_of(seed: u64) -> usize {
    if seed % 5 == 2 { 3 } else { 5 }
}

/// Simulates a cluster under faults and checks what its clients, watchers and masters saw.
///
/// # Errors
/// When the simulation could not be carried out.
pub fn run(options: &Options) -> anyhow::Result<Summary> {
    let began = Instant::now();
    quorate_chance::seed(Some(options.seed));
    let panics = panics::Watch::begin();
    let summary = simulate(options, began);
    quorate_chance::seed(None);
    choose(None)?;
    let mut summary = summary?;
    for text in panics.end() {
        summary.result = Outcome::Fail;
        summary.broken.insert("panics");
        summary.found.push(format!("panics: {text}"));
    }
    Ok(summary)
}

#[cfg(feature = "mutants")]
fn choose(mutant: Option<Mutant>) -> anyhow::Result<()> {
    quorate_mutants::choose(mutant);
    Ok(())
}

#[cfg(not(feature = "mutants"))]
fn choose(mutant: Option<Mutant>) -> anyhow::Result<()> {
    match mutant {
        None => Ok(()),
        Some(_) => {
            anyhow::bail!("this program was built without mutants: see `cargo xtask chaos-mutants`")
        }
    }
}

fn simulate(options: &Options, began: Instant) -> anyhow::Result<Summary> {
    let fits = |hit: &[usize], count: usize| hit.iter().all(|position| *position < count);
    for step in &options.plan {
        anyhow::ensure!(
            fits(&step.masters, options.masters.max(SIM_MASTERS_MAX))
                && fits(&step.nodes, options.agents),
            "the plan is for more than {} masters and {} nodes: give --masters and --agents",
            options.masters,
            options.agents
        );
    }
    let processor = processor_time();
    let directory = tempfile::tempdir().context("a directory for the masters' snapshots")?;
    let path = directory.path().to_owned();
    let start = (path, options.beat.clone());
    let size = (options.masters, options.agents);
    let mut world = World::new(options.seed, size, options.clients, start)?;
    if let Some(path) = &options.trace {
        world.trace.write_to(path).with_context(|| format!("{}", path.display()))?;
    }
    choose(options.mutant)?;
    world.clients(true);
    world.suffer(options.plan.clone());
    world.pass(plan::over(&options.plan) + SIM_SETTLE)?;
    heal(&mut world)?;
    let deeds = world.deeds();
    let found = judge::all(&mut world)?;
    let answered = world.answered();
    let unknown = world.history.len() - (answered - world.era.answered_before);
    let broken: BTreeSet<&'static str> = found.iter().map(|(check, _)| *check).collect();
    let mut found: Vec<String> =
        found.into_iter().map(|(check, text)| format!("{check}: {text}")).collect();
    let result = match (found.is_empty(), answered) {
        (false, _) => Outcome::Fail,
        (true, 0) => Outcome::Unknown,
        (true, _) => Outcome::Pass,
    };
    if answered == 0 {
        found.push("no operation was answered".to_owned());
    }
    let (events, trace) = world.trace.ended();
    Ok(Summary {
        result,
        seed: options.seed,
        masters: world.nodes.len(),
        agents: options.agents,
        deeds,
        simulated_s: world.now.as_secs_f64(),
        took_s: began.elapsed().as_secs_f64(),
        processor_s: (processor_time() - processor).as_secs_f64(),
        answered,
        unknown,
        terms: world.leaders.len(),
        faults: world.faults,
        points: world.passed,
        events,
        trace,
        broken,
        found,
    })
}

/// Of this thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let whole = |number: i64| u64::try_from(number).unwrap_or_default();
    Duration::from_secs(whole(time.tv_sec)) + Duration::from_nanos(whole(time.tv_nsec))
}

/// The plan of a run that failed, with as few of its faults as still break one of the same promises: parts of it are
/// left out, large ones first, as long as fewer than `runs` runs were needed.
///
/// # Errors
/// As [`run`].
pub fn minimise(options: &Options, failed: &Summary, runs: usize) -> anyhow::Result<Plan> {
    let mut smallest = options.plan.clone();
    let mut part = smallest.len().div_ceil(2);
    let mut left = runs;
    while part > 0 {
        let mut from = 0;
        while from < smallest.len() {
            if left == 0 {
                return Ok(smallest);
            }
            left -= 1;
            let mut plan = smallest.clone();
            plan.drain(from..(from + part).min(plan.len()));
            let again = run(&Options { plan: plan.clone(), trace: None, ..options.clone() })?;
            if again.broken.intersection(&failed.broken).next().is_some() {
                smallest = plan;
            } else {
                from += part;
            }
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    Ok(smallest)
}

/// All faults are gone: the cluster must be whole again, with every master, in time.
fn heal(world: &mut World) -> anyhow::Result<()> {
    world.heal()?;
    let (before, until) = (world.answered(), world.now + SIM_HEALED_MAX);
    while world.answered() < before + 50 {
        if world.now > until {
            let text = "no operations are answered after the faults".to_owned();
            world.broken.push(("availability", text));
            break;
        }
        world.pass(Duration::from_millis(200))?;
    }
    while !world.all_vote() && world.now <= until {
        world.pass(Duration::from_millis(200))?;
    }
    world.last_word()?;
    world.clients(false);
    world.pass(SIM_ANSWER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(seed: u64, agents: usize, steps: usize) -> Options {
        let masters = masters_of(seed);
        let plan = plan::draw(seed, (masters, agents), steps, Kind::all());
        Options {
            seed,
            masters,
            agents,
            clients: 6,
            plan,
            mutant: None,
            beat: Arc::default(),
            trace: None,
        }
    }

    #[test]
    fn five_masters_keep_their_promises() {
        for seed in 1..=2 {
            let summary = run(&options(seed, 0, 8)).unwrap();
            eprintln!("{}", serde_json::to_string(&summary).unwrap());
            assert_eq!(summary.result, Outcome::Pass, "seed {seed}: {:?}", summary.found);
            assert!(summary.answered > 50, "{summary:?}");
        }
    }

    #[test]
    fn a_whole_cluster_keeps_its_promises() {
        for seed in 1..=1 {
            let summary = run(&options(seed, 3, 6)).unwrap();
            eprintln!("{}", serde_json::to_string(&summary).unwrap());
            assert_eq!(summary.result, Outcome::Pass, "seed {seed}: {:?}", summary.found);
            assert!(summary.deeds.values().sum::<usize>() > 5, "{summary:?}");
        }
    }

    #[test]
    fn three_masters_become_five() {
        let kinds = [Kind::Join, Kind::Kill, Kind::Partition];
        let plan = plan::draw(1, (3, 0), 12, &kinds);
        let summary = run(&Options { masters: 3, plan, ..options(1, 0, 0) }).unwrap();
        assert_eq!(summary.result, Outcome::Pass, "{:?}", summary.found);
        assert_eq!((summary.masters, summary.faults[&Kind::Join]), (5, 2), "{summary:?}");
    }

    #[test]
    fn masters_end_at_points_of_the_code() {
        let plan = plan::draw(1, (3, 0), 16, &[Kind::CrashPoint]);
        let summary = run(&Options { masters: 3, plan, ..options(1, 0, 0) }).unwrap();
        assert_eq!(summary.result, Outcome::Pass, "{:?}", summary.found);
        let count = summary.points.values().sum::<usize>();
        assert_eq!(summary.faults.get(&Kind::CrashPoint), Some(&count), "{summary:?}");
        assert!(summary.points.len() >= 3, "{:?}", summary.points);
    }

    #[cfg(tokio_unstable)]
    #[test]
    fn the_same_seed_is_the_same_run() {
        // The other has nodes, and a master that joins.
        for (seed, agents) in [(3, 0), (17, 2)] {
            let directory = tempfile::tempdir().unwrap();
            let runs = [1, 2].map(|number| {
                let path = directory.path().join(format!("{number}.trace"));
                let summary =
                    run(&Options { trace: Some(path.clone()), ..options(seed, agents, 4) })
                        .unwrap();
                (summary.events, summary.trace, std::fs::read_to_string(path).unwrap())
            });
            let lines = runs[0].2.lines().zip(runs[1].2.lines()).enumerate();
            let parts = lines.filter(|(_, (a, b))| a != b).take(3).collect::<Vec<_>>();
            assert!(parts.is_empty(), "seed {seed}: {parts:#?}");
            assert_eq!((&runs[0].0, &runs[0].1), (&runs[1].0, &runs[1].1));
        }
    }
}
