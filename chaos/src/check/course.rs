//! What cut the run short, and whether every master served again in time after the faults.
//!
//! Source: the harness's own promise (`chaos/src/limits.rs`, `HEALED_MAX`): after the last fault all masters serve
//! again.

use crate::report::{Check, Evidence, Result};

/// Fails when masters are to blame.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let asked = evidence.options.scenario.lasts().duration().as_secs_f64();
    let lasted = evidence.lasted.as_secs_f64();
    let mut found = Vec::new();
    if evidence.stopped {
        found.push(format!("stopped by hand after {lasted:.1} of {asked:.0} s"));
    }
    found.extend(evidence.troubles.iter().map(|trouble| trouble.what.clone()));
    let healed = evidence.healed.map_or_else(
        || "not all masters served after them".to_owned(),
        |healed| format!("all masters served {:.1} s after them", healed.as_secs_f64()),
    );
    let result = if evidence.troubles.iter().any(|trouble| trouble.broke) {
        Result::Fail
    } else if !found.is_empty() || evidence.healed.is_none() {
        Result::Unknown
    } else {
        Result::Pass
    };
    Check::new("course", format!("{lasted:.0} s of faults, {healed}"), result, found)
}
