//! The schedules of cron jobs: which texts upstream's parser (`robfig/cron`, `ParseStandard`) takes, and its words for
//! those it does not.
//!
//! Checks only: when a schedule is due is computed elsewhere.

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

/// What is wrong with a schedule.
///
/// # Errors
/// The first thing that the parser trips over, in its words.
pub fn check(schedule: &str) -> Result<(), String> {
    if schedule.is_empty() {
        return Err("empty spec string".to_owned());
    }
    let mut spec = schedule;
    if spec.starts_with("TZ=") || spec.starts_with("CRON_TZ=") {
        let Some((zone, rest)) = spec.split_once(' ') else {
            return Err(format!("provided bad location {spec}: no schedule follows"));
        };
        let name = zone.split_once('=').map_or("", |(_, name)| name);
        zone_known(name).map_err(|error| format!("provided bad location {name}: {error}"))?;
        spec = rest.trim();
    }
    if spec.starts_with('@') {
        return descriptor(spec);
    }
    let fields: Vec<&str> = spec.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly {} fields, found {}: [{}]",
            FIELDS.len(),
            fields.len(),
            fields.join(" ")
        ));
    }
    for (field, bounds) in fields.iter().zip(&FIELDS) {
        for range in field.split(',').filter(|range| !range.is_empty()) {
            check_range(range, bounds)?;
        }
    }
    Ok(())
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

fn descriptor(spec: &str) -> Result<(), String> {
    const KNOWN: [&str; 7] =
        ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    if KNOWN.contains(&spec) {
        return Ok(());
    }
    let Some(every) = spec.strip_prefix("@every ") else {
        return Err(format!("unrecognized descriptor: {spec}"));
    };
    crate::codec::scalar::duration(every)
        .map(drop)
        .map_err(|error| format!("failed to parse duration {spec}: {error}"))
}

fn check_range(expr: &str, bounds: &Bounds) -> Result<(), String> {
    let parts: Vec<&str> = expr.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let (start, mut end) = if matches!(ends[0], "*" | "?") {
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
            number(step)?
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
    Ok(())
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
