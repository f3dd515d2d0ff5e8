//! What a master does whose state or files are no longer what was decided: a flipped bit in its memory or on its disk.
//!
//! Its log and its vote are good all the same, so it stays a voter: only the state is taken from another master, put in
//! the place of its own, and what the log has after it is applied again. Nothing else is applied meanwhile; that is
//! short, since Raft waits for it. Who decides that a state is damaged is above this crate.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use quorate_proto::raft as pb;
use quorate_proto::raft::raft_client::RaftClient;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

use super::{Inner, RaftNode};
use crate::apply::{Better, Command, Hold};
use crate::error::{Corruption, Fatal, HealError};
use crate::host::in_background;
use crate::limits::{FETCH_SNAPSHOT_MAX, FETCH_SNAPSHOT_POLL, SNAPSHOT_INSTALL_MAX};
use crate::peer::client::Purpose;
use crate::peer::link::PeerChannel;
use crate::peer::network::{describe, next_chunk};
use crate::snapshot::file;
use crate::types::{LogIndex, NodeId};

/// What a look at the files has found.
#[derive(Debug)]
pub struct Scrubbed {
    /// What is damaged, or missing.
    pub damaged: Vec<Corruption>,
    /// Why that could not be made good yet; the next look tries again.
    pub unmended: Option<io::Error>,
}

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

    /// Reads all snapshots of this master, and its log, again. Damaged snapshots are set aside, and another one is
    /// made, from its state; a damaged log is made shorter, up to a new snapshot, and written anew when its files are
    /// not what was written.
    ///
    /// # Errors
    /// When something cannot be read at all: that says nothing about what is there.
    pub async fn scrub_files(&self) -> io::Result<Scrubbed> {
        let inner = self.inner.clone();
        let scrubbing = self.inner.runtime.spawn(async move { inner.scrub_files().await });
        scrubbing.await.map_err(io::Error::other)?
    }

    /// Whether the state of this master is damaged: then it gives it to nobody.
    pub fn mark_damaged(&self, damaged: bool) {
        self.inner.applied.set_damaged(damaged);
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

    /// Waits until somebody has met with damage in the state: it should be looked at soon.
    pub async fn suspected(&self) {
        self.inner.applied.suspect().notified().await;
    }

    /// Ends this master: what is above has found that it must not go on. [`RaftNode::fatal`] tells why.
    pub fn give_up(&self, why: String) {
        self.inner.fatal.send_modify(|fatal| {
            fatal.get_or_insert(Fatal(why));
        });
    }
}

impl Inner {
    async fn scrub_files(&self) -> io::Result<Scrubbed> {
        let snapshots = self.snapshots.clone();
        let aside = in_background(&*self.host, "raft-scrub", move || snapshots.set_damaged_aside());
        let mut damaged = aside.await?;
        let mut upto = (!damaged.is_empty()).then_some(0);
        // What an earlier look has set aside, and could not replace.
        let purged = self.log.lock().purged.map(|id| id.index);
        if purged.is_some() && self.snapshots.current().and_then(|file| file.last_index()) < purged
        {
            if damaged.is_empty() {
                let (path, record) = (self.directory.join("snapshots"), "the newest".to_owned());
                damaged.push(Corruption { path, record, problem: "it is missing".to_owned() });
            }
            upto = Some(0);
        }
        if let Some((index, problem)) = self.log_store.check().await? {
            let (path, record) = (self.directory.join("raft"), format!("log entry {index}"));
            damaged.push(Corruption { path, record, problem });
            upto = Some(index);
        }
        let rotten = self.examine_log().await?;
        let rots = rotten.is_some();
        if let Some(rotten) = rotten {
            damaged.push(rotten);
            // Whatever cannot be read there any more is not needed after a snapshot.
            upto = upto.or(Some(0));
        }
        let mut unmended = match upto {
            Some(upto) => self.renew(upto).await.err(),
            None => None,
        };
        if rots && unmended.is_none() {
            unmended = self.log_store.renew().await.err();
        }
        Ok(Scrubbed { damaged, unmended })
    }

    /// Whether the files of the log are what was written: its store reads them at the next start only.
    async fn examine_log(&self) -> io::Result<Option<Corruption>> {
        let Some(examiner) = self.log_store.examiner().await? else { return Ok(None) };
        let found = in_background(&*self.host, "raft-examine", move || examiner.examine()).await?;
        let path = self.directory.join("raft");
        Ok(found.map(|(name, problem)| {
            let record = "what it holds".to_owned();
            Corruption { path: path.join(name), record, problem }
        }))
    }

    /// Makes a snapshot of `upto` or later, and purges the log up to it, but to nothing that Raft has not applied: it
    /// may not have it in its log.
    async fn renew(&self, upto: u64) -> io::Result<()> {
        let ended = |_| io::Error::other("Raft has ended");
        let until = Instant::now() + FETCH_SNAPSHOT_MAX;
        let applied = self.applied.position().0.map_or(0, |id| id.index);
        let upto = upto.max(applied);
        loop {
            let metrics = self.metrics();
            let known = metrics.snapshot.map(|id| id.index);
            let handed = metrics.last_applied.map(|id| id.index);
            let there = self.snapshots.current().and_then(|file| file.last_index());
            if let (Some(known), Some(there)) = (known, there)
                && known.min(there) >= upto
                && handed >= Some(known)
            {
                return self.raft.trigger().purge_log(known).await.map_err(ended);
            }
            if Instant::now() >= until {
                return Err(io::Error::other("no snapshot was made in time"));
            }
            if handed >= Some(upto) {
                // Ignored while one is being made.
                self.raft.trigger().snapshot().await.map_err(ended)?;
            }
            tokio::time::sleep(FETCH_SNAPSHOT_POLL).await;
        }
    }

    /// The state comes first, and nothing is held for it; then only what the log has after it is applied again.
    async fn heal(&self, from: NodeId) -> Result<LogIndex, HealError> {
        let member = self.member_of(from).ok_or(HealError::UnknownNode(from))?;
        let stopping = || HealError::Fatal(Fatal("the node is stopping".to_owned()));
        let min_index = self.applied.position().0.map_or(0, |id| id.index);
        let peer = self.peers.client(from, &member.peer_address, Purpose::Snapshot);
        let fetched = tokio::time::timeout(SNAPSHOT_INSTALL_MAX, self.fetch(peer, min_index)).await;
        let path = fetched.map_err(|_| HealError::Fetch("it took too long".to_owned()))??;
        let of_file = |error: io::Error| HealError::Fetch(error.to_string());
        let (checked, cluster_id) = (path.clone(), self.snapshots.cluster_id().to_owned());
        let file = in_background(&*self.host, "raft-heal-check", move || {
            file::verify(&checked, &cluster_id)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        });
        let file = file.await.map_err(of_file)?;
        let index = file.last_index().unwrap_or_default();
        if index < min_index {
            return Err(HealError::Fetch("it is older than what was asked for".to_owned()));
        }
        let applying = self.applying.upgrade().ok_or_else(stopping)?;
        let (held, at) = oneshot::channel();
        let (bring, better) = oneshot::channel();
        let (done, restored) = oneshot::channel();
        let hold = Command::Hold(Hold { held, better, done });
        applying.send(hold).await.map_err(|_| stopping())?;
        drop(applying);
        let applied = at.await.map_err(|_| stopping())?;
        let entries = if applied > index {
            self.log_store.read_all(index + 1, applied + 1).await.map_err(of_file)?
        } else {
            Vec::new()
        };
        if entries.len() as u64 != applied.saturating_sub(index) {
            return Err(HealError::Fetch("the log does not reach back to it any more".to_owned()));
        }
        bring.send(Better { file, entries }).map_err(|_| stopping())?;
        restored.await.map_err(|_| stopping())??;
        // Only now is it known to be a state. From here on it is what this master starts from.
        let snapshots = self.snapshots.clone();
        let installed =
            in_background(&*self.host, "raft-heal", move || snapshots.replace(&path).map(drop));
        // Without it the files would still be those of the damaged state.
        installed.await.map_err(|error| {
            HealError::Fetch(format!(
                "the state that was taken over cannot be kept as a file: {error}"
            ))
        })?;
        Ok(LogIndex(index.max(applied)))
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
