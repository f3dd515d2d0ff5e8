//! Horizontal pod autoscalers of `autoscaling/v1`: kept as v2. What v1 has no fields for travels in annotations, as
//! JSON in a form older than v2 (upstream's `pkg/apis/autoscaling/v1` conversion).

use serde_json::{Value, json};

use crate::tree;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const V1: &str = "autoscaling/v1";
const V2: &str = "autoscaling/v2";

/// Whether it is of version 1.
pub(crate) fn is_v1(object: &Value) -> bool {
    tree::text(object, "apiVersion") == V1
}

/// Whether an autoscaler of version 1 says by what it scales.
pub(crate) fn has_metrics(object: &Value) -> bool {
    let annotations = tree::at(object, &["metadata", "annotations"]);
    tree::has(tree::get(object, "spec"), "targetCPUUtilizationPercentage")
        || tree::has(annotations, METRICS)
}

/// As version 2, whatever it is.
#[must_use]
pub fn to_v2(object: &Value) -> Value {
    let mut object = object.clone();
    if !is_v1(&object) {
        return object;
    }
    tree::set(&mut object, "apiVersion", V2);
    let mut metrics = taken(&mut object, METRICS);
    let mut current = taken(&mut object, CURRENT_METRICS);
    for metric in metrics.as_array_mut().into_iter().flatten() {
        *metric = metric_to_v2(metric, "target");
    }
    for metric in current.as_array_mut().into_iter().flatten() {
        *metric = metric_to_v2(metric, "current");
    }
    let conditions = taken(&mut object, CONDITIONS);
    let behavior = taken(&mut object, BEHAVIOR);
    if let Some(spec) = tree::existing_mut(&mut object, "spec") {
        let cpu = moved(spec, "targetCPUUtilizationPercentage", "target");
        put(spec, "metrics", joined(metrics, cpu));
        put(spec, "behavior", behavior);
    }
    if let Some(status) = tree::existing_mut(&mut object, "status") {
        let cpu = moved(status, "currentCPUUtilizationPercentage", "current");
        put(status, "currentMetrics", joined(current, cpu));
        put(status, "conditions", conditions);
        tree::default(status, "currentMetrics", Value::Null);
    }
    object
}

/// As version 1.
#[must_use]
pub fn to_v1(object: &Value) -> Value {
    let mut object = object.clone();
    if is_v1(&object) {
        return object;
    }
    tree::set(&mut object, "apiVersion", V1);
    let mut left = Vec::new();
    if let Some(spec) = tree::existing_mut(&mut object, "spec") {
        let others = split(spec, "metrics", "target", "targetCPUUtilizationPercentage");
        left.push((METRICS, others));
        left.push((BEHAVIOR, tree::get(spec, "behavior").clone()));
        tree::remove(spec, "behavior");
    }
    if let Some(status) = tree::existing_mut(&mut object, "status") {
        let others = split(status, "currentMetrics", "current", "currentCPUUtilizationPercentage");
        left.push((CURRENT_METRICS, others));
        left.push((CONDITIONS, tree::get(status, "conditions").clone()));
        tree::remove(status, "conditions");
        tree::default(status, "currentReplicas", 0);
        tree::default(status, "desiredReplicas", 0);
    }
    left.retain(|(_, value)| !tree::is_empty(value));
    if !left.is_empty()
        && let Some(metadata) = tree::child_mut(&mut object, "metadata")
        && let Some(annotations) = tree::child_mut(metadata, "annotations")
    {
        for (name, value) in left {
            tree::set(annotations, name, value.to_string());
        }
    }
    object
}

/// What an annotation says; the annotation is gone then.
fn taken(object: &mut Value, name: &str) -> Value {
    let Some(metadata) = tree::existing_mut(object, "metadata") else { return Value::Null };
    let Some(annotations) = tree::existing_mut(metadata, "annotations") else { return Value::Null };
    let value = serde_json::from_str(tree::text(annotations, name)).unwrap_or_default();
    tree::remove(annotations, name);
    if tree::is_empty(annotations) {
        tree::remove(metadata, "annotations");
    }
    value
}

fn put(holder: &mut Value, name: &str, value: Value) {
    if !tree::is_empty(&value) {
        tree::set(holder, name, value);
    }
}

/// The field for the use of processors, as a metric.
fn moved(holder: &mut Value, field: &str, part: &str) -> Option<Value> {
    let percent = tree::int_opt(holder, field)?;
    tree::remove(holder, field);
    let mut amount = json!({"averageUtilization": percent});
    if part == "target" {
        tree::set(&mut amount, "type", "Utilization");
    }
    Some(json!({"type": "Resource", "resource": {"name": "cpu", part: amount}}))
}

fn joined(metrics: Value, cpu: Option<Value>) -> Value {
    let mut metrics = match metrics {
        Value::Array(metrics) => metrics,
        _ => Vec::new(),
    };
    metrics.extend(cpu);
    Value::Array(metrics)
}

/// Takes the metrics out: the first use of processors becomes a field, the others are returned.
fn split(holder: &mut Value, list: &str, part: &str, field: &str) -> Value {
    let metrics = tree::list(holder, list).to_vec();
    tree::remove(holder, list);
    let percent = |metric: &Value| {
        let resource = tree::get(metric, "resource");
        let cpu = tree::text(metric, "type") == "Resource" && tree::text(resource, "name") == "cpu";
        tree::int_opt(tree::get(resource, part), "averageUtilization").filter(|_| cpu)
    };
    if let Some(first) = metrics.iter().find_map(percent) {
        tree::set(holder, field, first);
    }
    let others = metrics.iter().filter(|metric| percent(metric).is_none());
    others.map(|metric| metric_to_v1(metric, part)).collect()
}

/// What the amounts of a metric are called in the old form: (as a percentage, for each pod, as a whole).
fn old_names(source: &str, part: &str) -> [&'static str; 3] {
    match (part, source) {
        ("target", "object") => ["", "averageValue", "targetValue"],
        ("target", _) => ["targetAverageUtilization", "targetAverageValue", "targetValue"],
        (_, "object") => ["", "averageValue", "currentValue"],
        (_, _) => ["currentAverageUtilization", "currentAverageValue", "currentValue"],
    }
}

const SOURCES: [&str; 5] = ["object", "pods", "resource", "containerResource", "external"];
const AMOUNTS: [&str; 3] = ["averageUtilization", "averageValue", "value"];

fn selector_name(source: &str) -> &'static str {
    if source == "external" { "metricSelector" } else { "selector" }
}

/// Each source of a metric made anew; what both versions name alike is there already.
fn each_source(metric: &Value, convert: impl Fn(&str, &Value, &mut Value)) -> Value {
    let mut out = json!({"type": tree::text(metric, "type")});
    for source in SOURCES {
        let old = tree::get(metric, source);
        if old.is_null() {
            continue;
        }
        let mut new = json!({});
        for field in ["name", "container"] {
            tree::copy(old, &mut new, field);
        }
        convert(source, old, &mut new);
        tree::set(&mut out, source, new);
    }
    out
}

fn metric_to_v1(metric: &Value, part: &str) -> Value {
    each_source(metric, |source, old, new| {
        if tree::has(old, "describedObject") {
            tree::set(new, "target", tree::get(old, "describedObject").clone());
        }
        if tree::has(old, "metric") {
            let identifier = tree::get(old, "metric");
            tree::set(new, "metricName", tree::text(identifier, "name"));
            put(new, selector_name(source), tree::get(identifier, "selector").clone());
        }
        let amounts = tree::get(old, part);
        for (name, amount) in old_names(source, part).iter().zip(AMOUNTS) {
            put(new, name, tree::get(amounts, amount).clone());
        }
    })
}

fn metric_to_v2(metric: &Value, part: &str) -> Value {
    each_source(metric, |source, old, new| {
        if tree::has(old, "target") {
            tree::set(new, "describedObject", tree::get(old, "target").clone());
        }
        if tree::has(old, "metricName") {
            let mut identifier = json!({"name": tree::text(old, "metricName")});
            put(&mut identifier, "selector", tree::get(old, selector_name(source)).clone());
            tree::set(new, "metric", identifier);
        }
        let mut amounts = json!({});
        let mut kind = "";
        for (name, amount) in old_names(source, part).iter().zip(AMOUNTS) {
            let value = tree::get(old, name);
            if !value.is_null() {
                tree::set(&mut amounts, amount, value.clone());
                kind = match (kind, amount) {
                    ("", "averageUtilization") => "Utilization",
                    ("", "averageValue") => "AverageValue",
                    ("", _) => "Value",
                    (kind, _) => kind,
                };
            }
        }
        if part == "target" {
            tree::set(&mut amounts, "type", kind);
        }
        tree::set(new, part, amounts);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let v2 = json!({"apiVersion": V2, "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "behavior": {"scaleUp": {"selectPolicy": "Max"}}, "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}},
                    "target": {"type": "AverageValue", "averageValue": "3"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "K", "name": "n"},
                    "metric": {"name": "m"}, "target": {"type": "Value", "value": "7"}}},
                {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                    "target": {"type": "Utilization", "averageUtilization": 50}}},
                {"type": "External", "external": {"metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}},
                    "target": {"type": "AverageValue", "averageValue": "30"}}},
                {"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 80}}}]},
            "status": {"currentReplicas": 1, "desiredReplicas": 2,
                "conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": 9}}}]}});
        let v1 = to_v1(&v2);
        assert_eq!(v1["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}));
        let status = json!({"currentReplicas": 1, "desiredReplicas": 2, "currentCPUUtilizationPercentage": 9});
        assert_eq!(v1["status"], status);
        let metrics: Value =
            serde_json::from_str(v1["metadata"]["annotations"][METRICS].as_str().unwrap()).unwrap();
        let pods = json!({"type": "Pods", "pods": {"metricName": "m", "targetAverageValue": "3",
            "selector": {"matchLabels": {"a": "b"}}}});
        assert_eq!(metrics[0], pods);
        assert_eq!(to_v2(&v1), v2);
    }

    #[test]
    fn plain_ones_have_no_annotations() {
        let v1 = json!({"apiVersion": V1, "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}});
        let v2 = to_v2(&v1);
        assert_eq!(v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
        assert_eq!(v2["metadata"], json!({"name": "h"}));
        assert_eq!(to_v1(&v2), v1);
    }
}
