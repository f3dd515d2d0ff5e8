//! Jobs, as far as plans look at them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::job_policy::{PodFailurePolicy, SuccessPolicy};
use super::{Condition, Meta, condition, is_zero};
use crate::selector::LabelSelector;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Job {
    pub(crate) metadata: Meta,
    pub(crate) spec: JobSpec,
    pub(crate) status: JobStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct JobSpec {
    pub(crate) parallelism: Option<i32>,
    pub(crate) completions: Option<i32>,
    pub(crate) active_deadline_seconds: Option<i64>,
    pub(crate) backoff_limit: Option<i32>,
    pub(crate) selector: LabelSelector,
    pub(crate) template: Value,
    pub(crate) ttl_seconds_after_finished: Option<i32>,
    pub(crate) completion_mode: Option<String>,
    pub(crate) suspend: Option<bool>,
    pub(crate) pod_replacement_policy: Option<String>,
    pub(crate) managed_by: Option<String>,
    pub(crate) pod_failure_policy: Option<PodFailurePolicy>,
    pub(crate) success_policy: Option<SuccessPolicy>,
    pub(crate) backoff_limit_per_index: Option<i32>,
    pub(crate) max_failed_indexes: Option<i32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct JobStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) conditions: Vec<JobCondition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) completion_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) active: i32,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) succeeded: i32,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) failed: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) terminating: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) completed_indexes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed_indexes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uncounted_terminated_pods: Option<Uncounted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready: Option<i32>,
}

/// Pods that have ended, and are not in the counts yet: they still have the finalizer, or had it a moment ago.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Uncounted {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) succeeded: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) failed: Vec<String>,
}

/// A Job's condition: it has a time that other kinds' lack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct JobCondition {
    #[serde(flatten)]
    pub(crate) plain: Condition,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_probe_time: Option<Timestamp>,
}

impl JobSpec {
    pub(crate) fn parallelism(&self) -> i32 {
        self.parallelism.unwrap_or(1)
    }

    pub(crate) fn backoff_limit(&self) -> i32 {
        self.backoff_limit.unwrap_or(6)
    }

    pub(crate) fn indexed(&self) -> bool {
        self.completion_mode.as_deref() == Some("Indexed")
    }

    pub(crate) fn suspended(&self) -> bool {
        self.suspend == Some(true)
    }

    /// A pod that is being deleted is replaced only once it has ended.
    pub(crate) fn only_replaces_failed(&self) -> bool {
        self.pod_replacement_policy.as_deref() == Some("Failed")
    }

    /// What runs once and is not started again on its node.
    pub(crate) fn restarts_on_failure(&self) -> bool {
        self.template["spec"]["restartPolicy"] == "OnFailure"
    }
}

impl JobStatus {
    /// Whether a condition of a type is true.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|found| found.status == "True")
    }

    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        let found = self.conditions.iter().find(|found| found.plain.kind == kind);
        found.and_then(|found| condition(std::slice::from_ref(&found.plain), kind))
    }

    pub(crate) fn finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }
}
