//! A streamed body over WebSocket: watches (one event a message, as text) and logs (as they come),
//! for clients that cannot read a chunked body, such as browsers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use quorate_api::status::Status;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::upgrade::{self, Wanted};
use super::ws_command;
use crate::limits::STREAM_GOODBYE_TIMEOUT;
use crate::reply::Body;
use crate::status_error::Answer;

/// How a body's bytes become messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// A line is a text message.
    Lines,
    /// A piece is a binary message.
    Binary,
    /// A piece is a text message in base64.
    Base64,
}

/// What a client asked for that wants an answer's body as messages.
#[derive(Debug)]
pub(crate) struct BodySocket {
    key: String,
    protocol: String,
    framing: Framing,
    upgrade: OnUpgrade,
}

impl BodySocket {
    /// The WebSocket that a request for a watch, or for a log, asks for; `None` when it asks for none.
    ///
    /// # Errors
    /// Protocols that are not spoken; connections that cannot be upgraded (HTTP/2).
    pub(crate) fn of(parts: &mut Parts, log: bool) -> Answer<Option<Self>> {
        if !upgrade::asked(&parts.headers) {
            return Ok(None);
        }
        // As upstream: other upgrades are no matter of a plain stream.
        let Ok(Wanted::WebSocket { key, offers }) = Wanted::of(&parts.headers) else {
            return Ok(None);
        };
        let framing = match (log, offers.as_slice()) {
            (false, _) => Framing::Lines,
            (true, []) => Framing::Binary,
            (true, offers) => upgrade::negotiate(
                offers,
                &[("binary.k8s.io", Framing::Binary), ("base64.binary.k8s.io", Framing::Base64)],
            )?,
        };
        let protocol = match framing {
            Framing::Lines => offers.into_iter().next().unwrap_or_default(),
            Framing::Binary if offers.is_empty() => String::new(),
            Framing::Binary => "binary.k8s.io".to_owned(),
            Framing::Base64 => "base64.binary.k8s.io".to_owned(),
        };
        let upgrade = parts.extensions.remove::<OnUpgrade>().ok_or_else(|| {
            Status::bad_request("this connection cannot be upgraded: use HTTP/1.1")
        })?;
        Ok(Some(Self { key, protocol, framing, upgrade }))
    }

    /// Turns the answer into the agreement to the upgrade, its body into messages. Refusals stay as
    /// they are.
    pub(crate) fn carry(
        self,
        response: Response<Body>,
        stop: &CancellationToken,
    ) -> Response<Body> {
        if !matches!(response.status(), StatusCode::OK | StatusCode::NO_CONTENT) {
            return response;
        }
        let answer = upgrade::websocket_answer(&self.key, &self.protocol);
        let end = stop.child_token();
        tokio::spawn(run(self.upgrade, self.framing, response.into_body(), end));
        answer
    }
}

impl Framing {
    /// The messages of a piece; lines that are not complete stay in `rest`.
    fn messages(self, piece: &Bytes, rest: &mut Vec<u8>) -> Vec<Message> {
        match self {
            Self::Binary => vec![Message::binary(piece.clone())],
            Self::Base64 => vec![Message::text(BASE64.encode(piece))],
            Self::Lines => {
                let mut out = Vec::new();
                for part in piece.split_inclusive(|byte| *byte == b'\n') {
                    rest.extend_from_slice(part);
                    if part.ends_with(b"\n") {
                        let line = String::from_utf8_lossy(rest).into_owned();
                        out.push(Message::text(line));
                        rest.clear();
                    }
                }
                out
            }
        }
    }
}

async fn run(upgrade: OnUpgrade, framing: Framing, mut body: Body, end: CancellationToken) {
    let Some(io) = upgrade::connection(upgrade).await else { return };
    let (mut sink, mut source) = upgrade::websocket(io).await.split();
    let mut rest = Vec::new();
    loop {
        tokio::select! {
            frame = body.frame() => {
                let Some(Ok(frame)) = frame else { break };
                let Ok(piece) = frame.into_data() else { continue };
                for message in framing.messages(&piece, &mut rest) {
                    if sink.send(message).await.is_err() {
                        return;
                    }
                }
            }
            // What clients say is not of interest; that they hang up is.
            said = source.next() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
            () = end.cancelled() => return ws_command::go_away(&mut sink).await,
        }
    }
    let _ = tokio::time::timeout(STREAM_GOODBYE_TIMEOUT, sink.close()).await;
    end.cancel();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_messages() {
        let mut rest = Vec::new();
        let piece = Bytes::from_static(b"{\"a\":1}\n{\"b\"");
        let messages = Framing::Lines.messages(&piece, &mut rest);
        assert_eq!(messages, [Message::text("{\"a\":1}\n")]);
        let messages = Framing::Lines.messages(&Bytes::from_static(b":2}\n"), &mut rest);
        assert_eq!(messages, [Message::text("{\"b\":2}\n")]);
        let piece = Bytes::from_static(b"hi");
        assert_eq!(Framing::Base64.messages(&piece, &mut rest), [Message::text("aGk=")]);
        assert_eq!(Framing::Binary.messages(&piece, &mut rest), [Message::binary("hi")]);
    }
}
