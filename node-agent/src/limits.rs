//! Every limit of the node agent, with its unit and what happens when it is reached.

use std::time::Duration;

/// Chunks that wait between a container's output and the stream that carries it (log, exec, attach, port-forward).
/// At the limit the producer waits, so a slow client slows the process it looks at, as a terminal does.
pub const STREAM_CHUNKS_MAX: usize = 16;

/// Terminal sizes that wait for a runtime to take them. At the limit the sender waits.
pub const RESIZE_EVENTS_MAX: usize = 8;

/// Output that one `exec_sync` may return, per stream, in bytes. The rest is read and dropped: a probe or a hook is
/// judged by its exit code, and its message is cut anyway.
pub const EXEC_SYNC_OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// One CRI call that should be quick. At the limit the call fails with a timeout and the pod is looked at again.
pub const CRI_CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Pulling one image. At the limit the pull counts as failed and is tried again after its back-off.
pub const IMAGE_PULL_TIMEOUT: Duration = Duration::from_secs(3600);

/// One CRI answer (the listing of all containers is the largest), in bytes. A larger one fails the call.
pub const CRI_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Connecting to the runtime's streaming server and upgrading. At the limit the exec or port-forward is refused.
pub const STREAMING_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The status at the end of a session, in bytes. The rest is dropped (and then hardly JSON).
pub const STATUS_BYTES_MAX: usize = 64 * 1024;

/// First wait before a crashed container starts again, and before a failed image is pulled again.
pub const BACKOFF_INITIAL: Duration = Duration::from_secs(10);

/// Longest such wait. Twice this time without trouble clears the record.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Dialling a master and hearing its welcome. At the limit the next master is tried.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// HTTP/2 pings to the master.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(500);

/// How long a ping may stay unanswered. At the limit the connection is dropped and the next master dialled.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(1000);

/// How long a stream may bring nothing at all (heartbeats are answered), or three heartbeat intervals if that is more.
/// At the limit the next master is dialled.
pub const HEARTBEAT_SILENCE_MAX: Duration = Duration::from_secs(6);

/// Longest wait between rounds over all masters while none answers.
pub const RECONNECT_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Messages that wait in the control stream. At the limit the outbox keeps (and coalesces) the rest.
pub const CONTROL_MESSAGES_MAX: usize = 64;

/// One message of the control stream, in bytes (objects go up to 1.5 MiB). A larger one ends the stream.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Events that wait for a master. At the limit the oldest is dropped.
pub const EVENTS_WAITING_MAX: usize = 1000;

/// A refused status is sent again after this time.
pub const STATUS_RETRY_AFTER: Duration = Duration::from_millis(500);

/// A status that got no answer is sent again after this time.
pub const STATUS_RESEND_AFTER: Duration = Duration::from_secs(10);

/// Waiting for a service account token. At the limit the volume is not ready and the pod tries again.
pub const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Images pulled at a time. Further pulls wait their turn.
pub const IMAGE_PULLS_MAX: usize = 5;

/// Body of an HTTP probe's answer that is read, in bytes. The rest is not.
pub const PROBE_BODY_BYTES_MAX: usize = 10 * 1024;

/// Redirects that an HTTP probe follows. At the limit it has failed.
pub const PROBE_REDIRECTS_MAX: usize = 10;

/// How often the runtime is looked at.
pub const RELIST_INTERVAL: Duration = Duration::from_secs(1);

/// How often every pod looks again even when nothing woke it (volumes, lost wake-ups).
pub const RESYNC_INTERVAL: Duration = Duration::from_secs(60);

/// Wait before resources that a runtime did not give to a running container are asked for again.
pub const RESIZE_RETRY: Duration = Duration::from_secs(30);

/// Wait before a pod whose step failed tries again; doubles up to [`SYNC_RETRY_MAX`].
pub const SYNC_RETRY: Duration = Duration::from_secs(1);

/// Longest such wait.
pub const SYNC_RETRY_MAX: Duration = Duration::from_secs(60);

/// How long `ErrImagePull` is shown before it becomes `ImagePullBackOff`.
pub const PULL_ERROR_SHOWN: Duration = Duration::from_secs(3);

/// Termination message that goes into a status, in bytes. The rest is cut.
pub const TERMINATION_MESSAGE_BYTES_MAX: u64 = 4096;

/// Lines of log that stand in for a termination message (`FallbackToLogsOnError`), and their bytes.
pub const TERMINATION_LOG_LINES_MAX: usize = 80;
/// Bytes of those lines.
pub const TERMINATION_LOG_BYTES_MAX: usize = 2048;

/// Payload of one frame of a channel, in bytes. More becomes several frames.
pub const CHANNEL_FRAME_BYTES_MAX: usize = 32 * 1024;

/// Finding the container and having the runtime open the streams. At the limit the request is refused (504).
pub const CHANNEL_OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a followed log is looked at for more.
pub const LOG_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Bytes read from a log at a time.
pub const LOG_READ_BYTES: usize = 64 * 1024;

/// Size at which a log is rotated, in bytes.
pub const LOG_FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// Files kept of one log, with the current one. At the limit the oldest is removed.
pub const LOG_FILES_MAX: usize = 5;

/// How often logs are looked at for rotation.
pub const LOG_ROTATE_INTERVAL: Duration = Duration::from_secs(10);

/// How often the node is measured.
pub const NODE_STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// How often its status is sent though nothing changed.
pub const NODE_STATUS_RESEND: Duration = Duration::from_secs(300);

/// Images named in the node's status. The largest are.
pub const IMAGES_IN_STATUS_MAX: usize = 50;

/// Names told of each; the rest is not.
pub const NAMES_OF_IMAGE_MAX: usize = 5;

/// Free memory below which the node is under memory pressure, in bytes.
pub const MEMORY_FREE_BYTES_MIN: u64 = 100 * 1024 * 1024;

/// Free disk, in percent, below which the node is under disk pressure.
pub const DISK_FREE_PERCENT_MIN: u64 = 10;

/// Free process ids, in percent, below which the node is under PID pressure.
pub const PIDS_FREE_PERCENT_MIN: u64 = 10;

/// How soon a change of what is wanted reaches the checkpoint.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Waiting for a CRI socket to answer at all. At the limit it counts as absent.
pub const DETECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Waiting for the master to close a channel after our last frame: it does so once its client has
/// read everything, which
/// may take a pager long (kube-apiserver gives it as much), or is gone. At the limit the stream is reset.
pub const CHANNEL_CLOSE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Warnings of one pod that are remembered so as not to be repeated. At the limit they are forgotten, and may repeat.
pub const TOLD_MAX: usize = 128;

/// How often the rules of cluster IPs are compared with what the masters say: a change reaches this node's pods within
/// it.
pub const SERVICES_INTERVAL: Duration = Duration::from_millis(200);

/// Pods and containers with a limit of local storage are measured this often. One above it is ended.
pub const EVICTION_INTERVAL: Duration = Duration::from_secs(10);

/// How often images are looked through.
pub const IMAGE_GC_INTERVAL: Duration = Duration::from_secs(300);

/// Use of the images' disk, in percent, from which unused images are removed.
pub const IMAGE_DISK_HIGH_PERCENT: u64 = 85;

/// Use of that disk, in percent, down to which they are.
pub const IMAGE_DISK_LOW_PERCENT: u64 = 80;

/// An image is not removed before it has been here so long.
pub const IMAGE_AGE_MIN: Duration = Duration::from_secs(120);

/// Events of one object that are told in a row. Further ones are dropped until [`EVENT_REFILL_INTERVAL`] allows one.
pub const EVENT_BURST: f64 = 25.0;

/// After the burst one event of an object is told in this time.
pub const EVENT_REFILL_INTERVAL: Duration = Duration::from_secs(300);

/// Different messages of otherwise equal events; from there on they are combined into one event.
pub const EVENT_SIMILAR_MAX: usize = 10;

/// Quiet time after which such messages are told one by one again.
pub const EVENT_SIMILAR_INTERVAL: Duration = Duration::from_secs(600);

/// Objects, and series of equal events, that are remembered. At the limit the one that was quiet longest is forgotten.
pub const EVENT_OBJECTS_MAX: usize = 4096;

/// Waiting before a broken stream of the runtime's events is opened again; until then it is looked at every second.
pub const RUNTIME_EVENTS_RETRY: Duration = Duration::from_secs(5);

/// Looks at the runtime after its events come no closer than this: a storm of events is one look.
pub const RUNTIME_EVENTS_PAUSE: Duration = Duration::from_millis(20);

/// How often a followed log's container is asked whether it still runs.
pub const LOG_STATE_INTERVAL: Duration = Duration::from_millis(500);

/// Whether the node's certificate is to be made anew is looked at this often.
pub const RENEWAL_CHECK: Duration = Duration::from_secs(1);
/// A master that has not made another one by then is given up.
pub const RENEWAL_MAX: Duration = Duration::from_secs(20);
/// After that, or when it was refused, it is asked for again; by then over another connection, perhaps.
pub const RENEWAL_RETRY: Duration = Duration::from_secs(15);
/// When the masters want all certificates to be made anew, nodes come within this time, not at once.
pub const RENEWAL_SPREAD: Duration = Duration::from_secs(3);
