//! Handing leadership over. Writes stop from the request until somebody has won, so only a master
//! that is up to date is asked, and the outcome is watched.

use std::time::Duration;

use tokio::time::Instant;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use super::status::MemberStatus;
use super::{Inner, RaftNode};
use crate::error::TransferError;
use crate::limits::{LEADER_READY_MAX, TRANSFER_LAG_MAX, TRANSFER_WAIT_MAX};
use crate::types::NodeId;

/// Between two looks.
const POLL: Duration = Duration::from_millis(25);

impl RaftNode {
    /// Makes another voter the leader: the given one, or the one that is most up to date. Gives
    /// the new leader.
    ///
    /// # Errors
    /// `NotLeader`, `NoTarget`, `Silent`, `NotCaughtUp`: nothing was done. `NotTaken`: somebody else may
    /// lead now, or still this master.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        self.transfer_within(to, TRANSFER_WAIT_MAX).await
    }

    /// To whom leadership would be handed over: a dry run of `transfer_leader`.
    ///
    /// # Errors
    /// As `transfer_leader`, but `NotTaken`.
    pub async fn transfer_target(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        let inner = self.inner.clone();
        self.on_runtime(async move { inner.transfer_target_soon(to).await }).await
    }

    pub(crate) async fn transfer_within(
        &self,
        to: Option<NodeId>,
        limit: Duration,
    ) -> Result<NodeId, TransferError> {
        let inner = self.inner.clone();
        self.on_runtime(async move {
            let node = inner.transfer_target_soon(to).await?;
            let mut metrics = inner.raft.metrics();
            inner
                .raft
                .trigger()
                .transfer_leader(node)
                .await
                .map_err(|error| inner.fatal_error(&error))?;
            let taken = async {
                loop {
                    let leader = metrics.borrow_and_update().current_leader;
                    if leader.is_some_and(|leader| leader != inner.id) {
                        return leader;
                    }
                    if metrics.changed().await.is_err() {
                        return None;
                    }
                }
            };
            match tokio::time::timeout(limit, taken).await {
                Ok(Some(leader)) if leader == node => Ok(node),
                _ => Err(TransferError::NotTaken { node }),
            }
        })
        .await
    }
}

impl Inner {
    /// A new leader has to hear first how far the others are.
    async fn transfer_target_soon(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        let until = Instant::now() + LEADER_READY_MAX;
        loop {
            match self.transfer_target(to) {
                Err(TransferError::NotCaughtUp { .. } | TransferError::Silent { .. })
                    if Instant::now() < until =>
                {
                    tokio::time::sleep(POLL).await;
                }
                target => return target,
            }
        }
    }

    fn transfer_target(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        let metrics = self.metrics();
        if metrics.state != ServerState::Leader {
            let leader = Self::leader_of(&metrics).filter(|(id, _)| *id != self.id);
            return Err(TransferError::NotLeader { leader });
        }
        let members = self.members_of(&metrics);
        // Who is dead looks level for as long as nobody writes.
        let silent = |member: &MemberStatus| {
            member.last_contact.is_none_or(|ago| ago > self.timing.election_max)
        };
        let lag = |member: &MemberStatus| member.lag.unwrap_or(u64::MAX);
        let best = members
            .iter()
            .filter(|member| member.voter && member.id != self.id)
            .filter(|member| to.is_none_or(|to| to == member.id))
            .min_by_key(|member| (silent(member), lag(member), member.last_contact))
            .ok_or(TransferError::NoTarget)?;
        if silent(best) || best.matched.is_none() {
            return Err(TransferError::Silent { node: best.id });
        }
        if lag(best) > TRANSFER_LAG_MAX {
            return Err(TransferError::NotCaughtUp { node: best.id, lag: lag(best) });
        }
        Ok(best.id)
    }
}
