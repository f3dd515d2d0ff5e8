//! How long syncs take of late: whether the disk of the log is too slow to lead with.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{
    SLOW_DISK_STUCK, SLOW_DISK_SYNC, SLOW_DISK_SYNCS_MIN, SLOW_DISK_WINDOW, SYNC_SAMPLES,
};

/// The group commits of the last moments.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When each ended, and how long it took; no more than `SYNC_SAMPLES`.
    recent: VecDeque<(Instant, Duration)>,
    /// The one that is under way.
    began: Option<Instant>,
}

impl Pace {
    pub(crate) fn begins(&mut self, now: Instant) {
        self.began = Some(now);
    }

    pub(crate) fn ended(&mut self, now: Instant, took: Duration) {
        self.began = None;
        if self.recent.len() == SYNC_SAMPLES {
            self.recent.pop_front();
        }
        self.recent.push_back((now, took));
    }

    /// Whether the disk is slow: most group commits of late took too long, or one does not come to its end.
    pub(crate) fn is_slow(&self, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        if self.began.is_some_and(|began| since(began) > SLOW_DISK_STUCK) {
            return true;
        }
        let of_late = || self.recent.iter().filter(|(ended, _)| since(*ended) <= SLOW_DISK_WINDOW);
        let slow = of_late().filter(|(_, took)| *took > SLOW_DISK_SYNC).count();
        slow >= SLOW_DISK_SYNCS_MIN && 2 * slow > of_late().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(5);
    const SLOW: Duration = Duration::from_millis(500);

    #[test]
    fn most_syncs_of_late_decide() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert!(!pace.is_slow(now));
        for _ in 0..SLOW_DISK_SYNCS_MIN - 1 {
            pace.ended(now, SLOW);
        }
        assert!(!pace.is_slow(now), "too few to tell");
        pace.ended(now, SLOW);
        assert!(pace.is_slow(now));
        assert!(!pace.is_slow(now + SLOW_DISK_WINDOW + QUICK), "long ago");
        for _ in 0..SLOW_DISK_SYNCS_MIN {
            pace.ended(now, QUICK);
        }
        assert!(!pace.is_slow(now), "half of them are quick");
    }

    #[test]
    fn a_sync_that_does_not_end_is_slow() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.begins(now);
        assert!(!pace.is_slow(now + SLOW_DISK_STUCK));
        assert!(pace.is_slow(now + SLOW_DISK_STUCK + QUICK));
        pace.ended(now + SLOW_DISK_STUCK + QUICK, SLOW_DISK_STUCK + QUICK);
        assert!(!pace.is_slow(now + SLOW_DISK_STUCK + QUICK));
    }
}
