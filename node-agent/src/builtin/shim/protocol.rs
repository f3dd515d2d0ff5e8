//! The words between agent and shim: length-prefixed JSON over a unix socket, file descriptors beside it.
//!
//! One connection carries one request. Most are answered once; `Exec` is answered twice (`Started`, then `Exited`).
//! A shim may be older than the agent that talks to it: requests only ever gain fields, and a new meaning gets a new
//! operation. An unknown operation is answered with `Failed`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

use crate::builtin::limits::SHIM_MESSAGE_BYTES_MAX;

/// Of this file.
pub const VERSION: u32 = 1;
/// File descriptors one message may carry.
pub const FDS_MAX: usize = 3;

/// What the agent sends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// What to do.
    pub request: Request,
}

/// Which standard streams come as file descriptors, in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// An operation. Its fields are named after what they are.
#[allow(missing_docs)]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Are you there?
    Ping,
    /// Mount the root file system of the container whose record is on disk.
    Create { container: String },
    /// Start it.
    Start { container: String },
    /// Signal it, kill it after the grace; answered when it is gone.
    Stop { container: String, signal: String, grace_ms: u64 },
    /// Kill it if need be, unmount and forget it.
    Remove { container: String },
    /// Open its log anew.
    ReopenLog { container: String },
    /// Run a process in it. With a terminal its master comes with `Started`.
    Exec {
        container: String,
        command: Vec<String>,
        tty: bool,
        streams: Streams,
        timeout_ms: Option<u64>,
    },
    /// Join its streams. Answered `Started`, then `Exited` when it ends.
    Attach { container: String, streams: Streams },
    /// Size of its terminal.
    Resize { container: String, width: u16, height: u16 },
    /// Connect to a port on the pod's loopback; the socket comes with `Done`.
    Connect { port: u16 },
    /// Kill all containers and end. Answered when they are dead.
    Shutdown,
}

/// Why the shim could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No such container, or it does not run.
    NotFound,
    /// The configuration cannot be honoured.
    Invalid,
    /// The process could not be started.
    Start,
    /// The time was up; the process was killed.
    Timeout,
    /// Anything else.
    Other,
}

/// What the shim answers.
#[allow(missing_docs)]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Done,
    /// The process runs.
    Started,
    /// The process ended.
    Exited { code: i32 },
    /// It failed.
    Failed { kind: FailureKind, message: String },
}

/// A message as bytes.
pub fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(|_| too_large())?;
    if body.len() > SHIM_MESSAGE_BYTES_MAX {
        return Err(too_large());
    }
    Ok([&length.to_be_bytes()[..], &body].concat())
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "message is too large")
}

/// Bytes and file descriptors that came so far.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// Received file descriptors, oldest first.
    pub fds: Vec<OwnedFd>,
}

impl Inbox {
    /// Receives once. `false` at the end of the stream.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<bool> {
        let mut chunk = [0_u8; 16 * 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut chunk)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for item in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = item {
                self.fds.extend(fds);
            }
        }
        self.bytes.extend_from_slice(&chunk[..message.bytes]);
        Ok(message.bytes > 0)
    }

    /// The next whole message.
    pub fn message<T: serde::de::DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(head) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > SHIM_MESSAGE_BYTES_MAX {
            return Err(too_large());
        }
        if self.bytes.len() < 4 + length {
            return Ok(None);
        }
        let body: Vec<u8> = self.bytes.drain(..4 + length).skip(4).collect();
        Ok(Some(serde_json::from_slice(&body)?))
    }
}

/// Sends a frame with file descriptors. The fds travel with the first byte; returns the bytes that were taken.
pub fn send(socket: impl AsFd, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many file descriptors"));
    }
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(frame)], &mut control, SendFlags::NOSIGNAL)?)
}
