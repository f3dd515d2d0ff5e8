//! Container logs: files in the CRI log format, read for `kubectl logs` and rotated.

mod format;
mod reader;
mod rotate;
mod watch;

pub(crate) use reader::{Options, Reader, tail};
pub(crate) use rotate::rotate_all;
pub(crate) use watch::{Watch, async_fd};
