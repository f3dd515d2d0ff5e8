//! `quorate chaos` alone: builds in a fraction of the time of the whole program. `cargo xtask chaos-soak` and
//! `cargo xtask chaos-mutants` run it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::process::ExitCode;

use clap::Parser;
use quorate_chaos::cli::{ChaosArgs, Stop, Voice};

#[derive(Debug, clap::Parser)]
struct Args {
    #[command(flatten)]
    chaos: ChaosArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    let voice =
        Voice { say: |text| eprintln!("{text}"), rewrite: None, print: |text| println!("{text}") };
    let stop = Stop::default();
    let asked = stop.clone();
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            asked.ask();
        }
    });
    match quorate_chaos::cli::main(Args::parse().chaos, voice, stop).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}
