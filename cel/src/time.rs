//! Times and lengths of time as Go reads and writes them, and their parts in time zones.

use chrono::{DateTime, FixedOffset, TimeZone as _, Utc};
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use kube_cel::cel::Value;

/// A whole number that a float is, when it is one.
pub(crate) fn whole(float: f64) -> Option<i64> {
    // 2^53: up to here every whole number is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[allow(clippy::cast_possible_truncation, reason = "whole, and within what is exact")]
    (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i64)
}

/// RFC 3339, or a date alone.
pub(crate) fn timestamp(text: &str) -> Option<DateTime<FixedOffset>> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at);
    }
    let date = text.parse::<chrono::NaiveDate>().ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().fixed_offset())
}

/// Seconds since 1970.
pub(crate) fn of_seconds(seconds: i64) -> Option<DateTime<FixedOffset>> {
    Some(Utc.timestamp_opt(seconds, 0).single()?.fixed_offset())
}

/// RFC 3339 with `Z`, and no more digits than it takes.
pub(crate) fn shown(at: &DateTime<FixedOffset>) -> String {
    at.to_utc().to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// `1h30m`, `-1.5s`, `300ms`.
pub(crate) fn duration(text: &str) -> Option<chrono::Duration> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(chrono::Duration::zero());
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        // The longer units first: `m` begins `ms`.
        let (unit, length) = [
            ("ns", 1.0),
            ("us", 1e3),
            ("µs", 1e3),
            ("ms", 1e6),
            ("s", 1e9),
            ("m", 6e10),
            ("h", 3.6e12),
        ]
        .into_iter()
        .find(|(unit, _)| rest.starts_with(unit))?;
        nanoseconds += number * length;
        rest = &rest[unit.len()..];
    }
    // What does not fit is refused; below, the cast cannot lose but fractions.
    if nanoseconds >= 9.2e18 {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, reason = "checked above")]
    let nanoseconds = (sign * nanoseconds) as i64;
    Some(chrono::Duration::nanoseconds(nanoseconds))
}

/// Seconds with `s`, as the language writes lengths of time.
pub(crate) fn shown_duration(length: &chrono::Duration) -> String {
    let nanoseconds = length.num_nanoseconds().unwrap_or(i64::MAX);
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let nanoseconds = nanoseconds.unsigned_abs();
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    if rest == 0 {
        return format!("{sign}{seconds}s");
    }
    let rest = format!("{rest:09}");
    format!("{sign}{seconds}.{}s", rest.trim_end_matches('0'))
}

/// A part of a time, where a time zone is when it is named.
pub(crate) fn part(at: &DateTime<FixedOffset>, name: &str, zone: &str) -> Result<Value, String> {
    let zone = zone_of(zone)?;
    let nanoseconds =
        i128::from(at.timestamp()) * 1_000_000_000 + i128::from(at.timestamp_subsec_nanos());
    let at = Timestamp::from_nanosecond(nanoseconds);
    let at = at.map_err(|_| "timestamp overflow".to_owned())?.to_zoned(zone);
    Ok(Value::Int(match name {
        "getFullYear" => at.year().into(),
        "getMonth" => i64::from(at.month()) - 1,
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDate" => at.day().into(),
        "getDayOfWeek" => at.weekday().to_sunday_zero_offset().into(),
        "getHours" => at.hour().into(),
        "getMinutes" => at.minute().into(),
        "getSeconds" => at.second().into(),
        _ => at.millisecond().into(),
    }))
}

/// A name of the database, or an offset like `-08:00`.
fn zone_of(name: &str) -> Result<TimeZone, String> {
    if name.is_empty() || name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let unknown = || format!("unknown time zone {name}");
    let Some((hours, minutes)) = name.split_once(':') else {
        return TimeZone::get(name).map_err(|_| unknown());
    };
    let hours: i32 = hours.parse().map_err(|_| unknown())?;
    let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
    let minutes = if name.starts_with('-') { -minutes } else { minutes };
    let seconds = hours.checked_mul(3600).and_then(|s| s.checked_add(minutes.checked_mul(60)?));
    let offset = seconds.and_then(|seconds| Offset::from_seconds(seconds).ok());
    Ok(TimeZone::fixed(offset.ok_or_else(unknown)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_go_reads_them() {
        for (text, want) in [
            ("1h30m", Some("5400s")),
            ("-1.5s", Some("-1.5s")),
            ("300ms", Some("0.3s")),
            ("0", Some("0s")),
            ("", None),
            ("5", None),
            ("1x", None),
            ("999999999h", None),
        ] {
            assert_eq!(duration(text).map(|d| shown_duration(&d)).as_deref(), want, "{text}");
        }
    }
}
