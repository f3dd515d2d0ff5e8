//! The history of a daemon set: the revision of its template, and those of older ones.

use std::collections::BTreeSet;

use serde_json::json;

use super::ByNode;
use crate::controllers::deployment::hash;
use crate::controllers::history::{self, HASH_LABEL, Owner, Revision};
use crate::controllers::pod_template::label;
use crate::model::{DaemonSet, to_value};
use crate::plan::{Ctx, Plan};
use crate::world::Object;

/// What a daemon set was and is.
pub(super) struct History<'a> {
    /// The hash of the newest template, in the label of its pods.
    pub(super) hash: String,
    /// Revisions of older templates, oldest first.
    old: Vec<Revision<'a>>,
}

/// Finds or makes the revision of the template; `None` when something else has to be written first.
pub(super) fn construct<'a>(
    ctx: &Ctx<'a>,
    found: &Object<DaemonSet>,
    pods: &ByNode<'_>,
    plan: &mut Plan,
) -> Option<History<'a>> {
    let set = &found.object;
    let owner = Owner { meta: &set.metadata, kind: "DaemonSet", selector: &set.spec.selector };
    let all = owner.revisions(ctx, plan)?;
    if label_with_names(&all, plan) {
        return None;
    }
    let patch = history::patch_of(&set.spec.template);
    let (mut current, old): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|revision| revision.object.data == patch);
    let number = old.iter().map(|revision| revision.object.revision).max().unwrap_or(0) + 1;
    let Some(newest) = current.pop() else {
        let hash = hash::of(&set.spec.template, set.status.collision_count);
        let name = owner.name_of(&hash);
        if owner.taken(ctx, &name) {
            collide(found, plan);
            return None;
        }
        let mut labels = history::labels_of(&set.spec.template);
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        owner.create((&name, &labels), &patch, number, plan);
        return Some(History { hash, old });
    };
    let hash = newest.object.metadata.labels.get(HASH_LABEL).cloned().unwrap_or_default();
    if !current.is_empty() {
        merge(&current, &hash, pods, plan);
        return None;
    }
    if newest.object.revision < number {
        history::renumber(newest, number, plan);
    }
    Some(History { hash, old })
}

/// A revision without the label is called by its name. Whether there was one.
fn label_with_names(all: &[Revision<'_>], plan: &mut Plan) -> bool {
    let mut any = false;
    for revision in all {
        if !revision.object.metadata.labels.contains_key(HASH_LABEL) {
            let mut object = to_value(&revision.stored);
            label(&mut object, HASH_LABEL, history::name(revision));
            plan.update(&revision.stored, object, "");
            any = true;
        }
    }
    any
}

/// Somebody else has a revision of this name: the next plan tries another hash.
fn collide(found: &Object<DaemonSet>, plan: &mut Plan) {
    let mut object = to_value(&found.stored);
    let collisions = found.object.status.collision_count.unwrap_or(0).saturating_add(1);
    object["status"]["collisionCount"] = json!(collisions);
    plan.update(&found.stored, object, "status");
}

/// Several revisions say the same: the newest stays, and the pods are of it.
fn merge(duplicates: &[Revision<'_>], hash: &str, pods: &ByNode<'_>, plan: &mut Plan) {
    let theirs: BTreeSet<&str> = duplicates
        .iter()
        .filter_map(|revision| revision.object.metadata.labels.get(HASH_LABEL))
        .map(String::as_str)
        .collect();
    for pod in pods.values().flatten() {
        let of = pod.object.metadata.labels.get(HASH_LABEL).map(String::as_str);
        if of.is_some_and(|of| of != hash && theirs.contains(of)) {
            let mut object = to_value(&pod.stored);
            label(&mut object, HASH_LABEL, hash);
            plan.update(&pod.stored, object, "");
        }
    }
    for duplicate in duplicates {
        plan.delete(&duplicate.stored);
    }
}

/// Deletes old revisions beyond `revisionHistoryLimit`, the oldest first. Those that pods are of stay.
pub(super) fn clean_up(set: &DaemonSet, history: &History<'_>, pods: &ByNode<'_>, plan: &mut Plan) {
    let limit = usize::try_from(set.spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
    let excess = history.old.len().saturating_sub(limit);
    let live: BTreeSet<&str> = pods
        .values()
        .flatten()
        .filter_map(|pod| pod.object.metadata.labels.get(HASH_LABEL))
        .map(String::as_str)
        .collect();
    let hash = |revision: &Revision<'_>| {
        revision.object.metadata.labels.get(HASH_LABEL).cloned().unwrap_or_default()
    };
    let idle = history.old.iter().filter(|revision| {
        !live.contains(hash(revision).as_str()) && !revision.object.metadata.terminating()
    });
    for revision in idle.take(excess) {
        plan.delete(&revision.stored);
    }
}
