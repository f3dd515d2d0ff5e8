//! Answers what other masters ask.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::RaftError;
use quorate_mutants::{self as mutants, Mutant};
use quorate_points::{self as points, Point};
use quorate_proto::raft as pb;
use quorate_proto::raft::raft_server::Raft as RaftService;
use tonic::{Request, Response, Status, Streaming};

use super::Handler;
use super::incoming::Incoming;
use super::past::Past;
use super::server::{Inbound, PeerIdentity};
use super::state::{Chunks, Giver};
use super::wire;
use crate::codec::VERSION_STANDBYS;
use crate::limits::READ_ROUND_MAX;
use crate::log::shared::Shared;
use crate::node::Raft;
use crate::node::read::Reads;
use crate::node::removal;
use crate::raft_types::TypeConfig;
use crate::space::Space;
use crate::types::NodeId;

/// The service behind every peer connection.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) raft: Raft,
    pub(crate) log: Arc<Shared>,
    pub(crate) reads: Reads,
    pub(crate) incoming: Incoming,
    pub(crate) giver: Giver,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) space: Arc<Space>,
    pub(crate) past: Arc<Past>,
    pub(crate) inbound: Arc<Inbound>,
}

/// Who is at the other end, as its certificate says.
fn sender<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let identity = request.extensions().get::<PeerIdentity>();
    identity.map(|identity| identity.0).ok_or_else(|| Status::unauthenticated("no peer identity"))
}

impl Service {
    /// The same, of one whose files are not of an earlier time.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    fn sender<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        let sender = sender(request)?;
        self.past.admit(sender, request.metadata())?;
        Ok(sender)
    }
}

fn malformed(error: wire::Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped<E: std::fmt::Display + std::fmt::Debug + std::error::Error>(
    error: RaftError<TypeConfig, E>,
) -> Status {
    Status::unavailable(error.to_string())
}

/// A candidate or leader speaks for itself only.
pub(super) fn own_vote(vote: Option<&pb::LeaderVote>, sender: NodeId) -> Result<(), Status> {
    match vote {
        Some(vote) if vote.node_id == sender.0 => Ok(()),
        Some(vote) => Err(Status::permission_denied(format!(
            "master {sender} sent the vote of master {}",
            vote.node_id
        ))),
        None => Err(Status::invalid_argument("vote is missing")),
    }
}

#[async_trait]
impl RaftService for Service {
    async fn append(
        &self,
        request: Request<pb::AppendRequest>,
    ) -> Result<Response<pb::AppendReply>, Status> {
        own_vote(request.get_ref().vote.as_ref(), self.sender(&request)?)?;
        let request = wire::append_in(request.into_inner()).map_err(malformed)?;
        if !request.entries.is_empty() && !self.space.has_room_for(0) {
            // The leader asks again later; its heartbeats, which carry no entries, still arrive.
            return Err(Status::resource_exhausted("the disk of this master is full"));
        }
        self.inbound.is_led();
        let carries = !request.entries.is_empty();
        let reply = self.raft.append_entries(request).await.map_err(stopped)?;
        if carries {
            points::pass(Point::AppendBeforeAnswer);
        }
        let reply = wire::append_reply_out(reply);
        Ok(if carries { self.past.answer(reply) } else { self.past.answer_all(reply) })
    }

    async fn vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteReply>, Status> {
        own_vote(request.get_ref().vote.as_ref(), self.sender(&request)?)?;
        let request = wire::vote_request_in(request.into_inner()).map_err(malformed)?;
        let asked = request.vote;
        let mut reply = self.raft.vote(request).await.map_err(stopped)?;
        if mutants::is(Mutant::VoteTwice) {
            (reply.vote, reply.vote_granted) = (asked, true);
        }
        Ok(self.past.answer_all(wire::vote_reply_out(reply)))
    }

    async fn pre_vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteReply>, Status> {
        own_vote(request.get_ref().vote.as_ref(), self.sender(&request)?)?;
        let request = wire::vote_request_in(request.into_inner()).map_err(malformed)?;
        let asked = request.vote;
        let mut reply = self.raft.pre_vote(request).await.map_err(stopped)?;
        if mutants::is(Mutant::VoteTwice) {
            (reply.vote, reply.vote_granted) = (asked, true);
        }
        Ok(self.past.answer_all(wire::vote_reply_out(reply)))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferRequest>,
    ) -> Result<Response<pb::TransferReply>, Status> {
        own_vote(request.get_ref().from_leader.as_ref(), self.sender(&request)?)?;
        let request = wire::transfer_in(request.into_inner()).map_err(malformed)?;
        let outcome = self.raft.handle_transfer_leader(request).await;
        let outcome = outcome.map_err(|error| Status::unavailable(error.to_string()))?;
        let refused = outcome.err().map(|error| error.to_string()).unwrap_or_default();
        Ok(self.past.answer(pb::TransferReply { refused }))
    }

    async fn offer_snapshot(
        &self,
        request: Request<pb::SnapshotOffer>,
    ) -> Result<Response<pb::SnapshotProgress>, Status> {
        own_vote(request.get_ref().vote.as_ref(), self.sender(&request)?)?;
        self.incoming.offer(request.get_ref()).map(|body| self.past.answer(body))
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotReply>, Status> {
        let sender = self.sender(&request)?;
        self.incoming.receive(sender, request.into_inner()).await.map(|body| self.past.answer(body))
    }

    type FetchStateStream = Chunks;

    async fn fetch_state(
        &self,
        request: Request<pb::FetchStateRequest>,
    ) -> Result<Response<Chunks>, Status> {
        let sender = self.sender(&request)?;
        let min_index = request.get_ref().min_index;
        tracing::info!(%sender, min_index, "a master asks for the state of this one");
        self.giver.give(min_index).await.map(|chunks| self.past.answer(chunks))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexReply>, Status> {
        self.sender(&request)?;
        let deadline = Duration::from_millis(request.get_ref().deadline_ms.into());
        let reply = match self.reads.leader_index(deadline.min(READ_ROUND_MAX)).await {
            Ok(index) => {
                pb::ReadIndexReply { confirmed: true, index: index.0, reason: String::new() }
            }
            Err(reason) => pb::ReadIndexReply { confirmed: false, index: 0, reason },
        };
        Ok(self.past.answer(reply))
    }

    async fn probe(
        &self,
        request: Request<pb::ProbeRequest>,
    ) -> Result<Response<pb::ProbeReply>, Status> {
        let sender = self.sender(&request)?;
        let (vote, leader) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.vote, metrics.current_leader)
        };
        // The answer's headers look at the log too.
        let last = self.log.lock().last;
        Ok(self.past.answer(pb::ProbeReply {
            vote: Some(wire::vote_out(vote)),
            last_log_id: last.map(wire::id_out),
            leader: leader.map_or(0, |id| id.0),
            removed: removal::says_removed(&self.raft, sender),
            membership_layout: u32::from(VERSION_STANDBYS),
        }))
    }

    async fn call(
        &self,
        request: Request<pb::CallRequest>,
    ) -> Result<Response<pb::CallReply>, Status> {
        let from = self.sender(&request)?;
        let call = request.into_inner();
        let deadline = Duration::from_millis(call.deadline_ms.into());
        let answer = self.handler.call(from, call.method, call.body, deadline);
        let outcome = match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(body)) => pb::call_reply::Outcome::Body(body),
            Ok(Err(refused)) => pb::call_reply::Outcome::Refused(refused.0),
            Err(_) => return Err(Status::deadline_exceeded("no answer in time")),
        };
        Ok(self.past.answer(pb::CallReply { outcome: Some(outcome) }))
    }
}
