//! The bounds of the API server: each with what a client sees when it is hit.

use std::time::Duration;

/// Bytes of a request body. Beyond it: 413 with kube-apiserver's text.
pub const REQUEST_BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Bytes of a refused body that are read and thrown away, so that its sender sees the refusal. Beyond it the
/// connection is closed while it sends.
pub const REFUSED_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a refused body is read. Beyond it the connection is closed while its sender sends.
pub const REFUSED_BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// Reading requests in progress at a time, watches and streams apart. Beyond it: 429, `Retry-After:
/// 1`.
pub const READS_IN_FLIGHT_MAX: usize = 400;

/// Writing requests in progress at a time. Beyond it: 429, `Retry-After: 1`.
pub const WRITES_IN_FLIGHT_MAX: usize = 200;

/// How long a request that is neither watch nor stream may take, if it names no shorter `timeout`.
/// Then 504, reason Timeout.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a write waits for its decision. Then 504, outcome unknown.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(34);

/// How long `/readyz` waits for a linearizable read. Then the check fails.
pub const READYZ_DEADLINE: Duration = Duration::from_secs(2);

/// How long a client may take for its TLS handshake. Then the connection is closed.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that stops answers what comes in on open connections for so long; each HTTP/1.1 connection ends with its
/// next answer, and those that are idle end then.
pub const LAST_REQUEST_TIME: Duration = Duration::from_millis(300);

/// How long a client may take, once it has shaken hands, to send the head of its first request
/// (kube-apiserver's value). Then the connection is closed.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(32);

/// How long an HTTP/1.1 connection may stay without the whole head of its next request (kube-apiserver's value: what
/// clients expect of connections that they keep). Then it is closed.
pub const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Connections at a time. Beyond it new connections wait in the listener's backlog.
pub const CONNECTIONS_MAX: usize = 10_000;

/// Streams of one HTTP/2 connection at a time; the client is told so (kube-apiserver's value).
pub const HTTP2_STREAMS_MAX: u32 = 250;

/// Bytes that a peer may send on one HTTP/2 stream before they are read; then that stream waits. A
/// connection takes as much for all its streams, so that streams that nobody reads (paused logs of a
/// node) never hold up the others (the node's heartbeats).
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Bytes of all header fields of a request. Beyond it: 431 or a reset stream.
pub const HEADER_BYTES_MAX: usize = 1024 * 1024;

/// Pings on idle HTTP/2 connections, so that vanished peers are noticed.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long a ping may stay unanswered. Then the connection is closed.
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a stopping server waits for requests in progress. Then they are cut off.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Wait after a failed `accept` (no file descriptors left), so that the loop does not spin.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Answers longer than this are compressed for clients that take gzip (kube-apiserver's value).
pub const GZIP_BYTES_MIN: usize = 128 * 1024;

/// Time between bookmarks on a watch that asked for them (kube-apiserver's value).
pub const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// Shortest life of a watch that names no `timeoutSeconds`; it is drawn between this and its
/// double.
pub const WATCH_TIMEOUT_MIN: Duration = Duration::from_secs(1800);

/// Bytes of events that one write to a watcher carries, about.
pub const WATCH_FRAME_BYTES: usize = 128 * 1024;

/// How long a watcher waits between two looks at the history, for each open watch of this master: its
/// first change after a pause goes out at once; under constant writes events wait for this long at
/// most and go out together. Few watchers are told sooner, many cost less each.
pub const WATCH_PACE_EACH: Duration = Duration::from_micros(100);

/// Least of that wait: finer than a timer's tick makes no difference.
pub const WATCH_PACE_MIN: Duration = Duration::from_millis(1);

/// Most of that wait, however many watches there are.
pub const WATCH_PACE_MAX: Duration = Duration::from_millis(20);

/// Frames of events that watchers with the same question may still share. A watcher that is further
/// behind writes its own.
pub const WATCH_SHARED_FRAMES_MAX: usize = 32;

/// Bytes of those frames. The oldest go first.
pub const WATCH_SHARED_BYTES_MAX: usize = 512 * 1024;

/// Bytes of one piece of a list that is written as the client reads it, about: a list never needs
/// more memory than this beside the objects that it shows.
pub const LIST_CHUNK_BYTES: usize = 128 * 1024;

/// How often an update without a resourceVersion, or a patch, is computed anew when another write
/// came between. Then 409 (kube-apiserver's `MaxRetryWhenPatchConflicts`).
pub const CONFLICT_RETRIES_MAX: usize = 5;

/// How often a graceful delete is computed anew when another write came between. Then 409.
pub const DELETE_RETRIES_MAX: usize = 16;

/// How many generated names are tried. Then 409 AlreadyExists (kube-apiserver's
/// `maxNameGenerationCreateAttempts`).
pub const GENERATED_NAMES_MAX: usize = 8;

/// How many random addresses or ports are tried before the range is searched from its start.
pub const RANDOM_ALLOCATIONS_MAX: usize = 16;

/// How often a service is allocated anew when another one took its address. Then 500.
pub const ALLOCATION_RETRIES_MAX: usize = 16;

/// Deletions of one `deletecollection` that are proposed together.
pub const DELETE_COLLECTION_BATCH: usize = 100;

/// Objects of one list page in `deletecollection` and other walks: no limit applies to a LIST that
/// names none, as in Kubernetes.
pub const LIST_PAGE_MAX: usize = usize::MAX;

/// Bytes of a field manager's name. Longer: 422 (kube-apiserver's `FieldManagerMaxLength`).
pub const FIELD_MANAGER_BYTES_MAX: usize = 128;

/// Warnings in one answer; further ones are dropped.
pub const WARNINGS_MAX: usize = 64;

/// Characters of all warnings of one answer (kube-apiserver's value). When they have more, each is cut to
/// [`WARNING_CHARS_MAX`], and those after this many are dropped.
pub const WARNINGS_CHARS_MAX: usize = 4 * 1024;

/// Characters of one warning when all are too much (kube-apiserver's value). The rest of it is cut.
pub const WARNING_CHARS_MAX: usize = 256;

/// Lifetime of a bound token that is asked for without one, in seconds.
pub const TOKEN_SECONDS_DEFAULT: i64 = 3600;

/// Longest lifetime of a token, in seconds: 2^32.
pub const TOKEN_SECONDS_MAX: i64 = 1 << 32;

/// Shortest lifetime of a token, in seconds: ten minutes.
pub const TOKEN_SECONDS_MIN: i64 = 600;

/// Lifetime that a pod's injected token volume asks for, in seconds.
pub const POD_TOKEN_SECONDS: i64 = 3607;

/// Tolerated clock difference when a token's times are checked, in seconds.
pub const TOKEN_LEEWAY_SECONDS: i64 = 10;

/// Bearer tokens longer than this are not looked at: 401.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// How often the leader looks whether the `kubernetes` Service and the default roles are right when
/// nothing tells it to.
pub const DUTIES_INTERVAL: Duration = Duration::from_secs(10);

/// Reports of nodes that wait to be written on one master. At the limit the agents' streams wait.
pub const REPORTS_WAITING_MAX: usize = 4096;

/// Reports in one proposal.
pub const REPORT_BATCH_MAX: usize = 256;

/// Bytes of objects in one proposal of reports, about; what is more goes into the next.
pub const REPORT_BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Events of nodes that wait to be written on one master. At the limit further ones are dropped.
pub const EVENTS_WAITING_MAX: usize = 4096;

/// Largest event of a node; a larger one is dropped. Reasons and messages have 1 KiB each at most.
pub const EVENT_BYTES_MAX: usize = 16 * 1024;

/// Events of nodes in one proposal.
pub const EVENT_BATCH_MAX: usize = 256;

/// How often events that meet another writer are tried again; then they are lost.
pub const EVENT_RETRIES_MAX: usize = 3;

/// How often a report that meets another writer is merged again; then the agent is told to come
/// again with its newest.
pub const REPORT_RETRIES_MAX: usize = 8;

/// How often a master with streams of nodes makes sure that it is part of the quorum.
pub const QUORUM_CHECK_INTERVAL: Duration = Duration::from_secs(3);

/// A master that has not reached the quorum for so long ends its streams: its nodes are better off
/// with another master, for the leader hears nothing of them through this one.
pub const QUORUM_LOST_AFTER: Duration = Duration::from_secs(10);

/// Reports and requests of one node that are served at the same time; its stream then waits.
pub const AGENT_REQUESTS_MAX: usize = 64;

/// Messages to one node that wait for it; then what is to be told is kept as a set and sent later.
pub const AGENT_OUTBOX_MESSAGES_MAX: usize = 256;

/// Largest message of an agent's stream: an object at its limit, with room to spare.
pub const AGENT_MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A stream must begin with its first message within this, or is refused.
pub const AGENT_HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream on which nothing is heard for so long is ended; the agent opens another.
pub const AGENT_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A node must open a channel within this, or the client gets 504. Longer than an agent gives its
/// container runtime, so that the agent's reason arrives.
pub const CHANNEL_OPEN_TIMEOUT: Duration = Duration::from_secs(35);

/// Channels of one master that wait for their nodes; the next client gets 429.
pub const CHANNELS_WAITING_MAX: usize = 1024;

/// Frames (of at most 32 KiB) that wait in each direction of a channel; then the faster side waits.
pub const CHANNEL_FRAMES_MAX: usize = 16;

/// A master that is asked for a node waits so long for it to be heard of again when it has just
/// changed masters; then the client gets an error.
pub const NODE_MOVE_TIMEOUT: Duration = Duration::from_secs(3);

/// A node that was not heard from for so long is not waited for.
pub const NODE_SILENT_AFTER: Duration = Duration::from_secs(10);

/// Bytes of one frame of a channel; longer input is cut.
pub const CHANNEL_FRAME_BYTES_MAX: usize = 32 * 1024;

/// Largest message of a channel's stream. A longer one ends the stream.
pub const CHANNEL_MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// How long following a log waits for a first failure that can still be told as a `Status`.
pub const LOG_FIRST_FRAME_WAIT: Duration = Duration::from_millis(250);

/// How long a client may take to take over a connection whose upgrade was agreed to. Then it is
/// closed.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest message, and frame, of a client's WebSocket. A larger one ends the connection.
pub const WEBSOCKET_MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes read at a time from a WebSocket.
pub const WEBSOCKET_BUFFER_BYTES: usize = 32 * 1024;

/// Pings to WebSocket clients. They need not be answered: a client that has vanished is noticed
/// because they cannot be written.
pub const WEBSOCKET_PING_INTERVAL: Duration = Duration::from_secs(30);

/// Bytes in flight in each direction of SPDY inside a WebSocket; then the faster side waits.
pub const TUNNEL_BUFFER_BYTES: usize = 64 * 1024;

/// How long a finished stream waits for its client to read what is left and to close
/// (kube-apiserver's value). Then the connection is closed.
pub const STREAM_FINISH_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How long a client may take to read that this master stops. Then its connection is closed without.
pub const STREAM_GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a SPDY client may take to open the streams of its request (the kubelet's value). Then
/// they are dropped.
pub const STREAM_CREATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a terminal size that is not complete. More ends the resize stream.
pub const RESIZE_BYTES_MAX: usize = 4096;

/// Connections of one port-forward at a time. Beyond it the client's next ones wait.
pub const FORWARDS_MAX: usize = 256;

/// Ports of one port-forward over WebSocket channels. More: 400.
pub const PORTS_MAX: usize = 32;

/// How often a master renews the Lease objects of the nodes whose streams it holds.
pub const LEASES_INTERVAL: Duration = Duration::from_secs(10);

/// Leases renewed in one such round, in one proposal. With more nodes than this each one's turn comes less often, and
/// the leases say so (`leaseDurationSeconds`).
pub const LEASES_IN_ROUND_MAX: usize = 100;

/// How often a write that counts for a quota is computed anew when another write was charged to it first. Then 409.
pub const CHARGE_RETRIES_MAX: usize = 64;

/// Groups of namespaces whose writes that count for quotas go one after the other on a master; those of two namespaces
/// may share one.
pub const CHARGE_TURNS: usize = 64;

/// How often an eviction is computed anew when its pod or the pod's budget changed meanwhile. Then 504, to be tried
/// again after 10 s.
pub const EVICTION_RETRIES_MAX: usize = 20;

/// Pods in a budget's `disruptedPods` from which on no further eviction is granted: 403 (upstream's
/// `MaxDisruptedPodSize`).
pub const DISRUPTED_PODS_MAX: usize = 2000;

/// How long a call of a webhook may take whose configuration does not say (upstream's default). Then its failure policy
/// decides.
pub const WEBHOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// How long one address of a webhook may take to answer a connection. Then the next one is tried, or the call has
/// failed.
pub const WEBHOOK_DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Endpoints of a webhook's service that are tried for one connection. Then the call has failed.
pub const WEBHOOK_ENDPOINTS_TRIED_MAX: usize = 3;

/// Idle connections to one webhook that are kept; further ones are closed (client-go's value).
pub const WEBHOOK_IDLE_CONNECTIONS_MAX: usize = 25;

/// How long an idle connection to a webhook is kept. Then it is closed (client-go's value).
pub const WEBHOOK_IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Bytes of a webhook's answer: a patch of the largest object, in base64, and more. Beyond it the call has failed.
pub const WEBHOOK_RESPONSE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Characters of a webhook's answer that are shown when it is no review (client-go's value). The rest is cut.
pub const WEBHOOK_ERROR_CHARS_MAX: usize = 2048;
