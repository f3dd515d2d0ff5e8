//! `quorate chaos run --kubeconfig`: a cluster that is already there.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{bail, ensure};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{MastersArg, RunArgs, Stop, Voice, conclude, quoted, scenario, stop_file};
use crate::real::existing::reach::Reach;
use crate::real::existing::{Existing, HARMLESS, KINDS, Place, Restart, plan, why_not};
use crate::real::{Options, kube};
use crate::scenario::Fault;

/// What is asked about a cluster that is already there.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Clusters that are already there")]
pub(super) struct ExistingArgs {
    /// Use this cluster, with an administrator's credentials; --masters says how its machines are reached
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Print what would be done, by which commands, and do nothing
    #[arg(long, requires = "kubeconfig")]
    dry_run: bool,
    /// Kinds of faults that may be done, comma-separated [default: pause]
    #[arg(long, value_enum, value_delimiter = ',', requires = "kubeconfig", value_name = "KIND,…")]
    #[arg(hide_possible_values = true)]
    allow: Vec<Fault>,
    /// Let faults disturb so many masters at once that the cluster cannot serve
    #[arg(long, requires = "kubeconfig")]
    beyond_quorum: bool,
    /// Do not ask whether this is meant
    #[arg(long, requires = "kubeconfig")]
    yes: bool,
    /// The masters' systemd unit [default: found out]
    #[arg(long, requires = "kubeconfig")]
    unit: Option<String>,
    /// Somebody else starts again what ended, such as a container's restart policy
    #[arg(long, requires = "kubeconfig", conflicts_with = "unit")]
    supervised: bool,
    /// Image of the pods, with a workload that has Deployments: what it begins with by itself has to go on
    #[arg(long, requires = "kubeconfig", default_value = IMAGE)]
    image: String,
}

impl Default for ExistingArgs {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            dry_run: false,
            allow: Vec::new(),
            beyond_quorum: false,
            yes: false,
            unit: None,
            supervised: false,
            image: IMAGE.to_owned(),
        }
    }
}

/// What runs everywhere, needs nothing, and is there on most nodes already.
const IMAGE: &str = "registry.k8s.io/pause:3.10";

/// Runs faults on a cluster that is there, or says what it would do.
pub(super) async fn run(mut args: RunArgs, voice: Voice, stop: &Stop) -> anyhow::Result<u8> {
    let existing = args.existing.clone();
    let Some(kubeconfig) = existing.kubeconfig.clone() else { bail!("no --kubeconfig") };
    let reaches = reaches(&args)?;
    let allow = match existing.allow.as_slice() {
        [] => HARMLESS.to_vec(),
        some => some.to_vec(),
    };
    if let Some(fault) = allow.iter().find(|fault| !KINDS.contains(fault)) {
        bail!("{fault} cannot be done to a cluster that is already there: {}", why_not(*fault));
    }
    let restart = Restart { unit: existing.unit.clone(), supervised: existing.supervised };
    let place = Place { kubeconfig, reaches, restart };
    let name = format!("{:016x}", rand::random::<u64>());
    let found = Existing::find(&place, &name).await?;

    let drawn = args.seed.unwrap_or_else(rand::random);
    let count = found.masters();
    args.masters = Some(MastersArg::Count(u8::try_from(count)?));
    if args.faults.is_empty() {
        let lacks = found.lacks();
        let can = |fault: &Fault| {
            let kept = existing.beyond_quorum || leaves_majority(*fault, count);
            fault.masters_min() <= count
                && kept
                && !lacks.iter().any(|(need, _)| *need == fault.need())
        };
        args.faults = allow.iter().copied().filter(can).collect();
        ensure!(
            args.scenario.is_some() || args.quick || !args.faults.is_empty(),
            "nothing that is allowed can be done to {count} masters without --beyond-quorum"
        );
    }
    let (scenario, from) = scenario(&args, drawn, voice.say)?;
    plan::allowed(&scenario, &allow, (count, existing.beyond_quorum))?;
    let kube = match scenario.workload.nodes {
        0 => None,
        _ => Some(found.deployments(&existing.image).await?),
    };
    let seed = args.seed.or(scenario.seed).unwrap_or(drawn);
    let options = Options {
        command: command(&place, &existing, &allow, (seed, &from)),
        older: None,
        binary: std::env::current_exe()?,
        directory: args.directory.unwrap_or_else(|| format!("quorate-chaos-{seed}").into()),
        scenario,
        seed,
        names: found.names(),
        beyond_quorum: existing.beyond_quorum,
        say: voice.say,
        rewrite: voice.rewrite,
    };
    if existing.dry_run {
        (voice.print)(&found.plan(&options, kube.as_deref()).await);
        return Ok(0);
    }
    if !existing.yes {
        confirm((&found, kube.as_deref()), &options, voice, &stop.work).await?;
    }
    let stop = stop.with_work(stop_file(args.stop_file.as_deref(), &stop.work)?);
    let (name, directory) = (&options.scenario.name, &options.directory);
    (voice.say)(&format!("scenario {name}, seed {seed}; everything is in {}", directory.display()));
    let evidence = Box::pin(found.run(&options, kube, &stop.work)).await?;
    let report = conclude(&options, &evidence, (args.output, voice), &stop)?;
    Ok(report.result.exit_code())
}

/// The way to each master; refuses what is only for masters that a run starts itself.
fn reaches(args: &RunArgs) -> anyhow::Result<Vec<Reach>> {
    let Some(MastersArg::Reached(reaches)) = args.masters.clone() else {
        bail!(
            "--kubeconfig needs --masters with the way to each master's machine, in the order of their names: \
             ssh://[USER@]HOST or exec:COMMAND, comma-separated"
        )
    };
    ensure!(args.minimise.is_none(), "--minimise is for masters that the run starts itself");
    ensure!(
        args.nodes == 0,
        "--nodes is for masters that the run starts itself; --workload kubernetes uses the cluster's own nodes"
    );
    Ok(reaches)
}

/// Whether a majority of `count` masters is undisturbed by it, when it meets one.
fn leaves_majority(fault: Fault, count: usize) -> bool {
    use rand::SeedableRng as _;
    let random = &mut rand::rngs::StdRng::seed_from_u64(0);
    let targets = [0].into();
    let lasts = crate::scenario::Span(1000);
    let phases =
        fault.phases((&targets, count), lasts, &crate::scenario::Parameters::default(), random);
    phases.iter().all(|phase| phase.effect.leaves_majority(count))
}

/// Asks whether this is meant.
async fn confirm(
    (found, kube): (&Existing, Option<&kube::Shared>),
    options: &Options,
    voice: Voice,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    ensure!(
        std::io::stdin().is_terminal(),
        "this harms a cluster that is in use: --yes says that it is meant (--dry-run shows what would be done)"
    );
    let scenario = &options.scenario;
    if let Some(kube) = kube {
        (voice.say)(&plan::words(kube));
    }
    (voice.say)(&format!(
        "{} faults in {} on these masters:\n{}\nEverything is taken back after each. Type yes to begin:",
        scenario.schedule.len(),
        scenario.lasts(),
        found.words()
    ));
    let (answer, answered) = oneshot::channel();
    // Nothing else can end a read of a terminal: the thread ends with the process.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        drop(answer.send(read.map(|_| line)));
    });
    let line = tokio::select! {
        line = answered => line??,
        () = stop.cancelled() => bail!("stopped before anything was done"),
    };
    ensure!(line.trim() == "yes", "nothing was done");
    Ok(())
}

/// The command that does the same again.
fn command(
    place: &Place,
    args: &ExistingArgs,
    allow: &[Fault],
    (seed, from): (u64, &str),
) -> String {
    let ways: Vec<String> = place.reaches.iter().map(ToString::to_string).collect();
    let allow: Vec<String> = allow.iter().map(ToString::to_string).collect();
    // The number of masters is that of the ways.
    let from: Vec<&str> = from.split(' ').collect();
    let from = match from.as_slice() {
        ["--masters", _, rest @ ..] => rest.join(" "),
        other => other.join(" "),
    };
    let mut command = format!(
        "quorate chaos run --kubeconfig {} --masters {} --allow {} {from} --seed {seed}",
        quoted(&place.kubeconfig.to_string_lossy()),
        quoted(&ways.join(",")),
        allow.join(",")
    );
    if args.beyond_quorum {
        command.push_str(" --beyond-quorum");
    }
    if let Some(unit) = &args.unit {
        command.push_str(&format!(" --unit {}", quoted(unit)));
    }
    if args.image != IMAGE {
        command.push_str(&format!(" --image {}", quoted(&args.image)));
    }
    if args.supervised {
        command.push_str(" --supervised");
    }
    command
}

/// Between two looks for a file.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Whether the file that is to stop a run is there already.
pub(super) fn refuse_stopped(file: &Path) -> anyhow::Result<()> {
    ensure!(!file.exists(), "{} is there already: nothing was begun", file.display());
    Ok(())
}
