//! Reaching the node of a pod: over its stream to this master, or through the master that has it.

use std::time::Duration;

use quorate_api::status::Status;
use quorate_proto::agent::OpenChannel;
use quorate_proto::agent::channel_frame::Frame;
use tokio::time::Instant;

use crate::agents::{AgentHub, Channel, ChannelError};
use crate::limits::{NODE_MOVE_TIMEOUT, NODE_SILENT_AFTER};
use crate::status_error::Refusal;

/// How often a stream's new place is looked for, while it moves.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Opens a channel to a node, wherever its stream is. A node that has just moved is looked for again,
/// for [`NODE_MOVE_TIMEOUT`] at most.
pub(super) async fn open(
    hub: &AgentHub,
    node: &str,
    request: OpenChannel,
) -> Result<Channel, ChannelError> {
    match attempt(hub, node, &request).await {
        Err(ChannelError::NotConnected(_)) => {}
        other => return other,
    }
    let not_connected = || ChannelError::NotConnected(node.to_owned());
    if hub.liveness().age(node).is_none_or(|age| age > NODE_SILENT_AFTER) {
        return Err(not_connected());
    }
    // The place is known by polling only: heartbeats are relayed, nobody signals a change. What is
    // said of it may be old, so one answer that the node is not there settles nothing.
    let until = Instant::now() + NODE_MOVE_TIMEOUT;
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    while Instant::now() < until {
        interval.tick().await;
        match attempt(hub, node, &request).await {
            Err(ChannelError::NotConnected(_)) => {}
            other => return other,
        }
    }
    Err(not_connected())
}

/// The master that has the node's stream, as far as known here; `None` when nobody seems to have it.
fn place(hub: &AgentHub, node: &str) -> Option<String> {
    if hub.holds(node) {
        return Some(hub.master().to_owned());
    }
    hub.liveness().master_of(node).filter(|master| master != hub.master())
}

async fn attempt(
    hub: &AgentHub,
    node: &str,
    request: &OpenChannel,
) -> Result<Channel, ChannelError> {
    match place(hub, node) {
        None => Err(ChannelError::NotConnected(node.to_owned())),
        Some(master) if master == hub.master() => hub.open(node, request.clone()).await,
        Some(master) => hub.open_through(&master, node, request.clone()).await,
    }
}

/// What a client is told when its channel was not opened, in the shape of a kube-apiserver that
/// cannot reach a kubelet.
pub(super) fn status_of(error: &ChannelError) -> Refusal {
    let status = match error {
        ChannelError::NotConnected(_) => {
            Status::internal_error(&format!("error dialing backend: {error}"))
        }
        ChannelError::Timeout(_) => Status::timeout(&error.to_string(), 0),
        ChannelError::Overloaded => Status::too_many_requests(error.to_string(), 1),
        ChannelError::Refused(status) => return of_node(status),
    };
    Box::new(status)
}

/// A `Status` that came from a node.
pub(super) fn of_node(status: &[u8]) -> Refusal {
    let status = serde_json::from_slice(status).map_err(|_| message_of(status));
    Box::new(status.unwrap_or_else(|message| Status::internal_error(&message)))
}

/// The text of a `Status` that came from a node, whatever its reason.
pub(super) fn message_of(status: &[u8]) -> String {
    let read = serde_json::from_slice::<serde_json::Value>(status).unwrap_or_default();
    let message = read["message"].as_str().map(str::to_owned);
    message.unwrap_or_else(|| "the node gave no reason".to_owned())
}

/// How a channel ended: the node's own word, or what is said when its stream broke before it.
pub(super) fn end_of(frame: Option<Frame>) -> Option<bytes::Bytes> {
    match frame {
        Some(Frame::Status(status)) => Some(status),
        Some(_) => None,
        None => {
            Some(Status::internal_error("the connection to the node was lost").to_json().into())
        }
    }
}
