//! Snapshots: files of their own, checked in full before they are believed.
//!
//! [`file`] is the layout of one file; [`store`] the directory with the newest two.

pub(crate) mod file;
pub(crate) mod store;
