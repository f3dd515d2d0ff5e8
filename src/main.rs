//! The binary: command line, configuration, composition, leadership. Behaviour lives in the crates.
//!
//! Start reading at [`cli`] (what can be asked for), then [`master`] (how a master is put together)
//! and [`leadership`] (what runs only on the leader, in order).

#![allow(
    unreachable_pub,
    reason = "in a binary everything is private; `pub` says what other modules use"
)]

use std::process::ExitCode;

mod cli;
mod client;
mod config;
mod data_dir;
mod dialer;
mod join;
mod kubeconfig;
mod leadership;
mod logging;
mod master;
mod metrics;
mod node;
mod progress;
mod settings;
mod status;
mod stop;
mod tls;
mod tokens;

fn main() -> ExitCode {
    cli::run()
}
