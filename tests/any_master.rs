//! Any one of three masters is killed with `kill -9`, one after the other, the leader too: every call to a living
//! master succeeds, every watch goes on without a 410 and without a hole.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::cluster::Cluster;
use common::{PATIENCE, kube::client, step};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::runtime::watcher;

/// Calls that a writer makes before the kill, and again after it.
const CALLS: u64 = 30;

/// Between two looks at what is waited for.
const POLL: Duration = Duration::from_millis(20);

/// Name to resourceVersion.
type State = BTreeMap<String, String>;

fn version(map: &ConfigMap) -> (String, String) {
    let metadata = &map.metadata;
    (metadata.name.clone().unwrap(), metadata.resource_version.clone().unwrap())
}

async fn listed(maps: &Api<ConfigMap>) -> (State, String) {
    let list = maps.list(&ListParams::default()).await.unwrap();
    (list.items.iter().map(version).collect(), list.metadata.resource_version.unwrap())
}

/// What goes on while masters die.
#[derive(Default)]
struct Witness {
    stop: AtomicBool,
    calls: AtomicU64,
    longest_ms: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Witness {
    fn fails(&self, what: String) {
        step(&format!("FAILED {what}"));
        self.failures.lock().unwrap().push(what);
    }

    /// Times one call and keeps its error.
    async fn call<T>(&self, what: &str, call: impl Future<Output = kube::Result<T>>) -> Option<T> {
        let began = Instant::now();
        let outcome = tokio::time::timeout(PATIENCE, call).await;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.longest_ms.fetch_max(took, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => self.fails(format!("{what} after {took} ms: {error}")),
            Err(_) => self.fails(format!("{what}: no answer for {PATIENCE:?}")),
        }
        None
    }
}

/// Writes at one living master, and reads each write back at another one: create, patch, replace, delete.
async fn write(witness: Arc<Witness>, name: String, here: Api<ConfigMap>, there: Api<ConfigMap>) {
    let mut number = 0;
    while !witness.stop.load(Ordering::Relaxed) {
        number += 1;
        let name = format!("{name}-{number}");
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..ConfigMap::default()
        };
        let post = PostParams::default();
        witness.call(&format!("create {name}"), here.create(&post, &map)).await;
        let patch = Patch::Merge(serde_json::json!({"data": {"n": number.to_string()}}));
        let params = PatchParams::default();
        let patched = here.patch(&name, &params, &patch);
        let Some(mut patched) = witness.call(&format!("patch {name}"), patched).await else {
            return;
        };
        let read = witness.call(&format!("get {name}"), there.get(&name)).await;
        if read.as_ref().map(version) != Some(version(&patched)) {
            witness.fails(format!("{name}: a write that was answered is not read elsewhere"));
        }
        patched.immutable = Some(true);
        witness.call(&format!("replace {name}"), here.replace(&name, &post, &patched)).await;
        if number % 3 != 0 {
            let params = DeleteParams::default();
            witness.call(&format!("delete {name}"), here.delete(&name, &params)).await;
        }
    }
}

fn apply(state: &Mutex<State>, event: &watcher::Event<ConfigMap>) {
    let mut state = state.lock().unwrap();
    match event {
        watcher::Event::Init => state.clear(),
        watcher::Event::InitApply(map) | watcher::Event::Apply(map) => {
            state.extend([version(map)]);
        }
        watcher::Event::Delete(map) => {
            state.remove(&version(map).0);
        }
        watcher::Event::InitDone => {}
    }
}

/// A kube-rs watcher at a living master: it may neither fail nor begin anew.
async fn reflect(
    witness: Arc<Witness>,
    maps: Api<ConfigMap>,
    streaming: bool,
    state: Arc<Mutex<State>>,
) {
    let config = watcher::Config::default();
    let config = if streaming { config.streaming_lists() } else { config };
    let mut events = watcher(maps, config).boxed();
    let mut begun = 0;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                begun += u32::from(matches!(event, watcher::Event::Init));
                if begun > 1 {
                    witness.fails(format!("the watcher (streaming: {streaming}) began anew"));
                    begun = 1;
                }
                apply(&state, &event);
            }
            Err(error) => witness.fails(format!("watcher (streaming: {streaming}): {error}")),
        }
    }
}

/// A watch as an informer holds it: at the master that will die. When it breaks, it goes on at the next master from
/// the last resourceVersion that it has seen.
async fn follow(
    witness: Arc<Witness>,
    masters: Vec<Api<ConfigMap>>,
    at: usize,
    state: Arc<Mutex<State>>,
) {
    let (listed, mut revision) = listed(&masters[at]).await;
    *state.lock().unwrap() = listed;
    for number in (at..).take(100) {
        let maps = &masters[number % masters.len()];
        let stream = match maps.watch(&WatchParams::default(), &revision).await {
            Ok(stream) => stream,
            Err(kube::Error::Api(status)) => {
                witness.fails(format!("a watch cannot go on from {revision}: {status:?}"));
                return;
            }
            // This one is down.
            Err(_) => {
                tokio::time::sleep(POLL).await;
                continue;
            }
        };
        let mut stream = stream.boxed();
        while let Ok(Some(event)) = stream.try_next().await {
            let mut state = state.lock().unwrap();
            let seen = match &event {
                WatchEvent::Added(map) | WatchEvent::Modified(map) => {
                    let seen = version(map);
                    state.insert(seen.0, seen.1.clone());
                    seen.1
                }
                WatchEvent::Deleted(map) => {
                    let seen = version(map);
                    state.remove(&seen.0);
                    seen.1
                }
                WatchEvent::Bookmark(mark) => mark.metadata.resource_version.clone(),
                WatchEvent::Error(error) => {
                    witness.fails(format!("a watch that went on from {revision}: {error:?}"));
                    return;
                }
            };
            if seen.parse::<u64>().unwrap() < revision.parse::<u64>().unwrap() {
                witness.fails(format!("{seen} was sent after {revision}"));
            }
            revision = seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_master_is_killed_nobody_notices() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    // The followers first, so that each round has a leader of the same long standing; then the leader.
    let mut victims = cluster.others(leader);
    victims.push(leader);
    for victim in victims {
        let seen = cluster.leader_as_seen_by((victim + 1) % 3);
        step(&format!("=== m{victim} is to die; m{seen} leads"));
        killed(&mut cluster, victim).await;
    }
}

async fn api(cluster: &Cluster, number: usize) -> Api<ConfigMap> {
    let url = cluster.masters[number].url();
    Api::namespaced(client(&cluster.kubeconfig(), Some(&url)).await, "default")
}

async fn killed(cluster: &mut Cluster, victim: usize) {
    let living = cluster.others(victim);
    let witness = Arc::new(Witness::default());
    let mut states: Vec<(String, Arc<Mutex<State>>)> = Vec::new();
    let mut watches = Vec::new();
    for number in &living {
        for streaming in [false, true] {
            let state = Arc::<Mutex<State>>::default();
            states.push((format!("watcher at m{number}, streaming {streaming}"), state.clone()));
            let watch = reflect(witness.clone(), api(cluster, *number).await, streaming, state);
            watches.push(tokio::spawn(watch));
        }
    }
    let mut masters = Vec::new();
    for number in 0..3 {
        masters.push(api(cluster, number).await);
    }
    let state = Arc::<Mutex<State>>::default();
    states.push((format!("informer that was at m{victim}"), state.clone()));
    watches.push(tokio::spawn(follow(witness.clone(), masters, victim, state)));

    let mut writers = Vec::new();
    for (here, there) in [(living[0], living[1]), (living[1], living[0])] {
        let name = format!("killed-{victim}-at-{here}");
        let (here, there) = (api(cluster, here).await, api(cluster, there).await);
        writers.push(tokio::spawn(write(witness.clone(), name, here, there)));
    }
    let called = async |wanted: u64| {
        let began = Instant::now();
        while witness.calls.load(Ordering::Relaxed) < wanted {
            assert!(began.elapsed() < PATIENCE, "the writers stand still: {:?}", witness.failures);
            tokio::time::sleep(POLL).await;
        }
    };
    called(CALLS).await;
    let began = Instant::now();
    while states.iter().any(|(_, state)| state.lock().unwrap().is_empty()) {
        assert!(began.elapsed() < PATIENCE, "not all watches have begun");
        tokio::time::sleep(POLL).await;
    }
    witness.longest_ms.store(0, Ordering::Relaxed);
    cluster.masters[victim].process.kill_9();
    called(witness.calls.load(Ordering::Relaxed) + 4 * CALLS).await;
    witness.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    step(&format!(
        "{} calls, the longest after the kill took {} ms",
        witness.calls.load(Ordering::Relaxed),
        witness.longest_ms.load(Ordering::Relaxed)
    ));
    let (want, _) = listed(&api(cluster, living[0]).await).await;
    agree(&want, &states).await;
    assert_eq!(*witness.failures.lock().unwrap(), Vec::<String>::new());
    for watch in watches {
        watch.abort();
    }
    cluster.restart(victim);
    let back = api(cluster, victim).await;
    let began = Instant::now();
    while back.list(&ListParams::default()).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "m{victim} does not come back");
        tokio::time::sleep(POLL).await;
    }
    assert_eq!(listed(&back).await.0, want, "m{victim} is level again");
}

/// Every watch has come to the state of the list.
async fn agree(want: &State, states: &[(String, Arc<Mutex<State>>)]) {
    let began = Instant::now();
    for (name, state) in states {
        while *state.lock().unwrap() != *want {
            assert!(
                began.elapsed() < PATIENCE,
                "{name} has missed something:\n{:?}\nis not\n{want:?}",
                state.lock().unwrap()
            );
            tokio::time::sleep(POLL).await;
        }
    }
    step("all watches agree with the list");
}
