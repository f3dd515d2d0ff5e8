//! Job: pods until enough of them have succeeded.
//!
//! Desired: as many active pods as `spec.parallelism` and what is left of `spec.completions` allow, until the Job is
//! complete, or has failed by its limits. Writes: pods (create, delete, owner references, the tracking finalizer), its
//! own status, and it deletes Jobs whose time after the end is over.

mod count;
mod indexes;
mod manage;
mod per_index;
mod policy;

use std::time::Duration;

use quorate_state_machine::Key;
use quorate_state_machine::object::StoredRef;
use quorate_store::EventDraft;
use serde_json::{Value, json};

use super::claim::Manager;
use crate::model::{Condition, Job, JobCondition, JobStatus, Pod, to_value};
use crate::plan::{Ctx, Plan, after};
use crate::resources::PODS;
use crate::world::Object;
use count::Count;

const COMPONENT: &str = "job-controller";

/// Keeps a pod until it is counted.
const FINALIZER: &str = "batch.kubernetes.io/job-tracking";

/// The label and the annotation with the index of a pod of an Indexed Job.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// Who manages Jobs when nobody else is named.
const MANAGER: &str = "kubernetes.io/job-controller";

/// The conditions that say what a Job will come to, and what it has come to.
const TARGETS: [(&str, &str); 2] =
    [("SuccessCriteriaMet", "Complete"), ("FailureTarget", "Failed")];

/// Why Jobs fail.
const FAILURES: [&str; 5] = [
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "PodFailurePolicy",
    "MaxFailedIndexesExceeded",
    "FailedIndexes",
];

/// What is to be done for one Job, or for a pod whose Job is gone.
pub(super) fn plan(ctx: &Ctx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    if PODS.is(&key.resource) {
        let_go(ctx, key, &mut plan);
        return plan;
    }
    let Some(found) = ctx.world.jobs.get(&key.object) else { return plan };
    let job = &found.object;
    if job.spec.managed_by.as_deref().is_some_and(|manager| manager != MANAGER) {
        return plan;
    }
    let manager = Manager {
        meta: &job.metadata,
        api_version: "batch/v1",
        kind: "Job",
        selector: &job.spec.selector,
        adopts: &|pod| !pod.metadata.terminating(),
        adopting: add_finalizer,
        releasing: remove_finalizer,
    };
    let pods = manager.pods(ctx, &mut plan);
    if job.status.finished() {
        for pod in pods.iter().filter(|pod| has_finalizer(&pod.object)) {
            plan.update(&pod.stored, without_finalizer(&pod.stored), "");
        }
        expire(ctx, found, &mut plan);
        return plan;
    }
    let mut count = count::count(job, &pods);
    let target = target(ctx, job, &mut count, &pods, &mut plan);
    let status = std::mem::take(&mut count.status);
    if status != job.status {
        let mut object = to_value(&found.stored);
        object["status"] = json!(status);
        plan.update(&found.stored, object, "status");
    }
    // Only what is written in the status may be forgotten.
    for pod in &count.noted {
        plan.update(&pod.stored, without_finalizer(&pod.stored), "");
    }
    match target {
        _ if job.metadata.terminating() => {}
        // Whom success makes needless has not failed.
        Some("SuccessCriteriaMet") => {
            manage::remove(job, &count.active, count.active.len(), &mut plan);
        }
        Some(_) => manage::end(job, &count.active, &mut plan),
        None => manage::manage(ctx, job, (&pods, &count), &mut plan),
    }
    plan
}

/// Decides what becomes of the Job, and writes it into its status.
fn target(
    ctx: &Ctx<'_>,
    job: &Job,
    count: &mut Count<'_>,
    pods: &[&Object<Pod>],
    plan: &mut Plan,
) -> Option<&'static str> {
    let known = TARGETS.iter().find(|(target, _)| job.status.is(target));
    let decided = known.map(|(target, _)| {
        let condition = job.status.condition(target).cloned().unwrap_or_default();
        (*target, condition.reason, condition.message)
    });
    let decided = decided.or_else(|| decide(ctx, job, count, pods, plan));
    let Some((target, reason, message)) = decided else {
        suspend_or_start(ctx, job, &mut count.status, plan);
        return None;
    };
    set(&mut count.status, ctx, target, true, (&reason, &message));
    let over = count.active.is_empty() && count.terminating.is_empty() && count.settled;
    if over {
        let (_, end) = TARGETS.into_iter().find(|(known, _)| *known == target).unwrap_or_default();
        set(&mut count.status, ctx, end, true, (&reason, &message));
        if end == "Complete" {
            count.status.completion_time = Some(super::stamp(ctx.now));
            plan.events.push(event(job, false, "Completed", "Job completed"));
        } else {
            let known = FAILURES.iter().find(|known| **known == reason);
            let reason = known.copied().unwrap_or("BackoffLimitExceeded");
            plan.events.push(event(job, true, reason, &message));
        }
    }
    Some(target)
}

type Decided = (&'static str, String, String);

fn decide(
    ctx: &Ctx<'_>,
    job: &Job,
    count: &Count<'_>,
    pods: &[&Object<Pod>],
    plan: &mut Plan,
) -> Option<Decided> {
    let decided =
        |target, reason: &str, message: &str| Some((target, reason.to_owned(), message.to_owned()));
    if let Some(why) = &count.fails_job {
        return decided("FailureTarget", "PodFailurePolicy", why);
    }
    let limit = job.spec.backoff_limit();
    if count.failed > limit || restarts_exceed(job, pods, limit) {
        let message = "Job has reached the specified backoff limit";
        return decided("FailureTarget", "BackoffLimitExceeded", message);
    }
    if let (Some(seconds), Some(since)) = (job.spec.active_deadline_seconds, job.status.start_time)
        && !job.spec.suspended()
    {
        let end = after(since, Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        if end <= ctx.now {
            let message = "Job was active longer than specified deadline";
            return decided("FailureTarget", "DeadlineExceeded", message);
        }
        plan.wake_at(end, ctx.now);
    }
    if let Some(failed) = failed_indexes(job, count) {
        return Some(failed);
    }
    if let Some(enough) = policy::success(job, &count.completed) {
        return decided("SuccessCriteriaMet", "SuccessPolicy", &enough);
    }
    let complete = match job.spec.completions {
        None => count.succeeded > 0 && count.active.is_empty(),
        // What is too much goes first, and does not count as failed.
        Some(completions) => count.succeeded >= completions && count.active.is_empty(),
    };
    let message = "Reached expected number of succeeded pods";
    if complete { decided("SuccessCriteriaMet", "CompletionsReached", message) } else { None }
}

/// Too many indexes have failed, or all that are left.
fn failed_indexes(job: &Job, count: &Count<'_>) -> Option<Decided> {
    let failed =
        count.per_index.as_ref().map(|all| all.failed.len()).filter(|failed| *failed > 0)?;
    let decided = |reason: &str, message: &str| {
        Some(("FailureTarget", reason.to_owned(), message.to_owned()))
    };
    if job.spec.max_failed_indexes.is_some_and(|most| failed > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return decided("MaxFailedIndexesExceeded", message);
    }
    let all = failed + count.completed.len() >= job.spec.completions.unwrap_or(0);
    if all { decided("FailedIndexes", "Job has failed indexes") } else { None }
}

/// Containers that start again on their node count as tries, too.
fn restarts_exceed(job: &Job, pods: &[&Object<Pod>], limit: i32) -> bool {
    if !job.spec.restarts_on_failure() {
        return false;
    }
    let running =
        pods.iter().filter(|pod| matches!(pod.object.status.phase.as_str(), "Running" | "Pending"));
    let statuses = running.flat_map(|pod| &pod.object.status.container_statuses);
    let restarts: i32 = statuses.map(|status| status.restart_count).sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// The time of a Job counts from its start, and from when it goes on.
fn suspend_or_start(ctx: &Ctx<'_>, job: &Job, status: &mut JobStatus, plan: &mut Plan) {
    let now = super::stamp(ctx.now);
    if job.spec.suspended() {
        if !job.status.is("Suspended") {
            set(status, ctx, "Suspended", true, ("JobSuspended", "Job suspended"));
            plan.events.push(event(job, false, "Suspended", "Job suspended"));
        }
    } else if job.status.is("Suspended") {
        set(status, ctx, "Suspended", false, ("JobResumed", "Job resumed"));
        status.start_time = Some(now);
        plan.events.push(event(job, false, "Resumed", "Job resumed"));
    } else if status.start_time.is_none() {
        status.start_time = Some(now);
    }
    if let (None, Some(start), Some(seconds)) =
        (job.status.start_time, status.start_time, job.spec.active_deadline_seconds)
    {
        plan.wake_at(
            after(start, Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
            ctx.now,
        );
    }
}

/// Sets a condition; its times stay when it is so already.
fn set(
    status: &mut JobStatus,
    ctx: &Ctx<'_>,
    kind: &str,
    holds: bool,
    (reason, message): (&str, &str),
) {
    if status.is(kind) == holds && (holds || status.condition(kind).is_some()) {
        return;
    }
    let now = super::stamp(ctx.now);
    status.conditions.retain(|known| known.plain.kind != kind);
    let plain = Condition {
        kind: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Some(now),
        ..Condition::default()
    };
    status.conditions.push(JobCondition { plain, last_probe_time: Some(now) });
}

/// A Job that has ended goes some time later, where that is said.
fn expire(ctx: &Ctx<'_>, found: &Object<Job>, plan: &mut Plan) {
    let job = &found.object;
    let Some(seconds) = job.spec.ttl_seconds_after_finished else { return };
    let ended = ["Complete", "Failed"].iter().filter_map(|kind| job.status.condition(kind));
    let Some(ended) = ended.filter_map(|condition| condition.last_transition_time).min() else {
        return;
    };
    let end = after(ended, Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    if job.metadata.terminating() {
        return;
    }
    if end <= ctx.now {
        plan.delete_with(&found.stored, None, "Foreground");
    } else {
        plan.wake_at(end, ctx.now);
    }
}

/// A pod whose Job is gone is held by nobody.
fn let_go(ctx: &Ctx<'_>, key: &Key, plan: &mut Plan) {
    let Some(pod) = ctx.world.pod(&key.object).filter(|pod| is_left_over(ctx, &pod.object)) else {
        return;
    };
    plan.update(&pod.stored, without_finalizer(&pod.stored), "");
}

fn is_left_over(ctx: &Ctx<'_>, pod: &Pod) -> bool {
    let owner = pod.metadata.controller().filter(|owner| owner.kind == "Job");
    has_finalizer(pod) && owner.is_none_or(|owner| ctx.world.by_uid(&owner.uid).is_none())
}

/// Whether somebody must look at a pod that may be left over.
pub(crate) fn holds(pod: &Pod) -> bool {
    has_finalizer(pod)
}

fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().any(|name| name == FINALIZER)
}

fn index_of(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.get(INDEX)?.parse().ok().filter(|index| *index >= 0)
}

fn without_finalizer(stored: &StoredRef) -> Value {
    let mut object = to_value(stored);
    remove_finalizer(&mut object);
    object
}

fn remove_finalizer(object: &mut Value) {
    if let Some(names) = object["metadata"]["finalizers"].as_array_mut() {
        names.retain(|name| name != FINALIZER);
    }
}

fn add_finalizer(object: &mut Value) {
    match object["metadata"]["finalizers"].as_array_mut() {
        Some(names) if names.iter().any(|name| name == FINALIZER) => {}
        Some(names) => names.push(json!(FINALIZER)),
        None => object["metadata"]["finalizers"] = json!([FINALIZER]),
    }
}

fn event(job: &Job, warning: bool, reason: &'static str, message: &str) -> EventDraft {
    EventDraft {
        component: COMPONENT,
        regarding: job.metadata.regarding("batch/v1", "Job"),
        warning,
        reason,
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
