//! PodDisruptionBudget: how many of the pods that it selects may be disrupted now.
//!
//! Desired: the counts of its status, `status.disruptedPods` without those that are gone or were not deleted in time,
//! the condition `DisruptionAllowed`. Writes: these. The eviction subresource takes one of `disruptionsAllowed` in the
//! log entry that deletes the pod; view and budget are of one revision here, and the write names the version that was
//! looked at, so no eviction is forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use quorate_state_machine::Key;
use quorate_store::EventDraft;
use serde_json::{Map, Value, json};

use crate::model::{Meta, OwnerReference, Pod, decode, to_value};
use crate::plan::{Ctx, Plan, after};
use crate::resources::{REPLICATION_CONTROLLERS, STATEFUL_SETS};
use crate::selector::LabelSelector;
use crate::world::Object;

const COMPONENT: &str = "controllermanager";
const CONDITION: &str = "DisruptionAllowed";

/// How long an evicted pod that is not deleted counts as disrupted (upstream's `DeletionTimeout`).
const DELETION_AWAITED: Duration = Duration::from_secs(120);

/// What is wanted of the pods of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    expected: i64,
    healthy: i64,
}

/// What is to be done for one budget.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    let Some(stored) = ctx.world.get(key) else { return plan };
    let mut object = to_value(stored);
    let budget: Budget = decode(stored).unwrap_or_default();
    if budget.metadata.terminating() {
        return plan;
    }
    let pods: Vec<Object<Pod>> = match &budget.spec.selector {
        Some(selector) => {
            let all = ctx.world.pods_in(&key.object.namespace).into_iter();
            all.filter(|pod| selector.selects(&pod.object.metadata.labels)).collect()
        }
        None => Vec::new(),
    };
    let mut events = Vec::new();
    let event = |warning, reason, message: String| EventDraft {
        component: COMPONENT,
        regarding: budget.metadata.regarding("policy/v1", "PodDisruptionBudget"),
        warning,
        reason,
        message,
    };
    if pods.is_empty() {
        events.push(event(false, "NoPods", "No matching pods found".to_owned()));
    }
    let before = object["status"].clone();
    match wanted(ctx, &budget.spec, &pods) {
        Ok(wanted) => {
            let disrupted = disrupted(ctx, &budget, &pods, &mut plan, &mut events);
            let healthy = healthy(&pods, &disrupted);
            set_counts(&mut object, &budget, wanted, (healthy, &disrupted));
            condition(ctx, &mut object, None);
        }
        Err(why) => {
            let text = format!("Failed to calculate the number of expected pods: {why}");
            events.push(event(true, "CalculateExpectedPodCountFailed", text));
            object["status"]["disruptionsAllowed"] = json!(0);
            condition(ctx, &mut object, Some(&why));
        }
    }
    if object["status"] != before {
        plan.update(stored, object, "status");
        plan.events = events;
    }
    plan
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Budget {
    metadata: Meta,
    spec: BudgetSpec,
    status: BudgetStatus,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BudgetSpec {
    selector: Option<LabelSelector>,
    min_available: Value,
    max_unavailable: Value,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BudgetStatus {
    disrupted_pods: BTreeMap<String, Timestamp>,
}

/// How many pods there should be, and how many of them healthy.
fn wanted(ctx: &Ctx<'_>, spec: &BudgetSpec, pods: &[Object<Pod>]) -> Result<Wanted, String> {
    let (most, least) = (&spec.max_unavailable, &spec.min_available);
    if !most.is_null() {
        let expected = scale(ctx, pods)?;
        let healthy = (expected - share(most, expected)?).max(0);
        return Ok(Wanted { expected, healthy });
    }
    if let Some(healthy) = least.as_i64() {
        let expected = i64::try_from(pods.len()).unwrap_or(i64::MAX);
        return Ok(Wanted { expected, healthy });
    }
    if least.is_string() {
        let expected = scale(ctx, pods)?;
        return Ok(Wanted { expected, healthy: share(least, expected)? });
    }
    Ok(Wanted { expected: 0, healthy: 0 })
}

/// A number, or a percentage of one, rounded up.
fn share(value: &Value, of: i64) -> Result<i64, String> {
    if let Some(number) = value.as_i64() {
        return Ok(number);
    }
    let text = value.as_str().unwrap_or_default();
    let percent: Option<i64> = text.strip_suffix('%').and_then(|number| number.parse().ok());
    let Some(percent) = percent else {
        return Err(
            "invalid value for IntOrString: invalid type: string is not a percentage".to_owned()
        );
    };
    let whole = percent.saturating_mul(of);
    Ok(whole.div_euclid(100) + i64::from(whole.rem_euclid(100) != 0))
}

/// How many pods those who manage these want, all together. Pods of nobody count for nothing.
fn scale(ctx: &Ctx<'_>, pods: &[Object<Pod>]) -> Result<i64, String> {
    let mut managers: BTreeMap<String, i64> = BTreeMap::new();
    let mut seen: Vec<&str> = Vec::new();
    for pod in pods {
        let Some(owner) = pod.object.metadata.controller() else { continue };
        if seen.contains(&owner.uid.as_str()) {
            continue;
        }
        seen.push(&owner.uid);
        let meta = &pod.object.metadata;
        let Some((uid, replicas)) = manager(ctx, &meta.namespace, owner)? else {
            return Err(format!("found no controllers for pod \"{}\"", meta.name));
        };
        managers.insert(uid, replicas);
    }
    Ok(managers.values().sum())
}

/// Who decides on the number of pods that an owner has, and how many that are.
fn manager(
    ctx: &Ctx<'_>,
    namespace: &str,
    owner: &OwnerReference,
) -> Result<Option<(String, i64)>, String> {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let stored = |resource: crate::resources::Resource| {
        ctx.world
            .get(&resource.key(namespace, &owner.name))
            .filter(|found| found.uid() == owner.uid)
            .map(|found| (owner.uid.clone(), replicas(&to_value(found))))
    };
    match (group, owner.kind.as_str()) {
        ("", "ReplicationController") => Ok(stored(REPLICATION_CONTROLLERS)),
        ("apps", "StatefulSet") => Ok(stored(STATEFUL_SETS)),
        ("apps" | "extensions", "ReplicaSet") => Ok(replica_set(ctx, namespace, owner)),
        (group, kind) => {
            let all = quorate_api::resource::all();
            let known = all.iter().find(|def| def.group() == group && def.kind() == kind);
            match known {
                Some(def) => Err(format!(
                    "{}{}{group} does not implement the scale subresource",
                    def.plural,
                    if group.is_empty() { "" } else { "." }
                )),
                None => Ok(None),
            }
        }
    }
}

/// A ReplicaSet's Deployment when it has one, else itself.
fn replica_set(ctx: &Ctx<'_>, namespace: &str, owner: &OwnerReference) -> Option<(String, i64)> {
    let at = quorate_state_machine::ObjectKey::new(namespace, &owner.name);
    let found = ctx.world.replica_sets.get(&at)?;
    let meta = &found.object.metadata;
    if meta.uid != owner.uid {
        return None;
    }
    let Some(above) = meta.controller().filter(|above| above.kind == "Deployment") else {
        return Some((owner.uid.clone(), i64::from(found.object.spec.replicas)));
    };
    let at = quorate_state_machine::ObjectKey::new(namespace, &above.name);
    let deployment = ctx.world.deployments.get(&at)?;
    (deployment.object.metadata.uid == above.uid)
        .then(|| (above.uid.clone(), i64::from(deployment.object.spec.replicas)))
}

fn replicas(object: &Value) -> i64 {
    object["spec"]["replicas"].as_i64().unwrap_or(1)
}

/// Pods whose eviction was granted and that are not being deleted yet.
fn disrupted(
    ctx: &Ctx<'_>,
    budget: &Budget,
    pods: &[Object<Pod>],
    plan: &mut Plan,
    events: &mut Vec<EventDraft>,
) -> BTreeMap<String, Timestamp> {
    let mut still = BTreeMap::new();
    for pod in pods {
        let meta = &pod.object.metadata;
        let granted = budget.status.disrupted_pods.get(&meta.name);
        let Some(granted) = granted.filter(|_| !meta.terminating()) else { continue };
        let until = after(*granted, DELETION_AWAITED);
        if until >= ctx.now {
            plan.wake_at(after(until, Duration::from_secs(1)), ctx.now);
            still.insert(meta.name.clone(), *granted);
            continue;
        }
        events.push(EventDraft {
            component: COMPONENT,
            regarding: meta.regarding("v1", "Pod"),
            warning: true,
            reason: "NotDeleted",
            message: format!(
                "Pod was expected by PDB {}/{} to be deleted but it wasn't",
                budget.metadata.namespace, budget.metadata.name
            ),
        });
    }
    still
}

fn healthy(pods: &[Object<Pod>], disrupted: &BTreeMap<String, Timestamp>) -> i64 {
    let healthy = pods.iter().map(|pod| &pod.object).filter(|pod| {
        !pod.metadata.terminating() && !disrupted.contains_key(&pod.metadata.name) && pod.ready()
    });
    i64::try_from(healthy.count()).unwrap_or(i64::MAX)
}

fn set_counts(
    object: &mut Value,
    budget: &Budget,
    wanted: Wanted,
    (healthy, disrupted): (i64, &BTreeMap<String, Timestamp>),
) {
    // A budget that selects nothing yet allows nothing: its first pods are safe before they are counted.
    let allowed = if wanted.expected <= 0 { 0 } else { (healthy - wanted.healthy).max(0) };
    let disrupted: Map<String, Value> = disrupted
        .iter()
        .map(|(name, at)| (name.clone(), json!(super::stamp(*at).to_string())))
        .collect();
    let mut status = json!({
        "currentHealthy": healthy,
        "desiredHealthy": wanted.healthy,
        "disruptionsAllowed": allowed,
        "expectedPods": wanted.expected,
    });
    // Absent when they are nothing, as they are stored.
    if budget.metadata.generation != 0 {
        status["observedGeneration"] = json!(budget.metadata.generation);
    }
    if !disrupted.is_empty() {
        status["disruptedPods"] = Value::Object(disrupted);
    }
    if !object["status"]["conditions"].is_null() {
        status["conditions"] = object["status"]["conditions"].clone();
    }
    object["status"] = status;
}

/// Sets the condition; `failed` says why nothing could be counted.
fn condition(ctx: &Ctx<'_>, object: &mut Value, failed: Option<&str>) {
    let status = &mut object["status"];
    let (value, reason) = match (failed, status["disruptionsAllowed"].as_i64()) {
        (Some(_), _) => ("False", "SyncFailed"),
        (None, Some(allowed)) if allowed > 0 => ("True", "SufficientPods"),
        (None, _) => ("False", "InsufficientPods"),
    };
    let mut new = json!({"type": CONDITION, "status": value, "reason": reason,
        "message": failed.unwrap_or_default()});
    if !status["observedGeneration"].is_null() {
        new["observedGeneration"] = status["observedGeneration"].clone();
    }
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    let old = all.iter().find(|one| one["type"] == CONDITION);
    let since =
        old.filter(|old| old["status"] == value).map(|old| old["lastTransitionTime"].clone());
    new["lastTransitionTime"] = since.unwrap_or_else(|| json!(super::stamp(ctx.now).to_string()));
    status["conditions"] = if old.is_some() {
        all.into_iter()
            .map(|one| if one["type"] == CONDITION { new.clone() } else { one })
            .collect()
    } else {
        all.into_iter().chain([new]).collect()
    };
}

#[cfg(test)]
mod tests;
