//! What a node does by itself: snapshots and purging, free space, half-done membership changes,
//! whether it was removed, and noticing that Raft has failed.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::Inner;
use crate::error::Fatal;
use crate::host::in_background;
use crate::limits::{
    DISK_CHECK_INTERVAL, HEARD_KEPT_EVERY, MEMBERSHIP_CHECK_INTERVAL, SNAPSHOT_CHECK_INTERVAL,
};

/// Starts the tasks. They end with the node.
pub(crate) fn start(inner: &Arc<Inner>) {
    every(
        SNAPSHOT_CHECK_INTERVAL,
        inner,
        |inner| async move { inner.look_after_snapshots().await },
    );
    every(DISK_CHECK_INTERVAL, inner, |inner| async move { inner.look_after_disk().await });
    every(HEARD_KEPT_EVERY, inner, |inner| async move { inner.keep_past().await });
    // Each by itself: they may wait for others.
    every(MEMBERSHIP_CHECK_INTERVAL, inner, |inner| async move { inner.follow_members() });
    every(MEMBERSHIP_CHECK_INTERVAL, inner, |inner| async move { inner.finish_joint().await });
    every(MEMBERSHIP_CHECK_INTERVAL, inner, |inner| async move {
        inner.ask_whether_removed().await;
    });
    tokio::spawn(watch_raft(Arc::downgrade(inner)));
    tokio::spawn(ask_when_left(Arc::downgrade(inner)));
}

fn every<F>(interval: Duration, inner: &Arc<Inner>, work: impl Fn(Arc<Inner>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    let inner = Arc::downgrade(inner);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(inner) = inner.upgrade() else { return };
            work(inner).await;
        }
    });
}

/// A leader closes its connections to whom it has removed.
async fn ask_when_left(inner: Weak<Inner>) {
    let Some(mut lost) = inner.upgrade().map(|inner| inner.inbound.lost.subscribe()) else {
        return;
    };
    while lost.changed().await.is_ok() {
        let Some(inner) = inner.upgrade() else { return };
        inner.ask_whether_removed().await;
    }
}

/// Raft ends by itself only after a storage error or a bug: the process must go too.
async fn watch_raft(inner: Weak<Inner>) {
    let Some(mut metrics) = inner.upgrade().map(|inner| inner.raft.metrics()) else { return };
    loop {
        let failed = metrics.borrow_and_update().running_state.clone().err();
        let ended = metrics.changed().await.is_err();
        let Some(inner) = inner.upgrade() else { return };
        if inner.stopping.is_stopping() {
            return;
        }
        if let Some(error) = failed {
            inner.fail(error.to_string());
            return;
        }
        if ended {
            // What panics says no more than that it is gone.
            inner.fail("Raft has panicked; the log tells with what words".to_owned());
            return;
        }
    }
}

impl Inner {
    /// Connections go to the members, where they are now.
    pub(crate) fn follow_members(&self) {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        self.log.meters.keep(&membership.nodes().map(|(_, node)| node.name.as_str()).collect());
        let members = membership.nodes();
        self.peers.follow(members.map(|(id, node)| (*id, node.peer_address.clone())).collect());
    }

    fn fail(&self, text: String) {
        self.fatal.send_modify(|fatal| {
            fatal.get_or_insert(Fatal(text));
        });
    }

    /// Takes a snapshot when the log (two generations of it) exceeds the rule, and purges the log up
    /// to the oldest snapshot that is kept.
    async fn look_after_snapshots(&self) {
        let last_snapshot = self.snapshots.current().and_then(|file| file.last_index());
        let since = {
            let log = self.log.lock();
            log.bytes_after(last_snapshot)
        };
        let rule = self.snapshot_rule;
        let state = if rule.follow_state_size { self.applied.state_bytes() } else { 0 };
        // Compressed, a state is much smaller than what it counts as; half is already generous.
        let has_room = self.space.has_room_for(self.applied.state_bytes() / 2);
        // The log reaches back to the snapshot before the last: half of it is new.
        if since > rule.log_bytes_min.max(state) / 2 && has_room {
            // Ignored by Raft while one is being made. An error means that Raft has ended.
            drop(self.raft.trigger().snapshot().await);
        }
        let purged = self.log.lock().purged.map(|id| id.index);
        if let Some(upto) = self.snapshots.purgeable()
            && purged < Some(upto)
        {
            drop(self.raft.trigger().purge_log(upto).await);
        }
    }

    /// Others' logs are remembered beyond the end of this process.
    async fn keep_past(&self) {
        let metrics = self.metrics();
        let members = metrics.membership_config.membership().nodes();
        let members: Vec<_> = members.map(|(id, _)| *id).collect();
        // One that has not joined yet is told of others all the same.
        if members.is_empty() {
            return;
        }
        let past = self.past.clone();
        let kept = in_background(&*self.host, "raft-heard", move || past.keep(&members)).await;
        if let Err(error) = kept {
            tracing::debug!(%error, "what is known of the others' logs cannot be kept");
        }
    }

    async fn look_after_disk(&self) {
        let space = self.space.clone();
        if let Err(error) = in_background(&*self.host, "raft-disk", move || space.keep()).await {
            tracing::warn!(%error, "the free space or the ballast cannot be looked after");
        }
    }
}
