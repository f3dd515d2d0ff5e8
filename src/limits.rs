//! Bounds of what the binary runs by itself: what each limits, and what happens when it is reached.

use std::time::Duration;

/// Connections that `quorate kubeconfig --proxy` forwards at the same time. More wait in the kernel's backlog.
pub const PROXY_CONNECTIONS_MAX: usize = 1024;
/// Masters that the forwarder follows; twice what a cluster may have. More are passed over.
pub const PROXY_MASTERS_MAX: usize = 32;
/// What a client says before a master has answered. A client that says more is cut off.
pub const PROXY_HELLO_BYTES_MAX: usize = 64 * 1024;
/// A client that connects and says nothing for so long is cut off.
pub const PROXY_HELLO_MAX: Duration = Duration::from_secs(10);
/// A master that does not take a connection in this time is passed over for the next one.
pub const PROXY_CONNECT_MAX: Duration = Duration::from_secs(1);
/// A master that takes a connection and does not begin to answer in this time is passed over for the next one.
pub const PROXY_ANSWER_MAX: Duration = Duration::from_secs(2);
/// So long a master is looked for, for one connection. Then the client is cut off.
pub const PROXY_SEARCH_MAX: Duration = Duration::from_secs(15);
/// Between two rounds of that search.
pub const PROXY_SEARCH_PAUSE: Duration = Duration::from_millis(100);
/// Whether each master is ready is looked at this often.
pub const PROXY_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A master that has not said by then whether it is ready does not answer.
pub const PROXY_CHECK_MAX: Duration = Duration::from_secs(2);
/// After so many looks in a row without an answer the connections to a master are cut, so that clients come again.
pub const PROXY_SILENT_CHECKS: u32 = 3;
/// Which masters there are is asked for this often.
pub const PROXY_MEMBERS_INTERVAL: Duration = Duration::from_secs(2);
/// When the forwarder is stopped, connections have so long to end. Then they are cut.
pub const PROXY_DRAIN_MAX: Duration = Duration::from_secs(5);
