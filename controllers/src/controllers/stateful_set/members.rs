//! The pods of a set by their ordinals.

use std::collections::BTreeMap;

use super::identity;
use crate::controllers::history::HASH_LABEL;
use crate::model::{Pod, StatefulSet};
use crate::plan::Ctx;
use crate::world::Object;

/// See the module.
pub(super) struct Members<'a> {
    /// Those that are to be, from the first ordinal on: a pod, or `None` when it is not there.
    pub(super) replicas: Vec<Member<'a>>,
    /// Those that are too many, the last first.
    pub(super) condemned: Vec<(i32, &'a Object<Pod>)>,
}

/// One place of a set.
pub(super) struct Member<'a> {
    pub(super) ordinal: i32,
    pub(super) pod: Option<&'a Object<Pod>>,
}

impl<'a> Members<'a> {
    pub(super) fn of(set: &StatefulSet, pods: &[&'a Object<Pod>]) -> Self {
        let mut by_ordinal: BTreeMap<i32, &'a Object<Pod>> = BTreeMap::new();
        for pod in pods.iter().copied() {
            if let Some((_, ordinal)) = identity::parent_and_ordinal(&pod.object.metadata.name) {
                by_ordinal.insert(ordinal, pod);
            }
        }
        let start = set.start();
        let ordinals = start..start.saturating_add(set.replicas());
        let replicas =
            ordinals.map(|ordinal| Member { ordinal, pod: by_ordinal.get(&ordinal).copied() });
        let replicas = replicas.collect();
        let condemned =
            by_ordinal.into_iter().rev().filter(|(ordinal, _)| !set.includes(*ordinal)).collect();
        Self { replicas, condemned }
    }

    /// All pods that are there.
    pub(super) fn pods(&self) -> impl Iterator<Item = &'a Object<Pod>> {
        let replicas = self.replicas.iter().filter_map(|member| member.pod);
        replicas.chain(self.condemned.iter().map(|(_, pod)| *pod))
    }
}

/// The revision that a pod is of.
pub(super) fn revision_of(pod: &Pod) -> &str {
    pod.metadata.labels.get(HASH_LABEL).map_or("", String::as_str)
}

pub(super) fn running_and_ready(pod: &Pod) -> bool {
    pod.status.phase == "Running" && pod.ready()
}

pub(super) fn available(ctx: &Ctx<'_>, set: &StatefulSet, pod: &Pod) -> bool {
    running_and_ready(pod)
        && pod.available_from(set.spec.min_ready_seconds).is_some_and(|from| from <= ctx.now)
}

/// Nobody may count on it: it is not there, not available, or on its way out.
pub(super) fn unavailable(ctx: &Ctx<'_>, set: &StatefulSet, pod: Option<&Object<Pod>>) -> bool {
    pod.is_none_or(|pod| pod.object.metadata.terminating() || !available(ctx, set, &pod.object))
}
