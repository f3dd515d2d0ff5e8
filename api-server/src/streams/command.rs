//! `exec` and `attach`: what a client wants to see of a process, and both ways of carrying it.

use bytes::Bytes;
use http::Response;
use quorate_api::status::{Reason, Status};
use quorate_proto::agent::channel_frame::Frame;
use quorate_proto::agent::open_channel::Request;
use quorate_proto::agent::{AttachRequest, ExecRequest, OpenChannel, Resize};
use serde::Deserialize;

use super::target::Target;
use super::upgrade::{self, Wanted};
use super::{Streams, dial, spdy_command, ws_command};
use crate::agents::{Channel, ChannelError};
use crate::limits::CHANNEL_FRAME_BYTES_MAX;
use crate::parameters::Query;
use crate::reply::Body;
use crate::status_error::{Answer, Refusal};

/// The streams of a process that a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wants {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Wants {
    /// Reads the query; texts as in the kubelet's `remotecommand`.
    pub(super) fn of(query: &Query) -> Answer<Self> {
        let tty = query.flag("tty");
        let wants = Self {
            stdin: query.flag("stdin"),
            stdout: query.flag("stdout"),
            // A terminal has one output.
            stderr: query.flag("stderr") && !tty,
            tty,
        };
        if !wants.stdin && !wants.stdout && !wants.stderr {
            let message = "you must specify at least 1 of stdin, stdout, stderr";
            return Err(Box::new(Status::bad_request(message)));
        }
        Ok(wants)
    }
}

fn request(subresource: &str, query: &Query, wants: Wants) -> Answer<Request> {
    let Wants { stdin, stdout, stderr, tty } = wants;
    if subresource == "attach" {
        return Ok(Request::Attach(AttachRequest { stdin, stdout, stderr, tty }));
    }
    let command: Vec<String> = query.all("command").map(str::to_owned).collect();
    if command.is_empty() {
        let message = "you must specify at least one command for the container";
        return Err(Box::new(Status::bad_request(message)));
    }
    Ok(Request::Exec(ExecRequest { command, stdin, stdout, stderr, tty }))
}

/// Answers an `exec` or `attach`.
pub(super) async fn serve(
    streams: &Streams,
    subresource: &str,
    query: &Query,
    pod: &serde_json::Value,
    mut http: http::Request<Body>,
) -> Answer<Response<Body>> {
    let wanted = Wanted::of(http.headers())?;
    let wants = Wants::of(query)?;
    let target = Target::container(pod, query.text("container"))?.bound()?;
    let node = target.node.clone();
    let open = target.open(request(subresource, query, wants)?);
    match wanted {
        Wanted::WebSocket { key, offers } => {
            let codec = ws_command::Codec::negotiate(&offers)?;
            // Since version 5 the client hears of a failure on its error channel, before it as HTTP.
            let opened =
                if codec.closes() { None } else { Some(ready(streams, &node, &open).await?) };
            let upgrade = upgrade::pending(&mut http)?;
            let hub = streams.hub.clone();
            streams.spawn(move |end| async move {
                let Some(io) = upgrade::connection(upgrade).await else { return };
                let socket = upgrade::websocket(io).await;
                let channel = async {
                    match opened {
                        Some(channel) => Ok(channel),
                        None => dial::open(&hub, &node, open).await.map_err(|error| told(&error)),
                    }
                };
                ws_command::run(socket, codec, wants, channel, end).await;
            });
            Ok(upgrade::websocket_answer(&key, codec.name()))
        }
        Wanted::Spdy { offers } => {
            let version = spdy_command::negotiate(&offers)?;
            let channel = ready(streams, &node, &open).await?;
            let upgrade = upgrade::pending(&mut http)?;
            streams.spawn(move |end| async move {
                let Some(io) = upgrade::connection(upgrade).await else { return };
                let io = upgrade::guarded(io, end.clone());
                spdy_command::run(io, version, wants, channel, end).await;
            });
            Ok(upgrade::spdy_answer(version.name()))
        }
    }
}

async fn ready(streams: &Streams, node: &str, open: &OpenChannel) -> Answer<Channel> {
    let opened = dial::open(&streams.hub, node, open.clone()).await;
    opened.map_err(|error| dial::status_of(&error))
}

/// A failure as it is told on the error channel: upstream's API server gets the node's words as the
/// text of a failed upgrade.
fn told(error: &ChannelError) -> Refusal {
    let status = dial::status_of(error);
    let by_node = matches!(error, ChannelError::Refused(_));
    if !by_node || status.reason != Reason::InternalError {
        return status;
    }
    let prefix = "Internal error occurred: ";
    let message = status.message.strip_prefix(prefix).unwrap_or(&status.message);
    Box::new(Status::internal_error(&format!("unable to upgrade connection: {message}")))
}

/// Input for a process, in frames of the size that agents take.
pub(super) fn stdin_frames(mut data: Bytes) -> impl Iterator<Item = Frame> {
    std::iter::from_fn(move || {
        (!data.is_empty())
            .then(|| Frame::Stdin(data.split_to(data.len().min(CHANNEL_FRAME_BYTES_MAX))))
    })
}

/// A terminal's size as clients send it.
#[derive(Debug, Deserialize)]
struct Size {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

/// The sizes in a piece of a resize stream, and how many bytes of it are done with. `None` when it is
/// no such stream.
pub(super) fn sizes(data: &[u8]) -> Option<(Vec<Frame>, usize)> {
    let mut stream = serde_json::Deserializer::from_slice(data).into_iter::<Size>();
    let mut sizes = Vec::new();
    loop {
        match stream.next() {
            Some(Ok(Size { width, height })) => {
                sizes.push(Frame::Resize(Resize { width: width.into(), height: height.into() }));
            }
            Some(Err(error)) if error.is_eof() => return Some((sizes, stream.byte_offset())),
            Some(Err(_)) => return None,
            None => return Some((sizes, data.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("/x?{text}").parse().unwrap())
    }

    #[test]
    fn a_terminal_has_no_stderr_and_something_must_be_wanted() {
        let wants = Wants::of(&query("stdin=1&stdout=true&stderr=true&tty=true")).unwrap();
        assert_eq!(wants, Wants { stdin: true, stdout: true, stderr: false, tty: true });
        let status = Wants::of(&query("stdin=false")).unwrap_err();
        assert_eq!(status.message, "you must specify at least 1 of stdin, stdout, stderr");
    }

    #[test]
    fn a_command_keeps_its_words() {
        let wants = Wants { stdin: false, stdout: true, stderr: false, tty: false };
        let made = request("exec", &query("command=echo&command=a+b&command="), wants).unwrap();
        let Request::Exec(exec) = made else { panic!("{made:?}") };
        assert_eq!(exec.command, ["echo", "a b", ""]);
        assert_eq!(request("exec", &query(""), wants).unwrap_err().code, 400);
        assert!(matches!(request("attach", &query(""), wants), Ok(Request::Attach(_))));
    }

    #[test]
    fn sizes_may_come_in_pieces() {
        let whole = br#"{"Width":80,"Height":24}{"Width":81,"#;
        let (frames, used) = sizes(whole).unwrap();
        assert_eq!(frames, [Frame::Resize(Resize { width: 80, height: 24 })]);
        assert_eq!(&whole[used..], br#"{"Width":81,"#);
        assert!(sizes(b"[]").is_none());
        assert_eq!(sizes(b"").unwrap().1, 0);
    }

    #[test]
    fn long_input_is_cut_into_frames() {
        let lengths: Vec<usize> = stdin_frames(Bytes::from(vec![0; CHANNEL_FRAME_BYTES_MAX + 5]))
            .map(|frame| match frame {
                Frame::Stdin(data) => data.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lengths, [CHANNEL_FRAME_BYTES_MAX, 5]);
    }

    #[test]
    fn a_nodes_failure_reads_as_a_failed_upgrade() {
        let node = |message: &str| {
            let mut status = Status::internal_error("");
            message.clone_into(&mut status.message);
            told(&ChannelError::Refused(status.to_json())).message
        };
        assert_eq!(
            node("container not found (\"c\")"),
            "Internal error occurred: unable to upgrade connection: container not found (\"c\")"
        );
        let lost = told(&ChannelError::NotConnected("n".to_owned()));
        assert_eq!(
            lost.message,
            "Internal error occurred: error dialing backend: node n is not connected to any master"
        );
    }
}
