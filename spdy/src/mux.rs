//! Streams over one byte connection. Two tasks serve a [`Connection`]: one reads frames and hands data to the streams,
//! one writes what the streams send. They end when the connection does or when everything that uses it is dropped.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;
use tokio_util::sync::PollSender;

use crate::codec::{Codec, CodecError, Decoder, Encoder, Frame, Headers};
use crate::limits::{
    DATA_BYTES_MAX, INCOMING_STREAMS_MAX, OUTGOING_FRAMES_MAX, STREAM_FRAMES_MAX, STREAMS_MAX,
};

/// Status of a RST_STREAM that refuses a stream.
const REFUSED_STREAM: u32 = 3;

/// Which end of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens streams with odd ids.
    Client,
    /// Opens streams with even ids.
    Server,
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection has ended.
    #[error("the SPDY connection is closed")]
    Closed,
    /// The peer answered RST_STREAM.
    #[error("the peer refused the stream (status {0})")]
    Refused(u32),
}

type Accepted = oneshot::Sender<Result<(), Error>>;

struct Entry {
    data: Option<mpsc::Sender<std::io::Result<Bytes>>>,
    accepted: Option<Accepted>,
}

#[derive(Default)]
struct Streams {
    open: HashMap<u32, Entry>,
    closed: bool,
}

struct Shared {
    streams: Mutex<Streams>,
    next_id: AtomicU32,
    out: mpsc::Sender<Frame>,
}

impl Shared {
    fn with<T>(&self, f: impl FnOnce(&mut Streams) -> T) -> T {
        f(&mut self.streams.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// One connection; clones share it. Streams keep it alive, too.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

/// One stream. Its halves work apart.
pub struct Stream {
    /// Its id.
    pub id: u32,
    /// The headers it was opened with.
    pub headers: Headers,
    /// What the peer sends.
    pub read: StreamRead,
    /// What we send; `shutdown` sends FIN.
    pub write: StreamWrite,
}

impl Stream {
    /// The first value of a header, by lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Connection {
    /// Takes over a byte connection whose upgrade is done. Streams the peer opens come from the receiver (already
    /// accepted with SYN_REPLY); drop it to refuse them.
    pub fn start<IO>(io: IO, role: Role) -> (Connection, mpsc::Receiver<Stream>)
    where
        IO: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (out, outgoing) = mpsc::channel(OUTGOING_FRAMES_MAX);
        let (incoming, streams) = mpsc::channel(INCOMING_STREAMS_MAX);
        let first = if role == Role::Client { 1 } else { 2 };
        let shared = Arc::new(Shared {
            streams: Mutex::new(Streams::default()),
            next_id: AtomicU32::new(first),
            out,
        });
        let (read, write) = tokio::io::split(io);
        let (encoder, decoder) = Codec::new().split();
        let reader = Reader { shared: Arc::downgrade(&shared), incoming, role };
        tokio::spawn(async move { reader.run(read, decoder).await });
        tokio::spawn(async move {
            let _ = write_all(write, encoder, outgoing).await;
        });
        (Connection { shared }, streams)
    }

    /// Opens a stream and waits for the peer's SYN_REPLY. With `fin` we send nothing on it.
    pub async fn open(&self, headers: Headers, fin: bool) -> Result<Stream, Error> {
        let (data, receiver) = mpsc::channel(STREAM_FRAMES_MAX);
        let (accepted, accept) = oneshot::channel();
        let id = self.shared.next_id.fetch_add(2, Ordering::Relaxed);
        let closed = self.shared.with(|streams| {
            let entry = Entry { data: Some(data), accepted: Some(accepted) };
            streams.open.insert(id, entry);
            streams.closed
        });
        if closed {
            self.shared.with(|streams| streams.open.remove(&id));
            return Err(Error::Closed);
        }
        let syn = Frame::SynStream {
            id,
            associated: 0,
            priority: 0,
            fin,
            unidirectional: false,
            headers: headers.clone(),
        };
        self.shared.out.send(syn).await.map_err(|_| Error::Closed)?;
        accept.await.map_err(|_| Error::Closed)??;
        Ok(make_stream(&self.shared, id, headers, receiver))
    }

    /// Tells the peer that no more streams will be taken.
    pub async fn go_away(&self) {
        let _ = self.shared.out.send(Frame::GoAway { last_id: 0, status: 0 }).await;
    }
}

fn make_stream(
    shared: &Arc<Shared>,
    id: u32,
    headers: Headers,
    receiver: mpsc::Receiver<std::io::Result<Bytes>>,
) -> Stream {
    let handle = Arc::new(Handle { shared: shared.clone(), id });
    Stream {
        id,
        headers,
        read: StreamRead {
            inner: StreamReader::new(ReceiverStream::new(receiver)),
            _handle: handle.clone(),
        },
        write: StreamWrite {
            id,
            sender: PollSender::new(shared.out.clone()),
            fin_sent: false,
            _handle: handle,
        },
    }
}

/// Forgets the stream when both halves are gone.
struct Handle {
    shared: Arc<Shared>,
    id: u32,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.with(|streams| streams.open.remove(&self.id));
    }
}

/// The reading half of a stream.
pub struct StreamRead {
    inner: StreamReader<ReceiverStream<std::io::Result<Bytes>>, Bytes>,
    _handle: Arc<Handle>,
}

impl AsyncRead for StreamRead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

/// The writing half of a stream.
pub struct StreamWrite {
    id: u32,
    sender: PollSender<Frame>,
    fin_sent: bool,
    _handle: Arc<Handle>,
}

impl StreamWrite {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        fin: bool,
        data: &[u8],
    ) -> Poll<std::io::Result<()>> {
        let broken = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        ready!(self.sender.poll_reserve(cx)).map_err(broken)?;
        let frame = Frame::Data { id: self.id, fin, data: Bytes::copy_from_slice(data) };
        Poll::Ready(self.sender.send_item(frame).map_err(broken))
    }
}

impl AsyncWrite for StreamWrite {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.fin_sent {
            return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
        }
        let part = &buf[..buf.len().min(DATA_BYTES_MAX)];
        ready!(self.poll_send(cx, false, part))?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if !self.fin_sent {
            ready!(self.poll_send(cx, true, &[]))?;
            self.fin_sent = true;
        }
        Poll::Ready(Ok(()))
    }
}

async fn write_all<W: AsyncWrite + Unpin>(
    mut write: W,
    mut encoder: Encoder,
    mut outgoing: mpsc::Receiver<Frame>,
) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(frame) = outgoing.recv().await {
        buffer.clear();
        encoder.encode(&frame, &mut buffer).map_err(std::io::Error::other)?;
        while buffer.len() < DATA_BYTES_MAX {
            let Ok(frame) = outgoing.try_recv() else { break };
            encoder.encode(&frame, &mut buffer).map_err(std::io::Error::other)?;
        }
        write.write_all(&buffer).await?;
        write.flush().await?;
    }
    write.shutdown().await
}

struct Reader {
    // Weak: the tasks must not keep a connection alive that nobody uses.
    shared: std::sync::Weak<Shared>,
    incoming: mpsc::Sender<Stream>,
    role: Role,
}

impl Reader {
    async fn run<R: AsyncRead + Unpin>(self, mut read: R, mut decoder: Decoder) {
        let mut buffer = BytesMut::with_capacity(DATA_BYTES_MAX);
        let why = loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => {
                    if self.handle(frame).await.is_none() {
                        break None;
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => break Some(error),
            }
            match read.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => break None,
                Ok(_) => {}
            }
        };
        self.end(why).await;
    }

    /// Every stream ends: cleanly when the peer closed between frames, with an error when it spoke rubbish.
    async fn end(&self, why: Option<CodecError>) {
        let Some(shared) = self.shared.upgrade() else { return };
        let entries: Vec<Entry> = shared.with(|streams| {
            streams.closed = true;
            streams.open.drain().map(|(_, entry)| entry).collect()
        });
        for entry in entries {
            if let (Some(error), Some(data)) = (&why, entry.data) {
                let _ = data.try_send(Err(std::io::Error::other(error.to_string())));
            }
        }
    }

    /// `None` when the connection is of no more use.
    async fn handle(&self, frame: Frame) -> Option<()> {
        let shared = self.shared.upgrade()?;
        match frame {
            Frame::SynStream { id, fin, headers, .. } => {
                self.accept(&shared, id, fin, headers).await?;
            }
            Frame::SynReply { id, fin, .. } => {
                shared.with(|streams| {
                    if let Some(entry) = streams.open.get_mut(&id) {
                        if let Some(accepted) = entry.accepted.take() {
                            let _ = accepted.send(Ok(()));
                        }
                        if fin {
                            entry.data = None;
                        }
                    }
                });
            }
            Frame::RstStream { id, status } => {
                let entry = shared.with(|streams| streams.open.remove(&id));
                if let Some(accepted) = entry.and_then(|entry| entry.accepted) {
                    let _ = accepted.send(Err(Error::Refused(status)));
                }
            }
            Frame::Ping { id } => {
                let ours = (id % 2 == 1) == (self.role == Role::Client);
                if !ours {
                    shared.out.send(Frame::Ping { id }).await.ok()?;
                }
            }
            Frame::Data { id, fin, data } => deliver(shared, id, fin, data).await,
            Frame::Headers { id, fin: true, .. } => deliver(shared, id, true, Bytes::new()).await,
            Frame::Headers { .. }
            | Frame::GoAway { .. }
            | Frame::Settings
            | Frame::WindowUpdate { .. }
            | Frame::Unknown(_) => {}
        }
        Some(())
    }

    async fn accept(
        &self,
        shared: &Arc<Shared>,
        id: u32,
        fin: bool,
        headers: Headers,
    ) -> Option<()> {
        let (data, receiver) = mpsc::channel(STREAM_FRAMES_MAX);
        let refused = shared.with(|streams| {
            if streams.open.len() >= STREAMS_MAX || streams.open.contains_key(&id) {
                return true;
            }
            let data = (!fin).then_some(data);
            streams.open.insert(id, Entry { data, accepted: None });
            false
        });
        if refused || self.incoming.is_closed() {
            shared.with(|streams| streams.open.remove(&id));
            return shared.out.send(Frame::RstStream { id, status: REFUSED_STREAM }).await.ok();
        }
        let reply = Frame::SynReply { id, fin: false, headers: Vec::new() };
        shared.out.send(reply).await.ok()?;
        let _ = self.incoming.send(make_stream(shared, id, headers, receiver)).await;
        Some(())
    }
}

/// Waits for the stream's reader. Drops the strong reference first, so that a reader that never comes cannot keep the
/// connection alive.
async fn deliver(shared: Arc<Shared>, id: u32, fin: bool, data: Bytes) {
    let sender = shared.with(|streams| {
        let entry = streams.open.get_mut(&id)?;
        if fin { entry.data.take() } else { entry.data.clone() }
    });
    drop(shared);
    if let Some(sender) = sender
        && !data.is_empty()
    {
        let _ = sender.send(Ok(data)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    async fn echo(mut streams: mpsc::Receiver<Stream>) {
        while let Some(mut stream) = streams.recv().await {
            tokio::spawn(async move {
                let name = stream.header("streamtype").unwrap_or("none").to_owned();
                stream.write.write_all(format!("{name}:").as_bytes()).await.unwrap();
                tokio::io::copy(&mut stream.read, &mut stream.write).await.unwrap();
                stream.write.shutdown().await.unwrap();
            });
        }
    }

    #[tokio::test]
    async fn many_streams_share_a_connection_and_half_close_apart() {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (_server, incoming) = Connection::start(far, Role::Server);
        tokio::spawn(echo(incoming));
        let (client, _) = Connection::start(near, Role::Client);
        let tasks: Vec<_> = (0..20)
            .map(|n| {
                let client = client.clone();
                tokio::spawn(async move {
                    let name = format!("s{n}");
                    let headers = vec![header("streamtype", &name)];
                    let mut stream = client.open(headers, false).await.unwrap();
                    let payload = vec![b'a' + (n % 26); 300_000];
                    let (mut read, mut write) = (stream.read, stream.write);
                    let sent = payload.clone();
                    let writer = tokio::spawn(async move {
                        write.write_all(&sent).await.unwrap();
                        write.shutdown().await.unwrap();
                    });
                    let mut got = Vec::new();
                    read.read_to_end(&mut got).await.unwrap();
                    writer.await.unwrap();
                    stream.headers.clear();
                    assert_eq!(got.len(), payload.len() + name.len() + 1);
                    assert!(got.starts_with(format!("{name}:").as_bytes()));
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_dead_connection_ends_reads_and_refuses_opens() {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (client, _) = Connection::start(near, Role::Client);
        let (server, mut incoming) = Connection::start(far, Role::Server);
        let open = client.open(vec![header("streamtype", "data")], false);
        let (mut stream, theirs) = tokio::join!(async { open.await.unwrap() }, incoming.recv());
        drop((theirs, server, incoming));
        let mut got = Vec::new();
        stream.read.read_to_end(&mut got).await.unwrap();
        assert!(got.is_empty());
        assert!(matches!(client.open(Vec::new(), false).await, Err(Error::Closed)));
    }
}
