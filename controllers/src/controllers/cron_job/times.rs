//! Which time of a schedule has come, and when the next one does.

use std::time::Duration;

use jiff::Timestamp;
use quorate_api::cron::Schedule;

use crate::limits::CRON_MISSED_MAX;
use crate::model::CronJob;
use crate::plan::Ctx;

/// What upstream says of a schedule that is never due.
pub(super) const INVALID: &str = "time difference between two schedules is less than 1 second";

/// What a schedule says now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// The last time that has come and that no Job was made for.
    pub(super) due: Option<Timestamp>,
    /// When to look again.
    pub(super) next: Option<Timestamp>,
    /// Others were missed before it.
    pub(super) many_missed: bool,
    /// It is never due.
    pub(super) unmet_within_deadline_invalid: bool,
}

impl Times {
    pub(super) fn of(ctx: &Ctx<'_>, cron_job: &CronJob, schedule: &Schedule) -> Self {
        let now = ctx.now;
        let created = cron_job.metadata.created();
        let since = cron_job.status.last_schedule_time.unwrap_or(created);
        // Nothing below this is started any more.
        let from = cron_job.spec.starting_deadline_seconds.map_or(since, |seconds| {
            since.max(before(now, Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
        });
        let Some(first) = schedule.next(from) else {
            return Self { unmet_within_deadline_invalid: true, ..Self::default() };
        };
        let next = schedule.next(now);
        if now < first {
            return Self { next, ..Self::default() };
        }
        let second = schedule.next(first).filter(|second| *second <= now);
        let Some(second) = second else {
            return Self { due: Some(first), next, ..Self::default() };
        };
        let between = (second.as_second() - first.as_second()).max(1);
        let missed = (now.as_second() - first.as_second()) / between + 1;
        let many_missed = missed > CRON_MISSED_MAX;
        let due = latest(schedule, (second, now), between);
        Self { due: Some(due), next, many_missed, unmet_within_deadline_invalid: false }
    }
}

/// The last time of a schedule up to `now`, one of which is `known`: looked for in ever longer stretches before `now`.
fn latest(schedule: &Schedule, (known, now): (Timestamp, Timestamp), between: i64) -> Timestamp {
    let mut stretch = Duration::from_secs(u64::try_from(between).unwrap_or(1));
    let mut found = loop {
        let start = before(now, stretch);
        if start <= known {
            break known;
        }
        if let Some(first) = schedule.next(start).filter(|first| *first <= now) {
            break first;
        }
        stretch = stretch.saturating_mul(2);
    };
    while let Some(next) = schedule.next(found).filter(|next| *next <= now) {
        found = next;
    }
    found
}

fn before(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// Whether the deadline for starting is over.
pub(super) fn too_late(cron_job: &CronJob, due: Timestamp, now: Timestamp) -> bool {
    let deadline = cron_job.spec.starting_deadline_seconds;
    let deadline = deadline.and_then(|seconds| u64::try_from(seconds).ok());
    deadline.is_some_and(|seconds| crate::plan::after(due, Duration::from_secs(seconds)) < now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_is_found_however_long_ago_the_first_was() {
        let now: Timestamp = "2026-03-05T12:34:56Z".parse().unwrap();
        for (schedule, first, expected) in [
            ("* * * * *", "2016-01-01T00:00:00Z", "2026-03-05T12:34:00Z"),
            ("0 0 1 1 *", "2016-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("0,1 0 * * *", "2026-03-01T00:01:00Z", "2026-03-05T00:01:00Z"),
            ("0 13 * * *", "2026-03-05T13:00:00Z", "2026-03-05T13:00:00Z"),
        ] {
            let parsed = Schedule::parse(schedule, None).unwrap();
            let first: Timestamp = first.parse().unwrap();
            let found = latest(&parsed, (first, now), 60);
            assert_eq!(found.to_string(), expected, "{schedule}");
        }
    }
}
