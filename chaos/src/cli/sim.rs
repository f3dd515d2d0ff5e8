//! `quorate chaos sim`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use quorate_mutants::Mutant;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Output, Voice};
use crate::limits::{SIM_MINIMISE_RUNS, SIM_SEEDS_NAMED_MAX, SIM_STUCK_MAX, SIM_WATCHED_EVERY};
use crate::report::Result as Outcome;
use crate::scenario::Span;
use crate::sim::plan::{self, Kind, Plan};
use crate::sim::{OVER, Options, Summary, agents_of, masters_of, minimise, run};

#[derive(Debug, clap::Args)]
pub(super) struct SimArgs {
    /// Chooses everything; further simulations have the seeds after it [default: a random one, printed]
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds
    #[arg(long, default_value_t = 1, conflicts_with = "for_time")]
    seeds: u64,
    /// One seed after the other for so long, of real time
    #[arg(long = "for", value_name = "DURATION")]
    for_time: Option<Span>,
    /// Faults of each simulation
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: u32,
    /// How many masters at the beginning; each fifth seed begins with 3 if it is not given, the others with 5
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
    masters: Option<u8>,
    /// How many nodes with agents; each third seed has 3 if it is not given, the others none
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=50))]
    agents: Option<u8>,
    /// How many clients, each with one operation at a time
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
    /// Kinds of faults, comma-separated [default: all]
    #[arg(long, value_delimiter = ',', conflicts_with = "plan")]
    faults: Vec<Kind>,
    /// The faults of this file, as a failure left them, instead of drawn ones
    #[arg(long, value_name = "FILE", conflicts_with = "steps")]
    plan: Option<PathBuf>,
    /// When one fails: run it again with fewer faults, at most so often [default: 20 where the faults were drawn]
    #[arg(long, value_name = "RUNS")]
    minimise: Option<usize>,
    /// Where the plans of failures go
    #[arg(long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// A bug on purpose, which must be found; in programs built for that
    #[arg(long, value_name = "NAME", hide = true, value_parser = mutant)]
    mutant: Option<Mutant>,
    /// Write what happened, line by line; for one seed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "for_time"])]
    trace: Option<PathBuf>,
    /// How many at a time [default: one for each processor]
    #[arg(long)]
    jobs: Option<usize>,
    /// Print everything as JSON
    #[arg(short, long)]
    output: Option<Output>,
}

/// All simulations of one call.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Total {
    result: Outcome,
    first_seed: u64,
    simulations: usize,
    simulated_hours: f64,
    /// Real time, of all of them together, and of all processors that were used.
    took_s: f64,
    processor_s: f64,
    /// Simulated time in a time of one processor.
    speed: f64,
    answered: usize,
    faults: BTreeMap<Kind, usize>,
    /// Points of the code at which masters ended.
    points: BTreeMap<&'static str, usize>,
    failed: Vec<Summary>,
}

fn mutant(name: &str) -> Result<Mutant, String> {
    Mutant::named(name).ok_or_else(|| {
        let names: Vec<_> = Mutant::ALL.iter().map(|(_, name)| *name).collect();
        format!("there is {}", names.join(", "))
    })
}

fn word(result: Outcome) -> &'static str {
    match result {
        Outcome::Pass => "pass",
        Outcome::Fail => "FAIL",
        Outcome::Unknown => "unknown",
    }
}

/// Ends with 0 (pass), 1 (fail) or 2 (unknown).
pub(super) fn main(args: &SimArgs, voice: Voice, stop: &CancellationToken) -> anyhow::Result<u8> {
    let first = args.seed.unwrap_or_else(|| rand::random_range(0..1_000_000_000_000));
    let given: Option<Plan> = args
        .plan
        .as_ref()
        .map(|path| {
            let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("{} is no plan", path.display()))
        })
        .transpose()?;
    if cfg!(not(tokio_unstable)) {
        (voice.say)("built without --cfg tokio_unstable: the same seed is not the same run");
    }
    let began = Instant::now();
    let until = args.for_time.map(|span| began + span.duration());
    let (next, done) = (AtomicU64::new(0), AtomicUsize::new(0));
    let all: Mutex<Vec<Summary>> = Mutex::default();
    let jobs = args.jobs.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    let text = |summary: &Summary| {
        let speed = summary.simulated_s / summary.took_s;
        format!(
            "seed {}: {} after {:.0} simulated s in {:.1} s ({speed:.0} x), {} answers, {} terms, trace {}",
            summary.seed,
            word(summary.result),
            summary.simulated_s,
            summary.took_s,
            summary.answered,
            summary.terms,
            summary.trace
        )
    };
    let work = || -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let over = match until {
                Some(until) => Instant::now() >= until,
                None => number >= args.seeds,
            };
            if over || stop.is_cancelled() {
                return Ok(());
            }
            let options = args.options(first + number, given.as_ref());
            let _watched = watch_over(&options, voice);
            let summary = run(&options)?;
            (voice.say)(&text(&summary));
            if summary.result == Outcome::Fail {
                args.failed(&options, &summary, voice)?;
            }
            done.fetch_add(1, Ordering::Relaxed);
            all.lock().unwrap_or_else(PoisonError::into_inner).push(summary);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    let total = args.total(first, all, began.elapsed());
    match args.output {
        Some(_) => (voice.print)(&serde_json::to_string_pretty(&total)?),
        None => (voice.print)(&total.to_string()),
    }
    Ok(total.result.exit_code())
}

/// Until it is dropped: a simulation that stands still ends the program, since nothing else can end it.
struct Watched(Arc<AtomicBool>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn watch_over(options: &Options, voice: Voice) -> Watched {
    let (over, beat, seed) = (Arc::new(AtomicBool::new(false)), options.beat.clone(), options.seed);
    let is_over = over.clone();
    std::thread::spawn(move || {
        let (mut last, mut since) = (0, Instant::now());
        while !is_over.load(Ordering::Relaxed) {
            std::thread::sleep(SIM_WATCHED_EVERY);
            let now = beat.load(Ordering::Relaxed);
            if now == OVER {
                return;
            }
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > SIM_STUCK_MAX {
                (voice.say)(&format!(
                    "seed {seed}: FAIL: time has stood still for {} s: a process of it never comes to an end",
                    SIM_STUCK_MAX.as_secs()
                ));
                std::process::exit(i32::from(Outcome::Fail.exit_code()));
            }
        }
    });
    Watched(over)
}

impl SimArgs {
    fn options(&self, seed: u64, given: Option<&Plan>) -> Options {
        let kinds = if self.faults.is_empty() { Kind::all() } else { &self.faults };
        let masters = self.masters.map_or_else(|| masters_of(seed), usize::from);
        let agents = self.agents.map_or_else(|| agents_of(seed), usize::from);
        let steps = usize::try_from(self.steps).unwrap_or(100);
        let drawn = || plan::draw(seed, (masters, agents), steps, kinds);
        Options {
            seed,
            masters,
            agents,
            clients: usize::from(self.clients),
            plan: given.cloned().unwrap_or_else(drawn),
            mutant: self.mutant,
            beat: Arc::default(),
            trace: self.trace.clone(),
        }
    }

    /// Says what is wrong and how to have it again, with as few faults as are needed.
    fn failed(&self, options: &Options, summary: &Summary, voice: Voice) -> anyhow::Result<()> {
        for text in summary.found.iter().take(SIM_SEEDS_NAMED_MAX) {
            (voice.say)(&format!("  {text}"));
        }
        let chosen = self.plan.is_some() || self.mutant.is_some();
        let runs = self.minimise.unwrap_or(if chosen { 0 } else { SIM_MINIMISE_RUNS });
        if self.plan.is_some() && runs == 0 {
            return Ok(());
        }
        if runs > 0 {
            (voice.say)(&format!("  again with fewer faults, at most {runs} times"));
        }
        let smallest = minimise(options, summary, runs)?;
        let path = self.directory.join(format!("sim-{}.json", summary.seed));
        std::fs::create_dir_all(&self.directory)
            .and_then(|()| std::fs::write(&path, serde_json::to_vec_pretty(&smallest)?))
            .with_context(|| format!("write {}", path.display()))?;
        let (faults, path) = (smallest.len(), path.display());
        (voice.say)(&format!(
            "  again with {faults} faults: quorate chaos sim --seed {} --masters {} --agents {} --clients {} --plan {path}",
            summary.seed, options.masters, options.agents, self.clients
        ));
        Ok(())
    }

    fn total(&self, first: u64, all: Vec<Summary>, took: Duration) -> Total {
        let mut total = Total {
            result: all.iter().map(|summary| summary.result).max().unwrap_or(Outcome::Unknown),
            first_seed: first,
            simulations: all.len(),
            simulated_hours: 0.0,
            took_s: took.as_secs_f64(),
            processor_s: 0.0,
            speed: 0.0,
            answered: 0,
            faults: BTreeMap::new(),
            points: BTreeMap::new(),
            failed: Vec::new(),
        };
        for summary in all {
            total.simulated_hours += summary.simulated_s / 3600.0;
            total.processor_s += summary.processor_s;
            total.answered += summary.answered;
            for (point, count) in &summary.points {
                *total.points.entry(*point).or_insert(0) += count;
            }
            for (kind, count) in &summary.faults {
                *total.faults.entry(*kind).or_insert(0) += count;
            }
            if summary.result != Outcome::Pass && total.failed.len() < SIM_SEEDS_NAMED_MAX {
                total.failed.push(summary);
            }
        }
        if total.processor_s > 0.0 {
            total.speed = total.simulated_hours * 3600.0 / total.processor_s;
        }
        total
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut faults = String::new();
        for (kind, count) in &self.faults {
            let _ = write!(
                faults,
                "{}{} {count}",
                if faults.is_empty() { "" } else { ", " },
                kind.name()
            );
        }
        write!(
            f,
            "{}: {} simulations from seed {}, {:.2} simulated hours in {:.0} s ({:.0} x for each \
             processor), {} answers; {faults}",
            word(self.result),
            self.simulations,
            self.first_seed,
            self.simulated_hours,
            self.took_s,
            self.speed,
            self.answered,
        )
    }
}
