//! Between openraft's messages and the ones on the wire (`proto/raft.proto`).

use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use quorate_proto::raft as pb;

use crate::codec;
use crate::raft_types::{AppData, Entry, LeaderId, LogId, TypeConfig, Vote, log_id};
use crate::types::NodeId;

/// The message lacks something it must have, or holds what cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub(crate) struct Malformed(pub(crate) String);

fn missing<T>(value: Option<T>, what: &str) -> Result<T, Malformed> {
    value.ok_or_else(|| Malformed(format!("{what} is missing")))
}

pub(crate) fn id_out(id: LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, node_id: id.leader_id.node_id.0, index: id.index }
}

pub(crate) fn id_in(id: pb::LogId) -> LogId {
    log_id(id.term, NodeId(id.node_id), id.index)
}

pub(crate) fn vote_out(vote: Vote) -> pb::LeaderVote {
    pb::LeaderVote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.node_id.0,
        committed: vote.committed,
    }
}

pub(crate) fn vote_in(vote: Option<pb::LeaderVote>) -> Result<Vote, Malformed> {
    let vote = missing(vote, "vote")?;
    Ok(Vote {
        leader_id: LeaderId { term: vote.term, node_id: NodeId(vote.node_id) },
        committed: vote.committed,
    })
}

fn entry_out(entry: Entry) -> pb::Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => pb::entry::Payload::Blank(true),
        EntryPayload::Normal(data) => pb::entry::Payload::Normal(data.0),
        EntryPayload::Membership(membership) => {
            pb::entry::Payload::Membership(codec::encode_membership(&membership).into())
        }
    };
    pb::Entry { log_id: Some(id_out(entry.log_id)), payload: Some(payload) }
}

fn entry_in(entry: pb::Entry) -> Result<Entry, Malformed> {
    let payload = match missing(entry.payload, "payload")? {
        pb::entry::Payload::Blank(_) => EntryPayload::Blank,
        pb::entry::Payload::Normal(bytes) => EntryPayload::Normal(AppData(bytes)),
        pb::entry::Payload::Membership(bytes) => EntryPayload::Membership(
            codec::decode_membership(&bytes).map_err(|error| Malformed(error.to_string()))?,
        ),
    };
    Ok(Entry { log_id: id_in(missing(entry.log_id, "log id")?), payload })
}

pub(crate) fn append_out(request: AppendEntriesRequest<TypeConfig>) -> pb::AppendRequest {
    pb::AppendRequest {
        vote: Some(vote_out(request.vote)),
        previous: request.prev_log_id.map(id_out),
        entries: request.entries.into_iter().map(entry_out).collect(),
        leader_commit: request.leader_commit.map(id_out),
    }
}

pub(crate) fn append_in(
    request: pb::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    Ok(AppendEntriesRequest {
        vote: vote_in(request.vote)?,
        prev_log_id: request.previous.map(id_in),
        entries: request.entries.into_iter().map(entry_in).collect::<Result<_, _>>()?,
        leader_commit: request.leader_commit.map(id_in),
    })
}

pub(crate) fn append_reply_out(reply: AppendEntriesResponse<TypeConfig>) -> pb::AppendReply {
    use pb::append_reply::Outcome;
    let (outcome, matched, vote) = match reply {
        AppendEntriesResponse::Success => (Outcome::Success, None, None),
        AppendEntriesResponse::PartialSuccess(id) => (Outcome::Partial, id, None),
        AppendEntriesResponse::Conflict => (Outcome::Conflict, None, None),
        AppendEntriesResponse::HigherVote(vote) => (Outcome::HigherVote, None, Some(vote)),
    };
    pb::AppendReply {
        outcome: outcome.into(),
        matched: matched.map(id_out),
        vote: vote.map(vote_out),
    }
}

pub(crate) fn append_reply_in(
    reply: pb::AppendReply,
) -> Result<AppendEntriesResponse<TypeConfig>, Malformed> {
    use pb::append_reply::Outcome;
    Ok(match reply.outcome() {
        Outcome::Success => AppendEntriesResponse::Success,
        Outcome::Partial => AppendEntriesResponse::PartialSuccess(reply.matched.map(id_in)),
        Outcome::Conflict => AppendEntriesResponse::Conflict,
        Outcome::HigherVote => AppendEntriesResponse::HigherVote(vote_in(reply.vote)?),
        Outcome::Unspecified => return Err(Malformed("outcome is missing".to_owned())),
    })
}

pub(crate) fn vote_request_out(request: VoteRequest<TypeConfig>) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(vote_out(request.vote)),
        last_log_id: request.last_log_id.map(id_out),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_in(
    request: pb::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, Malformed> {
    Ok(VoteRequest {
        vote: vote_in(request.vote)?,
        last_log_id: request.last_log_id.map(id_in),
        leadership_transfer: request.leadership_transfer,
    })
}

pub(crate) fn vote_reply_out(reply: VoteResponse<TypeConfig>) -> pb::VoteReply {
    pb::VoteReply {
        vote: Some(vote_out(reply.vote)),
        granted: reply.vote_granted,
        last_log_id: reply.last_log_id.map(id_out),
    }
}

pub(crate) fn vote_reply_in(reply: pb::VoteReply) -> Result<VoteResponse<TypeConfig>, Malformed> {
    Ok(VoteResponse {
        vote: vote_in(reply.vote)?,
        vote_granted: reply.granted,
        last_log_id: reply.last_log_id.map(id_in),
    })
}

pub(crate) fn transfer_out(request: &TransferLeaderRequest<TypeConfig>) -> pb::TransferRequest {
    pb::TransferRequest {
        from_leader: Some(vote_out(*request.from_leader())),
        to_node_id: request.to_node_id().0,
        last_log_id: request.last_log_id().copied().map(id_out),
    }
}

pub(crate) fn transfer_in(
    request: pb::TransferRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Malformed> {
    Ok(TransferLeaderRequest::new(
        vote_in(request.from_leader)?,
        NodeId(request.to_node_id),
        request.last_log_id.map(id_in),
    ))
}
