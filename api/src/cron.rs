//! The schedules of cron jobs: which texts upstream's parser (`robfig/cron`, `ParseStandard`) takes, and its words for
//! those it does not, and when they are due.
//!
//! Own code: the crates for this have other fields (seconds, `7` for Sunday, `L`, `#`), other rules for days of the
//! month and of the week together, and other errors.

mod next;

use jiff::tz::TimeZone;

/// The values of a field: its least and greatest number, and the names of some.
struct Bounds {
    min: i64,
    max: i64,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Bounds; 5] = [
    Bounds { min: 0, max: 59, names: &[] },
    Bounds { min: 0, max: 23, names: &[] },
    Bounds { min: 1, max: 31, names: &[] },
    Bounds { min: 1, max: 12, names: &MONTHS },
    Bounds { min: 0, max: 6, names: &DAYS },
];

/// A schedule, ready to be asked.
#[derive(Debug, Clone)]
pub struct Schedule {
    when: When,
    zone: TimeZone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum When {
    /// Minutes, hours, days of the month, months, days of the week.
    Fields([Field; 5]),
    /// So many seconds after the last time.
    Every(i64),
}

/// The values of one field that fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Field {
    /// One bit for each.
    bits: u64,
    /// All fit: for days this is not the same as naming all.
    star: bool,
}

impl Schedule {
    /// Reads a schedule; a zone that it names itself comes before `zone`, which is UTC when it is not given.
    ///
    /// # Errors
    /// The first thing that upstream's parser trips over, in its words.
    pub fn parse(schedule: &str, zone: Option<&str>) -> Result<Self, String> {
        if schedule.is_empty() {
            return Err("empty spec string".to_owned());
        }
        let mut spec = schedule;
        let mut zone = zone.unwrap_or_default();
        if spec.starts_with("TZ=") || spec.starts_with("CRON_TZ=") {
            let Some((named, rest)) = spec.split_once(' ') else {
                return Err(format!("provided bad location {spec}: no schedule follows"));
            };
            zone = named.split_once('=').map_or("", |(_, name)| name);
            spec = rest.trim();
        }
        zone_known(zone).map_err(|error| format!("provided bad location {zone}: {error}"))?;
        let zone = match zone {
            "" | "UTC" | "Local" => TimeZone::UTC,
            name => TimeZone::get(name)
                .map_err(|_| format!("provided bad location {name}: unknown time zone {name}"))?,
        };
        let when = if spec.starts_with('@') { descriptor(spec)? } else { fields(spec)? };
        Ok(Self { when, zone })
    }
}

/// What is wrong with a schedule.
///
/// # Errors
/// The first thing that the parser trips over, in its words.
pub fn check(schedule: &str) -> Result<(), String> {
    Schedule::parse(schedule, None).map(drop)
}

fn fields(spec: &str) -> Result<When, String> {
    let texts: Vec<&str> = spec.split_whitespace().collect();
    if texts.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly {} fields, found {}: [{}]",
            FIELDS.len(),
            texts.len(),
            texts.join(" ")
        ));
    }
    let mut fields = [Field::default(); 5];
    for ((text, bounds), field) in texts.iter().zip(&FIELDS).zip(&mut fields) {
        for expr in text.split(',').filter(|expr| !expr.is_empty()) {
            let more = range(expr, bounds)?;
            field.bits |= more.bits;
            field.star |= more.star;
        }
    }
    Ok(When::Fields(fields))
}

/// Whether a time zone is one of the IANA database, in Go's words if it is not.
///
/// # Errors
/// `unknown time zone X`.
pub fn zone_known(name: &str) -> Result<(), String> {
    if matches!(name, "" | "UTC" | "Local") {
        return Ok(());
    }
    // The database is read without regard to case; Go's is not.
    let zone = jiff::tz::TimeZone::get(name).ok();
    if zone.is_some_and(|zone| zone.iana_name() == Some(name)) {
        return Ok(());
    }
    Err(format!("unknown time zone {name}"))
}

fn descriptor(spec: &str) -> Result<When, String> {
    match spec {
        "@yearly" | "@annually" => return fields("0 0 1 1 *"),
        "@monthly" => return fields("0 0 1 * *"),
        "@weekly" => return fields("0 0 * * 0"),
        "@daily" | "@midnight" => return fields("0 0 * * *"),
        "@hourly" => return fields("0 * * * *"),
        _ => {}
    }
    let Some(every) = spec.strip_prefix("@every ") else {
        return Err(format!("unrecognized descriptor: {spec}"));
    };
    crate::codec::scalar::duration(every)
        .map_err(|error| format!("failed to parse duration {spec}: {error}"))?;
    let nanos = crate::codec::scalar::parse_duration(every).unwrap_or(0);
    Ok(When::Every((nanos / 1_000_000_000).max(1)))
}

fn range(expr: &str, bounds: &Bounds) -> Result<Field, String> {
    let parts: Vec<&str> = expr.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let mut star = matches!(ends[0], "*" | "?");
    let (start, mut end) = if star {
        (bounds.min, bounds.max)
    } else {
        let start = number_or_name(ends[0], bounds)?;
        match ends.as_slice() {
            [_] => (start, start),
            [_, end] => (start, number_or_name(end, bounds)?),
            _ => return Err(format!("too many hyphens: {expr}")),
        }
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            if ends.len() == 1 {
                end = bounds.max;
            }
            let step = number(step)?;
            star &= step <= 1;
            step
        }
        _ => return Err(format!("too many slashes: {expr}")),
    };
    let (min, max) = (bounds.min, bounds.max);
    if start < min {
        return Err(format!("beginning of range ({start}) below minimum ({min}): {expr}"));
    }
    if end > max {
        return Err(format!("end of range ({end}) above maximum ({max}): {expr}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {expr}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {expr}"));
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    let bits = (start..=end).step_by(step).fold(0, |bits, value| bits | 1u64 << value);
    Ok(Field { bits, star })
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<i64, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(at) => Ok(bounds.min + i64::try_from(at).unwrap_or(0)),
        None => number(text),
    }
}

fn number(text: &str) -> Result<i64, String> {
    let number: i64 = text.parse().map_err(|_| {
        let shown = crate::text::quote(text);
        format!("failed to parse int from {text}: strconv.Atoi: parsing {shown}: invalid syntax")
    })?;
    if number < 0 {
        return Err(format!("negative number ({number}) not allowed: {text}"));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_that_are_taken() {
        for schedule in [
            "* * * * *",
            "*/5 0-6 1,15 jan-MAR ?",
            "0 0 1/2 * mon",
            "@hourly",
            "@every 1h30m",
            "TZ=Europe/Prague 0 0 * * *",
            " 0   0 * * * ",
        ] {
            assert_eq!(check(schedule), Ok(()), "{schedule}");
        }
    }

    #[test]
    fn schedules_that_are_not() {
        for (schedule, want) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("error", "expected exactly 5 fields, found 1: [error]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-2 * * * *", "beginning of range (5) beyond end of range (2): 5-2"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            (
                "a * * * *",
                "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
            ),
            ("@often", "unrecognized descriptor: @often"),
            (
                "TZ=Nowhere/No * * * * *",
                "provided bad location Nowhere/No: unknown time zone Nowhere/No",
            ),
        ] {
            assert_eq!(check(schedule), Err(want.to_owned()), "{schedule}");
        }
    }

    #[test]
    fn zones_are_spelled_as_they_are() {
        for (zone, known) in
            [("Europe/Prague", true), ("Etc/UTC", true), ("europe/prague", false), ("X/Y", false)]
        {
            assert_eq!(zone_known(zone).is_ok(), known, "{zone}");
        }
    }
}
