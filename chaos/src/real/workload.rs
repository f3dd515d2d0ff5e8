//! Clients that use a few objects through any master, and record what they were told. Each kind of client has a file:
//! [`register`], [`append`], [`set`], [`bank`], [`leases`].

mod append;
pub mod bank;
pub mod leases;
pub mod register;
mod set;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use append::elements;

use super::client::{Answer, Connection, NoAnswer};
use super::follower::Sleep;
use super::kubeconfig::Credentials;
use crate::check::watch::{Change, Kind, Revision};
use crate::history::{Operation, Outcome, Tick};
use crate::model::{Content, Family, Input, Output};

/// Pause of a client after each operation: histories stay small enough to be checked.
const PACE: Duration = Duration::from_millis(5);

/// Pause of a client whose write a full disk refused.
const NO_SPACE_PACE: Duration = Duration::from_millis(50);

/// A kind of objects that clients write and watchers follow.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// ConfigMaps.
    #[default]
    ConfigMaps,
    /// Leases.
    Leases,
}

impl Resource {
    /// What clients of a family write.
    #[must_use]
    pub fn of(family: Family) -> Self {
        match family {
            Family::Register | Family::Append | Family::Set | Family::Bank => Self::ConfigMaps,
            Family::Leases => Self::Leases,
        }
    }

    /// The kind of the object that a [`Change`] names: names of leases are no other objects' names.
    #[must_use]
    pub fn of_object(name: &str) -> Self {
        if name.starts_with(Family::Leases.prefix()) { Self::Leases } else { Self::ConfigMaps }
    }

    /// Where they are.
    #[must_use]
    pub fn path(self, namespace: &str) -> String {
        match self {
            Self::ConfigMaps => format!("/api/v1/namespaces/{namespace}/configmaps"),
            Self::Leases => format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
        }
    }
}

/// What is recorded of one operation.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Which object of its family.
    pub key: usize,
    /// At which master.
    pub master: usize,
    /// What was done.
    pub operation: Operation<Input, Output>,
    /// The `resourceVersion` of the answer, if it had one.
    pub revision: Option<Revision>,
    /// The `resourceVersion` under which a write was to happen.
    pub under: Option<Revision>,
}

impl Recorded {
    /// The object's name.
    #[must_use]
    pub fn object(&self) -> String {
        self.operation.input.family().object(self.key)
    }
}

/// What an object said at a revision, as a watcher was told.
pub type Told = (Revision, String, Content);

/// What all clients of a run share.
#[derive(Debug)]
pub struct Shared {
    /// Of each master.
    pub apis: Vec<SocketAddr>,
    /// Where all objects are.
    pub namespace: String,
    /// The admin's credentials.
    pub tls: Arc<Credentials>,
    /// Objects.
    pub keys: usize,
    /// Tick 0.
    pub start: Instant,
    /// Clients end.
    pub stop: AtomicBool,
    /// Which watchers stop for a time.
    pub sleep: Arc<Sleep>,
    /// All operations.
    pub history: Mutex<Vec<Recorded>>,
    /// Changes that were acknowledged, with their revisions.
    pub acknowledged: Mutex<Vec<(Revision, Change)>>,
    /// What watchers were told of accounts and leases.
    pub contents: Mutex<BTreeSet<Told>>,
    values: AtomicU64,
    clients: AtomicU32,
    lists: Mutex<Vec<usize>>,
    sets: Mutex<Vec<(usize, usize)>>,
}

impl Shared {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(
        (apis, tls): (Vec<SocketAddr>, Arc<Credentials>),
        namespace: &str,
        keys: usize,
    ) -> Self {
        Self {
            apis,
            namespace: namespace.to_owned(),
            tls,
            keys,
            start: Instant::now(),
            stop: AtomicBool::new(false),
            sleep: Arc::default(),
            history: Mutex::default(),
            acknowledged: Mutex::default(),
            contents: Mutex::default(),
            values: AtomicU64::new(1),
            clients: AtomicU32::new(0),
            lists: Mutex::new((0..keys).collect()),
            sets: Mutex::new((0..keys).map(|key| (key, 0)).collect()),
        }
    }

    /// Where objects of a kind are.
    #[must_use]
    pub fn path(&self, resource: Resource) -> String {
        resource.path(&self.namespace)
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
pub async fn client(shared: Arc<Shared>, family: Family, seed: u64, home: usize) {
    let mut client = Client {
        random: StdRng::seed_from_u64(seed),
        number: shared.client(),
        master: home,
        connection: None,
        shared,
    };
    let mut candidate = leases::Candidate::default();
    while !client.shared.stop.load(Ordering::Relaxed) {
        match family {
            Family::Register => client.use_register().await,
            Family::Append => client.use_list().await,
            Family::Set => client.use_set().await,
            Family::Bank => client.use_bank().await,
            Family::Leases => client.use_lease(&mut candidate).await,
        }
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

/// What is sent.
struct Request {
    method: Method,
    path: String,
    body: Option<Value>,
    /// The body is a JSON patch, not a merge patch.
    is_json_patch: bool,
    /// The `resourceVersion` in the body.
    under: Option<Revision>,
}

impl Request {
    fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: None, is_json_patch: false, under: None }
    }

    fn delete(path: String) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    fn post(path: String, body: Value) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(path) }
    }

    fn patch(path: String, body: Value) -> Self {
        Self { method: Method::PATCH, body: Some(body), ..Self::get(path) }
    }

    fn json_patch(path: String, body: Value) -> Self {
        Self { is_json_patch: true, ..Self::patch(path, body) }
    }

    /// PUT under the `resourceVersion` that the body has.
    fn put(path: String, body: Value) -> Self {
        let under = revision_of(&body);
        Self { method: Method::PUT, body: Some(body), under, ..Self::get(path) }
    }
}

/// What an answer means.
enum Meaning {
    /// This.
    Output(Output),
    /// For certain nothing happened, and nothing was told: no part of the history.
    Nothing,
    /// Nobody knows.
    Unknown,
}

impl<T: Into<Output>> From<Option<T>> for Meaning {
    fn from(output: Option<T>) -> Self {
        output.map_or(Self::Unknown, |output| Self::Output(output.into()))
    }
}

impl Client {
    /// Sends one request, and records it as one operation. The answer, when there was one.
    async fn run(
        &mut self,
        key: usize,
        input: Input,
        request: Request,
        meaning: impl FnOnce(&Answer) -> Meaning,
    ) -> Option<Answer> {
        let called = self.shared.tick();
        let answer = match self.call(&request).await {
            Ok(answer) => answer,
            Err(NoAnswer::NotSent(_)) => return None,
            Err(NoAnswer::Unknown(_)) => {
                self.record(key, called, input, (Meaning::Unknown, None, request.under));
                return None;
            }
        };
        self.acknowledge(&input.family().object(key), &request.method, &answer);
        let told = (meaning(&answer), revision_of(&answer.body), request.under);
        self.record(key, called, input, told);
        Some(answer)
    }

    /// Sends one request.
    ///
    /// # Errors
    /// When it was not sent, or nobody knows what became of it. The next one goes to another master then, perhaps.
    async fn call(&mut self, request: &Request) -> Result<Answer, NoAnswer> {
        let Request { method, path, body, is_json_patch, .. } = request;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let api = self.shared.apis[self.master];
                match Connection::open(api, &self.shared.tls).await {
                    Ok(connection) => connection,
                    Err(error) => {
                        self.move_on();
                        return Err(NoAnswer::NotSent(error));
                    }
                }
            }
        };
        let answer = match is_json_patch {
            true => connection.json_patch(path, body.as_ref()).await,
            false => connection.call(method.clone(), path, body.as_ref()).await,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.move_on();
                return Err(error);
            }
        };
        self.connection = Some(connection);
        if is_without_space(&answer) {
            tokio::time::sleep(NO_SPACE_PACE).await;
            return Err(NoAnswer::NotSent(anyhow::anyhow!("a full disk")));
        }
        Ok(answer)
    }

    fn record(
        &mut self,
        key: usize,
        called: Tick,
        input: Input,
        (meaning, revision, under): (Meaning, Option<Revision>, Option<Revision>),
    ) {
        let outcome = match meaning {
            Meaning::Output(output) => Outcome::Done { at: self.shared.tick(), output },
            Meaning::Nothing => return,
            Meaning::Unknown => Outcome::Unknown,
        };
        let is_unknown = outcome == Outcome::Unknown;
        let operation = Operation { client: self.number, called, input, outcome };
        let recorded = Recorded { key, master: self.master, operation, revision, under };
        lock(&self.shared.history).push(recorded);
        if is_unknown {
            self.number = self.shared.client();
        }
    }

    /// What a write's answer tells of its revision.
    fn acknowledge(&self, key: &str, method: &Method, answer: &Answer) {
        let kind = match (method, answer.code) {
            (&Method::POST, 201) => Kind::Added,
            (&Method::PUT | &Method::PATCH, 200) => Kind::Modified,
            _ => return,
        };
        if let Some((revision, digest)) = told(&answer.body) {
            let change = Change { key: key.to_owned(), kind, digest };
            lock(&self.shared.acknowledged).push((revision, change));
        }
    }

    fn move_on(&mut self) {
        self.connection = None;
        self.master = self.random.random_range(0..self.shared.apis.len());
    }

    /// Where objects of a family are.
    fn all(&self, family: Family) -> String {
        self.shared.path(Resource::of(family))
    }

    /// Where one of them is.
    fn path(&self, family: Family, key: usize) -> String {
        format!("{}/{}", self.all(family), family.object(key))
    }

    /// An object, any.
    fn key(&mut self) -> usize {
        self.random.random_range(0..self.shared.keys)
    }
}

/// Whether a full disk refused the write: the answer says for certain that nothing was written. In other words it is an
/// answer that says nothing.
fn is_without_space(answer: &Answer) -> bool {
    let message = answer.body["message"].as_str().unwrap_or_default();
    answer.code == 500 && message.contains("no space:") && message.contains("nothing was written")
}

/// The object's or the list's `resourceVersion`.
fn revision_of(object: &Value) -> Option<Revision> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

/// An object's revision, and a digest of what it says beside.
#[must_use]
pub fn told(object: &Value) -> Option<(Revision, u64)> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let revision = revision_of(object)?;
    let mut hasher = DefaultHasher::new();
    object["metadata"]["uid"].as_str()?.hash(&mut hasher);
    for part in [&object["data"], &object["spec"], &object["metadata"]["finalizers"]] {
        part.to_string().hash(&mut hasher);
    }
    Some((revision, hasher.finish()))
}

/// What accounts or a lease say; nothing of other objects.
#[must_use]
pub fn content(object: &Value) -> Option<(u64, Content)> {
    let name = object["metadata"]["name"].as_str()?;
    if name.starts_with(Family::Bank.prefix()) {
        return bank::content(object);
    }
    if name.starts_with(Family::Leases.prefix()) {
        return leases::content(object);
    }
    None
}

/// What a client left behind when it panicked is still what happened.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
