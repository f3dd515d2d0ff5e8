//! Limits of the harness, and what happens at each.

use std::time::Duration;

/// Steps that one key's search for an order may take. Beyond it the verdict is
/// [`Verdict::Undecided`](crate::check::linear::Verdict::Undecided): never "pass".
pub const SEARCH_STEPS_MAX: u64 = 50_000_000;

/// Configurations that one search remembers, so that memory stays bounded (about 100 bytes each).
/// Beyond it the search goes on without remembering new ones: slower, not wrong.
pub const MEMO_MAX: usize = 4_000_000;

/// Until a connection to a master stands. Beyond it the client goes to another master.
pub const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Until a call is answered. Beyond it the outcome is unknown.
pub const CALL_MAX: Duration = Duration::from_secs(10);

/// Largest answer that is read. A larger one ends the connection: the outcome is unknown.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Until a started or restarted master is ready. Beyond it the run fails.
pub const READY_MAX: Duration = Duration::from_secs(60);

/// After all faults are gone: until every master answers reads and writes. Beyond it the run fails.
pub const HEALED_MAX: Duration = Duration::from_secs(30);

/// After the last write: until every watcher has seen it. Beyond it the run fails.
pub const CAUGHT_UP_MAX: Duration = Duration::from_secs(30);

/// Until every client has ended the operation that it was at when it was told to stop: a connection,
/// a read and an update. Beyond it the run fails.
pub const FINISHED_MAX: Duration = Duration::from_secs(30);

/// Quiet time between two watch events or bookmarks of a living master. Beyond it the watcher connects again.
pub const WATCH_QUIET_MAX: Duration = Duration::from_secs(90);

/// Operations of a run that must have an answer for a verdict: with fewer it is unknown.
pub const ANSWERED_MIN: usize = 100;

/// Broken promises that a report names, of each check.
pub const NAMED_MAX: usize = 10;
