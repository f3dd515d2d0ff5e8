//! The masters' end of the node agents' streams (`agent.proto`).
//!
//! An agent holds one control stream to any master. Down it gets what its node is to run, as changes;
//! up come statuses, heartbeats, events, token requests. [`hub`] knows who is connected here,
//! [`session`] is one stream, [`desired`] decides what a node gets (pure), [`statuses`] writes what
//! nodes report, in batches, [`tokens`] issues their pods' tokens, [`channel`] pairs a waiting client
//! with the stream that the agent opens for it, [`liveness`] keeps heartbeats in memory and never in
//! the log, [`leases`] shows them as Lease objects, [`proxy`] carries channels between masters.

pub mod channel;
mod desired;
mod events;
pub mod hub;
mod leases;
pub mod liveness;
pub mod proxy;
mod registration;
mod service;
mod session;
mod statuses;
mod tokens;

pub use channel::{Channel, ChannelError};
pub use hub::{AgentHub, HubConfig, TokenIssuer};
pub use liveness::{Liveness, NodeSeen};
pub use proxy::MasterDialer;
