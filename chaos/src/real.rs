//! The real world: processes of the real binary, faults, clients, and a verdict.

pub mod client;
pub mod follower;
pub mod masters;
pub mod nemesis;
pub mod network;
pub mod workload;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::check::watch::Revision;
use crate::limits::{CAUGHT_UP_MAX, FINISHED_MAX, HEALED_MAX};
use crate::report::{Evidence, Report};
use crate::scenario::Scenario;
use crate::scenario::fault::Need;
use client::Connection;
use follower::Seen;
use masters::Masters;
use nemesis::{Done, Nemesis};
use network::Network;
use workload::{OBJECTS, Shared, lock};

/// Between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(25);

/// What a run is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program whose processes are the masters.
    pub binary: PathBuf,
    /// Everything of the run: data, logs, report. Made; must not exist.
    pub directory: PathBuf,
    /// Faults, clients, and what is expected.
    pub scenario: Scenario,
    /// Chooses what clients do, and whom faults meet that may meet several.
    pub seed: u64,
    /// What a person is told on the way.
    pub say: fn(&str),
}

/// Runs masters, clients and faults, and checks what happened.
///
/// # Errors
/// When the run could not be carried out: masters that do not start, faults that cannot be
/// injected. What the checks find is in the report.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let say = options.say;
    std::fs::create_dir(&options.directory)
        .with_context(|| format!("cannot make {}", options.directory.display()))?;
    let scenario = &options.scenario;
    let file = options.directory.join("scenario.yaml");
    std::fs::write(&file, scenario.to_yaml()?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    let lacks = lacks();
    let network = match Network::possible() {
        Ok(()) => Some(Network::make(scenario.masters)?),
        Err(_) => None,
    };
    let began = Instant::now();
    let mut masters =
        Masters::start(&options.binary, &options.directory, scenario.masters, network).await?;
    say(&format!("{} masters after {:.1} s", scenario.masters, began.elapsed().as_secs_f64()));

    let apis = (0..masters.count()).map(|master| masters.api(master)).collect();
    let shared = Arc::new(Shared::new(apis, masters.tls().clone(), scenario.workload.keys));
    let from = revision(&shared, 0).await?;
    let (mut clients, mut following, mut followers) = (JoinSet::new(), JoinSet::new(), Vec::new());
    for client in 0..scenario.workload.clients {
        let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(client as u64);
        clients.spawn(workload::client(shared.clone(), seed, client % masters.count()));
    }
    for master in 0..masters.count() {
        let seen = Arc::new(Seen::default());
        {
            let mut watcher = lock(&seen.watcher);
            watcher.name = format!("watcher of {}", masters.name(master));
            watcher.from = from;
        }
        following.spawn(follower::follow(shared.clone(), seen.clone(), master));
        followers.push(seen);
    }

    let mut nemesis = Nemesis::new(scenario, options.seed, &lacks);
    nemesis.run(&mut masters, (&|| shared.tick(), say)).await?;
    let Done { injected, skipped, health } = nemesis.done;
    let healed = heal(&masters, &shared).await?;
    let marker = revision(&shared, 0).await?;
    catch_up(&shared, &followers, marker).await;
    shared.stop.store(true, Ordering::Relaxed);
    finish(&mut clients).await?;
    following.shutdown().await;
    let last = last_lists(&shared).await?;
    let cuts = masters.network().map_or(Ok(0), Network::cuts)?;
    if cuts > 0 {
        bail!("{cuts} links are still cut after the end of all faults");
    }
    let evidence = Evidence {
        options: options.clone(),
        injected,
        skipped,
        health,
        healed,
        history: std::mem::take(&mut *lock(&shared.history)),
        acknowledged: std::mem::take(&mut *lock(&shared.acknowledged)),
        watchers: followers.iter().map(|seen| lock(&seen.watcher).clone()).collect(),
        refused: followers.iter().flat_map(|seen| lock(&seen.refused).clone()).collect(),
        marker,
        last,
    };
    Ok(Report::of(&evidence))
}

/// What this host cannot do, and why.
#[must_use]
pub fn lacks() -> Vec<(Need, String)> {
    let mut lacks = Vec::new();
    if let Err(why) = Network::possible() {
        lacks.push((Need::Links, why));
    }
    for need in [Need::Proxies, Need::Disks, Need::Processor] {
        lacks.push((need, "this harness cannot do that yet".to_owned()));
    }
    lacks
}

/// How long it took, after the last fault, until every master answered a write and a read.
async fn heal(masters: &Masters, shared: &Shared) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    for master in 0..masters.count() {
        loop {
            match touch(shared, master).await {
                Ok(()) => break,
                Err(error) if begin.elapsed() > HEALED_MAX => {
                    bail!("{} does not serve after the faults: {error:#}", masters.name(master))
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
    Ok(begin.elapsed())
}

/// A write and a read of its own.
async fn touch(shared: &Shared, master: usize) -> anyhow::Result<()> {
    let name = format!("touched-{master}");
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let mut connection = Connection::open(shared.apis[master], &shared.tls).await?;
    let elsewhere = OBJECTS.replace("default", "kube-public");
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
    let list = list(shared, master, OBJECTS).await?;
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
async fn last_lists(shared: &Shared) -> anyhow::Result<Vec<Value>> {
    let at = revision(shared, 0).await?;
    let path = format!("{OBJECTS}?resourceVersion={at}&resourceVersionMatch=Exact");
    let mut lists = Vec::new();
    for master in 0..shared.apis.len() {
        lists.push(list(shared, master, &path).await?);
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
