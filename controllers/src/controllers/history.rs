//! The versions of a workload's template that are kept as ControllerRevisions, so that it can be rolled back
//! (upstream's `pkg/controller/history`, and its twin in the daemon set's controller).

use serde_json::{Value, json};

use super::garbage;
use crate::model::{ControllerRevision, Labels, Meta, to_value};
use crate::plan::{Ctx, Plan};
use crate::resources::CONTROLLER_REVISIONS;
use crate::selector::LabelSelector;
use crate::world::Object;

/// The label with which pods say of which revision they are.
pub(super) const HASH_LABEL: &str = "controller-revision-hash";

/// The longest start of a workload's name in that of a revision (upstream's `ControllerRevisionName`).
const PREFIX_MAX: usize = 223;

/// A revision as it is stored.
pub(super) type Revision<'a> = &'a Object<ControllerRevision>;

/// Whose history it is.
pub(super) struct Owner<'m> {
    pub(super) meta: &'m Meta,
    pub(super) kind: &'static str,
    pub(super) selector: &'m LabelSelector,
}

impl Owner<'_> {
    /// Its revisions, oldest first. `None` when some have to be adopted or released before.
    pub(super) fn revisions<'a>(
        &self,
        ctx: &Ctx<'a>,
        plan: &mut Plan,
    ) -> Option<Vec<Revision<'a>>> {
        let uid = &self.meta.uid;
        let mut revisions = Vec::new();
        let mut complete = true;
        for found in ctx.world.revisions_owned_by(uid) {
            if !found.object.metadata.is_controlled_by(uid) {
                continue;
            }
            if self.selector.selects(&found.object.metadata.labels) {
                revisions.push(found);
            } else if !self.meta.terminating() {
                let mut object = to_value(&found.stored);
                garbage::remove_owners(&mut object, |owner| owner == uid);
                plan.update(&found.stored, object, "");
                complete = false;
            }
        }
        if !self.meta.terminating() {
            for orphan in ctx.world.orphan_revisions(&self.meta.namespace) {
                let meta = &orphan.object.metadata;
                if !meta.terminating() && self.selector.selects(&meta.labels) {
                    self.adopt(orphan, plan);
                    complete = false;
                }
            }
        }
        revisions.sort_by(|a, b| {
            let order = |revision: Revision<'_>| {
                (revision.object.revision, revision.object.metadata.created())
            };
            order(a).cmp(&order(b)).then_with(|| name(a).cmp(name(b)))
        });
        complete.then_some(revisions)
    }

    fn adopt(&self, orphan: Revision<'_>, plan: &mut Plan) {
        let mut object = to_value(&orphan.stored);
        let owner = json!(self.meta.as_controller("apps/v1", self.kind));
        match object["metadata"]["ownerReferences"].as_array_mut() {
            Some(owners) => owners.push(owner),
            None => object["metadata"]["ownerReferences"] = json!([owner]),
        }
        plan.update(&orphan.stored, object, "");
    }

    /// The name of the revision with this hash.
    pub(super) fn name_of(&self, hash: &str) -> String {
        let kept: String = self.meta.name.chars().take(PREFIX_MAX).collect();
        format!("{kept}-{hash}")
    }

    /// Creates a revision.
    pub(super) fn create(
        &self,
        (name, labels): (&str, &Labels),
        data: &Value,
        revision: i64,
        plan: &mut Plan,
    ) {
        let mut metadata = json!({
            "name": name,
            "namespace": self.meta.namespace,
            "labels": labels,
            "ownerReferences": [self.meta.as_controller("apps/v1", self.kind)],
        });
        if !self.meta.annotations.is_empty() {
            metadata["annotations"] = json!(self.meta.annotations);
        }
        let object = json!({
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": metadata,
            "data": data,
            "revision": revision,
        });
        plan.create(CONTROLLER_REVISIONS.group_resource(), object);
    }

    /// Whether the name is somebody's already.
    pub(super) fn taken(&self, ctx: &Ctx<'_>, name: &str) -> bool {
        ctx.world.get(&CONTROLLER_REVISIONS.key(&self.meta.namespace, name)).is_some()
    }
}

/// The name of a revision.
pub(super) fn name<'r>(revision: &'r Revision<'_>) -> &'r str {
    &revision.object.metadata.name
}

/// Gives a revision a number: what was rolled back to becomes the newest.
pub(super) fn renumber(revision: Revision<'_>, number: i64, plan: &mut Plan) {
    let mut object = to_value(&revision.stored);
    object["revision"] = json!(number);
    plan.update(&revision.stored, object, "");
}

/// The strategic merge patch that restores a template.
pub(super) fn patch_of(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        // Written by some clients, never set by anyone.
        metadata.remove("creationTimestamp");
    }
    template["$patch"] = json!("replace");
    json!({ "spec": { "template": template } })
}

/// The template that a revision restores.
pub(super) fn template_of(revision: Revision<'_>) -> Value {
    let mut template = revision.object.data["spec"]["template"].clone();
    if let Some(fields) = template.as_object_mut() {
        fields.remove("$patch");
    }
    template
}

/// The labels of a template.
pub(super) fn labels_of(template: &Value) -> Labels {
    let labels = template["metadata"]["labels"].as_object().into_iter().flatten();
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    labels.filter_map(text).collect()
}
