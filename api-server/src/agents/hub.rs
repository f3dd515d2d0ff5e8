//! The agents that are connected to this master.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use quorate_proto::agent::to_agent::Message;
use quorate_proto::agent::{ObjectKind, OpenChannel, ToAgent};
use quorate_state_machine::Revision;
use quorate_store::clock::Clock;
use quorate_store::{Admit, Consistency, Store};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::channel::{Channel, ChannelError, Waiting};
use super::desired::{KINDS, node_of, resource_of};
use super::events::Events;
use super::liveness::Liveness;
use super::proxy::MasterDialer;
use super::session::Session;
use super::statuses::Reports;
use crate::authn::CertificateFacts;
use crate::limits::{
    CHANNEL_OPEN_TIMEOUT, CHANNELS_WAITING_MAX, QUORUM_CHECK_INTERVAL, QUORUM_LOST_AFTER,
};

/// Issues tokens for nodes' pods.
#[async_trait]
pub trait TokenIssuer: Send + Sync + 'static {
    /// A bound token for a pod that is bound to `node`, with its expiry as RFC 3339.
    ///
    /// # Errors
    /// The `Status` as JSON.
    async fn issue(
        &self,
        node: &str,
        request: &quorate_proto::agent::TokenRequest,
    ) -> Result<(String, String), Vec<u8>>;
}

/// What a hub is made of.
#[derive(Debug)]
pub struct HubConfig {
    /// The replicated store.
    pub store: Store,
    /// Wall time.
    pub clock: Clock,
    /// Names the cluster.
    pub cluster_id: String,
    /// Name of this master.
    pub master: String,
    /// API URLs of all masters, as they change.
    pub masters: watch::Receiver<Vec<String>>,
    /// Suffix of service names.
    pub cluster_domain: String,
    /// Addresses of the cluster's DNS, for pods' resolv.conf.
    pub cluster_dns: Vec<String>,
}

/// What exists only once the API server runs.
pub(super) struct Late {
    pub(super) admit: Arc<dyn Admit>,
    pub(super) tokens: Arc<dyn TokenIssuer>,
}

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) cluster_id: String,
    pub(super) master: String,
    pub(super) masters: watch::Receiver<Vec<String>>,
    pub(super) cluster_domain: String,
    pub(super) cluster_dns: Vec<String>,
    pub(super) liveness: Liveness,
    pub(super) waiting: Waiting,
    pub(super) stop: CancellationToken,
    /// Cancelled before `stop`: who serves a client knows why its node's end of the stream is gone.
    leaving: CancellationToken,
    /// Everything that is started here; empty once the hub has stopped.
    pub(super) tasks: TaskTracker,
    late: OnceLock<Late>,
    dialer: OnceLock<Arc<dyn MasterDialer>>,
    reports: OnceLock<Reports>,
    events: OnceLock<Events>,
    sessions: Mutex<BTreeMap<String, Arc<Session>>>,
    /// See [`AgentHub::credentials_are`].
    credentials: AtomicU64,
    /// A node has connected.
    pub(super) came: Notify,
}

impl Inner {
    pub(super) fn late(&self) -> Option<&Late> {
        self.late.get()
    }

    pub(super) fn reports(&self) -> Option<&Reports> {
        self.reports.get()
    }

    pub(super) fn events(&self) -> Option<&Events> {
        self.events.get()
    }

    /// A node's stream begins; an older one of the same node ends.
    pub(super) fn connect(&self, session: &Arc<Session>) {
        let before = self.sessions().insert(session.node.clone(), session.clone());
        if let Some(before) = before {
            before.end.cancel();
        }
        self.came.notify_one();
    }

    /// A node's stream has ended.
    pub(super) fn disconnect(&self, session: &Arc<Session>) {
        let mut sessions = self.sessions();
        if sessions.get(&session.node).is_some_and(|current| Arc::ptr_eq(current, session)) {
            sessions.remove(&session.node);
        }
    }

    /// See [`AgentHub::credentials_are`].
    pub(super) fn credentials(&self) -> u64 {
        self.credentials.load(Ordering::Acquire)
    }

    /// Nodes whose streams are here, in order.
    pub(super) fn connected(&self) -> Vec<String> {
        self.sessions().keys().cloned().collect()
    }

    pub(super) fn session(&self, node: &str) -> Option<Arc<Session>> {
        self.sessions().get(node).cloned()
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct AgentHub {
    pub(super) inner: Arc<Inner>,
}

impl fmt::Debug for AgentHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentHub").field("master", &self.inner.master).finish_non_exhaustive()
    }
}

impl AgentHub {
    /// A hub; it serves once [`AgentHub::ready`] was called. Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(config: HubConfig) -> Self {
        let HubConfig { store, clock, cluster_id, master, masters, cluster_domain, cluster_dns } =
            config;
        let inner = Arc::new(Inner {
            store,
            clock,
            cluster_id,
            master,
            masters,
            cluster_domain,
            cluster_dns,
            liveness: Liveness::default(),
            waiting: Waiting::default(),
            stop: CancellationToken::new(),
            leaving: CancellationToken::new(),
            tasks: TaskTracker::new(),
            late: OnceLock::new(),
            dialer: OnceLock::new(),
            reports: OnceLock::new(),
            events: OnceLock::new(),
            sessions: Mutex::default(),
            credentials: AtomicU64::new(0),
            came: Notify::new(),
        });
        drop(inner.reports.set(Reports::start(&inner)));
        drop(inner.events.set(Events::start(&inner)));
        inner.tasks.spawn(follow_store(inner.clone()));
        inner.tasks.spawn(follow_masters(inner.clone()));
        inner.tasks.spawn(follow_quorum(inner.clone()));
        inner.tasks.spawn(super::leases::keep(inner.clone()));
        Self { inner }
    }

    /// Gives the hub what exists only once the API server runs. Streams that come before are told to
    /// come again.
    pub fn ready(&self, admit: Arc<dyn Admit>, tokens: Arc<dyn TokenIssuer>) {
        drop(self.inner.late.set(Late { admit, tokens }));
    }

    /// How other masters are reached, for clients of nodes whose streams are there. Without it such
    /// clients are told that the node is not connected.
    pub fn dial_masters_with(&self, dialer: Arc<dyn MasterDialer>) {
        drop(self.inner.dialer.set(dialer));
    }

    /// Under which mark certificates are made now; agents whose own are older ask for others. 0: they are told nothing.
    pub fn credentials_are(&self, mark: u64) {
        if self.inner.credentials.swap(mark, Ordering::AcqRel) != mark {
            for session in self.inner.sessions().values() {
                session.mark(|dirty| dirty.credentials = true);
            }
        }
    }

    /// The nodes whose streams are on this master, each with what its certificate said when the stream began.
    #[must_use]
    pub fn certificates(&self) -> Vec<(String, Option<CertificateFacts>)> {
        let sessions = self.inner.sessions();
        sessions.iter().map(|(node, held)| (node.clone(), held.certificate.clone())).collect()
    }

    /// Name of this master.
    #[must_use]
    pub fn master(&self) -> &str {
        &self.inner.master
    }

    /// Heartbeats, as far as known here.
    #[must_use]
    pub fn liveness(&self) -> &Liveness {
        &self.inner.liveness
    }

    /// Whether a node's stream is on this master.
    #[must_use]
    pub fn holds(&self, node: &str) -> bool {
        self.inner.session(node).is_some()
    }

    /// Names of the nodes whose streams are on this master.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        self.inner.connected()
    }

    /// Asks a node that is connected to this master to open a channel, and waits for it
    /// ([`CHANNEL_OPEN_TIMEOUT`] at most). `request.channel_id` is chosen here.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub async fn open(&self, node: &str, request: OpenChannel) -> Result<Channel, ChannelError> {
        let not_connected = || ChannelError::NotConnected(node.to_owned());
        let session = self.inner.session(node).ok_or_else(not_connected)?;
        let id = format!("{:032x}", u128::from_le_bytes(quorate_chance::bytes()));
        let mut expected = self.inner.waiting.expect(&id, node, CHANNELS_WAITING_MAX)?;
        let message = Message::OpenChannel(OpenChannel { channel_id: id.clone(), ..request });
        let waiting = async {
            if !session.send(message).await {
                return Err(not_connected());
            }
            tokio::select! {
                opened = expected.opened() => opened.unwrap_or_else(|| Err(not_connected())),
                // Its node has left, or moved.
                () = session.end.cancelled() => Err(not_connected()),
            }
        };
        let opened = tokio::time::timeout(CHANNEL_OPEN_TIMEOUT, waiting).await;
        opened.unwrap_or_else(|_| Err(ChannelError::Timeout(node.to_owned())))
    }

    /// Ends all streams; agents go to another master.
    pub fn stop(&self) {
        self.inner.leaving.cancel();
        self.inner.stop.cancel();
        self.inner.tasks.close();
    }

    /// Waits until everything that was started here has ended, after [`AgentHub::stop`].
    pub async fn stopped(&self) {
        self.inner.tasks.wait().await;
    }

    /// Ends with the hub, or when it is cancelled itself.
    pub(crate) fn end_token(&self) -> CancellationToken {
        self.inner.leaving.child_token()
    }

    /// What runs for this hub's clients.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    pub(super) fn dialer(&self) -> Option<&Arc<dyn MasterDialer>> {
        self.inner.dialer.get()
    }
}

/// Tells each stream what of the store concerns its node.
async fn follow_store(inner: Arc<Inner>) {
    let mut published = inner.store.published();
    let mut seen = inner.store.view().revision();
    loop {
        tokio::select! {
            changed = published.changed() => if changed.is_err() { return },
            () = inner.stop.cancelled() => return,
        }
        if inner.store.in_service().is_err() {
            // What they were told may not be true: they begin anew, at another master.
            inner.sessions().values().for_each(|session| session.mark(|dirty| dirty.all = true));
            continue;
        }
        let view = inner.store.view();
        if view.revision() == seen {
            continue;
        }
        let sessions = inner.sessions().clone();
        if !sessions.is_empty() {
            for (kind, ..) in KINDS {
                dispatch(&sessions, &view, kind, seen);
            }
        }
        seen = view.revision();
    }
}

fn dispatch(
    sessions: &BTreeMap<String, Arc<Session>>,
    view: &quorate_state_machine::View,
    kind: ObjectKind,
    seen: Revision,
) {
    let resource = resource_of(kind as i32);
    let Some(resource) = resource.and_then(|resource| view.resource(&resource)) else { return };
    let Ok(changes) = resource.changes_after(seen) else {
        // Far behind: everybody looks at everything.
        sessions.values().for_each(|session| session.mark(|dirty| dirty.all = true));
        return;
    };
    for change in changes {
        let key = &change.key().object;
        match kind {
            ObjectKind::Pod => {
                // A pod never changes nodes, but its name may come back on another one.
                let versions = [change.previous.as_ref(), change.current.as_ref()];
                for node in versions.into_iter().flatten().filter_map(node_of) {
                    if let Some(session) = sessions.get(&node) {
                        session.mark(|dirty| {
                            dirty.pods.insert(key.clone());
                        });
                    }
                }
            }
            // A node hears of itself alone.
            ObjectKind::Node => {
                if let Some(session) = sessions.get(&*key.name) {
                    session.mark(|dirty| {
                        dirty.others.insert((kind as i32, key.clone()));
                    });
                }
            }
            _ => {
                for session in sessions.values() {
                    session.mark(|dirty| {
                        dirty.others.insert((kind as i32, key.clone()));
                    });
                }
            }
        }
    }
}

/// Tells the agents which masters there are.
async fn follow_masters(inner: Arc<Inner>) {
    let mut masters = inner.masters.clone();
    loop {
        tokio::select! {
            changed = masters.changed() => if changed.is_err() { return },
            () = inner.stop.cancelled() => return,
        }
        masters.mark_unchanged();
        for session in inner.sessions().values() {
            session.mark(|dirty| dirty.masters = true);
        }
    }
}

/// Ends the streams of a master that is cut off from the others.
async fn follow_quorum(inner: Arc<Inner>) {
    let mut interval = tokio::time::interval(QUORUM_CHECK_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reached = Instant::now();
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = inner.stop.cancelled() => return,
        }
        if inner.sessions().is_empty() {
            reached = Instant::now();
            continue;
        }
        match inner.store.read_within(Consistency::Linearizable, QUORUM_CHECK_INTERVAL).await {
            Ok(_) => reached = Instant::now(),
            Err(error) if reached.elapsed() >= QUORUM_LOST_AFTER => {
                tracing::warn!(%error, "no quorum: the nodes are sent to other masters");
                for session in inner.sessions().values() {
                    session.end.cancel();
                }
            }
            Err(_) => {}
        }
    }
}

/// One message down.
pub(super) fn down(message: Message) -> ToAgent {
    ToAgent { message: Some(message) }
}

/// How often an agent says that it lives.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
