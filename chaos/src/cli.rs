//! The command line of `quorate chaos`.

mod existing;
mod minimise;
mod sim;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum as _;
use clap::builder::PossibleValue;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio_util::sync::CancellationToken;

use crate::check::linear;
use crate::limits::{CLIENTS_MAX, KEYS_MAX, MINIMISE_RUNS, NODES_MAX};
use crate::model::Family;
use crate::real::existing::reach::{Reach, quoted};
use crate::real::{Options, lacks, run};
use crate::report::{Evidence, Report, Result, file, page};
use crate::scenario::fault::Need;
use crate::scenario::fault::place::Place;
use crate::scenario::generate::{Wish, generate};
use crate::scenario::read::workload::{KUBERNETES, NODES};
use crate::scenario::{Fault, Scenario, Span, Workload, builtin, read};
use existing::ExistingArgs;

/// The page's name in a run's directory.
const PAGE: &str = "report.html";

/// Find out what a cluster does when processes die, hang, and lose each other
#[derive(Debug, clap::Args)]
pub struct ChaosArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start masters on this machine, inject faults, and check what clients saw
    ///
    /// Clients read, write, compare-and-set and delete a few objects through all masters, and watch
    /// them, while masters are killed, paused and cut off. Then their histories are checked:
    /// linearizable, nothing acknowledged lost, watches complete and in order, masters agree. Ends
    /// with 0 (pass), 1 (fail) or 2 (unknown: too little happened).
    ///
    /// Ctrl-C ends the faults early: all are taken back, and what there is is checked and reported.
    Run(Box<RunArgs>),
    /// Simulate masters, their network and their disks in this process, much faster than time goes by
    ///
    /// Store, Raft, log and state machine are the real ones; time, network and disks are made, and the same seed is
    /// the same run, so that what fails can be had again. Ends with 0 (pass), 1 (fail) or 2 (unknown).
    Sim(Box<sim::SimArgs>),
    /// Run a scenario, and when it fails, again with fewer faults while it still fails
    ///
    /// The smallest failing scenario is smallest.yaml in the run's directory.
    Minimise(MinimiseArgs),
    /// Check the evidence of an old run again, with the checks of this program
    ///
    /// Ends as the run would: 0 (pass), 1 (fail) or 2 (unknown, or no report that can be checked).
    Replay(ReplayArgs),
    /// List the scenarios that come with the program, or print one
    Scenarios(ScenariosArgs),
    /// List the kinds of faults, and the places at which masters can be made to end
    Faults,
}

#[derive(Debug, clap::Args)]
struct ScenariosArgs {
    #[command(subcommand)]
    command: Option<ScenariosCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum ScenariosCommand {
    /// Print a scenario: to read it, or to begin one of your own with it
    Show {
        /// Its name
        name: String,
    },
    /// Say whether a file is a scenario, and if not, where and why
    Check {
        /// The file
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct MinimiseArgs {
    /// A scenario: a file, or a name that `quorate chaos scenarios` lists
    #[arg(value_name = "FILE|NAME")]
    scenario: String,
    /// Runs after the first one, at most
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Chooses what clients do, and whom faults meet that may meet several [default: as of run]
    #[arg(long)]
    seed: Option<u64>,
    /// Program whose processes are the masters [default: this one]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Older program, for masters that a scenario names under `older`, and for upgrade and downgrade
    #[arg(long, value_name = "FILE")]
    older_binary: Option<PathBuf>,
    /// Directory for everything; must not exist [default: quorate-chaos-SEED]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ReplayArgs {
    /// The run's directory, or its report.json
    #[arg(value_name = "DIR|FILE")]
    report: PathBuf,
    /// Write the page anew, here; logs come from the directory of the report
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(short, long)]
    output: Option<Output>,
}

/// How a person at a terminal, or a log, is told something.
#[derive(Debug, Clone, Copy)]
pub struct Voice {
    /// A line about the way.
    pub say: fn(&str),
    /// Writes the last line anew, where that can be done; an empty text takes it away.
    pub rewrite: Option<fn(&str)>,
    /// What was asked for.
    pub print: fn(&str),
}

/// What a person who wants it to end has asked for.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// To end what is under way, and check what there is.
    pub work: CancellationToken,
    /// Asked again: to end the checks too.
    pub checks: CancellationToken,
}

impl Stop {
    /// Somebody has asked, once more.
    pub fn ask(&self) {
        if self.work.is_cancelled() {
            self.checks.cancel();
        }
        self.work.cancel();
    }

    /// The same, with something else that ends the work.
    fn with_work(&self, work: CancellationToken) -> Self {
        Self { work, checks: self.checks.clone() }
    }
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// A scenario: a file, or a name that `quorate chaos scenarios` lists [default: one drawn from the seed]
    #[arg(long, value_name = "FILE|NAME")]
    scenario: Option<String>,
    /// The scenario `quick`: a minute of the commonest faults
    #[arg(long, conflicts_with_all = ["scenario", "duration", "faults", "workload", "clients", "keys", "nodes"])]
    quick: bool,
    /// When it fails: run it again with fewer faults, at most so often [default: 10 where the scenario was drawn]
    #[arg(long, value_name = "RUNS")]
    minimise: Option<usize>,
    /// How many masters [default: 3]; with --kubeconfig the way to each: ssh://[USER@]HOST or exec:COMMAND
    #[arg(long, value_name = "NUMBER|WAY,…", value_parser = masters)]
    masters: Option<MastersArg>,
    /// How long faults are injected, in seconds; longer until each kind had its turn
    #[arg(long, default_value_t = 60, value_name = "SECONDS", conflicts_with = "scenario")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,
    /// Chooses the faults and what clients do [default: the scenario's, or a random one, printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Kinds of faults, comma-separated [default: all that can be had but disk-full, disk-lies, rollback, join,
    /// rotate-ca, short-lived, restore, quorum-lost]
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "scenario")]
    faults: Vec<Fault>,
    /// Kinds of clients, comma-separated [default: registers, and two others drawn from the seed]
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "scenario")]
    workload: Vec<Kind>,
    /// Clients, each with one operation at a time
    #[arg(long, default_value_t = 9, conflicts_with = "scenario", value_parser = clients)]
    clients: usize,
    /// Objects that they share
    #[arg(long, default_value_t = 6, conflicts_with = "scenario", value_parser = keys)]
    keys: usize,
    /// Node agents with real containers, and a user of Deployments
    #[arg(long, default_value_t = 0, conflicts_with = "scenario", value_parser = nodes)]
    nodes: usize,
    /// Program whose processes are the masters [default: this one]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Older program, for masters that a scenario names under `older`, and for upgrade and downgrade
    #[arg(long, value_name = "FILE")]
    older_binary: Option<PathBuf>,
    /// Directory for data, logs and report; must not exist [default: quorate-chaos-SEED]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(short, long)]
    output: Option<Output>,
    /// Stop, as Ctrl-C does, as soon as this file is there
    #[arg(long, value_name = "FILE")]
    stop_file: Option<PathBuf>,
    #[command(flatten)]
    existing: ExistingArgs,
}

/// What `--workload` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Clients of a few objects.
    Of(Family),
    /// A user of Deployments.
    Kubernetes,
}

impl clap::ValueEnum for Kind {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Kind; 6] = [
            Kind::Of(Family::Register),
            Kind::Of(Family::Append),
            Kind::Of(Family::Set),
            Kind::Of(Family::Bank),
            Kind::Of(Family::Leases),
            Kind::Kubernetes,
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Of(family) => family.to_possible_value(),
            Self::Kubernetes => {
                let about = "Create, scale, roll and delete Deployments, on node agents";
                Some(PossibleValue::new(KUBERNETES).help(about))
            }
        }
    }
}

/// What `--masters` says.
#[derive(Debug, Clone)]
enum MastersArg {
    /// So many are started.
    Count(u8),
    /// These are there, and reached in these ways.
    Reached(Vec<Reach>),
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Output {
    /// For programs
    Json,
}

/// Runs it, until the end or until it is stopped; what the process is to end with.
///
/// # Errors
/// When the run could not be carried out, or its reports not be written.
pub async fn main(args: ChaosArgs, voice: Voice, stop: Stop) -> anyhow::Result<u8> {
    match args.command {
        Command::Run(args) => run_scenario(*args, voice, &stop).await,
        Command::Sim(args) => sim::main(&args, voice, &stop.work),
        Command::Minimise(args) => run_scenario(args.into(), voice, &stop).await,
        Command::Replay(args) => replay(&args, voice),
        Command::Scenarios(args) => scenarios(args, voice.print),
        Command::Faults => {
            faults(voice.print);
            Ok(0)
        }
    }
}

fn scenarios(args: ScenariosArgs, print: fn(&str)) -> anyhow::Result<u8> {
    match args.command {
        None => {
            for (name, _) in builtin::ALL {
                let scenario = builtin::scenario(name, 0)?;
                let (masters, lasts) = (scenario.masters, scenario.lasts().0.div_ceil(1000));
                let about = &scenario.description;
                print(&format!("{name:<16} {masters} masters, {lasts:>3} s  {about}"));
            }
        }
        Some(ScenariosCommand::Show { name }) => print(builtin::text(&name)?.trim_end()),
        Some(ScenariosCommand::Check { file }) => {
            let scenario = read::file(&file, 0)?;
            let (faults, lasts) = (scenario.schedule.len(), scenario.lasts());
            print(&format!("{}: right; {faults} faults in {lasts}", file.display()));
        }
    }
    Ok(0)
}

/// All kinds with their details, and all places of `crash-point`.
fn faults(print: fn(&str)) {
    for fault in Fault::all() {
        let help = fault.to_possible_value().and_then(|value| value.get_help().cloned());
        let about = help.map(|help| help.to_string()).unwrap_or_default();
        let details = match fault.parameters() {
            [] => String::new(),
            some => format!(" ({})", some.join(", ")),
        };
        print(&format!("{:<16} {about}{details}", fault.to_string()));
    }
    print(
        "\npoint: of crash-point, a call of the system, or a point of the code with a dot in its name, which a",
    );
    print("program has that was built with --features crash-points, or without optimisation:\n");
    for place in Place::all() {
        print(&format!("{:<28} {}", place.to_string(), place.what()));
    }
}

impl From<MinimiseArgs> for RunArgs {
    fn from(args: MinimiseArgs) -> Self {
        let MinimiseArgs { scenario, runs, seed, binary, older_binary, directory } = args;
        let usual = Workload::default();
        Self {
            scenario: Some(scenario),
            quick: false,
            minimise: Some(runs),
            masters: None,
            duration: 0,
            seed,
            faults: Vec::new(),
            workload: Vec::new(),
            clients: usual.clients,
            keys: usual.keys,
            nodes: 0,
            binary,
            older_binary,
            directory,
            output: None,
            stop_file: None,
            existing: ExistingArgs::default(),
        }
    }
}

async fn run_scenario(args: RunArgs, voice: Voice, stop: &Stop) -> anyhow::Result<u8> {
    let Voice { say, rewrite, .. } = voice;
    if args.existing.kubeconfig.is_some() {
        return Box::pin(existing::run(args, voice, stop)).await;
    }
    if matches!(args.masters, Some(MastersArg::Reached(_))) {
        anyhow::bail!("masters that are there already need --kubeconfig");
    }
    let stop = &stop.with_work(stop_file(args.stop_file.as_deref(), &stop.work)?);
    let drawn = args.seed.unwrap_or_else(rand::random);
    let is_drawn = args.scenario.is_none() && !args.quick;
    let runs = args.minimise.unwrap_or(if is_drawn { MINIMISE_RUNS } else { 0 });
    let (scenario, from) = scenario(&args, drawn, say)?;
    let seed = args.seed.or(scenario.seed).unwrap_or(drawn);
    let options = Options {
        command: command(seed, &from, (args.binary.as_deref(), args.older_binary.as_deref())),
        older: args.older_binary,
        binary: args.binary.map_or_else(std::env::current_exe, Ok)?,
        directory: args.directory.unwrap_or_else(|| format!("quorate-chaos-{seed}").into()),
        scenario,
        seed,
        names: Vec::new(),
        beyond_quorum: true,
        say,
        rewrite,
    };
    let (name, directory) = (&options.scenario.name, &options.directory);
    say(&format!("scenario {name}, seed {seed}; everything is in {}", directory.display()));
    let evidence = Box::pin(run(&options, &stop.work)).await?;
    let report = conclude(&options, &evidence, (args.output, voice), stop)?;
    if report.result == Result::Fail && runs > 0 && !stop.work.is_cancelled() {
        say("it fails: the same with fewer faults (--minimise 0 for never)");
        Box::pin(minimise::minimise(&options, &report, runs, &stop.work)).await?;
    }
    Ok(report.result.exit_code())
}

/// Checks what a run left, and writes and prints the report.
fn conclude(
    options: &Options,
    evidence: &Evidence,
    (output, voice): (Option<Output>, Voice),
    stop: &Stop,
) -> anyhow::Result<Report> {
    let directory = &options.directory;
    options.tell(&format!("checking {} operations", evidence.history.len()));
    // Who has ended the run with it wants to know what it found; asked again, or later, it is enough.
    let enough = if stop.work.is_cancelled() { &stop.checks } else { &stop.work };
    linear::stop_with(Some(enough.clone()));
    let report = Report::of(evidence);
    linear::stop_with(None);
    file::save(&directory.join(file::NAME), &report, evidence)?;
    write_page(&directory.join(PAGE), &report, evidence, directory)?;
    print(&report, output, voice)?;
    (voice.say)(&format!("report: {}", directory.join(PAGE).display()));
    Ok(report)
}

/// What stops a run: what does already, or a file that appears.
fn stop_file(file: Option<&Path>, stop: &CancellationToken) -> anyhow::Result<CancellationToken> {
    let Some(file) = file else { return Ok(stop.clone()) };
    existing::refuse_stopped(file)?;
    let (file, stop) = (file.to_owned(), stop.child_token());
    let watched = stop.clone();
    tokio::spawn(async move {
        while !file.exists() {
            tokio::time::sleep(existing::LOOK_EVERY).await;
        }
        watched.cancel();
    });
    Ok(stop)
}

/// The command that does the same again; `from` says which scenario.
fn command(seed: u64, from: &str, (binary, older): (Option<&Path>, Option<&Path>)) -> String {
    let mut command = format!("quorate chaos run {from} --seed {seed}");
    for (flag, program) in [("--binary", binary), ("--older-binary", older)] {
        if let Some(program) = program {
            command.push_str(&format!(" {flag} {}", quoted(&program.to_string_lossy())));
        }
    }
    command
}

fn replay(args: &ReplayArgs, voice: Voice) -> anyhow::Result<u8> {
    let path = file::path(&args.report);
    let evidence = file::load(&path)?;
    let report = Report::of(&evidence);
    if let Some(html) = &args.html {
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        write_page(html, &report, &evidence, directory)?;
    }
    print(&report, args.output, voice)?;
    Ok(report.result.exit_code())
}

fn print(report: &Report, output: Option<Output>, voice: Voice) -> anyhow::Result<()> {
    match output {
        Some(Output::Json) => (voice.print)(&serde_json::to_string_pretty(report)?),
        None => (voice.print)(&report.text()),
    }
    Ok(())
}

fn write_page(
    file: &Path,
    report: &Report,
    evidence: &Evidence,
    logs: &Path,
) -> anyhow::Result<()> {
    std::fs::write(file, page(report, evidence, logs))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The scenario, and the arguments that lead to it again.
fn scenario(args: &RunArgs, seed: u64, say: fn(&str)) -> anyhow::Result<(Scenario, String)> {
    let name = if args.quick { Some("quick") } else { args.scenario.as_deref() };
    let counted = match args.masters {
        Some(MastersArg::Count(count)) => Some(usize::from(count)),
        _ => None,
    };
    let Some(name) = name else {
        let masters = counted.unwrap_or(3);
        let faults = match args.faults.as_slice() {
            [] => possible(masters, args, say)?,
            some => some.to_vec(),
        };
        for fault in &faults {
            let needs = fault.masters_min();
            anyhow::ensure!(needs <= masters, "{fault} needs --masters {needs} or more");
        }
        let workload = workload(args, seed)?;
        let mut names: Vec<String> = workload.kinds.iter().map(ToString::to_string).collect();
        let nodes = match workload.nodes {
            0 => String::new(),
            // A cluster that is there has its own.
            _ if args.existing.kubeconfig.is_some() => {
                names.push(KUBERNETES.to_owned());
                String::new()
            }
            nodes => format!(" --nodes {nodes}"),
        };
        let lasts = Span(args.duration * 1000);
        let kinds: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let (clients, keys) = (workload.clients, workload.keys);
        let from = format!(
            "--masters {masters} --duration {} --faults {} --workload {} --clients {clients} --keys {keys}{nodes}",
            args.duration,
            kinds.join(","),
            names.join(","),
        );
        let places = places(args, &faults)?;
        return Ok((generate(&Wish { seed, masters, lasts, faults, workload, places }), from));
    };
    let own = args.existing.kubeconfig.is_none();
    anyhow::ensure!(!own || counted.is_none(), "--masters is said by the scenario {name}");
    let from = format!("--scenario {}", quoted(name));
    // A file of the name of a built-in scenario is written with a path: ./quick
    if builtin::ALL.iter().any(|(known, _)| *known == name) {
        return Ok((builtin::scenario(name, seed)?, from));
    }
    let file = PathBuf::from(name);
    let scenario =
        if file.exists() { read::file(&file, seed) } else { builtin::scenario(name, seed) };
    Ok((scenario?, from))
}

/// What clients of a drawn scenario do.
fn workload(args: &RunArgs, seed: u64) -> anyhow::Result<Workload> {
    let mut kinds: Vec<Family> = Vec::new();
    let mut nodes = args.nodes;
    let mut named = false;
    for kind in &args.workload {
        let again = match kind {
            Kind::Of(family) => {
                let again = kinds.contains(family);
                kinds.push(*family);
                again
            }
            Kind::Kubernetes => std::mem::replace(&mut named, true),
        };
        anyhow::ensure!(!again, "--workload names one kind twice");
    }
    if named && nodes == 0 {
        nodes = NODES;
    }
    if args.workload.is_empty() {
        kinds = drawn_workload(seed, args.clients);
    } else if kinds.is_empty() {
        // Somebody has to see whether the masters answer at all.
        kinds.push(Family::Register);
    }
    let (clients, count) = (args.clients, kinds.len());
    anyhow::ensure!(count <= clients, "{count} kinds of clients need --clients {count} or more");
    Ok(Workload { kinds, clients, keys: args.keys, nodes })
}

/// Registers, and two other kinds, as far as there are clients for them.
fn drawn_workload(seed: u64, clients: usize) -> Vec<Family> {
    let mut others: Vec<Family> =
        Family::ALL.into_iter().filter(|family| *family != Family::Register).collect();
    others.shuffle(&mut StdRng::seed_from_u64(seed.rotate_left(32)));
    [Family::Register].into_iter().chain(others).take(clients.min(3)).collect()
}

/// Where masters may end that meet a drawn `crash-point`; the calls when nothing can be had: the run tells why.
fn places(args: &RunArgs, faults: &[Fault]) -> anyhow::Result<Vec<Place>> {
    if !faults.contains(&Fault::CrashPoint) {
        return Ok(Vec::new());
    }
    let binary = args.binary.clone().map_or_else(std::env::current_exe, Ok)?;
    let lacks = lacks(&binary, args.older_binary.as_deref());
    let has = |wanted: Need| lacks.iter().all(|(need, _)| *need != wanted);
    let (calls, code) = (has(Need::Shim), has(Need::Points));
    Ok(Place::frequent(calls || !code, code))
}

fn possible(masters: usize, args: &RunArgs, say: fn(&str)) -> anyhow::Result<Vec<Fault>> {
    let binary = args.binary.clone().map_or_else(std::env::current_exe, Ok)?;
    let lacks = lacks(&binary, args.older_binary.as_deref());
    let told = |(need, _): &&(Need, String)| !matches!(need, Need::Disks | Need::Older);
    for (_, why) in lacks.iter().filter(told) {
        say(&format!("{why}; leaving those faults out"));
    }
    // Disks that can be filled are in memory, of one that lies nobody can be saved, one that goes back may be noticed
    // only after a short fault, a run with joins begins with fewer masters, and authorities are changed only while
    // all masters are there, certificates that live for seconds are used in all of a run, and who takes the cluster
    // back ends it: only who asks gets them.
    let has = |wanted: Need| lacks.iter().all(|(need, _)| *need != wanted);
    let can = |fault: &Fault| {
        let never = [
            Fault::DiskFull,
            Fault::DiskInodes,
            Fault::DiskLies,
            Fault::Upgrade,
            Fault::Join,
            Fault::RotateCa,
            Fault::ShortLived,
            Fault::Restore,
            Fault::QuorumLost,
        ];
        !never.contains(fault)
            && (has(fault.need()) || (*fault == Fault::CrashPoint && has(Need::Points)))
    };
    let all = Fault::all().iter().copied();
    Ok(all.filter(|fault| fault.masters_min() <= masters).filter(can).collect())
}

fn masters(text: &str) -> std::result::Result<MastersArg, String> {
    match text.parse::<u8>() {
        Ok(count @ 1..=9) => Ok(MastersArg::Count(count)),
        Ok(count) => Err(format!("{count} is not between 1 and 9")),
        Err(_) => Reach::all(text).map(MastersArg::Reached),
    }
}

fn clients(text: &str) -> std::result::Result<usize, String> {
    between(text, CLIENTS_MAX)
}

fn keys(text: &str) -> std::result::Result<usize, String> {
    between(text, KEYS_MAX)
}

fn nodes(text: &str) -> std::result::Result<usize, String> {
    match text {
        "0" => Ok(0),
        _ => between(text, NODES_MAX),
    }
}

fn between(text: &str, max: usize) -> std::result::Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| format!("not a number between 1 and {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_clients_can_be_asked_for() {
        let all: Vec<Kind> = Kind::value_variants().to_vec();
        assert!(Family::ALL.iter().all(|family| all.contains(&Kind::Of(*family))));
        assert_eq!(all.len(), Family::ALL.len() + 1);
    }

    #[test]
    fn who_asks_twice_ends_the_checks_too() {
        let stop = Stop::default();
        stop.ask();
        assert!(stop.work.is_cancelled() && !stop.checks.is_cancelled());
        stop.ask();
        assert!(stop.checks.is_cancelled());
    }

    #[test]
    fn a_command_can_be_given_to_a_shell() {
        assert_eq!(
            command(7, "--scenario quick", (None, None)),
            "quorate chaos run --scenario quick --seed 7"
        );
        let odd = command(7, "--keys 3", (Some(Path::new("/a b/it's")), None));
        assert_eq!(odd, r"quorate chaos run --keys 3 --seed 7 --binary '/a b/it'\''s'");
    }
}
