//! What a node stands on: threads, the store under its log, and the ways to other masters. A process
//! has one of it ([`Machine`]); the simulated world of `quorate chaos` has another for each of its
//! masters, so that time, disk and network are its own.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use crate::log::engine::{Batch, Examiner, LogEngine, Opener, Visit};
pub use crate::peer::link::{
    Network, PeerRequest, PeerResponse, PeerService, Presence, Undelivered,
};

use crate::limits::RUNTIME_THREADS;
use crate::log::sled_engine::SledEngine;

/// Work that is a future: of the log, the state machine, a transfer.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a node needs of the place where it runs.
pub trait Host: Debug + Send + Sync + 'static {
    /// Opens the ordered store under the log of `directory`.
    ///
    /// # Errors
    /// When it cannot be opened, or is damaged.
    fn open_log(&self, directory: &Path) -> io::Result<Box<dyn LogEngine>>;

    /// Runs work that may block, beside everything else.
    ///
    /// # Errors
    /// When the host has nothing left to run it on.
    fn start(&self, name: &str, work: Work) -> io::Result<Worker>;

    /// What Raft itself runs on.
    ///
    /// # Errors
    /// When it cannot be made.
    fn runtime(&self) -> io::Result<Runtime>;

    /// Bytes that may still be written on the file system of `path`.
    ///
    /// # Errors
    /// When the file system does not say.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Another network than the machine's, if there is one.
    fn network(&self) -> Option<Arc<dyn Network>>;
}

/// Work that was started.
#[derive(Debug)]
pub enum Worker {
    /// On a thread of its own.
    Thread(std::thread::JoinHandle<()>),
    /// A task among others.
    Task(tokio::task::JoinHandle<()>),
}

impl Worker {
    /// Returns when it has ended. Blocks for a thread: only for those who have one themselves.
    pub(crate) async fn ended(self) {
        // Who panicked has said so itself.
        match self {
            Self::Thread(thread) => drop(thread.join()),
            Self::Task(task) => drop(task.await),
        }
    }
}

/// Where Raft's tasks run.
#[derive(Debug)]
pub struct Runtime {
    /// To it.
    pub handle: Handle,
    /// Its end is what the runtime waits for.
    pub stop: oneshot::Sender<()>,
    /// Ends after it.
    pub ended: Worker,
}

/// The machine: threads, sled, and TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

impl Host for Machine {
    fn open_log(&self, directory: &Path) -> io::Result<Box<dyn LogEngine>> {
        Ok(Box::new(SledEngine::open(directory)?))
    }

    fn start(&self, name: &str, work: Work) -> io::Result<Worker> {
        // Work that waits for time uses the clock of whoever starts it.
        let clock = Handle::try_current().ok();
        let run = move || {
            let _clock = clock.as_ref().map(Handle::enter);
            futures::executor::block_on(work);
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run).map(Worker::Thread)
    }

    /// It lives on a thread, so that it can end whatever the caller's runtime does.
    fn runtime(&self) -> io::Result<Runtime> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("raft")
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread =
            std::thread::Builder::new().name("raft-runtime".to_owned()).spawn(move || {
                // Ends when asked to, or when the node was dropped.
                drop(runtime.block_on(stopped));
                runtime.shutdown_timeout(Duration::from_secs(2));
            })?;
        Ok(Runtime { handle, stop, ended: Worker::Thread(thread) })
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        // What an unprivileged process has.
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn network(&self) -> Option<Arc<dyn Network>> {
        None
    }
}

/// Runs something that blocks beside everything else; the runtime has too few threads to spare one.
pub(crate) async fn in_background<T: Send + 'static>(
    host: &dyn Host,
    name: &str,
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    host.start(name, Box::pin(async move { drop(done.send(run())) }))?;
    result.await.map_err(|_| io::Error::other("the background thread panicked"))?
}
