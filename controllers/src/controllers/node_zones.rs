//! Eviction by zones: nodes that are not ready get their NoExecute taint one after the other.
//!
//! Desired: such a taint on every node that is not ready, but never faster than the zone's rate:
//! full rate when most of the zone is well (or when all of it is gone and others are well), the
//! secondary rate, or none in a small zone, when much of it is not; and none at all, also not those
//! that are there, when every zone is gone: then it is us who cannot see (design, section 7). When
//! a taint was given last is read from the taints themselves, so a new leader goes on at the same
//! pace.

use std::time::Duration;

use jiff::Timestamp;

use super::node_lifecycle::{NOT_READY, UNREACHABLE, taint, with_taints};
use crate::model::{Node, Taint, condition};
use crate::plan::{Ctx, Plan, after};
use crate::world::{Object, ZoneCount};

/// Not ready nodes from which a zone may be unhealthy at all.
const FEW_NODES: usize = 2;

/// What is to be done for all zones.
pub(super) fn plan(ctx: &Ctx<'_>) -> Plan {
    let mut plan = Plan::default();
    let zones = ctx.world.zones();
    if zones.values().all(|zone| zone.not_ready == 0) {
        return plan;
    }
    let all_gone = zones.values().all(|zone| zone.not_ready == zone.nodes);
    if all_gone {
        stop_evictions(ctx, &mut plan);
        return plan;
    }
    for (zone, count) in zones {
        if count.not_ready > 0 {
            evict(ctx, zone, rate(ctx, *count), &mut plan);
        }
    }
    plan
}

/// Nodes per second.
fn rate(ctx: &Ctx<'_>, zone: ZoneCount) -> f64 {
    let config = ctx.config;
    #[allow(clippy::cast_precision_loss)] // counts of nodes
    let share = zone.not_ready as f64 / zone.nodes.max(1) as f64;
    if zone.not_ready == zone.nodes {
        config.node_eviction_rate
    } else if zone.not_ready > FEW_NODES && share >= config.unhealthy_zone_threshold {
        if zone.nodes > config.large_cluster_size_threshold {
            config.secondary_node_eviction_rate
        } else {
            0.0
        }
    } else {
        config.node_eviction_rate
    }
}

fn is_eviction(taint: &Taint) -> bool {
    taint.effect == "NoExecute" && (taint.key == NOT_READY || taint.key == UNREACHABLE)
}

fn stop_evictions(ctx: &Ctx<'_>, plan: &mut Plan) {
    for node in ctx.world.nodes.iter() {
        if node.object.spec.taints.iter().any(is_eviction) {
            let rest: Vec<Taint> = node
                .object
                .spec
                .taints
                .iter()
                .filter(|taint| !is_eviction(taint))
                .cloned()
                .collect();
            plan.update(&node.stored, with_taints(node, &rest), "");
        }
    }
}

/// Gives the next node of a zone its taint, if it is time.
fn evict(ctx: &Ctx<'_>, zone: &str, rate: f64, plan: &mut Plan) {
    let nodes = || ctx.world.nodes.iter().filter(|node| node.object.zone() == zone);
    let since = |node: &Node| {
        condition(&node.status.conditions, "Ready").and_then(|ready| ready.last_transition_time)
    };
    let waits = |node: &&Object<Node>| {
        let not_ready = node.object.ready().is_some_and(|ready| ready != "True");
        not_ready && !node.object.spec.taints.iter().any(is_eviction)
    };
    let next = nodes()
        .filter(waits)
        .min_by_key(|node| (since(&node.object), node.stored.key.object.clone()));
    let Some(next) = next.filter(|_| rate > 0.0) else {
        return;
    };
    let grace = ctx.config.node_monitor_grace_period;
    if ctx.watching_for < grace {
        plan.wake_after(grace - ctx.watching_for);
        return;
    }
    let pause = Duration::from_secs_f64((1.0 / rate).min(86_400.0));
    let last: Option<Timestamp> = nodes()
        .flat_map(|node| &node.object.spec.taints)
        .filter(|taint| is_eviction(taint))
        .filter_map(|taint| taint.time_added)
        .max();
    let earliest = last.map_or(ctx.now, |last| after(last, pause));
    if earliest > ctx.now {
        plan.wake_at(earliest, ctx.now);
        return;
    }
    let key = if next.object.ready() == Some("Unknown") { UNREACHABLE } else { NOT_READY };
    let mut taints = next.object.spec.taints.clone();
    taints.push(taint(key, "NoExecute", ctx));
    plan.update(&next.stored, with_taints(next, &taints), "");
    plan.wake_after(pause);
}
