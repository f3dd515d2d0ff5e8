//! SPDY/3.1, as far as Kubernetes still speaks it: container runtimes stream exec, attach and port-forward over it,
//! and kubectl tunnels it through a WebSocket for port-forward.
//!
//! * [`codec`]: frames to bytes and back, with the compressed header blocks. No I/O.
//! * [`mux`]: streams over one byte connection, for both ends (client: a runtime's streaming server; server: kubectl).
//!
//! Flow-control windows are neither sent nor obeyed: the peers (moby/spdystream) do the same, and back-pressure comes
//! from the byte connection below.

pub mod codec;
mod headers;
pub mod limits;
pub mod mux;

pub use codec::{Codec, Frame};
pub use mux::{Connection, Error, Role, Stream, StreamRead, StreamWrite};
