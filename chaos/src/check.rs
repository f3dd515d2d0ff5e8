//! Checks of histories.

pub mod linear;
pub mod watch;
