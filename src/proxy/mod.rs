//! A forwarder on this machine that follows the masters, so that a kubeconfig with one server survives the loss of any
//! of them.
//!
//! It passes bytes on and knows nothing of them: TLS is between client and master, which proves itself by a name that
//! every master has ([`SERVER_NAME`]). `members` keeps the list of masters and who of them is ready; `connection`
//! finds one for each client. Once a master has begun to answer, a connection stays with it: when that master dies the
//! connection breaks, and the client's next one goes elsewhere.

mod connection;
mod members;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::ApiClient;
use crate::limits::{PROXY_CONNECTIONS_MAX, PROXY_DRAIN_MAX, PROXY_SEARCH_PAUSE};
use crate::progress;
use members::Members;

/// A name in every master's certificate.
pub const SERVER_NAME: &str = "kubernetes.default.svc";

/// A forwarder that listens.
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
    address: SocketAddr,
}

impl Proxy {
    /// Listens on an address of this machine's loopback: what it passes on is whoever's who can reach it.
    pub async fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}: stop what does, or choose another with --listen")
        })?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// What stands in a kubeconfig.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Forwards to the masters that `client` can ask, `seeds` (`host:port`) first, until somebody asks to stop.
    pub async fn run(self, client: ApiClient, seeds: Vec<String>, stop: impl Future<Output = ()>) {
        let (stopping, cut) = (CancellationToken::new(), CancellationToken::new());
        let connections = TaskTracker::new();
        let members = Members::start(client, seeds, stopping.clone());
        let accepting = accept(&self.listener, &members, &connections, &cut);
        tokio::select! {
            () = accepting => {}
            () = stop => {}
        }
        drop(self.listener);
        connections.close();
        if !connections.is_empty() {
            progress::tell(&format!(
                "stopping: {} connections have {} s to end",
                connections.len(),
                PROXY_DRAIN_MAX.as_secs()
            ));
        }
        if tokio::time::timeout(PROXY_DRAIN_MAX, connections.wait()).await.is_err() {
            cut.cancel();
            connections.wait().await;
        }
        stopping.cancel();
    }
}

/// Takes connections for ever.
async fn accept(
    listener: &TcpListener,
    members: &Members,
    connections: &TaskTracker,
    cut: &CancellationToken,
) {
    let room = Arc::new(Semaphore::new(PROXY_CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                // Too many open files, or a client that has gone already.
                tracing::debug!(%error, "a connection was not taken");
                tokio::time::sleep(PROXY_SEARCH_PAUSE).await;
                continue;
            }
        };
        let (members, cut) = (members.clone(), cut.clone());
        connections.spawn(async move {
            tokio::select! {
                () = connection::forward(client, &members) => {}
                () = cut.cancelled() => {}
            }
            drop(permit);
        });
    }
}
