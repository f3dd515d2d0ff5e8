//! The history of a stateful set: the revision that its pods are at, the one that they are brought to, and older ones.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::members::revision_of;
use crate::controllers::deployment::hash;
use crate::controllers::history::{self, Owner, Revision};
use crate::model::{Pod, StatefulSet, to_value};
use crate::plan::{Ctx, Plan};
use crate::world::Object;

/// The label with the hash that is in a revision's name.
const HASH: &str = "controller.kubernetes.io/hash";

/// See the module.
pub(super) struct Revisions<'a> {
    pub(super) current: Template,
    pub(super) update: Template,
    /// Those that are stored, oldest first.
    stored: Vec<Revision<'a>>,
}

/// A revision's name, and what its pods are like.
#[derive(Clone)]
pub(super) struct Template {
    pub(super) name: String,
    pub(super) template: Value,
}

impl Template {
    fn of(revision: Revision<'_>) -> Self {
        let name = history::name(&revision).to_owned();
        Self { name, template: history::template_of(revision) }
    }
}

/// Finds or makes the revision of the template; `None` when something else has to be written first.
pub(super) fn construct<'a>(
    ctx: &Ctx<'a>,
    found: &Object<StatefulSet>,
    plan: &mut Plan,
) -> Option<Revisions<'a>> {
    let set = &found.object;
    let owner = Owner { meta: &set.metadata, kind: "StatefulSet", selector: &set.spec.selector };
    let stored = owner.revisions(ctx, plan)?;
    let patch = history::patch_of(&set.spec.template);
    let highest = stored.last().map_or(0, |last| last.object.revision);
    let same = stored.iter().rev().find(|revision| revision.object.data == patch);
    let update = match same {
        Some(same) => {
            let newest = stored.last().is_some_and(|last| last.object.data == patch);
            if !newest {
                history::renumber(same, highest + 1, plan);
            }
            Template::of(same)
        }
        None => {
            let collisions = set.status.collision_count.unwrap_or(0);
            let hash = hash::of(&set.spec.template, Some(collisions));
            let name = owner.name_of(&hash);
            if owner.taken(ctx, &name) {
                let mut object = to_value(&found.stored);
                object["status"]["collisionCount"] = json!(collisions.saturating_add(1));
                plan.update(&found.stored, object, "status");
                return None;
            }
            let mut labels = history::labels_of(&set.spec.template);
            labels.insert(HASH.to_owned(), hash);
            owner.create((&name, &labels), &patch, highest + 1, plan);
            Template { name, template: set.spec.template.clone() }
        }
    };
    let current = stored.iter().find(|known| history::name(known) == set.status.current_revision);
    let current = current.map_or_else(|| update.clone(), |known| Template::of(known));
    Some(Revisions { current, update, stored })
}

/// Deletes revisions that nobody is of beyond `revisionHistoryLimit`, the oldest first.
pub(super) fn clean_up(
    set: &StatefulSet,
    revisions: &Revisions<'_>,
    pods: &[&Object<Pod>],
    plan: &mut Plan,
) {
    let mut live: BTreeSet<&str> = pods.iter().map(|pod| revision_of(&pod.object)).collect();
    live.insert(&revisions.current.name);
    live.insert(&revisions.update.name);
    let idle: Vec<_> = revisions
        .stored
        .iter()
        .filter(|revision| !live.contains(history::name(revision)))
        .filter(|revision| !revision.object.metadata.terminating())
        .collect();
    let limit = usize::try_from(set.spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
    for revision in idle.iter().take(idle.len().saturating_sub(limit)) {
        plan.delete(&revision.stored);
    }
}
