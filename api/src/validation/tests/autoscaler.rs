//! Autoscalers and disruption budgets.

use super::*;

#[test]
fn autoscalers() {
    let bad = |spec: Value, want: &[&str]| {
        check("autoscaling", "HorizontalPodAutoscaler", json!({"spec": spec}), want);
    };
    bad(
        json!({"minReplicas": 0, "maxReplicas": 0, "scaleTargetRef": {"name": "", "kind": "a/b"}}),
        &[
            "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
            "spec.maxReplicas: Invalid value: 0: must be greater than 0",
            "spec.scaleTargetRef.kind: Invalid value: \"a/b\": may not contain '/'",
            "spec.scaleTargetRef.name: Required value",
            "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero \
         replicas",
        ],
    );
    bad(
        json!({"minReplicas": 5}),
        &["spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"],
    );
    let metric = |metric: Value, want: &[&str]| bad(json!({"metrics": [metric]}), want);
    metric(
        json!({"type": "Resource"}),
        &[
            "spec.metrics[0].resource: Required value: must populate information for the given metric source",
        ],
    );
    metric(
        json!({"type": "Odd"}),
        &["spec.metrics[0].type: Unsupported value: \"Odd\": supported values: \
        \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\""; 2],
    );
    metric(
        json!({"type": "Resource", "resource": {"name": "", "target": {"type": "Odd"}},
        "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "0"}}}),
        &[
            "spec.metrics[0].pods.target.averageValue: Invalid value: \"0\": must be positive",
            "spec.metrics[0].pods: Forbidden: must populate the given metric source only",
        ],
    );
    metric(
        json!({"type": "Resource", "resource": {"name": "", "target":
        {"type": "Odd", "averageValue": "1", "averageUtilization": 0}}}),
        &[
            "spec.metrics[0].resource.name: Required value: must specify a resource name",
            "spec.metrics[0].resource.target.type: Invalid value: \"Odd\": must be either Utilization, Value, or \
         AverageValue",
            "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
            "spec.metrics[0].resource.target.averageValue: Forbidden: may not set both a target raw value and a target \
         utilization",
        ],
    );
    bad(
        json!({"behavior": {"scaleUp": {"stabilizationWindowSeconds": 3601, "selectPolicy": "Odd", "policies":
        [{"type": "Odd", "value": 0, "periodSeconds": 1801}]}, "scaleDown": {"policies": []}}}),
        &[
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
            "spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Odd\": supported values: \"Disabled\", \"Max\", \
         \"Min\"",
            "spec.behavior.scaleUp.policies[0].type: Unsupported value: \"Odd\": supported values: \"Percent\", \"Pods\"",
            "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
            "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
            "spec.behavior.scaleDown.policies: Required value: must specify at least one Policy",
        ],
    );
    let made = valid("autoscaling", "HorizontalPodAutoscaler");
    let target = json!({"type": "Utilization", "averageUtilization": 80});
    assert_eq!(made["spec"]["metrics"][0]["resource"]["target"], target);
    let mut old = json!({"apiVersion": "autoscaling/v1", "metadata": {"name": "x", "namespace": "ns"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "K", "name": "n"}, "targetCPUUtilizationPercentage": 0}});
    defaults::apply("autoscaling", "v1", "HorizontalPodAutoscaler", &mut old);
    assert_eq!(old["spec"]["minReplicas"], 1);
    assert_eq!(
        show(&create("autoscaling", "v1", "HorizontalPodAutoscaler", &old)),
        "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"
    );
}

#[test]
fn disruption_budgets() {
    let bad = |spec: Value, want: &[&str]| {
        check("policy", "PodDisruptionBudget", json!({"spec": spec}), want)
    };
    bad(
        json!({"minAvailable": "101%", "selector": {"matchLabels": {"a b": "c"}}}),
        &[
            "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
            "spec.selector.matchLabels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', \
         '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
         '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ],
    );
    bad(
        json!({"minAvailable": 1, "maxUnavailable": -1, "unhealthyPodEvictionPolicy": "Odd"}),
        &[
            "spec: Invalid value: {\"maxUnavailable\":-1,\"minAvailable\":1,\"selector\":{\"matchLabels\":\
         {\"app\":\"a\"}},\"unhealthyPodEvictionPolicy\":\"Odd\"}: minAvailable and maxUnavailable cannot be both set",
            "spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0",
            "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Odd\": supported values: \"AlwaysAllow\", \
         \"IfHealthyBudget\"",
        ],
    );
    let zeros = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    assert_eq!(valid("policy", "PodDisruptionBudget")["status"], zeros);
}
