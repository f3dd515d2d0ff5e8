//! What a user of Deployments asks for, in both worlds: a Deployment with a Service, and one change after the other.

use hyper::Method;
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::{LABEL, ROUND, Wanted};

/// Most pods of one Deployment.
pub const REPLICAS_MAX: u64 = 4;

/// Where Deployments of a namespace are.
#[must_use]
pub fn deployments(namespace: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/deployments")
}

/// Where its Services are.
#[must_use]
pub fn services(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services")
}

/// Where its pods are.
#[must_use]
pub fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

/// The Service of a Deployment.
#[must_use]
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {LABEL: name}, "ports": [{"port": 80}]},
    })
}

/// A Deployment whose pods have one container.
fn deployment(name: &str, (replicas, round): (u64, u64), container: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {LABEL: name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {LABEL: name}},
            "template": {
                "metadata": {"labels": {LABEL: name}, "annotations": {ROUND: round.to_string()}},
                "spec": pod(container),
            },
        },
    })
}

/// What a pod with one container is to be.
#[must_use]
pub fn pod(container: &Value) -> Value {
    json!({
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "containers": [container],
    })
}

/// One change to a Deployment.
#[derive(Debug)]
pub struct Change {
    /// What it is, as reports count it: `created`, `scaled`, `rolled`, `deleted`.
    pub verb: &'static str,
    /// How it is asked for.
    pub method: Method,
    /// Where.
    pub path: String,
    /// With what.
    pub body: Value,
    /// What the Deployment is to be when it is acknowledged.
    pub then: Wanted,
}

impl Change {
    /// Draws one, under the `resourceVersion` that was just read: a change of before that nobody answered cannot take
    /// effect after one that was. `round` is what a new template is known by.
    #[must_use]
    pub fn draw(
        random: &mut StdRng,
        (namespace, name): (&str, &str),
        (found, version): (Wanted, &Value),
        round: u64,
        container: &Value,
    ) -> Self {
        let path = deployments(namespace);
        let own = format!("{path}/{name}");
        let replicas = random.random_range(0..=REPLICAS_MAX);
        let patch = |spec: Value| json!({"metadata": {"resourceVersion": version}, "spec": spec});
        let (verb, method, path, body, then) = match random.random_range(0..100) {
            _ if !found.exists => {
                let replicas = replicas.max(1);
                let then = Wanted { exists: true, replicas, round, known: true };
                (
                    "created",
                    Method::POST,
                    path,
                    deployment(name, (replicas, round), container),
                    then,
                )
            }
            0..50 => {
                let body = patch(json!({"replicas": replicas}));
                ("scaled", Method::PATCH, own, body, Wanted { replicas, ..found })
            }
            50..85 => {
                let template = json!({"metadata": {"annotations": {ROUND: round.to_string()}}});
                let body = patch(json!({"template": template}));
                ("rolled", Method::PATCH, own, body, Wanted { round, ..found })
            }
            _ => {
                let body = json!({
                    "propagationPolicy": "Background",
                    "preconditions": {"resourceVersion": version},
                });
                ("deleted", Method::DELETE, own, body, Wanted::default())
            }
        };
        Self { verb, method, path, body, then }
    }
}

/// What a Deployment wants.
#[must_use]
pub fn of(deployment: &Value) -> Wanted {
    let spec = &deployment["spec"];
    let round = spec["template"]["metadata"]["annotations"][ROUND].as_str();
    Wanted {
        exists: true,
        replicas: spec["replicas"].as_u64().unwrap_or(1),
        round: round.and_then(|round| round.parse().ok()).unwrap_or(0),
        known: true,
    }
}
