//! Rings when something happened to a container: the kernel tells when a shim writes a status (inotify) and when a shim
//! ends (its pidfd). Only the fact counts; what happened is looked at. Where the kernel cannot tell (no watches
//! left), the agent's look at every second has to do.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::logs::async_fd;

/// See the module. What it started ends with it.
#[derive(Debug)]
pub(super) struct Bell {
    rings: watch::Sender<()>,
    statuses: Option<Arc<AsyncFd<OwnedFd>>>,
    end: CancellationToken,
    _end: DropGuard,
}

impl Bell {
    /// Must be called within a tokio runtime.
    pub(super) fn new() -> Bell {
        let end = CancellationToken::new();
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let opened = inotify::init(flags).map_err(std::io::Error::from).and_then(async_fd);
        let statuses = opened.map(Arc::new).inspect_err(|err| {
            tracing::warn!(%err, "ends of containers are seen at the next look only");
        });
        let bell = Bell {
            rings: watch::Sender::new(()),
            statuses: statuses.ok(),
            end: end.clone(),
            _end: end.drop_guard(),
        };
        if let Some(statuses) = bell.statuses.clone() {
            bell.spawn(|rings| async move {
                let mut buffer = [0; 4096];
                while let Ok(mut ready) = statuses.readable().await {
                    // Which one does not matter; all of it is taken out.
                    while matches!(rustix::io::read(&*statuses, &mut buffer), Ok(1..)) {}
                    ready.clear_ready();
                    rings.send_replace(());
                }
            });
        }
        bell
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        work: impl FnOnce(watch::Sender<()>) -> F,
    ) {
        let (work, end) = (work(self.rings.clone()), self.end.clone());
        tokio::spawn(async move { end.run_until_cancelled(work).await });
    }

    /// Rings when a status in a container's directory changes, until the directory is gone.
    pub(super) fn follow_container(&self, dir: &Path) {
        let Some(statuses) = &self.statuses else { return };
        if let Err(err) = inotify::add_watch(&**statuses, dir, inotify::WatchFlags::MOVED_TO) {
            tracing::debug!(dir = %dir.display(), %err, "a container is not followed");
        }
    }

    /// Rings when that process ends.
    pub(super) fn follow_shim(&self, pid: i32) {
        let Some(pid) = Pid::from_raw(pid) else { return };
        // One that has ended already is seen at the next look.
        let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK) else { return };
        let Ok(process) = async_fd(process) else { return };
        self.spawn(|rings| async move {
            if process.readable().await.is_ok() {
                rings.send_replace(());
            }
        });
    }

    /// An item for each time it rang since the one before.
    pub(super) fn rings(&self) -> BoxStream<'static, ()> {
        let heard = self.rings.subscribe();
        futures::stream::unfold(heard, |mut heard| async move {
            heard.changed().await.ok()?;
            Some(((), heard))
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn rang(rings: &mut BoxStream<'static, ()>) {
        tokio::time::timeout(LONG, rings.next()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn statuses_and_ends_of_shims_are_heard() {
        let dir = tempfile::tempdir().unwrap();
        let bell = Bell::new();
        let mut rings = bell.rings();
        bell.follow_container(dir.path());
        std::fs::write(dir.path().join("status.new"), "{}").unwrap();
        std::fs::rename(dir.path().join("status.new"), dir.path().join("status.json")).unwrap();
        rang(&mut rings).await;
        let mut shim = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        bell.follow_shim(i32::try_from(shim.id()).unwrap());
        shim.kill().unwrap();
        rang(&mut rings).await;
        shim.wait().unwrap();
        // Its tasks end with it, and so does the stream.
        drop(bell);
        assert_eq!(tokio::time::timeout(LONG, rings.next()).await.unwrap(), None);
    }
}
