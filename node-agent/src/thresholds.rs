//! How little of memory, disk and process ids may be free: the kubelet's `--eviction-hard`, as far as this agent
//! measures (kubernetes.io, "Node-pressure Eviction", hard eviction thresholds).
//! Below one, the node says that it is under pressure and takes no pods that do not tolerate it.

use std::str::FromStr;

use crate::limits::{DISK_FREE_PERCENT_MIN, MEMORY_FREE_BYTES_MIN, PIDS_FREE_PERCENT_MIN};
use crate::pod::resources;

/// The smallest amount that may be free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// Hundredths of what there is.
    Percent(u64),
    /// Bytes, or process ids.
    Amount(u64),
}

impl Threshold {
    /// Nothing need be free.
    pub const NONE: Self = Self::Amount(0);

    /// The amount, of `total`.
    pub(crate) fn of(self, total: u64) -> u64 {
        match self {
            Self::Percent(percent) => {
                let part = u128::from(total) * u128::from(percent) / 100;
                u64::try_from(part).unwrap_or(u64::MAX)
            }
            Self::Amount(amount) => amount,
        }
    }

    /// Whether `free` of `total` is too little. Of what was not measured (`total` is 0) nothing is.
    pub(crate) fn is_crossed(self, free: u64, total: u64) -> bool {
        total > 0 && free < self.of(total)
    }
}

/// The thresholds of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// `memory.available`.
    pub memory: Threshold,
    /// `nodefs.available`: the file system of the agent's directory.
    pub disk: Threshold,
    /// `pid.available`.
    pub pids: Threshold,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            memory: Threshold::Amount(MEMORY_FREE_BYTES_MIN),
            disk: Threshold::Percent(DISK_FREE_PERCENT_MIN),
            pids: Threshold::Percent(PIDS_FREE_PERCENT_MIN),
        }
    }
}

impl Thresholds {
    /// For a machine that is not a node above all, such as a developer's: what its disk is filled with is not the
    /// cluster's affair.
    #[must_use]
    pub fn without_disk() -> Self {
        Self { disk: Threshold::NONE, ..Self::default() }
    }
}

/// Why a text is no list of thresholds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// A part is not a comparison.
    #[error("{0:?} is no threshold: give SIGNAL<VALUE, as in memory.available<100Mi")]
    NoComparison(String),
    /// A signal that is not measured.
    #[error(
        "unknown eviction signal {0:?}: known are memory.available, nodefs.available and pid.available"
    )]
    UnknownSignal(String),
    /// A signal comes more than once.
    #[error("{0} is given twice: give it once")]
    Twice(String),
    /// What it is compared with is no amount.
    #[error("{0:?} is neither a quantity nor a percentage below 100%")]
    NoAmount(String),
}

impl FromStr for Thresholds {
    type Err = ThresholdError;

    /// As the kubelet's flag: `memory.available<100Mi,nodefs.available<10%`. What is not named has no threshold.
    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let none = Threshold::NONE;
        let mut all = Self { memory: none, disk: none, pids: none };
        let mut named = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (signal, value) = part
                .split_once('<')
                .ok_or_else(|| ThresholdError::NoComparison(part.to_owned()))?;
            let (signal, value) = (signal.trim(), value.trim());
            let threshold = match signal {
                "memory.available" => &mut all.memory,
                "nodefs.available" => &mut all.disk,
                "pid.available" => &mut all.pids,
                other => return Err(ThresholdError::UnknownSignal(other.to_owned())),
            };
            if named.contains(&signal) {
                return Err(ThresholdError::Twice(signal.to_owned()));
            }
            named.push(signal);
            let amount = value_of(value);
            *threshold = amount.ok_or_else(|| ThresholdError::NoAmount(value.to_owned()))?;
        }
        Ok(all)
    }
}

fn value_of(text: &str) -> Option<Threshold> {
    if let Some(percent) = text.strip_suffix('%') {
        return percent.parse().ok().filter(|percent| *percent < 100).map(Threshold::Percent);
    }
    let bytes = resources::parsed(text)?;
    u64::try_from(bytes).ok().map(Threshold::Amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kubelet_takes_is_taken() {
        let all: Thresholds =
            "memory.available<200Mi, nodefs.available<15%,pid.available<1k".parse().unwrap();
        assert_eq!(all.memory, Threshold::Amount(200 << 20));
        assert_eq!(all.disk, Threshold::Percent(15));
        assert_eq!(all.pids, Threshold::Amount(1000));
        assert_eq!("".parse::<Thresholds>().unwrap().disk, Threshold::NONE);
        assert_eq!("nodefs.available<0%".parse::<Thresholds>().unwrap().disk.of(100), 0);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, words) in [
            ("memory.available", "SIGNAL<VALUE"),
            ("memory.free<1Gi", "unknown eviction signal \"memory.free\""),
            ("memory.available<much", "\"much\" is neither a quantity"),
            ("nodefs.available<100%", "\"100%\" is neither"),
            ("memory.available<-1", "\"-1\" is neither"),
            ("pid.available<1,pid.available<2", "given twice"),
        ] {
            let error = text.parse::<Thresholds>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn pressure_begins_below_the_threshold() {
        assert!(Threshold::Percent(10).is_crossed(9, 100));
        assert!(!Threshold::Percent(10).is_crossed(10, 100));
        assert!(Threshold::Amount(5).is_crossed(4, 100));
        assert!(!Threshold::NONE.is_crossed(0, 100));
        assert!(!Threshold::Percent(10).is_crossed(0, 0), "what was not measured is no pressure");
    }
}
