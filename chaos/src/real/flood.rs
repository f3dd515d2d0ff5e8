//! Connections that say nothing: opened to a master's API, and held.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::limits::CONNECT_MAX;

/// Connections of a run that only stand.
#[derive(Debug, Default)]
pub struct Flood {
    held: BTreeMap<usize, Vec<TcpStream>>,
}

impl Flood {
    /// Opens so many connections to each of these, and closes those to others.
    pub async fn set(&mut self, wanted: &BTreeMap<usize, (SocketAddr, u32)>) {
        self.held.retain(|master, _| wanted.contains_key(master));
        for (master, (api, count)) in wanted {
            if self.held.contains_key(master) {
                continue;
            }
            let mut opening = JoinSet::new();
            for _ in 0..*count {
                let connect = TcpStream::connect(*api);
                opening.spawn(timeout(CONNECT_MAX, connect));
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

    /// How many stand to a master; `None` when none was asked for.
    #[must_use]
    pub fn shown(&self, master: usize) -> Option<usize> {
        self.held.get(&master).map(Vec::len)
    }
}
