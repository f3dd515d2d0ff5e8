//! WATCH: a cursor into the history, written as events.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use quorate_api::status::Status;
use quorate_points::{self as points, Point};
use quorate_state_machine::history::ChangeRef;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{Expired, ObjectKey, Revision};
use quorate_store::{Consistency, Store, Watch};
use rand::RngExt as _;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::Request;
use super::fanout::{Frame as Events, Place, Question};
use super::list_options::{self, validate_match};
use super::render::EventForm;
use crate::custom;
use crate::limits::{BOOKMARK_INTERVAL, WATCH_FRAME_BYTES, WATCH_PACE_MAX, WATCH_TIMEOUT_MIN};
use crate::model::Selection;
use crate::negotiate::Shape;
use crate::reply::{Body, BoxError};
use crate::status_error::{self, Answer};

/// What events in protobuf are called.
const PROTOBUF_EVENTS: &str = "application/vnd.kubernetes.protobuf;stream=watch";

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
    let labels = request.query.text("labelSelector");
    let mut selection = Selection::of(request.def, labels, &fields)?;
    if let Some(name) = &request.target.watched {
        if fields.is_empty() {
            fields = format!("metadata.name={name}");
            selection = Selection::of(request.def, labels, &fields)?;
        }
        if selection.exact_name() != Some(name) {
            let why = "fieldSelector metadata.name doesn't match requested name";
            return Err(Box::new(Status::bad_request(why)));
        }
    }
    let place = match form.shape {
        // Rows say how old their objects are, and the first says what the columns are.
        Shape::Table(_) => None,
        Shape::Object | Shape::Metadata(_) => Some(Question {
            api_version: request.def.api_version(),
            plural: request.def.plural,
            shape: form.shape,
            protobuf: form.protobuf,
            namespace: request.target.namespace_of(request.def),
            labels: labels.to_owned(),
            fields,
        }),
    }
    .map(|question| request.shared.fanout.join(question));
    let start = start(&request, &selection).await?;
    let timeout = timeout(&request)?;
    let media = if form.protobuf { PROTOBUF_EVENTS } else { "application/json" };
    let now = Instant::now();
    let next_bookmark = now + BOOKMARK_INTERVAL;
    let ends = now + timeout;
    let bookmarks = request.query.flag("allowWatchBookmarks");
    let deadline = if bookmarks { next_bookmark.min(ends) } else { ends };
    let watcher = Watcher {
        store: request.shared.store.clone(),
        cursor: request.shared.store.watch(request.storage(), start.after),
        scope: Scope {
            namespace: request.target.namespace_of(request.def),
            everything: selection.is_everything(),
            selection,
        },
        form,
        place,
        initial: start.initial.into_iter(),
        mark_end: start.mark_end,
        bookmarks,
        bookmark_due: false,
        next_bookmark,
        ends,
        deadline: Box::pin(tokio::time::sleep_until(deadline)),
        next_look: now,
        first: true,
        done: false,
        stop: Box::pin(request.shared.stop.clone().cancelled_owned()),
        events: request.shared.metrics.watch_events.clone(),
    };
    let body = StreamBody::new(frames(watcher));
    let mut response = Response::new(body.boxed_unsync());
    let media = http::HeaderValue::from_static(media);
    response.headers_mut().insert(http::header::CONTENT_TYPE, media);
    Ok(response)
}

/// How long the watch may last: what was asked, else one to two times [`WATCH_TIMEOUT_MIN`], so that
/// watches that began together do not end together.
fn timeout(request: &Request) -> Answer<Duration> {
    Ok(match request.query.number("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
        Some(_) | None => {
            WATCH_TIMEOUT_MIN.mul_f64(1.0 + quorate_chance::rng().random_range(0.0..1.0))
        }
    })
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
    store: Store,
    cursor: Watch,
    scope: Scope,
    form: EventForm,
    /// Among the watchers with which events can be shared; `None` for tables.
    place: Option<Place>,
    initial: std::vec::IntoIter<StoredRef>,
    mark_end: bool,
    bookmarks: bool,
    bookmark_due: bool,
    next_bookmark: Instant,
    ends: Instant,
    /// Of the next bookmark or the end, whichever is first.
    deadline: Pin<Box<Sleep>>,
    /// Not before this are changes looked for again: see [`Place::pace`].
    next_look: Instant,
    first: bool,
    done: bool,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    events: prometheus_client::metrics::counter::Counter,
}

type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, BoxError>> + Send>>;

/// Frames are made when the connection has room for one: a slow watcher holds no queue.
fn frames(watcher: Watcher) -> Frames {
    stream::unfold(watcher, |mut watcher| async move {
        let bytes = watcher.next().await?;
        points::pass(Point::WatchBeforeSend);
        Some((Ok(Frame::data(bytes)), watcher))
    })
    .boxed()
}

impl Watcher {
    /// The next events; `None` at the end of the watch.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.done {
            // Of a kind that is another now nothing more is told: the client lists anew.
            if custom::is_outdated(&self.store.view(), self.form.def) {
                return None;
            }
            let mut out = Vec::new();
            self.take_initial(&mut out);
            if out.is_empty() {
                match self.take_changes() {
                    Ok(events) if !events.is_empty() => return Some(events),
                    Ok(_) => self.take_bookmark(&mut out),
                    Err(expired) => self.fail(&expired, &mut out),
                }
            }
            if !out.is_empty() {
                return Some(out.into());
            }
            if self.wait().await {
                return self.end();
            }
        }
        None
    }

    fn take_initial(&mut self, out: &mut Vec<u8>) {
        while out.len() < WATCH_FRAME_BYTES
            && let Some(stored) = self.initial.next()
        {
            self.form.write("ADDED", &stored, stored.revision, self.first, out);
            self.first = false;
            self.events.inc();
        }
        if self.initial.len() == 0 && self.mark_end {
            self.mark_end = false;
            if self.bookmarks {
                self.form.bookmark(self.cursor.position(), true, self.first, out);
                self.first = false;
            }
        }
    }

    /// The next events that there are, none when there are none: what a selector hides is passed
    /// over, and must not be mistaken for the end.
    fn take_changes(&mut self) -> Result<Bytes, Expired> {
        loop {
            let after = self.cursor.position();
            let shared = self.place.as_ref().and_then(|place| place.find(after));
            let events = match shared {
                Some(events) => {
                    self.cursor.skip_to(events.up_to);
                    events
                }
                None => self.write_changes(after)?,
            };
            if events.events > 0 {
                self.first = false;
                self.events.inc_by(events.events);
                return Ok(events.bytes);
            }
            if events.up_to == after {
                return Ok(Bytes::new());
            }
        }
    }

    /// Writes the next changes and shares them.
    fn write_changes(&mut self, after: Revision) -> Result<Events, Expired> {
        let (mut out, mut events, mut passed, mut first) = (Vec::new(), 0, 0, self.first);
        let (scope, form) = (&self.scope, &self.form);
        self.cursor.visit(|change| {
            passed += 1;
            if let Some((kind, stored)) = scope.event(change) {
                form.write(kind, stored, change.revision, first, &mut out);
                first = false;
                events += 1;
            }
            out.len() < WATCH_FRAME_BYTES
        })?;
        let events =
            Events { after, up_to: self.cursor.position(), bytes: Bytes::from(out), events };
        if passed > 0
            && let Some(place) = &self.place
        {
            place.share(&events);
        }
        Ok(events)
    }

    fn take_bookmark(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.bookmark_due) {
            self.form.bookmark(self.cursor.position(), false, self.first, out);
            self.first = false;
        }
    }

    fn fail(&mut self, expired: &Expired, out: &mut Vec<u8>) {
        let status = Status::too_old_resource_version(expired.asked.0, expired.compacted.0);
        self.form.error(&status, out);
        self.done = true;
    }

    /// Waits for something to write: changes, or the time of a bookmark. Says whether it is the end.
    async fn wait(&mut self) -> bool {
        tokio::select! {
            changed = self.cursor.changed() => {
                if changed.is_err() {
                    self.done = true;
                    return false;
                }
                // At once after a pause; under load what comes meanwhile shares one write.
                let now = Instant::now();
                if now < self.next_look {
                    tokio::time::sleep_until(self.next_look.min(self.ends)).await;
                }
                let pace = self.place.as_ref().map_or(WATCH_PACE_MAX, Place::pace);
                self.next_look = now.max(self.next_look) + pace;
            }
            () = &mut self.deadline => {
                let now = Instant::now();
                if now >= self.ends {
                    return true;
                }
                self.bookmark_due = true;
                self.next_bookmark = now + BOOKMARK_INTERVAL;
                self.deadline.as_mut().reset(self.next_bookmark.min(self.ends));
            }
            () = &mut self.stop => return true,
        }
        false
    }

    /// The last bookmark lets the client come back without a list.
    fn end(&mut self) -> Option<Bytes> {
        self.done = true;
        if !self.bookmarks {
            return None;
        }
        // One more look, so that the bookmark is not older than need be.
        let mut out = match self.take_changes() {
            Ok(events) => Vec::from(events),
            Err(_) => return None,
        };
        self.form.bookmark(self.cursor.position(), false, self.first, &mut out);
        Some(out.into())
    }
}
