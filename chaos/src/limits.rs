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

/// After the clients have ended: until all masters know the same members and leader. Beyond it the run fails.
pub const UNIFORM_MAX: Duration = Duration::from_secs(20);

/// After the faults: until Deployments, pods, endpoints, containers and nodes are as they are to be. Beyond it the run
/// fails. A pod that was being pulled or started may wait for a back-off of up to 40 s by then.
pub const CONVERGED_MAX: Duration = Duration::from_secs(90);

/// Size of each node agent's disk: a tmpfs, so what is used of it is memory.
pub const NODE_DISK_BYTES: u64 = 512 << 20;

/// Node agents of a run. A scenario with more is refused.
pub const NODES_MAX: usize = 5;

/// After the masters were ended: until nothing of the run is left on the host. Beyond it the run fails.
pub const LEFT_MAX: Duration = Duration::from_secs(10);

/// After the last write: until every watcher has seen it. Beyond it the run fails.
pub const CAUGHT_UP_MAX: Duration = Duration::from_secs(30);

/// Until every client has ended the operation that it was at when it was told to stop: a connection,
/// a read and an update. Beyond it the run fails.
pub const FINISHED_MAX: Duration = Duration::from_secs(30);

/// Quiet time between two watch events or bookmarks of a living master. Beyond it the watcher connects again.
pub const WATCH_QUIET_MAX: Duration = Duration::from_secs(90);

/// Operations of a run that must have an answer for a verdict: with fewer it is unknown.
pub const ANSWERED_MIN: usize = 100;

/// Operations of each kind of clients that must have an answer for a verdict: with fewer it is unknown.
pub const FAMILY_ANSWERED_MIN: usize = 20;

/// Broken promises that a report names, of each check.
pub const NAMED_MAX: usize = 10;

/// Masters of a run: their number fits into the addresses of its network.
pub const MASTERS_MAX: usize = 9;

/// Clients of a run. A scenario with more is refused.
pub const CLIENTS_MAX: usize = 1000;

/// Objects of a run. A scenario with more is refused.
pub const KEYS_MAX: usize = 10_000;

/// Faults of a scenario. One with more is refused.
pub const STEPS_MAX: usize = 10_000;

/// Largest scenario file that is read. A larger one is refused.
pub const SCENARIO_BYTES_MAX: u64 = 4 << 20;

/// Until the host shows a fault, or that it is gone. Beyond it, it did not happen; or the run fails.
pub const SHOWN_MAX: Duration = Duration::from_secs(5);

/// Until a master has said who leads. Beyond it another is asked.
pub const LEADER_MAX: Duration = Duration::from_secs(1);

/// Operations that the window around a violation may have. Without one so small, all that was under way at the same
/// time is shown, and said to be that.
pub const WINDOW_OPERATIONS_MAX: usize = 120;

/// Steps that each try to make that window smaller may take. Beyond it, as above.
pub const WINDOW_STEPS_MAX: u64 = 200_000;

/// Operations that one run records (about 200 bytes each in memory, 80 in `report.json`). There the faults end early,
/// and the verdict is unknown.
pub const OPERATIONS_MAX: usize = 4_000_000;

/// Largest `report.json` that is read. A larger one is refused.
pub const REPORT_BYTES_MAX: u64 = 2 << 30;

/// Between two looks at each master's state.
pub const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// States of masters that are kept to be compared with those of others; older ones go.
pub const VIEWS_MAX: usize = 20_000;

/// Differences between states that are told; more add nothing.
pub const VIEWS_DIFFER_MAX: usize = 100;

/// Until a master has told its state. Beyond it, it counts as silent for that moment.
pub const SAMPLE_MAX: Duration = Duration::from_millis(500);

/// Changes of the masters' states that a run records. Later ones are not in the report, which says so.
pub const STATES_MAX: usize = 100_000;

/// Time that a run which was stopped by hand, or in which a master broke, gives the masters to serve again before it
/// checks what there is.
pub const STOPPED_MAX: Duration = Duration::from_secs(15);

/// Faults that the page shows. The rest is in `report.json`.
pub const FAULTS_SHOWN_MAX: usize = 500;

/// Log lines around one fault that the page shows; the log files have all.
pub const LOG_LINES_FAULT_MAX: usize = 60;

/// Log lines around the violation that the page shows.
pub const LOG_LINES_VIOLATION_MAX: usize = 400;

/// Log lines of the whole page.
pub const LOG_LINES_MAX: usize = 4_000;

/// Characters of one log line on the page.
pub const LOG_LINE_CHARS_MAX: usize = 400;

/// Bytes of each log file that are read for the page.
pub const LOG_BYTES_MAX: u64 = 256 << 20;

/// Bytes that a proxy reads at once.
pub const PROXY_CHUNK_BYTES: usize = 16 << 10;

/// Chunks that wait in one direction of one connection of a proxy. Beyond it nothing is read, and the sender waits.
pub const PROXY_CHUNKS_MAX: usize = 256;

/// Size of each master's disk in a scenario that fills disks: a tmpfs, so what is used of it is memory.
pub const DISK_BYTES: u64 = 384 << 20;

/// Free bytes of a disk that counts as full: less than a master wants to go on, more than it gives back by itself.
pub const DISK_FULL_BYTES: u64 = 64 << 20;

/// A fault that is to meet the leader waits so long for one to be elected. Beyond it, it does not happen.
pub const LEADING_MAX: Duration = Duration::from_secs(30);

/// Elements of a list that clients append to. One with more is left alone, and a new one begun.
pub const LIST_MAX: usize = 60;

/// Elements of a set that clients add to. One with more is left alone, and a new one begun.
pub const SET_MAX: usize = 60;

/// How far a fault puts a clock, at most: further away, calendars end. A scenario with more is refused.
pub const CLOCK_SHIFT_MAX: Duration = Duration::from_secs(3650 * 86_400);

/// How long masters are without power that lose it again and again.
pub const POWER_OFF: Duration = Duration::from_millis(300);

/// Errors that a disk gives before it works again. A scenario with more is refused.
pub const DISK_ERRORS_MAX: usize = 1_000_000;

/// Until a master has ended whose disk gave it an error. Beyond it, it goes on as if nothing had happened: the other
/// checks tell whether it could.
pub const ENDED_MAX: Duration = Duration::from_secs(3);

/// Bytes of one master's journal of unsynced names that are read. More is damage.
pub const NAMES_BYTES_MAX: u64 = 256 << 20;

/// Bytes that are missing of a file whose end is cut off, at least, if it has as many: fewer may all be of a write that
/// nobody was told of.
pub const CUT_BYTES_MIN: usize = 16 << 10;
/// The same, at most.
pub const CUT_BYTES_MAX: usize = 64 << 10;

/// Until a process is gone that the kernel has ended for want of memory. Beyond it, it counts as living.
pub const KILLED_MAX: Duration = Duration::from_secs(5);

/// Until a master has ended that was asked to. Beyond it, it is killed, and the run fails.
pub const STOP_MAX: Duration = Duration::from_secs(20);

/// Connections that say nothing, to each master. A scenario with more has so many.
pub const CONNECTIONS_MAX: u32 = 5000;

/// How finely simulated time is cut, or two or three times that: masters run one after the other for so long, and
/// what they send goes out when all have run.
pub const SIM_TICK: Duration = Duration::from_millis(5);

/// To how many masters a simulated cluster grows: the largest that is common.
pub const SIM_MASTERS_MAX: usize = 5;

/// Simulated time until a simulated cluster is up. Beyond it the run fails.
pub const SIM_BOOT_MAX: Duration = Duration::from_secs(60);

/// Simulated time after which a client waits no longer; the outcome is unknown.
pub const SIM_ANSWER_MAX: Duration = Duration::from_secs(35);

/// Simulated quiet time at the end, in which the cluster must become whole again. Beyond it the run fails.
pub const SIM_HEALED_MAX: Duration = Duration::from_secs(60);

/// States that a simulation remembers to compare others with. The oldest is forgotten.
pub const SIM_STATES_MAX: usize = 20_000;

/// Broken promises that a simulation collects while it runs. Later ones are not kept.
pub const SIM_BROKEN_MAX: usize = 100;

/// Simulated time that passes after the last fault before everything is taken back.
pub const SIM_SETTLE: Duration = Duration::from_secs(5);

/// Failures that the summary of many simulations has, and broken promises that each names.
pub const SIM_SEEDS_NAMED_MAX: usize = 20;

/// Simulations with fewer faults after one that failed, where nobody says how many. What is left then may not be the
/// least.
pub const SIM_MINIMISE_RUNS: usize = 20;

/// The same of runs, whose scenario was drawn.
pub const MINIMISE_RUNS: usize = 10;

/// Changes that a compaction in a simulation leaves: no watcher is ever so far behind.
pub const SIM_HISTORY_CHANGES: u64 = 300;

/// The same of what they follow where most changes are those of other objects, such as pods and nodes.
pub const SIM_HISTORY_CHANGES_WITH_NODES: u64 = 1500;

/// Simulated time between two compactions.
pub const SIM_COMPACT_EVERY: Duration = Duration::from_secs(10);

/// Events and bookmarks of one watcher in a simulation. What comes then is not kept, and the run fails.
pub const SIM_TOLD_MAX: usize = 1_000_000;

/// Until a command on a master's machine has ended. Beyond it the run ends; the guard there takes its fault back.
pub const REACH_MAX: Duration = Duration::from_secs(20);

/// How long after its end a fault is taken back by the guard on its machine, when the harness has not done so.
pub const GUARD_SLACK: Duration = Duration::from_secs(15);

/// Until the image of a run's pods runs on nodes that were there, and as long until those pods are gone. Beyond it the
/// run is not begun.
pub const TRIAL_MAX: Duration = Duration::from_secs(90);

/// Nodes on which the image is tried. What it is like on others is seen in the run.
pub const TRIAL_NODES_MAX: usize = 8;

/// How long a machine hears nothing of the harness, beside the times of its guards, until its keeper takes everything
/// back and removes what the run has put there.
pub const KEEPER_SILENCE: Duration = Duration::from_secs(60);

/// Between two words to a keeper. A machine that takes [`REACH_MAX`] for a command still hears two of them in time.
pub const BEAT_EVERY: Duration = Duration::from_secs(8);

/// Until masters that nobody harms are ready, before a fault begins in a cluster that was there. Beyond it, it does not
/// happen.
pub const FIT_MAX: Duration = Duration::from_secs(30);

/// Until the namespace of a run is gone. Beyond it the run fails: something is left.
pub const NAMESPACE_MAX: Duration = Duration::from_secs(60);

/// Watchers of one master that do not read. A scenario with more has so many.
pub const SLOW_WATCHERS_MAX: u32 = 1000;

/// MiB that a master gets beside what it has, where a scenario does not say how many.
pub const MEMORY_MIB: u32 = 1;

/// The same, at most. A scenario with more is refused.
pub const MEMORY_MIB_MAX: usize = 1 << 16;

/// Until a master is taken out of the cluster, which may have to wait for another fault; then until it has ended.
/// Beyond the one it stays, beyond the other the run fails.
pub const REMOVED_MAX: Duration = Duration::from_secs(15);

/// The same when it is not known whether the removal was done: whoever carries it out may take so long. Beyond it, it
/// was not.
pub const REMOVAL_MAX: Duration = Duration::from_secs(60);

/// Until a start on the directory of a master that was taken out is refused. Beyond it the run fails.
pub const REFUSED_MAX: Duration = Duration::from_secs(20);

/// Until a master that was started on damaged files has ended, or serves. Beyond it, it counts as one that goes on.
pub const DECIDED_MAX: Duration = Duration::from_secs(15);

/// Simulated time for which a link carries nothing of a connection until that breaks.
pub const SIM_LINE_STUCK_MAX: Duration = Duration::from_secs(15);

/// Simulated time after the faults until Deployments, pods and nodes are as they are to be. Beyond it the run fails.
pub const SIM_CONVERGED_MAX: Duration = Duration::from_secs(180);

/// Simulated time after which a watch that ended begins anew.
pub const SIM_WATCH_AGAIN: Duration = Duration::from_millis(10);

/// Real time in which simulated time must go on. Beyond it the program ends.
pub const SIM_STUCK_MAX: Duration = Duration::from_secs(60);

/// How often that is looked at.
pub const SIM_WATCHED_EVERY: Duration = Duration::from_millis(500);

/// Bytes of log after which masters take a snapshot in a run whose scenario has points of their code.
pub const POINTS_SNAPSHOT_BYTES: u64 = 256 << 10;

/// Clients of one master that ask for everything again and again. A scenario with more has so many.
pub const API_FLOOD_MAX: u32 = 500;

/// Pause of such a client after each answer, whatever that says: it is no polite one.
pub const API_FLOOD_PACE: Duration = Duration::from_millis(10);

/// Bytes of one object that is written to make masters forget log and history: less than a ConfigMap may have.
pub const FILLER_BYTES: usize = 900 << 10;

/// Such objects; they are written over and over.
pub const FILLER_OBJECTS: usize = 3;

/// Until a master that was cut off has been caught up by a snapshot, or a watcher has begun anew, after the fault.
/// Beyond it the run fails.
pub const FOLLOWED_MAX: Duration = Duration::from_secs(60);

/// Until a master's history shows what it told a watcher that it has forgotten. Beyond it, it has not.
pub const FORGOTTEN_MAX: Duration = Duration::from_secs(5);

/// Between two looks at whether what a fault waits for has come about.
pub const COMES_EVERY: Duration = Duration::from_millis(200);

/// Changes of one kind of objects below which masters forget none within [`HISTORY_KEPT_MIN`], unless they are large.
pub const HISTORY_CHANGES_MIN: usize = 14_000;

/// The time for which masters keep history, unless there is too much of it.
pub const HISTORY_KEPT_MIN: Duration = Duration::from_secs(290);

/// Files that fit on each master's disk in a scenario that fills disks: more than a master has, and soon made.
pub const DISK_INODES: u64 = 2048;

/// Room for so few files counts as none: a master gives some back.
pub const DISK_INODES_FULL: u64 = 4;

/// Silence of a master after which a client asks its machine whether it is there, and between two such questions.
pub const PROBE_AFTER: Duration = Duration::from_secs(2);

/// Such questions without an answer after which a connection is given up.
pub const PROBES: u32 = 4;

/// The same in a run in which masters fall behind: its log grows by large objects, and a snapshot for each is too much.
pub const FALL_BEHIND_SNAPSHOT_BYTES: u64 = 4 << 20;

/// Times that somebody was not believed which a run keeps. Later ones add nothing.
pub const DISTRUST_MAX: usize = 100;

/// Until a command of a change of the authorities has ended. Beyond it, it is ended, and given again.
pub const ROTATE_COMMAND_MAX: Duration = Duration::from_secs(120);

/// Between two such commands, as people type them who were told that a master is away.
pub const ROTATE_AGAIN: Duration = Duration::from_millis(500);

/// How long certificates live in a run with `short-lived`: as short as masters allow.
pub const SHORT_LIVED: Duration = Duration::from_secs(30);

/// How long after the end of its certificate a master is still away in `short-lived`.
pub const OUTLIVED: Duration = Duration::from_secs(3);

/// How often those that are not away must have made their certificates anew meanwhile.
pub const RENEWALS_MIN: usize = 2;

/// Until a command about backups or directories has ended. Beyond it the run is cut short.
pub const COMMAND_MAX: Duration = Duration::from_secs(60);

/// How long clients write before a quorum is lost for good; first to all masters, then as long while those hang that
/// survive.
pub const LAST_WRITES: Duration = Duration::from_secs(2);
