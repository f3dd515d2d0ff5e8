//! Holds one address while this master leads and has its lease, and only then.
//!
//! The kernel is asked again and again to keep the address for a few seconds more: what stops asking, for whatever
//! reason, loses it. Until then a hung or killed master and the next one both have it, and hosts believe who has spoken
//! last: the new one, which announces itself until the other's time is surely over.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_api_server::MovingAddresses;
use quorate_store::{Leadership, Masters};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Users;
use super::frames::{self, Mac, Said};
use super::netlink::{LIFETIME_SECONDS, Netlink};
use super::others::Others;
use super::place::Place;
use super::wire::{Link, Listener};

/// The leader looks at its lease this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Others look whether they lead this often, beside being told.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// The kernel is asked to keep the address this often.
const RENEW_INTERVAL: Duration = Duration::from_millis(500);

/// When it is announced, counted from when it was taken; after the last of them each [`ANNOUNCE_INTERVAL`].
const ANNOUNCE_AT: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_millis(3500),
    Duration::from_secs(5),
];

/// For hosts that missed all of these.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(60);

/// So long after it was taken, the one before may still answer for it: who asks is told at once where it is now.
const CONTESTED: Duration = Duration::from_secs(LIFETIME_SECONDS as u64 + 2);

/// Answers to others are no more frequent.
const DEFEND_INTERVAL: Duration = Duration::from_millis(50);

/// Against a host that is no master (RFC 5227, 2.4): defending more often would be a quarrel without end.
const QUARREL_INTERVAL: Duration = Duration::from_secs(10);

/// What could not be taken is tried again after this.
const RETRY: Duration = Duration::from_millis(500);

/// Who gave it up for so short a time has heard of no other.
const AGAIN: Duration = Duration::from_secs(2);

/// Without a further sign of a host that uses it, too, that is over after this.
const QUARREL_MEMORY: Duration = Duration::from_secs(60);

/// When another master leads, requests that came in here have so long to be answered. The next one asks the link for
/// about as long who has the address.
const GRACE: Duration = Duration::from_millis(80);

/// See the module.
pub struct Keeper {
    place: Place,
    netlink: Arc<Netlink>,
    others: Others,
    masters: Masters,
    connections: MovingAddresses,
    held: Option<Held>,
    /// Not before.
    retry_at: Instant,
    /// When it was held here last.
    left_at: Option<Instant>,
}

/// An address that this master has.
struct Held {
    link: Link,
    /// IPv4 only: for IPv6 every packet would have to be looked at.
    listener: Option<Listener>,
    since: Instant,
    renewed: Instant,
    /// How many announcements were made in their time.
    announced: usize,
    announced_at: Instant,
    quarrel: Option<Instant>,
}

impl Held {
    /// Anew where nobody does: the link may have been down.
    fn listen(&mut self, ip: IpAddr) {
        if ip.is_ipv4() && self.listener.is_none() {
            self.listener = self.link.listen(ip).ok();
        }
    }
}

/// When announcement number `number` is due, after the address was taken.
fn announce_after(number: usize) -> Duration {
    let last = ANNOUNCE_AT[ANNOUNCE_AT.len() - 1];
    ANNOUNCE_AT.get(number).copied().unwrap_or_else(|| {
        let more = u32::try_from(number - (ANNOUNCE_AT.len() - 1)).unwrap_or(u32::MAX);
        last.saturating_add(ANNOUNCE_INTERVAL.saturating_mul(more))
    })
}

impl Keeper {
    pub fn new(place: Place, netlink: Arc<Netlink>, others: Others, users: &Users) -> Self {
        let (masters, connections) = (users.masters.clone(), users.connections.clone());
        let retry_at = Instant::now();
        let (held, left_at) = (None, None);
        Self { place, netlink, others, masters, connections, held, retry_at, left_at }
    }

    /// Runs until `stop`; then the address is gone.
    pub async fn run(
        mut self,
        mut leadership: watch::Receiver<Leadership>,
        stop: CancellationToken,
    ) {
        // The store may end before this does.
        let mut ended = false;
        loop {
            let leads = matches!(*leadership.borrow_and_update(), Leadership::Leader { .. });
            let (may, stops) = (self.masters.holds_lease(), ended || stop.is_cancelled());
            match self.held.take() {
                Some(held) if may && !stops => self.stay(held).await,
                Some(held) => {
                    // Who is cut off has nobody to be polite to.
                    let polite = stops || !leads;
                    self.leave(&held, if polite { GRACE } else { Duration::ZERO }).await;
                }
                None if may && !stops && Instant::now() >= self.retry_at => self.take().await,
                // What was wrong is the next leader's to say.
                None if !leads => self.fine(),
                None => {}
            }
            if stops && self.held.is_none() {
                return;
            }
            let interval = if leads { LOOK_INTERVAL } else { IDLE_INTERVAL };
            tokio::select! {
                changed = leadership.changed() => ended = changed.is_err(),
                () = tokio::time::sleep(interval) => {}
                () = stop.cancelled() => {}
                heard = hear(self.held.as_ref()) => self.answer(heard),
            }
        }
    }

    /// Asks whether anybody has it, takes it, tells everybody.
    async fn take(&mut self) {
        let ip = self.place.net.addr();
        let tried = async {
            let link = Link::of(&self.place.interface)?;
            // Where it has just been a master's, clients wait for it, and strangers would have been heard.
            let here = self.left_at.is_some_and(|left| left.elapsed() < AGAIN);
            if here || self.others.held_lately(ip) {
                return Ok((None, link));
            }
            let mut holders = link.probe(ip).await?;
            if holders.iter().any(|mac| !self.others.has(mac)) {
                // A master that came a moment ago, perhaps.
                self.others.ask(&self.masters).await;
            }
            holders.retain(|mac| !self.others.has(mac));
            io::Result::Ok((holders.pop_first(), link))
        };
        let link = match tried.await {
            Err(error) => return self.trouble(format!("it cannot be asked for: {error}")),
            Ok((Some(mac), _)) => return self.trouble(used_by(&mac)),
            Ok((None, link)) => link,
        };
        // Another may lead since it was asked.
        if !self.masters.holds_lease() {
            return;
        }
        self.connections.arrive(ip);
        if let Err(error) = self.netlink.hold(link.index, &self.place).await {
            return self.trouble(format!("it cannot be set on {}: {error}", self.place.interface));
        }
        let now = Instant::now();
        tracing::info!(address = %ip, interface = self.place.interface, "this master holds the virtual address");
        self.fine();
        self.masters.note_vips(|vips| {
            vips.held.insert(ip);
            vips.taken += 1;
        });
        let mut held = Held {
            link,
            listener: None,
            since: now,
            renewed: now,
            announced: 0,
            announced_at: now,
            quarrel: None,
        };
        held.listen(ip);
        self.stay(held).await;
    }

    /// Renews and announces it, when it is time.
    async fn stay(&mut self, mut held: Held) {
        let now = Instant::now();
        if now.duration_since(held.renewed) >= RENEW_INTERVAL {
            match self.netlink.hold(held.link.index, &self.place).await {
                Ok(()) => {
                    held.renewed = now;
                    held.listen(self.place.net.addr());
                }
                Err(error) => {
                    // The interface may have gone, and have come again as another one.
                    self.trouble(format!(
                        "it can no longer be set on {}: {error}",
                        self.place.interface
                    ));
                    return self.leave(&held, Duration::ZERO).await;
                }
            }
        }
        if now.duration_since(held.since) >= announce_after(held.announced) {
            held.announced += 1;
            self.announce(&mut held);
        }
        if held.quarrel.is_some_and(|last| now.duration_since(last) >= QUARREL_MEMORY) {
            held.quarrel = None;
            self.fine();
        }
        self.held = Some(held);
    }

    /// Never without the lease: who has hung and goes on hears of the next one's address first.
    fn announce(&self, held: &mut Held) {
        if !self.masters.holds_lease() {
            return;
        }
        let ip = self.place.net.addr();
        held.announced_at = Instant::now();
        if let Err(error) = held.link.send(&frames::announcements(ip, held.link.mac)) {
            tracing::warn!(address = %ip, %error, "the virtual address could not be announced");
        }
    }

    /// Somebody has said something of the address while it is held here.
    fn answer(&mut self, heard: io::Result<Said>) {
        let Some(mut held) = self.held.take() else { return };
        let now = Instant::now();
        let pause = now.duration_since(held.announced_at);
        match heard {
            Err(error) => {
                tracing::debug!(%error, "what is said of the virtual address is no longer heard");
                held.listener = None;
            }
            Ok(Said::Has(mac)) if mac == held.link.mac => {}
            Ok(Said::Has(mac)) if !self.others.has(&mac) => {
                held.quarrel = Some(now);
                self.trouble(used_by(&mac));
                if pause >= QUARREL_INTERVAL {
                    self.announce(&mut held);
                }
            }
            Ok(said) => {
                // The kernel of the one before may answer, too: the last word is this one's.
                let contested = said != Said::Asks || now.duration_since(held.since) < CONTESTED;
                if contested && pause >= DEFEND_INTERVAL {
                    self.announce(&mut held);
                }
            }
        }
        self.held = Some(held);
    }

    /// Ends what came in there, and takes the address away.
    async fn leave(&mut self, held: &Held, grace: Duration) {
        let ip = self.place.net.addr();
        self.left_at = Some(Instant::now());
        self.connections.leave(ip, grace).await;
        if let Err(error) = self.netlink.leave(held.link.index, &self.place).await {
            tracing::warn!(address = %ip, %error, "the virtual address goes only when its time is over");
        }
        tracing::info!(address = %ip, "this master no longer holds the virtual address");
        self.masters.note_vips(|vips| {
            vips.held.remove(&ip);
        });
    }

    /// Says once what is wrong. What could not be taken is not tried again at once.
    fn trouble(&mut self, why: String) {
        self.retry_at = Instant::now() + RETRY;
        let ip = self.place.net.addr();
        let key = ip.to_string();
        if self.masters.vips().troubles.get(&key) != Some(&why) {
            tracing::warn!(address = %ip, why, "the virtual address is in trouble");
            self.masters.note_vips(|vips| drop(vips.troubles.insert(key, why)));
        }
    }

    fn fine(&self) {
        let key = self.place.net.addr().to_string();
        self.masters.note_vips(|vips| drop(vips.troubles.remove(&key)));
    }
}

fn used_by(mac: &Mac) -> String {
    format!(
        "another host uses it, {}, which is no master. Find that host by its hardware address, or give --vip an \
         address that nobody has",
        frames::text(mac)
    )
}

/// What is said of the address, while somebody listens.
async fn hear(held: Option<&Held>) -> io::Result<Said> {
    match held.and_then(|held| held.listener.as_ref()) {
        Some(listener) => listener.hear().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_announced_often_at_first_and_then_each_minute() {
        let seconds: Vec<f64> =
            (0..10).map(|number| announce_after(number).as_secs_f64()).collect();
        assert_eq!(seconds, [0.0, 0.1, 0.3, 1.0, 2.0, 3.5, 5.0, 65.0, 125.0, 185.0]);
    }

    #[test]
    fn it_is_announced_once_more_when_the_one_before_has_surely_lost_it() {
        let over = Duration::from_secs(u64::from(LIFETIME_SECONDS));
        assert!(
            ANNOUNCE_AT.iter().any(|at| *at > over),
            "the kernel of a hung one answers until then"
        );
        assert!(RENEW_INTERVAL * 3 < over, "two renewals may be missed");
    }
}
