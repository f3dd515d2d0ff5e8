//! Certificate authorities, certificates and join tokens of a cluster (design, section 8).
//!
//! Three authorities, so that no certificate of one circle is of use in another: *peer* (masters
//! among themselves), *cluster* (clients, nodes and the serving certificate) and *front proxy*.
//! Nothing here listens or dials; the wall clock is a parameter.
//!
//! Start reading at [`keys`] (all of a cluster's keys, on disk and on their way to a joining
//! master), then [`ring`] (two generations of them while they are changed), [`authority`] (what each kind of
//! certificate says) and [`token`].

pub mod authority;
pub mod error;
pub mod facts;
pub mod files;
pub mod keys;
pub mod ring;
pub mod token;

pub use authority::{Authority, Certified, Subject};
pub use error::Error;
pub use facts::Facts;
pub use keys::ClusterKeys;
pub use ring::{KeyRing, Phase};
pub use token::JoinToken;
