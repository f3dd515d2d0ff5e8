//! Every bound of this crate: what it limits and what happens when it is reached.

use std::time::Duration;

/// Bytes of one proposal. Above it `propose` answers `TooLarge` and nothing was proposed.
pub const PROPOSAL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Proposals that wait for their outcome on this master. Above it `propose` answers `Overloaded`.
pub const PROPOSALS_IN_FLIGHT_MAX: usize = 8 * 1024;
/// Bytes of the proposals that wait for their outcome. Above it `propose` answers `Overloaded`.
pub const PROPOSAL_BYTES_IN_FLIGHT_MAX: usize = 128 * 1024 * 1024;
/// Linearizable reads that wait for the next round. Above it `read_index` answers `Overloaded`.
pub const READS_WAITING_MAX: usize = 16 * 1024;
/// Entries handed to the state machine at once. More wait for the next batch.
pub const APPLY_BATCH_MAX: usize = 256;
/// Commands waiting for the log thread. When full, Raft waits (and with it the writers).
pub const LOG_QUEUE_MAX: usize = 1024;
/// Bytes written by one group commit (one sync). What is more waits for the next one.
pub const GROUP_COMMIT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Commands in one group commit.
pub const GROUP_COMMIT_COMMANDS_MAX: usize = 1024;
/// Bytes of log entries kept in memory for replication and apply. Older synced entries are read
/// back from disk: a follower that lags by more costs the leader reads, not memory.
pub const LOG_TAIL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of log entries read or replicated at once (one entry at least, however large).
pub const LOG_READ_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Entries replicated at once.
pub const APPEND_ENTRIES_MAX: u64 = 1024;
/// Bytes of one record in the engine, its header included. Larger entries are cut into several
/// records: sled puts a leaf of 16 items over a quarter of a segment into a blob file, which it
/// never syncs.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
/// Cache of the engine, bytes as serialised (in memory they take about twice as much). Small: only the
/// end of the log is written and its begin purged; what is read back comes from the system's cache.
pub const ENGINE_CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Segment of the engine, bytes.
pub const ENGINE_SEGMENT_BYTES: usize = 8 * 1024 * 1024;
/// How often, and how far apart, the engine is opened again while an earlier one of this process holds its
/// lock: five seconds in all, then the start fails.
pub const ENGINE_LOCK_TRIES: u32 = 250;
/// See [`ENGINE_LOCK_TRIES`].
pub const ENGINE_LOCK_PAUSE: Duration = Duration::from_millis(20);
/// What looks damaged in the engine's files is looked at so many times more: they are being written.
pub const EXAMINE_TRIES: u32 = 5;
/// ... and so far apart.
pub const EXAMINE_PAUSE: Duration = Duration::from_millis(200);
/// Purged records removed from the engine in one step, or twice what a group commit adds.
pub const PURGE_STEP_RECORDS: usize = 512;
/// Syncs whose duration is remembered for the percentile in the status.
pub const SYNC_SAMPLES: usize = 512;
/// A group commit that takes longer is slow: ten times what a disk for a log should take.
pub const SLOW_DISK_SYNC: Duration = Duration::from_millis(100);
/// The disk is slow when more than half of the group commits of so long were, ...
pub const SLOW_DISK_WINDOW: Duration = Duration::from_secs(10);
/// ... and so many at least, ...
pub const SLOW_DISK_SYNCS_MIN: usize = 4;
/// ... or when one has not come to its end for so long.
pub const SLOW_DISK_STUCK: Duration = Duration::from_secs(2);
/// Snapshot files kept. The log reaches back to the oldest of them.
pub const SNAPSHOTS_KEPT: usize = 2;
/// A snapshot is taken when the log is larger than this and than the state. On disk a log takes about
/// three times its size (garbage of the engine), so this decides what a small cluster takes in all.
pub const SNAPSHOT_LOG_BYTES_MIN: u64 = 32 * 1024 * 1024;
/// So long a snapshot waits for a damaged state to be healed, before it is tried again of what is there.
pub const SNAPSHOT_DAMAGE_PAUSE: Duration = Duration::from_secs(10);
/// A snapshot whose state was found damaged, or was replaced, while it was written is made again of the next one; so
/// often in all, then this master ends, and starts from what its disk has.
pub const SNAPSHOT_TRIES_MAX: u32 = 10;
/// How often the snapshot rule is looked at.
pub const SNAPSHOT_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes of a snapshot in one message to a follower.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;
/// A snapshot whose receiver takes no chunk for so long is given up (and resumed later).
pub const SNAPSHOT_STALL_MAX: Duration = Duration::from_secs(10);
/// The receiver's time to check and install a complete snapshot.
pub const SNAPSHOT_INSTALL_MAX: Duration = Duration::from_secs(600);
/// Entries whose records are read again at once; writers wait so long.
pub const LOG_CHECK_ENTRIES: u64 = 256;
/// Between two such steps.
pub const LOG_CHECK_PAUSE: Duration = Duration::from_millis(10);
/// One who asks for a state of some index waits so long for this master to reach it.
pub const FETCH_APPLIED_MAX: Duration = Duration::from_secs(5);
/// ... and then so long for a snapshot to be made.
pub const FETCH_SNAPSHOT_MAX: Duration = Duration::from_secs(300);
/// How often it is looked whether it is made.
pub const FETCH_SNAPSHOT_POLL: Duration = Duration::from_millis(100);
/// A master whose state is damaged asks the others for so long; then it stops.
pub const HEAL_MAX: Duration = Duration::from_secs(600);
/// Bytes of a message between masters. Larger ones are refused by the receiver.
pub const PEER_MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of the body of one `call`. Above it `call` answers `TooLarge`.
pub const CALL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Calls that this master serves for each peer connection at the same time. More wait in HTTP/2.
pub const PEER_STREAMS_MAX: u32 = 1024;
/// Peer connections accepted and not yet through the TLS handshake. More wait in the backlog.
pub const PEER_HANDSHAKES_MAX: usize = 64;
/// Time for TCP connect and for the TLS handshake with a peer.
pub const PEER_CONNECT_MAX: Duration = Duration::from_millis(1000);
/// An idle peer connection is probed this often.
pub const PEER_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// A probed peer connection that stays silent so long is closed.
pub const PEER_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What was sent to another master and is not acknowledged by its host for so long is not sent again, and the
/// connection ends (`TCP_USER_TIMEOUT`): a proposal on its way through a cut network must not arrive when nobody waits
/// for it any more.
pub const PEER_UNACKED_MAX: Duration = Duration::from_secs(5);
/// First and largest wait before a failing peer is tried again.
pub const PEER_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(500));
/// A learner is caught up when it lacks at most this many entries...
pub const PROMOTE_LAG_MAX: u64 = 256;
/// ... for so long.
pub const PROMOTE_STABLE: Duration = Duration::from_millis(500);
/// How long a promotion waits for its learner to catch up. Then it is refused.
pub const PROMOTE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Entries the target of a leadership transfer may lack when it starts.
pub const TRANSFER_LAG_MAX: u64 = 256;
/// How long a transfer waits for a new leader before it reports failure.
pub const TRANSFER_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long one change of the membership may take.
pub const MEMBERSHIP_CHANGE_MAX: Duration = Duration::from_secs(30);
/// How long a change of the members waits for another one that is under way. Then it is refused, and not done later.
pub const MEMBERSHIP_TURN_MAX: Duration = Duration::from_secs(2);
/// Before a master is removed the others are asked whether they are there; one that has not answered by then is not.
pub const MEMBER_ANSWER_MAX: Duration = Duration::from_secs(1);
/// How long a change waits for a leader that was elected just now to apply its first entry, and to hear how far the
/// others are.
pub const LEADER_READY_MAX: Duration = Duration::from_secs(2);
/// How often the leader looks for a half-done membership change, and a master without a leader asks whether it was
/// removed.
pub const MEMBERSHIP_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Masters of one cluster, learners included. Above it `add_learner` is refused.
pub const MEMBERS_MAX: usize = 15;
/// How long a stopping leader waits for another to take over.
pub const SHUTDOWN_TRANSFER_MAX: Duration = Duration::from_secs(2);
/// How long stopping may take in all before threads are left behind.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(10);
/// Pause between two tries of a read that found no leader.
pub const READ_RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Longest single round of a read; within the deadline a new round follows.
pub const READ_ROUND_MAX: Duration = Duration::from_millis(1000);
/// How often the free space of the disk is measured.
pub const DISK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Watermark that masters are run with: with fewer free bytes growing proposals are refused. More than
/// what can be on its way when it is reached, garbage of the engine included.
pub const DISK_FREE_BYTES_MIN: u64 = 128 * 1024 * 1024;
/// What the state of a master may take, unless told otherwise. Each master keeps it in memory.
pub const STATE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// Ballast that masters are run with.
pub const BALLAST_BYTES: u64 = 32 * 1024 * 1024;
/// With fewer free bytes the ballast is given back.
pub const BALLAST_RELEASE_BYTES: u64 = 64 * 1024 * 1024;
/// With fewer free bytes nothing is proposed any more, no entry is taken from a leader and no snapshot
/// is made or taken. All goes on when there is room again.
pub const DISK_FLOOR_BYTES: u64 = 32 * 1024 * 1024;
/// With fewer free bytes the process stops instead of writing to the log (a few small entries of
/// Raft's own may still come below the floor): a write that fails inside the engine poisons it.
/// More than one segment of the engine.
pub const DISK_STOP_BYTES: u64 = 12 * 1024 * 1024;
/// A follower that has not answered log entries for so long is asked again. Generous: its disk may
/// be slow; that it is alive say the heartbeats.
pub const APPEND_ANSWER_MAX: Duration = Duration::from_secs(5);
/// Time to ask the other voters how far they are when the leader's connection broke.
pub const PROBE_MAX: Duration = Duration::from_millis(80);
/// A follower to which no leader speaks stands for election early this seldom at most; Raft's own timer goes on.
pub const SILENCE_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Threads of the runtime that Raft has for itself.
pub const RUNTIME_THREADS: usize = 2;

/// Starts of one master that are remembered, with how far its log was then. Those with the most are kept.
pub const HEARD_STARTS_MAX: usize = 4;

/// Masters of which that is remembered. Others are not checked.
pub const HEARD_NODES_MAX: usize = 64;

/// Of the file with that. More is not written.
pub const HEARD_BYTES_MAX: usize = 32 * 1024;

/// How often that file is written.
pub const HEARD_KEPT_EVERY: Duration = Duration::from_secs(1);

/// A cluster that is made of another's state begins at this log entry or later: so far no other has come, so that no
/// master's number is one of the other's.
pub const SEED_INDEX_MIN: u64 = 1_000_000_000;
