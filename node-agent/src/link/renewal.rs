//! The node's own certificate, made anew over the connection that it has, before its time is over or when the masters
//! ask for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::RngExt as _;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::config::Tls;
use crate::limits::{RENEWAL_CHECK, RENEWAL_MAX, RENEWAL_RETRY, RENEWAL_SPREAD};

/// Knows the node's certificate, and how to get another one: given by the binary, which has the keys and the files.
#[async_trait]
pub trait Renewal: Send + Sync + 'static {
    /// Whether another one is wanted now. `mark`: what a master told last of how new it is to be, 0 when none has.
    fn is_due(&self, mark: u64) -> bool;

    /// Has the master at the other end of this connection make another one, and keeps it.
    ///
    /// # Errors
    /// In words for people; the one that there is stays.
    async fn renew(&self, master: Channel) -> Result<Tls, String>;

    /// When the certificate's time is over and no master takes it any more: another one, had without it. `None` while
    /// its time is not over.
    ///
    /// # Errors
    /// In words for people, with what to do.
    async fn again(&self) -> Option<Result<Tls, String>> {
        None
    }
}

/// One session's part of it.
pub(super) struct Renewing {
    renewal: Option<Arc<dyn Renewal>>,
    mark: u64,
    next: Instant,
    under_way: Option<BoxFuture<'static, Result<Tls, String>>>,
}

impl Renewing {
    pub(super) fn new(renewal: Option<Arc<dyn Renewal>>) -> Self {
        Self { renewal, mark: 0, next: Instant::now() + RENEWAL_CHECK, under_way: None }
    }

    /// A master has told how new certificates are to be. Not all nodes come at once.
    pub(super) fn told(&mut self, mark: u64) {
        if mark > self.mark {
            self.mark = mark;
            let spread = u64::try_from(RENEWAL_SPREAD.as_millis()).unwrap_or(u64::MAX);
            let wait = quorate_chance::rng().random_range(0..=spread);
            self.next = Instant::now() + Duration::from_millis(wait);
        }
    }

    /// Completes with a new certificate. Can be dropped and called again.
    pub(super) async fn renewed(&mut self, channel: &Channel) -> Tls {
        let Some(renewal) = self.renewal.clone() else { return std::future::pending().await };
        loop {
            if let Some(under_way) = &mut self.under_way {
                let outcome = under_way.await;
                self.under_way = None;
                match outcome {
                    Ok(tls) => return tls,
                    Err(why) => {
                        tracing::warn!(why, "the node's certificate was not renewed");
                        self.next = Instant::now() + RENEWAL_RETRY;
                    }
                }
            }
            tokio::time::sleep_until(self.next).await;
            self.next = Instant::now() + RENEWAL_CHECK;
            if renewal.is_due(self.mark) {
                let (renewal, channel) = (renewal.clone(), channel.clone());
                let asking = async move {
                    match tokio::time::timeout(RENEWAL_MAX, renewal.renew(channel)).await {
                        Ok(outcome) => outcome,
                        Err(_) => Err("the master did not answer".to_owned()),
                    }
                };
                self.under_way = Some(asking.boxed());
            }
        }
    }
}
