//! WATCH: a cursor into the history, written as events.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use quorate_api::status::Status;
use quorate_state_machine::history::ChangeRef;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{ObjectKey, Revision};
use quorate_store::{Consistency, Watch};
use rand::RngExt as _;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Request;
use super::list_options::{self, validate_match};
use super::render::EventForm;
use crate::limits::{BOOKMARK_INTERVAL, WATCH_FRAME_BYTES, WATCH_PACE, WATCH_TIMEOUT_MIN};
use crate::model::Selection;
use crate::reply::{Body, BoxError};
use crate::status_error::{self, Answer};

/// Where a watch begins.
struct Start {
    after: Revision,
    /// What is there already, to be sent as ADDED.
    initial: Vec<StoredRef>,
    /// The initial events are followed by a bookmark that says so.
    mark_end: bool,
}

pub(super) async fn run(request: Request) -> Answer<Response<Body>> {
    validate_match(&request.query, true)?;
    let form = EventForm::of(&request)?;
    let mut fields = request.query.text("fieldSelector").to_owned();
    if request.target.named && !request.target.name.is_empty() {
        fields = format!("metadata.name={}", request.target.name);
    }
    let selection = Selection::of(request.def, request.query.text("labelSelector"), &fields)?;
    let start = start(&request, &selection).await?;
    let timeout = match request.query.number("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
        Some(_) | None => WATCH_TIMEOUT_MIN.mul_f64(1.0 + rand::rng().random_range(0.0..1.0)),
    };
    let now = Instant::now();
    let watcher = Watcher {
        cursor: request.shared.store.watch(request.storage(), start.after),
        scope: Scope {
            namespace: request.target.namespace_of(request.def),
            everything: selection.is_everything(),
            selection,
        },
        form,
        initial: start.initial.into_iter(),
        mark_end: start.mark_end,
        bookmarks: request.query.flag("allowWatchBookmarks"),
        next_bookmark: now + BOOKMARK_INTERVAL,
        ends: now + timeout,
        next_look: now,
        first: true,
        done: false,
        stop: request.shared.stop.clone(),
        events: request.shared.metrics.watch_events.clone(),
    };
    let body = StreamBody::new(frames(watcher));
    let mut response = Response::new(body.boxed_unsync());
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn start(request: &Request, selection: &Selection) -> Answer<Start> {
    let text = request.query.text("resourceVersion");
    let asked = if text.is_empty() { None } else { Some(list_options::revision(text)?) };
    let wants_initial = request.query.get("sendInitialEvents").filter(|text| !text.is_empty());
    let send_initial = match wants_initial {
        Some(_) => request.query.flag("sendInitialEvents"),
        // Without a revision a watch begins with what is there.
        None => asked.is_none_or(|revision| revision == Revision(0)),
    };
    let consistency = match asked {
        None => Consistency::Linearizable,
        Some(Revision(0)) => Consistency::Any,
        Some(revision) => Consistency::AtLeast(revision),
    };
    let view = request
        .shared
        .store
        .read(consistency)
        .await
        .map_err(|error| status_error::of_store(&error))?;
    if !send_initial {
        let after = asked.filter(|revision| revision.0 > 0).unwrap_or_else(|| view.revision());
        return Ok(Start { after, initial: Vec::new(), mark_end: false });
    }
    let namespace = request.target.namespace_of(request.def);
    let initial = view
        .resource(&request.storage())
        .into_iter()
        .flat_map(|resource| resource.range(&namespace, None))
        .filter(|stored| selection.matches(stored))
        .cloned()
        .collect();
    Ok(Start { after: view.revision(), initial, mark_end: wants_initial.is_some() })
}

/// Which objects a watch is about.
struct Scope {
    namespace: String,
    everything: bool,
    selection: Selection,
}

impl Scope {
    fn holds(&self, key: &ObjectKey) -> bool {
        self.namespace.is_empty() || *key.namespace == *self.namespace
    }

    fn matches(&self, stored: &StoredRef) -> bool {
        self.everything || self.selection.matches(stored)
    }

    /// The event that a change is to this watcher: with selectors, coming into view is ADDED and
    /// going out of it DELETED.
    fn event<'a>(&self, change: &'a ChangeRef) -> Option<(&'static str, &'a StoredRef)> {
        if !self.holds(&change.key().object) {
            return None;
        }
        let before = change.previous.as_ref().filter(|stored| self.matches(stored));
        let after = change.current.as_ref().filter(|stored| self.matches(stored));
        match (before, after) {
            (None, None) => None,
            (None, Some(after)) => Some(("ADDED", after)),
            (Some(_), Some(after)) => Some(("MODIFIED", after)),
            (Some(before), None) => Some(("DELETED", before)),
        }
    }
}

struct Watcher {
    cursor: Watch,
    scope: Scope,
    form: EventForm,
    initial: std::vec::IntoIter<StoredRef>,
    mark_end: bool,
    bookmarks: bool,
    next_bookmark: Instant,
    ends: Instant,
    /// Not before this are changes looked for again: see [`WATCH_PACE`].
    next_look: Instant,
    first: bool,
    done: bool,
    stop: CancellationToken,
    events: prometheus_client::metrics::counter::Counter,
}

type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, BoxError>> + Send>>;

/// Frames are made when the connection has room for one: a slow watcher holds no queue.
fn frames(watcher: Watcher) -> Frames {
    stream::unfold(watcher, |mut watcher| async move {
        let bytes = watcher.next().await?;
        Some((Ok(Frame::data(Bytes::from(bytes))), watcher))
    })
    .boxed()
}

impl Watcher {
    /// The next events; `None` at the end of the watch.
    async fn next(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        while !self.done {
            self.take_initial(&mut out);
            if self.initial.len() == 0 && out.len() < WATCH_FRAME_BYTES {
                self.take_changes(&mut out);
            }
            if !out.is_empty() {
                return Some(out);
            }
            self.wait(&mut out).await;
        }
        (!out.is_empty()).then_some(out)
    }

    fn take_initial(&mut self, out: &mut Vec<u8>) {
        while out.len() < WATCH_FRAME_BYTES
            && let Some(stored) = self.initial.next()
        {
            self.write("ADDED", &stored, stored.revision, out);
        }
        if self.initial.len() == 0 && self.mark_end {
            self.mark_end = false;
            if self.bookmarks {
                self.form.bookmark(self.cursor.position(), true, self.first, out);
                self.first = false;
            }
        }
    }

    /// Takes changes until there are none: the cursor gives a bounded batch at a time, and what a
    /// selector hides must not be mistaken for the end.
    fn take_changes(&mut self, out: &mut Vec<u8>) {
        while out.len() < WATCH_FRAME_BYTES {
            let batch = match self.cursor.ready() {
                Ok(batch) => batch,
                Err(expired) => {
                    let status =
                        Status::too_old_resource_version(expired.asked.0, expired.compacted.0);
                    self.fail(&status, out);
                    return;
                }
            };
            if batch.changes.is_empty() {
                return;
            }
            for change in &batch.changes {
                if let Some((kind, stored)) = self.scope.event(change) {
                    let stored = stored.clone();
                    self.write(kind, &stored, change.revision, out);
                }
            }
        }
    }

    fn write(&mut self, kind: &str, stored: &StoredRef, revision: Revision, out: &mut Vec<u8>) {
        self.form.write(kind, stored, revision, self.first, out);
        self.first = false;
        self.events.inc();
    }

    fn fail(&mut self, status: &Status, out: &mut Vec<u8>) {
        out.extend_from_slice(json!({"type": "ERROR", "object": status}).to_string().as_bytes());
        out.push(b'\n');
        self.done = true;
    }

    /// Waits for something to write: changes, the time of a bookmark, the end.
    async fn wait(&mut self, out: &mut Vec<u8>) {
        tokio::select! {
            changed = self.cursor.changed() => {
                if changed.is_err() {
                    self.done = true;
                }
                // At once after a pause; under load what comes meanwhile shares one write.
                tokio::time::sleep_until(self.next_look.min(self.ends)).await;
                self.next_look = Instant::now() + WATCH_PACE;
            }
            () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                self.next_bookmark = Instant::now() + BOOKMARK_INTERVAL;
                self.form.bookmark(self.cursor.position(), false, self.first, out);
                self.first = false;
            }
            () = tokio::time::sleep_until(self.ends) => self.end(out),
            () = self.stop.cancelled() => self.end(out),
        }
    }

    /// The last bookmark lets the client come back without a list.
    fn end(&mut self, out: &mut Vec<u8>) {
        self.done = true;
        if self.bookmarks {
            self.form.bookmark(self.cursor.position(), false, self.first, out);
        }
    }
}
