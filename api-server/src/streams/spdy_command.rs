//! `exec` and `attach` over SPDY/3.1: one stream each for the error, stdin, stdout, stderr and the
//! terminal's size, opened by the client, told apart by their `streamType` (the kubelet's
//! `remotecommand`).

use bytes::{Buf as _, Bytes, BytesMut};
use quorate_proto::agent::channel_frame::Frame;
use quorate_proto::agent::{ChannelFrame, CloseStdin};
use quorate_spdy::{Connection, Role, Stream, StreamRead, StreamWrite};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::command::{Wants, sizes, stdin_frames};
use super::upgrade::{self, Guarded};
use super::{dial, log};
use crate::agents::Channel;
use crate::limits::{
    CHANNEL_FRAME_BYTES_MAX, RESIZE_BYTES_MAX, STREAM_CREATION_TIMEOUT, STREAM_FINISH_TIMEOUT,
    STREAM_GOODBYE_TIMEOUT,
};
use crate::status_error::Answer;

/// A version of the remote command protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    name: &'static str,
    /// A terminal has a resize stream.
    resizes: bool,
    /// The end is told as a `Status`.
    status: bool,
}

const VERSIONS: [Version; 4] = [
    Version { name: "v4.channel.k8s.io", resizes: true, status: true },
    Version { name: "v3.channel.k8s.io", resizes: true, status: false },
    Version { name: "v2.channel.k8s.io", resizes: false, status: false },
    Version { name: "channel.k8s.io", resizes: false, status: false },
];

impl Version {
    pub(super) const fn name(self) -> &'static str {
        self.name
    }
}

/// The first offered version that we speak.
pub(super) fn negotiate(offers: &[String]) -> Answer<Version> {
    upgrade::negotiate(offers, &VERSIONS.map(|version| (version.name, version)))
}

/// The streams of one process.
#[derive(Default)]
struct Streams {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Streams {
    fn take(&mut self, stream: Stream) {
        let place = match stream.header("streamtype") {
            Some("error") => &mut self.error,
            Some("stdin") => &mut self.stdin,
            Some("stdout") => &mut self.stdout,
            Some("stderr") => &mut self.stderr,
            Some("resize") => &mut self.resize,
            _ => return,
        };
        *place = Some(stream);
    }

    fn complete(&self, wants: Wants, version: Version) -> bool {
        self.error.is_some()
            && (!wants.stdin || self.stdin.is_some())
            && (!wants.stdout || self.stdout.is_some())
            && (!wants.stderr || self.stderr.is_some())
            && (!wants.tty || !version.resizes || self.resize.is_some())
    }
}

/// Carries a process until it, the client or its node ends, or this master stops.
pub(super) async fn run(
    io: Guarded,
    version: Version,
    wants: Wants,
    channel: Channel,
    end: CancellationToken,
) {
    let (connection, mut incoming) = Connection::start(io, Role::Server);
    let collected = tokio::time::timeout(STREAM_CREATION_TIMEOUT, async {
        let mut streams = Streams::default();
        while !streams.complete(wants, version) {
            streams.take(incoming.recv().await?);
        }
        Some(streams)
    });
    let Ok(Some(streams)) = collected.await else { return };
    let Streams { error, stdin, stdout, stderr, resize } = streams;
    let Some(mut error) = error else { return };
    let Channel { to_node, from_node } = channel;
    let mut out = stdout.map(|stream| stream.write);
    let mut err = stderr.map(|stream| stream.write);
    let reads = (stdin.map(|stream| stream.read), resize.map(|stream| stream.read));
    let status = tokio::select! {
        () = end.cancelled() => None,
        status = output(from_node, &mut out, &mut err) => status,
        () = input(reads, to_node) => None,
        () = hung_up(&mut incoming) => None,
    };
    // That this master stops shows in the others, too, but says less there.
    let Some(status) = status.filter(|_| !end.is_cancelled()) else {
        return go_away(&connection).await;
    };
    let goodbye = async {
        for stream in [&mut out, &mut err].into_iter().flatten() {
            stream.shutdown().await?;
        }
        if version.status {
            error.write.write_all(&status).await?;
        } else if !log::is_success(&status) {
            error.write.write_all(dial::message_of(&status).as_bytes()).await?;
        }
        error.write.shutdown().await?;
        // The client closes once it has read everything.
        hung_up(&mut incoming).await;
        std::io::Result::Ok(())
    };
    tokio::select! {
        _ = tokio::time::timeout(STREAM_FINISH_TIMEOUT, goodbye) => {}
        () = end.cancelled() => {}
    }
}

/// Tells the client that there will be no more.
pub(super) async fn go_away(connection: &Connection) {
    // Best effort: the connection ends either way.
    let _ = tokio::time::timeout(STREAM_GOODBYE_TIMEOUT, connection.go_away()).await;
}

/// Waits until the client is gone; streams beyond those agreed on are dropped.
pub(super) async fn hung_up(incoming: &mut mpsc::Receiver<Stream>) {
    while incoming.recv().await.is_some() {}
}

/// Never ends: the output or the connection does.
async fn input(
    (stdin, resize): (Option<StreamRead>, Option<StreamRead>),
    to_node: mpsc::Sender<ChannelFrame>,
) {
    let typed = async {
        if let Some(stdin) = stdin {
            send_stdin(stdin, &to_node).await;
        }
    };
    let resized = async {
        if let Some(resize) = resize {
            send_sizes(resize, &to_node).await;
        }
    };
    tokio::join!(typed, resized);
    // The sender stays: dropping it would end the process.
    std::future::pending::<()>().await;
}

/// Copies until the end of the input, which is told, or of the process.
pub(super) async fn send_stdin(
    mut stdin: impl tokio::io::AsyncRead + Unpin,
    to_node: &mpsc::Sender<ChannelFrame>,
) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHANNEL_FRAME_BYTES_MAX);
        let got = stdin.read_buf(&mut buffer).await.unwrap_or(0);
        if got == 0 {
            let frame = Frame::CloseStdin(CloseStdin {});
            let _ = to_node.send(ChannelFrame { frame: Some(frame) }).await;
            return;
        }
        for frame in stdin_frames(buffer.split().freeze()) {
            if to_node.send(ChannelFrame { frame: Some(frame) }).await.is_err() {
                return;
            }
        }
    }
}

async fn send_sizes(mut resize: StreamRead, to_node: &mpsc::Sender<ChannelFrame>) {
    let mut buffer = BytesMut::new();
    while let Ok(1..) = resize.read_buf(&mut buffer).await {
        let Some((frames, used)) = sizes(&buffer) else { return };
        buffer.advance(used);
        if buffer.len() > RESIZE_BYTES_MAX {
            return;
        }
        for frame in frames {
            if to_node.send(ChannelFrame { frame: Some(frame) }).await.is_err() {
                return;
            }
        }
    }
}

/// To the end of the process; `None` when the client is gone.
async fn output(
    mut from_node: mpsc::Receiver<ChannelFrame>,
    out: &mut Option<StreamWrite>,
    err: &mut Option<StreamWrite>,
) -> Option<Bytes> {
    while let Some(frame) = from_node.recv().await {
        let (stream, data) = match frame.frame {
            Some(Frame::Stdout(data)) => (&mut *out, data),
            Some(Frame::Stderr(data)) => (&mut *err, data),
            Some(Frame::Status(status)) => return Some(status),
            Some(_) | None => continue,
        };
        if let Some(stream) = stream {
            stream.write_all(&data).await.ok()?;
        }
    }
    dial::end_of(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_choose_the_version() {
        let offers =
            |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
        let kubectl = offers(&[
            "v4.channel.k8s.io",
            "v3.channel.k8s.io",
            "v2.channel.k8s.io",
            "channel.k8s.io",
        ]);
        assert_eq!(negotiate(&kubectl).unwrap().name(), "v4.channel.k8s.io");
        assert!(!negotiate(&offers(&["v2.channel.k8s.io"])).unwrap().resizes);
        assert_eq!(negotiate(&offers(&["v9.channel.k8s.io"])).unwrap_err().code, 403);
        assert_eq!(negotiate(&[]).unwrap_err().code, 403);
    }
}
