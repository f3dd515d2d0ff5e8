//! openraft's network: one client for each target and purpose.

use std::error::Error;
use std::fs::File;
use std::future::Future;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use openraft::OptionalSend;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RPCTypes, Snapshot};
use quorate_mutants::{self as mutants, Mutant};
use quorate_proto::raft as pb;
use quorate_proto::raft::raft_client::RaftClient;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};

use super::client::{NotConnected, Peers, Purpose};
use super::link::PeerChannel;
use super::wire;
use crate::apply::Applied;
use crate::host::{Host, Worker};
use crate::limits::{
    APPEND_ANSWER_MAX, PEER_BACKOFF, SNAPSHOT_CHUNK_BYTES, SNAPSHOT_INSTALL_MAX, SNAPSHOT_STALL_MAX,
};
use crate::meters::Meters;
use crate::raft_types::{LeaderId, TypeConfig, Vote};
use crate::snapshot::file::SnapshotFile;
use crate::types::{Member, NodeId};

/// Makes the clients.
pub(crate) struct Factory {
    pub(crate) peers: Peers,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) meters: Meters,
    pub(crate) applied: Arc<Applied>,
}

/// One target, one purpose.
pub(crate) struct Client {
    peers: Peers,
    target: NodeId,
    name: String,
    address: String,
    purpose: Purpose,
    host: Arc<dyn Host>,
    meters: Meters,
    applied: Arc<Applied>,
}

impl Factory {
    fn client(&self, target: NodeId, node: &Member, purpose: Purpose) -> Client {
        let (peers, address) = (self.peers.clone(), node.peer_address.clone());
        let (host, meters, name) = (self.host.clone(), self.meters.clone(), node.name.clone());
        let applied = self.applied.clone();
        Client { peers, target, name, address, purpose, host, meters, applied }
    }
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Client;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> Client {
        self.client(target, node, Purpose::Log)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Member) -> Client {
        self.client(target, node, Purpose::Pulse)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &Member) -> Client {
        self.client(target, node, Purpose::Snapshot)
    }
}

/// Whether the other end was not reached at all: the connector says so itself. The kind of an I/O
/// error says nothing: an established connection times out, or is told that the host is unreachable,
/// after it has delivered a request.
pub(crate) fn not_delivered(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if io.is_some_and(|inner| inner.is::<NotConnected>()) || error.is::<NotConnected>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The whole chain of causes in one line.
pub(crate) fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

impl Client {
    fn raft(&self, purpose: Purpose) -> RaftClient<PeerChannel> {
        self.peers.client(self.target, &self.address, purpose)
    }

    /// A vote goes on the pulse connection even though openraft takes the general client for it.
    fn pulse(&self) -> Purpose {
        match self.purpose {
            Purpose::Log | Purpose::Pulse => Purpose::Pulse,
            other @ (Purpose::Snapshot | Purpose::Call) => other,
        }
    }

    /// A bug on purpose.
    fn counts_anyway(&self) -> bool {
        let last_of_five = self.target.0 > 9 && mutants::is(Mutant::SmallQuorumOfFive);
        last_of_five || mutants::is(Mutant::MinorityCommit)
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> RPCError<TypeConfig> {
        let (id, target) = (self.peers.own_id(), self.target);
        RPCError::Timeout(Timeout { action, id, target, timeout })
    }

    /// Waits for an answer, and says which kind of failure it was: a dead peer is `Unreachable`,
    /// so that openraft backs off.
    async fn ask<T>(
        &self,
        action: RPCTypes,
        limit: Duration,
        answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, RPCError<TypeConfig>> {
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(failure(&status)),
            Err(_) => Err(self.timeout(action, limit)),
        }
    }
}

fn failure(status: &Status) -> RPCError<TypeConfig> {
    // One whose disk is full refuses entries, one whose files went back anything: asking at once again helps neither.
    let dead = [
        Code::FailedPrecondition,
        Code::Unavailable,
        Code::PermissionDenied,
        Code::Unknown,
        Code::Cancelled,
        Code::ResourceExhausted,
    ];
    if dead.contains(&status.code()) {
        RPCError::Unreachable(Unreachable::from_string(describe(status)))
    } else {
        RPCError::Network(NetworkError::from_string(describe(status)))
    }
}

fn malformed(error: wire::Malformed) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(&error))
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut raft = self.raft(self.purpose);
        let answer = raft.append(wire::append_out(rpc));
        // openraft sets the heartbeat interval for log entries too, which a slow disk would exceed.
        let limit = match self.purpose {
            Purpose::Pulse => option.hard_ttl(),
            Purpose::Log | Purpose::Snapshot | Purpose::Call => APPEND_ANSWER_MAX,
        };
        let began = Instant::now();
        let reply = self.ask(RPCTypes::AppendEntries, limit, answer).await;
        match &reply {
            Ok(_) if self.purpose == Purpose::Pulse => {
                self.meters.answered(&self.name, began.elapsed());
            }
            Ok(_) => {}
            Err(_) => self.meters.failed(&self.name),
        }
        let reply = match reply {
            Err(_) if self.counts_anyway() => return Ok(AppendEntriesResponse::Success),
            reply => reply?,
        };
        wire::append_reply_in(reply).map_err(malformed)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut raft = self.raft(self.pulse());
        let answer = raft.vote(wire::vote_request_out(rpc));
        let reply = self.ask(RPCTypes::Vote, option.hard_ttl(), answer).await?;
        wire::vote_reply_in(reply).map_err(malformed)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut raft = self.raft(self.pulse());
        let answer = raft.pre_vote(wire::vote_request_out(rpc));
        let reply = self.ask(RPCTypes::Vote, option.hard_ttl(), answer).await?;
        wire::vote_reply_in(reply).map_err(malformed)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut raft = self.raft(self.pulse());
        let answer = raft.transfer_leader(wire::transfer_out(&request));
        let reply = self.ask(RPCTypes::TransferLeader, option.hard_ttl(), answer).await?;
        if reply.refused.is_empty() {
            Ok(Ok(()))
        } else {
            Err(RPCError::Network(NetworkError::from_string(reply.refused)))
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<LeaderId, NodeId, Member, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send =
            send_snapshot(self.raft(Purpose::Snapshot), vote, &snapshot.snapshot, &*self.host);
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            () = self.applied.when_damaged() => {
                let why = NetworkError::from_string("the state of this master is damaged");
                Err(RPCError::Network(why).into())
            }
            sent = send => sent.map_err(Into::into),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let (first, max) = PEER_BACKOFF;
        let steps = std::iter::successors(Some(first), move |last| Some((*last * 2).min(max)));
        Some(Backoff::new(steps))
    }
}

/// Offers a snapshot and sends what the receiver lacks of it.
async fn send_snapshot(
    mut raft: RaftClient<PeerChannel>,
    vote: Vote,
    file: &SnapshotFile,
    host: &dyn Host,
) -> Result<SnapshotResponse<TypeConfig>, RPCError<TypeConfig>> {
    let offer = pb::SnapshotOffer {
        vote: Some(wire::vote_out(vote)),
        last_log_id: file.last_log_id().map(wire::id_out),
        bytes: file.bytes,
        checksum: file.checksum,
    };
    let stalled = |_| NetworkError::from_string("the receiver of the snapshot does not answer");
    let progress = tokio::time::timeout(SNAPSHOT_STALL_MAX, raft.offer_snapshot(offer))
        .await
        .map_err(stalled)?
        .map_err(|status| failure(&status))?
        .into_inner();
    if progress.higher_vote.is_some() {
        let vote = wire::vote_in(progress.higher_vote).map_err(malformed)?;
        return Ok(SnapshotResponse::new(vote));
    }
    let (chunks, sending) = mpsc::channel(2);
    let reader = read_chunks(file, offer, progress.received, chunks, host)
        .map_err(|error| NetworkError::new(&error))?;
    let mut request = Request::new(ReceiverStream::new(sending));
    request.set_timeout(SNAPSHOT_INSTALL_MAX);
    let reply = raft.send_snapshot(request).await.map_err(|status| failure(&status))?.into_inner();
    drop(reader);
    Ok(SnapshotResponse::new(wire::vote_in(reply.vote).map_err(malformed)?))
}

/// Reads the file on a thread of its own, as fast as the receiver takes it; gives up when it does
/// not. The thread ends by itself when the stream is dropped.
pub(crate) fn read_chunks(
    file: &SnapshotFile,
    offer: pb::SnapshotOffer,
    from: u64,
    chunks: mpsc::Sender<pb::SnapshotChunk>,
    host: &dyn Host,
) -> std::io::Result<Worker> {
    let mut input = File::open(&file.path)?;
    input.seek(SeekFrom::Start(from))?;
    let send = async move {
        let (mut offset, mut offer) = (from, Some(offer));
        loop {
            let mut data = vec![0; SNAPSHOT_CHUNK_BYTES];
            let count = match input.read(&mut data) {
                Ok(count) => count,
                Err(error) => {
                    tracing::warn!(%error, "a snapshot cannot be read for sending");
                    return;
                }
            };
            data.truncate(count);
            let chunk = pb::SnapshotChunk { offer: offer.take(), offset, data: data.into() };
            if count == 0 && chunk.offer.is_none() {
                return;
            }
            offset += count as u64;
            let sent = chunks.send_timeout(chunk, SNAPSHOT_STALL_MAX).await;
            if sent.is_err() || count == 0 {
                return;
            }
        }
    };
    host.start("raft-snap-send", Box::pin(send))
}

/// Chunks of an incoming snapshot, with the time limit between two of them.
pub(crate) async fn next_chunk(
    chunks: &mut tonic::Streaming<pb::SnapshotChunk>,
) -> Result<Option<pb::SnapshotChunk>, Status> {
    tokio::time::timeout(SNAPSHOT_STALL_MAX, chunks.try_next())
        .await
        .map_err(|_| Status::deadline_exceeded("the sender of the snapshot stopped"))?
}
