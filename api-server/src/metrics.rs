//! Metrics under Kubernetes' names, as Prometheus' text format; as OpenMetrics for who asks for it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Counters that upstream has without the `_total` that OpenMetrics wants of all.
const WITHOUT_TOTAL: [&str; 2] =
    ["apiserver_admission_webhook_rejection_count", "apiserver_admission_webhook_fail_open_count"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) scope: String,
    pub(crate) component: String,
    pub(crate) code: String,
    pub(crate) dry_run: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DurationLabels {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) scope: String,
    pub(crate) component: String,
    pub(crate) dry_run: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabels {
    pub(crate) request_kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LongRunningLabels {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) scope: String,
    pub(crate) component: String,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn duration_histogram() -> Histogram {
    Histogram::new([
        0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
        10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
    ])
}

/// The API server's metrics, and a registry that others may add to.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    pub(crate) requests: Family<RequestLabels, Counter>,
    pub(crate) durations: Histograms<DurationLabels>,
    pub(crate) in_flight: Family<KindLabels, Gauge<i64, AtomicI64>>,
    pub(crate) long_running: Family<LongRunningLabels, Gauge<i64, AtomicI64>>,
    pub(crate) watch_events: Counter,
}

impl Metrics {
    /// The API server's metrics beside those that are in the registry already.
    pub(crate) fn new(mut registry: Registry) -> Self {
        let requests = Family::default();
        let durations: Histograms<DurationLabels> =
            Family::new_with_constructor(duration_histogram as fn() -> Histogram);
        let in_flight = Family::default();
        let long_running = Family::default();
        let watch_events = Counter::default();
        registry.register(
            "apiserver_request",
            "Requests by verb, resource, scope and code",
            requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Time from head to answer, watches and streams apart",
            durations.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests in progress that count against the limits",
            in_flight.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Watches and streams in progress",
            long_running.clone(),
        );
        registry.register(
            "apiserver_watch_events",
            "Events sent to watchers",
            watch_events.clone(),
        );
        Self {
            registry: Mutex::new(registry),
            requests,
            durations,
            in_flight,
            long_running,
            watch_events,
        }
    }
}

impl Metrics {
    /// One finished request that was no watch and no stream.
    pub(crate) fn finished(&self, labels: &RequestLabels, took: Duration) {
        self.requests.get_or_create(labels).inc();
        let labels = DurationLabels {
            verb: labels.verb.clone(),
            group: labels.group.clone(),
            version: labels.version.clone(),
            resource: labels.resource.clone(),
            subresource: labels.subresource.clone(),
            scope: labels.scope.clone(),
            component: labels.component.clone(),
            dry_run: labels.dry_run.clone(),
        };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Everything in the format that an `Accept` header prefers, with its content type; `current` is
    /// (reading, writing) requests in progress.
    pub(crate) fn answer(&self, accept: &str, current: (usize, usize)) -> (&'static str, String) {
        let text = self.text(current);
        if accept.contains("application/openmetrics-text") {
            (OPENMETRICS, text)
        } else {
            (PROMETHEUS, prometheus(&text))
        }
    }

    fn text(&self, current: (usize, usize)) -> String {
        for (kind, value) in [("readOnly", current.0), ("mutating", current.1)] {
            self.in_flight
                .get_or_create(&KindLabels { request_kind: kind.to_owned() })
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut out, &registry);
        out
    }
}

/// OpenMetrics as the older text format: there a counter's `_total` is part of its name, and neither
/// units nor an end are written.
fn prometheus(openmetrics: &str) -> String {
    let mut counters = std::collections::BTreeSet::new();
    for line in openmetrics.lines() {
        if let Some((name, "counter")) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            counters.insert(name);
        }
    }
    let mut out = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => {}
            (Some("#"), Some(what), Some(name), Some(rest))
                if counters.contains(name) && !WITHOUT_TOTAL.contains(&name) =>
            {
                out.push_str(&format!("# {what} {name}_total {rest}\n"));
            }
            _ => {
                let bare = WITHOUT_TOTAL.iter().find_map(|name| {
                    let rest = line.strip_prefix(name)?.strip_prefix("_total")?;
                    Some((name, rest))
                });
                match bare {
                    Some((name, rest)) => out.extend([name, rest]),
                    None => out.push_str(line),
                }
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_their_whole_name_in_the_older_format() {
        let metrics = Metrics::new(Registry::default());
        metrics.watch_events.inc();
        let (content_type, text) = metrics.answer("*/*", (3, 0));
        assert!(content_type.starts_with("text/plain; version=0.0.4"));
        assert!(text.contains("# TYPE apiserver_watch_events_total counter\n"), "{text}");
        assert!(text.contains("\napiserver_watch_events_total 1\n"), "{text}");
        let in_flight = "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 3";
        assert!(text.contains(in_flight), "{text}");
        assert!(!text.contains("EOF"));
        let (content_type, text) = metrics.answer("application/openmetrics-text", (0, 0));
        assert!(
            content_type.starts_with("application/openmetrics-text") && text.ends_with("# EOF\n")
        );
    }
}
