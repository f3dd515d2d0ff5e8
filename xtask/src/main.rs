//! Everything a contributor runs, as `cargo xtask COMMAND`.

mod bench;
mod chaos;
mod ci;
mod codegen;
mod coverage;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "xtask", about = "Everything a contributor runs")]
enum Command {
    /// Prints what is there for each kind that is served
    ApiCoverage(coverage::Args),
    /// Formatting, tidiness, lints and all tests; installs what the tests need
    Ci(ci::Args),
    /// Measures one and three masters and prints a table beside kube-apiserver's figures
    Bench(bench::Args),
    /// Measures how long writes and controllers stand still when a leader dies, hangs, stops or hands over
    BenchFailover(bench::failover::Args),
    /// Measures how long a backup of 1 GB takes to be checked and restored
    BenchRestore(bench::restore::Args),
    /// Simulates clusters under faults for hours, from where the last soak stopped, and keeps what fails
    ChaosSoak(chaos::SoakArgs),
    /// Simulates clusters with bugs on purpose, each of which must be found
    ChaosMutants(chaos::MutantsArgs),
    /// Lets three masters become five and three again under load, 20 times, and looks for what was lost
    MastersWalk(chaos::WalkArgs),
    /// Regenerates the checked-in schema tables from api/schema
    Codegen(codegen::Args),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::ApiCoverage(args) => coverage::run(&args),
        Command::Ci(args) => ci::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::BenchFailover(args) => bench::failover::run(&args),
        Command::BenchRestore(args) => bench::restore::run(&args),
        Command::ChaosSoak(args) => chaos::soak(&args),
        Command::ChaosMutants(args) => chaos::mutants(&args),
        Command::MastersWalk(args) => chaos::walk(&args),
        Command::Codegen(args) => codegen::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "a contributor's tool")]
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
