//! Connections this master opened to others: made when first used, made again when broken, one for
//! each purpose so that a large transfer never delays a heartbeat.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::rt::TokioIo;
use quorate_proto::raft::raft_client::RaftClient;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Endpoint, Uri};

use super::link::{Network, PeerChannel, Way};
use super::past::Past;
use super::tls::Tls;
use crate::limits::{
    PEER_CONNECT_MAX, PEER_KEEPALIVE_INTERVAL, PEER_KEEPALIVE_TIMEOUT, PEER_MESSAGE_BYTES_MAX,
    PEER_UNACKED_MAX,
};
use crate::types::NodeId;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Votes and heartbeats.
    Pulse,
    /// Log entries.
    Log,
    /// Snapshots.
    Snapshot,
    /// Reads, probes and the store's calls.
    Call,
}

/// Where a master connects to instead of another's address. For tests that put a faulty network in
/// between.
pub type Route = Arc<dyn Fn(NodeId, &str) -> String + Send + Sync>;

/// All connections of this master.
#[derive(Clone)]
pub(crate) struct Peers {
    tls: Arc<Tls>,
    past: Arc<Past>,
    route: Option<Route>,
    /// Another network than the machine's.
    network: Option<Arc<dyn Network>>,
    open: Arc<Mutex<BTreeMap<(NodeId, Purpose), Open>>>,
    /// Where the members are now. Raft's own clients keep the address they were made with.
    addresses: Arc<Mutex<BTreeMap<NodeId, String>>>,
}

/// A connection and the address it goes to.
type Open = (String, PeerChannel);

/// There is no connection, so nothing was delivered. Only the connector makes this: the same kinds of
/// I/O errors come from connections that break later, when a request may have arrived.
#[derive(Debug, thiserror::Error)]
#[error("no connection to {address}: {problem}")]
pub(crate) struct NotConnected {
    address: String,
    problem: String,
}

impl NotConnected {
    pub(crate) fn new(address: &str, problem: &str) -> Self {
        Self { address: address.to_owned(), problem: problem.to_owned() }
    }
}

impl Peers {
    pub(crate) fn new(
        tls: Arc<Tls>,
        past: Arc<Past>,
        route: Option<Route>,
        network: Option<Arc<dyn Network>>,
    ) -> Self {
        Self { tls, past, route, network, open: Arc::default(), addresses: Arc::default() }
    }

    pub(crate) fn tls(&self) -> Arc<Tls> {
        self.tls.clone()
    }

    pub(crate) fn own_id(&self) -> NodeId {
        self.tls.identity.node_id
    }

    /// A client for one master. Does not wait: connecting happens with the first request.
    pub(crate) fn client(
        &self,
        node: NodeId,
        address: &str,
        purpose: Purpose,
    ) -> RaftClient<PeerChannel> {
        let now = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned();
        let address = now.as_deref().unwrap_or(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.get(&(node, purpose)).filter(|(known, _)| known == address);
        let channel = match known {
            Some((_, channel)) => channel.clone(),
            None => {
                let way = self.connect_lazily(node, address.to_owned());
                let gossips = purpose == Purpose::Pulse;
                let channel = PeerChannel { way, to: node, past: self.past.clone(), gossips };
                open.insert((node, purpose), (address.to_owned(), channel.clone()));
                channel
            }
        };
        RaftClient::new(channel)
            .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
    }

    /// Takes over where the members are; closes the connections to masters that are none any more.
    pub(crate) fn follow(&self, members: BTreeMap<NodeId, String>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(node, _), _| members.contains_key(node));
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = members;
    }

    fn connect_lazily(&self, node: NodeId, address: String) -> Way {
        if let Some(network) = self.network.clone() {
            return Way::Made { network, address: address.into() };
        }
        let tls = self.tls.clone();
        let address =
            self.route.as_ref().map_or_else(|| address.clone(), |route| route(node, &address));
        // The connector below decides where to; HTTP only needs a name to show.
        let channel = Endpoint::from_static("http://master.quorate.internal")
            .connect_timeout(PEER_CONNECT_MAX)
            .http2_keep_alive_interval(PEER_KEEPALIVE_INTERVAL)
            .keep_alive_timeout(PEER_KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 * 1024 * 1024)
            .initial_connection_window_size(8 * 1024 * 1024)
            .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                let (tls, address) = (tls.clone(), address.clone());
                async move {
                    let connected = connect(&tls, node, &address).await;
                    connected.map(TokioIo::new).map_err(|error| {
                        let (kind, problem) = (error.kind(), error.to_string());
                        io::Error::new(kind, NotConnected { address, problem })
                    })
                }
            }));
        Way::Tcp(channel)
    }
}

async fn connect(
    tls: &Tls,
    node: NodeId,
    address: &str,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    if node == tls.identity.node_id {
        return Err(io::Error::other("a master does not connect to itself"));
    }
    let handshake = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let unacked_max = u32::try_from(PEER_UNACKED_MAX.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(&stream, unacked_max)?;
        TlsConnector::from(tls.client()).connect(Tls::server_name(), stream).await
    };
    let stream = timeout(PEER_CONNECT_MAX, handshake)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it took too long"))??;
    tls.check(stream.get_ref().1.peer_certificates(), Some(node)).map_err(|problem| {
        tracing::warn!(%node, address, problem, "refused a peer");
        io::Error::new(io::ErrorKind::PermissionDenied, problem)
    })?;
    Ok(stream)
}
