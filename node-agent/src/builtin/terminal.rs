//! A terminal's master as asynchronous streams. Tokio's pipe types serve any file descriptor that can be polled.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;

use crate::runtime::TerminalSize;

/// The ends of one terminal; it hangs up when all are dropped.
#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) reader: Reader,
    pub(super) writer: pipe::Sender,
    pub(super) size: Size,
}

/// Its output.
#[derive(Debug)]
pub(super) struct Reader(pipe::Receiver);

/// Its size.
#[derive(Debug)]
pub(super) struct Size(OwnedFd);

impl Terminal {
    pub(super) fn new(master: OwnedFd) -> io::Result<Terminal> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Terminal {
            reader: Reader(pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?),
            writer: pipe::Sender::from_owned_fd_unchecked(master.try_clone()?)?,
            size: Size(master),
        })
    }
}

impl Size {
    pub(super) fn set(&self, size: TerminalSize) {
        let size = rustix::termios::Winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // It may have hung up meanwhile.
        let _ = rustix::termios::tcsetwinsize(&self.0, size);
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let hung_up = Some(rustix::io::Errno::IO.raw_os_error());
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll_read(cx, buf)) {
            // The last process that had the terminal is gone: its way to say end of file.
            Err(err) if err.raw_os_error() == hung_up => Ok(()),
            other => other,
        })
    }
}
