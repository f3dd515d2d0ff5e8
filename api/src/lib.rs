//! The Kubernetes object model, driven by schema tables: decoding, defaulting, validation, patches
//! and tables over JSON trees. Everything here is synchronous and pure.
//!
//! In the request path an object is a JSON tree ([`serde_json::Value`], keys sorted) plus a static
//! schema, never a typed struct: nothing unknown is dropped unseen, and built-in and custom
//! resources take one path.
//!
//! Start reading at [`resource`] (which kinds are served), then [`schema`] (what they look like).
//! What a schema cannot say about a kind is named in one row of `kinds.rs`: [`defaults`],
//! [`strategy`] (what a verb may change), [`validation`], [`warnings`]; how it is shown is a row of
//! [`table`].
//! A write goes decode → [`patch`] → [`defaults`] → admission → [`strategy`] → [`validation`].

pub mod codec;
pub mod convert;
pub mod coverage;
pub mod cron;
pub mod custom;
pub mod defaults;
pub mod discovery;
pub mod document;
pub mod field;
pub mod image;
pub mod limits;
pub mod managed;
pub mod normalise;
pub mod openapi;
pub mod patch;
pub mod policy;
pub mod quantity;
pub mod quota;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod strategy;
pub mod table;
pub mod text;
pub mod validation;
pub mod version;
pub mod warnings;

mod kinds;
mod tree;
#[cfg(test)]
mod upstream;
