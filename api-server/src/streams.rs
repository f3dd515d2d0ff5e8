//! The seam for `log`, `exec`, `attach` and `portforward`: whoever holds the node agents' streams
//! implements [`PodStreams`].
//!
//! [`crate::agents::AgentHub::streams`] is that implementation. Start reading at `serve` (which
//! subresource is answered where), then `log`, `command` (exec and attach; `ws_command` and
//! `spdy_command` carry it) and `forward`; `dial` reaches the node wherever its stream is.

mod command;
mod dial;
mod forward;
mod log;
mod serve;
mod spdy_command;
mod target;
mod tunnel;
mod upgrade;
mod ws_body;
mod ws_command;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::identity::Identity;
use crate::reply::Body;
use serve::Streams;
pub(crate) use ws_body::BodySocket;

/// A request to a stream subresource of a pod; it is authorized, and the pod exists.
#[derive(Debug)]
pub struct StreamRequest {
    /// `log`, `exec`, `attach` or `portforward`.
    pub subresource: String,
    /// The pod, with its resourceVersion.
    pub pod: serde_json::Value,
    /// Who asks.
    pub identity: Identity,
    /// The request itself: query, upgrade headers, and the body of a POST.
    pub request: Request<Body>,
}

/// Answers stream requests.
#[async_trait]
pub trait PodStreams: Send + Sync + 'static {
    /// The answer: 101 with the upgrade taken from the request, a chunked body, or a `Status`.
    async fn serve(&self, request: StreamRequest) -> Response<Body>;

    /// A connection to a port of a running pod, wherever its node is.
    ///
    /// # Errors
    /// Why there is none, for people.
    async fn connect(&self, pod: &serde_json::Value, port: u16) -> Result<Box<dyn Duplex>, String>;
}

/// Both directions of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An answer's body from one piece, for implementors.
#[must_use]
pub fn full_body(bytes: Bytes) -> Body {
    crate::reply::full(bytes)
}
