//! Which pods of a Job have ended, counted once each: a pod that ends is noted in the status, loses its finalizer, and
//! is counted when that is gone (KEP-2307).

use std::collections::BTreeSet;

use super::indexes::Indexes;
use super::per_index::PerIndex;
use super::policy::{Verdict, verdict};
use super::{has_finalizer, index_of};
use crate::limits::JOB_BURST;
use crate::model::{Job, JobStatus, Pod, Uncounted};
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
    /// Why the Job has failed by its failure policy.
    pub(super) fails_job: Option<String>,
    /// Of a Job with limits per index.
    pub(super) per_index: Option<PerIndex<'a>>,
}

pub(super) fn count<'a>(job: &Job, pods: &[&'a Object<Pod>]) -> Count<'a> {
    let mut status = job.status.clone();
    let mut noted_before = status.uncounted_terminated_pods.take().unwrap_or_default();
    flush(pods, &mut noted_before, &mut status);
    let end = if job.spec.indexed() { job.spec.completions.unwrap_or(0) } else { 0 };
    let has_failed = |pod: &Pod| matches!(outcome(job, pod), Some(Outcome::Failed));
    let mut notes = Notes {
        noted: Vec::new(),
        uncounted: noted_before,
        completed: Indexes::parse(&status.completed_indexes, end),
        per_index: PerIndex::of(job, pods, has_failed),
        fails_job: None,
    };
    for pod in pods.iter().filter(|pod| has_finalizer(&pod.object)) {
        notes.take(job, pod, end);
    }
    let Notes { noted, uncounted, completed, per_index, fails_job } = notes;
    if job.spec.indexed() {
        status.succeeded = completed.len();
        status.completed_indexes = completed.to_string();
    }
    if let Some(all) = &per_index {
        status.failed_indexes = Some(all.failed.to_string());
    }
    let total = |counted: i32, more: &[String]| counted + i32::try_from(more.len()).unwrap_or(0);
    let succeeded = total(status.succeeded, &uncounted.succeeded);
    let failed = total(status.failed, &uncounted.failed);
    let settled = uncounted.succeeded.is_empty() && uncounted.failed.is_empty();
    status.uncounted_terminated_pods = Some(uncounted);
    let active: Vec<_> = pods.iter().copied().filter(|pod| pod.object.active()).collect();
    let going = |pod: &&Object<Pod>| pod.object.metadata.terminating() && !pod.object.ended();
    let terminating: Vec<_> = pods.iter().copied().filter(going).collect();
    let ready = active.iter().filter(|pod| pod.object.ready()).count();
    status.active = i32::try_from(active.len()).unwrap_or(i32::MAX);
    status.terminating = Some(i32::try_from(terminating.len()).unwrap_or(i32::MAX));
    status.ready = Some(i32::try_from(ready).unwrap_or(i32::MAX));
    Count {
        status,
        active,
        terminating,
        noted,
        completed,
        succeeded,
        failed,
        settled,
        fails_job,
        per_index,
    }
}

/// Those whose finalizer is gone are counted.
fn flush(pods: &[&Object<Pod>], noted_before: &mut Uncounted, status: &mut JobStatus) {
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
}

/// What is known while pods are looked at.
struct Notes<'a> {
    noted: Vec<&'a Object<Pod>>,
    uncounted: Uncounted,
    completed: Indexes,
    per_index: Option<PerIndex<'a>>,
    fails_job: Option<String>,
}

impl<'a> Notes<'a> {
    /// Notes a pod that has ended; `end` is after the last index.
    fn take(&mut self, job: &Job, pod: &'a Object<Pod>, end: i32) {
        let list = match outcome(job, &pod.object) {
            None if job.metadata.terminating() => return self.noted.push(pod),
            None => return,
            Some(Outcome::Succeeded) if job.spec.indexed() => {
                if let Some(index) = index_of(&pod.object).filter(|index| *index < end) {
                    self.completed.insert(index);
                }
                return self.noted.push(pod);
            }
            Some(Outcome::Succeeded) => &mut self.uncounted.succeeded,
            Some(Outcome::Failed) => {
                let held = self.per_index.as_ref().is_some_and(|all| all.holds(&pod.object));
                match verdict(job, &pod.object) {
                    Verdict::FailsJob(why) => self.fails_job = self.fails_job.take().or(Some(why)),
                    _ if held && !is_over(job) => return,
                    Verdict::Ignored => return self.noted.push(pod),
                    Verdict::Counts | Verdict::FailsIndex => {}
                }
                &mut self.uncounted.failed
            }
        };
        let uid = &pod.object.metadata.uid;
        if !list.contains(uid) {
            if list.len() >= JOB_BURST {
                return;
            }
            list.push(uid.clone());
        }
        self.noted.push(pod);
    }
}

/// Once it is decided what becomes of the Job, nobody is waited for.
fn is_over(job: &Job) -> bool {
    job.metadata.terminating()
        || job.status.is("FailureTarget")
        || job.status.is("SuccessCriteriaMet")
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
