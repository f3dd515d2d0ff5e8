//! The fault-injection harness: simulated worlds, real processes, faults, checkers (design, section 2).
//!
//! Nothing of it is built yet; the crate holds its place in the layout. The faults that are injected today are in the
//! tests of `raft/` (crash, power loss) and in `tests/` (processes killed).
