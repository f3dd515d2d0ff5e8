//! What the log's thread, openraft's core and the readers share: the newest entries in memory and
//! a few facts. Locked for moments only.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::pace::Pace;
use crate::limits::{LOG_TAIL_BYTES_MAX, SYNC_SAMPLES};
use crate::meters::Meters;
use crate::raft_types::{Entry, LogId, Vote, entry_bytes};

/// The end of the log in memory.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// The newest entries, contiguous.
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Bytes of all entries that are not purged, memory or disk.
    log_bytes: u64,
    pub(crate) last: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    /// As saved on disk.
    pub(crate) vote: Option<Vote>,
    /// Entries up to here (exclusive) are on disk: they may leave memory.
    synced_end: u64,
    /// Truncations so far: what the writer reports as synced counts only when it knows them all.
    truncations: u64,
    /// Why the log has failed.
    pub(crate) failed: Option<String>,
    /// Durations of the last syncs.
    syncs: VecDeque<Duration>,
    /// Of late.
    pub(crate) pace: Pace,
    /// Group commits so far.
    pub(crate) groups: u64,
    /// The last group commit that is on disk, in all the life of this log.
    pub(crate) sequence: u64,
}

impl Tail {
    /// Index of the first entry that exists (when `first < end`).
    pub(crate) fn first(&self) -> u64 {
        self.purged.map_or(0, |id| id.index + 1)
    }

    /// Index after the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    /// Index of the first entry that is in memory.
    pub(crate) fn memory_first(&self) -> u64 {
        self.entries.front().map_or_else(|| self.end(), |entry| entry.log_id.index)
    }

    /// About how many bytes the entries after `index` take.
    pub(crate) fn bytes_after(&self, index: Option<u64>) -> u64 {
        let (first, end) = (self.first(), self.end());
        let from = index.map_or(0, |index| index + 1).clamp(first, end);
        self.log_bytes.checked_div(end - first).unwrap_or(0).saturating_mul(end - from)
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        debug_assert!(self.entries.is_empty() || entry.log_id.index == self.end(), "hole");
        let bytes = entry_bytes(&entry);
        self.last = Some(entry.log_id);
        self.bytes += bytes;
        self.log_bytes += bytes as u64;
        self.entries.push_back(entry);
        self.evict();
    }

    pub(crate) fn truncate(&mut self, last: Option<LogId>) {
        let end = last.map_or(0, |id| id.index + 1);
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= end) {
            let entry = self.entries.pop_back().map_or(0, |entry| entry_bytes(&entry));
            self.bytes -= entry;
            self.log_bytes = self.log_bytes.saturating_sub(entry as u64);
        }
        self.last = last;
        self.truncations += 1;
        self.synced_end = self.synced_end.min(end);
    }

    /// Forgets entries up to `upto`; what they took of the log's bytes is estimated.
    pub(crate) fn purge(&mut self, upto: LogId) {
        let (first, end) = (self.first(), self.end());
        let gone = (upto.index + 1).saturating_sub(first);
        let all = end.saturating_sub(first);
        let share = self.log_bytes.checked_div(all).unwrap_or(0).saturating_mul(gone.min(all));
        self.log_bytes = self.log_bytes.saturating_sub(share);
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            self.bytes -= self.entries.pop_front().map_or(0, |entry| entry_bytes(&entry));
        }
        if end <= upto.index + 1 {
            self.log_bytes = 0;
            self.last = Some(upto);
            self.synced_end = upto.index + 1;
        }
        self.purged = Some(upto);
    }

    /// Entries before `end` are on disk, as of the given number of truncations.
    pub(crate) fn synced(&mut self, end: u64, truncations: u64) {
        if truncations != self.truncations {
            return;
        }
        self.synced_end = self.synced_end.max(end.min(self.end()));
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > LOG_TAIL_BYTES_MAX
            && self.entries.front().is_some_and(|entry| entry.log_id.index < self.synced_end)
        {
            self.bytes -= self.entries.pop_front().map_or(0, |entry| entry_bytes(&entry));
        }
    }

    /// Entries in memory from `from` to `to` (exclusive), at least one, then until `bytes_max`.
    pub(crate) fn read(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Entry> {
        let skip = usize::try_from(from.saturating_sub(self.memory_first())).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut out = Vec::new();
        for entry in self.entries.iter().skip(skip) {
            bytes += entry_bytes(entry);
            if entry.log_id.index >= to || (bytes > bytes_max && !out.is_empty()) {
                break;
            }
            out.push(entry.clone());
        }
        out
    }

    pub(crate) fn truncations(&self) -> u64 {
        self.truncations
    }

    pub(crate) fn record_sync(&mut self, took: Duration) {
        if self.syncs.len() == SYNC_SAMPLES {
            self.syncs.pop_front();
        }
        self.syncs.push_back(took);
        self.pace.ended(Instant::now(), took);
        self.groups += 1;
    }

    /// 99th percentile of the last syncs.
    pub(crate) fn sync_p99(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.syncs.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len().checked_sub(1)? * 99 / 100).copied()
    }
}

/// The shared tail.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    tail: Mutex<Tail>,
    /// Of the whole node: the log is the first of its parts.
    pub(crate) meters: Meters,
}

impl Shared {
    pub(crate) fn new(tail: Tail) -> Self {
        Self { tail: Mutex::new(tail), meters: Meters::default() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tail> {
        // A panic while the lock was held would have to be in the few lines above; the numbers
        // stay usable for a last status.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
