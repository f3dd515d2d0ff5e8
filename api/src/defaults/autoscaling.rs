//! Defaults of `HorizontalPodAutoscaler`, of either version.

use serde_json::{Value, json};

use crate::convert::autoscaler;
use crate::tree;

/// How much of its processors a pod is to use when nothing is said.
const CPU_PERCENT: i64 = 80;

/// `SetDefaults_HorizontalPodAutoscaler`.
pub(crate) fn autoscaler(object: &mut Value) {
    let v1 = autoscaler::is_v1(object);
    let some = if v1 {
        autoscaler::has_metrics(object)
    } else {
        !tree::list(tree::get(object, "spec"), "metrics").is_empty()
    };
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    tree::default(spec, "minReplicas", 1);
    if !some && v1 {
        tree::set(spec, "targetCPUUtilizationPercentage", CPU_PERCENT);
    } else if !some {
        let target = json!({"type": "Utilization", "averageUtilization": CPU_PERCENT});
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        tree::set(spec, "metrics", json!([cpu]));
    }
    let Some(behavior) = tree::existing_mut(spec, "behavior") else { return };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    if let Some(up) = tree::child_mut(behavior, "scaleUp") {
        tree::default(up, "stabilizationWindowSeconds", 0);
        tree::default(up, "selectPolicy", "Max");
        tree::default(up, "policies", json!([pods, percent]));
    }
    if let Some(down) = tree::child_mut(behavior, "scaleDown") {
        tree::default(down, "selectPolicy", "Max");
        tree::default(down, "policies", json!([percent]));
    }
}
