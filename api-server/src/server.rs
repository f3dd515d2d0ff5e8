//! The API server as a whole: started from an [`ApiConfig`], drained at its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response};
use quorate_state_machine::View;
use quorate_store::{Consistency, Store};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Context, Webhooks};
use crate::authn::Authenticator;
use crate::authz::Authorizer;
use crate::bootstrap;
use crate::clock::Clock;
use crate::config::{ApiConfig, ClusterFacts};
use crate::identity::User;
use crate::in_flight::InFlight;
use crate::limits::DRAIN_TIMEOUT;
use crate::metrics::Metrics;
use crate::reply::Body;
use crate::serve::{self, Peer};
use crate::status_error::{self, Answer};
use crate::streams::PodStreams;
use crate::turns::Turns;
use crate::verb::fanout::Fanout;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The TLS material is of no use.
    #[error("TLS cannot be set up")]
    Tls(#[from] serve::TlsError),
    /// A service account key is of no use.
    #[error("service account keys cannot be used")]
    Keys(#[from] crate::authn::KeyError),
    /// A listener does not tell its address.
    #[error("a listener cannot be used")]
    Listener(#[source] std::io::Error),
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) facts: ClusterFacts,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) authenticator: Authenticator,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) in_flight: InFlight,
    pub(crate) metrics: Metrics,
    pub(crate) documents: Option<crate::config::Documents>,
    pub(crate) actions: Option<crate::config::Actions>,
    pub(crate) grpc: Option<tonic::service::Routes>,
    pub(crate) streams: Option<Arc<dyn PodStreams>>,
    pub(crate) fanout: Fanout,
    pub(crate) turns: Turns,
    pub(crate) webhooks: Arc<Webhooks>,
    /// Discovery and OpenAPI of custom kinds.
    pub(crate) published: crate::custom::Published,
    /// Addresses that may go to another machine.
    pub(crate) moving: serve::MovingAddresses,
    /// Watches and streams end when this does.
    pub(crate) stop: CancellationToken,
    /// Whether what every cluster begins with was seen once: nobody takes that back.
    begun: AtomicBool,
}

impl Shared {
    /// What admission looks at.
    pub(crate) fn context<'a>(&'a self, view: &'a View) -> Context<'a> {
        Context {
            view,
            facts: &self.facts,
            authorizer: &self.authorizer,
            webhooks: &self.webhooks,
            now: self.clock.now(),
        }
    }

    /// Whether what every cluster begins with (namespaces, default roles) is written.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed) || {
            let begun = bootstrap::has_begun(&self.store.view());
            self.begun.store(begun, Ordering::Relaxed);
            begun
        }
    }

    /// A view with everything that was acknowledged before the call.
    pub(crate) async fn newest(&self) -> Answer<Arc<View>> {
        let read = self.store.read(Consistency::Linearizable).await;
        read.map_err(|error| status_error::of_store(&error))
    }
}

/// A way into an API server for one user, without sockets.
#[derive(Clone)]
pub struct Door {
    shared: Arc<Shared>,
    peer: Peer,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Door {
    /// Answers a request.
    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        self.shared.clone().answer(self.peer.clone(), request).await
    }

    /// Serves a connection that is open already.
    pub async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let stop = self.shared.stop.clone();
        serve::converse(stream, self.peer, self.shared, serve::Ends::with(stop)).await;
    }
}

/// A running API server.
pub struct ApiServer {
    pub(crate) shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    tls: Option<serve::Tls>,
    tasks: TaskTracker,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Starts serving. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] when keys, certificates or listeners cannot be used.
    pub fn start(config: ApiConfig) -> Result<Self, StartError> {
        let ApiConfig { store, listeners, tls, keys, facts, clock, grpc, mut extras, streams } =
            config;
        let authenticator =
            Authenticator::new(store.clone(), &keys, facts.issuer.clone(), clock.clone())?;
        let stop = CancellationToken::new();
        let webhooks = Arc::new(Webhooks::new(store.clone(), streams.clone()));
        webhooks.register(&mut extras.registry);
        let shared = Arc::new(Shared {
            authorizer: Arc::new(Authorizer::new(store.clone())),
            store,
            facts,
            clock,
            authenticator,
            in_flight: InFlight::default(),
            metrics: Metrics::new(extras.registry),
            documents: extras.documents,
            actions: extras.actions,
            grpc,
            streams,
            fanout: Fanout::default(),
            turns: Turns::default(),
            webhooks,
            published: crate::custom::Published::default(),
            moving: serve::MovingAddresses::default(),
            stop: stop.clone(),
            begun: AtomicBool::new(false),
        });
        let tasks = TaskTracker::new();
        let mut addresses = Vec::new();
        let tls = tls.map(|material| serve::Tls::new(&material)).transpose()?;
        if !listeners.is_empty() {
            let tls = tls.as_ref().ok_or(serve::TlsError::Missing)?;
            for listener in listeners {
                addresses.push(listener.local_addr().map_err(StartError::Listener)?);
                tasks.spawn(serve::listen(
                    listener,
                    tls.clone(),
                    shared.clone(),
                    stop.clone(),
                    tasks.clone(),
                ));
            }
        }
        Ok(Self { shared, addresses, tls, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What the listeners are served with, to be renewed while they are; `None` without listeners.
    #[must_use]
    pub fn tls(&self) -> Option<serve::Tls> {
        self.tls.clone()
    }

    /// Addresses that may go to another machine, with who is connected there.
    #[must_use]
    pub fn moving_addresses(&self) -> serve::MovingAddresses {
        self.shared.moving.clone()
    }

    /// Answers one request without a socket: anonymous unless it carries a bearer token. For tests.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        self.shared.clone().answer(Peer::default(), request).await
    }

    /// A way in for a user for whom the caller vouches: where there are no sockets.
    #[must_use]
    pub fn door(&self, user: User) -> Door {
        Door { shared: self.shared.clone(), peer: Peer::vouched(user) }
    }

    /// Whether what every cluster begins with (namespaces, default roles) is written, as far as this
    /// master has heard.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.shared.has_begun()
    }

    /// How controllers' writes become operations.
    #[must_use]
    pub fn admit(&self) -> Arc<crate::admit::ControllerAdmit> {
        Arc::new(crate::admit::ControllerAdmit::new(
            self.shared.store.clone(),
            self.shared.facts.clone(),
            self.shared.clock.clone(),
            self.shared.webhooks.clone(),
        ))
    }

    /// Issues a token for a service account as its `token` subresource would: for node agents'
    /// pods.
    ///
    /// # Errors
    /// The `Status` that the HTTP request would have got.
    pub async fn issue_token(
        &self,
        request: crate::authn::TokenOrder,
    ) -> Result<crate::authn::IssuedToken, crate::status_error::Refusal> {
        self.shared.authenticator.issue(&request).await
    }

    /// Stops taking connections, ends watches and streams, waits for requests in progress (at most
    /// [`DRAIN_TIMEOUT`]).
    pub async fn shutdown(self) {
        self.shared.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("requests were still in progress at the end of the drain");
        }
    }
}
