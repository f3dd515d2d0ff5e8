//! How many pods of a Job run: those that are missing are created, those that are too many go.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::count::Count;
use super::{FINALIZER, INDEX, event, has_finalizer, index_of, without_finalizer};
use crate::limits::{JOB_BACKOFF_BASE, JOB_BACKOFF_MAX, JOB_BURST};
use crate::model::{Job, Pod};
use crate::plan::{Ctx, Plan, after};
use crate::resources::PODS;
use crate::world::Object;

/// The longest prefix that leaves room for what the API adds to a generated name.
const GENERATE_NAME_MAX: usize = 58;

pub(super) fn manage(
    ctx: &Ctx<'_>,
    job: &Job,
    (pods, count): (&[&Object<Pod>], &Count<'_>),
    plan: &mut Plan,
) {
    if job.spec.suspended() {
        return remove(job, &count.active, count.active.len(), plan);
    }
    let wanted = wanted(job, count);
    let active = count.active.len();
    if active > wanted {
        return remove(job, &count.active, active - wanted, plan);
    }
    let waited_for = if job.spec.only_replaces_failed() { count.terminating.len() } else { 0 };
    let missing = wanted.saturating_sub(active + waited_for);
    if missing == 0 {
        return;
    }
    let earliest = if count.per_index.is_some() { None } else { not_before(pods) };
    if let Some(earliest) = earliest.filter(|earliest| *earliest > ctx.now) {
        return plan.wake_at(earliest, ctx.now);
    }
    // After a refusal one try tells whether the rest would be refused as well.
    let burst = if ctx.failure.is_some() { 1 } else { JOB_BURST };
    let indexes = pending_indexes(ctx, job, count, plan);
    for number in 0..missing.min(burst) {
        let index = match &indexes {
            None => None,
            Some(pending) => match pending.get(number) {
                Some(index) => Some(*index),
                None => break,
            },
        };
        let step = plan.create(PODS.group_resource(), pod_of(job, count, index));
        step.done = Some(event(job, false, "SuccessfulCreate", "Created pod: {name}"));
        step.refused = Some(event(job, true, "FailedCreate", "Error creating: {error}"));
    }
}

/// How many pods are to be active.
fn wanted(job: &Job, count: &Count<'_>) -> usize {
    let parallelism = job.spec.parallelism();
    let wanted = match job.spec.completions {
        // A queue of work: once one has succeeded the others end by themselves.
        None if count.succeeded > 0 => return count.active.len(),
        None => parallelism,
        Some(completions) => {
            let failed = count.per_index.as_ref().map_or(0, |all| all.failed.len());
            parallelism.min(completions - count.succeeded - failed)
        }
    };
    usize::try_from(wanted).unwrap_or(0)
}

/// After pods have failed, in a row since the last success, the next one waits, ever longer.
fn not_before(pods: &[&Object<Pod>]) -> Option<Timestamp> {
    let ended = |phase: &'static str| {
        let pods = pods.iter().filter(move |pod| pod.object.status.phase == phase);
        pods.map(|pod| finish_time(&pod.object))
    };
    let success = ended("Succeeded").max();
    let since: Vec<Timestamp> = ended("Failed").filter(|at| Some(*at) > success).collect();
    let last = since.iter().max()?;
    let doublings = u32::try_from(since.len() - 1).unwrap_or(u32::MAX).min(16);
    let wait: Duration = JOB_BACKOFF_BASE.saturating_mul(1 << doublings).min(JOB_BACKOFF_MAX);
    Some(after(*last, wait))
}

pub(super) fn finish_time(pod: &Pod) -> Timestamp {
    let statuses = pod.status.container_statuses.iter();
    let finished = statuses.filter_map(|status| status.state.terminated.as_ref()?.finished_at);
    finished.max().unwrap_or_else(|| pod.metadata.created())
}

/// Those that have neither ended nor a pod, and whose turn has come; `None` unless the Job is Indexed.
fn pending_indexes(
    ctx: &Ctx<'_>,
    job: &Job,
    count: &Count<'_>,
    plan: &mut Plan,
) -> Option<Vec<i32>> {
    if !job.spec.indexed() {
        return None;
    }
    let waits = job.spec.only_replaces_failed();
    let going = count.terminating.iter().filter(|_| waits);
    let taken: BTreeSet<i32> =
        count.active.iter().chain(going).filter_map(|pod| index_of(&pod.object)).collect();
    let all = 0..job.spec.completions.unwrap_or(0);
    let mut due = |index: i32| {
        let Some(per_index) = &count.per_index else { return true };
        if per_index.failed.contains(index) {
            return false;
        }
        let earliest = per_index.not_before(job, index).filter(|earliest| *earliest > ctx.now);
        if let Some(earliest) = earliest {
            plan.wake_at(earliest, ctx.now);
        }
        earliest.is_none()
    };
    let pending = all
        .filter(|index| !count.completed.contains(*index) && !taken.contains(index) && due(*index));
    Some(pending.take(JOB_BURST).collect())
}

/// Those whose loss hurts least go. They are not to count as failed, so their finalizer goes first; the next plan
/// deletes them.
pub(super) fn remove(job: &Job, active: &[&Object<Pod>], count: usize, plan: &mut Plan) {
    let mut seen = BTreeSet::new();
    let mut ranked: Vec<_> = active
        .iter()
        .map(|pod| {
            let object = &pod.object;
            let useless = job.spec.indexed() && !index_of(object).is_some_and(|i| seen.insert(i));
            let rank = (
                has_finalizer(object),
                !useless,
                !object.spec.node_name.is_empty(),
                object.status.phase == "Running",
                object.ready(),
                Reverse(index_of(object)),
                Reverse(object.metadata.created()),
                object.metadata.uid.clone(),
            );
            (rank, *pod)
        })
        .collect();
    ranked.sort_by(|one, other| one.0.cmp(&other.0));
    for (_, pod) in ranked.into_iter().take(count.min(JOB_BURST)) {
        if has_finalizer(&pod.object) {
            plan.update(&pod.stored, without_finalizer(&pod.stored), "");
        } else {
            delete(job, pod, plan);
        }
    }
}

/// They count as failed.
pub(super) fn end(job: &Job, active: &[&Object<Pod>], plan: &mut Plan) {
    for pod in active.iter().take(JOB_BURST) {
        delete(job, pod, plan);
    }
}

fn delete(job: &Job, pod: &Object<Pod>, plan: &mut Plan) {
    let step = plan.delete(&pod.stored);
    step.done = Some(event(job, false, "SuccessfulDelete", "Deleted pod: {name}"));
    step.refused = Some(event(job, true, "FailedDelete", "Error deleting: {error}"));
}

/// A pod as the template says.
fn pod_of(job: &Job, count: &Count<'_>, index: Option<i32>) -> Value {
    let template = &job.spec.template;
    let name = &job.metadata.name;
    let prefix = index.map_or_else(|| format!("{name}-"), |index| format!("{name}-{index}-"));
    let mut metadata = json!({
        "generateName": shortened(name, &prefix),
        "namespace": job.metadata.namespace,
        "ownerReferences": [job.metadata.as_controller("batch/v1", "Job")],
        "finalizers": [FINALIZER],
    });
    for field in ["labels", "annotations"] {
        if let Some(value) = template["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    if let Some(own) = template["metadata"]["finalizers"].as_array() {
        let mut all = own.clone();
        all.push(json!(FINALIZER));
        metadata["finalizers"] = json!(all);
    }
    let mut spec = template["spec"].clone();
    if let Some(index) = index {
        let text = json!(index.to_string());
        for field in ["labels", "annotations"] {
            if !metadata[field].is_object() {
                metadata[field] = json!({});
            }
            metadata[field][INDEX] = text.clone();
        }
        if let Some(per_index) = &count.per_index {
            per_index.annotate(job, index, &mut metadata["annotations"]);
        }
        spec["hostname"] = json!(format!("{name}-{index}"));
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                tell_index(container);
            }
        }
    }
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec })
}

fn shortened(name: &str, prefix: &str) -> String {
    if prefix.len() <= GENERATE_NAME_MAX {
        return prefix.to_owned();
    }
    let end = &prefix[name.len()..];
    let kept: String = name.chars().take(GENERATE_NAME_MAX.saturating_sub(end.len())).collect();
    format!("{kept}{end}")
}

/// `JOB_COMPLETION_INDEX`, unless the template has it.
fn tell_index(container: &mut Value) {
    const VARIABLE: &str = "JOB_COMPLETION_INDEX";
    let path = format!("metadata.labels['{INDEX}']");
    let variable = json!({ "name": VARIABLE, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    match container["env"].as_array_mut() {
        Some(env) if env.iter().any(|known| known["name"] == VARIABLE) => {}
        Some(env) => env.push(variable),
        None => container["env"] = json!([variable]),
    }
}
