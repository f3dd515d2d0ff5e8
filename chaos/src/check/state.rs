//! Masters that have applied the same entries of the log have the same state.
//!
//! Source: state machine safety (Raft, Figure 3), and `reliability.md` section 8: hashes of the state at an equal
//! index are equal (etcd's corruption check, `HashKV`). Each master tells in its status how far it is, and a hash over
//! all objects then; all that it told during the run is compared with what others told at the same index.

use crate::report::{Check, Evidence};

const NAME: &str = "state";

/// Fails for each difference; unknown when no two masters were seen after the same entry.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let observed = &evidence.observed;
    let checked = format!("{} states that another master had, too", observed.compared);
    let alone = evidence.options.scenario.masters == 1;
    if observed.compared == 0 && !alone {
        let why =
            "no two masters told their state after the same entry, or they are older and do not";
        return Check::unknown(NAME, checked, why);
    }
    Check::broken(NAME, checked, observed.differ.clone())
}
