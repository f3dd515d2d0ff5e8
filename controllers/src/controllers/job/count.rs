//! Which pods of a Job have ended, counted once each: a pod that ends is noted in the status, loses its finalizer, and
//! is counted when that is gone (KEP-2307).

use std::collections::BTreeSet;

use super::indexes::Indexes;
use super::{has_finalizer, index_of};
use crate::limits::JOB_BURST;
use crate::model::{Job, JobStatus, Pod};
use crate::world::Object;

/// What is known of a Job's pods.
pub(super) struct Count<'a> {
    /// With what has ended noted or counted in it.
    pub(super) status: JobStatus,
    /// Neither ended nor being deleted.
    pub(super) active: Vec<&'a Object<Pod>>,
    /// Being deleted, and not ended.
    pub(super) terminating: Vec<&'a Object<Pod>>,
    /// Noted: their finalizer may go once the status is written.
    pub(super) noted: Vec<&'a Object<Pod>>,
    /// Of an Indexed Job.
    pub(super) completed: Indexes,
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    /// Nothing is noted that is not counted.
    pub(super) settled: bool,
}

pub(super) fn count<'a>(job: &Job, pods: &[&'a Object<Pod>]) -> Count<'a> {
    let mut status = job.status.clone();
    let mut noted_before = status.uncounted_terminated_pods.take().unwrap_or_default();
    let held: BTreeSet<&str> = pods
        .iter()
        .filter(|pod| has_finalizer(&pod.object))
        .map(|pod| pod.object.metadata.uid.as_str())
        .collect();
    let flush = |uids: &mut Vec<String>, counted: &mut i32| {
        let before = uids.len();
        uids.retain(|uid| held.contains(uid.as_str()));
        *counted += i32::try_from(before - uids.len()).unwrap_or(0);
    };
    flush(&mut noted_before.succeeded, &mut status.succeeded);
    flush(&mut noted_before.failed, &mut status.failed);
    let end = if job.spec.indexed() { job.spec.completions.unwrap_or(0) } else { 0 };
    let mut completed = Indexes::parse(&status.completed_indexes, end);
    let mut noted = Vec::new();
    for pod in pods.iter().filter(|pod| has_finalizer(&pod.object)) {
        let uid = &pod.object.metadata.uid;
        let list = match outcome(job, &pod.object) {
            None if job.metadata.terminating() => {
                noted.push(*pod);
                continue;
            }
            None => continue,
            Some(Outcome::Succeeded) if job.spec.indexed() => {
                if let Some(index) = index_of(&pod.object).filter(|index| *index < end) {
                    completed.insert(index);
                }
                noted.push(*pod);
                continue;
            }
            Some(Outcome::Succeeded) => &mut noted_before.succeeded,
            Some(Outcome::Failed) => &mut noted_before.failed,
        };
        if !list.contains(uid) {
            if list.len() >= JOB_BURST {
                continue;
            }
            list.push(uid.clone());
        }
        noted.push(*pod);
    }
    if job.spec.indexed() {
        status.succeeded = completed.len();
        status.completed_indexes = completed.to_string();
    }
    let total = |counted: i32, more: &[String]| counted + i32::try_from(more.len()).unwrap_or(0);
    let succeeded = total(status.succeeded, &noted_before.succeeded);
    let failed = total(status.failed, &noted_before.failed);
    let settled = noted_before.succeeded.is_empty() && noted_before.failed.is_empty();
    status.uncounted_terminated_pods = Some(noted_before);
    let active: Vec<_> = pods.iter().copied().filter(|pod| pod.object.active()).collect();
    let going = |pod: &&Object<Pod>| pod.object.metadata.terminating() && !pod.object.ended();
    let terminating: Vec<_> = pods.iter().copied().filter(going).collect();
    let ready = active.iter().filter(|pod| pod.object.ready()).count();
    status.active = i32::try_from(active.len()).unwrap_or(i32::MAX);
    status.terminating = Some(i32::try_from(terminating.len()).unwrap_or(i32::MAX));
    status.ready = Some(i32::try_from(ready).unwrap_or(i32::MAX));
    Count { status, active, terminating, noted, completed, succeeded, failed, settled }
}

enum Outcome {
    Succeeded,
    Failed,
}

/// What a pod has come to, as far as the Job's counts go. One that is being deleted has failed, unless such pods are
/// waited for.
fn outcome(job: &Job, pod: &Pod) -> Option<Outcome> {
    match pod.status.phase.as_str() {
        "Succeeded" => Some(Outcome::Succeeded),
        "Failed" => Some(Outcome::Failed),
        _ if pod.metadata.terminating() && !job.spec.only_replaces_failed() => {
            Some(Outcome::Failed)
        }
        _ => None,
    }
}
