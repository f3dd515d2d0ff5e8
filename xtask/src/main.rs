//! Everything a contributor runs, as `cargo xtask COMMAND`.

mod bench;
mod ci;
mod codegen;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "xtask", about = "Everything a contributor runs")]
enum Command {
    /// Formatting, tidiness, lints and all tests; installs what the tests need
    Ci(ci::Args),
    /// Measures one and three masters and prints a table beside kube-apiserver's figures
    Bench(bench::Args),
    /// Regenerates the checked-in schema tables from api/schema
    Codegen(codegen::Args),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Ci(args) => ci::run(&args),
        Command::Bench(args) => bench::run(&args),
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
