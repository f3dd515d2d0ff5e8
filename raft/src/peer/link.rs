//! Ways between masters: HTTP/2 over mutual TLS on the machine's own network, or whatever another
//! [`Network`] makes of the same requests.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use quorate_proto::raft::raft_server::RaftServer;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::ServiceExt as _;

use super::client::NotConnected;
use super::past::Past;
use super::server::{Inbound, PeerIdentity, Presence as Open};
use super::service::Service;
use crate::limits::PEER_MESSAGE_BYTES_MAX;
use crate::types::NodeId;

/// A request to another master, as gRPC puts it.
pub type PeerRequest = http::Request<Body>;
/// Its answer.
pub type PeerResponse = http::Response<Body>;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undelivered {
    /// There is no connection: nothing was delivered.
    NotConnected,
    /// The connection broke; the request may have arrived.
    Broken,
}

/// Carries requests between masters in place of TCP and TLS.
pub trait Network: Debug + Send + Sync + 'static {
    /// Carries a request to the master at the address, and its answer back.
    fn carry(
        &self,
        to: NodeId,
        address: &str,
        request: PeerRequest,
    ) -> BoxFuture<'static, Result<PeerResponse, Undelivered>>;

    /// Gives this master's requests to the service, from now on.
    fn serve(&self, service: PeerService);
}

/// Answers what other masters ask this one.
#[derive(Clone)]
pub struct PeerService {
    server: RaftServer<Service>,
    inbound: Arc<Inbound>,
}

impl Debug for PeerService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerService").finish_non_exhaustive()
    }
}

/// An open connection of another master to this one, until it is dropped. A leader whose connections
/// all break has most likely died.
#[derive(Debug)]
pub struct Presence(#[expect(dead_code, reason = "held, not read")] Open);

/// The service with its limits.
pub(crate) fn server(service: Service) -> RaftServer<Service> {
    RaftServer::new(service)
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
}

impl PeerService {
    pub(crate) fn new(service: Service, inbound: Arc<Inbound>) -> Self {
        Self { server: server(service), inbound }
    }

    /// A connection from another master stands.
    #[must_use]
    pub fn connected(&self, from: NodeId) -> Presence {
        Presence(self.inbound.add(from))
    }

    /// Answers one request of another master.
    pub async fn answer(&self, from: NodeId, mut request: PeerRequest) -> PeerResponse {
        request.extensions_mut().insert(PeerIdentity(from));
        match self.server.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

/// The way to one master.
#[derive(Clone)]
pub(crate) struct PeerChannel {
    pub(crate) way: Way,
    pub(crate) to: NodeId,
    /// Goes with each request, and looks at each answer.
    pub(crate) past: Arc<Past>,
    /// What is known of all others is passed on.
    pub(crate) gossips: bool,
}

#[derive(Clone)]
pub(crate) enum Way {
    Tcp(Channel),
    Made { network: Arc<dyn Network>, address: Arc<str> },
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl tower::Service<PeerRequest> for PeerChannel {
    type Response = PeerResponse;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<PeerResponse, Failed>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        match &mut self.way {
            Way::Tcp(channel) => channel.poll_ready(cx).map_err(Into::into),
            Way::Made { .. } => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, mut request: PeerRequest) -> Self::Future {
        let (past, to) = (self.past.clone(), self.to);
        past.tell(to, self.gossips, request.headers_mut());
        let answer: Self::Future = match &mut self.way {
            Way::Tcp(channel) => {
                let answer = channel.call(request);
                Box::pin(async move { answer.await.map_err(Into::into) })
            }
            Way::Made { network, address } => {
                let (answer, address) = (network.carry(to, address, request), address.clone());
                Box::pin(async move {
                    answer.await.map_err(|why| match why {
                        Undelivered::NotConnected => {
                            NotConnected::new(&address, "the network has no way there").into()
                        }
                        Undelivered::Broken => "the connection broke".into(),
                    })
                })
            }
        };
        Box::pin(async move {
            let answer = answer.await?;
            past.answered(to, answer.headers())?;
            Ok(answer)
        })
    }
}
