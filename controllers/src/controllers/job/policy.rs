//! What a failed pod means for its Job, and which indexes are enough for success.

use super::indexes::Indexes;
use crate::model::{ContainerStatus, FailureRule, Job, OnExitCodes, Pod};

/// What a failed pod means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts towards the limits.
    Counts,
    /// It is as if it had never been.
    Ignored,
    /// Its index has failed, whatever its limit.
    FailsIndex,
    /// The Job has failed, and why.
    FailsJob(String),
}

/// The first rule that fits decides.
pub(super) fn verdict(job: &Job, pod: &Pod) -> Verdict {
    let rules = job.spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    for (index, rule) in rules.enumerate() {
        let Some(cause) = cause(rule, pod) else { continue };
        match rule.action.as_str() {
            "Ignore" => return Verdict::Ignored,
            "FailIndex" => return Verdict::FailsIndex,
            "Count" => return Verdict::Counts,
            "FailJob" => {
                return Verdict::FailsJob(format!(
                    "{cause} matching FailJob rule at index {index}"
                ));
            }
            _ => {}
        }
    }
    Verdict::Counts
}

/// Why a rule fits, in upstream's words.
fn cause(rule: &FailureRule, pod: &Pod) -> Option<String> {
    let whose = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
    if let Some(wanted) = &rule.on_exit_codes {
        let all = pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses);
        let (name, code) = all.into_iter().find_map(|status| exit_code(wanted, status))?;
        return Some(format!("Container {name} for pod {whose} failed with exit code {code}"));
    }
    let found = pod.status.conditions.iter().find(|condition| {
        let fits = |wanted: &crate::model::OnPodCondition| {
            wanted.kind == condition.kind && wanted.status == condition.status
        };
        rule.on_pod_conditions.iter().any(fits)
    })?;
    Some(format!("Pod {whose} has condition {}", found.kind))
}

fn exit_code<'p>(wanted: &OnExitCodes, status: &'p ContainerStatus) -> Option<(&'p str, i32)> {
    let code = status.state.terminated.as_ref()?.exit_code;
    let named = wanted.container_name.as_ref().is_none_or(|name| *name == status.name);
    let listed = wanted.values.contains(&code);
    let fits = match wanted.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    (named && code != 0 && fits).then_some((status.name.as_str(), code))
}

/// Whether the indexes that have succeeded are enough: the message of the first rule that says so.
pub(super) fn success(job: &Job, succeeded: &Indexes) -> Option<String> {
    let policy = job.spec.success_policy.as_ref()?;
    let end = job.spec.completions.unwrap_or(0);
    let at = policy.rules.iter().position(|rule| {
        let named = rule.succeeded_indexes.as_ref().map(|text| Indexes::parse(text, end));
        let reached = named.as_ref().map_or(succeeded.len(), |named| named.common(succeeded));
        match (&named, rule.succeeded_count) {
            (_, Some(count)) => reached >= count,
            (Some(named), None) => reached == named.len(),
            (None, None) => false,
        }
    })?;
    Some(format!("Matched rules at index {at}"))
}
