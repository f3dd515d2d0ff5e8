//! Free space on the disk: how much there is, who may still write, and the ballast.
//!
//! A write that fails inside the engine poisons it, so a full disk must never reach it. As the disk
//! fills up: below the watermark (`DiskRule::free_bytes_min`) growing proposals are refused; then the
//! ballast is given back, so that deletes and compaction have room; below [`DISK_FLOOR_BYTES`]
//! nothing is proposed and no entry is taken from a leader; and below [`DISK_STOP_BYTES`] the process
//! stops rather than write. All of it ends by itself when there is room again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FallocateFlags;

use crate::config::DiskRule;
use crate::error::ProposeError;
use crate::host::Host;
use crate::limits::{BALLAST_RELEASE_BYTES, DISK_FLOOR_BYTES, DISK_STOP_BYTES};

/// What a proposal means for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The state grows.
    Growing,
    /// It frees space in the end: deletes, compaction.
    Freeing,
}

/// The disk under one master's directory.
#[derive(Debug)]
pub(crate) struct Space {
    directory: PathBuf,
    host: Arc<dyn Host>,
    rule: DiskRule,
    free: AtomicU64,
    low: AtomicBool,
    no_ballast: AtomicBool,
    ballast: Mutex<()>,
}

impl Space {
    /// Measures once, and puts the ballast in its place when there is room for it.
    pub(crate) fn open(directory: &Path, rule: DiskRule, host: Arc<dyn Host>) -> io::Result<Self> {
        let space = Self {
            directory: directory.to_owned(),
            host,
            rule,
            free: AtomicU64::new(u64::MAX),
            low: AtomicBool::new(false),
            no_ballast: AtomicBool::new(false),
            ballast: Mutex::new(()),
        };
        space.keep()?;
        Ok(space)
    }

    /// Free bytes as they were measured last.
    pub(crate) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Whether growing proposals are refused, as of the last look.
    pub(crate) fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Measures. Cheap: one system call.
    pub(crate) fn measure(&self) -> io::Result<u64> {
        let free = self.host.free_bytes(&self.directory)?;
        self.free.store(free, Ordering::Relaxed);
        Ok(free)
    }

    /// Whether something of this kind may be proposed, as of now: others fill disks too, and fast.
    pub(crate) fn check(&self, need: Need) -> Result<(), ProposeError> {
        self.judge(need, self.measure().unwrap_or_else(|_| self.free()))
    }

    fn judge(&self, need: Need, free_bytes: u64) -> Result<(), ProposeError> {
        let free_bytes_min = match need {
            Need::Growing => self.rule.free_bytes_min.max(DISK_FLOOR_BYTES),
            Need::Freeing => DISK_FLOOR_BYTES,
        };
        if free_bytes < free_bytes_min {
            return Err(ProposeError::DiskFull { free_bytes, free_bytes_min });
        }
        Ok(())
    }

    /// Whether the state may still grow.
    pub(crate) fn check_state(&self, state_bytes: u64) -> Result<(), ProposeError> {
        let state_bytes_max = self.rule.state_bytes_max;
        if state_bytes_max > 0 && state_bytes >= state_bytes_max {
            return Err(ProposeError::OverQuota { state_bytes, state_bytes_max });
        }
        Ok(())
    }

    /// Whether this many bytes can be written without coming near the floor.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        let free = self.measure().unwrap_or_else(|_| self.free());
        free >= bytes.saturating_add(DISK_FLOOR_BYTES)
    }

    /// Whether the log may still be written; else why the process has to stop.
    pub(crate) fn check_write(&self) -> io::Result<()> {
        let free = self.measure()?;
        if free >= DISK_STOP_BYTES {
            return Ok(());
        }
        let text = format!(
            "the disk is full: {free} bytes are free, {DISK_STOP_BYTES} are needed to write safely. \
             Free some space and start again"
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, text))
    }

    fn ballast(&self) -> PathBuf {
        self.directory.join("ballast")
    }

    /// Measures; gives the ballast back when the disk is nearly full, takes it again when there is
    /// plenty, and says when the watermark was crossed. Blocks.
    pub(crate) fn keep(&self) -> io::Result<()> {
        let _one_at_a_time = self.ballast.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.measure()?;
        let held = fs::metadata(self.ballast()).map_or(0, |meta| meta.len());
        if held > 0 && (free < BALLAST_RELEASE_BYTES || self.rule.ballast_bytes == 0) {
            fs::remove_file(self.ballast())?;
            self.measure()?;
            tracing::warn!(free, held, "the disk is nearly full: gave the ballast back");
        } else if held != self.rule.ballast_bytes && self.affords_ballast(free) {
            if let Err(error) = self.allocate() {
                // Not every file system can; the rest of the rule works without.
                tracing::warn!(%error, "no ballast can be kept on this disk");
                self.no_ballast.store(true, Ordering::Relaxed);
                drop(fs::remove_file(self.ballast()));
            }
            self.measure()?;
        }
        self.tell();
        Ok(())
    }

    fn affords_ballast(&self, free: u64) -> bool {
        if self.no_ballast.load(Ordering::Relaxed) {
            return false;
        }
        let low = self.rule.free_bytes_min.max(BALLAST_RELEASE_BYTES);
        free > low.saturating_add(self.rule.ballast_bytes.saturating_mul(2))
    }

    fn allocate(&self) -> io::Result<()> {
        let bytes = self.rule.ballast_bytes;
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(self.ballast())?;
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
        file.set_len(bytes)?;
        file.sync_all()
    }

    fn tell(&self) {
        let (free, free_bytes_min) = (self.free(), self.rule.free_bytes_min);
        let low = free < free_bytes_min;
        if self.low.swap(low, Ordering::Relaxed) == low {
            return;
        }
        let directory = self.directory.display();
        if low {
            tracing::error!(%directory, free, free_bytes_min, "NOSPACE: only deletes are taken");
        } else {
            tracing::info!(%directory, free, "there is space again: all writes are taken");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Machine;

    fn space(rule: DiskRule) -> (tempfile::TempDir, Space) {
        let directory = tempfile::tempdir().unwrap();
        let space = Space::open(directory.path(), rule, Arc::new(Machine)).unwrap();
        (directory, space)
    }

    #[test]
    fn what_is_refused_depends_on_the_need() {
        let (_directory, space) =
            space(DiskRule { free_bytes_min: 100 << 20, ..DiskRule::default() });
        let at =
            |free: u64| [Need::Growing, Need::Freeing].map(|need| space.judge(need, free).is_ok());
        assert_eq!(at(100 << 20), [true, true]);
        assert_eq!(at((100 << 20) - 1), [false, true]);
        assert_eq!(at(DISK_FLOOR_BYTES), [false, true]);
        assert_eq!(at(DISK_FLOOR_BYTES - 1), [false, false]);
        let refused = space.judge(Need::Freeing, 0).unwrap_err();
        assert!(matches!(refused, ProposeError::DiskFull { free_bytes_min: DISK_FLOOR_BYTES, .. }));
    }

    #[test]
    fn the_ballast_is_there_as_long_as_the_rule_wants_it() {
        let (directory, space) = space(DiskRule { ballast_bytes: 1 << 20, ..DiskRule::default() });
        let ballast = directory.path().join("ballast");
        assert_eq!(ballast.metadata().unwrap().len(), 1 << 20);
        drop(space);
        Space::open(directory.path(), DiskRule::default(), Arc::new(Machine)).unwrap();
        assert!(!ballast.exists());
        // A watermark that this disk can never meet: no ballast is taken.
        let rule =
            DiskRule { free_bytes_min: u64::MAX, ballast_bytes: 1 << 20, ..DiskRule::default() };
        let space = Space::open(directory.path(), rule, Arc::new(Machine)).unwrap();
        assert!(!ballast.exists());
        assert!(space.check(Need::Growing).is_err());
    }
}
