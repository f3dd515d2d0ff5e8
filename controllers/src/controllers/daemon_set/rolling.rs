//! The rolling update: pods of older templates go, or get a new one beside them, within what the strategy allows.

use super::nodes::{Fit, Judge};
use super::placing::Placing;
use super::{ByNode, available, is_updated};
use crate::controllers::pod_template::scaled_up;
use crate::model::{DaemonSet, Pod};
use crate::plan::Ctx;
use crate::world::Object;

/// What one node has.
struct Pair<'a> {
    new: Option<&'a Object<Pod>>,
    old: Option<&'a Object<Pod>>,
}

pub(super) fn of<'a>(
    ctx: &Ctx<'_>,
    set: &DaemonSet,
    mut pods: ByNode<'a>,
    hash: &str,
) -> Placing<'a> {
    let judge = Judge::new(set);
    let mut desired = 0;
    for node in ctx.world.all_nodes() {
        if judge.fit(&node.object) == Fit::Runs {
            desired += 1;
            pods.entry(node.object.metadata.name.clone()).or_default();
        }
    }
    let rolling = &set.spec.update_strategy.rolling_update;
    let surge = scaled_up(&rolling.max_surge, desired);
    let unavailable = scaled_up(&rolling.max_unavailable, desired);
    // What the API refuses: nothing could move.
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    if surge == 0 {
        replace(ctx, set, &pods, hash, unavailable)
    } else {
        add(ctx, set, (&judge, &pods), hash, surge)
    }
}

/// What is not being deleted; `None` when there are two of a kind, which is cleaned up elsewhere.
fn pair<'a>(set: &DaemonSet, there: &[&'a Object<Pod>], hash: &str) -> Option<Pair<'a>> {
    let mut pair = Pair { new: None, old: None };
    for pod in there.iter().copied().filter(|pod| !pod.object.metadata.terminating()) {
        let updated = is_updated(set, &pod.object, hash);
        let place = if updated { &mut pair.new } else { &mut pair.old };
        if place.replace(pod).is_some() {
            return None;
        }
    }
    Some(pair)
}

/// Old pods go, as many as may be missing; those that do not work anyway at once.
fn replace<'a>(
    ctx: &Ctx<'_>,
    set: &DaemonSet,
    pods: &ByNode<'a>,
    hash: &str,
    unavailable_max: usize,
) -> Placing<'a> {
    let mut unavailable = 0;
    let mut placing = Placing::default();
    let mut candidates = Vec::new();
    for there in pods.values() {
        match pair(set, there, hash) {
            Some(Pair { new: Some(new), old: None }) => {
                unavailable += usize::from(!available(ctx, set, &new.object));
            }
            Some(Pair { new: None, old: Some(old) }) => {
                if available(ctx, set, &old.object) {
                    candidates.push(old);
                } else {
                    placing.surplus.push(old);
                }
            }
            // Somebody comes or goes there.
            _ => unavailable += 1,
        }
    }
    placing
        .surplus
        .extend(candidates.into_iter().take(unavailable_max.saturating_sub(unavailable)));
    placing
}

/// New pods come beside old ones, and the old ones go once the new ones are available.
fn add<'a>(
    ctx: &Ctx<'_>,
    set: &DaemonSet,
    (judge, pods): (&Judge<'_>, &ByNode<'a>),
    hash: &str,
    surge_max: usize,
) -> Placing<'a> {
    let mut surge = 0;
    let mut placing = Placing::default();
    let mut candidates = Vec::new();
    for (node, there) in pods {
        match pair(set, there, hash) {
            None => surge += 1,
            Some(Pair { old: None, .. }) => {}
            Some(Pair { new: None, old: Some(old) }) => {
                match ctx.world.node(node).map(|found| judge.fit(&found.object)) {
                    None => surge += 1,
                    Some(Fit::Runs) if available(ctx, set, &old.object) => {
                        candidates.push(node.clone());
                    }
                    Some(Fit::Runs) => placing.nodes.push(node.clone()),
                    Some(Fit::Stays | Fit::Not) => placing.surplus.push(old),
                }
            }
            Some(Pair { new: Some(new), old: Some(old) }) => {
                if available(ctx, set, &new.object) {
                    placing.surplus.push(old);
                } else {
                    surge += 1;
                }
            }
        }
    }
    placing.nodes.extend(candidates.into_iter().take(surge_max.saturating_sub(surge)));
    placing
}
