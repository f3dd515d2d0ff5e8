//! The controllers: one pure plan per controller, one shared loop.
//!
//! They run in the Raft leader, read the state machine's views and write under the leadership that
//! they were started for. A change only wakes a key; the plan reads the world as it is now. Nothing
//! here talks HTTP, and no plan has a clock, randomness or I/O.
//!
//! Start reading at `runner` (the loop), then `world` (what plans read), `wake` (which change wakes
//! which key), `plan` (what they decide) and any controller.

mod batch;
mod compactor;
mod config;
mod controllers;
mod limits;
mod liveness;
mod metrics;
mod model;
mod node_selector;
mod plan;
mod queue;
mod resources;
mod runner;
mod selector;
mod start;
#[cfg(test)]
mod testing;
mod wake;
mod world;

pub use config::{AccessReviews, AccountTokens, CertificateSigner, ControllersConfig, Requested};
pub use liveness::{NodeLiveness, StoredHeartbeats};
pub use metrics::ControllersMetrics;
pub use start::Controllers;
