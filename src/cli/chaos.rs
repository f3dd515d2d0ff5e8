//! `quorate chaos`.

use std::process::ExitCode;

use quorate_chaos::cli::{ChaosArgs, Voice};

use crate::progress;
use crate::stop;

/// A run that could not be carried out says nothing of the cluster: the same code as "unknown".
const UNKNOWN: u8 = 2;

/// Ends with what the verdict stands for: 0 pass, 1 fail, 2 unknown.
pub fn run(args: ChaosArgs) -> ExitCode {
    let result = super::block_on(async {
        // From here on a signal ends the faults, not the process: they are taken back, and what there is is checked.
        let stop = quorate_chaos::cli::Stop::default();
        let asked = stop.clone();
        stop::listen_patiently(move || asked.ask())?;
        let rewrite = progress::can_rewrite().then_some(progress::rewrite as fn(&str));
        let voice = Voice { say: progress::tell, rewrite, print: progress::say };
        quorate_chaos::cli::main(args, voice, stop).await
    });
    ExitCode::from(result.unwrap_or_else(|error| {
        progress::complain(&error);
        UNKNOWN
    }))
}
