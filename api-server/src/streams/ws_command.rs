//! `exec` and `attach` over WebSocket: one message is one channel's byte and its data
//! (apimachinery's `remotecommand` constants, apiserver's `wsstream`).

use std::future::Future;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use quorate_proto::agent::channel_frame::Frame;
use quorate_proto::agent::{ChannelFrame, CloseStdin};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;

use super::command::{Wants, sizes, stdin_frames};
use super::upgrade::{self, Socket};
use super::{dial, log};
use crate::agents::Channel;
use crate::limits::{STREAM_FINISH_TIMEOUT, STREAM_GOODBYE_TIMEOUT, WEBSOCKET_PING_INTERVAL};
use crate::status_error::{Answer, Refusal};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Not a channel: the next byte names one that its sender is done with (version 5).
const CLOSE: u8 = 255;

/// A WebSocket subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Codec {
    name: &'static str,
    /// Messages are text: the channel's digit, then base64.
    base64: bool,
    /// The end is told as a `Status` (version 4), before it as plain text.
    status: bool,
    /// Channels can be closed one by one (version 5).
    closes: bool,
}

const fn codec(name: &'static str, base64: bool, status: bool, closes: bool) -> Codec {
    Codec { name, base64, status, closes }
}

const CODECS: [Codec; 6] = [
    codec("v5.channel.k8s.io", false, true, true),
    codec("v4.channel.k8s.io", false, true, false),
    codec("v4.base64.channel.k8s.io", true, true, false),
    codec("channel.k8s.io", false, false, false),
    codec("base64.channel.k8s.io", true, false, false),
    codec("", false, false, false),
];

impl Codec {
    /// The first offered one that we speak; the oldest when none is offered.
    pub(super) fn negotiate(offers: &[String]) -> Answer<Self> {
        if offers.is_empty() {
            return Ok(codec("", false, false, false));
        }
        upgrade::negotiate(offers, &CODECS.map(|codec| (codec.name, codec)))
    }

    pub(super) const fn name(self) -> &'static str {
        self.name
    }

    pub(super) const fn closes(self) -> bool {
        self.closes
    }

    /// A message for the client.
    pub(super) fn message(self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            let mut text = char::from(b'0' + channel).to_string();
            BASE64.encode_string(data, &mut text);
            return Message::text(text);
        }
        let mut message = Vec::with_capacity(data.len() + 1);
        message.push(channel);
        message.extend_from_slice(data);
        Message::binary(message)
    }

    /// Channel and data of a client's message; `None` when it is none.
    pub(super) fn read(self, mut message: Bytes) -> Option<(u8, Bytes)> {
        if message.is_empty() {
            return None;
        }
        let data = message.split_off(1);
        if !self.base64 {
            return Some((message[0], data));
        }
        let channel = message[0].checked_sub(b'0').filter(|channel| *channel < 10)?;
        Some((channel, BASE64.decode(&data).ok()?.into()))
    }

    /// What a client's message means for the process.
    fn frames(self, wants: Wants, message: Bytes) -> Vec<Frame> {
        match self.read(message) {
            Some((STDIN, data)) if wants.stdin => stdin_frames(data).collect(),
            Some((RESIZE, data)) => sizes(&data).map(|(sizes, _)| sizes).unwrap_or_default(),
            Some((CLOSE, data)) if self.closes && wants.stdin && data[..] == [STDIN] => {
                vec![Frame::CloseStdin(CloseStdin {})]
            }
            _ => Vec::new(),
        }
    }

    /// How the end of the process is told; `None` when the protocol has no word for it.
    fn end(self, status: &[u8]) -> Option<Message> {
        if self.status {
            return Some(self.message(ERROR, status));
        }
        if log::is_success(status) {
            return None;
        }
        Some(self.message(ERROR, dial::message_of(status).as_bytes()))
    }
}

type Sink = SplitSink<Socket, Message>;
type Source = SplitStream<Socket>;

/// Carries a process until it, the client or its node ends, or this master stops.
pub(super) async fn run(
    socket: Socket,
    codec: Codec,
    wants: Wants,
    channel: impl Future<Output = Result<Channel, Refusal>>,
    end: CancellationToken,
) {
    let (mut sink, mut source) = socket.split();
    // An empty message tells clients that the connection is there.
    let lowest = match wants {
        Wants { stdout: true, .. } => STDOUT,
        Wants { stderr: true, .. } => STDERR,
        Wants { .. } => ERROR,
    };
    if sink.send(codec.message(lowest, &[])).await.is_err() {
        return;
    }
    let status = match channel.await {
        Ok(Channel { to_node, from_node }) => {
            let ended = tokio::select! {
                biased;
                () = end.cancelled() => None,
                status = output(&mut sink, codec, wants, from_node) => status,
                () = input(&mut source, codec, wants, to_node) => None,
            };
            // It shows in the others, too, but says less there.
            if end.is_cancelled() {
                return go_away(&mut sink).await;
            }
            ended
        }
        Err(refusal) => Some(refusal.to_json().into()),
    };
    let Some(status) = status else { return };
    tokio::select! {
        () = finish(sink, source, codec.end(&status)) => {}
        () = end.cancelled() => {}
    }
}

/// From the client to the process; ends when the client goes.
async fn input(
    source: &mut Source,
    codec: Codec,
    wants: Wants,
    to_node: mpsc::Sender<ChannelFrame>,
) {
    while let Some(Ok(message)) = source.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        for frame in codec.frames(wants, data) {
            // A process that has ended takes no more; its output tells.
            let _ = to_node.send(ChannelFrame { frame: Some(frame) }).await;
        }
    }
}

/// From the process to the client, up to its end; `None` when the client is gone.
async fn output(
    sink: &mut Sink,
    codec: Codec,
    wants: Wants,
    mut from_node: mpsc::Receiver<ChannelFrame>,
) -> Option<Bytes> {
    // Nobody must answer: writing is what shows that a client has vanished.
    let mut ping = tokio::time::interval(WEBSOCKET_PING_INTERVAL);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ping.tick().await;
    loop {
        let frame = tokio::select! {
            frame = from_node.recv() => frame,
            _ = ping.tick() => {
                sink.send(Message::Ping(Bytes::new())).await.ok()?;
                continue;
            }
        };
        let message = match frame {
            Some(ChannelFrame { frame: Some(Frame::Stdout(data)) }) if wants.stdout => {
                codec.message(STDOUT, &data)
            }
            Some(ChannelFrame { frame: Some(Frame::Stderr(data)) }) if wants.stderr => {
                codec.message(STDERR, &data)
            }
            Some(ChannelFrame { frame: Some(Frame::Status(status)) }) => return Some(status),
            Some(_) => continue,
            None => return dial::end_of(None),
        };
        sink.send(message).await.ok()?;
    }
}

/// Says how it ended, closes, and waits for the client to close: closing the connection at once could
/// make its end discard what the client has not read yet.
pub(super) async fn finish(mut sink: Sink, mut source: Source, last: Option<Message>) {
    let goodbye = async {
        if let Some(last) = last {
            sink.send(last).await.ok()?;
        }
        let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        sink.send(Message::Close(Some(close))).await.ok()?;
        while let Some(Ok(_)) = source.next().await {}
        Some(())
    };
    let _ = tokio::time::timeout(STREAM_FINISH_TIMEOUT, goodbye).await;
}

/// This master stops.
pub(super) async fn go_away(sink: &mut Sink) {
    let close = CloseFrame { code: CloseCode::Away, reason: "the server is stopping".into() };
    // Best effort: the connection ends either way.
    let sent = sink.send(Message::Close(Some(close)));
    let _ = tokio::time::timeout(STREAM_GOODBYE_TIMEOUT, sent).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::status::Status;
    use quorate_proto::agent::Resize;

    const ALL: Wants = Wants { stdin: true, stdout: true, stderr: true, tty: false };

    fn negotiated(name: &str) -> Codec {
        Codec::negotiate(&[name.to_owned()]).unwrap()
    }

    #[test]
    fn version_five_closes_channels() {
        let v5 = negotiated("v5.channel.k8s.io");
        let frames = |bytes: &'static [u8]| v5.frames(ALL, Bytes::from_static(bytes));
        assert_eq!(frames(b"\0hi"), [Frame::Stdin("hi".into())]);
        assert_eq!(frames(b"\0"), []);
        assert_eq!(frames(&[255, 0]), [Frame::CloseStdin(CloseStdin {})]);
        assert_eq!(frames(&[255, 1]), []);
        assert_eq!(frames(b""), []);
        let size = Frame::Resize(Resize { width: 80, height: 24 });
        assert_eq!(frames(b"\x04{\"Width\":80,\"Height\":24}"), [size]);
        let v4 = negotiated("v4.channel.k8s.io");
        assert_eq!(v4.frames(ALL, Bytes::from_static(&[255, 0])), []);
        let silent = Wants { stdin: false, ..ALL };
        assert_eq!(v5.frames(silent, Bytes::from_static(b"\0hi")), []);
        assert_eq!(v5.message(1, b"out"), Message::binary(b"\x01out".to_vec()));
    }

    #[test]
    fn base64_is_text() {
        let codec = negotiated("base64.channel.k8s.io");
        assert_eq!(codec.message(1, b"hi"), Message::text("1aGk="));
        assert_eq!(codec.read("0aGk=".into()), Some((0, "hi".into())));
        assert_eq!(codec.read("0!".into()), None);
        assert_eq!(codec.read("xaGk=".into()), None);
    }

    #[test]
    fn old_versions_hear_of_failures_as_text() {
        let lost = Status::internal_error("the connection to the node was lost");
        let failure = lost.to_json();
        let success = Status::success(0).to_json();
        let v4 = negotiated("v4.channel.k8s.io");
        assert_eq!(v4.end(&success), Some(v4.message(ERROR, &success)));
        let v1 = Codec::negotiate(&[]).unwrap();
        assert_eq!(v1.end(&success), None);
        assert_eq!(v1.end(&failure), Some(v1.message(ERROR, lost.message.as_bytes())));
    }

    #[test]
    fn unknown_protocols_are_refused() {
        assert_eq!(Codec::negotiate(&["v6.channel.k8s.io".to_owned()]).unwrap_err().code, 403);
    }
}
