//! When an address that is held is announced: often at first, then each minute, and often again when somebody else has
//! said that it has it. Whom hosts believe is who has spoken last.

use std::time::Duration;

use tokio::time::Instant;

use super::netlink::LIFETIME_SECONDS;

/// When it is announced, counted from when it was taken; after the last of them each [`ANNOUNCE_INTERVAL`].
const ANNOUNCE_AT: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_millis(3500),
    Duration::from_secs(5),
];

/// For hosts that missed all of these.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(60);

/// So long after it was taken, the one before may still answer for it: who asks is told at once where it is now.
const CONTESTED: Duration = Duration::from_secs(LIFETIME_SECONDS as u64 + 2);

/// Answers to others are no more frequent.
const DEFEND_INTERVAL: Duration = Duration::from_millis(50);

/// Against a host that is no master (RFC 5227, 2.4): defending more often would be a quarrel without end.
const QUARREL_INTERVAL: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Schedule {
    /// When it began.
    from: Instant,
    /// How many announcements were made in their time.
    made: usize,
    last: Instant,
}

/// When announcement number `number` is due, after the beginning.
fn announce_after(number: usize) -> Duration {
    let last = ANNOUNCE_AT[ANNOUNCE_AT.len() - 1];
    ANNOUNCE_AT.get(number).copied().unwrap_or_else(|| {
        let more = u32::try_from(number - (ANNOUNCE_AT.len() - 1)).unwrap_or(u32::MAX);
        last.saturating_add(ANNOUNCE_INTERVAL.saturating_mul(more))
    })
}

impl Schedule {
    /// The first is due at once.
    pub fn new(now: Instant) -> Self {
        Self { from: now, made: 0, last: now }
    }

    /// Whether it is time; then the caller announces.
    pub fn due(&mut self, now: Instant) -> bool {
        let due = now.duration_since(self.from) >= announce_after(self.made);
        if due {
            (self.made, self.last) = (self.made + 1, now);
        }
        due
    }

    /// Another master has said that it has the address: one that hung and goes on, perhaps. The caller announces when
    /// this says so, else the schedule does in a moment.
    pub fn claimed(&mut self, now: Instant) -> bool {
        let at_once = now.duration_since(self.last) >= DEFEND_INTERVAL;
        if at_once {
            self.last = now;
        }
        (self.from, self.made) = (self.last, 1);
        at_once
    }

    /// Somebody asks for it: whether the caller is to announce, lest another is believed.
    pub fn asked(&mut self, now: Instant) -> bool {
        let contested = now.duration_since(self.from) < CONTESTED;
        contested && self.no_more_than(DEFEND_INTERVAL, now)
    }

    /// A host that is no master has said that it has it: whether the caller is to announce.
    pub fn quarrelled(&mut self, now: Instant) -> bool {
        self.no_more_than(QUARREL_INTERVAL, now)
    }

    fn no_more_than(&mut self, interval: Duration, now: Instant) -> bool {
        let may = now.duration_since(self.last) >= interval;
        if may {
            self.last = now;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::super::keeper::RENEW_INTERVAL;
    use super::*;

    #[test]
    fn it_is_announced_often_at_first_and_then_each_minute() {
        let seconds: Vec<f64> =
            (0..10).map(|number| announce_after(number).as_secs_f64()).collect();
        assert_eq!(seconds, [0.0, 0.1, 0.3, 1.0, 2.0, 3.5, 5.0, 65.0, 125.0, 185.0]);
    }

    #[test]
    fn it_is_announced_once_more_when_the_one_before_has_surely_lost_it() {
        let over = Duration::from_secs(u64::from(LIFETIME_SECONDS));
        assert!(
            ANNOUNCE_AT.iter().any(|at| *at > over),
            "the kernel of a hung one answers until then"
        );
        assert!(RENEW_INTERVAL * 3 < over, "two renewals may be missed");
    }

    /// How often it is announced in this time by the schedule alone.
    fn made(schedule: &mut Schedule, from: Instant, time: Duration) -> usize {
        let step = Duration::from_millis(50);
        (0..)
            .map(|n| step * n)
            .take_while(|at| *at < time)
            .filter(|at| schedule.due(from + *at))
            .count()
    }

    #[test]
    fn a_master_that_claims_it_long_after_is_answered_at_once_and_for_some_seconds() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        assert_eq!(made(&mut schedule, start, Duration::from_secs(30)), 7);
        let late = start + Duration::from_secs(30);
        assert!(!schedule.asked(late), "nobody else has it");
        assert!(schedule.claimed(late));
        assert!(schedule.asked(late + Duration::from_secs(1)), "somebody may believe the other");
        assert_eq!(made(&mut schedule, late, Duration::from_secs(30)), 6, "all but the first");
        assert!(!schedule.asked(late + Duration::from_secs(40)));
    }

    #[test]
    fn claims_without_an_end_are_answered_no_more_than_so_often_and_never_without_an_end() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        assert!(schedule.due(start));
        let at = |ms| start + Duration::from_millis(ms);
        let announced = (1..=100).filter(|n| {
            let now = at(n * 10);
            let claimed = schedule.claimed(now);
            claimed || schedule.due(now)
        });
        assert_eq!(announced.count(), 20, "each 50 ms");
        let mut schedule = Schedule::new(start);
        assert!(schedule.due(start) && !schedule.claimed(at(20)));
        assert!(!schedule.due(at(50)) && schedule.due(at(100)), "in a moment, then");
    }

    #[test]
    fn strangers_are_answered_rarely() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let answered = (1..=60).filter(|n| schedule.quarrelled(start + Duration::from_secs(*n)));
        assert_eq!(answered.count(), 6);
    }
}
