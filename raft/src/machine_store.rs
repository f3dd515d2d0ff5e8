//! openraft's state machine on top of the apply thread and the snapshot files.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use quorate_points::{self as points, Point};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::apply::{Applied, Command, View};
use crate::codec::{DiskLogId, SnapshotHeader};
use crate::host::{Host, in_background};
use crate::limits::{
    APPLY_BATCH_MAX, FETCH_SNAPSHOT_POLL, SNAPSHOT_DAMAGE_PAUSE, SNAPSHOT_TRIES_MAX,
};
use crate::meters::Meters;
use crate::raft_types::{LeaderId, LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::snapshot::file::SnapshotFile;
use crate::snapshot::store::{NotMade, SnapshotStore};
use crate::types::{Member, NodeId};

/// A snapshot as openraft passes it around.
type Taken = Snapshot<LeaderId, NodeId, Member, SnapshotFile>;

/// openraft's view of the machine.
#[derive(Clone)]
pub(crate) struct MachineStore {
    commands: mpsc::Sender<Command>,
    applied: Arc<Applied>,
    snapshots: Arc<SnapshotStore>,
    host: Arc<dyn Host>,
    meters: Meters,
}

/// One snapshot in the making: the view is taken, the file is not written.
pub(crate) struct Builder {
    /// Locked only because openraft wants a builder to be `Sync`.
    view: Mutex<Option<(View, u64)>>,
    /// For another view, when the state of that one turned out to be no good.
    machine: MachineStore,
}

fn gone<E>(_: E) -> io::Error {
    io::Error::other("the apply thread has ended")
}

impl MachineStore {
    pub(crate) fn new(
        commands: mpsc::Sender<Command>,
        applied: Arc<Applied>,
        snapshots: Arc<SnapshotStore>,
        host: Arc<dyn Host>,
        meters: Meters,
    ) -> Self {
        Self { commands, applied, snapshots, host, meters }
    }

    /// The state now, and which it is.
    async fn view(&self) -> io::Result<(View, u64)> {
        let generation = self.snapshots.generation();
        Ok((self.ask(|done| Command::Snapshot { done }).await?, generation))
    }

    /// The state that comes after that one, once it can be shown to others and to Raft. Who heals it gives up by
    /// itself; what nobody finds damaged may have been overwritten since, and is taken after a while.
    async fn view_after(&self, generation: u64) -> io::Result<(View, u64)> {
        self.applied.suspect().notify_one();
        let until = Instant::now() + SNAPSHOT_DAMAGE_PAUSE;
        let is_old = || self.snapshots.generation() == generation && Instant::now() < until;
        while is_old() || self.applied.is_damaged() || self.applied.is_ahead() {
            tokio::time::sleep(FETCH_SNAPSHOT_POLL).await;
        }
        self.view().await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> io::Result<T> {
        let (done, answer) = oneshot::channel();
        self.commands.send(command(done)).await.map_err(gone)?;
        answer.await.map_err(gone)
    }
}

impl RaftStateMachine<TypeConfig> for MachineStore {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok(self.applied.position())
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(APPLY_BATCH_MAX);
        while let Some(batch) = batches.next().await {
            let batch = batch.into_iter().collect::<io::Result<Vec<_>>>()?;
            self.ask(|done| Command::Apply { batch, done }).await?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        // Asked again later.
        if self.applied.is_ahead() || self.applied.is_damaged() {
            return None;
        }
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let view = self.view().await.ok();
        Builder { view: Mutex::new(view), machine: self.clone() }
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> io::Result<()> {
        let began = Instant::now();
        let snapshots = self.snapshots.clone();
        let file =
            in_background(&*self.host, "raft-install", move || snapshots.install(&snapshot.path))
                .await?;
        points::pass(Point::SnapshotBeforeRestore);
        self.ask(|done| Command::Restore { file, done }).await?.map_err(io::Error::other)?;
        self.meters.restored_snapshot(began.elapsed());
        points::pass(Point::SnapshotAfterRestore);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Taken>> {
        let Some(file) = self.snapshots.current() else { return Ok(None) };
        let meta = file.meta().map_err(io::Error::other)?;
        Ok(Some(Snapshot { meta, snapshot: file }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Taken> {
        let view = self.view.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let (mut view, mut generation) = view.ok_or_else(|| gone(()))?;
        for tried in 1.. {
            let made = self.machine.write(view, generation).await;
            let Err(NotMade::Outdated(error)) = made else { return made.map_err(NotMade::into_io) };
            if tried == SNAPSHOT_TRIES_MAX {
                return Err(error);
            }
            tracing::warn!(%error, "a snapshot is no good; it is made again once the state is healed");
            (view, generation) = self.machine.view_after(generation).await?;
        }
        Err(gone(()))
    }
}

impl MachineStore {
    async fn write(&self, view: View, generation: u64) -> Result<Taken, NotMade> {
        let last = view.last_applied;
        let taken = |file: SnapshotFile| {
            let meta = file.meta().map_err(|error| NotMade::Io(io::Error::other(error)))?;
            Ok(Snapshot { meta, snapshot: file })
        };
        if let Some(current) = self.snapshots.current()
            && current.last_log_id() == last
        {
            return taken(current);
        }
        let header = SnapshotHeader {
            cluster_id: self.snapshots.cluster_id().to_owned(),
            last_log_id: last.map(DiskLogId::from),
            membership_log_id: view.membership.log_id().map(DiskLogId::from),
            membership: view.membership.membership().into(),
            state_bytes: view.state_bytes,
        };
        let began = Instant::now();
        let snapshots = self.snapshots.clone();
        let made = in_background(&*self.host, "raft-snapshot", move || {
            Ok(snapshots.create(&header, view.writer, generation))
        })
        .await
        .unwrap_or_else(|error| Err(NotMade::Io(error)));
        match (made, self.snapshots.current()) {
            // Not fatal: the log just stays as long as it is until there is room.
            (Err(NotMade::Io(error)), Some(current))
                if error.kind() == io::ErrorKind::StorageFull =>
            {
                tracing::warn!(%error, "no room for a snapshot; the one before stays the newest");
                taken(current)
            }
            (made, _) => {
                let file = made?;
                self.meters.took_snapshot(began.elapsed());
                taken(file)
            }
        }
    }
}
