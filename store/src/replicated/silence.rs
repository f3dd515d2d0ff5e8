//! Who does not answer, when a call could not be decided: asked when somebody is to be told, and not for each of them.

use quorate_raft::{RaftNode, Silence};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::Error;
use crate::limits::SILENCE_KEPT;

/// See the module.
#[derive(Debug)]
pub(super) struct Silent {
    raft: RaftNode,
    last: Mutex<Option<(Instant, Option<Silence>)>>,
}

impl Silent {
    pub(super) fn new(raft: RaftNode) -> Self {
        Self { raft, last: Mutex::default() }
    }

    /// The same error, which says who does not answer if too few do.
    pub(super) async fn explained(&self, error: Error) -> Error {
        match error {
            Error::Unavailable { waited_ms, silence: None } => {
                Error::Unavailable { waited_ms, silence: self.now().await }
            }
            other => other,
        }
    }

    async fn now(&self) -> Option<Silence> {
        // Whoever comes meanwhile waits for the same answer.
        let mut last = self.last.lock().await;
        if let Some((at, silence)) = &*last
            && at.elapsed() < SILENCE_KEPT
        {
            return silence.clone();
        }
        let silence = self.raft.silence().await;
        *last = Some((Instant::now(), silence.clone()));
        silence
    }
}
