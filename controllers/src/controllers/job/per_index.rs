//! Limits per index: how often an index has failed is in an annotation of its pods, each of which hands it on to the
//! next. So the last failed pod of an index is held until the next one is there.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::indexes::Indexes;
use super::manage::finish_time;
use super::policy::{Verdict, verdict};
use super::{has_finalizer, index_of};
use crate::limits::{JOB_BACKOFF_BASE, JOB_BACKOFF_MAX};
use crate::model::{Job, Pod};
use crate::plan::after;
use crate::world::Object;

/// Failures of the index before this pod.
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Those of them that do not count.
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// What the indexes of a Job with limits per index have come to.
#[derive(Default)]
pub(super) struct PerIndex<'a> {
    /// They are tried no more.
    pub(super) failed: Indexes,
    /// The last failed pod of those that are to be tried again.
    last: BTreeMap<i32, &'a Object<Pod>>,
    /// Whether the next one is there already.
    followed: BTreeMap<i32, bool>,
}

fn number(pod: &Pod, annotation: &str) -> i32 {
    pod.metadata.annotations.get(annotation).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Failures before it, of both kinds: later pods have more.
fn generation(pod: &Pod) -> i32 {
    number(pod, FAILURES).saturating_add(number(pod, IGNORED))
}

impl<'a> PerIndex<'a> {
    /// `None` when the Job has no limit per index. `failed` are those pods that have come to that.
    pub(super) fn of(
        job: &Job,
        pods: &[&'a Object<Pod>],
        failed: impl Fn(&Pod) -> bool,
    ) -> Option<Self> {
        let limit = job.spec.backoff_limit_per_index?;
        let end = job.spec.completions.unwrap_or(0);
        let known = job.status.failed_indexes.as_deref().unwrap_or_default();
        let mut all = Self { failed: Indexes::parse(known, end), ..Self::default() };
        for pod in pods.iter().filter(|pod| failed(&pod.object)) {
            let Some(index) = index_of(&pod.object).filter(|index| *index < end) else { continue };
            let fails = match verdict(job, &pod.object) {
                Verdict::FailsIndex => true,
                Verdict::Ignored => false,
                Verdict::Counts | Verdict::FailsJob(_) => number(&pod.object, FAILURES) >= limit,
            };
            if fails && has_finalizer(&pod.object) {
                all.failed.insert(index);
            }
            let last = all.last.entry(index).or_insert(*pod);
            if generation(&pod.object) > generation(&last.object) {
                *last = *pod;
            }
        }
        for (index, last) in &all.last {
            let followed = pods.iter().any(|pod| {
                index_of(&pod.object) == Some(*index)
                    && generation(&pod.object) > generation(&last.object)
            });
            all.followed.insert(*index, followed);
        }
        Some(all)
    }

    /// Whether a pod has to be kept for the next one of its index.
    pub(super) fn holds(&self, pod: &Pod) -> bool {
        let Some(index) = index_of(pod) else { return false };
        let last = self.last.get(&index);
        last.is_some_and(|last| last.object.metadata.uid == pod.metadata.uid)
            && self.followed.get(&index) == Some(&false)
            && !self.failed.contains(index)
    }

    /// Before when the next pod of an index is not made.
    pub(super) fn not_before(&self, job: &Job, index: i32) -> Option<Timestamp> {
        let last = &self.last.get(&index)?.object;
        let (failures, ignored) = next_counts(job, last);
        let doublings = u32::try_from(failures + ignored - 1).unwrap_or(0).min(16);
        let wait: Duration = JOB_BACKOFF_BASE.saturating_mul(1 << doublings).min(JOB_BACKOFF_MAX);
        Some(after(finish_time(last), wait))
    }

    /// Tells a new pod how often its index has failed.
    pub(super) fn annotate(&self, job: &Job, index: i32, annotations: &mut Value) {
        let last = self.last.get(&index);
        let (failures, ignored) = last.map_or((0, 0), |last| next_counts(job, &last.object));
        annotations[FAILURES] = json!(failures.to_string());
        if ignored > 0 {
            annotations[IGNORED] = json!(ignored.to_string());
        }
    }
}

/// What the pod after a failed one is told.
fn next_counts(job: &Job, failed: &Pod) -> (i32, i32) {
    let (failures, ignored) = (number(failed, FAILURES), number(failed, IGNORED));
    match verdict(job, failed) {
        Verdict::Ignored => (failures, ignored.saturating_add(1)),
        Verdict::Counts | Verdict::FailsIndex | Verdict::FailsJob(_) => {
            (failures.saturating_add(1), ignored)
        }
    }
}
