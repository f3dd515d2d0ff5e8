//! A connection of bytes between an agent and a master: what one side writes, the world carries to the other.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::host::{Outbox, Sent};

/// Number of a connection.
pub(super) type Line = u64;

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Agent,
    Master,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Agent => Self::Master,
            Self::Master => Self::Agent,
        }
    }
}

#[derive(Debug, Default)]
struct Inbox {
    bytes: VecDeque<Bytes>,
    /// Nothing comes any more.
    ended: bool,
    reader: Option<Waker>,
}

/// Where the world puts what has arrived.
#[derive(Debug, Clone, Default)]
pub(super) struct End(Arc<Mutex<Inbox>>);

impl End {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have arrived; none: the other side has closed.
    pub(super) fn arrive(&self, bytes: Option<Bytes>) {
        let mut inbox = self.inbox();
        match bytes {
            Some(bytes) => inbox.bytes.push_back(bytes),
            None => inbox.ended = true,
        }
        if let Some(reader) = inbox.reader.take() {
            reader.wake();
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Whose it is.
    pub(super) from: usize,
    pub(super) line: Line,
    pub(super) side: Side,
    pub(super) end: End,
    pub(super) outbox: Outbox,
}

impl Pipe {
    fn send(&self, bytes: Option<Bytes>) {
        let (from, line, side) = (self.from, self.line, self.side);
        self.outbox.send(Sent::Bytes { from, line, side, bytes });
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inbox = self.end.inbox();
        let Some(first) = inbox.bytes.front_mut() else {
            if inbox.ended {
                return Poll::Ready(Ok(()));
            }
            inbox.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        let length = first.len().min(into.remaining());
        into.put_slice(&first[..length]);
        first.advance(length);
        if first.is_empty() {
            inbox.bytes.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    /// What is on its way is bounded by the windows of HTTP/2.
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.end.inbox().ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !bytes.is_empty() {
            self.send(Some(Bytes::copy_from_slice(bytes)));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send(None);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.send(None);
    }
}
