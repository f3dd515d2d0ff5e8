//! The node agent: what the kubelet is to Kubernetes. It dials a master, is told which pods its node should run, runs
//! them through a container runtime, and reports what it sees.
//!
//! Where to start reading: `agent.rs` (what runs), [`runtime`] (the seam to containerd, CRI-O and the built-in
//! runtime),
//! `pod/plan.rs` (what to do next), `pod/status.rs` (what to report), `link/` (the stream to the masters).
//!
//! Never: depend on the store, Raft or the state machine; trust that a master is reachable (pods outlive both the
//! agent and every master).

mod agent;
pub mod builtin;
mod checkpoint;
mod config;
pub mod cri;
mod desired;
mod event_filter;
mod events;
mod eviction;
mod image_gc;
mod images;
pub mod labels;
pub mod limits;
mod link;
mod logs;
pub mod network;
mod node;
mod paths;
mod pleg;
mod pod;
pub mod pretend;
mod probe;
pub mod runtime;
mod services;
mod shared;
mod thresholds;
mod volume;

pub use agent::{Agent, StartError};
pub use config::{Config, Tls};
pub use link::{Dial, Io, Renewal};
pub use link::{keep_masters, known_masters};
pub use node::Usage;
pub use paths::Paths;
pub use thresholds::{Threshold, ThresholdError, Thresholds};

/// The version nodes report: the API level served, and our own.
pub fn version() -> &'static str {
    quorate_api::version::FULL
}

/// The CRI runtime that answers at one of its usual sockets (or `CONTAINER_RUNTIME_ENDPOINT`'s like, when `socket` is
/// given), or `None`: then the built-in runtime has to do.
pub async fn runtime_auto_detect(socket: Option<&std::path::Path>) -> Option<cri::CriRuntime> {
    use runtime::Runtime;
    let own = socket.map(|socket| vec![socket.to_owned()]);
    let usual = || cri::DEFAULT_SOCKETS.iter().map(std::path::PathBuf::from).collect();
    for socket in own.unwrap_or_else(usual) {
        if !socket.exists() {
            continue;
        }
        let candidate = cri::CriRuntime::new(&socket);
        let answer = tokio::time::timeout(limits::DETECT_TIMEOUT, candidate.version()).await;
        if matches!(answer, Ok(Ok(_))) {
            return Some(candidate);
        }
    }
    None
}
