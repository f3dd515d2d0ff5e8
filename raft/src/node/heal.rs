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
use tonic::Status;

use super::{Inner, RaftNode};
use crate::apply::{Command, Hold};
use crate::error::{Corruption, Fatal, HealError};
use crate::host::in_background;
use crate::limits::SNAPSHOT_INSTALL_MAX;
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

    /// Reads all snapshots of this master, and sets those aside that are damaged; another one is made then, from its
    /// state. Gives what was found.
    ///
    /// # Errors
    /// When no thread can be started or a file cannot be renamed.
    pub async fn scrub_snapshots(&self) -> io::Result<Vec<Corruption>> {
        let inner = self.inner.clone();
        let snapshots = inner.snapshots.clone();
        let damaged =
            in_background(&*inner.host, "raft-scrub", move || snapshots.set_damaged_aside())
                .await?;
        if !damaged.is_empty() {
            // Ignored while one is being made. An error means that Raft has ended.
            drop(inner.raft.trigger().snapshot().await);
        }
        Ok(damaged)
    }

    /// Ends this master: what is above has found that it must not go on. [`RaftNode::fatal`] tells why.
    pub fn give_up(&self, why: String) {
        self.inner.fatal.send_modify(|fatal| {
            fatal.get_or_insert(Fatal(why));
        });
    }
}

impl Inner {
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
