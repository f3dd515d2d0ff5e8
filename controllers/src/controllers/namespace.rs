//! Namespace: takes everything out of a namespace that is being deleted, then lets it go.
//!
//! Desired: nothing in a terminating namespace. Writes: deletions of all its objects (pods first
//! and gracefully, the rest when they are gone), its conditions, and at last `spec.finalizers`.
//! Nothing can be created in it meanwhile, the state machine sees to that; so what one view shows
//! as empty stays empty.

use std::collections::BTreeMap;

use quorate_state_machine::Key;
use serde_json::{Value, json};

use crate::limits::NAMESPACE_DELETIONS_MAX;
use crate::model::to_value;
use crate::plan::{Ctx, Plan};
use crate::resources::PODS;

/// The finalizer in `spec.finalizers` that is ours.
const FINALIZER: &str = "kubernetes";

/// What is left in a namespace.
#[derive(Default)]
struct Remaining {
    /// By resource and group.
    objects: BTreeMap<(String, String), usize>,
    finalizers: BTreeMap<String, usize>,
}

/// What is to be done for one namespace.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(stored) = ctx.world.get(key) else {
        return plan;
    };
    if stored.image.header.deletion.is_none() {
        return plan;
    }
    let mut object = to_value(stored);
    let ours = |name: &Value| name == FINALIZER;
    if !object["spec"]["finalizers"].as_array().is_some_and(|names| names.iter().any(ours)) {
        return plan;
    }
    let remaining = empty(ctx, &key.object.name, &mut plan);
    if remaining.objects.is_empty() {
        if let Some(names) = object["spec"]["finalizers"].as_array_mut() {
            names.retain(|name| !ours(name));
        }
        plan.update(stored, object, "finalize");
        return plan;
    }
    let before = object["status"].clone();
    object["status"]["phase"] = json!("Terminating");
    for condition in conditions(&remaining) {
        put(&mut object["status"], condition, ctx);
    }
    if object["status"] != before {
        plan.update(stored, object, "status");
    }
    plan
}

/// Deletes what is not being deleted yet and counts what is left.
fn empty(ctx: &Ctx<'_>, namespace: &str, plan: &mut Plan) -> Remaining {
    let mut remaining = Remaining::default();
    let view = ctx.world.view();
    let pods_left =
        ctx.world.resource(PODS).is_some_and(|pods| pods.range(namespace, None).next().is_some());
    for (resource, objects) in view.resources() {
        let now = !pods_left || PODS.is(resource);
        for object in objects.range(namespace, None) {
            let name = (resource.resource.to_string(), resource.group.to_string());
            *remaining.objects.entry(name).or_default() += 1;
            for finalizer in &object.image.header.finalizers {
                *remaining.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
            let waits = object.image.header.deletion.is_some();
            if now && !waits && plan.steps.len() < NAMESPACE_DELETIONS_MAX {
                plan.delete(object);
            }
        }
    }
    remaining
}

/// Upstream's conditions: type, status, reason, message.
fn conditions(remaining: &Remaining) -> [(&'static str, bool, &'static str, String); 5] {
    let objects: Vec<String> = remaining
        .objects
        .iter()
        .map(|((resource, group), count)| {
            format!("{resource}.{group} has {count} resource instances")
        })
        .collect();
    let finalizers: Vec<String> = remaining
        .finalizers
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    let finalizers = if finalizers.is_empty() {
        let all = "All content-preserving finalizers finished".to_owned();
        ("NamespaceFinalizersRemaining", false, "ContentHasNoFinalizers", all)
    } else {
        let some = format!(
            "Some content in the namespace has finalizers remaining: {}",
            finalizers.join(", ")
        );
        ("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", some)
    };
    let objects = format!("Some resources are remaining: {}", objects.join(", "));
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".to_owned(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
        ),
        (
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".to_owned(),
        ),
        ("NamespaceContentRemaining", true, "SomeResourcesRemain", objects),
        finalizers,
    ]
}

fn put(
    status: &mut Value,
    (kind, value, reason, message): (&'static str, bool, &'static str, String),
    ctx: &Ctx<'_>,
) {
    let value = if value { "True" } else { "False" };
    let now = quorate_store::clock::format_time(ctx.now);
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else {
        return;
    };
    match conditions.iter_mut().find(|condition| condition["type"] == kind) {
        Some(condition) => {
            if condition["status"] != value {
                condition["lastTransitionTime"] = json!(now);
            }
            condition["status"] = json!(value);
            condition["reason"] = json!(reason);
            condition["message"] = json!(message);
        }
        None => conditions.push(json!({
            "type": kind,
            "status": value,
            "lastTransitionTime": now,
            "reason": reason,
            "message": message,
        })),
    }
}
