//! When a schedule is due next (`robfig/cron`, `SpecSchedule.Next`).
//!
//! A time that a clock skips when summer comes is never due; one that it shows twice is due both times.

use jiff::civil::{Date, DateTime};
use jiff::{Span, Timestamp};

use super::{Field, Schedule, When};

/// How far is looked ahead: what is not due within that (the 31st of February) never is.
const YEARS_MAX: i16 = 5;

impl Schedule {
    /// The first time after this one; `None` when there is none.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let second = after.as_second();
        let second = match &self.when {
            When::Every(seconds) => second.checked_add(*seconds)?,
            When::Fields(fields) => self.next_of(fields, second)?,
        };
        Timestamp::from_second(second).ok()
    }

    fn next_of(&self, fields: &[Field; 5], after: i64) -> Option<i64> {
        let [minutes, hours, _, months, _] = fields;
        let mut at = after + 1;
        let last_year = self.shown(at)?.year().checked_add(YEARS_MAX)?;
        loop {
            let now = self.shown(at)?;
            if now.year() > last_year {
                return None;
            }
            let (minute, second) = (i64::from(now.minute()), i64::from(now.second()));
            if !months.has(now.month()) {
                let next = now.date().first_of_month().checked_add(Span::new().months(1)).ok()?;
                at = self.midnight(next)?;
            } else if !day_fits(fields, now.date()) {
                at = self.midnight(now.date().tomorrow().ok()?)?;
            } else if !hours.has(now.hour()) {
                at += 3600 - minute * 60 - second;
            } else if !minutes.has(now.minute()) || second != 0 {
                at += 60 - second;
            } else {
                return Some(at);
            }
        }
    }

    /// What clocks show.
    fn shown(&self, second: i64) -> Option<DateTime> {
        Some(self.zone.to_datetime(Timestamp::from_second(second).ok()?))
    }

    /// When a day begins.
    fn midnight(&self, date: Date) -> Option<i64> {
        Some(date.to_zoned(self.zone.clone()).ok()?.timestamp().as_second())
    }
}

impl Field {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.bits.checked_shr(value).unwrap_or(0) & 1 == 1)
    }
}

/// Where days of the month and of the week are both named, one of the two is enough.
fn day_fits([_, _, days, _, weekdays]: &[Field; 5], date: Date) -> bool {
    let day = days.has(date.day());
    let weekday = weekdays.has(date.weekday().to_sunday_zero_offset());
    if days.star || weekdays.star { day && weekday } else { day || weekday }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next times after one, in UTC.
    fn times(schedule: &str, zone: Option<&str>, from: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(schedule, zone).unwrap();
        let mut at: Timestamp = from.parse().unwrap();
        let mut times = Vec::new();
        while times.len() < count
            && let Some(next) = schedule.next(at)
        {
            times.push(next.to_string());
            at = next;
        }
        times
    }

    #[test]
    fn schedules_are_due_as_upstreams_are() {
        for (schedule, from, expected) in [
            // From robfig's own table.
            ("0/15 * * * *", "2012-07-09T14:45:00Z", "2012-07-09T15:00:00Z"),
            ("20-35/15 * * * *", "2012-07-09T14:45:00Z", "2012-07-09T15:20:00Z"),
            ("*/15 * * * *", "2012-07-09T23:46:00Z", "2012-07-10T00:00:00Z"),
            ("20-35/15 1/2 * * *", "2012-07-09T23:35:51Z", "2012-07-10T01:20:00Z"),
            ("20-35/15 * 1/2 * *", "2012-07-09T23:35:51Z", "2012-07-11T00:20:00Z"),
            ("0 0 9 Apr-Oct ?", "2012-07-09T23:35:00Z", "2012-08-09T00:00:00Z"),
            ("0 0 */5 Apr,Aug,Oct Mon", "2012-07-09T23:35:00Z", "2012-08-01T00:00:00Z"),
            ("0 0 29 Feb ?", "2012-07-09T23:35:00Z", "2016-02-29T00:00:00Z"),
            ("0 0 1 * mon", "2026-01-02T00:00:00Z", "2026-01-05T00:00:00Z"),
            ("0 0 */1 * mon", "2026-01-02T00:00:00Z", "2026-01-05T00:00:00Z"),
            ("0 0 1-31 * mon", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"),
            ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("@every 1h30m10s", "2026-01-01T00:00:00.5Z", "2026-01-01T01:30:10Z"),
            ("* * * * *", "2026-01-01T00:00:00.9Z", "2026-01-01T00:01:00Z"),
        ] {
            assert_eq!(times(schedule, None, from, 1), [expected], "{schedule} from {from}");
        }
        assert!(times("59 23 31 2 *", None, "2026-01-01T00:00:00Z", 1).is_empty());
        assert!(times("0 0 30 Feb ?", None, "2026-01-01T00:00:00Z", 1).is_empty());
    }

    #[test]
    fn zones_and_their_summer_count() {
        let prague = Some("Europe/Prague");
        let noon = times("0 12 * * *", prague, "2026-03-28T00:00:00Z", 2);
        assert_eq!(noon, ["2026-03-28T11:00:00Z", "2026-03-29T10:00:00Z"]);
        // At two o'clock it is three at once: nothing is due at half past two.
        let skipped = times("30 2 * * *", prague, "2026-03-28T12:00:00Z", 1);
        assert_eq!(skipped, ["2026-03-30T00:30:00Z"]);
        // At three o'clock it is two again.
        let twice = times("30 2 * * *", prague, "2026-10-24T12:00:00Z", 3);
        assert_eq!(twice, ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"]);
        let own = times("TZ=Asia/Tokyo 0 9 * * *", prague, "2026-01-01T01:00:00Z", 1);
        assert_eq!(own, ["2026-01-02T00:00:00Z"]);
    }
}
