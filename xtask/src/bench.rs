//! `cargo xtask bench`: starts one master and three masters as real processes, drives them over
//! HTTPS and prints one table beside the figures of a kube-apiserver with etcd.
//!
//! Start reading at [`run`]. `cluster` holds the processes, `client` and `load` the generator,
//! `scenario` what is measured, `pods` the part with simulated nodes, `report` the table.

mod client;
mod cluster;
pub(crate) mod failover;
mod limits;
mod load;
mod pods;
mod report;
pub(crate) mod restore;
mod scenario;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use cluster::Cluster;
use report::Report;
use scenario::Bench;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The binary to measure [default: a release build of this workspace]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Small numbers, to see that everything works; the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Only these, comma-separated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<Name>,
    /// Only a cluster of this many masters: 1 or 3 [default: both]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=7))]
    masters: Option<u8>,
    /// How often everything is measured, each time from fresh directories; medians are shown
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=50))]
    runs: u8,
    /// Where the masters' directories go: on the disk that is to be measured [default: target]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Name {
    /// Start on a fresh and on an existing directory
    Start,
    /// Creates at 1 and at 64 in flight
    Create,
    /// Updates with a resourceVersion
    Update,
    /// Consistent gets
    Get,
    /// LIST of 10,000 objects
    List,
    /// Watch delivery with 100 watchers
    Watch,
    /// Pods bound with 500 simulated nodes
    Pods,
    /// A Deployment of 2,000 replicas
    Deployment,
}

const ALL: [Name; 8] = [
    Name::Start,
    Name::Create,
    Name::Update,
    Name::Get,
    Name::List,
    Name::Watch,
    Name::Pods,
    Name::Deployment,
];

/// Measures and prints; fails when a row could not be measured.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let binary = match &args.binary {
        Some(binary) => binary.canonicalize().with_context(|| binary.display().to_string())?,
        None => build()?,
    };
    let clusters = args.masters.map_or_else(|| vec![1, 3], |masters| vec![usize::from(masters)]);
    let runtime = tokio::runtime::Runtime::new()?;
    let mut report = Report::default();
    let interrupted = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = measure(args, &binary, &clusters, &mut report) => outcome.map(|()| false),
            _ = tokio::signal::ctrl_c() => Ok(true),
            _ = terminate.recv() => Ok(true),
        }
    });
    // Dropping what was being measured has killed the masters.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if interrupted? {
        bail!("interrupted");
    }
    match args.output {
        Output::Json => print(&serde_json::to_string_pretty(&report.json(&clusters))?),
        Output::Table => {
            print(&report.table(&clusters));
            if args.quick {
                print("\n--quick: far smaller numbers than the rows say; no comparison");
            }
        }
    }
    if !report.failures().is_empty() {
        bail!("could not be measured:\n{}", report.failures().join("\n"));
    }
    Ok(())
}

async fn measure(
    args: &Args,
    binary: &std::path::Path,
    clusters: &[usize],
    report: &mut Report,
) -> anyhow::Result<()> {
    let directory = args.directory.clone().unwrap_or_else(|| crate::ci::root().join("target"));
    std::fs::create_dir_all(&directory)?;
    let wanted = if args.only.is_empty() { ALL.to_vec() } else { args.only.clone() };
    for run in 1..=args.runs {
        for masters in clusters {
            say(&format!("=== run {run} of {}, masters: {masters}", args.runs));
            let temporary = tempfile::Builder::new().prefix("bench-").tempdir_in(&directory)?;
            let cluster = Cluster::start(binary, *masters, temporary).await?;
            let bench = Bench::new(cluster, args.quick);
            let outcome = tokio::time::timeout(limits::CLUSTER_MAX, bench.run(&wanted)).await;
            let (figures, failures) =
                outcome.with_context(|| format!("not done after {:?}", limits::CLUSTER_MAX))??;
            report.add(*masters, figures);
            for failure in failures {
                report.fail(format!("run {run}, masters: {masters}: {failure}"));
            }
        }
    }
    Ok(())
}

/// The release binary of this workspace.
fn build() -> anyhow::Result<PathBuf> {
    let root = crate::ci::root();
    say("building the release binary");
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(["build", "--release", "--package", "quorate", "--bin", "quorate"])
        .current_dir(&root)
        .status()?;
    if !status.success() {
        bail!("the release build failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    Ok(target.unwrap_or_else(|| root.join("target")).join("release/quorate"))
}

/// Progress goes to standard error: standard output is the table's.
#[allow(clippy::print_stderr, reason = "a contributor's tool")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[allow(clippy::print_stdout, reason = "a contributor's tool")]
fn print(text: &str) {
    println!("{}", text.trim_end());
}
