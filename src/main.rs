//! The binary: command line, configuration, composition, leadership. Behaviour lives in the crates.
//!
//! Start reading at [`cli`] (what can be asked for), then [`master`] (how a master is put together)
//! and [`leadership`] (what runs only on the leader, in order).

#![allow(
    unreachable_pub,
    reason = "in a binary everything is private; `pub` says what other modules use"
)]

use std::process::ExitCode;

mod backup;
mod certs;
mod cli;
mod client;
mod config;
mod data_dir;
mod dialer;
mod join;
mod kubeconfig;
mod limits;
mod logging;
mod master;
mod masters;
mod metrics;
mod node;
mod node_renewal;
mod open_files;
mod preflight;
mod progress;
mod proxy;
mod reach;
mod restart;
mod settings;
mod status;
mod stop;
mod tls;
mod tokens;
mod vip;

fn main() -> ExitCode {
    quorate_points::obey();
    quiet_when_the_log_opens();
    cli::run()
}

/// sled panics on some damage. While the log is opened that is caught and becomes one line that
/// names the directory; the panic's own text would only hide it.
fn quiet_when_the_log_opens() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(quorate_raft::OPENER_THREAD) {
            print(panic);
        }
    }));
}
