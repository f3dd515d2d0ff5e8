//! The claims of a set's pods: made from its templates, named after template, set and ordinal, and kept or left to
//! the garbage collector as the retention policy says.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{event, identity};
use crate::controllers::history;
use crate::model::{Meta, OwnerReference, Pod, StatefulSet, decode, to_value};
use crate::plan::{Ctx, Plan};
use crate::resources::CLAIMS;
use crate::world::Object;
use quorate_state_machine::object::StoredRef;

/// A claim, as far as sets look at it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Claim {
    metadata: Meta,
}

/// The name of the claim that a template makes for an ordinal.
pub(super) fn name_of(set: &StatefulSet, template: &Value, ordinal: i32) -> String {
    let template = template["metadata"]["name"].as_str().unwrap_or_default();
    format!("{template}-{}-{ordinal}", set.metadata.name)
}

/// The claims of an ordinal that are there.
fn stored<'a>(ctx: &Ctx<'a>, set: &StatefulSet, ordinal: i32) -> Vec<(&'a StoredRef, Claim)> {
    let find = |template: &Value| {
        let name = name_of(set, template, ordinal);
        let stored = ctx.world.get(&CLAIMS.key(&set.metadata.namespace, &name))?;
        Some((stored, decode(stored)?))
    };
    set.spec.volume_claim_templates.iter().filter_map(find).collect()
}

/// Creates the claims of an ordinal that are missing. Whether all will be there: one that is being deleted is waited
/// for.
pub(super) fn create_missing(
    ctx: &Ctx<'_>,
    set: &StatefulSet,
    ordinal: i32,
    plan: &mut Plan,
) -> bool {
    let pod = identity::name_of(set, ordinal);
    let mut complete = true;
    for template in &set.spec.volume_claim_templates {
        let name = name_of(set, template, ordinal);
        let key = CLAIMS.key(&set.metadata.namespace, &name);
        if let Some(there) = ctx.world.get(&key) {
            complete &= there.image.header.deletion.is_none();
            continue;
        }
        let step = plan.create(CLAIMS.group_resource(), claim_of(set, template, &name));
        let whose = &set.metadata.name;
        let done = format!("create Claim {name} Pod {pod} in StatefulSet {whose} success");
        let refused = format!(
            "create Claim {name} for Pod {pod} in StatefulSet {whose} failed error: {{error}}"
        );
        step.done = Some(event(set, false, "SuccessfulCreate", done));
        step.refused = Some(event(set, true, "FailedCreate", refused));
    }
    complete
}

fn claim_of(set: &StatefulSet, template: &Value, name: &str) -> Value {
    let mut claim = template.clone();
    claim["apiVersion"] = json!("v1");
    claim["kind"] = json!("PersistentVolumeClaim");
    let mut labels = history::labels_of(&json!({ "metadata": template["metadata"] }));
    labels.extend(set.spec.selector.match_labels.clone());
    claim["metadata"]["name"] = json!(name);
    claim["metadata"]["namespace"] = json!(set.metadata.namespace);
    claim["metadata"]["labels"] = json!(labels);
    if let Some(fields) = claim.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = claim["metadata"].as_object_mut() {
        metadata.remove("creationTimestamp");
    }
    claim
}

/// Whether a claim still goes with a pod of that name that is gone: a new pod must not use it.
pub(super) fn stale(ctx: &Ctx<'_>, set: &StatefulSet, ordinal: i32) -> bool {
    let pod = identity::name_of(set, ordinal);
    let gone = |owner: &OwnerReference| {
        owner.kind == "Pod" && owner.name == pod && ctx.world.by_uid(&owner.uid).is_none()
    };
    let claims = stored(ctx, set, ordinal);
    claims.iter().any(|(_, claim)| claim.metadata.owner_references.iter().any(gone))
}

/// Who a claim goes with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    WithPod,
    WithSet,
    /// It is kept.
    Never,
}

fn goes(set: &StatefulSet, condemned: bool) -> Goes {
    let Some(policy) = &set.spec.persistent_volume_claim_retention_policy else {
        return Goes::Never;
    };
    match (policy.when_scaled.as_str(), policy.when_deleted.as_str()) {
        ("Delete", _) if condemned => Goes::WithPod,
        (_, "Delete") => Goes::WithSet,
        _ => Goes::Never,
    }
}

/// Gives the claims of a pod the owners that the retention policy asks for. Claims that somebody else manages are left
/// alone.
pub(super) fn fit_owners(
    ctx: &Ctx<'_>,
    set: &StatefulSet,
    (ordinal, pod): (i32, &Object<Pod>),
    plan: &mut Plan,
) {
    let goes = goes(set, !set.includes(ordinal));
    let (set_uid, pod_uid) = (&set.metadata.uid, &pod.object.metadata.uid);
    for (stored, claim) in stored(ctx, set, ordinal) {
        let owners = &claim.metadata.owner_references;
        let ours = |owner: &OwnerReference| owner.uid == *set_uid || owner.uid == *pod_uid;
        if claim.metadata.controller().is_some_and(|owner| !ours(owner)) {
            continue;
        }
        let owned = |uid: &str| owners.iter().any(|owner| owner.uid == uid);
        if owned(set_uid) == (goes == Goes::WithSet) && owned(pod_uid) == (goes == Goes::WithPod) {
            continue;
        }
        let mut kept: Vec<OwnerReference> =
            owners.iter().filter(|owner| !ours(owner)).cloned().collect();
        match goes {
            Goes::WithPod => kept.push(pod.object.metadata.as_controller("v1", "Pod")),
            Goes::WithSet => kept.push(set.metadata.as_controller("apps/v1", "StatefulSet")),
            Goes::Never => {}
        }
        let mut object = to_value(stored);
        object["metadata"]["ownerReferences"] = json!(kept);
        plan.update(stored, object, "");
    }
}
