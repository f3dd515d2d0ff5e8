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
use super::netlink::Netlink;
use super::others::Others;
use super::place::Place;
use super::schedule::Schedule;
use super::wire::{self, Link, Listener};

/// The leader looks at its lease this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Others look whether they lead this often, beside being told.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// The kernel is asked to keep the address this often.
pub(super) const RENEW_INTERVAL: Duration = Duration::from_millis(500);

/// What could not be taken is tried again after this...
const RETRY: Duration = Duration::from_millis(500);

/// ...and while another host has it, after twice as long each time, up to this.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What is wrong is said once, and when it is something else then, no more often than this.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

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
    retry: Retry,
    /// When it was last said what is wrong.
    told_at: Option<Instant>,
    /// When it was held here last.
    left_at: Option<Instant>,
}

/// An address that this master has.
struct Held {
    link: Link,
    /// IPv4 only: for IPv6 every packet would have to be looked at.
    listener: Option<Listener>,
    renewed: Instant,
    schedule: Schedule,
    quarrel: Option<Instant>,
}

/// When it may be tried again to take an address.
#[derive(Debug)]
struct Retry {
    at: Instant,
    /// How long is waited against another host the next time.
    pause: Duration,
}

impl Retry {
    fn new() -> Self {
        Self { at: Instant::now(), pause: RETRY }
    }

    /// Something failed here, which may be better in a moment.
    fn soon(&mut self) {
        self.at = Instant::now() + RETRY;
    }

    /// Another host has it.
    fn later(&mut self) {
        self.at = Instant::now() + self.pause;
        self.pause = RETRY_MAX.min(self.pause * 2);
    }
}

impl Held {
    /// Anew where nobody does: the link may have been down.
    fn listen(&mut self, ip: IpAddr) {
        if ip.is_ipv4() && self.listener.is_none() {
            self.listener = self.link.listen(ip).ok();
        }
    }
}

impl Keeper {
    pub fn new(place: Place, netlink: Arc<Netlink>, others: Others, users: &Users) -> Self {
        let (masters, connections) = (users.masters.clone(), users.connections.clone());
        let (held, left_at, told_at, retry) = (None, None, None, Retry::new());
        Self { place, netlink, others, masters, connections, held, retry, told_at, left_at }
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
                None if may && !stops && Instant::now() >= self.retry.at => self.take().await,
                // What was wrong is the next leader's to say.
                None if !leads || stops => self.over(),
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
            self.tell_links(&link);
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
            Ok((Some(mac), _)) => {
                self.trouble(used_by(&mac));
                return self.retry.later();
            }
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
        self.over();
        self.masters.note_vips(|vips| {
            vips.held.insert(ip);
            vips.taken += 1;
        });
        let schedule = Schedule::new(now);
        let mut held = Held { link, listener: None, renewed: now, schedule, quarrel: None };
        held.listen(ip);
        if !held.link.runs {
            self.trouble(down(&self.place.interface));
        }
        self.stay(held).await;
    }

    /// Renews and announces it, when it is time.
    async fn stay(&mut self, mut held: Held) {
        let now = Instant::now();
        if now.duration_since(held.renewed) >= RENEW_INTERVAL {
            if let Err(why) = self.renew(&mut held).await {
                // The interface may have gone, and have come again as another one.
                self.leave(&held, Duration::ZERO).await;
                return self.trouble(why);
            }
            held.renewed = now;
        }
        if held.schedule.due(now) {
            self.announce(&held);
        }
        if held.quarrel.is_some_and(|last| now.duration_since(last) >= QUARREL_MEMORY) {
            held.quarrel = None;
            if held.link.runs {
                self.over();
            }
        }
        self.held = Some(held);
    }

    /// The kernel renews it also where nobody on the link can hear of it: that is looked at here.
    async fn renew(&mut self, held: &mut Held) -> Result<(), String> {
        let interface = self.place.interface.clone();
        let no_longer = |error: &dyn std::fmt::Display| {
            format!("it can no longer be set on {interface}: {error}")
        };
        let set = self.netlink.hold(held.link.index, &self.place).await;
        set.map_err(|error| no_longer(&error))?;
        let link = Link::of(&interface).map_err(|error| no_longer(&error))?;
        if link.mac != held.link.mac {
            self.tell_links(&link);
        }
        let (ran, same) = (held.link.runs, link.mac == held.link.mac);
        held.link = link;
        match (ran, held.link.runs) {
            (_, false) => self.trouble(down(&interface)),
            (false, true) if held.quarrel.is_none() => self.over(),
            _ => {}
        }
        // Whoever is on the link now has not heard of it there.
        if held.link.runs && !(ran && same) {
            held.schedule = Schedule::new(Instant::now());
        }
        held.listen(self.place.net.addr());
        Ok(())
    }

    /// The others are to know under which hardware addresses this machine answers, also those that it has since its
    /// start.
    fn tell_links(&self, link: &Link) {
        let Ok(mut links) = wire::own_macs() else { return };
        links.insert(link.mac);
        self.masters.note_vips(|vips| vips.links = links);
    }

    /// Never without the lease: who has hung and goes on hears of the next one's address first.
    fn announce(&self, held: &Held) {
        if !self.masters.holds_lease() {
            return;
        }
        let ip = self.place.net.addr();
        if let Err(error) = held.link.send(&frames::announcements(ip, held.link.mac)) {
            tracing::warn!(address = %ip, %error, "the virtual address could not be announced");
        }
    }

    /// Somebody has said something of the address while it is held here.
    fn answer(&mut self, heard: io::Result<Said>) {
        let Some(mut held) = self.held.take() else { return };
        let now = Instant::now();
        let announce = match heard {
            Err(error) => {
                tracing::debug!(%error, "what is said of the virtual address is no longer heard");
                held.listener = None;
                false
            }
            Ok(Said::Has(mac)) if mac == held.link.mac => false,
            Ok(Said::Has(mac)) if !self.others.has(&mac) => {
                held.quarrel = Some(now);
                self.trouble(used_by(&mac));
                held.schedule.quarrelled(now)
            }
            Ok(Said::Has(_)) => held.schedule.claimed(now),
            // The kernel of the one before may answer, too: the last word is this one's.
            Ok(Said::Asks) => held.schedule.asked(now),
        };
        if announce {
            self.announce(&held);
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
        // What was wrong while it was held was of this stay.
        self.over();
    }

    /// Says what is wrong. What could not be taken is not tried again at once.
    fn trouble(&mut self, why: String) {
        self.retry.soon();
        let ip = self.place.net.addr();
        let key = ip.to_string();
        let now = Instant::now();
        if to_tell(self.masters.vips().troubles.get(&key), &why, self.told_at, now) {
            tracing::warn!(address = %ip, why, "the virtual address is in trouble");
            self.told_at = Some(now);
            self.masters.note_vips(|vips| drop(vips.troubles.insert(key, why)));
        }
    }

    /// Nothing is wrong now, or it is no longer this master's to say.
    fn over(&mut self) {
        self.retry.pause = RETRY;
        let key = self.place.net.addr().to_string();
        self.masters.note_vips(|vips| drop(vips.troubles.remove(&key)));
    }
}

/// Two hosts that both use the address would otherwise be a line for each frame of theirs.
fn to_tell(before: Option<&String>, why: &str, told: Option<Instant>, now: Instant) -> bool {
    let lately = told.is_some_and(|told| now.duration_since(told) < TELL_INTERVAL);
    before.is_none_or(|before| before != why && !lately)
}

fn down(interface: &str) -> String {
    format!(
        "{interface} is down, or has no carrier: nobody on its link hears of it. See to the cable or the switch, `ip \
         link show {interface}`, or let another master lead (`quorate masters transfer-leader`)"
    )
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
    fn what_is_wrong_is_said_at_once_and_what_else_is_no_more_often_than_so() {
        let told = Instant::now();
        let now = told + TELL_INTERVAL;
        let a = "a".to_owned();
        assert!(
            to_tell(None, "a", None, told) && to_tell(None, "a", Some(told), told),
            "it is new"
        );
        assert!(!to_tell(Some(&a), "b", Some(told), told), "two that alternate");
        assert!(to_tell(Some(&a), "b", Some(told), now));
        assert!(!to_tell(Some(&a), "a", Some(told), now), "it is known");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_in_the_way_is_asked_less_and_less_often() {
        let mut retry = Retry::new();
        let waited: Vec<Duration> = (0..5)
            .map(|_| {
                retry.later();
                retry.at - Instant::now()
            })
            .collect();
        assert_eq!(waited, [RETRY, RETRY * 2, RETRY * 4, RETRY * 8, RETRY_MAX]);
        retry.soon();
        assert_eq!(retry.at - Instant::now(), RETRY);
    }
}
