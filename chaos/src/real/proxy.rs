//! TCP proxies between the masters: what goes from one to another waits, is lost, trickles, breaks off or goes nowhere.
//!
//! They need neither root nor anything of the kernel. Each master has an address here under which the others know it;
//! who connects is told by the address that it comes from, or by the kernel's table of sockets.
//!
//! On TCP a lost packet is one that comes later, with everything behind it: so it is here ([`RESEND`]). What is not
//! touched by a fault passes as it comes.

mod link;
mod who;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::limits::CONNECT_MAX;
use crate::scenario::fault::{Effect, Link, Toxic};
use link::{Broken, Line, carry};
pub use who::Who;

/// When TCP sends again what was lost, the first time; then twice as long, and so on.
const RESEND: Duration = Duration::from_millis(200);

/// One door of one master.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    /// Whose.
    pub master: usize,
    /// Where the others come to.
    pub listen: SocketAddr,
    /// Where it really is.
    pub to: SocketAddr,
    /// Clients come this way, and no master.
    pub clients: bool,
}

/// All proxies of a run. They end with this value.
#[derive(Debug)]
pub struct Proxies {
    lines: Arc<Lines>,
    listeners: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Lines {
    lines: BTreeMap<Link, Line>,
    /// To and from clients.
    clients: BTreeMap<usize, Line>,
    who: Who,
    /// From where the proxy connects on behalf of a master.
    sources: BTreeMap<usize, IpAddr>,
    seed: u64,
}

impl Drop for Proxies {
    fn drop(&mut self) {
        // Their connections go with them.
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}

impl Proxies {
    /// Opens all doors; nothing is wrong yet.
    ///
    /// # Errors
    /// When an address is taken.
    pub async fn open(
        doors: &[Door],
        who: Who,
        sources: BTreeMap<usize, IpAddr>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let masters: BTreeSet<usize> = doors.iter().map(|door| door.master).collect();
        let links = masters.iter().flat_map(|from| masters.iter().map(move |to| (*from, *to)));
        let lines = links.filter(|(from, to)| from != to).map(|link| (link, Line::default()));
        let clients = doors.iter().filter(|door| door.clients);
        let clients = clients.map(|door| (door.master, Line::default())).collect();
        let lines = Arc::new(Lines { lines: lines.collect(), clients, who, sources, seed });
        let mut proxies = Self { lines: lines.clone(), listeners: Vec::new() };
        for door in doors {
            let listener = TcpListener::bind(door.listen)
                .await
                .with_context(|| format!("a proxy cannot listen at {}", door.listen))?;
            proxies.listeners.push(tokio::spawn(serve(lines.clone(), listener, *door)));
        }
        Ok(proxies)
    }

    /// From now on this is wrong, and nothing else. `cuts` tells whether links are cut here, not elsewhere.
    pub fn set(&self, effect: &Effect, cuts: bool) {
        for (link, line) in &self.lines.lines {
            line.set(cuts && effect.cuts.contains(link), effect.toxics.get(link).copied());
        }
        for (master, line) in &self.lines.clients {
            line.set(effect.unreached.contains(master), None);
        }
    }

    /// Masters whose clients' bytes the proxies hold.
    #[must_use]
    pub fn unreached(&self) -> BTreeSet<usize> {
        let held = self.lines.clients.iter().filter(|(_, line)| line.is_cut());
        held.map(|(master, _)| *master).collect()
    }

    /// Links over which nothing passes, because the proxies hold it.
    #[must_use]
    pub fn cuts(&self) -> BTreeSet<Link> {
        self.lines.lines.iter().filter(|(_, line)| line.is_cut()).map(|(link, _)| *link).collect()
    }

    /// What is wrong with links now.
    #[must_use]
    pub fn toxics(&self) -> BTreeMap<Link, Toxic> {
        let lines = self.lines.lines.iter();
        lines.filter_map(|(link, line)| Some((*link, line.toxic()?))).collect()
    }

    /// How often something on one of these links was made to wait, lost, held or broken off, so far.
    #[must_use]
    pub fn met<'a>(&self, links: impl Iterator<Item = &'a Link>) -> u64 {
        links.filter_map(|link| self.lines.lines.get(link)).map(Line::met).sum()
    }

    /// The process of a master, for [`Who::Processes`].
    pub fn process(&self, master: usize, id: Option<u32>) {
        self.lines.who.process(master, id);
    }
}

async fn serve(lines: Arc<Lines>, listener: TcpListener, door: Door) {
    let (mut connections, mut number) = (JoinSet::new(), 0_u64);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    number += 1;
                    connections.spawn(connection(lines.clone(), (stream, from), door, number));
                }
                // Out of descriptors, or gone before it was taken.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(
    lines: Arc<Lines>,
    (mut near, from): (TcpStream, SocketAddr),
    door: Door,
    number: u64,
) {
    let _ = near.set_nodelay(true);
    let dialer = lines.who.is(from, door.listen);
    // Not one of the masters, or itself: nothing is ever wrong.
    let untouched = (Line::default(), Line::default());
    let clients = lines.clients.get(&door.master).filter(|_| door.clients);
    let pair = clients.map(|line| (line, line)).or_else(|| {
        let dialer = dialer?;
        let forth = lines.lines.get(&(dialer, door.master))?;
        Some((forth, lines.lines.get(&(door.master, dialer))?))
    });
    let (forth, back) = pair.unwrap_or((&untouched.0, &untouched.1));
    if forth.toxic() == Some(Toxic::HalfOpen) {
        forth.meet();
        return discard(near).await;
    }
    forth.open().await;
    back.open().await;
    let source = dialer.and_then(|dialer| lines.sources.get(&dialer)).copied();
    let Ok(mut far) = dial(source, door.to).await else {
        let _ = near.set_zero_linger();
        return;
    };
    let seed =
        lines.seed ^ number ^ (door.master as u64) << 48 ^ u64::from(door.listen.port()) << 32;
    let random = || StdRng::seed_from_u64(seed);
    let end = {
        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
        let both = async {
            tokio::try_join!(
                carry(near_in, far_out, forth, random()),
                carry(far_in, near_out, back, random()),
            )
        };
        tokio::select! {
            done = both => match done {
                Ok(_) => None,
                Err(_) => {
                    // That one end is gone is also something that has to come through.
                    forth.open().await;
                    back.open().await;
                    Some(Broken::Reset)
                }
            },
            broken = forth.broken() => Some(broken),
            broken = back.broken() => Some(broken),
        }
    };
    match end {
        None => {}
        Some(Broken::Reset) => {
            let _ = (near.set_zero_linger(), far.set_zero_linger());
        }
        Some(Broken::HalfOpen) => {
            let _ = far.set_zero_linger();
            drop(far);
            discard(near).await;
        }
    }
}

async fn dial(source: Option<IpAddr>, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = timeout(CONNECT_MAX, socket.connect(to)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Nobody answers, until the other side gives up.
async fn discard(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

#[cfg(test)]
mod tests;
