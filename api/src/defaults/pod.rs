//! Defaults of pods and pod templates.

use serde_json::{Map, Value, json};

use super::volume;
use crate::quantity::Quantity;
use crate::tree;

const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// `SetDefaults_Pod` and all it contains.
pub(crate) fn pod(object: &mut Value) {
    let Some(spec) = tree::child_mut(object, "spec") else { return };
    pod_spec(spec);
    for name in ["initContainers", "containers"] {
        for container in tree::items_mut(spec, name) {
            requests_from_limits(container);
        }
    }
    pod_requests(spec);
    tree::default(spec, "enableServiceLinks", true);
    if tree::flag(spec, "hostNetwork") {
        for name in ["initContainers", "containers"] {
            for container in tree::items_mut(spec, name) {
                for port in tree::items_mut(container, "ports") {
                    let number = tree::int(port, "containerPort");
                    tree::default_int(port, "hostPort", number);
                }
            }
        }
    }
}

/// `SetDefaults_PodSpec` and all it contains: what pods and pod templates share.
pub(crate) fn pod_spec(spec: &mut Value) {
    tree::default_text(spec, "dnsPolicy", "ClusterFirst");
    tree::default_text(spec, "restartPolicy", "Always");
    tree::child_mut(spec, "securityContext");
    tree::default(spec, "terminationGracePeriodSeconds", 30);
    tree::default_text(spec, "schedulerName", "default-scheduler");
    mirror_service_account(spec);
    round_list(spec, "overhead");
    round_resources(spec);
    for item in tree::items_mut(spec, "volumes") {
        volume::volume(item);
    }
    for name in CONTAINER_LISTS {
        for item in tree::items_mut(spec, name) {
            container(item);
        }
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are shown with one value.
pub(crate) fn mirror_service_account(spec: &mut Value) {
    let old = tree::text(spec, "serviceAccount").to_owned();
    if !old.is_empty() {
        tree::default_text(spec, "serviceAccountName", &old);
    }
    match tree::text(spec, "serviceAccountName").to_owned() {
        name if name.is_empty() => {}
        name => tree::set(spec, "serviceAccount", name),
    }
}

fn container(container: &mut Value) {
    if !container.is_object() {
        return;
    }
    let policy = pull_policy(tree::text(container, "image"));
    tree::default_text(container, "imagePullPolicy", policy);
    tree::default_text(container, "terminationMessagePath", "/dev/termination-log");
    tree::default_text(container, "terminationMessagePolicy", "File");
    for port in tree::items_mut(container, "ports") {
        tree::default_text(port, "protocol", "TCP");
    }
    for variable in tree::items_mut(container, "env") {
        if let Some(source) = tree::existing_mut(variable, "valueFrom") {
            field_refs(source);
            if let Some(file) = tree::existing_mut(source, "fileKeyRef") {
                tree::default(file, "optional", false);
            }
        }
    }
    tree::child_mut(container, "resources");
    round_resources(container);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = tree::existing_mut(container, name) {
            tree::default_int(probe, "timeoutSeconds", 1);
            tree::default_int(probe, "periodSeconds", 10);
            tree::default_int(probe, "successThreshold", 1);
            tree::default_int(probe, "failureThreshold", 3);
            handler(probe);
        }
    }
    if let Some(lifecycle) = tree::existing_mut(container, "lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(hook) = tree::existing_mut(lifecycle, name) {
                handler(hook);
            }
        }
    }
}

fn handler(handler: &mut Value) {
    if let Some(http) = tree::existing_mut(handler, "httpGet") {
        tree::default_text(http, "path", "/");
        tree::default_text(http, "scheme", "HTTP");
    }
    if let Some(grpc) = tree::existing_mut(handler, "grpc") {
        tree::default(grpc, "service", "");
    }
}

/// The references to the pod's own fields in an environment variable or a downward API item.
pub(crate) fn field_refs(source: &mut Value) {
    if let Some(field) = tree::existing_mut(source, "fieldRef") {
        tree::default_text(field, "apiVersion", "v1");
    }
    if let Some(resource) = tree::existing_mut(source, "resourceFieldRef") {
        tree::default(resource, "divisor", "0");
    }
}

/// `Always` for images whose tag is `latest` or missing, else `IfNotPresent`.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    if image.is_empty() || image.contains('@') || image.contains(char::is_whitespace) {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
        // A reference that does not parse has no tag.
        None if last.bytes().any(|b| b.is_ascii_uppercase()) || last.is_empty() => "IfNotPresent",
        None => "Always",
    }
}

fn requests_from_limits(container: &mut Value) {
    let Some(resources) = tree::existing_mut(container, "resources") else { return };
    let Some(limits) = tree::object(resources, "limits").cloned() else { return };
    if let Some(requests) = tree::child_mut(resources, "requests") {
        for (name, limit) in limits {
            tree::default(requests, &name, limit);
        }
    }
}

/// Requests of the pod as a whole, when it has limits as a whole: those of its containers, else
/// the limit.
fn pod_requests(spec: &mut Value) {
    let limits = tree::object(tree::get(spec, "resources"), "limits").cloned().unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    let mut totals = container_requests(spec);
    let Some(resources) = tree::existing_mut(spec, "resources") else { return };
    let Some(requests) = tree::child_mut(resources, "requests") else { return };
    for name in ["cpu", "memory"] {
        if let Some(total) = totals.remove(name) {
            tree::default(requests, name, total);
        }
    }
    for (name, limit) in limits {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            tree::default(requests, &name, limit);
        }
    }
}

/// The sum of the containers' requests, or what the hungriest init container asks for.
pub(crate) fn container_requests(spec: &Value) -> Map<String, Value> {
    let mut totals = Map::new();
    for name in ["cpu", "memory"] {
        let of = |container: &Value| {
            let amount = tree::at(container, &["resources", "requests", name]);
            Quantity::from_json(amount).ok().filter(|_| !amount.is_null())
        };
        let (mut running, mut peak, mut found) = (Quantity::ZERO, Quantity::ZERO, false);
        for init in tree::list(spec, "initContainers") {
            let Some(amount) = of(init) else { continue };
            found = true;
            if tree::text(init, "restartPolicy") == "Always" {
                running += amount;
                peak = peak.max(running);
            } else {
                peak = peak.max(running + amount);
            }
        }
        for container in tree::list(spec, "containers") {
            if let Some(amount) = of(container) {
                found = true;
                running += amount;
            }
        }
        if found {
            totals.insert(name.to_owned(), json!(running.max(peak).to_string()));
        }
    }
    totals
}

fn round_resources(holder: &mut Value) {
    if let Some(resources) = tree::existing_mut(holder, "resources") {
        round_list(resources, "limits");
        round_list(resources, "requests");
    }
}

/// `SetDefaults_ResourceList`: amounts are kept in thousandths, rounded up.
pub(crate) fn round_list(holder: &mut Value, name: &str) {
    let Some(Value::Object(list)) = holder.get_mut(name) else { return };
    for amount in list.values_mut() {
        if let Ok(quantity) = Quantity::from_json(amount)
            && !quantity.is_whole_milli()
        {
            *amount = json!(quantity.round_up_to_milli().to_string());
        }
    }
}
