//! Load on masters that come and go: clients that write through all of them, watchers, a Deployment that is rolled
//! again and again; and what all of these have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::JoinHandle;

use super::kube::client;
use super::{PATIENCE, step};

/// Clients that write, one call at a time each.
const WRITERS: usize = 4;

/// Between two calls of one of them.
const PAUSE: Duration = Duration::from_millis(15);

/// Between two looks at what is waited for.
const POLL: Duration = Duration::from_millis(20);

const DEPLOYMENT: &str = "web";
const REPLICAS: i32 = 3;

/// What a client is told of a write: what it was, and the revision if the answer names it.
type Answered = (&'static str, Option<u64>);

/// An event of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    revision: u64,
    kind: &'static str,
    name: String,
}

/// What was seen and done.
#[derive(Debug, Clone)]
pub struct Summary {
    pub calls: u64,
    pub rollouts: u64,
    pub changes: u64,
    pub longest: Duration,
    pub longest_rollout: Duration,
    /// Watches that went on at another master.
    pub resumed: u64,
    /// Answers that masters gave on their way out, and the errors.
    pub stayed: u64,
    pub left_with: BTreeMap<String, u64>,
}

/// A master in service.
#[derive(Clone)]
struct Master {
    client: Client,
    under_way: Arc<AtomicU64>,
}

#[derive(Default)]
struct Shared {
    kubeconfig: PathBuf,
    masters: Mutex<BTreeMap<usize, Master>>,
    /// Those that were told to go.
    leaving: Mutex<BTreeSet<usize>>,
    stop: AtomicBool,
    calls: AtomicU64,
    longest_ms: AtomicU64,
    rollouts: AtomicU64,
    longest_rollout_ms: AtomicU64,
    resumed: AtomicU64,
    stayed: AtomicU64,
    left_with: Mutex<BTreeMap<String, u64>>,
    failures: Mutex<Vec<String>>,
    written: Mutex<BTreeMap<String, Vec<Answered>>>,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn revision(of: &ObjectMeta) -> u64 {
    of.resource_version.as_ref().unwrap().parse().unwrap()
}

impl Shared {
    fn fails(&self, what: String) {
        step(&format!("FAILED {what}"));
        self.failures.lock().unwrap().push(what);
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One of those in service.
    fn any(&self, chosen: u64) -> (usize, Master) {
        let masters = self.masters.lock().unwrap();
        let chosen = usize::try_from(chosen).unwrap() % masters.len();
        let (number, master) = masters.iter().nth(chosen).unwrap();
        master.under_way.fetch_add(1, Ordering::SeqCst);
        (*number, master.clone())
    }

    /// A call to one of those in service; it must succeed.
    async fn call<T, F: Future<Output = kube::Result<T>>>(
        &self,
        what: &str,
        chosen: u64,
        call: impl FnOnce(Client) -> F,
    ) -> Option<T> {
        let (number, Master { client, under_way }) = self.any(chosen);
        let began = Instant::now();
        let outcome = tokio::time::timeout(PATIENCE, call(client)).await;
        under_way.fetch_sub(1, Ordering::SeqCst);
        let took = millis(began.elapsed());
        self.longest_ms.fetch_max(took, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => self.fails(format!("{what} at m{number} after {took} ms: {error}")),
            Err(_) => self.fails(format!("{what} at m{number}: no answer for {PATIENCE:?}")),
        }
        None
    }

    fn notes(&self, name: &str, answered: Answered) {
        self.written.lock().unwrap().entry(name.to_owned()).or_default().push(answered);
    }
}

fn maps(client: Client) -> Api<ConfigMap> {
    Api::default_namespaced(client)
}

/// Makes, changes and deletes, each time at another master; reads at yet another.
async fn write(shared: Arc<Shared>, writer: u64) {
    let mut number = 0;
    while !shared.stops() {
        number += 1;
        let (name, at) = (format!("load-{writer}-{number}"), writer + number);
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, ..ConfigMap::default() };
        let post = PostParams::default();
        let create = |client| async move { maps(client).create(&post, &map).await };
        let Some(made) = shared.call(&format!("create {name}"), at, create).await else { return };
        shared.notes(&name, ("added", Some(revision(&made.metadata))));
        tokio::time::sleep(PAUSE).await;
        let data = json!({"data": {"n": number.to_string()}});
        let patch = |client| {
            let (name, data) = (name.clone(), Patch::Merge(data));
            async move { maps(client).patch(&name, &PatchParams::default(), &data).await }
        };
        let Some(patched) = shared.call(&format!("patch {name}"), at + 1, patch).await else {
            return;
        };
        shared.notes(&name, ("modified", Some(revision(&patched.metadata))));
        let get = |client| {
            let name = name.clone();
            async move { maps(client).get(&name).await }
        };
        let read = shared.call(&format!("get {name}"), at + 2, get).await;
        if read.as_ref().map(|read| revision(&read.metadata)) != Some(revision(&patched.metadata)) {
            shared.fails(format!("{name}: an answered write is not read at another master"));
        }
        tokio::time::sleep(PAUSE).await;
        if number % 3 != 0 {
            let delete = |client| {
                let name = name.clone();
                async move { maps(client).delete(&name, &DeleteParams::default()).await }
            };
            if shared.call(&format!("delete {name}"), at + 3, delete).await.is_none() {
                return;
            }
            shared.notes(&name, ("deleted", None));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn deployment(generation: u64) -> Deployment {
    let label = json!({"app": DEPLOYMENT});
    let container = json!({"name": "web", "image": format!("web:{generation}")});
    serde_json::from_value(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": DEPLOYMENT},
        "spec": {
            "replicas": REPLICAS,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": label},
            // Nothing runs them, so none is ever available.
            "strategy": {"rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 1}},
            "template": {"metadata": {"labels": label}, "spec": {"containers": [container]}},
        },
    }))
    .unwrap()
}

/// Rolls the Deployment as soon as the controllers have carried out what was asked before.
async fn roll(shared: Arc<Shared>) {
    let create = |client| async move {
        Api::default_namespaced(client).create(&PostParams::default(), &deployment(0)).await
    };
    shared.call("create the Deployment", 0, create).await;
    for generation in 1.. {
        let began = Instant::now();
        loop {
            if shared.stops() {
                return;
            }
            let get = |client| async move {
                Api::<Deployment>::default_namespaced(client).get(DEPLOYMENT).await
            };
            let Some(found) = shared.call("get the Deployment", generation, get).await else {
                return;
            };
            let status = found.status.unwrap_or_default();
            let counts = (status.updated_replicas, status.replicas);
            if status.observed_generation == found.metadata.generation
                && counts == (Some(REPLICAS), Some(REPLICAS))
            {
                break;
            }
            if began.elapsed() > PATIENCE {
                return shared.fails(format!("the Deployment is not rolled: {status:?}"));
            }
            tokio::time::sleep(2 * POLL).await;
        }
        shared.rollouts.fetch_add(1, Ordering::Relaxed);
        shared.longest_rollout_ms.fetch_max(millis(began.elapsed()), Ordering::Relaxed);
        let data = serde_json::to_value(deployment(generation)).unwrap();
        let patch = |client| async move {
            let deployments: Api<Deployment> = Api::default_namespaced(client);
            let (params, data) = (PatchParams::default(), Patch::Merge(data));
            deployments.patch(DEPLOYMENT, &params, &data).await
        };
        if shared.call("roll the Deployment", generation, patch).await.is_none() {
            return;
        }
    }
}

fn change<K: kube::ResourceExt>(event: &WatchEvent<K>) -> Option<Seen> {
    let (kind, object) = match event {
        WatchEvent::Added(object) => ("added", object),
        WatchEvent::Modified(object) => ("modified", object),
        WatchEvent::Deleted(object) => ("deleted", object),
        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => return None,
    };
    Some(Seen { revision: revision(object.meta()), kind, name: object.name_any() })
}

/// Follows all changes from a revision on, at one master as long as that serves, then at another.
async fn follow<K>(
    shared: Arc<Shared>,
    watcher: usize,
    from: u64,
    until: Arc<AtomicU64>,
) -> Vec<Seen>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
    K::DynamicType: Default,
{
    let (mut all, mut at): (Vec<Seen>, u64) = (Vec::new(), from);
    let mut master = u64::try_from(watcher).unwrap();
    loop {
        let (number, Master { client, under_way }) = shared.any(master);
        // It does not keep a master from going.
        under_way.fetch_sub(1, Ordering::SeqCst);
        let objects: Api<K> = Api::default_namespaced(client);
        let params = WatchParams::default();
        let mut broke = None;
        match objects.watch(&params, &at.to_string()).await {
            Err(error) => broke = Some(error.to_string()),
            Ok(stream) => {
                let mut stream = std::pin::pin!(stream);
                loop {
                    let end = until.load(Ordering::Relaxed);
                    if at >= end {
                        return all;
                    }
                    let next = match tokio::time::timeout(POLL, stream.try_next()).await {
                        Err(_) => continue,
                        Ok(Ok(Some(event))) => event,
                        Ok(Ok(None)) => break,
                        Ok(Err(error)) => {
                            broke = Some(error.to_string());
                            break;
                        }
                    };
                    match (&next, change(&next)) {
                        (_, Some(seen)) => {
                            if seen.revision <= at {
                                shared.fails(format!("watcher {watcher}: {seen:?} after {at}"));
                            }
                            at = seen.revision;
                            all.push(seen);
                        }
                        (WatchEvent::Bookmark(bookmark), _) => {
                            at = at.max(bookmark.metadata.resource_version.parse().unwrap());
                        }
                        (WatchEvent::Error(status), _) if status.code == 410 => {
                            shared.fails(format!("watcher {watcher} at m{number}: {status:?}"));
                            return all;
                        }
                        (event, _) => {
                            broke = Some(format!("{event:?}"));
                            break;
                        }
                    }
                }
            }
        }
        let leaves = shared.leaving.lock().unwrap().contains(&number);
        if let Some(why) = broke.filter(|_| !leaves) {
            shared.fails(format!("watcher {watcher} at m{number}, which is in service: {why}"));
            return all;
        }
        shared.resumed.fetch_add(1, Ordering::Relaxed);
        master += 1;
    }
}

/// Who asks a master that leaves, as long as it answers: what comes then is what clients take for a broken connection.
async fn stay(shared: Arc<Shared>, number: usize, client: Client) {
    let (list, maps) = (ListParams::default().limit(1), maps(client));
    loop {
        let call = tokio::time::timeout(PATIENCE, maps.list(&list));
        let error = match call.await {
            Ok(Ok(_)) => {
                shared.stayed.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Ok(Err(kube::Error::Api(status))) if status.code >= 500 => {
                // A client waits and asks again.
                let told = format!("{} {}", status.code, status.reason);
                *shared.left_with.lock().unwrap().entry(told).or_insert(0) += 1;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Ok(Err(kube::Error::Api(status))) => {
                return shared.fails(format!("m{number} leaves with {status:?}"));
            }
            Ok(Err(error)) => error,
            Err(_) => return shared.fails(format!("m{number} leaves, and answers nothing")),
        };
        let told = match error {
            kube::Error::HyperError(_) | kube::Error::Service(_) => "connection ended".to_owned(),
            error => error.to_string(),
        };
        *shared.left_with.lock().unwrap().entry(told).or_insert(0) += 1;
        return;
    }
}

/// All of it.
pub struct Load {
    shared: Arc<Shared>,
    until: [Arc<AtomicU64>; 2],
    clients: Vec<JoinHandle<()>>,
    staying: Mutex<BTreeMap<usize, JoinHandle<()>>>,
    maps: Vec<JoinHandle<Vec<Seen>>>,
    pods: Vec<JoinHandle<Vec<Seen>>>,
}

impl Load {
    /// Begins, at these masters.
    pub async fn start(kubeconfig: &Path, urls: &[String]) -> Self {
        let shared = Arc::new(Shared { kubeconfig: kubeconfig.to_owned(), ..Shared::default() });
        let mut load = Self {
            shared: shared.clone(),
            until: [u64::MAX, u64::MAX].map(|end| Arc::new(AtomicU64::new(end))),
            clients: Vec::new(),
            staying: Mutex::default(),
            maps: Vec::new(),
            pods: Vec::new(),
        };
        for (number, url) in urls.iter().enumerate() {
            load.adds(number, client(kubeconfig, Some(url)).await);
        }
        let first = shared.any(0).1;
        first.under_way.fetch_sub(1, Ordering::SeqCst);
        let list = maps(first.client).list(&ListParams::default()).await.unwrap();
        let from = list.metadata.resource_version.unwrap().parse().unwrap();
        for watcher in 0..urls.len() {
            let [maps, pods] = &load.until;
            let follow_maps = follow::<ConfigMap>(shared.clone(), watcher, from, maps.clone());
            load.maps.push(tokio::spawn(follow_maps));
            let follow_pods = follow::<Pod>(shared.clone(), watcher, from, pods.clone());
            load.pods.push(tokio::spawn(follow_pods));
        }
        for writer in 0..WRITERS {
            let writer = u64::try_from(writer).unwrap();
            load.clients.push(tokio::spawn(write(shared.clone(), writer)));
        }
        load.clients.push(tokio::spawn(roll(shared)));
        load
    }

    fn adds(&self, number: usize, client: Client) {
        let master = Master { client, under_way: Arc::default() };
        self.shared.masters.lock().unwrap().insert(number, master);
    }

    /// A master is in service from now on.
    pub async fn comes(&self, number: usize, url: &str) {
        self.adds(number, client(&self.shared.kubeconfig, Some(url)).await);
    }

    /// It will leave: clients go elsewhere, but for one; watchers stay.
    pub async fn goes(&self, number: usize) {
        self.shared.leaving.lock().unwrap().insert(number);
        let master = self.shared.masters.lock().unwrap().remove(&number).unwrap();
        let done = async {
            while master.under_way.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await.expect("calls end");
        let staying = tokio::spawn(stay(self.shared.clone(), number, master.client));
        self.staying.lock().unwrap().insert(number, staying);
    }

    /// It has left.
    pub async fn gone(&self, number: usize) {
        let staying = self.staying.lock().unwrap().remove(&number).unwrap();
        tokio::time::timeout(PATIENCE, staying).await.expect("who stayed is told").unwrap();
    }

    /// Those in service.
    pub fn in_service(&self) -> Vec<usize> {
        self.shared.masters.lock().unwrap().keys().copied().collect()
    }

    /// Waits until clients have done some more, and the Deployment was rolled once more.
    pub async fn goes_on(&self) {
        let shared = &self.shared;
        let now =
            || (shared.calls.load(Ordering::Relaxed), shared.rollouts.load(Ordering::Relaxed));
        let before = now();
        let more = async {
            while now().0 < before.0 + 50 || now().1 <= before.1 {
                self.is_well();
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(2 * PATIENCE, more).await.expect("the load goes on");
    }

    fn is_well(&self) {
        let failures = self.shared.failures.lock().unwrap();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    fn summary(&self) -> Summary {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let shared = &self.shared;
        let changes = shared.written.lock().unwrap().values().map(Vec::len).sum::<usize>();
        Summary {
            calls: of(&shared.calls),
            rollouts: of(&shared.rollouts),
            changes: u64::try_from(changes).unwrap(),
            longest: Duration::from_millis(of(&shared.longest_ms)),
            longest_rollout: Duration::from_millis(of(&shared.longest_rollout_ms)),
            resumed: of(&shared.resumed),
            stayed: of(&shared.stayed),
            left_with: shared.left_with.lock().unwrap().clone(),
        }
    }

    /// What was done until now.
    pub fn so_far(&self) -> String {
        format!("{:?}", self.summary())
    }

    /// Ends it, and looks whether all was as it must be.
    pub async fn finish(self) -> Summary {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in &self.clients {
            let ends = async {
                while !client.is_finished() {
                    tokio::time::sleep(POLL).await;
                }
            };
            tokio::time::timeout(PATIENCE, ends).await.expect("clients end");
        }
        self.is_well();
        let summary = self.summary();
        let Self { shared, until, maps: of_maps, pods: of_pods, .. } = self;
        // The last that any watcher has to hear of.
        let (_, master) = shared.any(0);
        let last = json!({"data": {"last": "true"}});
        let end = ConfigMap {
            metadata: ObjectMeta { name: Some("the-end".to_owned()), ..ObjectMeta::default() },
            ..serde_json::from_value(last).unwrap()
        };
        let end = maps(master.client.clone()).create(&PostParams::default(), &end).await.unwrap();
        shared.notes("the-end", ("added", Some(revision(&end.metadata))));
        until[0].store(revision(&end.metadata), Ordering::Relaxed);
        let pods: Api<Pod> = Api::default_namespaced(master.client.clone());
        let mark = json!({"metadata": {"name": "the-end"}, "spec": {"containers": [
            {"name": "end", "image": "end"}]}});
        let mark: Pod = serde_json::from_value(mark).unwrap();
        let mark = pods.create(&PostParams::default(), &mark).await.unwrap();
        until[1].store(revision(&mark.metadata), Ordering::Relaxed);

        let written = shared.written.lock().unwrap().clone();
        for (watcher, task) in of_maps.into_iter().enumerate() {
            let seen = tokio::time::timeout(PATIENCE, task).await.expect("it has all").unwrap();
            compare(watcher, &written, &seen);
        }
        let mut first: Option<Vec<Seen>> = None;
        for (watcher, task) in of_pods.into_iter().enumerate() {
            let mut seen = tokio::time::timeout(PATIENCE, task).await.expect("it has all").unwrap();
            seen.retain(|seen| seen.revision <= revision(&mark.metadata));
            let first = first.get_or_insert_with(|| seen.clone());
            assert_eq!(*first, seen, "watchers 0 and {watcher} were told of other pods");
        }
        let masters = shared.masters.lock().unwrap().clone();
        for (number, master) in masters {
            let list = maps(master.client).list(&ListParams::default()).await.unwrap();
            let found: BTreeMap<String, u64> =
                list.items.iter().map(|map| (map.name_any(), revision(&map.metadata))).collect();
            for (name, answers) in &written {
                let (kind, last) = answers.last().unwrap();
                let there = found.get(name).copied();
                let want = if *kind == "deleted" { None } else { *last };
                assert_eq!(there, want, "{name} at m{number}: {answers:?}");
            }
        }
        step(&format!("{summary:?}"));
        summary
    }
}

/// Each acknowledged write once, in order, and nothing else.
fn compare(watcher: usize, written: &BTreeMap<String, Vec<Answered>>, seen: &[Seen]) {
    let mut told: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
    // The masters' own are others' affair.
    for seen in seen.iter().filter(|seen| written.contains_key(&seen.name)) {
        told.entry(&seen.name).or_default().push(seen);
    }
    for (name, answers) in written {
        let told = told.remove(name.as_str()).unwrap_or_default();
        let same = told.len() == answers.len()
            && told.iter().zip(answers).all(|(seen, (kind, revision))| {
                seen.kind == *kind && revision.is_none_or(|revision| revision == seen.revision)
            });
        assert!(same, "watcher {watcher}, {name}: written {answers:?}, told {told:?}");
    }
}
