//! The real world: processes of the real binary, faults, clients, and a verdict.

pub mod blocked;
pub mod certificates;
pub mod client;
pub(crate) mod cluster;
pub mod course;
pub mod damage;
pub mod disk;
pub mod existing;
pub mod filler;
pub mod flood;
pub mod follower;
pub mod held;
pub mod kube;
pub mod kubeconfig;
pub mod last_writes;
pub mod left;
pub mod links;
pub mod masters;
pub(crate) mod members;
pub mod memory;
pub mod nemesis;
pub mod network;
pub mod observer;
pub mod points;
pub mod power;
pub mod processor;
pub mod proxy;
pub mod rotation;
pub mod shim;
pub mod workload;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::check::disaster::Disaster;
use crate::check::membership::{self, Membership};
use crate::check::watch::Revision;
use crate::limits::{CAUGHT_UP_MAX, FINISHED_MAX, HEALED_MAX, STOPPED_MAX, UNIFORM_MAX};
use crate::report::{Evidence, Process};
use crate::scenario::Scenario;
use crate::scenario::fault::Need;
use client::Connection;
use cluster::Cluster;
use course::{Course, Trouble};
use disk::Disks;
use follower::Seen;
use kube::agents::Remains;
use masters::{Broke, Masters};
use memory::Memories;
use network::Network;
use observer::{Observed, Observer};
use points::Points;
use shim::Shims;
use workload::{Resource, Shared, lock};

/// Between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(25);

/// Where the clients' objects are, in a cluster that is of this run alone.
const NAMESPACE: &str = "default";

/// The scenario's name in a run's directory.
pub const SCENARIO: &str = "scenario.yaml";

/// What a run is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program whose processes are the masters.
    pub binary: PathBuf,
    /// An older one, for some of them or for a time.
    pub older: Option<PathBuf>,
    /// Everything of the run: data, logs, report. Made; must not exist.
    pub directory: PathBuf,
    /// Faults, clients, and what is expected.
    pub scenario: Scenario,
    /// Chooses what clients do, and whom faults meet that may meet several.
    pub seed: u64,
    /// The masters' names, where they are not `m1`, `m2` and so on.
    pub names: Vec<String>,
    /// Whether faults may leave no majority.
    pub beyond_quorum: bool,
    /// The command that does the same again.
    pub command: String,
    /// What a person is told on the way.
    pub say: fn(&str),
    /// Writes the last line anew, on a terminal; an empty text takes it away.
    pub rewrite: Option<fn(&str)>,
}

impl Options {
    /// What a master is called.
    #[must_use]
    pub fn name(&self, master: usize) -> String {
        let own = || format!("m{}", master + 1);
        self.names.get(master).cloned().unwrap_or_else(own)
    }

    /// One line for a person, above the one that is rewritten.
    pub(crate) fn tell(&self, text: &str) {
        if let Some(rewrite) = self.rewrite {
            rewrite("");
        }
        (self.say)(text);
    }
}

/// Runs masters, clients and faults; what it leaves is for [`Report::of`](crate::report::Report::of) to check.
///
/// Once the masters are ready, whatever happens is part of the evidence: `stop` ends the faults early and takes them
/// back, and so does a master that breaks.
///
/// Masters that do not become ready, or are stopped before they are, are evidence too: of nothing, or of what made
/// them end.
///
/// # Errors
/// When the directory or the network cannot be made, or the first master does not answer.
pub async fn run(options: &Options, stop: &CancellationToken) -> anyhow::Result<Evidence> {
    let scenario = &options.scenario;
    lay_out(options)?;
    // Goes after the masters, and the agents among them.
    let remains = Remains::of(&options.directory, scenario.workload.nodes);
    let mut masters = match start(options, stop).await? {
        Ok(masters) => masters,
        Err(nothing) => return Ok(*nothing),
    };
    let kube = match agents(options, &mut masters, stop).await {
        Ok(kube) => kube,
        Err(error) => return Ok(nothing(options, &error)),
    };

    let apis = (0..masters.count()).map(|master| masters.api(master)).collect();
    let users = (apis, masters.tls().clone());
    let shared = Arc::new(Shared::new(users, NAMESPACE, scenario.workload.keys));
    masters.tell_watchers(shared.sleep.clone());
    let evidence = play(options, &mut masters, &shared, (kube, stop)).await;
    drop(masters);
    let groups = remains.groups();
    drop(remains);
    let left = left::look(&options.directory, &groups).await;
    Ok(Evidence { left: Some(left), ..evidence? })
}

/// Clients and faults on masters that are ready; what is left is not looked at.
///
/// # Errors
/// When the first master does not answer.
async fn play<C: Cluster>(
    options: &Options,
    masters: &mut C,
    shared: &Arc<Shared>,
    (kube, stop): (Option<Kubernetes>, &CancellationToken),
) -> anyhow::Result<Evidence> {
    let scenario = &options.scenario;
    let began = Timestamp::now();
    let from = revision(shared, 0).await?;
    let mut crowd = Crowd::start(options, shared, from);
    if let Some(Ok(kube)) = &kube {
        crowd.use_kubernetes(options, shared, kube);
    }

    let mut course = Box::pin(course::inject(options, masters, shared, stop)).await;
    let settled = settle(masters, shared, &crowd.followers, &mut course, stop);
    let settled = Box::pin(settled).await;
    let observed = crowd.end(shared, &mut course).await;
    let ending = Ending::of(masters, shared, scenario, settled.is_some(), &mut course).await;
    let kube = rest(options, shared, kube, stop).await;
    let ended = shared.tick();
    let disaster = match settled.is_some() {
        true => end_in_disaster(options, masters, shared, (&mut course, stop)).await,
        false => None,
    };
    nothing_left(masters, &mut course).await;
    let processes = masters.acts().into_iter().map(|(at, master, act)| Process {
        at: u64::try_from(at.saturating_duration_since(shared.start).as_nanos()).unwrap_or(0),
        master,
        act,
    });
    let followers = &crowd.followers;
    Ok(Evidence {
        options: options.clone(),
        began,
        ended,
        lasted: course.lasted,
        stopped: course.stopped,
        troubles: course.troubles,
        injected: course.done.injected,
        skipped: course.done.skipped,
        health: course.done.health,
        healed: settled.as_ref().map(|settled| settled.healed),
        history: std::mem::take(&mut *lock(&shared.history)),
        acknowledged: std::mem::take(&mut *lock(&shared.acknowledged)),
        arrivals: followers.iter().map(|seen| std::mem::take(&mut *lock(&seen.at))).collect(),
        watchers: followers.iter().map(|seen| lock(&seen.watcher).clone()).collect(),
        resources: followers.iter().map(|seen| seen.resource).collect(),
        contents: std::mem::take(&mut *lock(&shared.contents)).into_iter().collect(),
        memberships: ending.memberships,
        disaster,
        kube,
        left: None,
        refused: followers.iter().flat_map(|seen| lock(&seen.refused).clone()).collect(),
        marker: settled.map(|settled| settled.marker),
        last: ending.last,
        processes: processes.collect(),
        observed,
    })
}

/// Makes the run's directory, with the scenario.
fn lay_out(options: &Options) -> anyhow::Result<()> {
    std::fs::create_dir(&options.directory).with_context(|| {
        let directory = options.directory.display();
        format!("cannot make {directory}: name another one with --directory, or remove it")
    })?;
    let file = options.directory.join(SCENARIO);
    std::fs::write(&file, options.scenario.to_yaml()?)
        .with_context(|| format!("cannot write {}", file.display()))
}

/// What is to be told of a run whose node agents did not become ready, or that was stopped before.
fn nothing(options: &Options, error: &anyhow::Error) -> Evidence {
    options.tell(&format!("the nodes did not become ready: {error:#}"));
    Evidence::of_nothing(options, Some(Trouble::of(error)))
}

/// What those who use node agents share, or why this host cannot have any.
type Kubernetes = Result<Arc<kube::Shared>, String>;

/// Starts node agents, where the scenario asks for them.
async fn agents(
    options: &Options,
    masters: &mut Masters,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Kubernetes>> {
    let nodes = options.scenario.workload.nodes;
    if nodes == 0 {
        return Ok(None);
    }
    if let Err(lacks) = kube::agents::possible() {
        options.tell(&format!("{lacks}; leaving Deployments out"));
        return Ok(Some(Err(lacks)));
    }
    let begin = Instant::now();
    let starting = async {
        kube::agents::start(masters, &options.directory, nodes).await?;
        masters.nodes_ready().await
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => bail!("stopped before the nodes were ready: nothing was checked"),
        started = Box::pin(starting) => started?,
    }
    options.tell(&format!("{nodes} nodes after {:.1} s", begin.elapsed().as_secs_f64()));
    let directory = std::path::absolute(&options.directory);
    let directory = directory.unwrap_or_else(|_| options.directory.clone());
    let pods = kube::Pods::Own { directory: directory.display().to_string() };
    Ok(Some(Ok(Arc::new(kube::Shared::new(pods, None)))))
}

/// Waits until all that Kubernetes is to do is done; what there is then.
async fn rest(
    options: &Options,
    shared: &Shared,
    kube: Option<Kubernetes>,
    stop: &CancellationToken,
) -> Option<kube::Evidence> {
    match kube? {
        Err(lacks) => Some(kube::Evidence { lacks: Some(lacks), ..kube::Evidence::default() }),
        Ok(kube) => {
            let of = (options.directory.as_path(), options.scenario.workload.nodes);
            Some(kube::ending::wait(shared, &kube, of, stop).await)
        }
    }
}

/// What ends the run, where the scenario has such a thing, and what came of it.
async fn end_in_disaster<C: Cluster>(
    options: &Options,
    masters: &mut C,
    shared: &Shared,
    (course, stop): (&mut Course, &CancellationToken),
) -> Option<Disaster> {
    let mut steps = options.scenario.schedule.iter().map(|step| step.fault);
    let fault = steps.find(|fault| fault.ends_run()).filter(|_| course.is_whole())?;
    options.tell(&format!("now the end: {fault}"));
    let ended = tokio::select! {
        biased;
        ended = Box::pin(masters.end_in_disaster(shared, fault, options.seed)) => ended,
        () = stop.cancelled() => {
            course.stopped = true;
            return None;
        }
    };
    match ended {
        Ok(disaster) => {
            let injected = &mut course.done.injected;
            if let Some(disaster) = &disaster
                && let Some(injected) = injected.iter_mut().find(|one| one.fault == fault)
            {
                let shown = Some(injected.shown.as_str()).filter(|shown| !shown.is_empty());
                let all = shown.into_iter().chain(disaster.told.iter().map(String::as_str));
                injected.shown = all.collect::<Vec<_>>().join("; ");
            }
            disaster
        }
        Err(error) => {
            course.trouble(&error);
            None
        }
    }
}

/// What the masters say when all is over; nothing when the run did not come so far.
#[derive(Default)]
struct Ending {
    last: Vec<Value>,
    memberships: Vec<Membership>,
}

impl Ending {
    async fn of<C: Cluster>(
        masters: &C,
        shared: &Shared,
        scenario: &Scenario,
        settled: bool,
        course: &mut Course,
    ) -> Self {
        if !settled {
            return Self::default();
        }
        let last = last_lists(shared, &resources(scenario)).await.unwrap_or_else(|error| {
            course.trouble(&error.context("the last lists"));
            Vec::new()
        });
        Self { last, memberships: uniform(masters, shared).await }
    }
}

/// Masters that are ready; or what is to be told when they are not.
async fn start(
    options: &Options,
    stop: &CancellationToken,
) -> anyhow::Result<Result<Masters, Box<Evidence>>> {
    let scenario = &options.scenario;
    let network = match Network::possible() {
        Ok(()) => Some(Network::make(scenario.masters + scenario.workload.nodes)?),
        Err(_) => None,
    };
    let (began, place) = (Instant::now(), (network, options.seed));
    let starting = Masters::start(options, place);
    let trouble = tokio::select! {
        biased;
        () = stop.cancelled() => {
            options.tell("stopped before the masters were ready: nothing was checked");
            None
        }
        masters = Box::pin(starting) => match masters {
            Ok(masters) => {
                let took = began.elapsed().as_secs_f64();
                let count = scenario.masters - scenario.absent().len();
                options.tell(&format!("{count} masters after {took:.1} s"));
                return Ok(Ok(masters));
            }
            Err(error) => {
                options.tell(&format!("the masters did not become ready: {error:#}"));
                Some(Trouble::of(&error))
            }
        }
    };
    let left = Some(left::look(&options.directory, &[]).await);
    Ok(Err(Box::new(Evidence { left, ..Evidence::of_nothing(options, trouble) })))
}

/// All who use and watch the masters. They end with this value.
struct Crowd {
    clients: JoinSet<()>,
    following: JoinSet<()>,
    followers: Vec<Arc<Seen>>,
    observer: Observer,
}

impl Crowd {
    fn start(options: &Options, shared: &Arc<Shared>, from: Revision) -> Self {
        let (mut clients, mut following) = (JoinSet::new(), JoinSet::new());
        let mut followers = Vec::new();
        let workload = &options.scenario.workload;
        let masters = shared.apis.len();
        for client in 0..workload.clients {
            let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(client as u64);
            let family = workload.kinds[client % workload.kinds.len()];
            let home = client / workload.kinds.len() % masters;
            clients.spawn(workload::client(shared.clone(), family, seed, home));
        }
        for resource in resources(&options.scenario) {
            for master in 0..masters {
                let seen = Arc::new(Seen { resource, ..Seen::default() });
                {
                    let of = match resource {
                        Resource::ConfigMaps => "",
                        Resource::Leases => "leases at ",
                    };
                    let mut watcher = lock(&seen.watcher);
                    watcher.name = format!("watcher of {of}{}", options.name(master));
                    watcher.from = from;
                }
                following.spawn(follower::follow(shared.clone(), seen.clone(), master));
                followers.push(seen);
            }
        }
        Self { clients, following, followers, observer: Observer::start(shared) }
    }

    /// A user of Deployments, and a witness of pods at each master.
    fn use_kubernetes(
        &mut self,
        options: &Options,
        shared: &Arc<Shared>,
        kube: &Arc<kube::Shared>,
    ) {
        self.clients.spawn(kube::user::work(shared.clone(), kube.clone(), !options.seed));
        for master in 0..options.scenario.masters {
            self.following.spawn(kube::witness::follow(shared.clone(), kube.clone(), master));
        }
    }

    async fn end(&mut self, shared: &Shared, course: &mut Course) -> Observed {
        shared.stop.store(true, Ordering::Relaxed);
        if let Err(error) = finish(&mut self.clients).await {
            self.clients.shutdown().await;
            course.trouble(&error);
        }
        self.following.shutdown().await;
        self.observer.observed()
    }
}

/// How all masters see the cluster, as soon as they see the same; after [`UNIFORM_MAX`] as they see it.
async fn uniform<C: Cluster>(masters: &C, shared: &Shared) -> Vec<Membership> {
    let begin = Instant::now();
    loop {
        let mut all = Vec::new();
        for master in 0..shared.apis.len() {
            let status = masters.status(master).await;
            all.extend(status.ok().as_ref().and_then(Membership::of));
        }
        let names: Vec<&str> = (0..masters.count()).map(|master| masters.name(master)).collect();
        let is_right = all.len() == names.len() && membership::wrong(&all, &names).is_empty();
        if is_right || begin.elapsed() > UNIFORM_MAX {
            return all;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether nothing is wrong any more that the run did, and no master ended by itself.
async fn nothing_left<C: Cluster>(masters: &mut C, course: &mut Course) {
    if let Err(error) = masters.nothing_left().await {
        course.trouble(&error);
    }
    match masters.ended() {
        Ok(ended) => ended.into_iter().for_each(|what| course.trouble(&Broke::new(what).into())),
        Err(error) => course.trouble(&error),
    }
}

/// What clients write.
fn resources(scenario: &Scenario) -> BTreeSet<Resource> {
    scenario.workload.kinds.iter().map(|family| Resource::of(*family)).collect()
}

/// What cannot be done on this host to masters of this program, with this older one, and why.
#[must_use]
pub fn lacks(binary: &Path, older: Option<&Path>) -> Vec<(Need, String)> {
    let mut lacks = Vec::new();
    // Links can always be cut and broken, at least in proxies, and a processor taken away, at least by signals.
    if let Err(why) = Disks::possible() {
        lacks.push((Need::Disks, why));
    }
    if let Err(why) = Shims::possible(binary) {
        lacks.push((Need::Shim, why));
    }
    if let Err(why) = Points::possible(binary) {
        lacks.push((Need::Points, why));
    }
    if let Err(why) = Memories::possible() {
        lacks.push((Need::Memory, why));
    }
    if older.is_none() {
        lacks.push((Need::Older, "no older program was given with --older-binary".into()));
    }
    lacks
}

/// How it was after the faults.
struct Settled {
    healed: Duration,
    marker: Revision,
}

/// After the faults: every master serves again, and every watcher has come as far as the store. `None` when that did
/// not come about; the troubles tell why.
async fn settle<C: Cluster>(
    masters: &C,
    shared: &Shared,
    followers: &[Arc<Seen>],
    course: &mut Course,
    stop: &CancellationToken,
) -> Option<Settled> {
    let settling = async {
        let patience = if course.is_whole() { HEALED_MAX } else { STOPPED_MAX };
        let healed = heal(masters, shared, patience).await?;
        let marker = revision(shared, 0).await?;
        catch_up(shared, followers, marker).await;
        anyhow::Ok(Settled { healed, marker })
    };
    let settled = if course.stopped {
        settling.await
    } else {
        tokio::select! {
            biased;
            settled = settling => settled,
            () = stop.cancelled() => {
                course.stopped = true;
                return None;
            }
        }
    };
    match settled {
        Ok(settled) => Some(settled),
        // Less time than is promised: nobody is to blame.
        Err(error) if !course.is_whole() => {
            course.troubles.push(Trouble { what: format!("{error:#}"), broke: false });
            None
        }
        Err(error) => {
            course.trouble(&error);
            None
        }
    }
}

/// How long it took, after the last fault, until every master answered a write and a read.
async fn heal<C: Cluster>(
    masters: &C,
    shared: &Shared,
    patience: Duration,
) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    for master in 0..masters.count() {
        loop {
            match touch(shared, master).await {
                Ok(()) => break,
                Err(error) if begin.elapsed() > patience => {
                    let name = masters.name(master);
                    let what =
                        format!("{name} does not serve {patience:?} after the faults: {error:#}");
                    bail!(Broke::new(what))
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
    Ok(begin.elapsed())
}

/// A write and a read of its own, of what nobody watches.
async fn touch(shared: &Shared, master: usize) -> anyhow::Result<()> {
    let name = format!("touched-{master}");
    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    let mut connection = Connection::open(shared.apis[master], &shared.tls).await?;
    let elsewhere = format!("/api/v1/namespaces/{}/secrets", shared.namespace);
    let made = connection.call(Method::POST, &elsewhere, Some(&body)).await;
    match made {
        Ok(answer) if matches!(answer.code, 201 | 409) => {}
        other => bail!("{other:?}"),
    }
    match connection.call(Method::GET, &format!("{elsewhere}/{name}"), None).await {
        Ok(answer) if answer.code == 200 => Ok(()),
        other => bail!("{other:?}"),
    }
}

/// The newest revision, by a consistent list.
async fn revision(shared: &Shared, master: usize) -> anyhow::Result<Revision> {
    let list = list(shared, master, &shared.path(Resource::ConfigMaps)).await?;
    let version = list["metadata"]["resourceVersion"].as_str();
    version.and_then(|text| text.parse().ok()).context("a list without a resourceVersion")
}

async fn list(shared: &Shared, master: usize, path: &str) -> anyhow::Result<Value> {
    let mut connection = Connection::open(shared.apis[master], &shared.tls).await?;
    match connection.call(Method::GET, path, None).await {
        Ok(answer) if answer.code == 200 => Ok(answer.body),
        other => bail!("list: {other:?}"),
    }
}

/// Every client ends the operation that it is at: none is broken off, and their outcomes are known.
async fn finish(clients: &mut JoinSet<()>) -> anyhow::Result<()> {
    let finish = async { while clients.join_next().await.is_some() {} };
    timeout(FINISHED_MAX, finish).await.context("clients do not come to an end")
}

/// What each master lists at the end, all at one revision: writes whose outcome nobody knows may
/// still be carried out.
async fn last_lists(shared: &Shared, resources: &BTreeSet<Resource>) -> anyhow::Result<Vec<Value>> {
    let at = revision(shared, 0).await?;
    let mut lists = Vec::new();
    for master in 0..shared.apis.len() {
        let mut items = Vec::new();
        for resource in resources {
            let path = shared.path(*resource);
            let path = format!("{path}?resourceVersion={at}&resourceVersionMatch=Exact");
            match list(shared, master, &path).await?.get_mut("items").map(Value::take) {
                Some(Value::Array(own)) => items.extend(own),
                _ => bail!("a list without items"),
            }
        }
        lists.push(json!({"metadata": {"resourceVersion": at.to_string()}, "items": items}));
    }
    Ok(lists)
}

/// Waits until every follower has seen the marker, or long enough: the check tells who has not.
async fn catch_up(shared: &Shared, followers: &[Arc<Seen>], marker: Revision) {
    let begin = Instant::now();
    let behind = || followers.iter().any(|seen| seen.last() < marker);
    // The clients go on meanwhile: what they write carries the followers past the marker.
    while behind() && begin.elapsed() < CAUGHT_UP_MAX && !shared.stop.load(Ordering::Relaxed) {
        tokio::time::sleep(POLL).await;
    }
}
