//! Byte streams into containers: exec, attach, port-forward.

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::error::Result;

/// Bytes both ways, for a forwarded port.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A boxed [`Duplex`].
pub type BoxDuplex = Box<dyn Duplex>;
/// The reading end of a process's output. EOF when the process closed it.
pub type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
/// The writing end of a process's input. `shutdown` closes it.
pub type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// What to run in a container, and which of its streams to join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Join stdin.
    pub stdin: bool,
    /// Join stdout.
    pub stdout: bool,
    /// Join stderr. Never with `tty`.
    pub stderr: bool,
    /// Give it a terminal.
    pub tty: bool,
}

/// Which streams of a running container to join.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Join stdin.
    pub stdin: bool,
    /// Join stdout.
    pub stdout: bool,
    /// Join stderr. Never with `tty`.
    pub stderr: bool,
    /// The container has a terminal.
    pub tty: bool,
}

/// A new size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A joined process. Dropping it leaves a container's own process alone; a process made by `exec` is left to its
/// broken pipes, as with the kubelet.
pub struct Session {
    /// Its input, when asked for.
    pub stdin: Option<BoxWrite>,
    /// Its output, when asked for.
    pub stdout: Option<BoxRead>,
    /// Its error output, when asked for.
    pub stderr: Option<BoxRead>,
    /// Takes new terminal sizes, with a terminal ([`crate::limits::RESIZE_EVENTS_MAX`] wait at most).
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// The exit code once the process ended *and* its output was read to the end. Attach: 0 when the streams end.
    pub exit: BoxFuture<'static, Result<i32>>,
}

/// The outcome of a command run to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// At most [`crate::limits::EXEC_SYNC_OUTPUT_BYTES_MAX`] bytes.
    pub stdout: Vec<u8>,
    /// At most [`crate::limits::EXEC_SYNC_OUTPUT_BYTES_MAX`] bytes.
    pub stderr: Vec<u8>,
    /// The exit code.
    pub exit_code: i32,
}
