//! The agent's end of the conversation with a shim.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::record::SandboxDir;
use super::shim::protocol::{self, Envelope, FailureKind, Inbox, Reply, Request, VERSION};
use crate::runtime::Error;

/// A request under way.
pub(super) struct Call {
    stream: UnixStream,
    inbox: Inbox,
}

impl Call {
    /// Connects to the sandbox's shim and sends the request with its file descriptors.
    pub(super) async fn send(
        dir: &SandboxDir,
        request: Request,
        fds: &[OwnedFd],
    ) -> Result<Call, Error> {
        let unavailable = |err: io::Error| Error::Unavailable(format!("the pod's shim: {err}"));
        let dir_fd = File::open(&dir.0).map_err(unavailable)?;
        // Short whatever the data directory's length: a socket's path may have 108 bytes.
        let path = format!("/proc/self/fd/{}/shim.sock", dir_fd.as_raw_fd());
        let stream = UnixStream::connect(path).await.map_err(unavailable)?;
        let frame =
            protocol::frame(&Envelope { version: VERSION, request }).map_err(unavailable)?;
        let mut fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let mut sent = 0;
        while sent < frame.len() {
            let send = || protocol::send(&stream, &frame[sent..], &fds);
            sent += stream.async_io(Interest::WRITABLE, send).await.map_err(unavailable)?;
            fds.clear();
        }
        Ok(Call { stream, inbox: Inbox::default() })
    }

    /// The next answer, with the file descriptor that came with it. A refusal is an error.
    pub(super) async fn answer(&mut self) -> Result<(Reply, Option<OwnedFd>), Error> {
        let broken = |err: io::Error| Error::Unavailable(format!("the pod's shim: {err}"));
        loop {
            if let Some(reply) = self.inbox.message::<Reply>().map_err(broken)? {
                return match reply {
                    Reply::Failed { kind, message } => Err(error(kind, message)),
                    reply => Ok((reply, self.inbox.fds.pop())),
                };
            }
            let Call { stream, inbox } = self;
            let more = stream.async_io(Interest::READABLE, || inbox.receive(&*stream)).await;
            if !more.map_err(broken)? {
                return Err(broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// Sends a request and waits for its only answer.
pub(super) async fn call(
    dir: &SandboxDir,
    request: Request,
    timeout: Duration,
) -> Result<Option<OwnedFd>, Error> {
    let work = async { Call::send(dir, request, &[]).await?.answer().await };
    match tokio::time::timeout(timeout, work).await {
        Ok(answer) => Ok(answer?.1),
        Err(_) => Err(Error::Timeout(timeout)),
    }
}

fn error(kind: FailureKind, message: String) -> Error {
    match kind {
        FailureKind::NotFound => Error::NotFound(message),
        FailureKind::Invalid => Error::Invalid(message),
        FailureKind::Start => Error::Start(message),
        FailureKind::Timeout => Error::Timeout(Duration::ZERO),
        FailureKind::Other => Error::Other(message),
    }
}
