//! Waits for more of a log without asking again and again: the kernel tells (inotify) when something in its directory
//! is written, made or renamed. Where it cannot (no watches left), the log is looked at at an interval.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use crate::limits::LOG_POLL_INTERVAL;

/// One directory that is watched.
pub(crate) struct Watch(Option<AsyncFd<OwnedFd>>);

impl Watch {
    /// Watches the directory of a log. What happens from now on ends the next [`Watch::changed`]. Must be called within
    /// a tokio runtime.
    pub(crate) fn of(log: &Path) -> Self {
        let open = || -> std::io::Result<AsyncFd<OwnedFd>> {
            let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
            let watcher = inotify::init(flags)?;
            let what = inotify::WatchFlags::MODIFY
                | inotify::WatchFlags::CREATE
                | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(&watcher, log.parent().unwrap_or(log), what)?;
            async_fd(watcher)
        };
        Watch(open().ok())
    }

    /// Waits for a change, at most `limit`.
    pub(crate) async fn changed(&self, limit: Duration) {
        let Some(watcher) = &self.0 else {
            return tokio::time::sleep(limit.min(LOG_POLL_INTERVAL)).await;
        };
        let Ok(Ok(mut ready)) = tokio::time::timeout(limit, watcher.readable()).await else {
            return;
        };
        // What exactly happened does not matter; all of it is taken out.
        let mut buffer = [0; 4096];
        while matches!(rustix::io::read(watcher.get_ref(), &mut buffer), Ok(read) if read > 0) {}
        ready.clear_ready();
    }
}

#[allow(
    deprecated,
    reason = "an OwnedFd always names the same open file: what the deprecation warns of cannot happen"
)]
/// A file descriptor whose being readable can be waited for.
pub(crate) fn async_fd(watcher: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(watcher, tokio::io::Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn writing_and_rotating_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut file = std::fs::File::create(&path).unwrap();
        let watch = Watch::of(&path);
        file.write_all(b"x").unwrap();
        let began = std::time::Instant::now();
        watch.changed(LONG).await;
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        watch.changed(LONG).await;
        assert!(began.elapsed() < LONG);
        // Nothing is left over: the next wait takes its time.
        watch.changed(Duration::from_millis(1)).await;
    }
}
