//! Backups for whoever may `post` to these non-resource URLs: streamed while they are made, one at a time.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use quorate_api::status::Status;
use quorate_api_server::config::{Action, Actions, Answered};
use quorate_backup::Passphrase;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::take::{Source, Taken};

/// Gives a backup of the state: all Secrets are in it, so whoever may ask may read them.
pub const SAVE_PATH: &str = "/quorate/v1/backups/save";

/// The same with the cluster's private keys, sealed: `{"passphrase": TEXT}`. A path of its own, since it is a right of
/// its own: whoever opens the keys can sign whatever the cluster believes.
pub const SAVE_WITH_KEYS_PATH: &str = "/quorate/v1/backups/save-with-keys";

/// Backups that one master makes at a time for others. Whoever asks for one more gets 429.
const AT_ONCE_MAX: usize = 1;

/// Bytes of one piece of the answer.
const PIECE_BYTES: usize = 256 * 1024;

/// Pieces that wait for the client. When it takes none, the backup waits.
const PIECES_WAITING_MAX: usize = 4;

/// A client that takes nothing for so long is given up: its connection breaks off.
const STALL_MAX: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithKeys {
    passphrase: String,
}

/// What can be done at which path.
pub fn actions(source: Source) -> Actions {
    let slots = Arc::new(Semaphore::new(AT_ONCE_MAX));
    Arc::new(move |path| {
        let with_keys = match path {
            SAVE_PATH => false,
            SAVE_WITH_KEYS_PATH => true,
            _ => return None,
        };
        let (source, slots) = (source.clone(), slots.clone());
        let action: Action = Box::new(move |body| {
            Box::pin(async move {
                let passphrase = with_keys.then(|| passphrase(&body)).transpose()?;
                let slot = slots.try_acquire_owned().map_err(|_| {
                    Status::too_many_requests("this master makes another backup just now", 5)
                })?;
                let taken = source.take(passphrase).await.map_err(|error| {
                    Status::service_unavailable(format!("no backup can be made: {error:#}"))
                })?;
                let header = taken.header();
                tracing::info!(revision = header.revision, with_keys, "a backup is given out");
                Ok(stream(taken, slot))
            })
        });
        Some(action)
    })
}

/// The error does not say what was sent.
fn passphrase(body: &[u8]) -> Result<Passphrase, Box<Status>> {
    let sent: WithKeys = serde_json::from_slice(body)
        .map_err(|_| Status::bad_request("the body must be {\"passphrase\": TEXT}".to_owned()))?;
    Passphrase::new(&sent.passphrase)
        .map_err(|error| Box::new(Status::bad_request(error.to_string())))
}

fn stream(taken: Taken, slot: OwnedSemaphorePermit) -> Answered {
    let (pieces, waiting) = mpsc::channel(PIECES_WAITING_MAX);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let pipe = Pipe { pieces: pieces.clone(), runtime: runtime.clone() };
        let written = taken.write(BufWriter::with_capacity(PIECE_BYTES, pipe));
        if let Err(error) = written {
            tracing::warn!(%error, "a backup was not given out to its end");
            // Without it the answer would end as if it were whole.
            drop(runtime.block_on(pieces.send(Err(io::Error::other(error)))));
        }
        drop(slot);
    });
    Answered::Stream(ReceiverStream::new(waiting).boxed())
}

/// From the thread that makes a backup to the connection that takes it.
struct Pipe {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    runtime: Handle,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Ok(Bytes::copy_from_slice(bytes));
        let sending = async { tokio::time::timeout(STALL_MAX, self.pieces.send(piece)).await };
        match self.runtime.block_on(sending) {
            Ok(Ok(())) => Ok(bytes.len()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
