//! What a simulated master stands on: tasks of its one-threaded runtime for threads, a [`Disk`] for
//! sled, and messages through the world's hands for TCP.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use prost::Message as _;
use quorate_proto::raft::VoteReply;
use quorate_raft::NodeId;
use quorate_raft::host::{
    Host, LogEngine, Network, PeerRequest, PeerResponse, PeerService, Runtime, Undelivered, Work,
    Worker,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tonic::body::Body;

use super::agent::Dialling;
use super::disaster::Backup;
use super::disk::Disk;
use super::joins::Admitted;
use super::kube::{Bound, Used};
use super::lines;
use super::pipe::{Line, Side};

/// Before the message in a body of gRPC: whether it is compressed, and its length.
const GRPC_HEADER_BYTES: usize = 5;

/// No error is longer.
const ERROR_BYTES_MAX: usize = 4096;

/// Number of an exchange between two masters.
pub(super) type Exchange = u64;

/// A watch of a watcher: it has one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) watcher: usize,
    pub(super) number: u64,
}

/// What masters and their clients hand to the world.
#[derive(Debug)]
pub(super) enum Sent {
    /// A master asks another.
    Request { from: usize, to: NodeId, request: Packed, answer: Waiting },
    /// It answers.
    Answer { from: usize, exchange: Exchange, answer: PeerResponse, crc: u32 },
    /// A master answers a client.
    Told { from: usize, operation: u64, told: super::client::Told },
    /// A watcher saw changes in a master, and was told that these are all up to a revision.
    Seen { from: usize, cursor: Cursor, changes: Vec<super::client::Change>, up_to: u64 },
    /// Its watch ended.
    Lost { from: usize, cursor: Cursor, error: String },
    /// A master tells one that wants to join.
    Joined { from: usize, joiner: usize, number: u64, admitted: Admitted },
    /// A master has taken a backup.
    BackedUp { from: usize, era: u64, backup: Box<Backup> },
    /// An agent dials a master.
    Dials { from: usize, to: usize, answer: Dialling },
    /// One side of a connection writes; nothing: it closes.
    Bytes { from: usize, line: Line, side: Side, bytes: Option<Bytes> },
    /// A master has carried out what the user of Deployments asked for.
    Used { from: usize, step: u64, used: Used },
    /// A pod was on a node, as a master has it.
    Bound { from: usize, bound: Bound },
    /// A master has answered a candidate: the vote that it stands by, as term and candidate, and whether the candidate
    /// got it.
    Voted { from: usize, vote: (u64, u64), given: bool },
    /// A master has applied the log up to an index: revision and hash of all objects then.
    Applied { from: usize, index: u64, revision: u64, hash: u128 },
}

impl Sent {
    /// The master that sends it.
    pub(super) fn from(&self) -> usize {
        match self {
            Self::Request { from, .. }
            | Self::Answer { from, .. }
            | Self::Told { from, .. }
            | Self::Seen { from, .. }
            | Self::Lost { from, .. }
            | Self::Joined { from, .. }
            | Self::BackedUp { from, .. }
            | Self::Dials { from, .. }
            | Self::Bytes { from, .. }
            | Self::Used { from, .. }
            | Self::Bound { from, .. }
            | Self::Voted { from, .. }
            | Self::Applied { from, .. } => *from,
        }
    }

    /// What it is, for the trace.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Request { from, to, request, .. } => {
                format!("m{} asks {to} {}", from + 1, request.told())
            }
            Self::Answer { from, exchange, crc, .. } => {
                format!("m{} answers {exchange} {crc:08x}", from + 1)
            }
            Self::Told { from, operation, told } => {
                format!("m{} tells {operation} {told:?}", from + 1)
            }
            Self::Seen { from, cursor, changes, up_to } => {
                format!("m{} shows {cursor:?} {changes:?} up to {up_to}", from + 1)
            }
            Self::Lost { from, cursor, error } => {
                format!("m{} loses {cursor:?}: {error}", from + 1)
            }
            Self::Joined { from, joiner, number, admitted } => {
                format!("m{} tells m{} {number} {admitted:?}", from + 1, joiner + 1)
            }
            Self::BackedUp { from, backup, .. } => {
                format!("m{} backs up {}", from + 1, backup.told())
            }
            Self::Dials { .. } | Self::Bytes { .. } => lines::told(self).unwrap_or_default(),
            Self::Used { from, step, used } => format!("m{} did {step} {used:?}", from + 1),
            Self::Bound { from, bound } => format!("m{} has {bound:?}", from + 1),
            Self::Voted { from, vote, given } => {
                let gives = if *given { " and gives it" } else { "" };
                format!("m{} stands by {vote:?}{gives}", from + 1)
            }
            Self::Applied { from, index, revision, hash } => {
                format!("m{} applied {index}: {revision} {hash:032x}", from + 1)
            }
        }
    }
}

/// Whoever waits for an answer.
pub(super) type Waiting = oneshot::Sender<Result<PeerResponse, Undelivered>>;

/// A request that can be delivered twice.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    parts: http::request::Parts,
    body: Bytes,
}

impl Packed {
    /// The method that it calls.
    pub(super) fn method(&self) -> &str {
        self.parts.uri.path().rsplit('/').next().unwrap_or_default()
    }

    /// What it is, for the trace.
    pub(super) fn told(&self) -> String {
        let crc = crc32fast::hash(&self.body);
        format!("{} {} {crc:08x}", self.parts.uri.path(), self.body.len())
    }

    pub(super) fn unpack(self) -> PeerRequest {
        http::Request::from_parts(self.parts, Body::new(Full::new(self.body)))
    }
}

/// What everybody sends, until the world takes it.
#[derive(Debug, Clone, Default)]
pub(super) struct Outbox(Arc<Mutex<Vec<Sent>>>);

impl Outbox {
    fn sent(&self) -> MutexGuard<'_, Vec<Sent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn send(&self, sent: Sent) {
        self.sent().push(sent);
    }

    pub(super) fn count(&self) -> usize {
        self.sent().len()
    }

    pub(super) fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.sent())
    }
}

/// The place of one master.
#[derive(Debug)]
pub(super) struct SimHost {
    pub(super) disk: Disk,
    pub(super) wire: Arc<Wire>,
}

/// A master's connection to the world.
#[derive(Debug)]
pub(super) struct Wire {
    own: usize,
    outbox: Outbox,
    /// Of all masters: another one each time.
    directory: String,
    service: Mutex<Option<PeerService>>,
}

impl Wire {
    pub(super) fn new(own: usize, outbox: Outbox, directory: &Path) -> Self {
        let directory = directory.to_string_lossy().into_owned();
        Self { own, outbox, directory, service: Mutex::new(None) }
    }

    /// The same for the same answer, also when it tells of an error with a path in it.
    fn digest(&self, body: &[u8]) -> u32 {
        if body.len() > ERROR_BYTES_MAX {
            return crc32fast::hash(body);
        }
        let text = String::from_utf8_lossy(body);
        crc32fast::hash(text.replace(&self.directory, "").as_bytes())
    }

    /// Nobody answers any more.
    pub(super) fn hang_up(&self) {
        drop(self.service.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(super) fn service(&self) -> Option<PeerService> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Host for SimHost {
    fn open_log(&self, directory: &Path) -> io::Result<Box<dyn LogEngine>> {
        self.disk.open_in(directory)
    }

    fn start(&self, _: &str, work: Work) -> io::Result<Worker> {
        Ok(Worker::Task(tokio::spawn(work)))
    }

    fn runtime(&self) -> io::Result<Runtime> {
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(async move { drop(stopped.await) });
        Ok(Runtime { handle: Handle::current(), stop, ended: Worker::Task(ended) })
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.disk.free_bytes())
    }

    fn network(&self) -> Option<Arc<dyn Network>> {
        Some(self.wire.clone())
    }
}

impl Network for Wire {
    fn carry(
        &self,
        to: NodeId,
        _: &str,
        request: PeerRequest,
    ) -> BoxFuture<'static, Result<PeerResponse, Undelivered>> {
        let (outbox, from) = (self.outbox.clone(), self.own);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|_| Undelivered::Broken)?.to_bytes();
            let (answer, answered) = oneshot::channel();
            let request = Packed { parts, body };
            outbox.send(Sent::Request { from, to, request, answer });
            answered.await.unwrap_or(Err(Undelivered::Broken))
        })
    }

    fn serve(&self, service: PeerService) {
        *self.service.lock().unwrap_or_else(PoisonError::into_inner) = Some(service);
    }
}

/// Answers a request in a master's own runtime.
pub(super) async fn answer(
    wire: Arc<Wire>,
    service: PeerService,
    from: NodeId,
    exchange: Exchange,
    request: Packed,
) {
    let method = request.method().to_owned();
    let (parts, body) = service.answer(from, request.unpack()).await.into_parts();
    // With its trailers, where gRPC has its status. The body of one that fails is never asked for.
    let Ok(body) = body.collect().await else { return };
    let trailers = body.trailers().cloned();
    let body = body.to_bytes();
    let crc = wire.digest(&body);
    if matches!(method.as_str(), "Vote" | "PreVote")
        && let Some(Ok(reply)) = body.get(GRPC_HEADER_BYTES..).map(VoteReply::decode)
        && let Some(vote) = reply.vote
    {
        // What would be done is no promise.
        let given = reply.granted && method == "Vote";
        wire.outbox.send(Sent::Voted { from: wire.own, vote: (vote.term, vote.node_id), given });
    }
    let body = Full::new(body).with_trailers(std::future::ready(trailers.map(Ok)));
    let answer = http::Response::from_parts(parts, Body::new(body));
    wire.outbox.send(Sent::Answer { from: wire.own, exchange, answer, crc });
}
