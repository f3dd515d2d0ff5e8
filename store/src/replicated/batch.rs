//! Many writers share one log entry.
//!
//! A writer's command gets its session number and waits in a queue; one task takes what is there,
//! makes one entry of it and has it decided, [`BATCHES_IN_FLIGHT_MAX`] entries at a time. Nobody waits
//! for company: an entry is made as soon as there is room for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate_mutants::{self as mutants, Mutant};
use quorate_raft::{CallError, LeadershipState, NodeId, ProposeError, RaftNode};
use quorate_state_machine::{
    Command, Entry, Outcome, Proposal, Reply, SessionId, SessionTag, codec,
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::error::Error;
use crate::limits::{
    ANSWER_MARGIN, BATCH_BYTES_MAX, BATCH_PROPOSALS_MAX, BATCHES_IN_FLIGHT_MAX, FORWARD_TIMEOUT,
    QUEUE_WRITES_MAX, RETRY_PAUSE, WRITE_TIMEOUT,
};
use crate::replicated::forward::{self, Answer};
use crate::replicated::session::Session;
use crate::store::millis;

/// The queue of writers.
///
/// A writer whose time is over, or who is gone, leaves it without a trace: what was never sent is answered as not
/// written, and is not written later either. Also of an entry whose first try reached nobody only that is tried again
/// for which somebody still waits; and an entry for which nobody waits any more is not tried again at all.
#[derive(Debug)]
pub(crate) struct Batcher {
    queue: mpsc::Sender<Queued>,
}

/// A writer in the queue.
#[derive(Debug)]
struct Queued {
    waiting: Waiting,
    /// Set by whoever comes first: the task that sends the command, or the writer that gives up.
    claimed: Arc<AtomicBool>,
}

impl Queued {
    /// The writer, if it still waits.
    fn claim(self) -> Option<Waiting> {
        let gone = self.claimed.swap(true, Ordering::AcqRel) || self.waiting.answer.is_closed();
        (!gone).then_some(self.waiting)
    }
}

/// Where the outcome of a command goes.
type Answered = oneshot::Sender<Result<Vec<Outcome>, Error>>;

#[derive(Debug)]
struct Waiting {
    command: Command,
    weight: usize,
    deadline: Instant,
    answer: Answered,
}

/// Of a writer whose command is in an entry.
#[derive(Debug)]
struct Writer {
    answer: Answered,
    weight: usize,
    deadline: Instant,
}

/// Replies of an applied entry.
pub(crate) fn decode_replies(bytes: &[u8]) -> Result<Vec<Reply>, Error> {
    codec::decode_replies(bytes)
        .map_err(|error| Error::Stopped { reason: format!("replies do not decode: {error}") })
}

impl Batcher {
    /// Starts the task that makes entries. It ends when the batcher is dropped.
    pub(crate) fn start(raft: RaftNode) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_WRITES_MAX);
        tokio::spawn(run(raft, waiting));
        Self { queue }
    }

    /// Has one command decided, wherever the leader is, exactly once.
    pub(crate) async fn propose(
        &self,
        command: Command,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, Error> {
        let weight = match &command {
            Command::Write(ops) | Command::Txn(ops) => {
                ops.iter().map(quorate_state_machine::Op::weight).sum()
            }
            Command::Compact(_)
            | Command::OpenSession(_)
            | Command::CloseSessions(_)
            | Command::RaiseLevel(_) => 0,
        };
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { command, weight, deadline: Instant::now() + deadline, answer };
        let claimed = Arc::new(AtomicBool::new(false));
        let queued = Queued { waiting, claimed: claimed.clone() };
        self.queue.try_send(queued).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => crate::store::stopped(),
        })?;
        // The task answers by the deadline; the margin is for its own bookkeeping.
        match tokio::time::timeout(deadline + ANSWER_MARGIN, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(crate::store::stopped()),
            Err(_) if !claimed.swap(true, Ordering::AcqRel) => {
                Err(Error::Unavailable { waited_ms: millis(deadline), silence: None })
            }
            Err(_) => Err(Error::Unknown { waited_ms: millis(deadline) }),
        }
    }
}

async fn run(raft: RaftNode, mut queue: mpsc::Receiver<Queued>) {
    let proposer = Arc::new(Proposer::new(raft));
    let slots = Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX));
    let mut left_over: Option<Queued> = None;
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let first = match left_over.take() {
            Some(first) => first,
            None => match queue.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        // Those that gave up while they waited for a slot.
        let Some(first) = first.claim() else { continue };
        let mut bytes = first.weight;
        let mut batch = vec![first];
        while batch.len() < BATCH_PROPOSALS_MAX {
            let Ok(next) = queue.try_recv() else { break };
            if bytes + next.waiting.weight > BATCH_BYTES_MAX {
                left_over = Some(next);
                break;
            }
            if let Some(next) = next.claim() {
                bytes += next.weight;
                batch.push(next);
            }
        }
        let proposer = proposer.clone();
        tokio::spawn(async move {
            proposer.decide(batch).await;
            drop(slot);
        });
    }
}

/// How one attempt to have an entry decided ended.
enum Attempt {
    Applied(Bytes),
    /// Certainly not proposed; another try may help.
    NotSent,
    /// Perhaps proposed; the session makes another try safe.
    Perhaps,
    Refused(Error),
}

/// A decided entry.
struct Decided {
    replies: Vec<Reply>,
    /// No earlier try of the same entry may have been executed.
    first_try: bool,
}

struct Proposer {
    raft: RaftNode,
    session: Session,
    opening: tokio::sync::Mutex<()>,
}

impl Proposer {
    fn new(raft: RaftNode) -> Self {
        let session = Session::new(raft.id().0, quorate_chance::number());
        Self { raft, session, opening: tokio::sync::Mutex::new(()) }
    }

    /// Has a batch decided and answers its writers. When the disk is too full for it, those of its
    /// commands that free space are decided without the others.
    async fn decide(&self, batch: Vec<Waiting>) {
        let Some((refused, error, waited_ms)) = self.decide_all(batch).await else { return };
        let (freeing, growing): (Vec<_>, Vec<_>) =
            refused.into_iter().partition(|waiting| waiting.command.frees_space());
        for waiting in growing {
            drop(waiting.answer.send(Err(copy(&error, waited_ms))));
        }
        if freeing.is_empty() {
            return;
        }
        if let Some((refused, error, waited_ms)) = self.decide_all(freeing).await {
            for waiting in refused {
                drop(waiting.answer.send(Err(copy(&error, waited_ms))));
            }
        }
    }

    /// Has a batch decided and answers its writers. Gives them back, unanswered, when nothing was
    /// proposed because the disk is full.
    async fn decide_all(&self, batch: Vec<Waiting>) -> Option<(Vec<Waiting>, Error, u64)> {
        let deadline = batch.iter().map(|w| w.deadline).max().unwrap_or_else(Instant::now);
        let began = Instant::now();
        let mut proposals = Vec::with_capacity(batch.len());
        let mut writers = Vec::with_capacity(batch.len());
        for Waiting { command, weight, deadline, answer } in batch {
            proposals.push(Proposal { session: None, command });
            writers.push(Writer { answer, weight, deadline });
        }
        let mut entry = Entry { proposals };
        let decided = self.in_session(&mut entry, &mut writers, deadline).await;
        let waited_ms = millis(began.elapsed());
        match decided {
            Err(error @ Error::NoSpace { .. }) => {
                let refused = entry.proposals.into_iter().zip(writers);
                let refused = refused.map(|(proposal, writer)| {
                    let Writer { answer, weight, deadline } = writer;
                    Waiting { command: proposal.command, weight, deadline, answer }
                });
                return Some((refused.collect(), error, waited_ms));
            }
            Err(error) => {
                for Writer { answer, .. } in writers {
                    drop(answer.send(Err(copy(&error, waited_ms))));
                }
            }
            Ok(replies) => {
                for (reply, Writer { answer, .. }) in replies.into_iter().zip(writers) {
                    let result = match reply {
                        Reply::Decided(outcomes) => Ok(outcomes),
                        Reply::SessionUnknown | Reply::SequenceTrimmed => {
                            Err(Error::Unknown { waited_ms })
                        }
                        Reply::SessionFull => Err(Error::Overloaded),
                    };
                    drop(answer.send(result));
                }
            }
        }
        None
    }

    /// Has an entry decided in this master's session; in a new one when the session is gone and
    /// the entry was certainly not executed in it.
    async fn in_session(
        &self,
        entry: &mut Entry,
        writers: &mut Vec<Writer>,
        deadline: Instant,
    ) -> Result<Vec<Reply>, Error> {
        loop {
            self.open_session(deadline).await?;
            let mut tags: Vec<SessionTag> = Vec::with_capacity(entry.proposals.len());
            for proposal in &mut entry.proposals {
                let tag = self.session.tag();
                proposal.session = Some(tag);
                tags.push(tag);
            }
            let decided = self.entry(entry, writers, deadline).await;
            for tag in &tags {
                self.session.done(tag);
            }
            let Decided { replies, first_try } = decided?;
            let lost = replies.contains(&Reply::SessionUnknown);
            if let (true, Some(tag)) = (lost, tags.first()) {
                self.session.lost(tag.session);
                if first_try && replies.iter().all(|reply| *reply == Reply::SessionUnknown) {
                    continue;
                }
            }
            return Ok(replies);
        }
    }

    async fn open_session(&self, deadline: Instant) -> Result<(), Error> {
        if self.session.id().1 {
            return Ok(());
        }
        let _one_at_a_time = self.opening.lock().await;
        let (id, open): (SessionId, bool) = self.session.id();
        if open {
            return Ok(());
        }
        self.open(id, deadline).await
    }

    /// Opens a session. Each try has another name: a try that arrives late must never open a session
    /// again that was used and closed meanwhile, because its answers would be forgotten and what was
    /// retried in it executed twice.
    async fn open(&self, mut id: SessionId, deadline: Instant) -> Result<(), Error> {
        let began = Instant::now();
        let mut leadership = self.raft.leadership();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Opening is not a write of the caller: nothing of it was proposed.
                return Err(Error::Unavailable {
                    waited_ms: millis(began.elapsed()),
                    silence: None,
                });
            }
            let proposal = Proposal { session: None, command: Command::OpenSession(id) };
            let entry = Entry { proposals: vec![proposal] };
            let payload = Bytes::from(codec::encode_entry(&entry).map_err(Error::TooLarge)?);
            leadership.borrow_and_update();
            match self.attempt(&payload, true, left.min(FORWARD_TIMEOUT)).await {
                Attempt::Applied(_) => {
                    self.session.opened(id);
                    return Ok(());
                }
                Attempt::Refused(error) => return Err(error),
                Attempt::Perhaps => {
                    self.session.lost(id);
                    id = self.session.id().0;
                }
                Attempt::NotSent => {}
            }
            pause(&mut leadership, left).await?;
        }
    }

    /// Has one entry decided: tries again, wherever the leader is, until the deadline, or until nobody waits for it.
    async fn entry(
        &self,
        entry: &mut Entry,
        writers: &mut Vec<Writer>,
        deadline: Instant,
    ) -> Result<Decided, Error> {
        let began = Instant::now();
        let mut payload = Bytes::from(codec::encode_entry(entry).map_err(Error::TooLarge)?);
        let mut perhaps = false;
        let mut leadership = self.raft.leadership();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Whoever got it in an earlier try may still decide it: then all of it stays together.
            if !perhaps && leave(entry, writers) {
                payload = Bytes::from(codec::encode_entry(entry).map_err(Error::TooLarge)?);
            }
            if left.is_zero() || writers.iter().all(|writer| writer.answer.is_closed()) {
                let waited_ms = millis(began.elapsed());
                return Err(if perhaps {
                    Error::Unknown { waited_ms }
                } else {
                    Error::Unavailable { waited_ms, silence: None }
                });
            }
            let freeing = entry.proposals.iter().all(|proposal| proposal.command.frees_space());
            leadership.borrow_and_update();
            match self.attempt(&payload, freeing, left).await {
                Attempt::Applied(reply) => {
                    let replies = decode_replies(&reply)?;
                    return Ok(Decided { replies, first_try: !perhaps });
                }
                Attempt::Refused(error) if !perhaps => return Err(error),
                Attempt::Refused(_) | Attempt::NotSent => {}
                Attempt::Perhaps => perhaps = !mutants::is(Mutant::PerhapsIsNotSent),
            }
            if let Err(stopped) = pause(&mut leadership, left).await {
                let waited_ms = millis(began.elapsed());
                return Err(if perhaps { Error::Unknown { waited_ms } } else { stopped });
            }
        }
    }

    async fn attempt(&self, payload: &Bytes, freeing: bool, left: Duration) -> Attempt {
        let leader = match &*self.raft.leadership().borrow() {
            LeadershipState::Leader(_) => None,
            LeadershipState::Follower { leader: Some((id, _)) } => Some(*id),
            LeadershipState::Follower { leader: None } => return Attempt::NotSent,
        };
        match leader {
            None => self.propose_here(payload, freeing, left).await,
            // While the leader's name is known but this master has not taken over yet.
            Some(id) if id == self.raft.id() => self.propose_here(payload, freeing, left).await,
            Some(id) => {
                let method = if freeing {
                    forward::method::PROPOSE_FREEING
                } else {
                    forward::method::PROPOSE
                };
                let call = self.raft.call(id, method, payload.clone(), left.min(FORWARD_TIMEOUT));
                let mut leadership = self.raft.leadership();
                let answer = tokio::select! {
                    biased;
                    answer = call => answer,
                    // One that hangs answers nothing, and its connection stands. The session makes it safe to ask the
                    // next one before that is known.
                    Ok(_) = leadership.wait_for(|state| leads_another(state, id)) => {
                        return Attempt::Perhaps;
                    }
                };
                match answer {
                    Ok(body) => match forward::read(&body) {
                        Answer::Applied(reply) => Attempt::Applied(reply.into()),
                        Answer::NotLeader => Attempt::NotSent,
                        Answer::Overloaded => Attempt::Refused(Error::Overloaded),
                        Answer::NoSpace(reason) => Attempt::Refused(Error::NoSpace { reason }),
                        Answer::Unknown => Attempt::Perhaps,
                    },
                    Err(
                        CallError::ToSelf
                        | CallError::UnknownNode(_)
                        | CallError::Unreachable { .. }
                        | CallError::TooLarge { .. },
                    ) => Attempt::NotSent,
                    Err(CallError::Unknown { .. } | CallError::Refused(_)) => Attempt::Perhaps,
                    Err(CallError::Fatal(fatal)) => {
                        Attempt::Refused(Error::Stopped { reason: fatal.to_string() })
                    }
                }
            }
        }
    }

    async fn propose_here(&self, payload: &Bytes, freeing: bool, left: Duration) -> Attempt {
        let (payload, left) = (payload.clone(), left.min(WRITE_TIMEOUT));
        let proposed = if freeing {
            self.raft.propose_reserved(payload, left).await
        } else {
            self.raft.propose(payload, left).await
        };
        match proposed {
            Ok(proposed) => Attempt::Applied(proposed.reply),
            Err(ProposeError::NotLeader { .. }) => Attempt::NotSent,
            Err(ProposeError::Overloaded) => Attempt::Refused(Error::Overloaded),
            Err(error @ (ProposeError::DiskFull { .. } | ProposeError::OverQuota { .. })) => {
                Attempt::Refused(Error::NoSpace { reason: error.to_string() })
            }
            Err(ProposeError::TooLarge { bytes, .. }) => {
                Attempt::Refused(Error::TooLarge(codec::CodecError::TooLong(bytes)))
            }
            Err(ProposeError::Unknown { .. }) => Attempt::Perhaps,
            Err(ProposeError::Fatal(fatal)) => {
                Attempt::Refused(Error::Stopped { reason: fatal.to_string() })
            }
        }
    }
}

/// Takes what nobody waits for any more out of an entry; whether that was anything.
fn leave(entry: &mut Entry, writers: &mut Vec<Writer>) -> bool {
    let before = writers.len();
    let stays: Vec<bool> = writers.iter().map(|writer| !writer.answer.is_closed()).collect();
    let mut kept = stays.iter().copied();
    writers.retain(|_| kept.next().unwrap_or(true));
    let mut kept = stays.into_iter();
    entry.proposals.retain(|_| kept.next().unwrap_or(true));
    writers.len() < before
}

/// Whether somebody else leads than that master.
fn leads_another(state: &LeadershipState, than: NodeId) -> bool {
    match state {
        LeadershipState::Leader(_) => true,
        LeadershipState::Follower { leader: Some((id, _)) } => *id != than,
        LeadershipState::Follower { leader: None } => false,
    }
}

/// Before the next try. Another leader is the news to wait for; the time is for what changes unseen.
/// When Raft has ended here nothing will change: without a word nobody would ever wait again.
pub(super) async fn pause(
    leadership: &mut watch::Receiver<LeadershipState>,
    left: Duration,
) -> Result<(), Error> {
    match tokio::time::timeout(RETRY_PAUSE.min(left), leadership.changed()).await {
        Ok(Err(_)) => Err(Error::Stopped { reason: "Raft has ended on this master".to_owned() }),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

/// One error for each of several writers.
fn copy(error: &Error, waited_ms: u64) -> Error {
    match error {
        Error::Unavailable { silence, .. } => {
            Error::Unavailable { waited_ms, silence: silence.clone() }
        }
        Error::Overloaded => Error::Overloaded,
        Error::NoSpace { reason } => Error::NoSpace { reason: reason.clone() },
        Error::Damaged { reason } => Error::Damaged { reason: reason.clone() },
        Error::Leaving { reason } => Error::Leaving { reason: reason.clone() },
        Error::Stopped { reason } => Error::Stopped { reason: reason.clone() },
        Error::TooLarge(codec::CodecError::TooLong(bytes)) => {
            Error::TooLarge(codec::CodecError::TooLong(*bytes))
        }
        Error::TooLarge(codec::CodecError::TooMany(ops)) => {
            Error::TooLarge(codec::CodecError::TooMany(*ops))
        }
        Error::TooLarge(other) => Error::Stopped { reason: other.to_string() },
        Error::Unknown { .. }
        | Error::Deposed
        | Error::FutureRevision { .. }
        | Error::Expired(_) => Error::Unknown { waited_ms },
    }
}
