//! One direction of one link: what is wrong with it, and how bytes pass it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::RESEND;
use crate::limits::{PROXY_CHUNK_BYTES, PROXY_CHUNKS_MAX};
use crate::scenario::Span;
use crate::scenario::fault::Toxic;

/// Bytes of one packet on most networks.
const PACKET_BYTES: usize = 1448;

/// A packet that is lost this often comes nevertheless: TCP would have given up long after.
const RESENDS_MAX: u32 = 6;

/// How a connection ends that a fault breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Both ends are told.
    Reset,
    /// The one that connected is not.
    HalfOpen,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    cut: bool,
    toxic: Option<Toxic>,
}

/// One direction of one link.
#[derive(Debug)]
pub(super) struct Line {
    state: watch::Sender<State>,
    met: AtomicU64,
}

impl Default for Line {
    fn default() -> Self {
        Self { state: watch::Sender::new(State::default()), met: AtomicU64::new(0) }
    }
}

impl Line {
    pub(super) fn set(&self, cut: bool, toxic: Option<Toxic>) {
        let wanted = State { cut, toxic };
        self.state.send_if_modified(|state| std::mem::replace(state, wanted) != wanted);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.state.borrow().cut
    }

    pub(super) fn toxic(&self) -> Option<Toxic> {
        self.state.borrow().toxic
    }

    pub(super) fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }

    pub(super) fn meet(&self) {
        self.met.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until it is not cut.
    pub(super) async fn open(&self) {
        if self.is_cut() {
            self.meet();
            // The sender is this value: it cannot be gone.
            let _ = self.state.subscribe().wait_for(|state| !state.cut).await;
        }
    }

    /// Waits until a fault breaks the connections of this link.
    pub(super) async fn broken(&self) -> Broken {
        let mut state = self.state.subscribe();
        let mut before = state.borrow_and_update().toxic;
        loop {
            let _ = state.changed().await;
            let now = state.borrow_and_update().toxic;
            if now != before {
                match now {
                    Some(Toxic::Reset(_)) => {
                        self.meet();
                        return Broken::Reset;
                    }
                    Some(Toxic::HalfOpen) => {
                        self.meet();
                        return Broken::HalfOpen;
                    }
                    Some(Toxic::Delay(..) | Toxic::Loss(_) | Toxic::Slow(_)) | None => {}
                }
            }
            before = now;
        }
    }

    /// How much later than `now` this many bytes arrive.
    fn late(&self, bytes: usize, random: &mut StdRng) -> Duration {
        let late = match self.toxic() {
            Some(Toxic::Delay(delay, Span(0))) => delay.duration(),
            Some(Toxic::Delay(delay, jitter)) => {
                delay.duration() + Duration::from_millis(random.random_range(0..=jitter.0))
            }
            Some(Toxic::Loss(percent)) => {
                let mut late = Duration::ZERO;
                for _ in 0..bytes.div_ceil(PACKET_BYTES) {
                    let is_lost = |random: &mut StdRng| random.random_range(0..100) < percent;
                    let mut lost = 0;
                    while lost < RESENDS_MAX && is_lost(random) {
                        lost += 1;
                    }
                    late = late.max(RESEND * ((1 << lost) - 1));
                }
                late
            }
            Some(Toxic::Slow(kib)) => {
                Duration::from_secs_f64(bytes as f64 / (f64::from(kib.max(1)) * 1024.0))
            }
            Some(Toxic::Reset(_) | Toxic::HalfOpen) | None => Duration::ZERO,
        };
        if late > Duration::ZERO {
            self.meet();
        }
        late
    }
}

/// Passes bytes on in their order, until the one side has said all.
pub(super) async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    line: &Line,
    mut random: StdRng,
) -> std::io::Result<()> {
    // Full: nothing more is read, and TCP tells the sender to wait.
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(PROXY_CHUNKS_MAX);
    let read = async move {
        let mut last = Instant::now();
        loop {
            let mut chunk = vec![0; PROXY_CHUNK_BYTES];
            let read = from.read(&mut chunk).await?;
            if read == 0 {
                return Ok(());
            }
            chunk.truncate(read);
            let late = line.late(read, &mut random);
            // A narrow link carries one thing after the other; a long one many at once, in their order.
            let is_narrow = matches!(line.toxic(), Some(Toxic::Slow(_)));
            let now = Instant::now();
            last = if is_narrow { last.max(now) + late } else { last.max(now + late) };
            if sender.send((last, chunk)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = receiver.recv().await {
            sleep_until(due).await;
            line.open().await;
            to.write_all(&chunk).await?;
        }
        line.open().await;
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_: ((), ())| ())
}
