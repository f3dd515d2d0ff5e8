//! Clients that read, write, compare-and-set and delete a few ConfigMaps through any master, and
//! record what they were told.
//!
//! Every value that is written is new, so a `resourceVersion` that is still current means the same
//! as a value that is still there: an update under a `resourceVersion` is a compare-and-set.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustls::ClientConfig;
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::client::{Answer, Connection, NoAnswer};
use crate::check::watch::{Change, Kind, Revision};
use crate::history::{Operation, Outcome, Tick};
use crate::model::{RegisterInput, RegisterOutput};

/// Where the objects are.
pub const OBJECTS: &str = "/api/v1/namespaces/default/configmaps";

/// Pause of a client after each operation: histories stay small enough to be checked.
const PACE: Duration = Duration::from_millis(5);

/// Pause of a client whose write a full disk refused.
const NO_SPACE_PACE: Duration = Duration::from_millis(50);

/// What is recorded of one operation.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Which object.
    pub key: usize,
    /// At which master.
    pub master: usize,
    /// What was done.
    pub operation: Operation<RegisterInput, RegisterOutput>,
}

/// What all clients of a run share.
#[derive(Debug)]
pub struct Shared {
    /// Of each master.
    pub apis: Vec<SocketAddr>,
    /// The admin's credentials.
    pub tls: Arc<ClientConfig>,
    /// Objects.
    pub keys: usize,
    /// Tick 0.
    pub start: Instant,
    /// Clients end.
    pub stop: AtomicBool,
    /// All operations.
    pub history: Mutex<Vec<Recorded>>,
    /// Changes that were acknowledged, with their revisions.
    pub acknowledged: Mutex<Vec<(Revision, Change)>>,
    values: AtomicU64,
    clients: AtomicU32,
}

impl Shared {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(apis: Vec<SocketAddr>, tls: Arc<ClientConfig>, keys: usize) -> Self {
        Self {
            apis,
            tls,
            keys,
            start: Instant::now(),
            stop: AtomicBool::new(false),
            history: Mutex::default(),
            acknowledged: Mutex::default(),
            values: AtomicU64::new(1),
            clients: AtomicU32::new(0),
        }
    }

    /// Now, in nanoseconds since the start.
    #[must_use]
    pub fn tick(&self) -> Tick {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(Tick::MAX)
    }

    fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    fn client(&self) -> u32 {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }
}

/// One client: goes on until it is told to stop. It stays with a master while that answers.
pub async fn client(shared: Arc<Shared>, seed: u64, home: usize) {
    let mut client = Client {
        random: StdRng::seed_from_u64(seed),
        number: shared.client(),
        master: home,
        connection: None,
        shared,
    };
    while !client.shared.stop.load(Ordering::Relaxed) {
        client.step().await;
        tokio::time::sleep(PACE).await;
    }
}

struct Client {
    shared: Arc<Shared>,
    random: StdRng,
    number: u32,
    master: usize,
    connection: Option<Connection>,
}

impl Client {
    async fn step(&mut self) {
        let key = self.random.random_range(0..self.shared.keys);
        match self.random.random_range(0..100) {
            0..40 => drop(self.read(key).await),
            40..70 => {
                if let Some((from, version)) = self.read(key).await {
                    self.swap(key, from, version).await;
                }
            }
            70..85 => self.patch(key).await,
            85..95 => self.create(key).await,
            _ => self.delete(key).await,
        }
    }

    /// The value and its resource version.
    async fn read(&mut self, key: usize) -> Option<(u64, String)> {
        let mut found = None;
        self.run(key, RegisterInput::Read, Method::GET, None, |answer| match answer.code {
            200 => {
                let value = value_of(&answer.body)?;
                let version = answer.body["metadata"]["resourceVersion"].as_str()?.to_owned();
                found = Some((value, version));
                Some(RegisterOutput::Value(value))
            }
            404 => Some(RegisterOutput::Absent),
            _ => None,
        })
        .await;
        found
    }

    async fn swap(&mut self, key: usize, from: u64, version: String) {
        let to = self.shared.value();
        let mut body = object(key, to);
        body["metadata"]["resourceVersion"] = json!(version);
        let input = RegisterInput::Swap { from, to };
        self.run(key, input, Method::PUT, Some(body), written).await;
    }

    async fn patch(&mut self, key: usize) {
        let value = self.shared.value();
        let body = json!({"data": {"v": value.to_string()}});
        self.run(key, RegisterInput::Patch(value), Method::PATCH, Some(body), written).await;
    }

    async fn create(&mut self, key: usize) {
        let value = self.shared.value();
        let body = Some(object(key, value));
        self.run(key, RegisterInput::Create(value), Method::POST, body, written).await;
    }

    async fn delete(&mut self, key: usize) {
        self.run(key, RegisterInput::Delete, Method::DELETE, None, written).await;
    }

    async fn run(
        &mut self,
        key: usize,
        input: RegisterInput,
        method: Method,
        body: Option<Value>,
        output: impl FnOnce(&Answer) -> Option<RegisterOutput>,
    ) {
        let Some(mut connection) = self.connected().await else { return };
        let path = match method {
            Method::POST => OBJECTS.to_owned(),
            _ => format!("{OBJECTS}/{}", name(key)),
        };
        let called = self.shared.tick();
        let answer = connection.call(method.clone(), &path, body.as_ref()).await;
        let at = self.shared.tick();
        let outcome = match answer {
            // Overtaken too often by others' writes, as kube-apiserver has it: nothing happened, and nothing is told.
            Ok(answer) if method == Method::PATCH && answer.code == 409 => {
                self.connection = Some(connection);
                return;
            }
            Ok(answer) if is_without_space(&answer) => {
                self.connection = Some(connection);
                tokio::time::sleep(NO_SPACE_PACE).await;
                return;
            }
            Ok(answer) => {
                self.connection = Some(connection);
                self.acknowledge(key, &method, &answer);
                output(&answer).map_or(Outcome::Unknown, |output| Outcome::Done { at, output })
            }
            Err(NoAnswer::NotSent(_)) => {
                self.move_on();
                return;
            }
            Err(NoAnswer::Unknown(_)) => {
                self.move_on();
                Outcome::Unknown
            }
        };
        let is_unknown = outcome == Outcome::Unknown;
        let operation = Operation { client: self.number, called, input, outcome };
        lock(&self.shared.history).push(Recorded { key, master: self.master, operation });
        if is_unknown {
            self.number = self.shared.client();
        }
    }

    /// What a write's answer tells of its revision.
    fn acknowledge(&self, key: usize, method: &Method, answer: &Answer) {
        let kind = match (method, answer.code) {
            (&Method::POST, 201) => Kind::Added,
            (&Method::PUT | &Method::PATCH, 200) => Kind::Modified,
            _ => return,
        };
        if let Some((revision, digest)) = told(&answer.body) {
            let change = Change { key: name(key), kind, digest };
            lock(&self.shared.acknowledged).push((revision, change));
        }
    }

    async fn connected(&mut self) -> Option<Connection> {
        if let Some(connection) = self.connection.take() {
            return Some(connection);
        }
        let api = self.shared.apis[self.master];
        let connection = Connection::open(api, &self.shared.tls).await.ok();
        if connection.is_none() {
            self.move_on();
        }
        connection
    }

    fn move_on(&mut self) {
        self.connection = None;
        self.master = self.random.random_range(0..self.shared.apis.len());
    }
}

/// Whether a full disk refused the write: the answer says for certain that nothing was written. In other words it is an
/// answer that says nothing.
fn is_without_space(answer: &Answer) -> bool {
    let message = answer.body["message"].as_str().unwrap_or_default();
    answer.code == 500 && message.contains("no space:") && message.contains("nothing was written")
}

fn written(answer: &Answer) -> Option<RegisterOutput> {
    match answer.code {
        200 | 201 => Some(RegisterOutput::Written),
        404 => Some(RegisterOutput::Absent),
        409 => Some(RegisterOutput::Refused),
        _ => None,
    }
}

/// An object's name.
#[must_use]
pub fn name(key: usize) -> String {
    format!("register-{key}")
}

fn object(key: usize, value: u64) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name(key)},
        "data": {"v": value.to_string()},
    })
}

fn value_of(object: &Value) -> Option<u64> {
    object["data"]["v"].as_str()?.parse().ok()
}

/// An object's revision, and a digest of what it says beside.
#[must_use]
pub fn told(object: &Value) -> Option<(Revision, u64)> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let revision = object["metadata"]["resourceVersion"].as_str()?.parse().ok()?;
    let mut hasher = DefaultHasher::new();
    object["metadata"]["uid"].as_str()?.hash(&mut hasher);
    value_of(object).hash(&mut hasher);
    Some((revision, hasher.finish()))
}

/// What a client left behind when it panicked is still what happened.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
