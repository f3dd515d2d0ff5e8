//! The Kubernetes API over HTTP: authentication, authorization, admission, verbs, discovery,
//! OpenAPI.
//!
//! A request moves through types that only the right stage can make, so that an unauthorised write
//! does not compile: [`request_info::RequestInfo`] → [`identity::Identity`] → [`authz::Permitted`]
//! → [`admission::Admitted`] → [`stamp::Command`]. Everything left of the proposal may run on any
//! master and be thrown away and retried.
//!
//! Start reading at [`pipeline`] (the stages in order), then [`verb`] (one file per verb),
//! [`admission`] (one file per plugin) and [`status_error`] (which error becomes which `Status`).
//! Scheduler and controllers must not import this crate; they write through
//! [`quorate_store::Admit`], which [`admit`] implements.

pub mod admission;
pub mod admit;
pub mod agents;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod clock;
pub mod config;
mod convert;
mod custom;
mod dial;
mod discovery;
mod health;
pub mod identity;
mod in_flight;
pub mod limits;
pub mod metrics;
mod model;
mod negotiate;
pub mod parameters;
pub mod pipeline;
mod proxy;
pub mod reply;
pub mod request_info;
mod review;
mod serve;
pub mod server;
mod service_address;
pub mod stamp;
pub mod status_error;
pub mod streams;
mod turns;
mod verb;
mod version;

pub use clock::{Clock, SystemClock};
pub use config::{ApiConfig, ClusterFacts, Extras, ServiceAccountKeys, TlsMaterial};
pub use serve::{MovingAddresses, Tls as ServingTls, TlsError};
pub use server::ApiServer;
