//! Connections that stop being HTTP: what a client wants one to become, and the answer that agrees.
//!
//! Nothing of the request's body or of the connection is touched before that answer; a request that
//! asked for an upgrade and does not get it ends its connection (CVE-2018-1002105).

use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use quorate_api::status::Status;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::limits::{UPGRADE_TIMEOUT, WEBSOCKET_BUFFER_BYTES, WEBSOCKET_MESSAGE_BYTES_MAX};
use crate::reply::{self, Body};
use crate::status_error::Answer;

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What a client wants its connection to become, with the protocols that it offers, best first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    WebSocket { key: String, offers: Vec<String> },
    Spdy { offers: Vec<String> },
}

/// Whether any upgrade was asked for, well-formed or not.
pub(super) fn asked(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}

impl Wanted {
    /// Reads a request's headers.
    pub(super) fn of(headers: &HeaderMap) -> Answer<Self> {
        let bad = |message: &str| Box::new(Status::bad_request(message));
        if !tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
            return Err(bad("Upgrade request required"));
        }
        let protocol = tokens(headers, &UPGRADE).next().unwrap_or_default();
        if protocol.eq_ignore_ascii_case("SPDY/3.1") {
            let offers = tokens(headers, &STREAM_PROTOCOL).map(str::to_owned).collect();
            return Ok(Self::Spdy { offers });
        }
        if !protocol.eq_ignore_ascii_case("websocket") {
            return Err(bad("Upgrade request required"));
        }
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(bad("websocket: version 13 is required"));
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
        let key = key.ok_or_else(|| bad("websocket: Sec-WebSocket-Key is missing"))?.to_owned();
        let offers = tokens(headers, &SEC_WEBSOCKET_PROTOCOL).map(str::to_owned).collect();
        Ok(Self::WebSocket { key, offers })
    }
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// The first of the client's offers that we speak.
pub(super) fn negotiate<T: Copy>(offers: &[String], known: &[(&str, T)]) -> Answer<T> {
    let first = offers.iter().find_map(|offer| known.iter().find(|(name, _)| name == offer));
    if let Some((_, protocol)) = first {
        return Ok(*protocol);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).filter(|n| !n.is_empty()).collect();
    let mut status = Status::bad_request(format!(
        "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
        offers.join(" "),
        names.join(" ")
    ));
    status.code = 403;
    Err(Box::new(status))
}

/// Agrees to a WebSocket; `protocol` is "" when the client offered none.
pub(super) fn websocket_answer(key: &str, protocol: &str) -> Response<Body> {
    let mut response = switching("websocket");
    let accept = derive_accept_key(key.as_bytes());
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Ok(protocol) = HeaderValue::from_str(protocol)
        && !protocol.is_empty()
    {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

/// Agrees to SPDY/3.1.
pub(super) fn spdy_answer(protocol: &'static str) -> Response<Body> {
    let mut response = switching("SPDY/3.1");
    response.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    response
}

fn switching(to: &'static str) -> Response<Body> {
    let mut response = Response::new(reply::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(to));
    response
}

/// The upgrade that belongs to a request, to be awaited once its answer is on its way.
pub(super) fn pending(request: &mut Request<Body>) -> Answer<OnUpgrade> {
    request.extensions_mut().remove::<OnUpgrade>().ok_or_else(|| {
        Box::new(Status::bad_request("this connection cannot be upgraded: use HTTP/1.1"))
    })
}

/// An upgraded connection.
pub(super) type Io = TokioIo<Upgraded>;
/// A WebSocket on one. Whoever serves it looks at the end himself, to say goodbye first.
pub(super) type Socket = WebSocketStream<Io>;

/// An upgraded connection that reads as ended once it is told to end, so that nothing waits for ever
/// for a peer that does not hang up.
pub(super) struct Guarded {
    io: Io,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// The connection, once the client has seen the answer; `None` when it went away.
pub(super) async fn connection(upgrade: OnUpgrade) -> Option<Io> {
    let upgraded = tokio::time::timeout(UPGRADE_TIMEOUT, upgrade).await;
    match upgraded {
        Ok(Ok(upgraded)) => Some(TokioIo::new(upgraded)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "an upgraded connection was lost");
            None
        }
        Err(_) => None,
    }
}

/// Ends what is read from the connection with the token.
pub(super) fn guarded(io: Io, end: CancellationToken) -> Guarded {
    Guarded { io, end: Box::pin(end.cancelled_owned()) }
}

/// Speaks WebSocket, as the server, over an upgraded connection.
pub(super) async fn websocket(io: Io) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(WEBSOCKET_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(WEBSOCKET_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(WEBSOCKET_MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        pairs.collect()
    }

    #[test]
    fn upgrades_are_read_from_the_headers() {
        let websocket = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "abc"),
            ("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io"),
        ]);
        let offers = ["v5.channel.k8s.io", "v4.channel.k8s.io"].map(str::to_owned).to_vec();
        let want = Wanted::WebSocket { key: "abc".to_owned(), offers };
        assert_eq!(Wanted::of(&websocket).unwrap(), want);
        let spdy = headers(&[
            ("connection", "upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ]);
        let want = Wanted::Spdy { offers: vec!["v4.channel.k8s.io".to_owned()] };
        assert_eq!(Wanted::of(&spdy).unwrap(), want);
        for bad in [
            headers(&[]),
            headers(&[("connection", "upgrade"), ("upgrade", "h2c")]),
            headers(&[("upgrade", "websocket")]),
            headers(&[("connection", "upgrade"), ("upgrade", "websocket")]),
        ] {
            assert_eq!(Wanted::of(&bad).unwrap_err().code, 400);
        }
    }

    #[test]
    fn the_clients_first_known_offer_wins() {
        let known = [("v5", 5), ("v4", 4)];
        let offers =
            |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
        assert_eq!(negotiate(&offers(&["v9", "v4", "v5"]), &known).unwrap(), 4);
        let status = negotiate(&offers(&["v9"]), &known).unwrap_err();
        assert_eq!(status.code, 403);
        assert!(status.message.ends_with("client supports [v9], server accepts [v5 v4]"));
    }

    #[test]
    fn the_websocket_answer_is_rfc_6455s_example() {
        let response = websocket_answer("dGhlIHNhbXBsZSBub25jZQ==", "v5.channel.k8s.io");
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    }
}
