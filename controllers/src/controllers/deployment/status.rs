//! Status and conditions of a Deployment.

use std::time::Duration;

use super::draft::Draft;
use super::fenceposts;
use crate::model::{Condition, Deployment, DeploymentStatus};
use crate::plan::after;

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const FAILURE: &str = "ReplicaFailure";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// The condition of a type.
pub(super) fn condition<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a Condition> {
    crate::model::condition(&status.conditions, kind)
}

pub(super) fn has_deadline(deployment: &Deployment) -> bool {
    deployment.spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
}

/// Notes something about progress, before the status is computed.
pub(super) fn note(draft: &mut Draft<'_>, status: &str, reason: &str, message: String) {
    let noted = new_condition(draft, PROGRESSING, status, reason, message);
    set(&mut draft.base, noted);
}

/// Paused and resumed Deployments say so, unless they have timed out before: a rollout that was
/// paused for longer than its deadline is not late.
pub(super) fn note_pause(draft: &mut Draft<'_>) {
    if !has_deadline(draft.deployment) {
        return;
    }
    let reason = condition(&draft.base, PROGRESSING).map(|condition| condition.reason.clone());
    if reason.as_deref() == Some(TIMED_OUT) {
        return;
    }
    let noted = reason.as_deref() == Some(PAUSED);
    if draft.deployment.spec.paused && !noted {
        note(draft, "Unknown", PAUSED, "Deployment is paused".to_owned());
    } else if !draft.deployment.spec.paused && noted {
        note(draft, "Unknown", "DeploymentResumed", "Deployment is resumed".to_owned());
    }
}

/// The status without an estimate of progress.
pub(super) fn sync(draft: &mut Draft<'_>) {
    draft.status = counted(draft);
}

/// The status during a rollout.
pub(super) fn sync_rollout(draft: &mut Draft<'_>) {
    let mut status = counted(draft);
    let deployment = draft.deployment;
    if !has_deadline(deployment) {
        remove(&mut status, PROGRESSING);
    }
    let current = condition(&draft.base, PROGRESSING).cloned();
    let was_complete = status.replicas == status.updated_replicas
        && current.as_ref().is_some_and(|current| current.reason == COMPLETE);
    if has_deadline(deployment) && !was_complete {
        estimate_progress(draft, &mut status, current);
    }
    match replica_failure(draft) {
        Some(failure) => set(&mut status, failure),
        None => remove(&mut status, FAILURE),
    }
    wake_for_deadline(draft, &status);
    draft.status = status;
}

fn estimate_progress(draft: &Draft<'_>, status: &mut DeploymentStatus, current: Option<Condition>) {
    let subject = match &draft.new {
        Some(new) => format!("ReplicaSet {:?}", new.name),
        None => format!("Deployment {:?}", draft.deployment.metadata.name),
    };
    if is_complete(draft.deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set(status, new_condition(draft, PROGRESSING, "True", COMPLETE, message));
    } else if has_progressed(&draft.base, status) {
        let message = format!("{subject} is progressing.");
        let mut made = new_condition(draft, PROGRESSING, "True", "ReplicaSetUpdated", message);
        if let Some(current) = current.filter(|current| current.status == "True") {
            made.last_transition_time = current.last_transition_time;
        }
        // Unlike other conditions this one is renewed although its reason stays the same.
        remove(status, PROGRESSING);
        set(status, made);
    } else if has_timed_out(draft, status) {
        let message = format!("{subject} has timed out progressing.");
        set(status, new_condition(draft, PROGRESSING, "False", TIMED_OUT, message));
    }
}

/// Counts what the ReplicaSets report.
fn counted(draft: &Draft<'_>) -> DeploymentStatus {
    let deployment = draft.deployment;
    let available = draft.available();
    let terminating: Option<i32> = draft
        .sets()
        .filter(|set| set.object().is_some())
        .map(|set| set.status.terminating_replicas)
        .sum();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: draft.sets().map(|set| set.status.replicas).sum(),
        updated_replicas: draft.new.as_ref().map_or(0, |new| new.status.replicas),
        ready_replicas: draft.sets().map(|set| set.status.ready_replicas).sum(),
        available_replicas: available,
        unavailable_replicas: (draft.replicas() - available).max(0),
        terminating_replicas: terminating,
        collision_count: draft.base.collision_count,
        conditions: draft.base.conditions.clone(),
    };
    let (_, unavailable) = fenceposts::of(deployment);
    let (value, reason, message) = if available >= deployment.spec.replicas - unavailable {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, new_condition(draft, AVAILABLE, value, reason, message.to_owned()));
    status
}

/// Whether all pods are of the newest template and available, and no old ones are left.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let replicas = deployment.spec.replicas;
    status.updated_replicas == replicas
        && status.replicas == replicas
        && status.available_replicas == replicas
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(before: &DeploymentStatus, now: &DeploymentStatus) -> bool {
    let old = |status: &DeploymentStatus| status.replicas - status.updated_replicas;
    now.updated_replicas > before.updated_replicas
        || old(now) < old(before)
        || now.ready_replicas > before.ready_replicas
        || now.available_replicas > before.available_replicas
}

fn has_timed_out(draft: &Draft<'_>, status: &DeploymentStatus) -> bool {
    let Some(progressing) = condition(status, PROGRESSING) else {
        return false;
    };
    match progressing.reason.as_str() {
        COMPLETE => false,
        TIMED_OUT => true,
        _ => deadline(draft, progressing).is_some_and(|deadline| deadline < draft.ctx.now),
    }
}

fn deadline(draft: &Draft<'_>, progressing: &Condition) -> Option<jiff::Timestamp> {
    let seconds = u64::try_from(draft.deployment.spec.progress_deadline_seconds?).ok()?;
    Some(after(progressing.last_update_time?, Duration::from_secs(seconds)))
}

/// A rollout that is stuck must be looked at when its deadline passes.
fn wake_for_deadline(draft: &mut Draft<'_>, status: &DeploymentStatus) {
    let Some(progressing) = condition(status, PROGRESSING) else {
        return;
    };
    // What was complete once times out no more, also when pods of it fail later.
    let done = is_complete(draft.deployment, status)
        || matches!(progressing.reason.as_str(), COMPLETE | TIMED_OUT);
    if has_deadline(draft.deployment) && !done {
        draft.wake_at = deadline(draft, progressing).map(|at| after(at, Duration::from_secs(1)));
    }
}

/// A failure of the newest ReplicaSet, else of any.
fn replica_failure(draft: &Draft<'_>) -> Option<Condition> {
    let of = |set: &super::draft::SetDraft<'_>| {
        crate::model::condition(&set.status.conditions, FAILURE).cloned()
    };
    let found = draft.new.as_ref().and_then(of).or_else(|| draft.old.iter().find_map(of))?;
    Some(Condition { last_update_time: found.last_transition_time, ..found })
}

fn new_condition(
    draft: &Draft<'_>,
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
) -> Condition {
    let now = Some(crate::controllers::stamp(draft.ctx.now));
    Condition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_update_time: now,
        last_heartbeat_time: None,
        last_transition_time: now,
    }
}

/// Puts a condition unless one of the same status and reason is there.
fn set(status: &mut DeploymentStatus, mut condition: Condition) {
    if let Some(current) = self::condition(status, &condition.kind) {
        if current.status == condition.status && current.reason == condition.reason {
            return;
        }
        if current.status == condition.status {
            condition.last_transition_time = current.last_transition_time;
        }
    }
    remove(status, &condition.kind);
    status.conditions.push(condition);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    status.conditions.retain(|condition| condition.kind != kind);
}
