//! Whose pods are whose: a controller adopts pods that match its selector and that nobody manages, and releases its own
//! that no longer match (upstream's `PodControllerRefManager`).

use serde_json::{Value, json};

use super::garbage;
use crate::model::{Meta, Pod, to_value};
use crate::plan::{Ctx, Plan};
use crate::selector::LabelSelector;
use crate::world::Object;

/// Somebody who manages pods.
pub(super) struct Manager<'m> {
    pub(super) meta: &'m Meta,
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) selector: &'m LabelSelector,
    /// Which pods of nobody are taken.
    pub(super) adopts: &'m dyn Fn(&Pod) -> bool,
    /// What else changes with a pod that is adopted, or released.
    pub(super) adopting: fn(&mut Value),
    pub(super) releasing: fn(&mut Value),
}

impl Manager<'_> {
    /// All its pods that match, those that are adopted now too.
    pub(super) fn pods<'a>(&self, ctx: &Ctx<'a>, plan: &mut Plan) -> Vec<&'a Object<Pod>> {
        let meta = self.meta;
        let mut pods = Vec::new();
        for pod in ctx.world.pods_owned_by(&meta.uid) {
            if !pod.object.metadata.is_controlled_by(&meta.uid) {
                continue;
            }
            if self.selector.selects(&pod.object.metadata.labels) {
                pods.push(pod);
            } else if !meta.terminating() {
                self.release(pod, plan);
            }
        }
        if meta.terminating() || self.selector.is_empty() {
            return pods;
        }
        for pod in ctx.world.orphan_pods(&meta.namespace) {
            if (self.adopts)(&pod.object) && self.selector.selects(&pod.object.metadata.labels) {
                self.adopt(pod, plan);
                pods.push(pod);
            }
        }
        pods
    }

    fn adopt(&self, pod: &Object<Pod>, plan: &mut Plan) {
        let mut object = to_value(&pod.stored);
        let owner = json!(self.meta.as_controller(self.api_version, self.kind));
        match object["metadata"]["ownerReferences"].as_array_mut() {
            Some(owners) => owners.push(owner),
            None => object["metadata"]["ownerReferences"] = json!([owner]),
        }
        (self.adopting)(&mut object);
        plan.update(&pod.stored, object, "");
    }

    fn release(&self, pod: &Object<Pod>, plan: &mut Plan) {
        let mut object = to_value(&pod.stored);
        garbage::remove_owners(&mut object, |owner| owner == self.meta.uid);
        (self.releasing)(&mut object);
        plan.update(&pod.stored, object, "");
    }
}

/// Nothing.
pub(super) fn as_it_is(_: &mut Value) {}
