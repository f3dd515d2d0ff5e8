//! Decisions as operations on the store: full images, computed against an exact revision.
//!
//! What the API server's binding and status subresources would write (pod strategy, `podutil`):
//! the same fields, the same condition.

use jiff::Timestamp;
use quorate_state_machine::object::{Image, Stored};
use quorate_state_machine::{Op, Revision};
use quorate_store::clock::format_time;
use serde_json::{Map, Value, json};

/// `PodScheduled=False` because no node can run the pod.
pub const UNSCHEDULABLE: &str = "Unschedulable";

/// `PodScheduled=False` because the pod has gates.
pub const SCHEDULING_GATED: &str = "SchedulingGated";

/// What Kubernetes says of a pod that has gates.
pub const GATED_MESSAGE: &str = "Scheduling is blocked due to non-empty scheduling gates";

/// Why no operation could be made of a decision.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stored bytes are not a pod: the state machine stores what it is given.
    #[error("stored pod does not decode")]
    Decode(#[source] serde_json::Error),
    /// The stored bytes are no object with metadata.
    #[error("stored pod is not an object")]
    Shape,
    /// The new version does not encode.
    #[error("pod does not encode")]
    Encode(#[source] quorate_api::image::Error),
}

/// The pod goes to `node`.
///
/// # Errors
/// [`Error`] when the stored pod is damaged.
pub fn bind(stored: &Stored, node: &str, now: Timestamp) -> Result<Op, Error> {
    let mut pod = decode(stored)?;
    child(&mut pod, "spec")?.insert("nodeName".to_owned(), json!(node));
    // The nomination is used up, or another node came free first.
    child(&mut pod, "status")?.remove("nominatedNodeName");
    set_condition(&mut pod, "True", None, now)?;
    update(stored, pod)
}

/// The pod's `PodScheduled` condition becomes `False` with this reason and message.
///
/// # Errors
/// [`Error`] when the stored pod is damaged.
pub fn refuse(
    stored: &Stored,
    reason: &str,
    message: &str,
    nominated: Option<&str>,
    now: Timestamp,
) -> Result<Op, Error> {
    let mut pod = decode(stored)?;
    set_condition(&mut pod, "False", Some((reason, message)), now)?;
    if let Some(nominated) = nominated {
        let status = child(&mut pod, "status")?;
        status.insert("nominatedNodeName".to_owned(), json!(nominated));
    }
    update(stored, pod)
}

fn decode(stored: &Stored) -> Result<Map<String, Value>, Error> {
    serde_json::from_slice(&stored.image.bytes).map_err(Error::Decode)
}

fn child<'a>(
    object: &'a mut Map<String, Value>,
    name: &str,
) -> Result<&'a mut Map<String, Value>, Error> {
    let child = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
    child.as_object_mut().ok_or(Error::Shape)
}

/// Puts the condition in its place, or at the end; the time moves only when the status does.
fn set_condition(
    pod: &mut Map<String, Value>,
    status: &str,
    why: Option<(&str, &str)>,
    now: Timestamp,
) -> Result<(), Error> {
    let generation = pod.get("metadata").and_then(|meta| meta.get("generation")).cloned();
    let conditions = child(pod, "status")?.entry("conditions").or_insert_with(|| json!([]));
    if conditions.is_null() {
        *conditions = json!([]);
    }
    let conditions = conditions.as_array_mut().ok_or(Error::Shape)?;
    let place = conditions.iter().position(|condition| condition["type"] == "PodScheduled");
    let kept = place
        .map(|place| &conditions[place])
        .filter(|before| before["status"] == status)
        .and_then(|before| before["lastTransitionTime"].as_str());
    let time = kept.map_or_else(|| format_time(now), str::to_owned);
    let mut condition = Map::new();
    condition.insert("lastTransitionTime".to_owned(), json!(time));
    if let Some((reason, message)) = why {
        condition.insert("message".to_owned(), json!(message));
        condition.insert("reason".to_owned(), json!(reason));
    }
    if let Some(generation) = generation {
        condition.insert("observedGeneration".to_owned(), generation);
    }
    condition.insert("status".to_owned(), json!(status));
    condition.insert("type".to_owned(), json!("PodScheduled"));
    match place {
        Some(place) => conditions[place] = Value::Object(condition),
        None => conditions.push(Value::Object(condition)),
    }
    Ok(())
}

fn update(stored: &Stored, pod: Map<String, Value>) -> Result<Op, Error> {
    let encoded = quorate_api::image::encode(&Value::Object(pod)).map_err(Error::Encode)?;
    let image = Image {
        // uid, labels, owners, finalizers: nothing of it changes here.
        header: stored.image.header.clone(),
        bytes: encoded.bytes,
        revision_offset: encoded.revision_at,
    };
    let expect: Revision = stored.revision;
    Ok(Op::Update { key: stored.key.clone(), expect, image })
}
