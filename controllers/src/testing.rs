//! A small cluster for tests: an in-memory store, an `Admit` that does what the API server must do
//! to the controllers' writes, and ways to plan one key or to let all controllers settle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quorate_state_machine::object::{Header, Image};
use quorate_state_machine::{GroupResource, Key, ObjectKey, Op, View};
use quorate_store::clock::format_time;
use quorate_store::{Admit, Clock, ClockHand, LeaderStore, Refused, Store, Write};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::ControllersConfig;
use crate::controllers;
use crate::plan::{Controller, Ctx, Plan, WorkKey};
use crate::resources::Resource;
use crate::wake;
use crate::world::World;

/// When tests begin.
pub(crate) fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// Stamps and encodes; refuses what [`FakeAdmit::refuse`] names.
pub(crate) struct FakeAdmit {
    clock: Clock,
    numbers: AtomicU64,
    /// Refuses creations in this resource.
    pub(crate) refuse: std::sync::Mutex<Option<&'static str>>,
    /// Creations of pods with the image `held` wait while this is set.
    pub(crate) hangs: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl Admit for FakeAdmit {
    async fn admit(
        &self,
        view: &Arc<View>,
        _user: &str,
        write: Write,
    ) -> Result<Option<Op>, Refused> {
        let held = matches!(&write, Write::Create { object, .. }
            if object["spec"]["containers"][0]["image"] == "held");
        // As a webhook that does not answer.
        while held && self.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        match write {
            Write::Create { resource, object } => self.create(view, resource, object).map(Some),
            Write::Update { stored, object, .. } => Ok(self.update(&stored, object)),
            Write::Delete { stored, grace_period_seconds, propagation } => {
                Ok(self.delete(&stored, grace_period_seconds, propagation))
            }
        }
    }
}

impl FakeAdmit {
    fn create(
        &self,
        view: &View,
        resource: GroupResource,
        mut object: Value,
    ) -> Result<Op, Refused> {
        if *self.refuse.lock().unwrap() == Some(&*resource.resource) {
            let message = "exceeded quota".to_owned();
            return Err(Refused { reason: "Forbidden".to_owned(), message, code: 403 });
        }
        let number = self.numbers.fetch_add(1, Ordering::SeqCst);
        let meta = &mut object["metadata"];
        if let Some(prefix) = meta["generateName"].as_str() {
            meta["name"] = json!(format!("{prefix}{number:05}"));
        }
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("uid-{number:05}"));
        }
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = json!(format_time(self.clock.now()));
        }
        if meta["generation"].is_null() {
            meta["generation"] = json!(1);
        }
        let namespace = meta["namespace"].as_str().unwrap_or("").to_owned();
        let name = meta["name"].as_str().unwrap().to_owned();
        let key = Key { resource, object: ObjectKey::new(&namespace, &name) };
        let owner = view.get(&Key::new("", "namespaces", "", &namespace));
        let uid =
            (!namespace.is_empty()).then(|| owner.map_or("none", |found| found.uid()).to_owned());
        Ok(Op::Create { key, image: image(&object), namespace: uid })
    }

    fn update(
        &self,
        stored: &quorate_state_machine::object::StoredRef,
        mut object: Value,
    ) -> Option<Op> {
        let before: Value = serde_json::from_slice(&stored.to_json()).unwrap();
        if before["spec"] != object["spec"] && before["metadata"]["generation"].is_i64() {
            let generation = before["metadata"]["generation"].as_i64().unwrap();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        let done = !object["metadata"]["deletionTimestamp"].is_null()
            && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
            && empty(&object["metadata"]["finalizers"])
            && empty(&object["spec"]["finalizers"]);
        if done {
            let uid = Some(stored.uid().to_owned());
            return Some(Op::Delete {
                key: stored.key.clone(),
                expect: Some(stored.revision),
                uid,
            });
        }
        let image = image(&object);
        (image.bytes != stored.image.bytes).then(|| Op::Update {
            key: stored.key.clone(),
            expect: stored.revision,
            image,
        })
    }

    fn delete(
        &self,
        stored: &quorate_state_machine::object::StoredRef,
        grace: Option<i64>,
        propagation: &str,
    ) -> Option<Op> {
        let mut object: Value = serde_json::from_slice(&stored.to_json()).unwrap();
        let pod = &*stored.key.resource.resource == "pods";
        let bound = object["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
        let running = !matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let grace = grace.unwrap_or(30);
        let graceful = pod && bound && running && grace > 0;
        let finalizer = match propagation {
            "Foreground" => Some("foregroundDeletion"),
            "Orphan" => Some("orphan"),
            _ => None,
        };
        let names = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let add = finalizer.filter(|name| !names.iter().any(|found| found == name));
        let held = !names.is_empty() || add.is_some() || !empty(&object["spec"]["finalizers"]);
        if !graceful && !held {
            let uid = Some(stored.uid().to_owned());
            return Some(Op::Delete {
                key: stored.key.clone(),
                expect: Some(stored.revision),
                uid,
            });
        }
        if !object["metadata"]["deletionTimestamp"].is_null() {
            return None;
        }
        object["metadata"]["deletionTimestamp"] = json!(format_time(self.clock.now()));
        object["metadata"]["deletionGracePeriodSeconds"] = json!(if graceful { grace } else { 0 });
        if let Some(add) = add {
            let mut names = names;
            names.push(json!(add));
            object["metadata"]["finalizers"] = json!(names);
        }
        let image = image(&object);
        Some(Op::Update { key: stored.key.clone(), expect: stored.revision, image })
    }
}

fn empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

/// Canonical bytes with `metadata` first, and the header.
fn image(object: &Value) -> Image {
    let mut object = object.clone();
    let mut metadata = object.as_object_mut().unwrap().remove("metadata").unwrap();
    metadata.as_object_mut().unwrap().remove("resourceVersion");
    let rest = object.to_string();
    let head = "{\"metadata\":{";
    let bytes = format!("{{\"metadata\":{metadata},{}", &rest[1..]);
    let texts = |list: &Value, field: Option<&str>| -> Vec<String> {
        let text = |item: &Value| {
            field.map_or(item, |field| &item[field]).as_str().unwrap_or("").to_owned()
        };
        list.as_array().into_iter().flatten().map(text).collect()
    };
    let mut labels: Vec<(String, String)> = metadata["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or("").to_owned()))
        .collect();
    labels.sort();
    let deletion = metadata["deletionTimestamp"]
        .as_str()
        .map(|text| text.parse::<Timestamp>().unwrap().as_second());
    Image {
        header: Header {
            uid: metadata["uid"].as_str().unwrap_or("").to_owned(),
            labels,
            owners: texts(&metadata["ownerReferences"], Some("uid")),
            finalizers: texts(&metadata["finalizers"], None),
            deletion,
            claims: Vec::new(),
        },
        bytes: bytes.into(),
        revision_offset: u32::try_from(head.len()).unwrap(),
    }
}

/// A cluster whose controllers run when the test says so.
pub(crate) struct Cluster {
    pub(crate) store: Store,
    pub(crate) admit: Arc<FakeAdmit>,
    pub(crate) clock: Clock,
    pub(crate) hand: ClockHand,
    pub(crate) config: ControllersConfig,
    pub(crate) world: World,
    /// What plans are told of silence and of how long this leader has watched.
    pub(crate) silence: Duration,
    pub(crate) watching_for: Duration,
    /// Events that were said.
    pub(crate) said: Vec<String>,
    failures: std::collections::HashMap<WorkKey, String>,
    time_passed: bool,
    woken: std::collections::BTreeSet<WorkKey>,
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        let store = Store::in_memory();
        let (clock, hand) = Clock::manual(start());
        let admit = Arc::new(FakeAdmit {
            clock: clock.clone(),
            numbers: AtomicU64::new(1),
            refuse: std::sync::Mutex::default(),
            hangs: std::sync::atomic::AtomicBool::default(),
        });
        let mut cluster = Self {
            store,
            admit,
            clock,
            hand,
            config: ControllersConfig::default(),
            world: World::default(),
            silence: Duration::ZERO,
            watching_for: Duration::from_secs(86_400),
            said: Vec::new(),
            failures: std::collections::HashMap::new(),
            time_passed: false,
            woken: std::collections::BTreeSet::new(),
        };
        cluster
            .put(
                Resource("", "namespaces"),
                json!({"apiVersion": "v1", "kind": "Namespace",
                    "metadata": {"name": "default", "uid": "ns-default"},
                    "spec": {"finalizers": ["kubernetes"]}}),
            )
            .await;
        cluster
    }

    pub(crate) fn lead(&self) -> LeaderStore {
        self.store.lead().unwrap()
    }

    /// Time passes: whatever waits for a timer is planned by the next [`Self::settle`].
    pub(crate) fn advance(&mut self, seconds: i64) {
        self.time_passed = true;
        self.hand.advance(SignedDuration::from_secs(seconds));
    }

    /// The name of what was written; `None` when nothing was to be changed or somebody was faster.
    async fn write(&mut self, write: Write) -> Result<Option<String>, Refused> {
        let op = self.admit.admit(&self.store.view(), "test", write).await?;
        let Some(op) = op else {
            return Ok(None);
        };
        let name = op.key().object.name.to_string();
        let outcomes = self.store.write(vec![op]).await.unwrap();
        Ok(outcomes[0].done().map(|_| name))
    }

    /// Creates an object.
    pub(crate) async fn put(&mut self, resource: Resource, object: Value) -> String {
        let resource = resource.group_resource();
        self.write(Write::Create { resource, object }).await.unwrap().expect("nobody was faster")
    }

    /// Changes an object as a client would.
    pub(crate) async fn edit(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
        edit: impl FnOnce(&mut Value),
    ) {
        let stored = self.store.view().get(&resource.key(namespace, name)).unwrap().clone();
        let mut object = serde_json::from_slice(&stored.to_json()).unwrap();
        edit(&mut object);
        self.write(Write::Update { stored, object, subresource: "" }).await.unwrap();
    }

    /// Deletes an object as a client would.
    pub(crate) async fn delete(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
        grace: Option<i64>,
        propagation: &'static str,
    ) {
        let stored = self.store.view().get(&resource.key(namespace, name)).unwrap().clone();
        let delete = Write::Delete { stored, grace_period_seconds: grace, propagation };
        self.write(delete).await.unwrap();
    }

    pub(crate) fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        let view = self.store.view();
        let stored = view.get(&resource.key(namespace, name))?;
        Some(serde_json::from_slice(&stored.to_json()).unwrap())
    }

    /// All objects of a resource, by name.
    pub(crate) fn list(&self, resource: Resource) -> Vec<Value> {
        let view = self.store.view();
        let Some(found) = view.resource(&resource.group_resource()) else {
            return Vec::new();
        };
        found.iter().map(|stored| serde_json::from_slice(&stored.to_json()).unwrap()).collect()
    }

    /// Brings the world up to date; what that wakes is planned by the next [`Self::settle`].
    pub(crate) fn follow(&mut self) {
        let changes = self.world.follow(self.store.view(), self.clock.now(), Instant::now());
        let woken = &mut self.woken;
        wake::wakes(&self.world, &changes, &mut |key| {
            woken.insert(key);
        });
    }

    /// Plans one key in the world as it was followed last.
    pub(crate) fn plan(&self, controller: Controller, key: &Key) -> Plan {
        let work = WorkKey::new(controller, key.clone());
        let ctx = Ctx {
            world: &self.world,
            config: &self.config,
            now: self.clock.now(),
            failure: self.failures.get(&work).map(String::as_str),
            silence: self.silence,
            watching_for: self.watching_for,
        };
        controllers::plan(controller, &ctx, key)
    }

    /// Carries out a plan; the number of writes.
    pub(crate) async fn carry_out(&mut self, work: &WorkKey, plan: Plan) -> usize {
        let mut writes = 0;
        self.failures.remove(work);
        for step in plan.steps {
            match self.write(step.write).await {
                Ok(None) => {}
                Ok(Some(name)) => {
                    writes += 1;
                    let said = step.done.map(|event| event.message.replace("{name}", &name));
                    self.said.extend(said);
                }
                Err(refused) => {
                    let said = |event: quorate_store::EventDraft| {
                        event.message.replace("{error}", &refused.message)
                    };
                    self.said.extend(step.refused.map(said));
                    self.failures.insert(work.clone(), refused.message);
                    return writes;
                }
            }
        }
        writes
    }

    /// Follows, plans one key and carries it out until its plan is empty.
    pub(crate) async fn settle_key(&mut self, controller: Controller, key: &Key) {
        for _ in 0..50 {
            self.follow();
            let plan = self.plan(controller, key);
            if plan.steps.is_empty() {
                return;
            }
            self.carry_out(&WorkKey::new(controller, key.clone()), plan).await;
        }
        panic!("{controller:?} {key} does not settle");
    }

    /// Runs all controllers, by what changes wake, until nothing is to be done. Afterwards no key
    /// at all may have anything to do: else a wake-up is missing.
    pub(crate) async fn settle(&mut self) {
        for _ in 0..400 {
            self.follow();
            let mut woken = std::mem::take(&mut self.woken);
            if std::mem::take(&mut self.time_passed) {
                wake::all(&self.world, &mut |key| {
                    woken.insert(key);
                });
            }
            let mut writes = 0;
            // All plans of one round see the world of its beginning, as batches in flight do.
            for work in woken {
                let plan = self.plan(work.controller, &work.key);
                writes += self.carry_out(&work, plan).await;
            }
            if writes == 0 {
                let missed = self.missed();
                assert!(missed.is_empty(), "nobody woke {missed:?}");
                return;
            }
        }
        panic!("the controllers do not settle");
    }

    /// What scheduler and node agents do: up to `max` pods without a node get one and become ready;
    /// terminating ones go. The number of pods that changed.
    pub(crate) async fn run_pods(&mut self, max: usize) -> usize {
        let mut changed = 0;
        for pod in self.list(crate::resources::PODS) {
            let (namespace, name) =
                (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
            if !pod["metadata"]["deletionTimestamp"].is_null() {
                self.delete(crate::resources::PODS, &namespace, &name, Some(0), "Background").await;
                changed += 1;
            } else if pod["status"]["phase"].is_null() && changed < max {
                changed += 1;
                let now = format_time(self.clock.now());
                let ip = format!("10.42.{}.{}", changed / 250, changed % 250 + 1);
                self.edit(crate::resources::PODS, &namespace, &name, |pod| {
                    if pod["spec"]["nodeName"].is_null() {
                        let node = crate::node_selector::target(&pod["spec"]).unwrap_or("n1");
                        pod["spec"]["nodeName"] = json!(node);
                    }
                    pod["status"] = json!({
                        "phase": "Running",
                        "podIP": ip,
                        "podIPs": [{ "ip": ip }],
                        "conditions": [
                            { "type": "Ready", "status": "True", "lastTransitionTime": now },
                        ],
                    });
                })
                .await;
            }
        }
        changed
    }

    /// A node that reports to be ready.
    pub(crate) async fn put_node(&mut self, name: &str, labels: Value) {
        self.put(
            crate::resources::NODES,
            json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": { "name": name, "labels": labels },
                "spec": {},
                "status": { "conditions": [{
                    "type": "Ready", "status": "True",
                    "lastHeartbeatTime": format_time(self.clock.now()),
                    "lastTransitionTime": format_time(self.clock.now()),
                }] },
            }),
        )
        .await;
    }

    fn missed(&self) -> Vec<WorkKey> {
        let mut all = std::collections::BTreeSet::new();
        wake::all(&self.world, &mut |key| {
            all.insert(key);
        });
        all.retain(|work| {
            !self.failures.contains_key(work)
                && !self.plan(work.controller, &work.key).steps.is_empty()
        });
        all.into_iter().collect()
    }
}

/// A text field.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

/// A Deployment of busybox.
pub(crate) fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "strategy": { "type": "RollingUpdate",
                "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" } },
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": image,
                    "ports": [{ "name": "http", "containerPort": 8080 }] }] },
            },
        },
    })
}
