//! The bounds of the store's queues and waits.

use std::time::Duration;

/// Changes that one call of [`crate::Watch::next`] gives at most. A watcher that is further behind
/// gets the rest with its next calls; it holds no queue meanwhile.
pub const WATCH_BATCH_CHANGES_MAX: usize = 512;

/// How long a write may wait for its decision when its caller names no deadline (Kubernetes' request
/// timeout for mutating calls is 34 s at most). Then [`crate::Error::Unknown`].
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a consistent read may wait for a leader and for local apply when its caller names no
/// deadline. Then [`crate::Error::Unavailable`].
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a read at a revision that is not reached yet waits (as kube-apiserver's watch cache does).
/// Then [`crate::Error::FutureRevision`].
pub const FUTURE_REVISION_TIMEOUT: Duration = Duration::from_secs(3);

/// Events that wait to be written. One more drops the oldest that waits (and counts it): events are
/// for people, and a flood of them must not cost memory or writes that others need.
pub const RECORDER_PENDING_EVENTS_MAX: usize = 1_000;

/// Events that are written with one proposal.
pub const RECORDER_BATCH_EVENTS_MAX: usize = 100;

/// How long the recorder waits for more before it writes: equal events in between cost one write.
pub const RECORDER_COALESCE: Duration = Duration::from_millis(100);

/// Objects, series and similarities that the recorder remembers, each. The quarter used longest ago
/// is forgotten beyond it; a forgotten series starts a new Event (client-go: 4096).
pub const RECORDER_KEYS_MAX: usize = 4_096;

/// Events about one object by one speaker before it must be slower (client-go's spam filter).
pub const RECORDER_SPAM_BURST: u32 = 25;

/// After the burst, one event in this time is heard.
pub const RECORDER_SPAM_REFILL: Duration = Duration::from_secs(300);

/// Different messages of else equal events in [`RECORDER_SIMILAR_WINDOW`] before they are combined.
pub const RECORDER_SIMILAR_EVENTS_MAX: usize = 10;

/// See [`RECORDER_SIMILAR_EVENTS_MAX`].
pub const RECORDER_SIMILAR_WINDOW: Duration = Duration::from_secs(600);

/// Writers that wait on one master for their turn. The next one gets [`crate::Error::Overloaded`]. Fewer
/// than the answers that a session remembers, so that a session is never full.
pub const QUEUE_WRITES_MAX: usize = 2048;

/// Commands that share one log entry at most; the others go into the next.
pub const BATCH_PROPOSALS_MAX: usize = 256;

/// Bytes of objects in one shared log entry; a single larger command goes alone.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Log entries of one master that are being decided at the same time; writers queue behind them.
pub const BATCHES_IN_FLIGHT_MAX: usize = 4;

/// One attempt to have an entry decided by the leader. After it the same entry is tried again, in
/// its session, until its writers' deadline.
pub const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the leader looks for sessions of masters that are no members any more, and closes them.
/// Until then replicated state keeps up to `SESSION_OUTCOMES_MAX` answers for each.
pub const DEPARTED_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Pause before an entry is tried again when nothing is heard of another leader.
pub const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// What a writer waits beyond its deadline for the task that knows what became of its command; then
/// [`crate::Error::Unknown`], or [`crate::Error::Unavailable`] when it was still in the queue.
pub const ANSWER_MARGIN: Duration = Duration::from_millis(200);

/// Admitting a master, or another change of the masters, may take this long on the leader; then a joiner is told to ask
/// again, and others that the outcome is not known.
pub const MEMBERSHIP_TIMEOUT: Duration = Duration::from_secs(20);

/// Who is asked for a change of the masters while no leader is known waits for one so long; an election takes less.
pub const LEADER_KNOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Masters remember what their state was at each index that is a multiple of this, ...
pub const SAMPLE_EVERY: u64 = 64;

/// ... at the last so many of these. One that is further behind is not compared.
pub const SAMPLES_MAX: usize = 512;

/// A master that has not said by then what its state is, is not compared this time.
pub const HASHES_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a master looks whether its state is what was decided, unless told otherwise.
pub const SCRUB_INTERVAL: Duration = Duration::from_secs(60);

/// Its snapshots are read again each so many times.
pub const SCRUB_FILES_EVERY: u64 = 60;

/// Bytes that are hashed before others have a turn.
pub const SCRUB_BYTES_PER_STEP: usize = 4 * 1024 * 1024;

/// How long they have.
pub const SCRUB_PAUSE: Duration = Duration::from_millis(2);

/// Between two tries to take the state of another master.
pub const HEAL_PAUSE: Duration = Duration::from_secs(1);

/// A master that has not told its alarms by then has none that are known.
pub const ALARMS_TIMEOUT: Duration = Duration::from_secs(1);

/// Who does not answer is asked again after this, for the text of errors; until then the last answer is told.
pub const SILENCE_KEPT: Duration = Duration::from_secs(2);

/// Reads with less time than this are not told who does not answer: asking takes up to a second.
pub const EXPLAINED_DEADLINE_MIN: Duration = Duration::from_secs(8);
