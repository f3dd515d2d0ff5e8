//! Watchers that do not read: whoever serves them has to keep what it sends them, or let them go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::kubeconfig::Credentials;
use crate::limits::CONNECT_MAX;

/// Room for what is sent, where the kernel allows so little: a watcher is soon behind.
const RECEIVE_BYTES: u32 = 4096;

/// What they watch: everything of the kind that clients write most.
const WATCHED: &str = "/api/v1/configmaps?watch=true&allowWatchBookmarks=true";

/// Watchers of a run that only stand.
#[derive(Debug, Default)]
pub struct SlowWatchers {
    held: BTreeMap<usize, Vec<TlsStream<TcpStream>>>,
}

impl SlowWatchers {
    /// Begins so many watches at each of these, and ends those at others.
    pub async fn set(
        &mut self,
        wanted: &BTreeMap<usize, (SocketAddr, u32)>,
        user: &Arc<Credentials>,
    ) {
        self.held.retain(|master, _| wanted.contains_key(master));
        for (master, (api, count)) in wanted {
            if self.held.contains_key(master) {
                continue;
            }
            let mut opening = JoinSet::new();
            for _ in 0..*count {
                opening.spawn(timeout(CONNECT_MAX, watch(*api, user.clone())));
            }
            let opened = opening.join_all().await;
            let opened = opened.into_iter().filter_map(|done| done.ok()?.ok()).collect();
            self.held.insert(*master, opened);
        }
    }

    /// Takes all back.
    pub fn clear(&mut self) {
        self.held.clear();
    }

    /// How many were begun at a master; `None` when none was asked for.
    #[must_use]
    pub fn shown(&self, master: usize) -> Option<usize> {
        self.held.get(&master).map(Vec::len)
    }
}

/// Asks, and reads nothing but what the handshake needs.
async fn watch(api: SocketAddr, user: Arc<Credentials>) -> anyhow::Result<TlsStream<TcpStream>> {
    let socket = if api.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    let tcp = socket.connect(api).await?;
    let connector = tokio_rustls::TlsConnector::from(user.tls.clone());
    let mut stream = connector.connect(ServerName::from(api.ip()), tcp).await?;
    let bearer = user.bearer.as_ref().map(|token| format!("authorization: Bearer {token}\r\n"));
    let request = format!(
        "GET {WATCHED} HTTP/1.1\r\nhost: {api}\r\nuser-agent: quorate-chaos\r\n{}\r\n",
        bearer.unwrap_or_default()
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    Ok(stream)
}
