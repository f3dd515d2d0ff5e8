//! Ctrl-C and SIGTERM: the first stops the process in order, the second at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::progress;

/// Exit status of a process that a signal ended is 128 and the signal's number, as shells have it.
const INTERRUPTED: i32 = 128 + 2;
const TERMINATED: i32 = 128 + 15;

/// Whether somebody asked this process to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(CancellationToken);

impl Stop {
    /// Takes over both signals. From here on they no longer end the process by themselves, so
    /// whoever calls this looks at [`Stop::requested`] until the end.
    pub fn listen() -> anyhow::Result<Self> {
        let requested = CancellationToken::new();
        let stop = Self(requested.clone());
        each_signal(move |code| {
            if requested.is_cancelled() {
                // Nothing is lost: what was acknowledged is on disk.
                progress::say("stopped at once");
                std::process::exit(code);
            }
            requested.cancel();
        })?;
        Ok(stop)
    }

    /// Completes when somebody has asked.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Does something that takes long, unless somebody asks to stop meanwhile.
    pub async fn or<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            done = work => done,
            () = self.requested() => Err(StoppedEarly.into()),
        }
    }
}

/// Somebody asked a process to stop that was not ready yet. It did: that is no failure of the process.
#[derive(Debug, thiserror::Error)]
#[error("stopped while starting; nothing is lost, start again to go on")]
pub struct StoppedEarly;

/// Takes over both signals for what must clean up behind it in any case; `asked` is called at each.
pub fn listen_patiently(asked: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    each_signal(move |_| asked())
}

fn each_signal(asked: impl Fn(i32) + Send + 'static) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            let code = tokio::select! {
                _ = interrupt.recv() => INTERRUPTED,
                _ = terminate.recv() => TERMINATED,
            };
            asked(code);
        }
    });
    Ok(())
}
