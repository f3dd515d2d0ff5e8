//! What waits to be told to a master. Statuses are coalesced: only a pod's newest one is kept, and it is sent again on
//! every new stream and after every refusal, until acknowledged. Events are dropped, oldest first, when too many wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use quorate_proto::agent::{
    ChannelRefused, EventRecord, FromAgent, NodeStatus, PodGone, PodStatus, StatusAck, TokenReply,
    TokenRequest, from_agent::Message,
};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::TokenAsk;
use crate::limits::{EVENTS_WAITING_MAX, STATUS_RESEND_AFTER, STATUS_RETRY_AFTER};

/// Which pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// How far a pod's report has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acked {
    /// A report still waits.
    Waiting,
    /// The newest report is written.
    Written,
    /// The pod no longer exists.
    Gone,
}

struct Report {
    id: u64,
    pod: PodKey,
    /// `None`: the pod is gone from this node.
    status: Option<Bytes>,
    sent: bool,
    again_at: Option<Instant>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    reports: BTreeMap<String, Report>,
    acked: BTreeMap<String, Acked>,
    node_status: Option<Bytes>,
    events: VecDeque<Bytes>,
    refused: VecDeque<ChannelRefused>,
    tokens: BTreeMap<u64, (TokenRequest, bool, Option<oneshot::Sender<TokenReply>>)>,
}

/// The queue itself.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    ready: Notify,
}

impl Outbox {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// A pod's newest status; `None` once nothing of the pod is left.
    pub(crate) fn report(&self, pod: PodKey, status: Option<Bytes>) {
        self.with(|state| {
            state.next_id += 1;
            let report = Report { id: state.next_id, pod, status, sent: false, again_at: None };
            state.acked.insert(report.pod.uid.clone(), Acked::Waiting);
            state.reports.insert(report.pod.uid.clone(), report);
        });
        self.ready.notify_one();
    }

    /// How far the pod's newest report has come.
    pub(crate) fn acked(&self, uid: &str) -> Acked {
        self.with(|state| state.acked.get(uid).copied().unwrap_or(Acked::Written))
    }

    /// Forgets a pod altogether.
    pub(crate) fn forget(&self, uid: &str) {
        self.with(|state| {
            state.reports.remove(uid);
            state.acked.remove(uid);
        });
    }

    pub(crate) fn node_status(&self, status: Bytes) {
        self.with(|state| state.node_status = Some(status));
        self.ready.notify_one();
    }

    pub(crate) fn event(&self, event: Bytes) {
        self.with(|state| {
            if state.events.len() >= EVENTS_WAITING_MAX {
                state.events.pop_front();
            }
            state.events.push_back(event);
        });
        self.ready.notify_one();
    }

    pub(crate) fn refuse_channel(&self, channel_id: String, status: Bytes) {
        self.with(|state| {
            if state.refused.len() >= EVENTS_WAITING_MAX {
                state.refused.pop_front();
            }
            state.refused.push_back(ChannelRefused { channel_id, status });
        });
        self.ready.notify_one();
    }

    pub(crate) fn ask_token(&self, ask: TokenAsk) -> (u64, oneshot::Receiver<TokenReply>) {
        let (answer, receiver) = oneshot::channel();
        let id = self.with(|state| {
            state.next_id += 1;
            let request = TokenRequest {
                id: state.next_id,
                namespace: ask.namespace,
                service_account: ask.service_account,
                audiences: ask.audiences,
                expiration_seconds: ask.expiration_seconds,
                pod_name: ask.pod_name,
                pod_uid: ask.pod_uid,
            };
            state.tokens.insert(state.next_id, (request, false, Some(answer)));
            state.next_id
        });
        self.ready.notify_one();
        (id, receiver)
    }

    pub(crate) fn forget_token(&self, id: u64) {
        self.with(|state| state.tokens.remove(&id));
    }

    pub(crate) fn token_reply(&self, reply: TokenReply) {
        let waiting = self.with(|state| state.tokens.remove(&reply.id));
        if let Some((_, _, Some(answer))) = waiting {
            let _ = answer.send(reply);
        }
    }

    /// A master's answer to a report. Says which pod should look again.
    pub(crate) fn ack(&self, ack: &StatusAck, now: Instant) -> Option<String> {
        self.with(|state| {
            let report = state.reports.values_mut().find(|report| report.id == ack.id)?;
            let uid = report.pod.uid.clone();
            if ack.gone || ack.error.is_empty() {
                let how = if ack.gone { Acked::Gone } else { Acked::Written };
                state.reports.remove(&uid);
                state.acked.insert(uid.clone(), how);
                return Some(uid);
            }
            report.sent = false;
            report.again_at = Some(now + STATUS_RETRY_AFTER);
            None
        })
    }

    /// The stream is gone: everything unacknowledged goes again.
    pub(crate) fn disconnected(&self) {
        self.with(|state| {
            for report in state.reports.values_mut() {
                report.sent = false;
                report.again_at = None;
            }
            state.refused.clear();
            for (_, sent, _) in state.tokens.values_mut() {
                *sent = false;
            }
        });
    }

    /// Waits for the next message to send.
    pub(crate) async fn next(&self) -> FromAgent {
        loop {
            let now = Instant::now();
            match self.with(|state| take(state, now)) {
                Ok(message) => return FromAgent { message: Some(message) },
                Err(until) => {
                    let until = until.unwrap_or(now + Duration::from_secs(3600));
                    tokio::select! {
                        () = self.ready.notified() => {}
                        () = tokio::time::sleep_until(until) => {}
                    }
                }
            }
        }
    }
}

/// The most urgent message, or when one will be due.
fn take(state: &mut State, now: Instant) -> Result<Message, Option<Instant>> {
    if let Some(refused) = state.refused.pop_front() {
        return Ok(Message::ChannelRefused(refused));
    }
    for (request, sent, _) in state.tokens.values_mut() {
        if !*sent {
            *sent = true;
            return Ok(Message::TokenRequest(request.clone()));
        }
    }
    let mut due: Option<Instant> = None;
    for report in state.reports.values_mut() {
        let at = report.again_at.unwrap_or(now);
        if at > now {
            due = Some(due.map_or(at, |old| old.min(at)));
            continue;
        }
        // A report that is neither acknowledged nor refused goes again, too.
        report.sent = true;
        report.again_at = Some(now + STATUS_RESEND_AFTER);
        let PodKey { namespace, name, uid } = report.pod.clone();
        let id = report.id;
        return Ok(match report.status.clone() {
            Some(status) => Message::PodStatus(PodStatus { id, namespace, name, uid, status }),
            None => Message::PodGone(PodGone { id, namespace, name, uid }),
        });
    }
    if let Some(status) = state.node_status.take() {
        return Ok(Message::NodeStatus(NodeStatus { status }));
    }
    if let Some(event) = state.events.pop_front() {
        return Ok(Message::Event(EventRecord { event }));
    }
    Err(due)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uid: &str) -> PodKey {
        PodKey { namespace: "ns".into(), name: "p".into(), uid: uid.into() }
    }

    async fn next_status(outbox: &Outbox) -> (u64, Bytes) {
        match outbox.next().await.message {
            Some(Message::PodStatus(status)) => (status.id, status.status),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn statuses_coalesce_and_are_sent_until_acknowledged() {
        let outbox = Outbox::default();
        outbox.report(key("u"), Some("old".into()));
        outbox.report(key("u"), Some("new".into()));
        let (id, status) = next_status(&outbox).await;
        assert_eq!(status, "new");
        // The stream breaks before the answer.
        outbox.disconnected();
        assert_eq!(next_status(&outbox).await, (id, Bytes::from("new")));
        // Refused: again after a while.
        let refused = StatusAck { id, error: "conflict".into(), gone: false };
        let before = Instant::now();
        outbox.ack(&refused, before);
        assert_eq!(next_status(&outbox).await.0, id);
        assert!(before.elapsed() >= STATUS_RETRY_AFTER);
        assert_eq!(outbox.acked("u"), Acked::Waiting);
        let written = StatusAck { id, ..Default::default() };
        assert_eq!(outbox.ack(&written, before), Some("u".to_owned()));
        assert_eq!(outbox.acked("u"), Acked::Written);
    }

    #[tokio::test]
    async fn events_are_bounded_and_the_oldest_go() {
        let outbox = Outbox::default();
        for n in 0..EVENTS_WAITING_MAX + 3 {
            outbox.event(n.to_string().into());
        }
        let first = outbox.next().await.message;
        assert_eq!(first, Some(Message::Event(EventRecord { event: "3".into() })));
    }
}
