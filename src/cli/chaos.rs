//! `quorate chaos`.

use std::process::ExitCode;

use anyhow::bail;

use crate::progress;
use crate::stop::Stop;

/// A run that could not be carried out says nothing of the cluster: the same code as "unknown".
const UNKNOWN: u8 = 2;

/// Ends with what the verdict stands for: 0 pass, 1 fail, 2 unknown.
pub fn run(args: quorate_chaos::cli::ChaosArgs) -> ExitCode {
    let result = super::block_on(async {
        let stop = Stop::listen_patiently()?;
        // Whichever ends first, what the run started and cut goes with its future. The signals come first: from then
        // on they no longer end the process.
        tokio::select! {
            biased;
            () = stop.requested() => bail!("stopped: masters and faults are gone, nothing was checked"),
            result = quorate_chaos::cli::main(args, progress::tell, progress::say) => result,
        }
    });
    ExitCode::from(result.unwrap_or_else(|error| {
        progress::complain(&error);
        UNKNOWN
    }))
}
