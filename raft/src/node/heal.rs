//! What a master does whose state or files are no longer what was decided: a flipped bit in its memory or on its disk.
//!
//! Its log and its vote are good all the same, so it stays a voter: only the state is taken from another master, at the
//! index that it has applied or later, and put in the place of its own, while nothing is applied. Who decides that a state
//! is damaged is above this crate.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use quorate_proto::raft as pb;
use quorate_proto::raft::raft_client::RaftClient;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

use super::{Inner, RaftNode};
use crate::apply::{Command, Hold};
use crate::error::{Corruption, Fatal, HealError};
use crate::host::in_background;
use crate::limits::{FETCH_SNAPSHOT_MAX, FETCH_SNAPSHOT_POLL, SNAPSHOT_INSTALL_MAX};
use crate::peer::client::Purpose;
use crate::peer::link::PeerChannel;
use crate::peer::network::{describe, next_chunk};
use crate::types::{LogIndex, NodeId};

impl RaftNode {
    /// Takes the state of another master in the place of this one's. Meanwhile nothing is applied here; without success
    /// it goes on with what it has. Gives the index of the new state.
    ///
    /// # Errors
    /// [`HealError`]: asking another one, or again, may help, but for `Fatal`.
    pub async fn heal(&self, from: NodeId) -> Result<LogIndex, HealError> {
        let inner = self.inner.clone();
        self.on_runtime(async move { inner.heal(from).await }).await
    }

    /// Reads all snapshots of this master, and its log, again. Damaged snapshots are set aside, and another one is made,
    /// from its state; a damaged log is made shorter, up to a new snapshot. Gives what was found.
    ///
    /// # Errors
    /// When something cannot be read at all, or not be mended: the next look tries again.
    pub async fn scrub_files(&self) -> io::Result<Vec<Corruption>> {
        let inner = self.inner.clone();
        let scrubbing = self.inner.runtime.spawn(async move { inner.scrub_files().await });
        scrubbing.await.map_err(io::Error::other)?
    }

    /// Makes a snapshot of the state and forgets the log before it: the log was in the same memory as a state that was
    /// damaged, and may be, too.
    ///
    /// # Errors
    /// When no snapshot was made in time.
    pub async fn renew_files(&self) -> io::Result<()> {
        let inner = self.inner.clone();
        let renewing = self.inner.runtime.spawn(async move {
            let applied = inner.applied.position().0.map_or(0, |id| id.index);
            inner.renew(applied).await
        });
        renewing.await.map_err(io::Error::other)?
    }

    /// Ends this master: what is above has found that it must not go on. [`RaftNode::fatal`] tells why.
    pub fn give_up(&self, why: String) {
        self.inner.fatal.send_modify(|fatal| {
            fatal.get_or_insert(Fatal(why));
        });
    }
}

impl Inner {
    async fn scrub_files(&self) -> io::Result<Vec<Corruption>> {
        let snapshots = self.snapshots.clone();
        let aside = in_background(&*self.host, "raft-scrub", move || snapshots.set_damaged_aside());
        let mut damaged = aside.await?;
        let mut upto = (!damaged.is_empty()).then_some(0);
        if let Some((index, problem)) = self.log_store.check().await? {
            let (path, record) = (self.directory.join("raft"), format!("log entry {index}"));
            damaged.push(Corruption { path, record, problem });
            upto = Some(index);
        }
        if let Some(upto) = upto {
            self.renew(upto).await?;
        }
        Ok(damaged)
    }

    /// Makes a snapshot of `upto` or later, and purges the log up to it.
    async fn renew(&self, upto: u64) -> io::Result<()> {
        let ended = |_| io::Error::other("Raft has ended");
        let until = Instant::now() + FETCH_SNAPSHOT_MAX;
        let applied = self.applied.position().0.map_or(0, |id| id.index);
        let upto = upto.max(applied);
        loop {
            let known = self.metrics().snapshot.map(|id| id.index);
            let there = self.snapshots.current().and_then(|file| file.last_index());
            if let (Some(known), Some(there)) = (known, there)
                && known.min(there) >= upto
            {
                return self.raft.trigger().purge_log(known).await.map_err(ended);
            }
            if Instant::now() >= until {
                return Err(io::Error::other("no snapshot was made in time"));
            }
            // Ignored while one is being made.
            self.raft.trigger().snapshot().await.map_err(ended)?;
            tokio::time::sleep(FETCH_SNAPSHOT_POLL).await;
        }
    }

    async fn heal(&self, from: NodeId) -> Result<LogIndex, HealError> {
        let member = self.member_of(from).ok_or(HealError::UnknownNode(from))?;
        let stopping = || HealError::Fatal(Fatal("the node is stopping".to_owned()));
        let applying = self.applying.upgrade().ok_or_else(stopping)?;
        let (held, at) = oneshot::channel();
        let (bring, file) = oneshot::channel();
        let (done, restored) = oneshot::channel();
        let hold = Command::Hold(Hold { held, file, done });
        applying.send(hold).await.map_err(|_| stopping())?;
        drop(applying);
        let min_index = at.await.map_err(|_| stopping())?;
        let peer = self.peers.client(from, &member.peer_address, Purpose::Snapshot);
        let fetched = tokio::time::timeout(SNAPSHOT_INSTALL_MAX, self.fetch(peer, min_index)).await;
        let path = fetched.map_err(|_| HealError::Fetch("it took too long".to_owned()))??;
        let snapshots = self.snapshots.clone();
        let installed =
            in_background(&*self.host, "raft-heal", move || snapshots.install(&path)).await;
        let file = installed.map_err(|error| HealError::Fetch(error.to_string()))?;
        let index = file.last_index().unwrap_or_default();
        bring.send(file).map_err(|_| stopping())?;
        restored.await.map_err(|_| stopping())??;
        Ok(LogIndex(index))
    }

    async fn fetch(
        &self,
        mut peer: RaftClient<PeerChannel>,
        min_index: u64,
    ) -> Result<PathBuf, HealError> {
        let of_peer = |status: Status| HealError::Fetch(describe(&status));
        let of_disk = |error: io::Error| HealError::Fetch(format!("it cannot be kept: {error}"));
        let request = pb::FetchStateRequest { min_index };
        let mut chunks = peer.fetch_state(request).await.map_err(of_peer)?.into_inner();
        let path = self.snapshots.healing();
        let (mut file, mut at, mut bytes) = (File::create(&path).map_err(of_disk)?, 0, None);
        while let Some(chunk) = next_chunk(&mut chunks).await.map_err(of_peer)? {
            if let Some(offer) = chunk.offer {
                bytes = Some(offer.bytes);
                if !self.space.has_room_for(offer.bytes) {
                    return Err(HealError::Fetch("the disk has no room for it".to_owned()));
                }
            }
            at += chunk.data.len() as u64;
            if bytes.is_none_or(|bytes| at > bytes) {
                return Err(HealError::Fetch("more came than was announced".to_owned()));
            }
            file.write_all(&chunk.data).map_err(of_disk)?;
        }
        if bytes == Some(at) {
            return Ok(path);
        }
        drop(fs::remove_file(&path));
        Err(HealError::Fetch(format!("only {at} bytes of it came")))
    }
}
