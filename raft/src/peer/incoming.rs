//! Receives a snapshot: collects it in a file that survives a broken transfer, checks it, hands it
//! to Raft.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use openraft::Snapshot;
use openraft::async_runtime::WatchReceiver;
use quorate_points::{self as points, Point};
use quorate_proto::raft as pb;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tonic::Status;

use super::network::next_chunk;
use super::service::own_vote;
use super::wire;
use crate::host::{Host, in_background};
use crate::node::Raft;
use crate::raft_types::Vote;
use crate::snapshot::file;
use crate::snapshot::store::SnapshotStore;
use crate::space::Space;
use crate::types::NodeId;

/// Takes one snapshot at a time.
#[derive(Clone)]
pub(crate) struct Incoming {
    raft: Raft,
    snapshots: Arc<SnapshotStore>,
    busy: Arc<Mutex<()>>,
    space: Arc<Space>,
    host: Arc<dyn Host>,
}

struct Offer {
    vote: Vote,
    bytes: u64,
    checksum: u32,
    path: PathBuf,
}

fn internal(error: impl ToString) -> Status {
    Status::internal(error.to_string())
}

impl Incoming {
    pub(crate) fn new(
        raft: Raft,
        snapshots: Arc<SnapshotStore>,
        space: Arc<Space>,
        host: Arc<dyn Host>,
    ) -> Self {
        Self { raft, snapshots, busy: Arc::default(), space, host }
    }

    fn read(&self, offer: &pb::SnapshotOffer) -> Result<Offer, Status> {
        let vote =
            wire::vote_in(offer.vote).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let last = offer.last_log_id.ok_or_else(|| Status::invalid_argument("no log id"))?;
        let path = self.snapshots.incoming(last.index, last.term, offer.checksum);
        Ok(Offer { vote, bytes: offer.bytes, checksum: offer.checksum, path })
    }

    /// The vote of a leader that is newer than the one that offers.
    fn higher_vote(&self, vote: &Vote) -> Option<Vote> {
        let own = self.raft.metrics().borrow_watched().vote;
        (own > *vote).then_some(own)
    }

    fn reserve(&self) -> Result<OwnedMutexGuard<()>, Status> {
        let busy = self.busy.clone().try_lock_owned();
        busy.map_err(|_| Status::resource_exhausted("another snapshot is being received"))
    }

    pub(crate) fn offer(&self, offer: &pb::SnapshotOffer) -> Result<pb::SnapshotProgress, Status> {
        let offer = self.read(offer)?;
        if let Some(higher) = self.higher_vote(&offer.vote) {
            let higher_vote = Some(wire::vote_out(higher));
            return Ok(pb::SnapshotProgress { received: 0, higher_vote });
        }
        let _reserved = self.reserve()?;
        self.snapshots.forget_incoming(Some(&offer.path)).map_err(internal)?;
        let received = std::fs::metadata(&offer.path).map_or(0, |meta| meta.len());
        if !self.space.has_room_for(offer.bytes.saturating_sub(received)) {
            return Err(Status::resource_exhausted(
                "no room for the snapshot on this master's disk",
            ));
        }
        Ok(pb::SnapshotProgress { received: received.min(offer.bytes), higher_vote: None })
    }

    pub(crate) async fn receive(
        &self,
        sender: NodeId,
        mut chunks: tonic::Streaming<pb::SnapshotChunk>,
    ) -> Result<pb::SnapshotReply, Status> {
        let reserved = self.reserve()?;
        let first = next_chunk(&mut chunks).await?;
        let first = first.ok_or_else(|| Status::invalid_argument("nothing was sent"))?;
        let offer = first.offer.ok_or_else(|| Status::invalid_argument("no offer"))?;
        own_vote(offer.vote.as_ref(), sender)?;
        let offer = self.read(&offer)?;
        if let Some(higher) = self.higher_vote(&offer.vote) {
            return Ok(pb::SnapshotReply { vote: Some(wire::vote_out(higher)) });
        }
        self.collect(&offer, first, &mut chunks).await?;
        let reply = self.install(offer).await;
        drop(reserved);
        reply
    }

    async fn collect(
        &self,
        offer: &Offer,
        first: pb::SnapshotChunk,
        chunks: &mut tonic::Streaming<pb::SnapshotChunk>,
    ) -> Result<(), Status> {
        let mut open = File::options();
        let mut output =
            open.create(true).truncate(false).write(true).open(&offer.path).map_err(internal)?;
        let mut at = output.metadata().map_err(internal)?.len();
        if first.offset > at {
            return Err(Status::out_of_range(format!("{at} bytes are here, not {}", first.offset)));
        }
        at = first.offset;
        output.set_len(at).and_then(|()| output.seek(SeekFrom::End(0))).map_err(internal)?;
        let mut next = Some(first);
        while let Some(chunk) = next {
            if chunk.offset != at || at + chunk.data.len() as u64 > offer.bytes {
                return Err(Status::out_of_range("the chunks do not fit together"));
            }
            let was_half = at >= offer.bytes / 2;
            at += chunk.data.len() as u64;
            // Into the page cache; the sync comes with the check, in the background.
            output.write_all(&chunk.data).map_err(internal)?;
            if !was_half && at >= offer.bytes / 2 {
                points::pass(Point::SnapshotHalfReceived);
            }
            next = next_chunk(chunks).await?;
        }
        if at == offer.bytes {
            Ok(())
        } else {
            Err(Status::aborted(format!("{at} of {} bytes came", offer.bytes)))
        }
    }

    async fn install(&self, offer: Offer) -> Result<pb::SnapshotReply, Status> {
        let cluster_id = self.snapshots.cluster_id().to_owned();
        let path = offer.path.clone();
        points::pass(Point::SnapshotReceived);
        let checked = in_background(&*self.host, "raft-snap-check", move || {
            let checked = file::verify(&path, &cluster_id);
            if checked.is_err() {
                // Never resume from a damaged part.
                std::fs::remove_file(&path)?;
            }
            checked.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        });
        let checked = checked.await.map_err(internal)?;
        if checked.checksum != offer.checksum {
            return Err(Status::data_loss("it is not the snapshot that was offered"));
        }
        let meta = checked.meta().map_err(internal)?;
        let snapshot = Snapshot { meta, snapshot: checked };
        let installed = self.raft.install_full_snapshot(offer.vote, snapshot).await;
        let reply = installed.map_err(internal)?;
        self.snapshots.forget_incoming(None).map_err(internal)?;
        Ok(pb::SnapshotReply { vote: Some(wire::vote_out(reply.vote)) })
    }
}
