//! What goes wrong with a master's own clock and disk: what the library between it and libc does.

use std::fmt;

use serde::Serialize;

use super::place::Place;
use super::{Direction, Fault};
use crate::scenario::span::Shift;
use crate::scenario::{Parameters, Span};

/// A clock that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// By so much.
    Jump(Shift),
    /// It runs so many percent faster (or slower).
    Drift {
        /// Of the true time.
        percent: i8,
        /// The monotonic clock too. It does not go back at the end.
        monotonic: bool,
    },
    /// It is wrong by so much, and right again, each so long.
    Strobe(Shift, Span),
}

/// A disk that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Each sync takes so long, at least.
    Slow(Span),
    /// Calls fail.
    Fails(DiskError, DiskCall, Option<u32>),
    /// Nothing can be written.
    ReadOnly,
    /// Syncs do nothing.
    Lies,
    /// The process ends here, when it comes here for this time.
    Crash(CrashPoint, u32),
}

/// Where a process ends as if it had been killed just then.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum CrashPoint {
    /// Before the log, with the vote, is synced.
    BeforeLogSync,
    /// After that, before anybody is told.
    AfterLogSync,
    /// When half of a write to the log is done.
    DuringLogWrite,
    /// Before it is noted how far the log is synced.
    BeforeWitness,
    /// After that.
    AfterWitness,
    /// Before the log's own index is replaced.
    BeforeIndexRename,
    /// After that.
    AfterIndexRename,
    /// When half of a write to a snapshot of its own is done.
    DuringSnapshotWrite,
    /// When half of a write to a snapshot from the leader is done.
    DuringSnapshotInstall,
    /// Before a snapshot is there under its name.
    BeforeSnapshotRename,
    /// After that, before its directory is synced.
    AfterSnapshotRename,
    /// Before an old snapshot is removed.
    BeforeSnapshotRemoval,
}

/// Calls at which crash points stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashCall {
    /// `fsync`, `fdatasync`.
    Sync,
    /// `write` and its kin.
    Write,
    /// `rename` to it.
    Rename,
    /// `unlink`.
    Removal,
}

/// Before, after or in the middle of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashMoment {
    /// It is not carried out.
    Before,
    /// It is.
    After,
    /// Half of it is.
    During,
}

impl CrashPoint {
    /// Those that are passed all the time.
    pub const FREQUENT: [Self; 5] = [
        Self::BeforeLogSync,
        Self::AfterLogSync,
        Self::DuringLogWrite,
        Self::BeforeWitness,
        Self::AfterWitness,
    ];

    /// At which call, when, and on a file in whose path there is what.
    #[must_use]
    pub fn place(self) -> (CrashCall, CrashMoment, &'static str) {
        use CrashCall::{Removal, Rename, Sync, Write};
        use CrashMoment::{After, Before, During};
        match self {
            Self::BeforeLogSync => (Sync, Before, "/raft/db"),
            Self::AfterLogSync => (Sync, After, "/raft/db"),
            Self::DuringLogWrite => (Write, During, "/raft/db"),
            Self::BeforeWitness => (Write, Before, "/raft/synced"),
            Self::AfterWitness => (Write, After, "/raft/synced"),
            Self::BeforeIndexRename => (Rename, Before, "/raft/snap."),
            Self::AfterIndexRename => (Rename, After, "/raft/snap."),
            Self::DuringSnapshotWrite => (Write, During, ".tmp"),
            Self::DuringSnapshotInstall => (Write, During, ".partial"),
            Self::BeforeSnapshotRename => (Rename, Before, ".snap"),
            Self::AfterSnapshotRename => (Rename, After, ".snap"),
            Self::BeforeSnapshotRemoval => (Removal, Before, ".snap"),
        }
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use clap::ValueEnum as _;
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => write!(f, "{self:?}"),
        }
    }
}

/// What is done to the files of a master that does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// What.
    pub how: Harm,
    /// To which of them.
    pub file: HarmedFile,
    /// Chooses where.
    pub seed: u64,
}

/// A kind of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// A bit is another.
    Flip,
    /// The end is missing.
    Cut,
    /// All of the log's directory is missing.
    Wipe,
    /// Nothing is wrong yet; the files are copied aside.
    Keep,
    /// All files are those that were copied aside before.
    GoBack,
}

/// Files of a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HarmedFile {
    /// The log, with the vote.
    Log,
    /// How far the log is synced.
    Witness,
    /// The newest snapshot.
    Snapshot,
    /// Who the master is.
    Identity,
}

/// How a master's serving certificate is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Certificate {
    /// Its time is over.
    Expired,
    /// Its time is over soon.
    Ending,
    /// Its time has not come yet: it was made when the clock was ahead.
    Early,
    /// It is not there.
    Missing,
}

impl Certificate {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Expired, Self::Ending, Self::Early, Self::Missing];

    /// Its word in a scenario.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Ending => "ending",
            Self::Early => "early",
            Self::Missing => "missing",
        }
    }
}

/// How somebody is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Away {
    /// SIGSTOP: its process goes on afterwards.
    Paused,
    /// `kill -9`: it is started again afterwards.
    Killed,
}

/// What a call fails with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskError {
    /// The device is broken.
    Eio,
    /// There is no room.
    Enospc,
}

/// Which calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskCall {
    /// `fsync`, `fdatasync`.
    Sync,
    /// `write` and its kin, `ftruncate`.
    Write,
}

impl Clock {
    /// What a fault of this kind does.
    #[must_use]
    pub fn of(fault: Fault, with: &Parameters) -> Self {
        let by = with.by.unwrap_or(Shift(3_600_000));
        let percent = i8::try_from(with.percent.unwrap_or(10)).unwrap_or(i8::MAX);
        match fault {
            Fault::ClockStrobe => Self::Strobe(by, with.every.unwrap_or(Span(200))),
            Fault::ClockDrift => Self::Drift {
                percent: if with.direction == Some(Direction::Slow) { -percent } else { percent },
                monotonic: with.monotonic,
            },
            _ => Self::Jump(by),
        }
    }
}

impl Disk {
    /// What a fault of this kind does.
    #[must_use]
    pub fn of(fault: Fault, with: &Parameters) -> Self {
        match fault {
            Fault::DiskError => Self::Fails(
                with.error.unwrap_or(DiskError::Eio),
                with.on.unwrap_or(DiskCall::Sync),
                with.times,
            ),
            Fault::DiskReadonly => Self::ReadOnly,
            Fault::CrashPoint => {
                let point = match with.point {
                    Some(Place::Call(point)) => point,
                    Some(Place::Code(_) | Place::Any) | None => CrashPoint::BeforeLogSync,
                };
                Self::Crash(point, with.times.unwrap_or(1))
            }
            Fault::DiskLies => Self::Lies,
            Fault::SlowStart => Self::Slow(with.delay.unwrap_or(Span(1000))),
            _ => Self::Slow(with.delay.unwrap_or(Span(200))),
        }
    }

    /// Whether a master that meets it may end, and be right.
    #[must_use]
    pub fn may_end(self) -> bool {
        matches!(self, Self::Fails(..) | Self::ReadOnly | Self::Crash(..))
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jump(by) => write!(f, "{by} from the truth"),
            Self::Drift { percent, monotonic } => {
                let pace = if *percent < 0 { "slow" } else { "fast" };
                let which = if *monotonic { ", the monotonic one too" } else { "" };
                write!(f, "{} % {pace}{which}", percent.unsigned_abs())
            }
            Self::Strobe(by, every) => write!(f, "{by} from the truth and right, each for {every}"),
        }
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow(delay) => write!(f, "takes {delay} for each sync"),
            Self::Fails(error, call, times) => {
                let error = if *error == DiskError::Eio { "EIO" } else { "ENOSPC" };
                let call = if *call == DiskCall::Sync { "sync" } else { "write" };
                match times {
                    Some(times) => write!(f, "fails with {error} at {times} {call}s"),
                    None => write!(f, "fails with {error} at each {call}"),
                }
            }
            Self::ReadOnly => f.write_str("cannot be written"),
            Self::Lies => f.write_str("does not sync"),
            Self::Crash(point, times) => {
                write!(f, "ends it at {point}, the time of number {times}")
            }
        }
    }
}
