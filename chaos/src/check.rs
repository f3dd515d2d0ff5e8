//! Checks of histories.

pub mod linear;
