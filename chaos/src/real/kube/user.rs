//! A user of Deployments: creates, scales, rolls and deletes them, as people and pipelines do, through any master.
//!
//! There is one user, so what it was told last is what has to be there at the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::{DEPLOYMENTS, LABEL, POD_UID, ROUND, RUN, Shared, Wanted, image, name};
use crate::real::client::{Answer, Connection, NoAnswer};
use crate::real::workload::{self, lock};

const DEPLOYMENTS_PATH: &str = "/apis/apps/v1/namespaces/default/deployments";
const SERVICES_PATH: &str = "/api/v1/namespaces/default/services";

/// Most pods of one Deployment.
const REPLICAS_MAX: u64 = 4;

/// Between two operations, at least; up to three times as long.
const PACE: Duration = Duration::from_millis(600);

/// Before it tries another master.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

struct User {
    run: Arc<workload::Shared>,
    kube: Arc<Shared>,
    /// What the containers are told of the run.
    directory: String,
    random: StdRng,
    master: usize,
    connection: Option<Connection>,
    round: u64,
}

/// Works until it is told to stop.
pub async fn work(run: Arc<workload::Shared>, kube: Arc<Shared>, directory: String, seed: u64) {
    let random = StdRng::seed_from_u64(seed);
    let mut user = User { run, kube, directory, random, master: 0, connection: None, round: 0 };
    for index in 0..DEPLOYMENTS {
        user.serve(&name(index)).await;
    }
    while !user.run.stop.load(Ordering::Relaxed) {
        user.step().await;
        let pause = PACE.mul_f64(1.0 + 2.0 * user.random.random::<f64>());
        tokio::time::sleep(pause).await;
    }
}

impl User {
    /// The Service of a Deployment: asked for until it is there.
    async fn serve(&mut self, name: &str) {
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {LABEL: name}, "ports": [{"port": 80}]},
        });
        while !self.run.stop.load(Ordering::Relaxed) {
            match self.call(Method::POST, SERVICES_PATH, &service).await {
                Ok(answer) if matches!(answer.code, 201 | 409) => return,
                _ => tokio::time::sleep(AGAIN_AFTER).await,
            }
        }
    }

    /// One change, under the `resourceVersion` that was just read: a change of before that nobody answered cannot take
    /// effect after one that was.
    async fn step(&mut self) {
        let name = name(self.random.random_range(0..DEPLOYMENTS));
        let Some((found, version)) = self.look(&name).await else { return };
        let wanted = lock(&self.kube.wanted).get(&name).cloned();
        if let Some(wanted) = wanted.filter(|wanted| wanted.known && *wanted != found) {
            let what = format!("{name}: what was acknowledged is {wanted}; {found} is there");
            lock(&self.kube.surprises).push(what);
        }
        let replicas = self.random.random_range(0..=REPLICAS_MAX);
        self.round += 1;
        let (round, path) = (self.round, format!("{DEPLOYMENTS_PATH}/{name}"));
        let patch = |spec: Value| json!({"metadata": {"resourceVersion": version}, "spec": spec});
        let (verb, method, path, body, then) = if found.exists {
            match self.random.random_range(0..100) {
                0..50 => {
                    let body = patch(json!({"replicas": replicas}));
                    ("scaled", Method::PATCH, path, body, Wanted { replicas, ..found })
                }
                50..85 => {
                    let annotations = json!({ROUND: round.to_string()});
                    let template = json!({"metadata": {"annotations": annotations}});
                    let body = patch(json!({"template": template}));
                    ("rolled", Method::PATCH, path, body, Wanted { round, ..found })
                }
                _ => {
                    let body = json!({
                        "propagationPolicy": "Background",
                        "preconditions": {"resourceVersion": version},
                    });
                    ("deleted", Method::DELETE, path, body, Wanted::default())
                }
            }
        } else {
            let replicas = replicas.max(1);
            let body = self.deployment(&name, replicas, round);
            let then = Wanted { exists: true, replicas, round, known: true };
            ("created", Method::POST, DEPLOYMENTS_PATH.to_owned(), body, then)
        };
        let kube = self.kube.clone();
        let set = |known| {
            lock(&kube.wanted).insert(name.clone(), Wanted { known, ..then.clone() });
        };
        match self.call(method, &path, &body).await {
            Ok(answer) if matches!(answer.code, 200..=202) => {
                set(true);
                *lock(&self.kube.done).entry(verb.to_owned()).or_default() += 1;
            }
            // Refused, or never sent: as it was.
            Ok(answer) if (400..500).contains(&answer.code) && answer.code != 408 => {}
            Err(NoAnswer::NotSent(_)) => {}
            Ok(_) | Err(NoAnswer::Unknown(_)) => set(false),
        }
    }

    /// What there is, and its `resourceVersion`; nothing without an answer.
    async fn look(&mut self, name: &str) -> Option<(Wanted, Value)> {
        let path = format!("{DEPLOYMENTS_PATH}/{name}");
        match self.call(Method::GET, &path, &Value::Null).await {
            Ok(answer) if answer.code == 200 => {
                Some((of(&answer.body), answer.body["metadata"]["resourceVersion"].clone()))
            }
            Ok(answer) if answer.code == 404 => {
                Some((Wanted { known: true, ..Wanted::default() }, Value::Null))
            }
            _ => {
                tokio::time::sleep(AGAIN_AFTER).await;
                None
            }
        }
    }

    fn deployment(&self, name: &str, replicas: u64, round: u64) -> Value {
        let uid = json!({"fieldRef": {"fieldPath": "metadata.uid"}});
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": {LABEL: name}},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {LABEL: name}},
                "template": {
                    "metadata": {
                        "labels": {LABEL: name},
                        "annotations": {ROUND: round.to_string()},
                    },
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "automountServiceAccountToken": false,
                        "containers": [{
                            "name": "main",
                            "image": image::NAME,
                            "command": ["/bin/sh", "-c",
                                "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"],
                            "env": [
                                {"name": POD_UID, "valueFrom": uid},
                                {"name": RUN, "value": self.directory},
                            ],
                        }],
                    },
                },
            },
        })
    }

    async fn call(&mut self, method: Method, path: &str, body: &Value) -> Result<Answer, NoAnswer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let api = self.run.apis[self.master];
                Connection::open(api, &self.run.tls).await.map_err(|error| {
                    self.master = self.random.random_range(0..self.run.apis.len());
                    NoAnswer::NotSent(error)
                })?
            }
        };
        let body = (!body.is_null()).then_some(body);
        match connection.call(method, path, body).await {
            Ok(answer) => {
                self.connection = Some(connection);
                Ok(answer)
            }
            Err(error) => {
                self.master = self.random.random_range(0..self.run.apis.len());
                Err(error)
            }
        }
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
