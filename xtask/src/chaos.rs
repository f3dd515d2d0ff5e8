//! `cargo xtask chaos-soak` and `cargo xtask chaos-mutants`: the simulated world of `quorate chaos sim`, for long, and
//! with bugs that it must find.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use quorate_mutants::Mutant;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ci::{cargo, root, say};

/// Seeds between two times that the state is written.
const ROUND_SEEDS: u64 = 20;

/// Seeds until a mutant of the sample counts as not found.
const SAMPLE_SEEDS_MAX: u64 = 5;

/// Faults that a mutant needs which seldom meet by chance.
const FOCUS: &[(Mutant, &str)] = &[
    (Mutant::VoteBeforeSync, "split-vote"),
    (Mutant::PerhapsIsNotSent, "ring,bridge"),
    (Mutant::ReuseNodeId, "wipe,kill"),
    (Mutant::JointLeft, "demote,leave,network,kill"),
    (Mutant::DemotedVotes, "demote,kill"),
    (Mutant::RemovedReturns, "leave,replace"),
    (Mutant::OldCopyAccepted, "roll-back,kill"),
    (Mutant::RestoreLowersRevision, "restore,kill"),
    (Mutant::RestoreKeepsPast, "restore,kill"),
    (Mutant::RecoverSnapshotOnly, "recover,kill"),
    (Mutant::ChecksumIgnored, "bit-flip,kill,power-loss"),
];

/// Options of `cargo xtask chaos-soak`.
#[derive(clap::Args)]
pub(crate) struct SoakArgs {
    /// How long, of real time
    #[arg(long)]
    hours: f64,
    /// How many masters at the beginning; some seeds begin with 3 if it is not given, the others with 5
    #[arg(long)]
    masters: Option<u8>,
    /// Faults of each simulation
    #[arg(long, default_value_t = 400)]
    steps: u32,
    /// Begin anew with this seed, not where the last soak stopped
    #[arg(long)]
    seed: Option<u64>,
}

/// What a soak leaves for the next one.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    next_seed: u64,
    simulations: u64,
    simulated_hours: f64,
    answered: u64,
    failures: Vec<u64>,
}

/// Simulates one seed after the other, from where the last one stopped, and keeps what fails.
pub(crate) fn soak(args: &SoakArgs) -> anyhow::Result<()> {
    let program = build("quick", &["--features=quorate-chaos/crash-points"])?;
    let directory = root().join("target/chaos-soak");
    std::fs::create_dir_all(&directory)?;
    let path = directory.join("state.json");
    let mut state: State = match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))?,
        Err(_) => State { next_seed: 1, ..State::default() },
    };
    if let Some(seed) = args.seed {
        state.next_seed = seed;
    }
    let until = Instant::now() + Duration::from_secs_f64(args.hours * 3600.0);
    let failures = state.failures.len();
    while Instant::now() < until {
        let mut arguments = vec![
            format!("--seed={}", state.next_seed),
            format!("--seeds={ROUND_SEEDS}"),
            format!("--steps={}", args.steps),
            "--minimise=60".to_owned(),
            format!("--directory={}", directory.display()),
        ];
        arguments.extend(args.masters.map(|masters| format!("--masters={masters}")));
        let total = simulate(&program, &arguments)?;
        state.next_seed += ROUND_SEEDS;
        state.simulations += total["simulations"].as_u64().unwrap_or_default();
        state.simulated_hours += total["simulatedHours"].as_f64().unwrap_or_default();
        state.answered += total["answered"].as_u64().unwrap_or_default();
        let failed = total["failed"].as_array().into_iter().flatten();
        state.failures.extend(failed.filter_map(|one| one["seed"].as_u64()));
        let beside = path.with_extension("new");
        std::fs::write(&beside, serde_json::to_vec_pretty(&state)?)?;
        std::fs::rename(&beside, &path)?;
        say(&format!(
            "{} simulations, {:.1} simulated hours, {} answers, failures: {:?}; {:.0} x for each processor",
            state.simulations,
            state.simulated_hours,
            state.answered,
            state.failures,
            total["speed"].as_f64().unwrap_or_default(),
        ));
    }
    if state.failures.len() > failures {
        bail!("seeds failed; their plans are in {}", directory.display());
    }
    Ok(())
}

/// Options of `cargo xtask chaos-mutants`.
#[derive(clap::Args)]
pub(crate) struct MutantsArgs {
    /// Only these, comma-separated
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Seeds until a mutant counts as not found
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Faults of each simulation
    #[arg(long, default_value_t = 60)]
    steps: u32,
}

/// Simulates with each mutant until it is found, and prints which check found it after how many seeds.
pub(crate) fn mutants(args: &MutantsArgs) -> anyhow::Result<()> {
    let program = build("quick", &["--features=quorate-chaos/mutants,quorate-chaos/crash-points"])?;
    let steps = format!("--steps={}", args.steps);
    let seeds = format!("--seeds={}", args.seeds);
    say("first without any, which must pass");
    let clean = simulate(&program, &["--seed=1".to_owned(), seeds, steps])?;
    if clean["result"] != "pass" {
        bail!("seeds fail without a mutant: {}", clean["failed"]);
    }
    let mut table =
        String::from("| mutant | what it does | seeds | found by |\n|---|---|---|---|\n");
    let mut missed = Vec::new();
    for (mutant, name) in Mutant::ALL {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        let found = find(&program, *mutant, args.seeds, args.steps)?;
        let (seed, checks) = found.unwrap_or_else(|| {
            missed.push(*name);
            (args.seeds, "NOT FOUND".to_owned())
        });
        say(&format!("{name}: {checks} after {seed} seeds"));
        let _ = writeln!(table, "| `{name}` | {} | {seed} | {checks} |", mutant.what());
    }
    say(&table);
    if missed.is_empty() {
        return Ok(());
    }
    bail!("not found within {} seeds: {}", args.seeds, missed.join(", "))
}

/// Options of `cargo xtask masters-walk`.
#[derive(clap::Args)]
pub(crate) struct WalkArgs {
    /// How often three masters become five and three again
    #[arg(long, default_value_t = 20)]
    rounds: u32,
}

/// Walks from three masters to five and back under load, with real processes: the end-to-end test, more often.
pub(crate) fn walk(args: &WalkArgs) -> anyhow::Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(["test", "--workspace", "--test=walk", "--", "--nocapture"])
        .env("QUORATE_WALK_ROUNDS", args.rounds.to_string())
        .current_dir(root())
        .status()?;
    if !status.success() {
        bail!("the walk failed");
    }
    Ok(())
}

/// What CI tries of them: found by different checks, within a few seeds.
const SAMPLE: &[Mutant] =
    &[Mutant::AckBeforeSync, Mutant::StaleRead, Mutant::WatchSkipsAfterResume];

/// Faults of each simulation of the sample, which is built without optimisation.
const SAMPLE_STEPS: u32 = 15;

/// The sample, in the profile that the tests have.
pub(crate) fn sample() -> anyhow::Result<()> {
    let program = build("dev", &["--features=quorate-chaos/mutants"])?;
    for mutant in SAMPLE {
        let checks = find(&program, *mutant, SAMPLE_SEEDS_MAX, SAMPLE_STEPS)?;
        let (seeds, checks) = checks.with_context(|| {
            format!("{} was not found within {SAMPLE_SEEDS_MAX} seeds", mutant.name())
        })?;
        say(&format!("{}: {checks} after {seeds} seeds", mutant.name()));
    }
    Ok(())
}

/// Simulates with a mutant until it is found: after how many seeds, and by which checks.
fn find(
    program: &Path,
    mutant: Mutant,
    seeds: u64,
    steps: u32,
) -> anyhow::Result<Option<(u64, String)>> {
    let focus = FOCUS.iter().find(|(other, _)| *other == mutant);
    for seed in 1..=seeds {
        let mut arguments = vec![
            format!("--seed={seed}"),
            format!("--steps={steps}"),
            format!("--mutant={}", mutant.name()),
            format!("--agents={}", if mutant.needs_nodes() { 3 } else { 0 }),
            format!("--directory={}", root().join("target/chaos-mutants").display()),
        ];
        arguments.extend(focus.map(|(_, faults)| format!("--faults={faults}")));
        if mutant == Mutant::LearnerVotes {
            arguments.push("--masters=3".to_owned());
        }
        let total = simulate(program, &arguments)?;
        if total["result"] == "fail" {
            let checks = total["failed"][0]["broken"].as_array().cloned().unwrap_or_default();
            let checks: Vec<_> = checks.iter().filter_map(Value::as_str).collect();
            return Ok(Some((seed, checks.join(", "))));
        }
    }
    Ok(None)
}

/// Builds `quorate chaos` alone, fast; where it is.
fn build(profile: &str, more: &[&str]) -> anyhow::Result<PathBuf> {
    let of = format!("--profile={profile}");
    let mut arguments = vec!["build", "--workspace", &of, "--example=chaos"];
    arguments.extend(more);
    cargo(&arguments)?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(target.join(folder).join("examples/chaos"))
}

/// Runs `chaos sim`; what it printed. Its lines for people go to the screen.
fn simulate(program: &Path, arguments: &[String]) -> anyhow::Result<Value> {
    let output = Command::new(program)
        .arg("sim")
        .arg("--output=json")
        .args(arguments)
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {}", program.display()))?;
    // A simulation that stands still ends the program, which then has no more to say.
    if output.stdout.is_empty() && output.status.code() == Some(1) {
        return Ok(serde_json::json!({"result": "fail", "failed": [{"broken": ["stands still"]}]}));
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("chaos sim {} ended with {}", arguments.join(" "), output.status))
}
