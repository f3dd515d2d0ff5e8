//! A client that watches the workload's objects of one kind, and goes on at another master where the last one
//! stopped. When it is told that history is gone, it lists what is there and goes on from that, as informers do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hyper::Method;
use serde_json::Value;
use std::sync::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::client::{Connection, events};
use super::workload::{Resource, Shared, content, lock, told};
use crate::check::watch::{Change, Gone, Kind, Relist, Revision, Sent, Watcher};
use crate::history::Tick;
use crate::limits::{CONNECT_MAX, FORGOTTEN_MAX};

/// Before the next master is tried.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The history of ConfigMaps in what a master says of itself.
pub const HISTORY: &str = "configmaps";

/// The same of Leases.
const HISTORY_OF_LEASES: &str = "leases.coordination.k8s.io";

/// What masters put beside the clients' ConfigMaps.
const ROOT_CA: &str = "kube-root-ca.crt";

/// Which watchers are to stop for a time, by the master that they are at home at, and how they did.
#[derive(Debug, Default)]
pub struct Sleep {
    wanted: watch::Sender<BTreeSet<usize>>,
    sleepers: Mutex<BTreeMap<usize, Sleeper>>,
}

/// A watcher of ConfigMaps that sleeps, or slept last.
#[derive(Debug, Default)]
struct Sleeper {
    last: Revision,
    /// It sleeps.
    sleeps: bool,
    /// From where it began anew afterwards.
    began: Option<Revision>,
}

impl Sleep {
    /// Those at home at these sleep from now on, and all others are awake.
    pub fn set(&self, homes: &BTreeSet<usize>) {
        self.wanted.send_if_modified(|now| {
            let changed = now != homes;
            now.clone_from(homes);
            changed
        });
    }

    /// How far the watcher of ConfigMaps at home there had come; `None` when it does not sleep.
    #[must_use]
    pub fn last(&self, home: usize) -> Option<Revision> {
        let sleepers = lock(&self.sleepers);
        sleepers.get(&home).filter(|sleeper| sleeper.sleeps).map(|sleeper| sleeper.last)
    }

    /// What became of it after it slept, when it was told that history is gone and has begun anew.
    #[must_use]
    pub fn began_anew(&self, home: usize) -> Option<String> {
        let sleepers = lock(&self.sleepers);
        let sleeper = sleepers.get(&home).filter(|sleeper| !sleeper.sleeps)?;
        let began = sleeper.began?;
        Some(format!("its watcher was told so, and began anew from a list at {began}"))
    }

    async fn until(&self, home: usize, asleep: bool) {
        let mut wanted = self.wanted.subscribe();
        // The sender is this value: it cannot be gone.
        drop(wanted.wait_for(|now| now.contains(&home) == asleep).await);
    }

    /// Sleeps as long as that is wanted.
    async fn sleep(&self, home: usize, seen: &Seen) {
        if !self.wanted.borrow().contains(&home) {
            return;
        }
        let of_maps = seen.resource == Resource::ConfigMaps;
        if of_maps {
            let sleeper = Sleeper { last: seen.last(), sleeps: true, began: None };
            lock(&self.sleepers).insert(home, sleeper);
        }
        self.until(home, false).await;
        if of_maps && let Some(sleeper) = lock(&self.sleepers).get_mut(&home) {
            sleeper.sleeps = false;
        }
    }

    fn begins_anew(&self, home: usize, seen: &Seen, at: Revision) {
        if seen.resource == Resource::ConfigMaps
            && let Some(sleeper) = lock(&self.sleepers).get_mut(&home)
        {
            sleeper.began = Some(at);
        }
    }
}

/// What a follower has seen, for whoever waits for it.
#[derive(Debug, Default)]
pub struct Seen {
    /// What it watches.
    pub resource: Resource,
    /// All of it.
    pub watcher: Mutex<Watcher>,
    /// Answers that no watch must get: errors in the stream, but of history that is gone.
    pub refused: Mutex<Vec<String>>,
    /// When each of what the watcher was sent arrived.
    pub at: Mutex<Vec<Tick>>,
}

impl Seen {
    fn add(&self, at: Tick, sent: Sent) {
        lock(&self.watcher).sent.push(sent);
        lock(&self.at).push(at);
    }

    /// The last revision that was sent, or listed since.
    #[must_use]
    pub fn last(&self) -> Revision {
        lock(&self.watcher).last()
    }
}

/// How a watch ended.
enum End {
    /// Somewhere else it goes on.
    Broken,
    /// What it lacks is forgotten.
    Gone,
}

/// Follows until it is told to stop, beginning at `from`, first at `home`.
pub async fn follow(shared: Arc<Shared>, seen: Arc<Seen>, home: usize) {
    let mut master = home;
    while !shared.stop.load(Ordering::Relaxed) {
        shared.sleep.sleep(home, &seen).await;
        let end = tokio::select! {
            end = watch(&shared, &seen, master) => end,
            () = shared.sleep.until(home, true) => {
                // It wakes up where it is at home.
                master = home;
                continue;
            }
        };
        match end {
            Ok(End::Gone) => match begin_anew(&shared, &seen, master).await {
                Ok(at) => {
                    shared.sleep.begins_anew(home, &seen, at);
                    continue;
                }
                Err(error) => tracing::debug!(master, %error, "no list to begin anew from"),
            },
            Ok(End::Broken) => {}
            Err(error) => tracing::debug!(master, %error, "watch ended"),
        }
        master = (master + 1) % shared.apis.len();
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn watch(shared: &Shared, seen: &Seen, master: usize) -> anyhow::Result<End> {
    let mut connection = Connection::open(shared.apis[master], &shared.tls).await?;
    let from = seen.last();
    let objects = shared.path(seen.resource);
    let path = format!("{objects}?watch=true&allowWatchBookmarks=true&resourceVersion={from}");
    let response = timeout(CONNECT_MAX, connection.send(Method::GET, &path, None)).await??;
    let code = response.status().as_u16();
    if code == 410 {
        return Ok(End::Gone);
    }
    if code != 200 {
        bail!("{code}");
    }
    let mut is_gone = false;
    let ended = events(response, &shared.stop, |event| {
        is_gone = event["type"] == "ERROR" && event["object"]["code"] == 410;
        if is_gone {
            bail!("history is gone");
        }
        take(shared, seen, event)
    })
    .await;
    if is_gone {
        return Ok(End::Gone);
    }
    ended.map(|()| End::Broken)
}

/// Lists what is there, and goes on from that. First it is noted that history was said to be gone, and what the master
/// shows of that.
async fn begin_anew(shared: &Shared, seen: &Seen, master: usize) -> anyhow::Result<Revision> {
    let (at, asked) = (shared.tick(), seen.last());
    let forgotten = forgotten(shared, seen.resource, master, asked).await;
    let path = shared.path(seen.resource);
    let mut connection = Connection::open(shared.apis[master], &shared.tls).await?;
    let answer = match connection.call(Method::GET, &path, None).await {
        Ok(answer) if answer.code == 200 => answer.body,
        other => bail!("{other:?}"),
    };
    let version = answer["metadata"]["resourceVersion"].as_str();
    let revision =
        version.and_then(|text| text.parse().ok()).context("a list without resourceVersion")?;
    let objects = answer["items"].as_array().context("a list without items")?;
    let object = |item: &Value| {
        let name = item["metadata"]["name"].as_str()?.to_owned();
        Some((name, told(item)?.0))
    };
    let objects = objects.iter().filter_map(object).collect();
    let mut watcher = lock(&seen.watcher);
    let after = watcher.sent.len();
    watcher.gone.push(Gone { at, asked, forgotten });
    watcher.relists.push(Relist { after, revision, objects });
    Ok(revision)
}

/// Up to where a master, or another one, says that it has forgotten; further than what was asked for, when somebody
/// says so in time.
async fn forgotten(
    shared: &Shared,
    resource: Resource,
    master: usize,
    asked: Revision,
) -> Option<Revision> {
    let (begin, mut found) = (Instant::now(), None);
    let field = match resource {
        Resource::ConfigMaps => HISTORY,
        Resource::Leases => HISTORY_OF_LEASES,
    };
    let count = shared.apis.len();
    // It may have been started again since, and not have come so far again.
    for next in (master..master + count).cycle() {
        let api = shared.apis[next % count];
        if let Ok(mut connection) = Connection::open(api, &shared.tls).await
            && let Ok(answer) = connection.call(Method::GET, "/quorate/v1/status", None).await
            && let Some(history) = answer.body["history"].as_object()
        {
            let revision = history.get(field).and_then(Value::as_u64).unwrap_or(0);
            found = found.max(Some(revision));
        }
        if found > Some(asked) || begin.elapsed() > FORGOTTEN_MAX {
            return found;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    found
}

fn take(shared: &Shared, seen: &Seen, event: &Value) -> anyhow::Result<()> {
    let (at, object) = (shared.tick(), &event["object"]);
    let kind = match event["type"].as_str() {
        Some("ADDED") => Kind::Added,
        Some("MODIFIED") => Kind::Modified,
        Some("DELETED") => Kind::Deleted,
        Some("BOOKMARK") => {
            let version = object["metadata"]["resourceVersion"].as_str();
            let revision = version.and_then(|text| text.parse().ok()).context("bad bookmark")?;
            seen.add(at, Sent::Bookmark(revision));
            return Ok(());
        }
        _ => {
            lock(&seen.refused).push(event.to_string());
            bail!("error event");
        }
    };
    let (revision, digest) = told(object).context("an event without a resourceVersion")?;
    let key = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if key == ROOT_CA {
        // It was there before the watcher, and masters change it with the authorities. What it tells is how far the
        // stream is.
        seen.add(at, Sent::Bookmark(revision));
        return Ok(());
    }
    if let Some((_, content)) = content(object) {
        lock(&shared.contents).insert((revision, key.clone(), content));
    }
    seen.add(at, Sent::Event(revision, Change { key, kind, digest }));
    Ok(())
}
