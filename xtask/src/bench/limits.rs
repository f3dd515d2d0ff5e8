//! Deadlines and bounds of the benchmark. Nothing here waits for ever: what is not done in time is
//! reported as a failure of its row.

use std::time::Duration;

/// From exec to `ready after`. Beyond it: the run fails and the log's end is shown.
pub(crate) const START_MAX: Duration = Duration::from_secs(60);

/// From SIGTERM to the end of a master. Beyond it: SIGKILL.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(15);

/// One request with its answer. Beyond it: the row fails.
pub(crate) const REQUEST_MAX: Duration = Duration::from_secs(30);

/// From connecting to a ready HTTP/2 connection. Beyond it: the row fails.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(5);

/// All rows of one cluster. Beyond it: the cluster is killed and the run fails.
pub(crate) const CLUSTER_MAX: Duration = Duration::from_secs(900);

/// Until a cluster knows its leader. Beyond it: the run fails.
pub(crate) const LEADER_MAX: Duration = Duration::from_secs(30);

/// Writes before and after what happens to a leader.
pub(crate) const FAILOVER_WRITES: usize = 50;

/// Between two looks at what a failover brings.
pub(crate) const FAILOVER_POLL: Duration = Duration::from_millis(2);

/// Failed requests after which a writer gives up.
pub(crate) const FAILURES_MAX: usize = 10;

/// Between two looks at something that is awaited.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// The longest line of a watch that is kept. Beyond it: the row fails.
pub(crate) const WATCH_LINE_BYTES_MAX: usize = 4 << 20;

/// Lines of a master's log that are shown when it does not start.
pub(crate) const LOG_LINES_SHOWN: usize = 20;

/// HTTP/2 connections to each master; requests take them in turn.
pub(crate) const CONNECTIONS: usize = 4;

/// HTTP/2 windows, bytes: of a stream and of a connection. Large, so that the generator is not
/// what limits a large LIST.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// See [`STREAM_WINDOW_BYTES`].
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// How often each simulated node renews its lease (the kubelet's interval).
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

/// Until all simulated nodes have lost their taints. Beyond it: the row fails.
pub(crate) const NODES_READY_MAX: Duration = Duration::from_secs(60);
