//! The peer listener: handshake with deadline, identity check, then gRPC on the connection. It
//! also knows which masters have a connection open to here, because a leader whose connections
//! all break has most likely died.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::link;
use super::service::Service;
use super::tls::Tls;
use crate::limits::{
    PEER_CONNECT_MAX, PEER_HANDSHAKES_MAX, PEER_KEEPALIVE_INTERVAL, PEER_KEEPALIVE_TIMEOUT,
    PEER_STREAMS_MAX,
};
use crate::types::NodeId;

/// The master at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerIdentity(pub(crate) NodeId);

/// How many connections each master has open to here.
#[derive(Debug)]
pub(crate) struct Inbound {
    counts: Mutex<BTreeMap<NodeId, usize>>,
    /// When a leader last sent entries, or a heartbeat.
    led: Mutex<Option<Instant>>,
    /// Changes when the last connection of a master broke.
    pub(crate) lost: watch::Sender<(u64, Option<NodeId>)>,
}

impl Inbound {
    pub(crate) fn new() -> Self {
        Self {
            counts: Mutex::default(),
            led: Mutex::default(),
            lost: watch::Sender::new((0, None)),
        }
    }

    /// A connection of this master is open, until what is given is dropped.
    pub(crate) fn add(self: &Arc<Self>, node: NodeId) -> Presence {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(node).or_default() += 1;
        Presence { inbound: self.clone(), node }
    }

    /// A leader has sent entries, or a heartbeat.
    pub(crate) fn is_led(&self) {
        *self.led.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// When a leader last sent anything; `None` when none ever has.
    pub(crate) fn led_at(&self) -> Option<Instant> {
        *self.led.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this master has a connection open.
    pub(crate) fn present(&self, node: NodeId) -> bool {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&node)
            .is_some_and(|n| *n > 0)
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Presence {
    inbound: Arc<Inbound>,
    node: NodeId,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let last = {
            let mut counts = self.inbound.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(self.node).or_default();
            *count = count.saturating_sub(1);
            *count == 0
        };
        if last {
            self.inbound.lost.send_modify(|(number, node)| {
                *number += 1;
                *node = Some(self.node);
            });
        }
    }
}

/// An accepted and checked connection.
struct PeerStream {
    stream: TlsStream<TcpStream>,
    identity: PeerIdentity,
    _presence: Presence,
}

impl Connected for PeerStream {
    type ConnectInfo = PeerIdentity;

    fn connect_info(&self) -> PeerIdentity {
        self.identity
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn accept(
    listener: TcpListener,
    tls: Arc<Tls>,
    inbound: Arc<Inbound>,
    ready: mpsc::Sender<io::Result<PeerStream>>,
) {
    let handshakes = Arc::new(Semaphore::new(PEER_HANDSHAKES_MAX));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Of one connection, or of too many open files: the next may work.
                tracing::warn!(%error, "a peer connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, inbound, ready) = (tls.clone(), inbound.clone(), ready.clone());
        tokio::spawn(async move {
            match handshake(&tls, &inbound, stream).await {
                Ok(stream) => drop(ready.send(Ok(stream)).await),
                Err(problem) => tracing::warn!(%address, problem, "refused a peer"),
            }
            drop(permit);
        });
    }
}

async fn handshake(
    tls: &Tls,
    inbound: &Arc<Inbound>,
    stream: TcpStream,
) -> Result<PeerStream, String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let stream = timeout(PEER_CONNECT_MAX, TlsAcceptor::from(tls.server()).accept(stream))
        .await
        .map_err(|_| "the TLS handshake took too long".to_owned())?
        .map_err(|error| error.to_string())?;
    let node = tls.check(stream.get_ref().1.peer_certificates(), None)?;
    Ok(PeerStream { stream, identity: PeerIdentity(node), _presence: inbound.add(node) })
}

/// Serves until `stop` becomes true; then open requests get their answers.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<Tls>,
    inbound: Arc<Inbound>,
    service: Service,
    mut stop: watch::Receiver<bool>,
) {
    let (ready, connections) = mpsc::channel(PEER_HANDSHAKES_MAX);
    let accepting = tokio::spawn(accept(listener, tls, inbound, ready));
    let service = link::server(service);
    let served = Server::builder()
        .max_concurrent_streams(PEER_STREAMS_MAX)
        .http2_keepalive_interval(Some(PEER_KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(PEER_KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(4 * 1024 * 1024)
        .initial_connection_window_size(8 * 1024 * 1024)
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move {
            // An error means that the node is gone: stop as well.
            drop(stop.wait_for(|stop| *stop).await);
        })
        .await;
    if let Err(error) = served {
        tracing::warn!(%error, "the peer listener ended");
    }
    accepting.abort();
}
