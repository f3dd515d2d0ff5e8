//! Events that nodes report. Equal events of one object share one Event object, as client-go's
//! recorder does it: its name follows from what it says, so that any master finds it and counts it up.

use quorate_state_machine::{Key, Outcome};
use quorate_store::Write;
use quorate_store::clock::format_time;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::hub::Inner;

/// Counting up is tried again this often when another master counts at the same time; then one
/// count is lost.
const RETRIES_MAX: usize = 3;

/// What agents write before the message of an event that stands for many similar ones.
const COMBINED: &str = "(combined from similar events): ";

/// Writes one event of a node. Best effort: what cannot be written is told in the log only.
pub(super) async fn record(inner: &Inner, node: &str, event: &[u8]) {
    let Ok(event) = serde_json::from_slice::<Value>(event) else {
        tracing::warn!(node, "an event of the node does not decode");
        return;
    };
    let Some(late) = inner.late() else { return };
    let now = inner.clock.now();
    let event = complete(event, node, &format_time(now));
    let namespace = event["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
    let name = event["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let key = Key::new("", "events", &namespace, &name);
    for _ in 0..RETRIES_MAX {
        let view = inner.store.view();
        let write = match view.get(&key) {
            None => Write::Create { resource: key.resource.clone(), object: event.clone() },
            Some(stored) => {
                let Ok(mut known) = serde_json::from_slice::<Value>(&stored.to_json()) else {
                    return;
                };
                known["count"] = json!(known["count"].as_i64().unwrap_or(1) + 1);
                known["lastTimestamp"] = event["lastTimestamp"].clone();
                // Combined events share a name and differ in their words: the last ones count.
                known["message"] = event["message"].clone();
                Write::Update { stored: stored.clone(), object: known, subresource: "" }
            }
        };
        let user = format!("system:node:{node}");
        match late.admit.admit(&view, &user, write).await {
            Ok(Some(op)) => match inner.store.write(vec![op]).await.as_deref() {
                Ok([Outcome::Conflict(_) | Outcome::AlreadyExists(_)]) => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(node, %error, "an event was not written");
                    return;
                }
            },
            Ok(None) => return,
            // For example in a namespace that is being deleted.
            Err(refused) => {
                tracing::debug!(node, %refused, "an event was refused");
                return;
            }
        }
    }
}

/// Fills in what the agent leaves to the masters: name, namespace, source, times, count.
fn complete(mut event: Value, node: &str, now: &str) -> Value {
    let involved = event["involvedObject"].clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = match text(&involved["namespace"]) {
        empty if empty.is_empty() => "default".to_owned(),
        namespace => namespace,
    };
    let mut hash = Sha256::new();
    let component = text(&event["source"]["component"]);
    let message = text(&event["message"]);
    let said = if message.starts_with(COMBINED) { COMBINED.to_owned() } else { message };
    for part in [
        text(&involved["kind"]),
        text(&involved["uid"]),
        text(&involved["fieldPath"]),
        text(&event["type"]),
        text(&event["reason"]),
        said,
        component,
        node.to_owned(),
    ] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    let suffix: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    event["apiVersion"] = "v1".into();
    event["kind"] = "Event".into();
    event["metadata"] = json!({
        "name": format!("{}.{suffix}", shortened(&text(&involved["name"]))),
        "namespace": namespace,
    });
    if event["source"]["component"].is_null() {
        event["source"] = json!({"component": "kubelet"});
    }
    event["source"]["host"] = node.into();
    event["reportingComponent"] = event["source"]["component"].clone();
    event["reportingInstance"] = node.into();
    for time in ["firstTimestamp", "lastTimestamp"] {
        if event[time].is_null() {
            event[time] = now.into();
        }
    }
    event["count"] = json!(1);
    event
}

/// A name of an object, with room for the suffix in the 253 characters of an Event's name.
fn shortened(name: &str) -> &str {
    let end = (0..=name.len().min(236)).rev().find(|end| name.is_char_boundary(*end));
    name[..end.unwrap_or(0)].trim_end_matches(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str) -> Value {
        complete(
            json!({
                "involvedObject": {"kind": "Pod", "name": "p", "namespace": "d", "uid": "u"},
                "reason": "Pulled", "type": "Normal", "message": message,
            }),
            "n1",
            "2026-03-01T12:00:00Z",
        )
    }

    #[test]
    fn equal_events_have_one_name_and_others_another() {
        assert_eq!(event("a")["metadata"]["name"], event("a")["metadata"]["name"]);
        assert_ne!(event("a")["metadata"]["name"], event("b")["metadata"]["name"]);
        let name = event("a")["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("p.") && name.len() == 18, "{name}");
        let combined = |text: &str| event(&format!("{COMBINED}{text}"))["metadata"]["name"].clone();
        assert_eq!(combined("a"), combined("b"));
    }

    #[test]
    fn the_source_is_the_node() {
        let event = event("a");
        assert_eq!(event["source"], json!({"component": "kubelet", "host": "n1"}));
        assert_eq!(event["metadata"]["namespace"], "d");
        assert_eq!(event["count"], 1);
    }
}
