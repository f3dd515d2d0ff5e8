//! Scenarios: which faults come when, under which workload, and what is expected of the cluster.
//!
//! A scenario is a value without chance: everything random in a file (`random:`) or without a file
//! ([`generate`]) is drawn from a seed before the run. What is still open is who leads.

pub mod builtin;
pub mod expect;
pub mod fault;
pub mod generate;
pub mod minimise;
pub mod read;
pub mod span;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::model::Family;
pub use expect::Expect;
use fault::machine::{Away, Certificate, DiskCall, DiskError, HarmedFile};
use fault::place::Place;
pub use fault::{Direction, Fault, Target};
pub use span::{Shift, Span};

/// What a run does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scenario {
    /// Its name: of the file, of the report, of `quorate chaos scenarios show`.
    pub name: String,
    /// One line for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// How many masters.
    pub masters: usize,
    /// Masters that run the older program at first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub older: Vec<Target>,
    /// Chooses what clients do, and whom `any`, `minority` and the like mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What clients do meanwhile.
    pub workload: Workload,
    /// The faults, in the order of their beginnings.
    pub schedule: Vec<Step>,
    /// What the cluster has to keep.
    pub expect: Expect,
}

/// What clients do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Kinds of clients; the clients are dealt out to them in turn.
    pub kinds: Vec<Family>,
    /// Clients; each has one operation at a time.
    pub clients: usize,
    /// Objects that they share.
    pub keys: usize,
    /// Node agents, for pods that really run; 0 when Kubernetes itself is no part of the workload.
    #[serde(skip_serializing_if = "is_zero")]
    pub nodes: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Default for Workload {
    fn default() -> Self {
        Self { kinds: vec![Family::Register], clients: 9, keys: 6, nodes: 0 }
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its beginning, after the beginning of the run.
    pub at: Span,
    /// From its beginning until it is taken back.
    #[serde(rename = "for")]
    pub lasts: Span,
    /// Which.
    pub fault: Fault,
    /// Whom it meets; `None` for kinds that meet all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Its details.
    #[serde(flatten)]
    pub with: Parameters,
    /// Whether a run in which it did not happen says nothing.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub required: bool,
}

/// Details of a fault; each kind knows some ([`Fault::parameters`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// Of `delay`: what every message waits; of `disk-slow` and `slow-start`: what every sync takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// Of `delay`: what it waits besides, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Span>,
    /// Of `loss`: how many packets of 100 are lost; of `throttle`: what is left of a processor; of `clock-drift`: how
    /// much faster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Of `slow`: KiB that pass a link in each direction each second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kib_per_second: Option<u32>,
    /// Of `restart-loop`, `rolling-restart`, `reset`, `clock-strobe`, `power-loss`: between two strokes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// Of `one-way` and `clock-drift`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Of `clock-jump` and `clock-strobe`: how far from the truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Shift>,
    /// Of `clock-drift`: the monotonic clock too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub monotonic: bool,
    /// Of `disk-error`: which calls fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<DiskCall>,
    /// Of `disk-error`: with what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<DiskError>,
    /// Of `disk-error`: how often; while it lasts without it. Of `crash-point`: when it comes there for this time.
    /// Of `connections`, `slow-watchers` and `api-flood`: how many to each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Of `crash-point`: where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point: Option<Place>,
    /// Of `memory`: MiB that there are beside what the master has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mib: Option<u32>,
    /// Of `bit-flip` and `truncate-tail`: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<HarmedFile>,
    /// Of `certificates`: what is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Of `short-lived`: how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away: Option<Away>,
}

impl Step {
    /// What the host must have.
    #[must_use]
    pub fn need(&self) -> fault::Need {
        match (self.fault, self.with.point) {
            (Fault::CrashPoint, Some(Place::Code(_) | Place::Any)) => fault::Need::Points,
            (fault, _) => fault.need(),
        }
    }
}

impl Scenario {
    /// As a file.
    ///
    /// # Errors
    /// Never for a scenario that was read or generated.
    pub fn to_yaml(&self) -> anyhow::Result<String> {
        Ok(serde_saphyr::to_string(self)?)
    }

    /// Kinds of faults that must happen, or the verdict is unknown.
    #[must_use]
    pub fn required(&self) -> Vec<Fault> {
        let mut kinds: Vec<Fault> =
            self.schedule.iter().filter(|step| step.required).map(|step| step.fault).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// Masters that are not there at the beginning: each joins later.
    #[must_use]
    pub fn absent(&self) -> BTreeSet<usize> {
        let joins = self.schedule.iter().filter(|step| step.fault == Fault::Join);
        let name = |step: &Step| match step.target {
            Some(Target::Master(master)) => Some(master),
            _ => None,
        };
        joins.filter_map(name).collect()
    }

    /// Until the last fault is taken back.
    #[must_use]
    pub fn lasts(&self) -> Span {
        let ends = self.schedule.iter().map(|step| Span(step.at.0 + step.lasts.0));
        ends.max().unwrap_or(Span(0))
    }

    /// Whether certificates live for seconds in all of it.
    #[must_use]
    pub fn is_short_lived(&self) -> bool {
        self.schedule.iter().any(|step| step.fault == Fault::ShortLived)
    }

    /// Whether it needs any of these.
    #[must_use]
    pub fn needs(&self, need: fault::Need) -> bool {
        self.schedule.iter().any(|step| step.need() == need)
    }
}
