//! Fills what a client left out, as upstream's `SetDefaults_*` functions do: once after decoding,
//! before admission and validation. Applying it twice changes nothing.

use serde_json::Value;

use crate::{kinds, resource, schema};

pub(crate) mod admission;
pub(crate) mod apps;
pub(crate) mod autoscaling;
pub(crate) mod batch;
pub(crate) mod core;
pub(crate) mod definition;
pub(crate) mod devices;
pub(crate) mod discovery;
pub(crate) mod flow;
pub(crate) mod networking;
pub(crate) mod pod;
pub(crate) mod rbac;
pub(crate) mod service;
pub(crate) mod storage;
pub(crate) mod volume;

/// Applies the defaults of a kind: those the schema's markers say, then the kind's own. The
/// version is given for kinds that are served in several; all kinds here have the same defaults
/// in each. Unknown kinds are left alone.
pub fn apply(group: &str, version: &str, kind: &str, object: &mut Value) {
    if let Some(def) = resource::by_kind(group, version, kind) {
        schema::markers::apply(object, def.schema);
    }
    if let Some(row) = kinds::find(group, kind) {
        (row.defaults)(object);
    }
}

#[cfg(test)]
pub(crate) mod tests;
