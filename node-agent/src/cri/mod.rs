//! The runtime behind a CRI socket: containerd and CRI-O.
//!
//! * [`client`]: the [`crate::runtime::Runtime`] over gRPC.
//! * `convert`: our types to CRI's and back.
//! * `streaming`: exec, attach and port-forward over the runtime's own streaming server (SPDY/3.1).

mod client;
mod convert;
mod events;
mod streaming;

pub use client::{CriRuntime, DEFAULT_SOCKETS};

/// The code made from `proto/cri.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, clippy::large_futures)]
pub(crate) mod wire {
    tonic::include_proto!("runtime.v1");
}
