//! One logs, exec, attach or port-forward: a waiting client, paired with the stream that the agent
//! opens when asked.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use quorate_proto::agent::ChannelFrame;
use tokio::sync::{mpsc, oneshot};

use crate::limits::CHANNEL_FRAMES_MAX;

/// An open channel to a node. Dropping it ends the request on the node.
#[derive(Debug)]
pub struct Channel {
    /// To the node. Waits when the node does not keep up.
    pub to_node: mpsc::Sender<ChannelFrame>,
    /// From the node; ends with a `status` frame, or without one when the stream broke.
    pub from_node: mpsc::Receiver<ChannelFrame>,
}

/// Why a channel was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// No master holds a stream of the node.
    #[error("node {0} is not connected to any master")]
    NotConnected(String),
    /// The agent did not open it in time.
    #[error("node {0} did not answer in time")]
    Timeout(String),
    /// The agent refused: a `metav1.Status` as JSON.
    #[error("refused by the node")]
    Refused(Vec<u8>),
    /// Too many channels wait for their agents.
    #[error("too many requests wait for their nodes")]
    Overloaded,
}

/// What the waiting side gets.
pub(super) type Opened = Result<Channel, ChannelError>;

/// Channels that were asked for and not opened yet, by id.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    waiting: Mutex<BTreeMap<String, (String, oneshot::Sender<Opened>)>>,
}

impl Waiting {
    /// A client waits for the channel of this id from this node, for as long as it keeps the
    /// expectation.
    pub(super) fn expect(
        &self,
        id: &str,
        node: &str,
        max: usize,
    ) -> Result<Expected<'_>, ChannelError> {
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.len() >= max {
            return Err(ChannelError::Overloaded);
        }
        waiting.insert(id.to_owned(), (node.to_owned(), answer));
        Ok(Expected { waiting: self, id: id.to_owned(), answered })
    }

    /// The node opened (or refused) it. `false` when nobody waits for it, or another node was asked.
    pub(super) fn answer(&self, id: &str, node: &str, opened: Opened) -> bool {
        let mut waiting = self.lock();
        if waiting.get(id).is_none_or(|(asked, _)| asked != node) {
            return false;
        }
        waiting.remove(id).is_some_and(|(_, answer)| answer.send(opened).is_ok())
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, BTreeMap<String, (String, oneshot::Sender<Opened>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that waits. Dropped, also when the client goes, it waits no more.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    waiting: &'a Waiting,
    id: String,
    answered: oneshot::Receiver<Opened>,
}

impl Expected<'_> {
    /// The answer; `None` when there will be none.
    pub(super) async fn opened(&mut self) -> Option<Opened> {
        (&mut self.answered).await.ok()
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.id);
    }
}

/// The two ends of a channel: the client's, and what the stream's handler reads from and writes to.
pub(super) fn pair() -> (Channel, mpsc::Receiver<ChannelFrame>, mpsc::Sender<ChannelFrame>) {
    let (to_node, from_client) = mpsc::channel(CHANNEL_FRAMES_MAX);
    let (to_client, from_node) = mpsc::channel(CHANNEL_FRAMES_MAX);
    (Channel { to_node, from_node }, from_client, to_client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_asked_node_can_answer() {
        let waiting = Waiting::default();
        let mut expected = waiting.expect("id", "n1", 10).unwrap();
        assert!(!waiting.answer("id", "n2", Err(ChannelError::Refused(Vec::new()))));
        assert!(waiting.answer("id", "n1", Err(ChannelError::Refused(b"no".to_vec()))));
        let refused = expected.opened().await.unwrap().unwrap_err();
        assert_eq!(refused, ChannelError::Refused(b"no".to_vec()));
        assert!(!waiting.answer("id", "n1", Err(ChannelError::Overloaded)), "once only");
    }

    #[test]
    fn waiting_channels_are_bounded() {
        let waiting = Waiting::default();
        let first = waiting.expect("a", "n", 1).unwrap();
        assert_eq!(waiting.expect("b", "n", 1).unwrap_err(), ChannelError::Overloaded);
        // A client that goes makes room.
        drop(first);
        assert!(waiting.expect("b", "n", 1).is_ok());
    }
}
