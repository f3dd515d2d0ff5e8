//! Linearizable reads on any master.
//!
//! All reads that wait at one moment share one round: the leader confirms itself with a quorum
//! (ReadIndex, which also covers a fresh leader's own-term entry), a follower asks the leader. A
//! read that arrives during a round waits for the next: an index from before it began would not
//! cover writes that were acknowledged meanwhile.

use std::time::Duration;

use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use quorate_mutants::{self as mutants, Mutant};
use quorate_points::{self as points, Point};
use quorate_proto::raft as pb;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Inner, Raft, RaftNode};
use crate::error::{Fatal, ReadError};
use crate::limits::{READ_RETRY_PAUSE, READ_ROUND_MAX, READS_WAITING_MAX};
use crate::peer::client::{Peers, Purpose};
use crate::types::LogIndex;

type Waiter = oneshot::Sender<Result<LogIndex, String>>;

/// Where reads queue.
#[derive(Debug, Clone)]
pub(crate) struct Reads {
    /// To be answered by this master as the leader, or not at all.
    leader: mpsc::Sender<Waiter>,
    /// To be answered by whoever leads.
    any: mpsc::Sender<Waiter>,
}

/// The receiving ends.
pub(crate) struct ReadQueues {
    leader: mpsc::Receiver<Waiter>,
    any: mpsc::Receiver<Waiter>,
}

impl Reads {
    pub(crate) fn new() -> (Self, ReadQueues) {
        let (leader, leader_queue) = mpsc::channel(READS_WAITING_MAX);
        let (any, any_queue) = mpsc::channel(READS_WAITING_MAX);
        (Self { leader, any }, ReadQueues { leader: leader_queue, any: any_queue })
    }

    /// An index that covers everything acknowledged before the call; only as the leader.
    pub(crate) async fn leader_index(&self, deadline: Duration) -> Result<LogIndex, String> {
        let (done, index) = oneshot::channel();
        self.leader.try_send(done).map_err(|_| "too many reads wait on the leader".to_owned())?;
        match tokio::time::timeout(deadline, index).await {
            Ok(Ok(index)) => index,
            Ok(Err(_)) => Err("the node is stopping".to_owned()),
            Err(_) => Err("not confirmed by a quorum in time".to_owned()),
        }
    }
}

impl RaftNode {
    /// Waits until the local machine has applied everything that was acknowledged, by any master,
    /// before this call; gives the index it has applied then. Tries again across leader changes
    /// until the deadline.
    ///
    /// # Errors
    /// `Timeout` when no leader with a quorum was found in time; `Removed` at once when this master was.
    pub async fn read_index(&self, deadline: Duration) -> Result<LogIndex, ReadError> {
        let mut removed = self.removed();
        tokio::select! {
            biased;
            index = self.read_index_here(deadline) => index,
            // Nothing more is applied here.
            Ok(_) = removed.wait_for(Option::is_some) => Err(ReadError::Removed),
        }
    }

    async fn read_index_here(&self, deadline: Duration) -> Result<LogIndex, ReadError> {
        if let Some(fatal) = self.inner.fatal.borrow().clone() {
            return Err(fatal.into());
        }
        let until = Instant::now() + deadline;
        let (done, index) = oneshot::channel();
        match self.inner.reads.any.try_send(done) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(ReadError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return Err(Fatal("the node has stopped".to_owned()).into());
            }
        }
        let timeout = |reason: &str| ReadError::Timeout { reason: reason.to_owned() };
        let index = match tokio::time::timeout_at(until, index).await {
            Ok(Ok(Ok(index))) => index,
            Ok(Ok(Err(reason))) => return Err(ReadError::Timeout { reason }),
            Ok(Err(_)) => return Err(Fatal("the node has stopped".to_owned()).into()),
            Err(_) => return Err(timeout("no leader confirmed the read")),
        };
        if mutants::is(Mutant::ReadBeforeApply) {
            return Ok(LogIndex(0));
        }
        let mut applied = self.inner.applied.watch();
        match tokio::time::timeout_at(until, applied.wait_for(|applied| *applied >= index)).await {
            Ok(Ok(applied)) => Ok(*applied),
            Ok(Err(_)) => Err(Fatal("the node has stopped".to_owned()).into()),
            Err(_) => Err(timeout("this master is behind the leader")),
        }
    }
}

/// Takes everything that waits now, those that gave up excepted.
fn drain(queue: &mut mpsc::Receiver<Waiter>, waiting: &mut Vec<Waiter>) {
    while let Ok(waiter) = queue.try_recv() {
        waiting.push(waiter);
    }
    waiting.retain(|waiter| !waiter.is_closed());
}

fn answer(waiting: &mut Vec<Waiter>, index: &Result<LogIndex, String>) {
    for waiter in waiting.drain(..) {
        drop(waiter.send(index.clone()));
    }
}

impl ReadQueues {
    /// Starts both loops; they end with the last handle.
    pub(crate) fn run(self, raft: &Raft, peers: Peers, reads: Reads) {
        tokio::spawn(leader_rounds(raft.clone(), self.leader));
        tokio::spawn(rounds(raft.clone(), peers, reads, self.any));
    }
}

async fn leader_rounds(raft: Raft, mut queue: mpsc::Receiver<Waiter>) {
    let mut waiting = Vec::new();
    while let Some(first) = queue.recv().await {
        waiting.push(first);
        drain(&mut queue, &mut waiting);
        if mutants::is(Mutant::ReadWithoutQuorum) {
            let applied = raft.metrics().borrow_watched().last_applied;
            answer(&mut waiting, &Ok(LogIndex(applied.map_or(0, |id| id.index))));
            continue;
        }
        let confirmed = raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
        let index = confirmed
            .map(|linearizer| LogIndex(linearizer.read_log_id().log_id().index))
            .map_err(|error| error.to_string());
        points::pass(Point::ReadConfirmed);
        answer(&mut waiting, &index);
    }
}

async fn rounds(raft: Raft, peers: Peers, reads: Reads, mut queue: mpsc::Receiver<Waiter>) {
    let mut waiting: Vec<Waiter> = Vec::new();
    let mut last: Option<LogIndex> = None;
    loop {
        if waiting.is_empty() {
            match queue.recv().await {
                Some(first) => waiting.push(first),
                None => return,
            }
        }
        drain(&mut queue, &mut waiting);
        if waiting.is_empty() {
            continue;
        }
        let mut server = raft.server_metrics();
        server.borrow_and_update();
        let round = tokio::time::timeout(READ_ROUND_MAX, round(&raft, &peers, &reads));
        let index = tokio::select! {
            biased;
            index = round => index.unwrap_or_else(|_| Err("the leader does not answer".to_owned())),
            changed = server.changed() => match changed {
                // Votes and leaders changed: what was asked may never be answered.
                Ok(()) => continue,
                Err(_) => Err("the node is stopping".to_owned()),
            },
        };
        if let (Ok(index), true) = (&index, mutants::is(Mutant::ReadIndexReused)) {
            let reused = last.replace(*index).unwrap_or(*index);
            answer(&mut waiting, &Ok(reused));
            continue;
        }
        match index {
            Ok(index) => answer(&mut waiting, &Ok(index)),
            Err(reason) if raft.metrics().borrow_watched().running_state.is_err() => {
                answer(&mut waiting, &Err(reason));
            }
            // Each waiter has its own deadline.
            Err(_) => tokio::time::sleep(READ_RETRY_PAUSE).await,
        }
    }
}

async fn round(raft: &Raft, peers: &Peers, reads: &Reads) -> Result<LogIndex, String> {
    let leader = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        Inner::leader_of(&metrics)
    };
    let Some((leader, member)) = leader else { return Err("no leader is known".to_owned()) };
    if leader == peers.own_id() {
        return reads.leader_index(READ_ROUND_MAX).await;
    }
    let mut client = peers.client(leader, &member.peer_address, Purpose::Call);
    let deadline_ms = u32::try_from(READ_ROUND_MAX.as_millis()).unwrap_or(u32::MAX);
    let reply = client.read_index(pb::ReadIndexRequest { deadline_ms }).await;
    let reply = reply.map_err(|status| status.message().to_owned())?.into_inner();
    if reply.confirmed { Ok(LogIndex(reply.index)) } else { Err(reply.reason) }
}
