//! The fault-injection harness: what happened (histories), what may happen (models), and checks that tell whether the one
//! is explained by the other (design, section 2).
//!
//! Built so far: the linearizability checker and its models. Worlds (simulated and real), faults, scenarios and the
//! report are not there yet; the faults that are injected today are in the tests of `raft/` (crash, power loss) and in
//! `tests/` (processes killed).

pub mod check;
pub mod history;
pub mod limits;
pub mod model;
