//! A client that watches the workload's objects of one kind, and goes on at another master where the last one
//! stopped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::Method;
use serde_json::Value;
use std::sync::Mutex;
use tokio::time::timeout;

use super::client::{Connection, events};
use super::workload::{Resource, Shared, content, lock, told};
use crate::check::watch::{Change, Kind, Revision, Sent, Watcher};
use crate::history::Tick;
use crate::limits::CONNECT_MAX;

/// Before the next master is tried.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What a follower has seen, for whoever waits for it.
#[derive(Debug, Default)]
pub struct Seen {
    /// What it watches.
    pub resource: Resource,
    /// All of it.
    pub watcher: Mutex<Watcher>,
    /// Answers that a watch of an uncompacted past must not get: 410, and errors in the stream.
    pub refused: Mutex<Vec<String>>,
    /// When each of what the watcher was sent arrived.
    pub at: Mutex<Vec<Tick>>,
}

impl Seen {
    fn add(&self, at: Tick, sent: Sent) {
        lock(&self.watcher).sent.push(sent);
        lock(&self.at).push(at);
    }

    /// The last revision that was sent.
    #[must_use]
    pub fn last(&self) -> Revision {
        let watcher = lock(&self.watcher);
        watcher.sent.last().map_or(watcher.from, |sent| match sent {
            Sent::Event(revision, _) | Sent::Bookmark(revision) => *revision,
        })
    }
}

/// Follows until it is told to stop, beginning at `from`, first at `home`.
pub async fn follow(shared: Arc<Shared>, seen: Arc<Seen>, home: usize) {
    let mut master = home;
    while !shared.stop.load(Ordering::Relaxed) {
        if let Err(error) = watch(&shared, &seen, master).await {
            tracing::debug!(master, %error, "watch ended");
        }
        master = (master + 1) % shared.apis.len();
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn watch(shared: &Shared, seen: &Seen, master: usize) -> anyhow::Result<()> {
    let mut connection = Connection::open(shared.apis[master], &shared.tls).await?;
    let from = seen.last();
    let objects = shared.path(seen.resource);
    let path = format!("{objects}?watch=true&allowWatchBookmarks=true&resourceVersion={from}");
    let response = timeout(CONNECT_MAX, connection.send(Method::GET, &path, None)).await??;
    let code = response.status().as_u16();
    if code != 200 {
        if code == 410 {
            lock(&seen.refused).push(format!("410 for a watch from {from}"));
        }
        bail!("{code}");
    }
    events(response, &shared.stop, |event| take(shared, seen, event)).await
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
    if let Some((_, content)) = content(object) {
        lock(&shared.contents).insert((revision, key.clone(), content));
    }
    seen.add(at, Sent::Event(revision, Change { key, kind, digest }));
    Ok(())
}
