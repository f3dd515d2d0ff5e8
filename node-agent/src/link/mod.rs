//! The agent's connection to the masters: one control stream to any of them, another one as soon as it breaks.
//!
//! * `session`: one life of the stream.
//! * `outbox`: what waits to be sent, bounded, resent until acknowledged.
//! * `connect`: TLS and addresses.
//! * `known`: the masters of the last run.
//! * `renewal`: the node's next certificate.
//! * `channels`: logs, exec, attach and port-forward, one stream each.

pub(crate) mod channels;
mod connect;
mod known;
mod outbox;
mod renewal;
mod session;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use connect::Dialer;
pub use connect::{Dial, Io};
pub use known::{keep_masters, known_masters};
pub(crate) use outbox::{Acked, Outbox, PodKey};
pub use renewal::Renewal;
pub(crate) use session::Hooks;

use crate::config::{Config, Tls};
use crate::desired::Desired;
use crate::limits::{RECONNECT_BACKOFF_MAX, RENEWAL_RETRY, TOKEN_TIMEOUT};

/// What a service account token is asked for with.
#[derive(Debug, Clone)]
pub(crate) struct TokenAsk {
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) expiration_seconds: i64,
    pub(crate) pod_name: String,
    pub(crate) pod_uid: String,
}

/// Why no token came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// A master refused.
    #[error("{0}")]
    Refused(String),
    /// No master answered in time.
    #[error("no master answered")]
    Unanswered,
}

/// The agent's side of the control stream.
pub(crate) struct Link {
    pub(crate) outbox: Outbox,
    connected: Mutex<Option<String>>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Link { outbox: Outbox::default(), connected: Mutex::new(None) }
    }

    /// The master we speak to, when there is one.
    pub(crate) fn connected(&self) -> Option<String> {
        self.connected.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set_connected(&self, master: Option<String>) {
        *self.connected.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = master;
    }

    /// Asks for a token and waits for the answer.
    pub(crate) async fn token(&self, ask: TokenAsk) -> Result<(String, Timestamp), TokenError> {
        let (id, answer) = self.outbox.ask_token(ask);
        let answer = tokio::time::timeout(TOKEN_TIMEOUT, answer).await;
        self.outbox.forget_token(id);
        let reply = answer.ok().and_then(Result::ok).ok_or(TokenError::Unanswered)?;
        if !reply.error.is_empty() {
            let status: serde_json::Value =
                serde_json::from_slice(&reply.error).unwrap_or_default();
            let message = status["message"].as_str().unwrap_or("refused");
            return Err(TokenError::Refused(message.to_owned()));
        }
        let expires = reply.expiration.parse().unwrap_or_else(|_| quorate_chance::now());
        Ok((reply.token, expires))
    }
}

/// Under which what is wrong with the certificate is told; no URL.
const EXPIRED: &str = "certificate";

/// Another certificate instead of one whose time is over; after a try that failed not before `again_at`.
async fn joined_again(config: &Config, again_at: &mut Instant) -> Option<Result<Tls, String>> {
    let renewal = config.renewal.as_ref().filter(|_| Instant::now() >= *again_at)?;
    let again = renewal.again().await?;
    *again_at = Instant::now() + RENEWAL_RETRY;
    Some(again)
}

/// Keeps the stream alive until cancelled: dials the masters in turn, the next one at once when one is lost.
pub(crate) async fn run(
    config: Arc<Config>,
    desired: Arc<Desired>,
    link: Arc<Link>,
    hooks: Arc<dyn Hooks>,
    stop: CancellationToken,
) {
    let mut dialer = Dialer::new(&config);
    let mut failures: u32 = 0;
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let instance = quorate_chance::uuid();
    let mut again_at = Instant::now();
    loop {
        let again = joined_again(&config, &mut again_at);
        let again = tokio::select! {
            again = again => again,
            () = stop.cancelled() => return,
        };
        match again {
            Some(Ok(tls)) => {
                tracing::info!("the node's certificate had expired: it has another one");
                dialer.renew(tls);
                told.clear();
            }
            // The masters' clocks decide, not this one: they are asked all the same.
            Some(Err(why)) if told.get(EXPIRED) != Some(&why) => {
                tracing::warn!(why, "masters may not take this node's certificate");
                told.insert(EXPIRED.to_owned(), why);
            }
            Some(Err(_)) | None => {}
        }
        let url = dialer.next_url();
        let attempt = session::run(&dialer, &url, &instance, &config, &desired, &link, &hooks);
        let outcome = tokio::select! {
            outcome = attempt => outcome,
            () = stop.cancelled() => return,
        };
        link.set_connected(None);
        link.outbox.disconnected();
        match outcome.established {
            true => {
                failures = 0;
                told.clear();
                tracing::info!(master = %url, why = %outcome.why, "stream to master ended");
            }
            false => {
                failures += 1;
                // Each reason once: it may last.
                if told.get(&url) != Some(&outcome.why) {
                    tracing::warn!(master = %url, why = %outcome.why, "master cannot be reached");
                    told.insert(url, outcome.why);
                }
            }
        }
        if let Some(masters) = outcome.masters {
            dialer.update(masters);
        }
        // Every master is tried once before anybody waits.
        let rounds = failures / u32::try_from(dialer.len()).unwrap_or(1).max(1);
        if rounds > 0 {
            let wait = Duration::from_millis(100 * u64::from(rounds.min(10)));
            tokio::select! {
                () = tokio::time::sleep(wait.min(RECONNECT_BACKOFF_MAX)) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
