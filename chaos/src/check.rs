//! Checks of histories: one file for each promise.
//!
//! The searches ([`linear`], [`minimal`], [`watch`]) know nothing of runs. The others look at the evidence of a run,
//! and each ends in a [`Check`]: *pass* only when what it is about was there to be looked at, else *unknown*.

pub mod agreement;
pub mod bank;
pub mod conditional;
pub mod course;
pub mod coverage;
pub mod disaster;
pub mod expectations;
pub mod kube;
pub mod leaders;
pub mod leases;
pub mod left;
pub mod linear;
pub mod linearizable;
pub mod lists;
pub mod lost;
pub mod membership;
pub mod memberships;
pub mod minimal;
pub mod objects;
pub mod open;
pub mod revisions;
pub mod state;
pub mod watch;
pub mod watches;

use crate::model::Family;
use crate::report::{Check, Evidence, NotChecked};

/// Checks that are no part of such a run, with the reason; the others pass without them.
#[must_use]
pub fn not_checked(evidence: &Evidence) -> Vec<NotChecked> {
    evidence.kube.as_ref().map(kube::not_checked).unwrap_or_default()
}

/// All checks that a run's workload calls for.
#[must_use]
pub fn all(evidence: &Evidence) -> Vec<Check> {
    let last = objects::last_reads(evidence);
    let objects = objects::of(evidence, &last);
    let kinds = &evidence.options.scenario.workload.kinds;
    let mut checks = vec![
        course::check(evidence),
        coverage::check(evidence),
        linearizable::check(evidence, &objects),
        lost::check(evidence),
        watches::check(evidence),
        revisions::check(evidence),
        conditional::check(evidence),
        agreement::check(evidence),
        state::check(evidence),
    ];
    if kinds.contains(&Family::Append) {
        checks.push(lists::check(evidence, &objects));
    }
    if kinds.contains(&Family::Bank) {
        checks.push(bank::check(evidence));
    }
    if kinds.contains(&Family::Leases) {
        checks.push(leases::check(evidence));
    }
    if let Some(kube) = &evidence.kube {
        checks.extend(kube::all(kube, evidence.options.scenario.workload.nodes));
    }
    checks.extend(disaster::check(evidence));
    checks.extend([
        leaders::check(evidence),
        membership::check(evidence),
        expectations::check(evidence),
        left::check(evidence),
    ]);
    checks
}
