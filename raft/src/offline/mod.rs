//! A master's directory without a master: what a survivor has, and a directory with which a new cluster begins.
//!
//! Nothing here runs while a master does; who calls holds the directory's lock. [`survivor`] only reads, from a copy of
//! the log where the store under it would tidy up; [`seed`] only writes, to a directory that is not there yet.

pub mod seed;
pub mod survivor;

pub use seed::{Seed, seed, seed_on};
pub use survivor::{Standing, Survivor};
