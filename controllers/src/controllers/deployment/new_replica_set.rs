//! The ReplicaSet of the newest template: finding it, keeping its annotations, creating it.

use serde_json::{Value, json};

use super::draft::{DESIRED_REPLICAS, Draft, MAX_REPLICAS, REVISION, REVISION_HISTORY, SetDraft};
use super::{fenceposts, hash, revision, rollout, status};
use crate::model::Labels;

/// Annotations of a Deployment that its ReplicaSets do not get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// Moves the ReplicaSet of the newest template, if there is one, from `old` to `new` and brings its
/// annotations and the Deployment's revision up to date. Of several the oldest counts.
pub(super) fn find(draft: &mut Draft<'_>) {
    let template = &draft.deployment.spec.template;
    let matches = |set: &SetDraft<'_>| {
        set.object().is_some_and(|object| hash::same_template(&object.spec.template, template))
    };
    let Some(at) = draft.old.iter().position(matches) else {
        return;
    };
    let mut set = draft.old.remove(at);
    let newest = revision::highest(&draft.old) + 1;
    annotate(draft, &mut set, newest);
    set.min_ready_seconds = draft.deployment.spec.min_ready_seconds;
    draft.revision = set.annotations.get(REVISION).cloned();
    let progressing = status::has_deadline(draft.deployment)
        && status::condition(&draft.base, status::PROGRESSING).is_none();
    if progressing {
        let message = format!("Found new replica set {:?}", set.name);
        status::note(draft, "True", "FoundNewReplicaSet", message);
    }
    draft.new = Some(set);
}

/// As [`find`]; creates the ReplicaSet when there is none. After a hash collision only the
/// collision count goes up, and the next plan tries another hash.
pub(super) fn find_or_create(draft: &mut Draft<'_>) {
    find(draft);
    if draft.new.is_some() {
        return;
    }
    let deployment = draft.deployment;
    let template_hash = hash::of(&deployment.spec.template, deployment.status.collision_count);
    let name = format!("{}-{template_hash}", deployment.metadata.name);
    let taken = crate::resources::REPLICA_SETS.key(&deployment.metadata.namespace, &name);
    if draft.ctx.world.get(&taken).is_some() {
        let collisions = deployment.status.collision_count.unwrap_or(0).saturating_add(1);
        draft.base.collision_count = Some(collisions);
        return;
    }
    let object = fresh(draft, &name, &template_hash);
    let newest = revision::highest(&draft.old) + 1;
    let mut set = SetDraft::fresh(name, object, deployment.spec.min_ready_seconds);
    annotate(draft, &mut set, newest);
    set.replicas = rollout::replicas_of_new(draft, 0);
    let (surge, _) = fenceposts::of(deployment);
    set.annotate_replicas(deployment.spec.replicas, surge);
    draft.revision = set.annotations.get(REVISION).cloned();
    if status::has_deadline(deployment) {
        match draft.ctx.failure {
            None => {
                let message = format!("Created new replica set {:?}", set.name);
                status::note(draft, "True", "NewReplicaSetCreated", message);
            }
            Some(error) => {
                let message = format!("Failed to create new replica set {:?}: {error}", set.name);
                status::note(draft, "False", "ReplicaSetCreateError", message);
            }
        }
    }
    draft.new = Some(set);
}

fn fresh(draft: &Draft<'_>, name: &str, template_hash: &str) -> Value {
    let deployment = draft.deployment;
    let mut template = deployment.spec.template.clone();
    template["metadata"]["labels"][hash::LABEL] = json!(template_hash);
    let labels = template["metadata"]["labels"].clone();
    let mut selector = json!({ "matchLabels": deployment.spec.selector.match_labels });
    selector["matchLabels"][hash::LABEL] = json!(template_hash);
    let expressions = &deployment.spec.selector.match_expressions;
    if !expressions.is_empty() {
        selector["matchExpressions"] = expressions
            .iter()
            .map(|wanted| match wanted.values.is_empty() {
                true => json!({"key": wanted.key, "operator": wanted.operator}),
                false => {
                    json!({"key": wanted.key, "operator": wanted.operator, "values": wanted.values})
                }
            })
            .collect();
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": deployment.metadata.namespace,
            "labels": labels,
            "ownerReferences": [deployment.metadata.as_controller("apps/v1", "Deployment")],
        },
        "spec": {
            "minReadySeconds": deployment.spec.min_ready_seconds,
            "selector": selector,
            "template": template,
        },
    })
}

/// The Deployment's annotations and the revision; revisions that it had before are remembered.
fn annotate(draft: &Draft<'_>, set: &mut SetDraft<'_>, newest: i64) {
    let copied = |(key, _): &(&String, &String)| !NOT_COPIED.contains(&key.as_str());
    let wanted: Labels = draft
        .deployment
        .metadata
        .annotations
        .iter()
        .filter(copied)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    set.annotations.extend(wanted);
    let before = set.number(REVISION);
    if before.unwrap_or(0) >= newest {
        return;
    }
    set.annotations.insert(REVISION.to_owned(), newest.to_string());
    if let Some(before) = before {
        let history = set.annotations.entry(REVISION_HISTORY.to_owned()).or_default();
        if !history.is_empty() {
            history.push(',');
        }
        history.push_str(&before.to_string());
    }
}
