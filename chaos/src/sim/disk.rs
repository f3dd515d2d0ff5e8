//! The disk of a simulated master: what was synced survives a crash; of what was applied since, any
//! beginning does, as with an ordered log (all or nothing of a batch).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use quorate_raft::host::{Batch, LogEngine, Visit};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How long a sync takes, from and to.
const USUAL: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(3));

/// What is free on a disk with room.
const ROOM_BYTES: u64 = 1 << 40;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug)]
struct State {
    durable: Records,
    /// Applied and not synced, oldest first.
    pending: Vec<Batch>,
    /// `durable` with `pending`.
    visible: Records,
    random: StdRng,
    /// Counts crashes: an engine of an earlier life reaches the disk no more.
    life: u64,
    sync: (Duration, Duration),
    failing: bool,
    /// Bytes that are free, when it is full.
    full: Option<u64>,
    /// It did what a process may end of.
    harmed: bool,
}

/// One disk. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Disk(Arc<Mutex<State>>);

fn change(records: &mut Records, batch: &Batch) {
    for (key, value) in &batch.changes {
        match value {
            Some(value) => drop(records.insert(key.clone(), value.clone())),
            None => drop(records.remove(key)),
        }
    }
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            durable: Records::new(),
            pending: Vec::new(),
            visible: Records::new(),
            random: StdRng::seed_from_u64(seed),
            life: 0,
            sync: USUAL,
            failing: false,
            full: None,
            harmed: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process is gone; with it, when power was lost, some or all of what was not synced.
    pub(super) fn crash(&self, power: bool) {
        let mut state = self.state();
        let state = &mut *state;
        state.life += 1;
        let kept = match power {
            true => state.random.random_range(0..=state.pending.len()),
            // The kernel still has it.
            false => state.pending.len(),
        };
        for batch in &state.pending[..kept] {
            change(&mut state.durable, batch);
        }
        state.pending.clear();
        state.visible.clone_from(&state.durable);
        state.harmed = state.full.is_some();
    }

    /// Nothing is on it.
    pub(super) fn clear(&self) {
        let mut state = self.state();
        state.durable.clear();
        state.visible.clear();
        state.pending.clear();
    }

    /// What a process finds on it now.
    pub(super) fn copy(&self) -> Self {
        let copy = Self::new(0);
        let records = self.state().visible.clone();
        {
            let mut state = copy.state();
            state.visible.clone_from(&records);
            state.durable = records;
        }
        copy
    }

    /// It has what the other had; no process may use it. Whether that is something else than before.
    pub(super) fn put_back(&self, copy: &Self) -> bool {
        let records = copy.state().durable.clone();
        let mut state = self.state();
        let other = state.visible != records;
        state.visible.clone_from(&records);
        state.durable = records;
        other
    }

    /// How long a sync takes from now on.
    pub(super) fn syncs_take(&self, least: Duration, most: Duration) {
        self.state().sync = (least, most);
    }

    /// As long as on any other day.
    pub(super) fn syncs_as_usual(&self) {
        self.state().sync = USUAL;
    }

    /// The next sync fails.
    pub(super) fn fail(&self) {
        self.state().failing = true;
    }

    /// No more than these bytes are free.
    pub(super) fn full(&self, free: Option<u64>) {
        let mut state = self.state();
        state.full = free;
        state.harmed |= free.is_some();
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.state().full.unwrap_or(ROOM_BYTES)
    }

    /// One bit is not what it was; of a process that does not run.
    pub(super) fn flip(&self) {
        let mut state = self.state();
        let state = &mut *state;
        if state.durable.is_empty() {
            return;
        }
        let record = state.random.random_range(0..state.durable.len());
        let bit = state.random.random_range(0..8u8);
        if let Some(value) = state.durable.values_mut().nth(record)
            && !value.is_empty()
        {
            let byte = state.random.random_range(0..value.len());
            value[byte] ^= 1 << bit;
        }
        state.visible.clone_from(&state.durable);
    }

    /// Nothing is wrong with it any more.
    pub(super) fn mend(&self) {
        let mut state = self.state();
        (state.sync, state.failing, state.full) = (USUAL, false, None);
    }

    /// Whether a process may have ended because of it since it was started.
    pub(super) fn harmed(&self) -> bool {
        self.state().harmed
    }

    /// The same, for a log in a directory.
    pub(super) fn open_in(&self, directory: &Path) -> io::Result<Box<dyn LogEngine>> {
        // The log looks whether its store was begun, and may have removed one that never came to more.
        let begun = directory.join("db");
        if !begun.exists() {
            self.clear();
            std::fs::write(begun, "")?;
        }
        Ok(self.open())
    }

    pub(super) fn open(&self) -> Box<dyn LogEngine> {
        Box::new(Engine { disk: self.clone(), life: self.state().life })
    }
}

struct Engine {
    disk: Disk,
    life: u64,
}

impl Engine {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life == self.life {
            Ok(state)
        } else {
            Err(io::Error::other("this process is dead"))
        }
    }
}

#[async_trait]
impl LogEngine for Engine {
    fn apply(&mut self, batch: Batch) -> io::Result<()> {
        let mut state = self.state()?;
        change(&mut state.visible, &batch);
        state.pending.push(batch);
        Ok(())
    }

    async fn sync(&mut self) -> io::Result<()> {
        let (takes, count) = {
            let mut state = self.state()?;
            let (least, most) = state.sync;
            (state.random.random_range(least..=most), state.pending.len())
        };
        tokio::time::sleep(takes).await;
        let mut state = self.state()?;
        if std::mem::take(&mut state.failing) {
            state.harmed = true;
            return Err(io::Error::other("injected: the sync failed"));
        }
        let state = &mut *state;
        for batch in state.pending.drain(..count) {
            change(&mut state.durable, &batch);
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.state()?.visible.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> io::Result<()> {
        let state = self.state()?;
        let found = state.visible.range(from.to_vec()..to.to_vec());
        for (key, value) in found {
            visit(key, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Batch {
        Batch { changes: vec![(key.into(), Some(value.into()))] }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_synced_stays_and_a_beginning_of_the_rest() {
        let mut kept = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let disk = Disk::new(seed);
            let mut engine = disk.open();
            engine.apply(put("a", "1")).unwrap();
            engine.sync().await.unwrap();
            for key in ["b", "c"] {
                engine.apply(put(key, "2")).unwrap();
            }
            assert!(engine.get(b"c").unwrap().is_some(), "seen before it is synced");
            disk.crash(true);
            engine.apply(put("d", "3")).unwrap_err();
            let engine = disk.open();
            let there = |key: &[u8]| engine.get(key).unwrap().is_some();
            assert!(there(b"a") && (there(b"b") || !there(b"c")) && !there(b"d"));
            kept.insert((there(b"b"), there(b"c")));
        }
        assert_eq!(kept.len(), 3, "{kept:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_process_loses_nothing_and_a_failed_sync_is_told_once() {
        let disk = Disk::new(1);
        let mut engine = disk.open();
        engine.apply(put("a", "1")).unwrap();
        disk.crash(false);
        let mut engine = disk.open();
        assert!(engine.get(b"a").unwrap().is_some());
        disk.fail();
        engine.sync().await.unwrap_err();
        engine.sync().await.unwrap();
    }
}
