//! `SchedulingGates`: a pod with gates is not tried.

use crate::framework::{Plugin, Rejection};
use crate::pod::PodInfo;

/// See the module.
#[derive(Debug)]
pub struct SchedulingGates;

const NAME: &str = "SchedulingGates";

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Option<Rejection> {
        if pod.gates.is_empty() {
            return None;
        }
        let reason = format!("waiting for scheduling gates: [{}]", pod.gates.join(" "));
        Some(Rejection::unresolvable(NAME, reason))
    }
}
