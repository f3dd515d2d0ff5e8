//! One agent's control stream.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_proto::agent::from_agent::Message as Up;
use quorate_proto::agent::to_agent::Message as Down;
use quorate_proto::agent::{
    Credentials, FromAgent, HeartbeatAck, Hello, Masters, ObjectChange, StatusAck, Synced, ToAgent,
    TokenReply, Welcome,
};
use quorate_state_machine::{ObjectKey, Revision};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::channel::ChannelError;
use super::desired::{Desired, Dirty};
use super::hub::{HEARTBEAT_INTERVAL, Inner, down};
use super::registration;
use super::statuses::{Answered, Report, Written};
use crate::authn::CertificateFacts;
use crate::limits::{AGENT_IDLE_TIMEOUT, AGENT_REQUESTS_MAX};

/// See the module.
pub(super) struct Session {
    pub(super) node: String,
    /// Ends the stream: the node has another one, or this master stops.
    pub(super) end: CancellationToken,
    /// What its certificate says.
    pub(super) certificate: Option<CertificateFacts>,
    out: mpsc::Sender<Result<ToAgent, Status>>,
    dirty: Mutex<Dirty>,
    wake: Notify,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(
        node: &str,
        out: mpsc::Sender<Result<ToAgent, Status>>,
        end: CancellationToken,
        certificate: Option<CertificateFacts>,
    ) -> Self {
        let dirty = Mutex::default();
        Self { node: node.to_owned(), end, certificate, out, dirty, wake: Notify::new() }
    }

    /// Sends one message down, waiting while the agent does not keep up. `false` when the stream has
    /// ended.
    pub(super) async fn send(&self, message: Down) -> bool {
        tokio::select! {
            sent = self.out.send(Ok(down(message))) => sent.is_ok(),
            () = self.end.cancelled() => false,
        }
    }

    /// Notes what the node must hear of.
    pub(super) fn mark(&self, mark: impl FnOnce(&mut Dirty)) {
        mark(&mut self.dirty.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    fn take_dirty(&self) -> Dirty {
        std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Serves a stream from its Hello to its end.
pub(super) async fn serve(
    inner: Arc<Inner>,
    session: Arc<Session>,
    hello: Hello,
    up: Streaming<FromAgent>,
) {
    let node = session.node.clone();
    inner.liveness.note(&node, &inner.master, Duration::ZERO);
    if let Err(error) = introduce(&inner, &session, &hello).await {
        tracing::warn!(%node, %error, "node could not be registered");
        drop(session.out.send(Err(Status::unavailable(error))).await);
        return;
    }
    tracing::info!(%node, version = %hello.agent_version, "node connected");
    inner.connect(&session);
    tokio::select! {
        () = tell(&inner, &session, &hello) => {}
        () = hear(&inner, &session, up) => {}
        () = session.end.cancelled() => {}
        () = inner.stop.cancelled() => {}
    }
    inner.disconnect(&session);
    session.end.cancel();
    tracing::info!(%node, "node disconnected");
}

async fn introduce(inner: &Inner, session: &Session, hello: &Hello) -> Result<(), String> {
    registration::register(inner, &session.node, &hello.node).await?;
    let said: serde_json::Value =
        serde_json::from_slice(&hello.node).map_err(|error| error.to_string())?;
    if said["status"].is_null() {
        return Ok(());
    }
    let status = said["status"].to_string();
    let reports = inner.reports().ok_or("this master is starting")?;
    let report = Report::Node { status: status.into() };
    match reports.queue(&session.node, report).await.wait().await {
        Written::Done => Ok(()),
        Written::Gone => Err("the Node object was deleted just now".to_owned()),
        Written::Refused(why) => Err(why),
    }
}

/// Sends the node what it is to run, as that changes.
async fn tell(inner: &Inner, session: &Session, hello: &Hello) {
    let mut desired = Desired::new(&session.node);
    // What changes from here on is marked; the view comes after, so nothing is missed.
    session.take_dirty();
    if let Err(error) = inner.store.in_service() {
        drop(session.out.send(Err(Status::unavailable(error.to_string()))).await);
        return;
    }
    let view = inner.store.view();
    let resumed = (hello.resume_revision > 0)
        .then(|| desired.since(&view, Revision(hello.resume_revision)))
        .flatten();
    let welcome = Welcome {
        cluster_id: inner.cluster_id.clone(),
        master_name: inner.master.clone(),
        heartbeat_interval_ms: u32::try_from(HEARTBEAT_INTERVAL.as_millis()).unwrap_or(1000),
        full_sync: resumed.is_none(),
        masters: inner.masters.borrow().clone(),
        cluster_domain: inner.cluster_domain.clone(),
        cluster_dns: inner.cluster_dns.clone(),
        credentials_mark: inner.credentials(),
    };
    if !session.send(Down::Welcome(welcome)).await {
        return;
    }
    let changes = resumed.unwrap_or_else(|| desired.everything(&view));
    if !send_changes(session, changes, view.revision()).await {
        return;
    }
    loop {
        session.wake.notified().await;
        let dirty = session.take_dirty();
        if dirty.is_empty() {
            continue;
        }
        let view = inner.store.view();
        if dirty.all {
            // The history does not tell what went away: the agent gets the whole set anew.
            drop(session.out.send(Err(Status::aborted("history compacted: sync again"))).await);
            return;
        }
        if dirty.masters {
            let urls = inner.masters.borrow().clone();
            if !session.send(Down::Masters(Masters { urls })).await {
                return;
            }
        }
        if dirty.credentials {
            let mark = inner.credentials();
            if !session.send(Down::Credentials(Credentials { mark })).await {
                return;
            }
        }
        let changes = desired.changes(&view, &dirty);
        if !changes.is_empty() && !send_changes(session, changes, view.revision()).await {
            return;
        }
    }
}

async fn send_changes(session: &Session, changes: Vec<ObjectChange>, at: Revision) -> bool {
    for change in changes {
        if !session.send(Down::Change(change)).await {
            return false;
        }
    }
    session.send(Down::Synced(Synced { revision: at.0 })).await
}

/// Takes what the node says until it is silent for too long.
async fn hear(inner: &Arc<Inner>, session: &Arc<Session>, mut up: Streaming<FromAgent>) {
    let slots = Arc::new(Semaphore::new(AGENT_REQUESTS_MAX));
    loop {
        let message = match tokio::time::timeout(AGENT_IDLE_TIMEOUT, up.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return,
            Ok(Err(status)) => {
                tracing::debug!(node = %session.node, %status, "the node's stream broke");
                return;
            }
            Err(_) => {
                tracing::warn!(node = %session.node, "nothing was heard of the node for too long");
                return;
            }
        };
        inner.liveness.note(&session.node, &inner.master, Duration::ZERO);
        let Some(message) = message.message else { continue };
        if let Up::Heartbeat(heartbeat) = message {
            session.send(Down::HeartbeatAck(HeartbeatAck { sequence: heartbeat.sequence })).await;
            continue;
        }
        // Reports are queued in order and written side by side, so that they share proposals.
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let work = take(inner, session, message).await;
        let (inner, session) = (inner.clone(), session.clone());
        inner.clone().tasks.spawn(async move {
            tokio::select! {
                () = answer(&inner, &session, work) => {}
                () = inner.stop.cancelled() => {}
            }
            drop(slot);
        });
    }
}

/// What is left to do about a message.
enum Work {
    Nothing,
    Acknowledge(u64, Answered),
    Token(quorate_proto::agent::TokenRequest),
}

async fn take(inner: &Inner, session: &Session, message: Up) -> Work {
    let (id, report) = match message {
        Up::Hello(_) | Up::Heartbeat(_) => return Work::Nothing,
        Up::NodeStatus(said) => (0, Report::Node { status: said.status }),
        Up::PodStatus(said) => {
            let key = ObjectKey::new(&said.namespace, &said.name);
            (said.id, Report::Pod { key, uid: said.uid, status: said.status })
        }
        Up::PodGone(said) => {
            let key = ObjectKey::new(&said.namespace, &said.name);
            (said.id, Report::PodGone { key, uid: said.uid })
        }
        Up::Event(said) => {
            if let Some(events) = inner.events() {
                events.tell(&session.node, said.event);
            }
            return Work::Nothing;
        }
        Up::TokenRequest(asked) => return Work::Token(asked),
        Up::ChannelRefused(refused) => {
            let error = ChannelError::Refused(refused.status.to_vec());
            inner.waiting.answer(&refused.channel_id, &session.node, Err(error));
            return Work::Nothing;
        }
    };
    match inner.reports() {
        Some(reports) => Work::Acknowledge(id, reports.queue(&session.node, report).await),
        None => Work::Nothing,
    }
}

async fn answer(inner: &Inner, session: &Session, work: Work) {
    match work {
        Work::Nothing => {}
        Work::Acknowledge(id, answered) => acknowledge(session, id, answered.wait().await).await,
        Work::Token(asked) => {
            let Some(late) = inner.late() else { return };
            let id = asked.id;
            let reply = match late.tokens.issue(&session.node, &asked).await {
                Ok((token, expiration)) => {
                    TokenReply { id, token, expiration, ..TokenReply::default() }
                }
                Err(status) => TokenReply { id, error: status.into(), ..TokenReply::default() },
            };
            session.send(Down::TokenReply(reply)).await;
        }
    }
}

async fn acknowledge(session: &Session, id: u64, written: Written) {
    if id == 0 {
        if let Written::Refused(why) = written {
            tracing::debug!(node = %session.node, %why, "the node's status was not written");
        }
        return;
    }
    let ack = match written {
        Written::Done => StatusAck { id, error: String::new(), gone: false },
        Written::Gone => StatusAck { id, error: String::new(), gone: true },
        Written::Refused(error) => StatusAck { id, error, gone: false },
    };
    session.send(Down::Ack(ack)).await;
}
