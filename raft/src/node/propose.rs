//! Proposals: into the log through the local leader, and their outcome.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::ClientWriteError;
use quorate_points::{self as points, Point};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::leadership::Leadership;
use super::{Inner, RaftNode};
use crate::error::ProposeError;
use crate::limits::{PROPOSAL_BYTES_IN_FLIGHT_MAX, PROPOSAL_BYTES_MAX, PROPOSALS_IN_FLIGHT_MAX};
use crate::raft_types::{Answer, AppData, LeaderId, term_of};
use crate::space::Need;
use crate::types::{LogIndex, Term};

/// A proposal that was committed and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// Its place in the log.
    pub index: LogIndex,
    /// Term of the leader that proposed it.
    pub term: Term,
    /// What the machine answered.
    pub reply: Bytes,
}

/// Bounds what waits for an outcome, by number and by bytes.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    count: Arc<Semaphore>,
    kibibytes: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            count: Arc::new(Semaphore::new(PROPOSALS_IN_FLIGHT_MAX)),
            kibibytes: Arc::new(Semaphore::new(PROPOSAL_BYTES_IN_FLIGHT_MAX / 1024)),
        }
    }

    /// Proposals that wait for their outcome.
    pub(crate) fn pending(&self) -> usize {
        PROPOSALS_IN_FLIGHT_MAX - self.count.available_permits()
    }

    fn enter(&self, bytes: usize) -> Result<[OwnedSemaphorePermit; 2], ProposeError> {
        if bytes > PROPOSAL_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes, max: PROPOSAL_BYTES_MAX });
        }
        let kibibytes = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        let count = self.count.clone().try_acquire_owned();
        let bytes = self.kibibytes.clone().try_acquire_many_owned(kibibytes);
        match (count, bytes) {
            (Ok(count), Ok(bytes)) => Ok([count, bytes]),
            _ => Err(ProposeError::Overloaded),
        }
    }
}

impl RaftNode {
    /// Proposes bytes and waits until they are applied here. Only on the leader.
    ///
    /// # Errors
    /// `Unknown` is the only one after which the proposal may still be applied (and `Fatal`, when
    /// the node stopped meanwhile).
    pub async fn propose(
        &self,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Proposed, ProposeError> {
        self.inner.propose(Need::Growing, payload, None, deadline).await
    }

    /// As `propose`, also when the disk is nearly full: for what frees space in the end (deletes,
    /// compaction).
    ///
    /// # Errors
    /// As `propose`; `DiskFull` only when the disk is so full that nothing can be written.
    pub async fn propose_reserved(
        &self,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Proposed, ProposeError> {
        self.inner.propose(Need::Freeing, payload, None, deadline).await
    }

    /// Proposes only under the given leadership. A leader that was deposed meanwhile, and be it
    /// elected again, gets `NotLeader`: the check and the append are one step in Raft's core.
    ///
    /// # Errors
    /// As `propose`.
    pub async fn propose_fenced(
        &self,
        leadership: &Leadership,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Proposed, ProposeError> {
        self.inner.propose(Need::Growing, payload, Some(leadership.token), deadline).await
    }

    /// As `propose_fenced`, for what frees space in the end: see `propose_reserved`.
    ///
    /// # Errors
    /// As `propose_reserved`.
    pub async fn propose_fenced_reserved(
        &self,
        leadership: &Leadership,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Proposed, ProposeError> {
        self.inner.propose(Need::Freeing, payload, Some(leadership.token), deadline).await
    }
}

impl Inner {
    async fn propose(
        &self,
        need: Need,
        payload: Bytes,
        fence: Option<LeaderId>,
        deadline: Duration,
    ) -> Result<Proposed, ProposeError> {
        let began = Instant::now();
        let grown = match need {
            Need::Growing => self.space.check_state(self.applied.quota_bytes()),
            Need::Freeing => Ok(()),
        };
        let outcome = match grown.and_then(|()| self.space.check(need)) {
            Ok(()) => self.decide(payload, fence, deadline).await,
            Err(error) => Err(error),
        };
        self.log.meters.proposed(&outcome, began.elapsed());
        outcome
    }

    async fn decide(
        &self,
        payload: Bytes,
        fence: Option<LeaderId>,
        deadline: Duration,
    ) -> Result<Proposed, ProposeError> {
        let permits = self.proposals.enter(payload.len())?;
        points::pass(Point::ProposalBeforeLog);
        let (answer, outcome) = oneshot::channel();
        let mut request = self.raft.write(AppData(payload)).responder(Answer(answer));
        if let Some(fence) = fence {
            request = request.with_leader(fence);
        }
        let wait = async {
            request.await.map_err(|error| self.fatal_error(&error))?;
            Ok(outcome.await)
        };
        let outcome = match tokio::time::timeout(deadline, wait).await {
            // Whether it reached Raft's core is not known either.
            Err(_) => return Err(ProposeError::Unknown { reason: "deadline".to_owned() }),
            Ok(Err(fatal)) => return Err(ProposeError::Fatal(fatal)),
            Ok(Ok(outcome)) => outcome,
        };
        drop(permits);
        match outcome {
            Ok(Ok(done)) => {
                points::pass(Point::ProposalBeforeAnswer);
                Ok(Proposed {
                    index: LogIndex(done.log_id.index),
                    term: term_of(&done.log_id),
                    reply: done.data.0,
                })
            }
            Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
                let leader = forward.leader_id.zip(forward.leader_node);
                // While a transfer runs, or without a quorum, this master may still name itself.
                let leader = leader.filter(|(id, _)| *id != self.id);
                Err(ProposeError::NotLeader { leader })
            }
            Ok(Err(ClientWriteError::LogEntryDiscarded(_))) => {
                Err(ProposeError::Unknown { reason: "the leadership was lost".to_owned() })
            }
            Ok(Err(
                error @ (ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_)),
            )) => Err(ProposeError::Unknown { reason: error.to_string() }),
            Err(_) => match self.fatal.borrow().clone() {
                Some(fatal) => Err(ProposeError::Fatal(fatal)),
                None => Err(ProposeError::Unknown { reason: "the node is stopping".to_owned() }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_bounds_number_and_bytes() {
        let gate = Gate::new();
        assert!(matches!(gate.enter(PROPOSAL_BYTES_MAX + 1), Err(ProposeError::TooLarge { .. })));
        let held: Vec<_> = (0..PROPOSALS_IN_FLIGHT_MAX).map(|_| gate.enter(10).unwrap()).collect();
        assert_eq!(gate.enter(10).unwrap_err(), ProposeError::Overloaded);
        drop(held);
        let mut held = Vec::new();
        while let Ok(permit) = gate.enter(PROPOSAL_BYTES_MAX) {
            held.push(permit);
        }
        assert!(held.len() >= PROPOSAL_BYTES_IN_FLIGHT_MAX / PROPOSAL_BYTES_MAX - 1);
        drop(held);
        drop(gate.enter(PROPOSAL_BYTES_MAX).unwrap());
    }
}
