//! Autoscalers and disruption budgets.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, integer, name, text};
use crate::convert::autoscaler::to_v2;
use crate::tree;

/// The metrics that are shown; of more, how many.
const METRICS_SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

pub(super) static AUTOSCALER: &[Column] = &[
    NAME,
    text("Reference"),
    text("Targets"),
    text("MinPods"),
    text("MaxPods"),
    text("Replicas"),
    AGE,
];
pub(super) static BUDGET: &[Column] = &[
    NAME,
    text("Min Available").described("The minimum number of pods that must be available."),
    text("Max Unavailable").described("The maximum number of pods that may be unavailable."),
    integer("Allowed Disruptions")
        .described("Calculated number of pods that may be disrupted at this time."),
    AGE,
];

pub(super) fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    let object = &to_v2(object);
    let (spec, status) = (tree::get(object, "spec"), tree::get(object, "status"));
    let target = tree::get(spec, "scaleTargetRef");
    let min =
        tree::int_opt(spec, "minReplicas").map_or_else(|| "<unset>".to_owned(), |n| n.to_string());
    vec![
        json!(name(object)),
        json!(format!("{}/{}", tree::text(target, "kind"), tree::text(target, "name"))),
        json!(targets(tree::list(spec, "metrics"), tree::list(status, "currentMetrics"))),
        json!(min),
        json!(tree::int(spec, "maxReplicas")),
        json!(tree::int(status, "currentReplicas")),
        age(object, now),
    ]
}

fn targets(metrics: &[Value], current: &[Value]) -> String {
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let shown: Vec<String> = metrics
        .iter()
        .enumerate()
        .take(METRICS_SHOWN)
        .map(|(i, metric)| target(metric, current.get(i).unwrap_or(&Value::Null)))
        .collect();
    let shown = shown.join(", ");
    if metrics.len() > METRICS_SHOWN {
        return format!("{shown} + {} more...", metrics.len() - METRICS_SHOWN);
    }
    shown
}

fn target(metric: &Value, status: &Value) -> String {
    let source = match tree::text(metric, "type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let spec = tree::get(metric, source);
    let wanted = tree::get(spec, "target");
    let current = tree::get(tree::get(status, source), "current");
    let amount = |name: &str| {
        let now = tree::text_opt(current, name).unwrap_or(UNKNOWN);
        format!("{now}/{}", tree::text(wanted, name))
    };
    let average = tree::has(wanted, "averageValue");
    match source {
        "pods" => amount("averageValue"),
        "external" | "object" if average => format!("{} (avg)", amount("averageValue")),
        "external" | "object" => amount("value"),
        _ if average => format!("{}: {}", tree::text(spec, "name"), amount("averageValue")),
        _ => {
            let percent = |holder| tree::int_opt(holder, "averageUtilization");
            let now = percent(current).map_or_else(|| UNKNOWN.to_owned(), |n| format!("{n}%"));
            let wanted = percent(wanted).map_or_else(|| "<auto>".to_owned(), |n| format!("{n}%"));
            format!("{}: {now}/{wanted}", tree::text(spec, "name"))
        }
    }
}

pub(super) fn budget(budget: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (tree::get(budget, "spec"), tree::get(budget, "status"));
    let shown = |name: &str| match tree::get(spec, name) {
        Value::Null => json!("N/A"),
        Value::String(text) => json!(text),
        other => json!(other.to_string()),
    };
    vec![
        json!(name(budget)),
        shown("minAvailable"),
        shown("maxUnavailable"),
        json!(tree::int(status, "disruptionsAllowed")),
        age(budget, now),
    ]
}
