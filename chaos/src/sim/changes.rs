//! What operators ask for: masters that vote no more and then vote again, that are taken out for a while or give their
//! place to another; and what the members are at any time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_store::{Change, GroupError};
use rand::seq::IteratorRandom;

use super::node::{Demoted, Leaving, Node, Start, slot};
use super::plan::{Kind, Step};
use super::world::{Event, World};
use crate::check::memberships::{Seat, Seats};

/// Of a thousand masters that know that they were removed, those that somebody starts again on what they have.
const STARTED_AGAIN: u32 = 500;

/// Of a thousand standbys, those that are to vote in another's place, not beside it.
const REPLACES: u32 = 250;

/// Between two times that an operator asks for the same.
const INSISTS: Duration = Duration::from_millis(700);

/// A join that takes longer has failed, when the others know nothing of it.
const JOIN_MAX: Duration = Duration::from_secs(30);

/// After that nothing comes of what an operator has asked for.
const LATE_MAX: Duration = Duration::from_secs(60);

impl World {
    /// An operator asks a master that lives for the removal of the first of these; with `Leave` it stays away until
    /// the step is over, else it comes back as soon as it has left.
    pub(super) fn asks_for_removal(&mut self, step: &Step) {
        let Some(leaver) = step.masters.first().copied() else { return };
        let until = match step.fault {
            Kind::Leave => self.now + Duration::from_millis(step.lasts_ms),
            _ => self.now,
        };
        let change = Change::Remove { name: self.nodes[leaver].member.name.clone() };
        self.asks_one_to_leave(leaver, step.fault, until, change);
    }

    fn asks_one_to_leave(&mut self, leaver: usize, kind: Kind, until: Duration, change: Change) {
        let asked = rand::RngExt::random_range(&mut self.random, 0..self.nodes.len());
        let Some(masters) = self.nodes[asked].up(|up| up.masters.clone()) else { return };
        if !self.may_change(leaver) {
            return;
        }
        let denied = Arc::new(AtomicBool::new(false));
        let leaving = Leaving { denied: denied.clone(), kind, until, started_again: false };
        self.nodes[leaver].leaving = Some(leaving);
        self.nodes[asked].spawn(async move {
            let outcome = masters.change(&change).await;
            let certain = matches!(
                outcome,
                Err(GroupError::Refused(_)
                    | GroupError::Unavailable(_)
                    | GroupError::UnknownMaster(_))
            );
            denied.store(certain, Ordering::Relaxed);
        });
    }

    /// Whether it is whole, and nobody wants to have it removed.
    fn may_change(&self, master: usize) -> bool {
        let node = &self.nodes[master];
        node.takes_part() && !node.hurt && !node.leaves()
    }

    /// An operator asks for the demotion of the first of these, and some time later that it votes again.
    pub(super) fn asks_for_demotion(&mut self, step: &Step) {
        let Some(master) = step.masters.first().copied() else { return };
        if !self.may_change(master) || self.nodes[master].demoted.is_some() {
            return;
        }
        self.nodes[master].demoted = Some(Demoted { asked: self.now, seen: false });
        let name = self.nodes[master].member.name.clone();
        self.asks_somebody(Change::Demote { name });
        self.later(Duration::from_millis(step.lasts_ms), Event::Promotes { master });
    }

    /// What becomes of it the members tell.
    fn asks_somebody(&mut self, change: Change) {
        let alive = |(_, node): &(usize, &Node)| node.up(|_| ()).is_some();
        let asked = self.nodes.iter().enumerate().filter(alive).map(|(position, _)| position);
        let Some(asked) = asked.choose(&mut self.random) else { return };
        let Some(masters) = self.nodes[asked].up(|up| up.masters.clone()) else { return };
        self.nodes[asked].spawn(async move { drop(masters.change(&change).await) });
    }

    /// A standby is to vote again: the operator asks until it does, and looks after it from then on, since a demotion
    /// that was asked for long ago may come last.
    pub(super) fn promotes(&mut self, master: usize) {
        let Some(demoted) = self.nodes[master].demoted.filter(|_| !self.nodes[master].lost) else {
            return;
        };
        self.later(INSISTS, Event::Promotes { master });
        let status =
            self.leader().and_then(|leader| self.nodes[leader].up(|up| up.masters.status()));
        let Some(status) = status else { return };
        let id = self.nodes[master].id;
        if !status.members.iter().any(|known| known.id == id && known.member.standby) {
            if self.now > demoted.asked + LATE_MAX {
                self.nodes[master].demoted = None;
            }
            return;
        }
        let name = self.nodes[master].member.name.clone();
        let votes = |position: &usize| {
            let own = self.nodes[*position].id;
            *position != master && status.members.iter().any(|known| known.id == own && known.voter)
        };
        let voters = (0..self.nodes.len()).filter(votes);
        let whole: Vec<usize> = voters.filter(|old| self.may_change(*old)).collect();
        let old = whole.into_iter().choose(&mut self.random);
        match old.filter(|_| !self.healed && self.chance(REPLACES)) {
            Some(old) => {
                let new = name;
                let change = Change::Replace { old: self.nodes[old].member.name.clone(), new };
                self.asks_one_to_leave(old, Kind::Replace, self.now, change);
            }
            None => self.asks_somebody(Change::Promote { name }),
        }
    }

    /// Who knows that it was removed ends. Some are started again on what they have, which must be refused. Then it
    /// gets an empty disk, and asks to be let in when the time has come.
    pub(super) fn look_at_leavers(&mut self) -> anyhow::Result<()> {
        for leaver in 0..self.nodes.len() {
            let node = &self.nodes[leaver];
            let Some(life) = &node.life else { continue };
            let again = node.leaving.as_ref().is_some_and(|leaving| leaving.started_again);
            let (knows, refused) = match &*slot(&life.slot) {
                Start::Done(up) => (again || up.masters.removed().borrow().is_some(), false),
                // It ended between the mark in its directory and its last words.
                Start::Failed(error) => {
                    let refused = error.contains("was removed from the cluster");
                    (refused, refused)
                }
                Start::Under => (false, false),
            };
            if !knows {
                continue;
            }
            if !node.leaves() {
                let text = format!("m{} says that it was removed, and nobody has", leaver + 1);
                self.broken.push(("membership", text));
            }
            if again && !refused {
                let text = format!("m{} was removed, knew it, and runs again", leaver + 1);
                self.broken.push(("membership", text));
            }
            if !again {
                let kind = node.leaving.as_ref().map_or(Kind::Replace, |leaving| leaving.kind);
                self.note(format_args!("m{} was removed", leaver + 1));
                *self.faults.entry(kind).or_insert(0) += 1;
                if self.chance(STARTED_AGAIN)
                    && let Some(leaving) = &mut self.nodes[leaver].leaving
                {
                    leaving.started_again = true;
                    let power = self.chance(STARTED_AGAIN);
                    self.crash(leaver, power);
                    self.start(leaver)?;
                    continue;
                }
            }
            let until = self.nodes[leaver].leaving.as_ref().map_or(self.now, |one| one.until);
            self.loses_disk(leaver, until.saturating_sub(self.now))?;
        }
        Ok(())
    }

    /// Whose join came to no end, so that the others took it out before it knew anybody: whoever started it sees that
    /// (`--join-timeout`), and starts it anew.
    pub(super) fn look_at_stillborn(&mut self) -> anyhow::Result<()> {
        let Some(leader) = self.leader() else { return Ok(()) };
        let led = self.nodes[leader].up(|up| up.masters.status());
        let Some(led) = led else { return Ok(()) };
        for master in 0..self.nodes.len() {
            let node = &self.nodes[master];
            let knows_nobody = node.up(|up| up.masters.status().members.is_empty()) == Some(true);
            let is_out = led.members.iter().all(|member| member.id != node.id);
            if knows_nobody && is_out && self.now > node.born + JOIN_MAX {
                self.note(format_args!("m{} was not let in after all", master + 1));
                self.loses_disk(master, Duration::ZERO)?;
            }
        }
        Ok(())
    }

    /// What each master has applied of the members.
    pub(super) fn look_at_members(&mut self) {
        for master in 0..self.nodes.len() {
            let Some(status) = self.nodes[master].up(|up| up.masters.status()) else { continue };
            let (Some(since), Some(applied)) = (status.members_since, status.applied) else {
                continue;
            };
            if since > applied {
                continue;
            }
            for member in status.members.iter().filter(|member| member.member.standby) {
                let node = self.nodes.iter_mut().find(|node| node.id == member.id);
                if let Some(seen) = node.and_then(|node| node.demoted.as_mut())
                    && !std::mem::replace(&mut seen.seen, true)
                {
                    *self.faults.entry(Kind::Demote).or_insert(0) += 1;
                }
            }
            let seat = |known: &quorate_raft::MemberStatus| Seat {
                id: known.id.0,
                name: known.member.name.clone(),
                voter: known.voter,
                standby: known.member.standby,
            };
            let all: BTreeSet<Seat> = status.members.iter().map(seat).collect();
            let seats = Seats { all, joint: status.joint };
            let by = self.nodes[master].member.name.clone();
            if let Err(text) = self.members.tell(&by, since.0, seats) {
                self.broken.push(("membership", text));
            }
        }
    }
}
