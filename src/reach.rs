//! Whether one machine gets through to another's ports: a machine that wants to join shows a certificate of the moment
//! at its addresses, and the masters look whether it is what they meet there.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;
use quorate_pki::{Authority, authority};
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::tls;

/// One try, name resolution and handshake included.
const TRY_MAX: Duration = Duration::from_secs(3);

/// Addresses that are tried for one request; more are refused.
const TARGETS_MAX: usize = 4;

/// Connections to what is shown, at the same time; more wait.
const SHOWN_MAX: usize = 16;

/// The name that is asked for; nobody looks at it.
const NAME: &str = "preflight.quorate.internal";

/// Somewhere, and who should be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// Hash of the public key of the certificate that is shown there.
    pub pin: String,
}

/// What came of each [`Target`]: nothing, or what is wrong.
pub type Outcomes = Vec<Option<String>>;

/// Tries targets as another master asks for it: JSON of [`Target`]s to JSON of [`Outcomes`].
pub fn serve(body: Bytes) -> BoxFuture<'static, Bytes> {
    Box::pin(async move {
        let outcomes = match serde_json::from_slice::<Vec<Target>>(&body) {
            Ok(targets) => all(&targets).await,
            Err(_) => Vec::new(),
        };
        serde_json::to_vec(&outcomes).unwrap_or_default().into()
    })
}

/// Tries all of them at once.
pub async fn all(targets: &[Target]) -> Outcomes {
    let tries = targets.iter().take(TARGETS_MAX).map(|target| async move {
        match timeout(TRY_MAX, one(target)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some(format!("no answer within {} s", TRY_MAX.as_secs())),
        }
    });
    join_all(tries).await
}

async fn one(target: &Target) -> anyhow::Result<()> {
    let stream = TcpStream::connect(&target.address).await?;
    let connector = TlsConnector::from(std::sync::Arc::new(tls::shown_config(&target.pin)?));
    connector.connect(ServerName::try_from(NAME)?, stream).await?;
    Ok(())
}

/// Whether a port can be connected to; what is wrong.
pub async fn tcp(address: &str) -> Option<String> {
    match timeout(TRY_MAX, TcpStream::connect(address)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", TRY_MAX.as_secs())),
    }
}

/// A certificate of the moment, for ports at which nothing is served yet.
pub struct Shown {
    acceptor: TlsAcceptor,
    /// What those who try expect.
    pub pin: String,
}

impl Shown {
    /// Makes a key and its certificate.
    pub fn new() -> anyhow::Result<Self> {
        let made = Authority::generate(NAME, Timestamp::now())?;
        let der = authority::der_of_pem(made.certificate_pem())?;
        let pin = authority::public_key_hash(&der)?;
        let config = tls::server_config(made.certified()).context("a certificate of the moment")?;
        Ok(Self { acceptor: TlsAcceptor::from(std::sync::Arc::new(config)), pin })
    }

    /// Shows it at these ports, until dropped.
    pub async fn at(&self, listeners: &[&TcpListener]) {
        let places = Semaphore::new(SHOWN_MAX);
        join_all(listeners.iter().map(|listener| self.at_one(listener, &places))).await;
    }

    async fn at_one(&self, listener: &TcpListener, places: &Semaphore) {
        let mut open = futures::stream::FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if open.len() < SHOWN_MAX => {
                    let Ok((stream, _)) = accepted else {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    };
                    open.push(async move {
                        let _place = places.acquire().await;
                        // Who gets no further than this says so itself.
                        drop(timeout(TRY_MAX, self.acceptor.accept(stream)).await);
                    });
                }
                Some(()) = futures::StreamExt::next(&mut open) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_met_is_who_was_meant() {
        let (ours, other) = (Shown::new().unwrap(), Shown::new().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, gone) = (listener.local_addr().unwrap(), closed.local_addr().unwrap());
        drop(closed);
        let target = |address: std::net::SocketAddr, shown: &Shown| Target {
            address: address.to_string(),
            pin: shown.pin.clone(),
        };
        let targets = [target(address, &ours), target(address, &other), target(gone, &ours)];
        let listeners = [&listener];
        let outcomes = tokio::select! {
            outcomes = all(&targets) => outcomes,
            () = ours.at(&listeners) => unreachable!("it is shown until dropped"),
        };
        assert_eq!(outcomes[0], None);
        assert!(outcomes[1].as_ref().unwrap().contains("somebody else"), "{outcomes:?}");
        assert!(outcomes[2].as_ref().unwrap().contains("refused"), "{outcomes:?}");
        assert_eq!(tcp(&address.to_string()).await, None);
    }
}
