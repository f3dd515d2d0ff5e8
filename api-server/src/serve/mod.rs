//! Listening: TLS, HTTP/1.1 and HTTP/2 by ALPN, deadlines, limits, graceful end.
//!
//! Knows connections, not Kubernetes: each request goes to [`crate::server::Shared::answer`] with
//! what the connection knows of its peer.

mod leftover;
mod moving;
#[cfg(test)]
mod tests;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authn::Shown;
use crate::identity::{Identity, User};
use crate::limits::{
    ACCEPT_RETRY, CONNECTION_IDLE_TIMEOUT, CONNECTIONS_MAX, HEADER_BYTES_MAX, HEADER_READ_TIMEOUT,
    HTTP2_PING_INTERVAL, HTTP2_PING_TIMEOUT, HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS_MAX,
    LAST_REQUEST_TIME, TLS_HANDSHAKE_TIMEOUT,
};
use crate::reply::{Body, BoxError};
use crate::server::Shared;

pub use moving::MovingAddresses;
pub use tls::{Tls, TlsError};

/// What a connection knows of its peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer {
    pub(crate) address: Option<SocketAddr>,
    /// What its client certificate says.
    pub(crate) shown: Shown,
}

impl Peer {
    /// Somebody for whom the caller vouches.
    pub(crate) fn vouched(user: User) -> Self {
        Self { address: None, shown: Shown::Vouched(Identity::authenticated(user)) }
    }
}

/// Accepts connections until `stop`.
pub(crate) async fn listen(
    listener: TcpListener,
    tls: Tls,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let (tls, shared, stop) = (tls.clone(), shared.clone(), stop.clone());
        tasks.spawn(async move {
            // Best effort: without it small answers wait for Nagle's timer.
            let _ = stream.set_nodelay(true);
            let guest = stream.local_addr().ok().and_then(|own| shared.moving.enter(own.ip()));
            match guest {
                None => serve(stream, address, tls, shared, Ends::with(stop)).await,
                Some(guest) => {
                    let (leave, cut) = (guest.leave.clone(), guest.cut.clone());
                    let ends = Ends { stop, leave };
                    tokio::select! {
                        () = serve(guest.on(stream), address, tls, shared, ends) => {}
                        () = cut.cancelled() => {}
                    }
                }
            }
            drop(slot);
        });
    }
}

/// What ends a connection.
pub(crate) struct Ends {
    /// The server stops. A client that is about to send its next request would see its connection close on it, and
    /// could not know what came of it: it has a moment more, and is told to come no more.
    stop: CancellationToken,
    /// The connection must go now: a client comes again at once.
    leave: CancellationToken,
}

impl Ends {
    pub(crate) fn with(stop: CancellationToken) -> Self {
        Self { stop, leave: CancellationToken::new() }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    address: SocketAddr,
    tls: Tls,
    shared: Arc<Shared>,
    ends: Ends,
) {
    let tls = tls.now();
    let shaking_hands = tls.acceptor.accept(stream);
    let stream = match tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, shaking_hands).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(%address, "TLS handshake took too long");
            return;
        }
    };
    let shown = tls.examine(stream.get_ref().1.peer_certificates());
    converse(stream, Peer { address: Some(address), shown }, shared, ends).await;
}

/// Answers the requests of an open connection to its end.
pub(crate) async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    shared: Arc<Shared>,
    ends: Ends,
) {
    let Ends { stop, leave } = ends;
    let address = peer.address;
    let asked = Arc::new(AtomicBool::new(false));
    let has_asked = asked.clone();
    let stops = stop.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        let (shared, peer, stops) = (shared.clone(), peer.clone(), stops.clone());
        async move {
            let one_by_one = request.version() < Version::HTTP_2;
            let mut response = answer(shared, peer, request).await;
            let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            if stops.is_cancelled() && one_by_one && !switches {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<Response<Body>, std::convert::Infallible>(response)
        }
    });
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // Neither the preface of HTTP/2 nor its handshake has a deadline of its own.
    let mut first_request = std::pin::pin!(tokio::time::sleep(HEADER_READ_TIMEOUT));
    let mut last_request = std::pin::pin!(tokio::time::sleep(LAST_REQUEST_TIME));
    let (mut waiting, mut stopping, mut closing) = (true, false, false);
    let result = loop {
        tokio::select! {
            result = connection.as_mut() => break result,
            () = first_request.as_mut(), if waiting => {
                if !asked.load(Ordering::Relaxed) {
                    tracing::debug!(?address, "no request came");
                    return;
                }
                waiting = false;
            }
            () = stop.cancelled(), if !stopping => {
                last_request.as_mut().reset(Instant::now() + LAST_REQUEST_TIME);
                stopping = true;
            }
            () = last_request.as_mut(), if stopping && !closing => {
                connection.as_mut().graceful_shutdown();
                closing = true;
            }
            () = leave.cancelled(), if !closing => {
                connection.as_mut().graceful_shutdown();
                closing = true;
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(?address, error, "connection ended early");
    }
}

async fn answer(shared: Arc<Shared>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let grpc = crate::pipeline::is_grpc(&request);
    let request = request.map(|body| {
        // A stream of gRPC ends when its handler does.
        if grpc || body.is_end_stream() {
            body.map_err(|error: hyper::Error| -> BoxError { Box::new(error) }).boxed_unsync()
        } else {
            leftover::ReadToEnd::new(body).boxed_unsync()
        }
    });
    shared.answer(peer, request).await
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_IDLE_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_STREAMS_MAX * HTTP2_STREAM_WINDOW_BYTES)
        .max_send_buf_size(1024 * 1024)
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT);
    builder
}
