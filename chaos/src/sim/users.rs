//! Watchers and clients of the simulated world.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt as _;

use super::client::{self, Asked, Told};
use super::host::{Cursor, Sent};
use super::world::{Event, World, tick_of};
use crate::check::watch::{self, Sent as WatchSent, Watcher};
use crate::history::{Operation, Outcome};
use crate::limits::{SIM_ANSWER_MAX, SIM_BROKEN_MAX as BROKEN_MAX, SIM_TOLD_MAX as TOLD_MAX};
use crate::model::{RegisterInput, RegisterOutput};

/// For how many milliseconds a watcher stays at a master: most of the bugs of watches are in how one is resumed.
const STAYS: Range<u64> = 250..8000;

pub(super) struct Client {
    pub(super) master: usize,
    /// What it read last of each object: value and revision.
    pub(super) known: BTreeMap<usize, (u64, u64)>,
}

/// Sees all changes, at one master after the other.
pub(super) struct Follower {
    pub(super) told: Watcher,
    pub(super) master: usize,
    /// Of the watch that it has now.
    pub(super) number: u64,
    /// Set when it leaves that: its connection ends.
    pub(super) left: Arc<AtomicBool>,
    /// Where it was when all was lost: it must be told that nothing goes on from there.
    pub(super) stale: Option<u64>,
}

impl Follower {
    /// One that has asked nobody yet.
    pub(super) fn new(told: Watcher, master: usize) -> Self {
        Self { told, master, number: 0, left: Arc::default(), stale: None }
    }

    /// It leaves the watch that it has: the number of the next.
    fn leaves(&mut self) -> u64 {
        self.left.store(true, Ordering::Relaxed);
        self.left = Arc::default();
        self.number += 1;
        self.number
    }

    /// It was told everything up to there.
    pub(super) fn at(&self) -> u64 {
        self.told.sent.last().map_or(self.told.from, |sent| match sent {
            WatchSent::Event(revision, _) | WatchSent::Bookmark(revision) => *revision,
        })
    }
}

pub(super) struct UnderWay {
    client: usize,
    number: u32,
    called: Duration,
    asked: Asked,
}

impl World {
    // === watchers ===

    /// A watcher leaves the master that it is at, and asks another soon.
    pub(super) fn moves(&mut self, watcher: usize) {
        let number = self.watchers[watcher].leaves();
        let pause = self.pause();
        self.later(pause, Event::Follows { watcher, number });
    }

    /// A watcher asks a master, unless it has left the watch of that number since.
    pub(super) fn follows(&mut self, watcher: usize, number: u64) {
        if self.watchers[watcher].number != number {
            return;
        }
        let master = self.random.random_range(0..self.nodes.len());
        let Some(store) = self.nodes[master].up(|up| up.store.clone()) else {
            return self.moves(watcher);
        };
        let follower = &mut self.watchers[watcher];
        follower.master = master;
        let cursor = Cursor { watcher, number: follower.leaves() };
        let (after, left) =
            (follower.stale.unwrap_or_else(|| follower.at()), follower.left.clone());
        let stays = Duration::from_millis(self.random.random_range(STAYS));
        let outbox = self.outbox.clone();
        self.nodes[master].spawn(client::follow(store, after, master, cursor, left, outbox));
        self.later(stays, Event::Follows { watcher, number: cursor.number });
    }

    /// A watcher was told of changes, and that these are all up to a revision.
    pub(super) fn seen(&mut self, cursor: Cursor, changes: Vec<client::Change>, up_to: u64) {
        let follower = &mut self.watchers[cursor.watcher];
        if follower.number != cursor.number {
            return;
        }
        if let Some(stale) = follower.stale.take() {
            let text = format!(
                "{} went on from revision {stale} after a restore, which knows nothing of that",
                follower.told.name
            );
            self.broken.push(("watches", text));
            return self.moves(cursor.watcher);
        }
        if follower.told.sent.len() > TOLD_MAX {
            let text = format!("{} was told far more than happened", follower.told.name);
            if self.broken.len() < BROKEN_MAX {
                self.broken.push(("watches", text));
            }
            return;
        }
        for client::Change { revision, change } in changes {
            follower.told.sent.push(WatchSent::Event(revision, change));
        }
        follower.told.sent.push(WatchSent::Bookmark(up_to));
    }

    // === clients ===

    /// Whether clients call.
    pub(super) fn is_calling(&self) -> bool {
        self.calling
    }

    /// Clients begin, or stop, to call.
    pub(super) fn clients(&mut self, call: bool) {
        self.calling = call;
        if call && !self.agents.is_empty() {
            let pause = self.pause();
            self.later(pause, Event::Uses);
        }
        for client in 0..if call { self.clients.len() } else { 0 } {
            let pause = self.pause();
            self.later(pause, Event::Calls { client });
        }
    }

    pub(super) fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(50..900))
    }

    pub(super) fn calls(&mut self, client: usize) {
        if !self.calling {
            return;
        }
        let key = self.random.random_range(0..self.keys);
        self.values += 1;
        let (value, master) = (self.values, self.clients[client].master);
        let known = self.clients[client].known.get(&key).copied();
        let (input, at) = match (self.random.random_range(0..100), known) {
            (40..75, Some((from, at))) => (RegisterInput::Swap { from, to: value }, at),
            (75..92, _) => (RegisterInput::Create(value), 0),
            (92.., _) => (RegisterInput::Delete, 0),
            _ => (RegisterInput::Read, 0),
        };
        let asked = Asked { key, input, at };
        self.callers += 1;
        let (operation, number) = (self.next_number(), self.callers);
        let under_way = UnderWay { client, number, called: self.now, asked: asked.clone() };
        self.under_way.insert(operation, under_way);
        let travel = self.travel();
        self.later(travel, Event::Asks { operation, master, asked });
        self.later(SIM_ANSWER_MAX, Event::GivesUp { operation });
    }

    pub(super) fn asks(&mut self, operation: u64, master: usize, asked: Asked) {
        if operation <= self.era.began {
            return;
        }
        let outbox = self.outbox.clone();
        let found = self.nodes[master].up(|up| up.store.clone());
        let Some(store) = found else {
            return self.tells(operation, Some(Told::Refused));
        };
        self.nodes[master].spawn(async move {
            let told = client::carry_out(&store, &asked).await;
            outbox.send(Sent::Told { from: master, operation, told });
        });
    }

    pub(super) fn tells(&mut self, operation: u64, told: Option<Told>) {
        let Some(UnderWay { client, number, called, asked }) = self.under_way.remove(&operation)
        else {
            return;
        };
        let outcome = match told {
            Some(Told::Done(output, revision)) => {
                let known = &mut self.clients[client].known;
                match (&asked.input, &output) {
                    (RegisterInput::Read, RegisterOutput::Value(value)) => {
                        known.insert(asked.key, (*value, revision));
                    }
                    (
                        RegisterInput::Create(value) | RegisterInput::Swap { to: value, .. },
                        RegisterOutput::Written,
                    ) => {
                        known.insert(asked.key, (*value, revision));
                        let kind = match asked.input {
                            RegisterInput::Create(_) => watch::Kind::Added,
                            _ => watch::Kind::Modified,
                        };
                        let key = client::name(asked.key);
                        let change = watch::Change { key, kind, digest: *value };
                        self.acknowledged.push((revision, change));
                    }
                    _ => drop(known.remove(&asked.key)),
                }
                Some(Outcome::Done { at: tick_of(self.now), output })
            }
            Some(Told::Refused) => None,
            Some(Told::Unknown) | None => Some(Outcome::Unknown),
        };
        let answered = matches!(outcome, Some(Outcome::Done { .. }));
        // A read without an answer tells nothing.
        let tells = answered || asked.input != RegisterInput::Read;
        if let Some(outcome) = outcome.filter(|_| tells) {
            let input = asked.input;
            let operation = Operation { client: number, called: tick_of(called), input, outcome };
            self.history.push((asked.key, operation));
        }
        if !answered {
            self.clients[client].master = self.random.random_range(0..self.nodes.len());
        }
        let pause = self.pause();
        self.later(pause, Event::Calls { client });
    }
}
