//! The fault-injection harness: what happened (histories), what may happen (models), and checks that tell whether the
//! one is explained by the other (design, section 2).
//!
//! Built so far: the checkers, scenarios, and real masters under faults of processes, network, clocks, disks and power.
//! The simulated world is not there yet.

pub mod check;
pub mod cli;
pub mod history;
pub mod limits;
pub mod model;
pub mod real;
pub mod report;
pub mod scenario;
pub mod sim;
