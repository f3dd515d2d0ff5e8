//! The built-in container runtime, for machines without containerd or CRI-O.
//!
//! * [`image`]: images, unpacked into overlay layers.
//! * One shim process per pod (`quorate shim`, [`shim`]) owns the pod's namespaces, its containers, their pipes, logs
//!   and exit codes. The agent may die: a new one finds the shims by their directories and talks to them again.
//! * Never: fork in this (threaded) process; keep state that exists in memory only; mount anything in the host's mount
//!   namespace (each shim has its own, so nothing can leak).

mod bell;
pub mod cgroup;
mod client;
pub mod image;
pub mod limits;
pub mod record;
mod runtime;
mod sandbox;
mod session;
pub mod shim;
mod terminal;

pub use runtime::{BuiltinConfig, BuiltinRuntime};
pub use shim::shim_main;
