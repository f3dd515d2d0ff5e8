//! Connections that a run opens to masters and holds: some say nothing, some do not read what they are sent. Whoever
//! serves them has to keep what it sends them, or let them go.

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

/// What slow watchers watch: everything of the kind that clients write most.
const WATCHED: &str = "/api/v1/configmaps?watch=true&allowWatchBookmarks=true";

/// How many connections to which master.
pub type Wanted = BTreeMap<usize, (SocketAddr, u32)>;

/// Something of which each master has so many.
#[derive(Debug)]
pub struct Held<T> {
    held: BTreeMap<usize, Vec<T>>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { held: BTreeMap::new() }
    }
}

impl<T: Send + 'static> Held<T> {
    /// Opens so many to each of these, where [too few](is_short) stand, and drops those to others.
    pub async fn set<O>(&mut self, wanted: &Wanted, open: impl Fn(SocketAddr) -> O)
    where
        O: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        self.held.retain(|master, _| wanted.contains_key(master));
        for (master, (api, count)) in wanted {
            let held = self.held.entry(*master).or_default();
            if !is_short(held.len(), *count) {
                continue;
            }
            let mut opening = JoinSet::new();
            for _ in held.len()..usize::try_from(*count).unwrap_or(usize::MAX) {
                opening.spawn(timeout(CONNECT_MAX, open(*api)));
            }
            let opened = opening.join_all().await;
            held.extend(opened.into_iter().filter_map(|done| done.ok()?.ok()));
        }
    }

    /// Its process is gone, and with it what stood to it.
    pub fn forget(&mut self, master: usize) {
        self.held.remove(&master);
    }

    /// Takes all back.
    pub fn clear(&mut self) {
        self.held.clear();
    }

    /// Whether none was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many stand to a master; `None` when none was asked for.
    #[must_use]
    pub fn shown(&self, master: usize) -> Option<usize> {
        self.held.get(&master).map(Vec::len)
    }
}

/// Whether so many are too few: fewer than half of what was asked for.
#[must_use]
pub fn is_short(stand: usize, wanted: u32) -> bool {
    stand < usize::try_from(wanted).unwrap_or(usize::MAX).div_ceil(2)
}

/// A connection that says nothing.
///
/// # Errors
/// When there is none.
pub async fn silent(api: SocketAddr) -> anyhow::Result<TcpStream> {
    Ok(TcpStream::connect(api).await?)
}

/// A watch of which nothing is read but what the handshake needs.
///
/// # Errors
/// When it cannot be asked for.
pub async fn watch(
    api: SocketAddr,
    user: Arc<Credentials>,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let socket = if api.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    let tcp = socket.connect(api).await?;
    let identity = user.now();
    let connector = tokio_rustls::TlsConnector::from(identity.tls.clone());
    let mut stream = connector.connect(ServerName::from(api.ip()), tcp).await?;
    let bearer = identity.bearer.as_ref().map(|token| format!("authorization: Bearer {token}\r\n"));
    let request = format!(
        "GET {WATCHED} HTTP/1.1\r\nhost: {api}\r\nuser-agent: quorate-chaos\r\n{}\r\n",
        bearer.unwrap_or_default()
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    Ok(stream)
}
