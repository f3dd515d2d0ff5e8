//! Events that nodes report. Agents name and count them, as client-go's recorder does it; here they are written,
//! those that wait together in one proposal. Best effort: an event is never worth holding up a status.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use jiff::Timestamp;
use quorate_state_machine::{Key, Op, Outcome, View};
use quorate_store::clock::format_time;
use quorate_store::{Consistency, Write};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::hub::Inner;
use crate::limits::{EVENT_BATCH_MAX, EVENT_BYTES_MAX, EVENT_RETRIES_MAX, EVENTS_WAITING_MAX};

/// One event of the node of that name.
type Told = (String, Bytes);

/// The queue of events of all nodes that are connected here.
#[derive(Debug, Clone)]
pub(super) struct Events {
    queue: mpsc::Sender<Told>,
}

impl Events {
    /// Starts the task that writes.
    pub(super) fn start(inner: &Arc<Inner>) -> Self {
        let (queue, told) = mpsc::channel(EVENTS_WAITING_MAX);
        // Weakly, so that dropping the hub ends it.
        inner.tasks.spawn(run(Arc::downgrade(inner), inner.stop.clone(), told));
        Self { queue }
    }

    /// Takes one event. Never waits: one too many, or one too large, is dropped.
    pub(super) fn tell(&self, node: &str, event: Bytes) {
        if event.len() > EVENT_BYTES_MAX {
            let bytes = event.len();
            return tracing::warn!(
                node,
                bytes,
                "an event of the node was dropped: it is too large"
            );
        }
        if self.queue.try_send((node.to_owned(), event)).is_err() {
            tracing::debug!(node, "an event of the node was dropped: too many wait");
        }
    }
}

async fn run(inner: Weak<Inner>, stop: CancellationToken, mut told: mpsc::Receiver<Told>) {
    let mut batch = Vec::with_capacity(EVENT_BATCH_MAX);
    loop {
        tokio::select! {
            received = told.recv_many(&mut batch, EVENT_BATCH_MAX) => if received == 0 { return },
            () = stop.cancelled() => return,
        }
        let Some(inner) = inner.upgrade() else { return };
        let due = due(batch.drain(..), inner.clock.now());
        tokio::select! {
            () = write(&inner, due) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// What is to be written, by the Event's key, with the node that said it. Of several words about one Event the last one
/// counts: it has the highest count.
fn due(batch: impl Iterator<Item = Told>, now: Timestamp) -> BTreeMap<Key, (String, Value)> {
    let mut due = BTreeMap::new();
    for (node, bytes) in batch {
        // Only an object can be completed.
        let Ok(event) = serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) else {
            tracing::warn!(node, "an event of the node does not decode");
            continue;
        };
        let event = complete(Value::Object(event), &node, now);
        let metadata = &event["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let key = Key::new("", "events", &text("namespace"), &text("name"));
        due.insert(key, (node, event));
    }
    due
}

async fn write(inner: &Inner, mut due: BTreeMap<Key, (String, Value)>) {
    let mut view = inner.store.view();
    for _ in 0..EVENT_RETRIES_MAX {
        let mut keys = Vec::with_capacity(due.len());
        let mut ops = Vec::with_capacity(due.len());
        for (key, (node, event)) in &due {
            if let Some(op) = plan(inner, &view, key, node, event).await {
                keys.push(key.clone());
                ops.push(op);
            }
        }
        if ops.is_empty() {
            return;
        }
        let outcomes = match inner.store.write(ops).await {
            Ok(outcomes) => outcomes,
            Err(error) => return tracing::debug!(%error, "events of nodes were not written"),
        };
        // Somebody else wrote in between, or this master lags behind.
        let again = keys.into_iter().zip(outcomes).filter(|(_, outcome)| {
            matches!(outcome, Outcome::Conflict(_) | Outcome::AlreadyExists(_))
        });
        let again: Vec<Key> = again.map(|(key, _)| key).collect();
        due.retain(|key, _| again.contains(key));
        if due.is_empty() {
            return;
        }
        view = match inner.store.read(Consistency::Linearizable).await {
            Ok(view) => view,
            Err(error) => return tracing::debug!(%error, "events of nodes were not written"),
        };
    }
}

/// `None` when there is nothing to write.
async fn plan(inner: &Inner, view: &Arc<View>, key: &Key, node: &str, event: &Value) -> Option<Op> {
    let late = inner.late()?;
    let write = match view.get(key) {
        None => Write::Create { resource: key.resource.clone(), object: event.clone() },
        Some(stored) => {
            let known: Value = serde_json::from_slice(&stored.to_json()).ok()?;
            let object = counted(known, event)?;
            Write::Update { stored: stored.clone(), object, subresource: "" }
        }
    };
    match late.admit.admit(view, &format!("system:node:{node}"), write).await {
        Ok(op) => op,
        // For example in a namespace that is being deleted.
        Err(refused) => {
            tracing::debug!(node, %refused, "an event was refused");
            None
        }
    }
}

/// The stored Event with the new count; `None` when it is another node's, or knows more already.
fn counted(mut known: Value, event: &Value) -> Option<Value> {
    let count = |event: &Value| event["count"].as_i64().unwrap_or(1);
    if known["source"] != event["source"] || count(&known) >= count(event) {
        return None;
    }
    for field in ["count", "lastTimestamp", "message"] {
        known.as_object_mut()?.insert(field.to_owned(), event[field].clone());
    }
    Some(known)
}

/// Fills in what the agent leaves to the masters, and what it has no say in: the namespace, the source.
fn complete(mut event: Value, node: &str, now: Timestamp) -> Value {
    let involved = event["involvedObject"].clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = match text(&involved["namespace"]) {
        empty if empty.is_empty() => "default".to_owned(),
        namespace => namespace,
    };
    let object = text(&involved["name"]);
    let mut name = text(&event["metadata"]["name"]);
    if !name.starts_with(&format!("{}.", quorate_api::text::event_object(&object))) {
        name = quorate_api::text::event_name(&object, now.as_nanosecond());
    }
    event["apiVersion"] = "v1".into();
    event["kind"] = "Event".into();
    event["metadata"] = json!({"name": name, "namespace": namespace});
    if event["source"]["component"].is_null() {
        event["source"] = json!({"component": "kubelet"});
    }
    event["source"]["host"] = node.into();
    event["reportingComponent"] = event["source"]["component"].clone();
    event["reportingInstance"] = node.into();
    for time in ["firstTimestamp", "lastTimestamp"] {
        if event[time].is_null() {
            event[time] = format_time(now).into();
        }
    }
    if event["count"].as_i64().is_none_or(|count| count < 1) {
        event["count"] = json!(1);
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: Option<&str>, count: i64, message: &str) -> Value {
        json!({
            "metadata": {"name": name, "labels": {"not": "its own"}},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "d", "uid": "u"},
            "reason": "Pulled", "type": "Normal", "message": message, "count": count,
        })
    }

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_is_no_event_is_passed_over() {
        let told = [
            &b"[]"[..],
            b"\"x\"",
            b"7",
            b"null",
            b"{",
            br#"{"source":"s","metadata":[],"count":"a"}"#,
        ];
        let told = told.iter().map(|bytes| ("n1".to_owned(), Bytes::from_static(bytes)));
        let due = due(told.collect::<Vec<_>>().into_iter(), now());
        assert_eq!(due.len(), 1, "{due:?}");
    }

    #[test]
    fn an_event_keeps_the_name_that_its_agent_gave_it() {
        let event = complete(said(Some("p.17a"), 2, "a"), "n1", now());
        assert_eq!(event["metadata"], json!({"name": "p.17a", "namespace": "d"}));
        assert_eq!(event["source"], json!({"component": "kubelet", "host": "n1"}));
        assert_eq!(event["count"], 2);
        // None, or another object's: it gets one.
        for name in [None, Some("other.17a"), Some("p")] {
            let event = complete(said(name, 0, "a"), "n1", now());
            assert_eq!(event["metadata"]["name"], "p.1898b5d9b3d68000", "{name:?}");
            assert_eq!(event["count"], 1);
        }
    }

    #[test]
    fn of_words_about_one_event_the_last_is_written() {
        let bytes = |count, message| Bytes::from(said(Some("p.1"), count, message).to_string());
        let told = [("n1".to_owned(), bytes(1, "a")), ("n1".to_owned(), bytes(2, "b"))];
        let due = due(told.into_iter(), now());
        assert_eq!(due.len(), 1);
        assert_eq!(due.values().next().unwrap().1["message"], "b");
    }

    #[test]
    fn counts_go_up_and_other_nodes_events_stay() {
        let event = |node, count, message| complete(said(Some("p.1"), count, message), node, now());
        let counted = |known, event| super::counted(known, &event);
        let after = counted(event("n1", 1, "a"), event("n1", 3, "b")).unwrap();
        assert_eq!((&after["count"], &after["message"]), (&json!(3), &json!("b")));
        assert_eq!(counted(event("n1", 3, "a"), event("n1", 3, "b")), None);
        assert_eq!(counted(event("n1", 1, "a"), event("n2", 2, "b")), None);
    }
}
