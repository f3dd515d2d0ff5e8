//! Checks of histories.

pub mod linear;
pub mod minimal;
pub mod watch;
