//! Node agents' streams and the streams of pods, over real connections: a real server, a fake agent
//! that runs commands on this machine, and kubectl, `kube` and raw clients in front.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod clients;
#[path = "../common/mod.rs"]
mod common;
mod fake;
mod hub;
mod kubectl;
mod masters;
mod world;
