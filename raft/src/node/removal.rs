//! How a master learns that it was taken out of the group: it gets no more of the log, so it hears nothing from a
//! leader, asks the others, and is told. It marks its directory and ends.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::watch;

use super::{Inner, Metrics, RaftNode};
use crate::host::in_background;
use crate::limits::MEMBER_ANSWER_MAX;
use crate::mark::Mark;
use crate::types::{Member, NodeId};

impl RaftNode {
    /// Becomes `Some`, with what to do, when the others have removed this master: it must end. Its directory is
    /// marked by then.
    #[must_use]
    pub fn removed(&self) -> watch::Receiver<Option<String>> {
        self.inner.removed.subscribe()
    }

    /// Whether the member of that number was removed, as far as this master has applied. Who was admitted a moment
    /// ago was not.
    #[must_use]
    pub fn has_removed(&self, node: NodeId) -> bool {
        was_removed(&self.inner.metrics(), node)
    }
}

impl Inner {
    /// Asks the others whether this master is still one of them, when no leader is connected to it, or sends anything.
    pub(crate) async fn ask_whether_removed(self: &Arc<Self>) {
        let metrics = self.metrics();
        let silent = 2 * self.timing.election_max;
        let hears = metrics.current_leader.is_some_and(|leader| self.inbound.present(leader))
            && self.inbound.led_at().is_some_and(|at| at.elapsed() <= silent);
        if metrics.state == ServerState::Leader || hears || self.removed.borrow().is_some() {
            return;
        }
        let members = metrics.membership_config.membership().nodes();
        let others: Vec<(NodeId, Member)> =
            members.filter(|(id, _)| **id != self.id).map(|(id, m)| (*id, m.clone())).collect();
        let asked = others.iter().map(|(id, member)| self.says_removed(*id, member));
        if join_all(asked).await.contains(&true) {
            self.leave().await;
        }
    }

    async fn says_removed(&self, id: NodeId, member: &Member) -> bool {
        self.probe(id, member, MEMBER_ANSWER_MAX).await.is_some_and(|reply| reply.removed)
    }

    /// The directory first: a master that ended and does not know why would be started again.
    async fn leave(&self) {
        if self.leaving.swap(true, Ordering::Relaxed) {
            return;
        }
        let problem = advice(self.id, &self.member, &self.directory);
        let (directory, text) = (self.directory.join("raft"), problem.clone());
        let marked = move || Mark::Removed.set(&directory, &text);
        if let Err(error) = in_background(&*self.host, "raft-mark", marked).await {
            tracing::error!(%error, "the directory of this master cannot be marked");
        }
        tracing::warn!("the other masters have removed this one");
        self.removed.send_replace(Some(problem));
    }
}

fn advice(id: NodeId, member: &Member, directory: &Path) -> String {
    format!(
        "master {:?} was removed from the cluster (it was number {id}). To join again, move {} away or delete it, then \
         run `quorate server --join URL --token T` as on a new machine",
        member.name,
        directory.display(),
    )
}

/// Whether the member of that number was removed, as far as this master has applied. Numbers are indexes of log entries
/// directly before the one that makes a member: a membership behind it that lacks it has lost it, for ever.
pub(crate) fn was_removed(metrics: &Metrics, id: NodeId) -> bool {
    let membership = &metrics.membership_config;
    let committed = |at: &crate::raft_types::LogId| Some(*at) <= metrics.last_applied;
    membership.log_id().as_ref().is_some_and(|at| at.index > id.0 && committed(at))
        && membership.membership().get_node(&id).is_none()
}

/// The same, of a running node.
pub(crate) fn says_removed(raft: &super::Raft, id: NodeId) -> bool {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    was_removed(&metrics, id)
}
