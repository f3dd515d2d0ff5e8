//! Resizing pods, finalizing namespaces, ephemeral containers: changes through subresources.

use super::*;

/// A running pod on a node that resizes, as stored.
fn running() -> Value {
    let mut pod = valid("", "Pod");
    json_patch::merge(
        &mut pod,
        &json!({
            "spec": {
                "initContainers": [
                    {"name": "once", "image": "i:1", "resources": {"limits": {"cpu": "1"}}},
                    {"name": "side", "image": "i:1", "restartPolicy": "Always"},
                ],
                "containers": [{"name": "c", "image": "i:1", "resources": {
                    "requests": {"cpu": "100m", "memory": "64Mi"},
                    "limits": {"cpu": "200m", "memory": "128Mi", "ephemeral-storage": "1Gi"}}}],
            },
            "status": {"qosClass": "Burstable", "containerStatuses":
                [{"name": "c", "state": {"running": {}}, "resources": {}}]},
        }),
    );
    defaults::apply("", "v1", "Pod", &mut pod);
    pod
}

fn sub(kind: &str, name: &str, old: &Value, patch: Value, want: &[&str]) -> Value {
    let mut new = old.clone();
    // Lists are replaced: cases name what they change by place.
    json_patch::merge(&mut new, &patch);
    defaults::apply("", "v1", kind, &mut new);
    strategy::prepare_subresource_update("", kind, name, &mut new, old);
    let got = show(&subresource_update("", kind, name, &new, old));
    let first_lines: Vec<&str> = got.lines().filter(|l| !l.starts_with(['-', '+'])).collect();
    assert_eq!(first_lines.join("\n"), want.join("\n"), "{name} {patch}");
    new
}

fn container(resources: Value) -> Value {
    json!({"spec": {"containers": [{"name": "c", "image": "other:2", "resources": resources}]}})
}

#[test]
fn resizing_changes_cpu_and_memory() {
    let old = running();
    let amounts = |cpu: &str, memory: &str| {
        json!({"requests": {"cpu": cpu, "memory": memory},
               "limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}})
    };
    let new = sub("Pod", "resize", &old, container(amounts("300m", "128Mi")), &[]);
    let changed = &new["spec"]["containers"][0];
    assert_eq!(changed["resources"]["requests"]["cpu"], "300m");
    assert_eq!(changed["image"], "i:1", "only resources change");
    let generation = |pod: &Value| tree::int(tree::get(pod, "metadata"), "generation");
    assert_eq!(generation(&new), generation(&old) + 1);
    let same = sub("Pod", "resize", &old, json!({"metadata": {"labels": {"a": "b"}}}), &[]);
    assert_eq!(same, old, "metadata stays");
}

#[test]
fn resizing_has_limits() {
    let old = running();
    for (patch, want) in [
        (
            container(json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}})),
            vec![
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be \
                 removed",
                "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
                "spec: Forbidden: only cpu and memory resources are mutable",
            ],
        ),
        (
            container(json!({"requests":
                {"cpu": "1", "memory": "64Mi", "ephemeral-storage": "1Gi"},
                "limits": {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "2Gi"}})),
            vec!["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (
            json!({"spec": {"initContainers": [
                {"name": "once", "image": "i:1", "resources": {"limits": {"cpu": "2"}}},
                {"name": "side", "image": "i:1", "restartPolicy": "Always"}]}}),
            vec!["spec: Forbidden: resources for non-sidecar init containers are immutable"],
        ),
    ] {
        let mut new = old.clone();
        json_patch::merge(&mut new, &patch);
        strategy::prepare_subresource_update("", "Pod", "resize", &mut new, &old);
        let got = show(&subresource_update("", "Pod", "resize", &new, &old));
        let relevant: Vec<&str> =
            got.lines().filter(|l| want.contains(l) || l.contains("Forbidden")).collect();
        assert_eq!(relevant, want, "{patch}");
    }
    let mut unsupported = old.clone();
    json_patch::merge(
        &mut unsupported,
        &json!({"status": {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}}),
    );
    sub(
        "Pod",
        "resize",
        &unsupported,
        json!({}),
        &["spec: Forbidden: Pod running on node without support for resize"],
    );
    let mut windows = old;
    json_patch::merge(&mut windows, &json!({"spec": {"os": {"name": "windows"}}}));
    sub("Pod", "resize", &windows, json!({}), &["[]: Forbidden: windows pods cannot be resized"]);
    let guaranteed = json!({"requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"cpu": "1", "memory": "1Gi"}});
    let mut old = valid("", "Pod");
    json_patch::merge(&mut old, &container(guaranteed));
    json_patch::merge(&mut old, &json!({"status": {"qosClass": "Guaranteed"}}));
    defaults::apply("", "v1", "Pod", &mut old);
    let smaller = json!({"requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"cpu": "1", "memory": "1Gi"}});
    sub(
        "Pod",
        "resize",
        &old,
        container(smaller),
        &["spec: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of \
           resizing"],
    );
}

#[test]
fn ephemeral_containers_are_only_added() {
    let old = valid("", "Pod");
    let debug = json!({"name": "debug", "image": "i:1"});
    let patch = json!({"spec": {"ephemeralContainers": [debug], "nodeName": "elsewhere"}});
    let new = sub("Pod", "ephemeralcontainers", &old, patch, &[]);
    assert_eq!(new["spec"]["nodeName"], old["spec"]["nodeName"]);
    let generation = |pod: &Value| tree::int(tree::get(pod, "metadata"), "generation");
    assert_eq!(generation(&new), generation(&old) + 1);
    for (patch, want) in [
        (
            json!({"ephemeralContainers": null}),
            "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not \
             be removed",
        ),
        (
            json!({"ephemeralContainers": [{"name": "debug", "image": "i:2"}]}),
            "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not \
             be changed",
        ),
        (
            json!({"ephemeralContainers": [{"name": "debug", "image": "i:1"},
                                           {"name": "c", "image": "i:1"}]}),
            "spec.ephemeralContainers[1].name: Duplicate value: \"c\"",
        ),
    ] {
        sub("Pod", "ephemeralcontainers", &new, json!({"spec": patch}), &[want]);
    }
}

#[test]
fn finalizers_of_namespaces_have_names() {
    let mut old = valid("", "Namespace");
    strategy::prepare_create("", "Namespace", &mut old);
    let new = sub("Namespace", "finalize", &old, json!({"spec": {"finalizers": []}}), &[]);
    assert_eq!(new["spec"]["finalizers"], json!([]));
    sub(
        "Namespace",
        "finalize",
        &old,
        json!({"spec": {"finalizers": ["example.com/x", "mine"]}, "status": {"phase": "Gone"}}),
        &[
            "spec.finalizers[1]: Invalid value: \"mine\": name is neither a standard finalizer name \
           nor is it fully qualified",
        ],
    );
}

#[test]
fn a_status_keeps_class_and_what_was_observed() {
    let mut old = running();
    json_patch::merge(
        &mut old,
        &json!({"status": {"observedGeneration": 3, "conditions":
            [{"type": "Ready", "status": "True", "observedGeneration": 3}]}}),
    );
    let mut new = old.clone();
    json_patch::merge(
        &mut new,
        &json!({"status": {"qosClass": null, "observedGeneration": null, "conditions":
            [{"type": "Other", "status": "True"}, {"type": "Ready", "status": "False"}]}}),
    );
    strategy::prepare_status_update("", "Pod", &mut new, &old);
    let status = &new["status"];
    assert_eq!(status["qosClass"], "Burstable");
    assert_eq!(status["observedGeneration"], 3);
    assert_eq!(status["conditions"][1]["observedGeneration"], 3);
    json_patch::merge(
        &mut new,
        &json!({"status": {"qosClass": "Guaranteed",
        "resourceClaimStatuses": [{"name": "x"}]}}),
    );
    assert_eq!(
        show(&status_update("", "v1", "Pod", &new, &old)),
        "status.qosClass: Invalid value: \"Guaranteed\": field is immutable\n\
         status.resourceClaimStatuses[0].name: Invalid value: \"x\": must match the name of an \
         entry in `spec.resourceClaims`"
    );
}
