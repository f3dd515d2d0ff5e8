//! Logs that nobody reads: masters that write to a pipe, which is read into the log file or is not.
//!
//! A master that waits until somebody reads its log does not serve meanwhile. The pipe is as small as pipes are, and
//! filled when it is blocked, so that the first line of a log waits.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Between two looks at a pipe that is empty or blocked.
const PAUSE: Duration = Duration::from_millis(10);

/// The kernel makes it a page at least.
const PIPE_BYTES: usize = 4096;

/// The pipe of one master, over all its lives.
#[derive(Debug)]
pub struct LogPipe {
    write: OwnedFd,
    blocked: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl LogPipe {
    /// Makes a pipe, and reads it into the log file.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub fn make(log: &Path) -> anyhow::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setpipe_size(&write, PIPE_BYTES)?;
        let (blocked, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let what = || format!("cannot write {}", log.display());
        let log = OpenOptions::new().create(true).append(true).open(log).with_context(what)?;
        let read = again(&read, OpenOptions::new().read(true))?;
        let flags = (blocked.clone(), over.clone());
        thread::Builder::new().name("log".into()).spawn(move || drain(read, log, &flags))?;
        Ok(Self { write, blocked, over })
    }

    /// For a process to write to.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn ends(&self) -> anyhow::Result<(Stdio, Stdio)> {
        Ok((self.write.try_clone()?.into(), self.write.try_clone()?.into()))
    }

    /// Reads it, or does not.
    pub fn block(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    /// Whether a writer has to wait now; what is still free in a blocked pipe is filled with empty lines.
    ///
    /// # Errors
    /// When the pipe cannot be written to.
    pub fn is_full(&self) -> anyhow::Result<bool> {
        if !self.blocked.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let mut write = again(&self.write, OpenOptions::new().write(true))?;
        // A write of a page is done as a whole or not at all; then the rest, byte by byte.
        for part in [&[b'\n'; PIPE_BYTES][..], b"\n"] {
            loop {
                match write.write(part) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(true)
    }
}

impl Drop for LogPipe {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The same end of the pipe, which does not wait: the flag belongs to what is opened, and a clone would share it with
/// the master.
fn again(end: &OwnedFd, options: &mut OpenOptions) -> anyhow::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits())?;
    let path = format!("/proc/self/fd/{}", end.as_raw_fd());
    options.custom_flags(flags).open(&path).with_context(|| path)
}

fn drain(mut from: File, mut to: File, (blocked, over): &(Arc<AtomicBool>, Arc<AtomicBool>)) {
    let mut bytes = [0; PIPE_BYTES];
    loop {
        let over = over.load(Ordering::Relaxed);
        match (blocked.load(Ordering::Relaxed), over) {
            (true, false) => thread::sleep(PAUSE),
            _ => match from.read(&mut bytes) {
                Ok(0) => return,
                Ok(count) => drop(to.write_all(&bytes[..count])),
                Err(_) if over => return,
                Err(_) => thread::sleep(PAUSE),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_writes_waits_until_it_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let pipe = LogPipe::make(&log).unwrap();
        assert!(!pipe.is_full().unwrap());
        pipe.block(true);
        assert!(pipe.is_full().unwrap());
        let (out, err) = pipe.ends().unwrap();
        let mut echo = Command::new("echo").arg("at last").stdout(out).stderr(err).spawn().unwrap();
        thread::sleep(Duration::from_millis(100));
        assert!(echo.try_wait().unwrap().is_none(), "it waits");
        pipe.block(false);
        assert!(echo.wait().unwrap().success());
        let begin = Instant::now();
        while !std::fs::read_to_string(&log).unwrap().ends_with("at last\n") {
            assert!(begin.elapsed() < Duration::from_secs(20));
            thread::sleep(PAUSE);
        }
    }
}
