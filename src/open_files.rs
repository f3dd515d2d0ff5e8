//! How many files this process may have open: as many as the machine's administrator allows, not the
//! low number that shells begin with for the sake of old programs. Each connection is one, and the log
//! must never run out of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Fewer than this are worth a word: thousands of watches and nodes do not fit.
const ENOUGH: u64 = 4096;

/// Raises the soft limit to the hard one. Programs that this process starts inherit it.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, ?current, "the limit of open files cannot be raised");
        return;
    }
    if maximum.is_some_and(|maximum| maximum < ENOUGH) {
        tracing::warn!(
            maximum,
            "few files may be open at a time: connections may be refused. Raise the limit (ulimit -Hn)"
        );
    }
}
