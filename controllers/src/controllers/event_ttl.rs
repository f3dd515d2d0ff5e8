//! Event expiry: an Event lives for a time after its last change (upstream lets etcd's leases do
//! it).

use jiff::Timestamp;
use quorate_state_machine::Key;
use serde::Deserialize;

use crate::model::{Meta, decode};
use crate::plan::{Ctx, Plan, after};

/// An Event, as far as its age is concerned.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Event {
    metadata: Meta,
    event_time: Option<Timestamp>,
    last_timestamp: Option<Timestamp>,
    series: Option<EventSeries>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EventSeries {
    last_observed_time: Option<Timestamp>,
}

/// What is to be done for one Event.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(stored) = ctx.world.get(key) else {
        return plan;
    };
    let event: Event = decode(stored).unwrap_or_default();
    let changed = [
        event.metadata.creation_timestamp,
        event.event_time,
        event.last_timestamp,
        event.series.and_then(|series| series.last_observed_time),
    ];
    // Clients choose these times: one in the future must not keep an Event for ever.
    let last = changed.into_iter().flatten().filter(|time| *time <= ctx.now).max();
    let expiry = after(last.unwrap_or(ctx.now), ctx.config.event_ttl);
    if expiry <= ctx.now {
        plan.delete(stored);
    } else {
        plan.wake_at(expiry, ctx.now);
    }
    plan
}
