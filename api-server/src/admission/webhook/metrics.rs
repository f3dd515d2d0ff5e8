//! What is counted of calls, under upstream's names (`apiserver/pkg/admission/metrics`).

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::configuration::Hook;
use crate::admission::Operation;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    name: String,
    r#type: String,
    operation: String,
    rejected: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    name: String,
    r#type: String,
    operation: String,
    code: String,
    rejected: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectionLabels {
    name: String,
    r#type: String,
    operation: String,
    error_type: String,
    rejection_code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpenLabels {
    name: String,
    r#type: String,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rejection {
    /// The webhook said so.
    Verdict,
    /// The call failed.
    Call,
    /// Something here.
    Internal,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Metrics {
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    requests: Family<RequestLabels, Counter>,
    rejections: Family<RejectionLabels, Counter>,
    open: Family<OpenLabels, Counter>,
}

fn histogram() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0])
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            durations: Family::new_with_constructor(histogram as fn() -> Histogram),
            requests: Family::default(),
            rejections: Family::default(),
            open: Family::default(),
        }
    }
}

impl Metrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "apiserver_admission_webhook_admission_duration_seconds",
            "Time that a webhook took, by name, type, operation and outcome",
            self.durations.clone(),
        );
        registry.register(
            "apiserver_admission_webhook_request",
            "Calls of webhooks, by name, type, operation, code and outcome",
            self.requests.clone(),
        );
        registry.register(
            "apiserver_admission_webhook_rejection_count",
            "Requests that a webhook refused, or that were refused because a call failed",
            self.rejections.clone(),
        );
        registry.register(
            "apiserver_admission_webhook_fail_open_count",
            "Calls that failed and were ignored",
            self.open.clone(),
        );
    }

    /// One call that has ended; `rejected` when the request is refused for it.
    pub(super) fn called(
        &self,
        hook: &Hook,
        operation: Operation,
        took: Duration,
        (code, rejected): (u16, Option<Rejection>),
    ) {
        let (name, kind) = (hook.name.clone(), hook.kind.name().to_owned());
        let operation = operation.name().to_owned();
        if let Some(why) = rejected {
            let (error_type, code) = match why {
                Rejection::Verdict => ("no_error", code),
                Rejection::Call => ("calling_webhook_error", code),
                Rejection::Internal => ("apiserver_internal_error", 0),
            };
            let labels = RejectionLabels {
                name: name.clone(),
                r#type: kind.clone(),
                operation: operation.clone(),
                error_type: error_type.to_owned(),
                rejection_code: code.min(600).to_string(),
            };
            self.rejections.get_or_create(&labels).inc();
        }
        let rejected = rejected.is_some().to_string();
        let labels = DurationLabels {
            name: name.clone(),
            r#type: kind.clone(),
            operation: operation.clone(),
            rejected: rejected.clone(),
        };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        let labels =
            RequestLabels { name, r#type: kind, operation, code: code.to_string(), rejected };
        self.requests.get_or_create(&labels).inc();
    }

    /// A call failed and does not count.
    pub(super) fn failed_open(&self, hook: &Hook) {
        let labels = OpenLabels { name: hook.name.clone(), r#type: hook.kind.name().to_owned() };
        self.open.get_or_create(&labels).inc();
    }
}
