//! Gives the state of this master to one whose own is damaged: as a snapshot file, made for it when there is none that
//! is new enough.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use quorate_proto::raft as pb;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::network::read_chunks;
use super::wire;
use crate::apply::Applied;
use crate::host::Host;
use crate::limits::{FETCH_APPLIED_MAX, FETCH_SNAPSHOT_MAX, FETCH_SNAPSHOT_POLL};
use crate::node::Raft;
use crate::snapshot::file::SnapshotFile;
use crate::snapshot::store::SnapshotStore;

/// What is sent.
pub(crate) type Chunks = Pin<Box<dyn Stream<Item = Result<pb::SnapshotChunk, Status>> + Send>>;

/// Gives to one master at a time.
#[derive(Clone)]
pub(crate) struct Giver {
    raft: Raft,
    snapshots: Arc<SnapshotStore>,
    applied: Arc<Applied>,
    busy: Arc<Mutex<()>>,
    host: Arc<dyn Host>,
}

impl Giver {
    pub(crate) fn new(
        raft: Raft,
        snapshots: Arc<SnapshotStore>,
        applied: Arc<Applied>,
        host: Arc<dyn Host>,
    ) -> Self {
        Self { raft, snapshots, applied, busy: Arc::default(), host }
    }

    /// A snapshot of that index or later, piece by piece.
    pub(crate) async fn give(&self, min_index: u64) -> Result<Chunks, Status> {
        if self.applied.is_damaged() {
            return Err(Status::failed_precondition("the state of this master is damaged, too"));
        }
        let busy = self.busy.clone().try_lock_owned();
        let busy =
            busy.map_err(|_| Status::resource_exhausted("the state is being sent already"))?;
        let file = self.snapshot(min_index).await?;
        let offer = pb::SnapshotOffer {
            vote: None,
            last_log_id: file.last_log_id().map(wire::id_out),
            bytes: file.bytes,
            checksum: file.checksum,
        };
        let (chunks, sending) = mpsc::channel(2);
        let reader = read_chunks(&file, offer, 0, chunks, &*self.host)
            .map_err(|error| Status::internal(error.to_string()))?;
        let held = (busy, reader);
        let sending = ReceiverStream::new(sending).map(move |chunk| {
            // Until the last chunk is taken.
            let _ = &held;
            Ok(chunk)
        });
        Ok(Box::pin(sending))
    }

    async fn snapshot(&self, min_index: u64) -> Result<SnapshotFile, Status> {
        let mut applied = self.applied.watch();
        let reached = applied.wait_for(|index| index.0 >= min_index);
        let reached = tokio::time::timeout(FETCH_APPLIED_MAX, reached).await;
        if !matches!(reached, Ok(Ok(_))) {
            return Err(Status::unavailable(format!("index {min_index} is not applied here yet")));
        }
        drop(reached);
        let until = Instant::now() + FETCH_SNAPSHOT_MAX;
        let new_enough = |file: &SnapshotFile| file.last_index() >= Some(min_index);
        loop {
            if let Some(file) = self.snapshots.current().filter(new_enough) {
                return Ok(file);
            }
            if Instant::now() >= until {
                return Err(Status::deadline_exceeded("no snapshot was made in time"));
            }
            // Ignored by Raft while one is being made.
            let asked = self.raft.trigger().snapshot().await;
            asked.map_err(|error| Status::unavailable(error.to_string()))?;
            tokio::time::sleep(FETCH_SNAPSHOT_POLL).await;
        }
    }
}
