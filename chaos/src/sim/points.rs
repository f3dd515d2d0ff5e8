//! Crash points of the simulated world: a master ends in the moment in which it passes one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use quorate_points::Point;
use rand::RngExt as _;

use super::disk::Disk;
use super::host::{Outbox, Sent};
use super::panics;
use super::plan::{CRASH_PASSES, Kind};
use super::world::World;

/// What ends a task at a point.
struct Ended;

/// A master that is to end.
#[derive(Debug)]
struct Trap {
    point: Point,
    /// So often it goes by.
    passes: u64,
    power: bool,
    disk: Disk,
}

/// A master that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sprung {
    pub(super) master: usize,
    pub(super) point: Point,
    pub(super) power: bool,
    /// How much everybody had sent until then.
    pub(super) sent: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Who lives just now.
    living: Cell<Option<usize>>,
    traps: RefCell<BTreeMap<usize, Trap>>,
    sprung: RefCell<Vec<Sprung>>,
}

/// All of them; this thread's, until they are dropped.
#[derive(Debug)]
pub(super) struct Points(Rc<State>);

impl State {
    fn pass(&self, point: Point, outbox: &Outbox) {
        let Some(master) = self.living.get() else { return };
        let mut traps = self.traps.borrow_mut();
        let Some(trap) = traps.get_mut(&master).filter(|trap| trap.point == point) else { return };
        if trap.passes > 0 {
            trap.passes -= 1;
            return;
        }
        let power = trap.power;
        trap.disk.crash(power);
        traps.remove(&master);
        self.living.set(None);
        let sent = outbox.count();
        self.sprung.borrow_mut().push(Sprung { master, point, power, sent });
        // What the rest of it makes of that no longer matters.
        panics::mute(true);
        std::panic::resume_unwind(Box::new(Ended));
    }
}

impl Points {
    /// From now on this thread's masters can end at points.
    pub(super) fn new(outbox: &Outbox) -> Self {
        let (state, outbox) = (Rc::new(State::default()), outbox.clone());
        let passed = state.clone();
        quorate_points::hook(Some(Rc::new(move |point| passed.pass(point, &outbox))));
        Self(state)
    }

    /// Who lives from now on.
    pub(super) fn lives(&self, master: Option<usize>) {
        panics::mute(false);
        self.0.living.set(master);
    }

    /// Who has ended since this was asked last.
    pub(super) fn sprung(&self) -> Vec<Sprung> {
        self.0.sprung.take()
    }

    /// No master is to end any more.
    pub(super) fn disarm(&self) {
        self.0.traps.borrow_mut().clear();
    }
}

impl Drop for Points {
    fn drop(&mut self) {
        panics::mute(false);
        quorate_points::hook(None);
    }
}

/// The newest snapshot of a master.
fn newest_snapshot(directory: &Path) -> Option<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for item in std::fs::read_dir(directory).ok()?.flatten() {
            let path = item.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "snap") {
                found.push(path);
            }
        }
    }
    found.into_iter().max_by(|a, b| a.file_name().cmp(&b.file_name()))
}

impl World {
    /// Masters end at a point, whenever they come by; `much` says at which, after how many passes, and whether power is
    /// lost.
    pub(super) fn lay_traps(&mut self, masters: &[usize], much: u64) {
        let place = usize::try_from(much / CRASH_PASSES / 2).unwrap_or_default();
        let point = Point::ALL[place % Point::ALL.len()];
        let (passes, power) = (much / 2 % CRASH_PASSES, much % 2 == 1);
        self.note(format_args!("{point} {passes} {power}"));
        for master in masters {
            let disk = self.nodes[*master].disk.clone();
            let trap = Trap { point, passes, power, disk };
            self.points.0.traps.borrow_mut().insert(*master, trap);
        }
    }

    /// Who has ended at a point has sent nothing since.
    pub(super) fn carry_until_ends(&mut self, sent: Vec<Sent>) {
        let sprung = self.points.sprung();
        for (number, sent) in sent.into_iter().enumerate() {
            let gone = sprung.iter().any(|end| end.master == sent.from() && number >= end.sent);
            if !gone {
                self.carry(sent);
            }
        }
        for Sprung { master, point, power, .. } in sprung {
            self.note(format_args!("m{} comes to {point}", master + 1));
            self.crash(master, power);
            if power && point == Point::SnapshotAfterRename && self.chance(500) {
                self.lose_snapshot(master);
            }
            *self.faults.entry(Kind::CrashPoint).or_insert(0) += 1;
            *self.passed.entry(point.name()).or_insert(0) += 1;
            self.starts_soon(master);
        }
    }

    fn snapshot_of(&self, master: usize) -> Option<PathBuf> {
        newest_snapshot(&self.directory.join(&self.nodes[master].member.name))
    }

    /// A name that was given last and not synced is not there.
    fn lose_snapshot(&mut self, master: usize) {
        if let Some(path) = self.snapshot_of(master) {
            self.note(format_args!("m{} loses its newest snapshot", master + 1));
            drop(std::fs::remove_file(path));
        }
    }

    /// One bit of its newest snapshot is not what it was, if it has one.
    pub(super) fn flip_snapshot(&mut self, master: usize) -> bool {
        let Some(path) = self.snapshot_of(master) else { return false };
        let Ok(mut bytes) = std::fs::read(&path) else { return false };
        if bytes.is_empty() {
            return false;
        }
        let (byte, bit) =
            (self.random.random_range(0..bytes.len()), self.random.random_range(0..8));
        bytes[byte] ^= 1 << bit;
        self.note(format_args!("m{} has a flipped bit {byte}.{bit} in its snapshot", master + 1));
        std::fs::write(&path, bytes).is_ok()
    }
}
