//! Connections that came in at an address which may go to another machine: before it does they are ended, so that
//! clients come again at once instead of waiting for answers that find no way to them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// After connections were cut it is waited so long for their ends to be sent.
const CUT_MAX: Duration = Duration::from_millis(50);

/// The addresses, each with who is connected there. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct MovingAddresses(Arc<Mutex<BTreeMap<IpAddr, Stay>>>);

/// The time in which an address is here.
#[derive(Debug, Default)]
struct Stay {
    connections: TaskTracker,
    /// What is under way may end.
    leave: CancellationToken,
    /// Nothing may.
    cut: CancellationToken,
}

/// What a connection at such an address follows.
pub(super) struct Guest {
    pub(super) leave: CancellationToken,
    pub(super) cut: CancellationToken,
    _counted: TaskTrackerToken,
}

impl Guest {
    /// Binds the connection to the address, whatever it becomes: one that is upgraded leaves the server of HTTP.
    pub(super) fn on<S>(self, stream: S) -> Bound<S> {
        let cut = || Box::pin(self.cut.clone().cancelled_owned());
        Bound { stream, cut_reading: cut(), cut_writing: cut(), _guest: self }
    }
}

/// A connection that breaks when it is cut, and is counted for as long as it is open.
pub(super) struct Bound<S> {
    stream: S,
    // One for each side: they may be polled by different tasks.
    cut_reading: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_writing: Pin<Box<WaitForCancellationFutureOwned>>,
    _guest: Guest,
}

impl<S> Bound<S> {
    fn may_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut_writing.as_mut().poll(cx).is_ready() { Err(is_cut()) } else { Ok(()) }
    }
}

fn is_cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the virtual address has gone from here")
}

impl<S: AsyncRead + Unpin> AsyncRead for Bound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut_reading.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(is_cut()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.may_write(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.may_write(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.may_write(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Stay {
    /// Who comes in now has come too late.
    fn over() -> Self {
        let stay = Self::default();
        stay.leave.cancel();
        stay.cut.cancel();
        stay
    }
}

impl MovingAddresses {
    /// The address is here from now on: connections there are counted.
    pub fn arrive(&self, address: IpAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address, Stay::default());
    }

    /// A new connection; `None` where the address stays.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Guest> {
        let stays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Stay { connections, leave, cut } = stays.get(&address.to_canonical())?;
        let (leave, cut) = (leave.clone(), cut.clone());
        Some(Guest { leave, cut, _counted: connections.token() })
    }

    /// Ends all connections at the address: those that have not come to their end within `grace` are cut. Until it
    /// arrives again, those that still come in are cut at once: their answers would find no way.
    pub async fn leave(&self, address: IpAddr, grace: Duration) {
        let stay = {
            let mut stays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(stay) = stays.get_mut(&address) else { return };
            std::mem::replace(stay, Stay::over())
        };
        stay.connections.close();
        stay.leave.cancel();
        let gone = tokio::time::timeout(grace, stay.connections.wait()).await;
        if gone.is_err() {
            stay.cut.cancel();
            drop(tokio::time::timeout(CUT_MAX, stay.connections.wait()).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_leave_in_time_is_cut_and_who_comes_too_late_at_once() {
        let (moving, address) = (MovingAddresses::default(), IpAddr::from([10, 0, 0, 9]));
        assert!(moving.enter(address).is_none(), "it stays");
        moving.arrive(address);
        let grace = Duration::from_millis(80);
        let began = tokio::time::Instant::now();
        moving.leave(address, grace).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody was there");
        moving.arrive(address);
        let polite = moving.enter(address).unwrap();
        let slow = moving.enter("::ffff:10.0.0.9".parse().unwrap()).unwrap();
        let leaves = tokio::spawn(async move {
            polite.leave.cancelled().await;
            polite.cut.is_cancelled()
        });
        let cut = tokio::spawn(async move {
            slow.cut.cancelled().await;
            tokio::time::Instant::now()
        });
        moving.leave(address, grace).await;
        assert!(!leaves.await.unwrap(), "it went before anybody was cut");
        assert!(cut.await.unwrap() - began >= grace);
        assert!(moving.enter(address).unwrap().cut.is_cancelled(), "it is gone");
        moving.arrive(address);
        let later = moving.enter(address).unwrap();
        assert!(!later.leave.is_cancelled() && !later.cut.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_became_something_else_is_waited_for_and_cut() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (moving, address) = (MovingAddresses::default(), IpAddr::from([10, 0, 0, 9]));
        moving.arrive(address);
        let (mut client, own) = tokio::io::duplex(64);
        let mut own = moving.enter(address).unwrap().on(own);
        client.write_all(b"hi").await.unwrap();
        let mut said = [0; 2];
        own.read_exact(&mut said).await.unwrap();
        let open = tokio::spawn(async move {
            let read = own.read(&mut [0; 8]).await;
            let wrote = own.write(b"x").await;
            (read.map_err(|error| error.kind()), wrote.map_err(|error| error.kind()))
        });
        let began = tokio::time::Instant::now();
        let grace = Duration::from_millis(80);
        moving.leave(address, grace).await;
        let gone = io::ErrorKind::ConnectionAborted;
        assert_eq!(open.await.unwrap(), (Err(gone), Err(gone)));
        assert_eq!(began.elapsed(), grace, "then it was gone");
        assert_eq!(client.read(&mut said).await.unwrap(), 0, "the client hears of it");
    }
}
