//! Stopping in order: leadership first, then Raft, the listener, the runtime, the threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{oneshot, watch};

use super::RaftNode;
use crate::host::Worker;
use crate::limits::{SHUTDOWN_MAX, SHUTDOWN_TRANSFER_MAX};
use crate::log::storage::LogThread;

/// Everything that has to end. Dropped without `shutdown`, the threads end by themselves.
pub(crate) struct Parts {
    /// Its end is what the runtime's thread waits for.
    pub(crate) runtime: oneshot::Sender<()>,
    pub(crate) runtime_ended: Worker,
    pub(crate) log: LogThread,
    pub(crate) apply: Worker,
    pub(crate) server: watch::Sender<bool>,
}

/// How far stopping is.
pub(crate) struct Stopping {
    begun: AtomicBool,
    parts: Mutex<Option<Parts>>,
    done: watch::Sender<bool>,
}

impl Stopping {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            begun: AtomicBool::new(false),
            parts: Mutex::new(Some(parts)),
            done: watch::Sender::new(false),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<Parts> {
        self.begun.store(true, Ordering::Relaxed);
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl RaftNode {
    /// Stops the node: hands leadership over when there is somebody, writes what is pending, joins
    /// all threads. Safe to call from several places; all return when it is done (or after
    /// `limits::SHUTDOWN_MAX`).
    pub async fn shutdown(&self) {
        if !self.inner.stopping.is_stopping()
            && let Ok(node) = self.transfer_within(None, SHUTDOWN_TRANSFER_MAX).await
        {
            tracing::info!(%node, "handed leadership over before stopping");
        }
        self.abort().await;
    }

    /// Stops the node as `shutdown` does, but without handing leadership over.
    pub async fn abort(&self) {
        let inner = &self.inner;
        let Some(parts) = inner.stopping.take() else {
            let mut done = inner.stopping.done.subscribe();
            // On timeout there is nothing more to wait for.
            drop(tokio::time::timeout(SHUTDOWN_MAX, done.wait_for(|done| *done)).await);
            return;
        };
        let raft = inner.raft.clone();
        let stopped = inner.runtime.spawn(async move { raft.shutdown().await });
        if tokio::time::timeout(SHUTDOWN_MAX / 2, stopped).await.is_err() {
            tracing::warn!("raft did not stop in time");
        }
        parts.server.send_replace(true);
        let done = inner.stopping.done.clone();
        let mut finished = done.subscribe();
        let join = async move {
            drop(parts.runtime);
            parts.runtime_ended.ended().await;
            parts.log.stop().await;
            parts.apply.ended().await;
            done.send_replace(true);
        };
        if let Err(error) = inner.host.start("raft-stop", Box::pin(join)) {
            tracing::warn!(%error, "no thread to join the others");
        }
        if tokio::time::timeout(SHUTDOWN_MAX, finished.wait_for(|done| *done)).await.is_err() {
            tracing::warn!("the node's threads did not end in time");
        }
    }
}
