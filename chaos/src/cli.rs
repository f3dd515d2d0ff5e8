//! The command line of `quorate chaos`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use crate::real::nemesis::Fault;
use crate::real::{Options, run};
use crate::report::Result;

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
    Run(RunArgs),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// How many masters
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    masters: u8,
    /// How long faults are injected, in seconds; longer until each kind had its turn
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    duration: u64,
    /// Chooses the faults and what clients do [default: a random one, printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Kinds of faults, comma-separated [default: all that this machine allows]
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// Clients, each with one operation at a time
    #[arg(long, default_value_t = 9)]
    clients: usize,
    /// Objects that they share
    #[arg(long, default_value_t = 6)]
    keys: usize,
    /// Program whose processes are the masters [default: this one]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Directory for data, logs and report; must not exist [default: quorate-chaos-SEED]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(short, long)]
    output: Option<Output>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Output {
    /// For programs
    Json,
}

/// Runs it; what the process is to end with.
///
/// # Errors
/// When the run could not be carried out.
pub async fn main(args: ChaosArgs, say: fn(&str), print: fn(&str)) -> anyhow::Result<u8> {
    let Command::Run(args) = args.command;
    let seed = args.seed.unwrap_or_else(rand::random);
    let faults = if args.faults.is_empty() { possible(say) } else { args.faults };
    let options = Options {
        binary: args.binary.map_or_else(std::env::current_exe, Ok)?,
        directory: args.directory.unwrap_or_else(|| format!("quorate-chaos-{seed}").into()),
        masters: args.masters.into(),
        duration: Duration::from_secs(args.duration),
        seed,
        faults,
        clients: args.clients,
        keys: args.keys,
        say,
    };
    say(&format!("seed {seed}; everything is in {}", options.directory.display()));
    let report = run(&options).await?;
    let file = options.directory.join("report.json");
    let json = serde_json::to_string_pretty(&report)?;
    std::fs::write(&file, &json).with_context(|| format!("cannot write {}", file.display()))?;
    match args.output {
        Some(Output::Json) => print(&json),
        None => print(&report.text()),
    }
    if report.result != Result::Pass {
        say(&format!("logs and report: {}", options.directory.display()));
    }
    Ok(report.result.exit_code())
}

fn possible(say: fn(&str)) -> Vec<Fault> {
    let network = crate::real::network::Network::possible();
    if let Err(why) = &network {
        say(&format!("{why}; leaving those out"));
    }
    Fault::ALL.into_iter().filter(|fault| network.is_ok() || !fault.needs_network()).collect()
}
