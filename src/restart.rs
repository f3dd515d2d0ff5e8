//! A master that begins anew in the same process: asked to, it hands over and stops as when it is told to end, and then
//! becomes the program that stands where it was started from, which may be a newer one. Whoever looks after the process
//! (systemd, a shell) sees the same one go on.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::LazyLock;

use anyhow::Context;
use quorate_api::status::Status;
use quorate_api_server::config::{Action, Actions, Answered};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::status::started_at;

/// Restarts the master that is asked: `{}`.
pub const RESTART_PATH: &str = "/quorate/v1/masters/restart";

/// Where this process was started from: found out while that is still there.
static PROGRAM: LazyLock<std::io::Result<PathBuf>> = LazyLock::new(std::env::current_exe);

/// Asks this process to begin anew. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Restart(CancellationToken);

impl Restart {
    /// Of a process that can.
    pub fn new() -> Self {
        LazyLock::force(&PROGRAM);
        Self(CancellationToken::new())
    }

    /// Completes when somebody has asked.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }
}

/// Serves [`RESTART_PATH`].
pub fn actions(restart: Option<Restart>) -> Actions {
    Arc::new(move |path| {
        let restart = restart.clone();
        let action: Action = Box::new(move |_| {
            Box::pin(async move {
                let Some(Restart(token)) = restart else {
                    let why = "only `quorate server` can be restarted: this master runs with a node in one process";
                    return Err(Box::new(Status::refused(why.to_owned())));
                };
                tracing::info!("asked to begin anew");
                token.cancel();
                Ok(Answered::Document(json!({"startedAt": started_at().to_string()})))
            })
        });
        (path == RESTART_PATH).then_some(action)
    })
}

/// Becomes the program anew. Comes back only when that is not possible.
///
/// # Errors
/// What is in the way.
pub fn again() -> anyhow::Result<()> {
    let program = PROGRAM.as_ref().map_err(|error| anyhow::anyhow!("{error}"));
    let program = program.context("cannot begin anew: where is this program?")?;
    let error = Command::new(program).args(std::env::args_os().skip(1)).exec();
    Err(error).with_context(|| format!("cannot begin anew as {}", program.display()))
}
