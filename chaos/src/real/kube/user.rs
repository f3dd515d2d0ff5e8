//! A user of Deployments: creates, scales, rolls and deletes them, as people and pipelines do, through any master.
//!
//! There is one user, so what it was told last is what has to be there at the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::change::{self, Change};
use super::{DEPLOYMENTS, Shared, Wanted, name};
use crate::real::client::{Answer, Connection, NoAnswer};
use crate::real::workload::{self, lock};

/// Between two operations, at least; up to three times as long.
const PACE: Duration = Duration::from_millis(600);

/// Before it tries another master.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

struct User {
    run: Arc<workload::Shared>,
    kube: Arc<Shared>,
    random: StdRng,
    master: usize,
    connection: Option<Connection>,
    round: u64,
}

/// Works until it is told to stop.
pub async fn work(run: Arc<workload::Shared>, kube: Arc<Shared>, seed: u64) {
    let random = StdRng::seed_from_u64(seed);
    let mut user = User { run, kube, random, master: 0, connection: None, round: 0 };
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
        let (service, path) = (change::service(name), change::services(&self.run.namespace));
        while !self.run.stop.load(Ordering::Relaxed) {
            match self.call(Method::POST, &path, &service).await {
                Ok(answer) if matches!(answer.code, 201 | 409) => return,
                _ => tokio::time::sleep(AGAIN_AFTER).await,
            }
        }
    }

    /// One change, under the `resourceVersion` that was just read.
    async fn step(&mut self) {
        let name = name(self.random.random_range(0..DEPLOYMENTS));
        let Some((found, version)) = self.look(&name).await else { return };
        let wanted = lock(&self.kube.wanted).get(&name).cloned();
        if let Some(wanted) = wanted.filter(|wanted| wanted.known && *wanted != found) {
            let what = format!("{name}: what was acknowledged is {wanted}; {found} is there");
            lock(&self.kube.surprises).push(what);
        }
        self.round += 1;
        let place = (self.run.namespace.as_str(), name.as_str());
        let container = self.kube.pods.container();
        let drawn =
            Change::draw(&mut self.random, place, (found, &version), self.round, &container);
        let Change { verb, method, path, body, then } = drawn;
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
        let path = format!("{}/{name}", change::deployments(&self.run.namespace));
        match self.call(Method::GET, &path, &Value::Null).await {
            Ok(answer) if answer.code == 200 => {
                Some((change::of(&answer.body), answer.body["metadata"]["resourceVersion"].clone()))
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
