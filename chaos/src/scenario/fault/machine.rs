//! What goes wrong with a master's own clock and disk: what the library between it and libc does.

use std::fmt;

use serde::Serialize;

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
            Fault::DiskLies => Self::Lies,
            _ => Self::Slow(with.delay.unwrap_or(Span(200))),
        }
    }

    /// Whether a master that meets it may end, and be right.
    #[must_use]
    pub fn may_end(self) -> bool {
        matches!(self, Self::Fails(..) | Self::ReadOnly)
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
        }
    }
}
