//! The library between masters and libc (`shim/shim.rs`): put beside a run's data, loaded into each master's process,
//! and told through a control file what is to go wrong there.
//!
//! The file is mapped into the process; here it is written word by word, which the kernel shows there at once.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;

use super::power::{self, Lost};
use crate::scenario::fault::Effect;
use crate::scenario::fault::machine::{Clock, CrashCall, CrashMoment, Disk, DiskCall, DiskError};

const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim.so"));

/// Words of the control file, as `shim/shim.rs` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    ClockSequence = 1,
    ClockActive = 2,
    JumpNs = 3,
    StrobeNs = 4,
    StrobeEveryNs = 5,
    DriftPercent = 6,
    DriftSinceNs = 7,
    MonotonicNs = 8,
    MonotonicPercent = 9,
    DiskActive = 10,
    SyncDelayNs = 11,
    Error = 12,
    ErrorOn = 13,
    ErrorTimes = 14,
    ReadOnly = 15,
    Lies = 16,
    Journals = 17,
    CrashOn = 18,
    CrashWhen = 19,
    CrashTimes = 20,
    Loaded = 32,
    Shifted = 33,
    Slowed = 34,
    Failed = 35,
    Lied = 36,
    Crashed = 40,
    CrashPath = 64,
}

const WORDS: usize = 512;
const CRASH_PATH_BYTES: usize = 64;
const ON_SYNC: u64 = 1;
const ON_WRITE: u64 = 2;
const EIO: u64 = 5;
const ENOSPC: u64 = 28;
const NS_PER_MS: i64 = 1_000_000;

/// The library of a run, and what each master is told.
#[derive(Debug)]
pub struct Shims {
    library: PathBuf,
    masters: Vec<Shim>,
}

#[derive(Debug)]
struct Shim {
    /// What goes wrong: the master's directory.
    root: PathBuf,
    /// Control file and journals.
    beside: PathBuf,
    control: File,
    clock: Option<Clock>,
    disk: Option<Disk>,
    /// Since when a clock drifts, and what earlier drifts left of the monotonic one.
    since: Instant,
    monotonic_ns: i64,
    /// Errors that had been given before the disk that goes wrong now did.
    failed_before: u64,
    losses: u64,
    lost: Lost,
}

impl Shims {
    /// Whether it can be loaded into this program; if not, why.
    ///
    /// # Errors
    /// The reason, in a sentence.
    pub fn possible(binary: &Path) -> Result<(), String> {
        if LIBRARY.is_empty() {
            let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
            return Err(format!(
                "faults of clocks, slow and failing disks and power loss need Linux with glibc on \
                 x86_64 or aarch64; this program was built for {os} on {arch} without it"
            ));
        }
        let name = format!("quorate-chaos-shim-{}-{:x}", std::process::id(), rand::random::<u64>());
        let directory = std::env::temp_dir().join(name);
        let loaded = Self::try_on(binary, &directory);
        let _ = fs::remove_dir_all(&directory);
        match loaded {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!(
                "LD_PRELOAD has no effect on {} (is it linked statically?): no faults of clocks, slow \
                 and failing disks and power loss",
                binary.display()
            )),
            Err(error) => Err(format!("the library of faults cannot be tried: {error:#}")),
        }
    }

    fn try_on(binary: &Path, directory: &Path) -> anyhow::Result<bool> {
        fs::create_dir(directory)?;
        let shims = Self::make(directory, &[directory.join("data")], false)?;
        let mut command = Command::new(binary);
        command.arg("version").envs(shims.environment(0));
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        status.status().with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(shims.masters[0].get(Slot::Loaded)? != 0)
    }

    /// Writes the library, and a control file for each directory; with `journals`, power can be lost.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn make(directory: &Path, roots: &[PathBuf], journals: bool) -> anyhow::Result<Self> {
        let directory = std::path::absolute(directory)?;
        let library = directory.join("shim.so");
        let what = || format!("cannot write to {}", directory.display());
        fs::write(&library, LIBRARY).with_context(what)?;
        let shim = |root: &PathBuf| -> anyhow::Result<Shim> {
            let root = std::path::absolute(root)?;
            let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let beside = directory.join(format!("{name}.shim"));
            fs::create_dir(&beside)?;
            fs::create_dir(beside.join(power::JOURNAL))?;
            fs::create_dir(beside.join(power::GRAVES))?;
            let path = beside.join("control");
            let control = File::options().read(true).write(true).create_new(true).open(path)?;
            control.set_len(WORDS as u64 * 8)?;
            let shim = Shim {
                root,
                beside,
                control,
                clock: None,
                disk: None,
                since: Instant::now(),
                monotonic_ns: 0,
                failed_before: 0,
                losses: 0,
                lost: Lost::default(),
            };
            shim.put(Slot::Journals, u64::from(journals))?;
            Ok(shim)
        };
        let masters = roots.iter().map(shim).collect::<anyhow::Result<_>>().with_context(what)?;
        Ok(Self { library, masters })
    }

    /// What a master's process is started with.
    #[must_use]
    pub fn environment(&self, master: usize) -> [(&'static str, OsString); 3] {
        let shim = &self.masters[master];
        [
            ("LD_PRELOAD", self.library.clone().into()),
            ("QUORATE_CHAOS_ROOT", shim.root.clone().into()),
            ("QUORATE_CHAOS_SHIM", shim.beside.clone().into()),
        ]
    }

    /// Tells each master what is to go wrong.
    ///
    /// # Errors
    /// When a control file cannot be written.
    pub fn set(&mut self, effect: &Effect) -> anyhow::Result<()> {
        for (master, shim) in self.masters.iter_mut().enumerate() {
            shim.set_clock(effect.clocks.get(&master).copied())?;
            shim.set_disk(effect.disks.get(&master).copied())?;
        }
        Ok(())
    }

    /// Undoes some of what a killed master had not synced.
    ///
    /// # Errors
    /// When its files cannot be changed, or the journals are damaged.
    pub fn lose_power(&mut self, master: usize, seed: u64) -> anyhow::Result<()> {
        let shim = &mut self.masters[master];
        let lost = power::lose(&shim.root, &shim.beside, seed)
            .with_context(|| format!("power loss of {}", shim.root.display()))?;
        shim.losses += 1;
        shim.lost += lost;
        Ok(())
    }

    /// All that a master has written is on its disk: it is replaced by other files.
    ///
    /// # Errors
    /// When the journals cannot be removed.
    pub fn forget_unsynced(&self, master: usize) -> anyhow::Result<()> {
        power::forget(&self.masters[master].beside)
    }

    /// What is wrong with a master now, in words; `None` when nothing is.
    ///
    /// # Errors
    /// When its process, `id`, has not loaded the library.
    pub fn shown(&self, master: usize, id: Option<u32>) -> anyhow::Result<Option<String>> {
        let shim = &self.masters[master];
        let mut shown = Vec::new();
        shown.extend(shim.clock.map(|clock| format!("its clock is {clock}")));
        shown.extend(shim.disk.map(|disk| format!("its disk {disk}")));
        let loaded = shim.get(Slot::Loaded)?;
        if let Some(id) = id
            && !shown.is_empty()
            && loaded != u64::from(id)
        {
            anyhow::bail!("the library is loaded in process {loaded}, not in {id}");
        }
        Ok((!shown.is_empty()).then(|| shown.join(", ")))
    }

    /// What power losses so far have done to a master, in words.
    #[must_use]
    pub fn losses(&self, master: usize) -> String {
        let Shim { losses, lost, .. } = &self.masters[master];
        let Lost { unsynced, undone, torn, names } = lost;
        format!(
            "{losses} power losses: of {unsynced} unsynced changes of files {undone} undone, {torn} torn, {names} \
             changes of names undone"
        )
    }

    /// How often what is wrong by `effect` met the masters, so far.
    ///
    /// # Errors
    /// When a control file cannot be read.
    pub fn met(&self, effect: &Effect) -> anyhow::Result<u64> {
        let mut met = 0;
        for (master, shim) in self.masters.iter().enumerate() {
            if effect.clocks.contains_key(&master) {
                met += shim.get(Slot::Shifted)?;
            }
            if effect.dark.contains_key(&master) {
                met += shim.losses;
            }
            met += match effect.disks.get(&master) {
                None => 0,
                Some(Disk::Slow(_)) => shim.get(Slot::Slowed)?,
                Some(Disk::Fails(..) | Disk::ReadOnly) => shim.get(Slot::Failed)?,
                Some(Disk::Lies) => shim.get(Slot::Lied)?,
                Some(Disk::Crash(..)) => shim.get(Slot::Crashed)?,
            };
        }
        Ok(met)
    }

    /// Whether the disk that goes wrong now has given the master an error.
    ///
    /// # Errors
    /// When its control file cannot be read.
    pub fn gave_errors(&self, master: usize) -> anyhow::Result<bool> {
        let shim = &self.masters[master];
        Ok(shim.disk.is_some() && shim.errors()? > shim.failed_before)
    }
}

impl Shim {
    fn put(&self, slot: Slot, value: u64) -> anyhow::Result<()> {
        let done = self.control.write_all_at(&value.to_ne_bytes(), slot as u64 * 8);
        done.with_context(|| format!("cannot write to {}", self.beside.display()))
    }

    fn get(&self, slot: Slot) -> anyhow::Result<u64> {
        let mut bytes = [0; 8];
        let done = self.control.read_exact_at(&mut bytes, slot as u64 * 8);
        done.with_context(|| format!("cannot read in {}", self.beside.display()))?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn set_clock(&mut self, clock: Option<Clock>) -> anyhow::Result<()> {
        if clock == self.clock {
            return Ok(());
        }
        if let Some(Clock::Drift { percent, monotonic: true }) = self.clock {
            // It must not go back: it keeps what it gained or lost.
            let elapsed = i64::try_from(self.since.elapsed().as_nanos())?;
            self.monotonic_ns += elapsed / 100 * i64::from(percent);
        }
        self.clock = clock;
        self.since = Instant::now();
        let (mut jump, mut strobe, mut every, mut drift, mut monotonic) = (0, 0, 0, 0, 0);
        match clock {
            None => {}
            Some(Clock::Jump(by)) => jump = by.0 * NS_PER_MS,
            Some(Clock::Strobe(by, each)) => {
                strobe = by.0 * NS_PER_MS;
                every = i64::try_from(each.0.max(1))? * NS_PER_MS;
            }
            Some(Clock::Drift { percent, monotonic: both }) => {
                drift = i64::from(percent);
                monotonic = if both { drift } else { 0 };
            }
        }
        // Odd while it is written: who reads then, reads again.
        let sequence = self.get(Slot::ClockSequence)?;
        self.put(Slot::ClockSequence, sequence.wrapping_add(1))?;
        for (slot, value) in [
            (Slot::JumpNs, jump),
            (Slot::StrobeNs, strobe),
            (Slot::StrobeEveryNs, every),
            (Slot::DriftPercent, drift),
            (Slot::DriftSinceNs, 0),
            (Slot::MonotonicNs, self.monotonic_ns),
            (Slot::MonotonicPercent, monotonic),
            (Slot::ClockActive, i64::from(clock.is_some() || self.monotonic_ns != 0)),
        ] {
            self.put(slot, value.cast_unsigned())?;
        }
        self.put(Slot::ClockSequence, sequence.wrapping_add(2))
    }

    /// Errors given, and ends brought about, so far.
    fn errors(&self) -> anyhow::Result<u64> {
        Ok(self.get(Slot::Failed)? + self.get(Slot::Crashed)?)
    }

    fn set_crash(&self, disk: Option<Disk>) -> anyhow::Result<()> {
        let Some(Disk::Crash(point, times)) = disk else { return self.put(Slot::CrashOn, 0) };
        let (call, moment, part) = point.place();
        let mut path = [0; CRASH_PATH_BYTES];
        anyhow::ensure!(part.len() < path.len(), "{part:?} is too long");
        path[..part.len()].copy_from_slice(part.as_bytes());
        self.control.write_all_at(&path, Slot::CrashPath as u64 * 8)?;
        // The numbers of `shim/calls.rs`.
        let call = match call {
            CrashCall::Sync => 1,
            CrashCall::Write => 2,
            CrashCall::Rename => 3,
            CrashCall::Removal => 4,
        };
        let moment = match moment {
            CrashMoment::Before => 0,
            CrashMoment::After => 1,
            CrashMoment::During => 2,
        };
        self.put(Slot::CrashWhen, moment)?;
        self.put(Slot::CrashTimes, u64::from(times))?;
        self.put(Slot::CrashOn, call)
    }

    fn set_disk(&mut self, disk: Option<Disk>) -> anyhow::Result<()> {
        if disk == self.disk {
            return Ok(());
        }
        self.disk = disk;
        self.failed_before = self.errors()?;
        let (mut delay, mut error, mut on, mut times) = (0, 0, 0, 0);
        match disk {
            Some(Disk::Slow(by)) => delay = by.0.saturating_mul(NS_PER_MS.cast_unsigned()),
            Some(Disk::Fails(what, call, often)) => {
                error = if what == DiskError::Eio { EIO } else { ENOSPC };
                on = if call == DiskCall::Sync { ON_SYNC } else { ON_WRITE };
                times = often.map_or(u64::MAX, u64::from);
            }
            None | Some(Disk::ReadOnly | Disk::Lies | Disk::Crash(..)) => {}
        }
        // Switched on last, off first.
        self.put(Slot::DiskActive, 0)?;
        self.set_crash(disk)?;
        for (slot, value) in [
            (Slot::SyncDelayNs, delay),
            (Slot::Error, error),
            (Slot::ErrorOn, on),
            (Slot::ErrorTimes, times),
            (Slot::ReadOnly, u64::from(disk == Some(Disk::ReadOnly))),
            (Slot::Lies, u64::from(disk == Some(Disk::Lies))),
            (Slot::DiskActive, u64::from(disk.is_some())),
        ] {
            self.put(slot, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
