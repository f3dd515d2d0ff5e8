//! What a backup says of itself, readable without reading the rest.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::keys::SealedKeys;

/// Version of the file's form. A reader refuses a higher one; a field that old readers may pass over needs no new one.
pub const FORMAT: u32 = 1;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// See [`FORMAT`].
    pub format: u32,
    /// Of which cluster.
    pub cluster_id: String,
    /// When.
    pub made_at: Timestamp,
    /// By which master.
    pub made_by: Maker,
    /// The store's revision: everything up to it is in the file, nothing after it.
    pub revision: u64,
    /// The last log entry that is in it.
    pub index: u64,
    /// Raft's term then, as the master knew it.
    pub term: u64,
    /// The cluster level.
    pub level: u32,
    /// Hash of all objects, hexadecimal: that of the master's status at this index.
    pub state_hash: String,
    /// How many objects.
    pub objects: u64,
    /// What all masters agree on beside the store.
    pub network: Network,
    /// Hash of the cluster authority's public key, as join tokens have it: which keys belong to the state.
    pub authority: String,
    /// The cluster's private keys, if it carries them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<SealedKeys>,
}

/// The master that made a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Maker {
    /// Its name.
    pub name: String,
    /// Its number.
    pub node_id: u64,
    /// The version of quorate that it ran.
    pub version: String,
}

/// The cluster's address ranges and domain, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Addresses of Services.
    pub service_cidr: String,
    /// Addresses of pods.
    pub cluster_cidr: String,
    /// DNS domain of Services.
    pub cluster_domain: String,
}
