//! Kubernetes in the simulated world: a user of Deployments, who watches pods, and what there is in the end. The same
//! evidence as of a run with real processes, for the same checks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use quorate_api_server::identity::User;
use quorate_api_server::server::Door;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, Revision};
use quorate_store::{Consistency, Store};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::host::{Outbox, Sent};
use super::judge::Found;
use super::world::{Event, World, tick_of};
use crate::check::kube as checks;
use crate::limits::{SIM_ANSWER_MAX, SIM_CONVERGED_MAX, SIM_HEALED_MAX, SIM_WATCH_AGAIN};
use crate::real::kube::change::{self, Change};
use crate::real::kube::ending::{self, Last};
use crate::real::kube::{Binding, DEPLOYMENTS, Evidence, Wanted, image, name};
use crate::report::Result as Outcome;

/// Where all of it is.
const NAMESPACE: &str = "default";

/// A step of the user, drawn by the world.
#[derive(Debug, Clone)]
pub(super) struct Step {
    name: String,
    seed: u64,
    /// Its Service is to be made first.
    serve: bool,
    round: u64,
}

/// What became of a step.
#[derive(Debug, Clone)]
pub(super) struct Used {
    /// What was there before; nothing when that was not told.
    found: Option<Wanted>,
    /// The Service is there.
    served: bool,
    verb: &'static str,
    then: Wanted,
    told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Done,
    /// As it was.
    Refused,
    Unknown,
}

/// A pod on a node, as a master has it.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    uid: String,
    pod: String,
    node: String,
}

/// A step that the user waits for.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    name: String,
    /// The user waits no longer: nothing that is not asked for yet is asked for.
    given_up: Arc<AtomicBool>,
}

/// What the user knows, and what was seen.
#[derive(Debug, Default)]
pub(super) struct Kube {
    evidence: Evidence,
    bindings: BTreeMap<(String, String), Binding>,
    served: BTreeSet<String>,
    master: usize,
    round: u64,
    /// The step that is under way.
    under_way: Option<UnderWay>,
    /// The next success is the last.
    ends: bool,
}

/// Who may do everything.
pub(super) fn admin() -> User {
    User {
        name: "kubernetes-admin".to_owned(),
        groups: vec!["system:masters".to_owned()],
        ..User::default()
    }
}

/// Code and body of an answer.
async fn call(door: &Door, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let kind = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
    let Ok(request) = request.body(body) else { return (0, Value::Null) };
    let response = door.call(request).await;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.map(|body| body.to_bytes());
    (code, serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default())
}

/// What only pretends to run.
fn container() -> Value {
    json!({"name": "main", "image": image::NAME, "command": ["run"]})
}

/// In the master: one change, under the `resourceVersion` that was just read.
async fn step(door: Door, step: Step, given_up: Arc<AtomicBool>) -> Used {
    let Step { name, seed, serve, round } = step;
    let mut used = Used {
        found: None,
        served: !serve,
        verb: "",
        then: Wanted::default(),
        told: Told::Refused,
    };
    if serve {
        let (code, _) =
            call(&door, Method::POST, &change::services(NAMESPACE), &change::service(&name)).await;
        used.served = matches!(code, 201 | 409);
        if !used.served {
            return used;
        }
    }
    let path = format!("{}/{name}", change::deployments(NAMESPACE));
    let (code, body) = call(&door, Method::GET, &path, &Value::Null).await;
    if given_up.load(Ordering::Relaxed) {
        return used;
    }
    let found = match code {
        200 => change::of(&body),
        404 => Wanted { known: true, ..Wanted::default() },
        _ => return used,
    };
    used.found = Some(found.clone());
    let version = body["metadata"]["resourceVersion"].clone();
    let mut random = StdRng::seed_from_u64(seed);
    let drawn =
        Change::draw(&mut random, (NAMESPACE, &name), (found, &version), round, &container());
    let Change { verb, method, path, body, then } = drawn;
    (used.verb, used.then) = (verb, then);
    used.told = match call(&door, method, &path, &body).await.0 {
        200..=202 => Told::Done,
        408 | 0 | 500.. => Told::Unknown,
        _ => Told::Refused,
    };
    used
}

fn bound(stored: &StoredRef) -> Option<Bound> {
    let pod: Value = serde_json::from_slice(&stored.image.bytes).ok()?;
    Some(Bound {
        uid: pod["metadata"]["uid"].as_str()?.to_owned(),
        pod: stored.key.object.name.to_string(),
        node: pod["spec"]["nodeName"].as_str()?.to_owned(),
    })
}

/// In the master: tells on which nodes pods are, for as long as the master lives.
pub(super) async fn witness(store: Store, own: usize, outbox: Outbox) {
    let pods = GroupResource::new("", "pods");
    let tell = |stored: &StoredRef| {
        if let Some(bound) = bound(stored) {
            outbox.send(Sent::Bound { from: own, bound });
        }
    };
    loop {
        let view = store.view();
        if let Some(all) = view.resource(&pods) {
            all.range("", None).for_each(tell);
        }
        let mut watch = store.watch(pods.clone(), Revision(view.revision().0));
        while let Ok(batch) = watch.next().await {
            let changes = batch.changes.iter();
            changes.filter_map(|change| change.current.as_ref()).for_each(tell);
        }
        // What it missed is forgotten: it looks at everything again.
        tokio::time::sleep(SIM_WATCH_AGAIN).await;
    }
}

/// In the master: all there is, as its API tells it.
async fn look(store: Store, door: Door) -> Option<Last> {
    store.read(Consistency::Linearizable).await.ok()?;
    let mut lists = ending::Lists::default();
    for (path, list) in ending::paths(NAMESPACE).iter().zip(&mut lists) {
        let (code, mut body) = call(&door, Method::GET, path, &Value::Null).await;
        if code != 200 {
            return None;
        }
        *list = ending::items(&mut body);
    }
    Some(Last::of(lists))
}

impl World {
    /// The user does the next thing.
    pub(super) fn uses(&mut self) {
        if !self.is_calling() || self.agents.is_empty() {
            return;
        }
        let master = self.kube.master % self.nodes.len();
        let Some(door) = self.nodes[master].up(|up| up.door(admin())).flatten() else {
            self.kube.master = self.random.random_range(0..self.nodes.len());
            let pause = self.pause();
            return self.later(pause, Event::Uses);
        };
        let name = name(self.random.random_range(0..DEPLOYMENTS));
        self.kube.round += 1;
        let drawn = Step {
            serve: !self.kube.served.contains(&name),
            name,
            seed: self.random.random(),
            round: self.kube.round,
        };
        let (number, outbox) = (self.next_number(), self.outbox.clone());
        let given_up = Arc::new(AtomicBool::new(false));
        let (name, waits) = (drawn.name.clone(), given_up.clone());
        self.kube.under_way = Some(UnderWay { number, name, given_up });
        self.nodes[master].spawn(async move {
            let used = step(door, drawn, waits).await;
            outbox.send(Sent::Used { from: master, step: number, used });
        });
        self.later(SIM_ANSWER_MAX, Event::UserGivesUp { step: number });
    }

    /// The user is told, or waits no longer.
    pub(super) fn used(&mut self, number: u64, used: Option<Used>) {
        let Some(under_way) = self.kube.under_way.take_if(|known| known.number == number) else {
            return;
        };
        under_way.given_up.store(true, Ordering::Relaxed);
        let (name, wanted) = (under_way.name, &mut self.kube.evidence.wanted);
        match used {
            // Whatever it was.
            None => {
                wanted.insert(name, Wanted::default());
                self.kube.master = self.random.random_range(0..self.nodes.len());
            }
            Some(used) => {
                if used.served {
                    self.kube.served.insert(name.clone());
                }
                if let (Some(found), Some(wanted)) = (&used.found, wanted.get(&name))
                    && wanted.known
                    && wanted != found
                {
                    let what =
                        format!("{name}: what was acknowledged is {wanted}; {found} is there");
                    self.kube.evidence.surprises.push(what);
                }
                let known = used.told == Told::Done;
                if used.told != Told::Refused {
                    wanted.insert(name, Wanted { known, ..used.then });
                }
                if known && std::mem::take(&mut self.kube.ends) {
                    self.clients(false);
                    if let Some(leader) = self.leader() {
                        self.crash(leader, false);
                        self.starts_soon(leader);
                    }
                }
                if known {
                    *self.kube.evidence.done.entry(used.verb.to_owned()).or_default() += 1;
                } else {
                    self.kube.master = self.random.random_range(0..self.nodes.len());
                }
            }
        }
        let pause = self.pause() * 2;
        self.later(pause, Event::Uses);
    }

    /// The leader ends in the moment after the user was told of the last success: what it has begun is for the next one
    /// to finish, and nobody changes anything any more.
    pub(super) fn last_word(&mut self) -> anyhow::Result<()> {
        let until = self.now + SIM_HEALED_MAX;
        self.kube.ends = !self.agents.is_empty();
        while self.kube.ends && self.now < until {
            self.pass(Duration::from_millis(200))?;
        }
        self.kube.ends = false;
        Ok(())
    }

    /// A pod was seen on a node.
    pub(super) fn bound(&mut self, bound: Bound) {
        let Bound { uid, pod, node } = bound;
        let at = tick_of(self.now);
        let binding = Binding { uid: uid.clone(), pod, node: node.clone(), at };
        self.kube.bindings.entry((uid, node)).or_insert(binding);
    }

    /// After the faults: all comes to rest, and the checks of it.
    pub(super) fn rest(&mut self) -> anyhow::Result<Vec<Found>> {
        if self.agents.is_empty() {
            return Ok(Vec::new());
        }
        let mut evidence = std::mem::take(&mut self.kube.evidence);
        let (began, agents) = (self.now, self.agents.len());
        while evidence.converged.is_none() && self.now - began < SIM_CONVERGED_MAX {
            evidence.last = self.last()?;
            if let Some(last) = &evidence.last
                && checks::restless(last, &evidence, agents).is_empty()
            {
                evidence.converged = Some(self.now - began);
            }
            self.pass(Duration::from_millis(500))?;
        }
        evidence.bindings = std::mem::take(&mut self.kube.bindings).into_values().collect();
        let broken = checks::all(&evidence, agents).into_iter();
        let broken = broken.filter(|check| check.result == Outcome::Fail);
        Ok(broken
            .flat_map(|check| check.found.into_iter().map(move |text| (check.name, text)))
            .collect())
    }

    fn last(&mut self) -> anyhow::Result<Option<Last>> {
        let Some(master) = (0..self.nodes.len()).find(|master| !self.nodes[*master].lost) else {
            return Ok(None);
        };
        let mut last = self.ask(master, |up| {
            let (store, door) = (up.store.clone(), up.door(admin()));
            async move { look(store, door?).await }
        })?;
        if let Some(last) = &mut last {
            for agent in &self.agents {
                for (uid, count) in agent.containers.running() {
                    *last.containers.entry(uid).or_default() += count;
                }
            }
        }
        Ok(last)
    }

    /// What the user did, with success.
    pub(super) fn deeds(&self) -> BTreeMap<String, usize> {
        self.kube.evidence.done.clone()
    }
}
