//! Scalars with a canonical spelling: times, durations, base64, quantities, floats.
//!
//! Errors are the texts of Go's parsers, because they reach the client.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

const RFC3339: &str = "2006-01-02T15:04:05Z07:00";
const RFC3339_MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";

/// A point in time, split for printing; always UTC.
struct Instant {
    seconds: i64,
    nanos: u32,
}

/// `metav1.Time`: RFC 3339, printed in UTC with whole seconds.
pub(crate) fn time(text: &str) -> Result<String, String> {
    if is_canonical_time(text) {
        return Ok(text.to_owned());
    }
    parse_rfc3339(text, RFC3339, false).map(|at| print_time(at.seconds, None))
}

/// `metav1.MicroTime`: printed in UTC with six decimals.
pub(crate) fn micro_time(text: &str) -> Result<String, String> {
    parse_rfc3339(text, RFC3339_MICRO, true).map(|at| print_time(at.seconds, Some(at.nanos)))
}

/// The JSON of a protobuf time; None is Go's zero time.
pub(crate) fn time_from_parts(seconds: i64, nanos: i32, micro: bool) -> Option<String> {
    // Year 1 to 9999, as Go's MarshalJSON demands.
    if !(-62_135_596_800..=253_402_300_799).contains(&seconds) {
        return None;
    }
    let nanos = u32::try_from(nanos).unwrap_or(0).min(999_999_999);
    Some(print_time(seconds, micro.then_some(nanos)))
}

/// The common case, checked without parsing: `2024-01-02T03:04:05Z` with plausible numbers.
fn is_canonical_time(text: &str) -> bool {
    let b = text.as_bytes();
    let number = |at: usize| match b[at..at + 2] {
        [a @ b'0'..=b'9', c @ b'0'..=b'9'] => (a - b'0') * 10 + (c - b'0'),
        _ => u8::MAX,
    };
    b.len() == 20
        && (b[4], b[7], b[10], b[13], b[16], b[19]) == (b'-', b'-', b'T', b':', b':', b'Z')
        && (number(0), number(2)) != (0, 0)
        && number(0) <= 99
        && number(2) <= 99
        && (1..=12).contains(&number(5))
        && (1..=28).contains(&number(8))
        && number(11) <= 23
        && number(14) <= 59
        && number(17) <= 59
}

/// Go's `time.Parse` for the two RFC 3339 layouts.
fn parse_rfc3339(text: &str, layout: &str, six_digits: bool) -> Result<Instant, String> {
    let quoted = crate::text::quote(text);
    let fail = |rest: &str, element: &str| {
        let rest = crate::text::quote(rest);
        format!("parsing time {quoted} as \"{layout}\": cannot parse {rest} as \"{element}\"")
    };
    let range = |what: &str| format!("parsing time {quoted}: {what} out of range");
    let mut rest = text;
    let mut parts = [0i64; 6];
    const ELEMENTS: [(&str, usize, &str); 6] = [
        ("2006", 4, "-"),
        ("01", 2, "-"),
        ("02", 2, "T"),
        ("15", 2, ":"),
        ("04", 2, ":"),
        ("05", 2, ""),
    ];
    for (part, (element, digits, separator)) in parts.iter_mut().zip(ELEMENTS) {
        let head = rest.get(..digits).filter(|h| h.bytes().all(|b| b.is_ascii_digit()));
        let Some(head) = head else { return Err(fail(rest, element)) };
        *part = head.parse().map_err(|_| fail(rest, element))?;
        rest = &rest[digits..];
        let limit = match element {
            "01" if !(1..=12).contains(part) => Some("month"),
            "02" if !(1..=31).contains(part) => Some("day"),
            "15" if *part > 23 => Some("hour"),
            "04" if *part > 59 => Some("minute"),
            "05" if *part > 59 => Some("second"),
            _ => None,
        };
        if let Some(what) = limit {
            return Err(range(what));
        }
        rest = rest.strip_prefix(separator).ok_or_else(|| fail(rest, separator))?;
    }
    let mut nanos = 0u32;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || six_digits && digits < 6 {
            return Err(fail(rest, if six_digits { ".000000" } else { "Z07:00" }));
        }
        for at in 0..9 {
            let digit = fraction.as_bytes().get(at).filter(|_| at < digits).map_or(0, |d| d - b'0');
            nanos = nanos * 10 + u32::from(digit);
        }
        rest = &fraction[digits..];
    } else if six_digits {
        return Err(fail(rest, ".000000"));
    }
    let offset = zone(rest).ok_or_else(|| fail(rest, "Z07:00"))?;
    let days = days_in_month(parts[0], parts[1]);
    if parts[2] > days {
        return Err(range("day"));
    }
    let day = days_from_civil(parts[0], parts[1], parts[2]);
    let seconds = day * 86_400 + parts[3] * 3_600 + parts[4] * 60 + parts[5] - offset;
    Ok(Instant { seconds, nanos })
}

fn zone(rest: &str) -> Option<i64> {
    if rest == "Z" {
        return Some(0);
    }
    let bytes = rest.as_bytes();
    let (sign, digits) = match bytes {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let [a, b, b':', c, d] = digits else { return None };
    let digit = |d: &u8| d.is_ascii_digit().then(|| i64::from(d - b'0'));
    let (hours, minutes) = (digit(a)? * 10 + digit(b)?, digit(c)? * 10 + digit(d)?);
    (hours <= 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn print_time(seconds: i64, nanos: Option<u32>) -> String {
    let days = seconds.div_euclid(86_400) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    let whole = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    match nanos {
        None => whole + "Z",
        Some(nanos) => format!("{whole}.{:06}Z", nanos / 1_000),
    }
}

/// `metav1.Duration`: Go's `time.ParseDuration`, printed as `Duration.String` does.
pub(crate) fn duration(text: &str) -> Result<String, String> {
    parse_duration(text)
        .map(print_duration)
        .ok_or_else(|| format!("time: invalid duration {}", crate::text::quote(text)))
}

pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let whole = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole_text, after) = rest.split_at(whole);
        let fraction_text = match after.strip_prefix('.') {
            Some(after) => &after[..after.bytes().take_while(u8::is_ascii_digit).count()],
            None => "",
        };
        if whole_text.is_empty() && fraction_text.is_empty() {
            return None;
        }
        let after = after.strip_prefix('.').map_or(after, |a| &a[fraction_text.len()..]);
        let unit_len = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let whole: i128 = if whole_text.is_empty() { 0 } else { whole_text.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        let digits = fraction_text.get(..fraction_text.len().min(15)).unwrap_or("");
        if !digits.is_empty() {
            let scale = 10i128.pow(u32::try_from(digits.len()).ok()?);
            total += digits.parse::<i128>().ok()? * unit / scale;
        }
        rest = next;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Go's `Duration.String`: `1h2m3.5s`, `1.5ms`, `0s`.
pub(crate) fn print_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let decimal = |value: u64, unit: u64| {
        let (whole, fraction) = (value / unit, value % unit);
        if fraction == 0 {
            return whole.to_string();
        }
        let digits = unit.ilog10() as usize;
        format!("{whole}.{}", format!("{fraction:0digits$}").trim_end_matches('0'))
    };
    match total {
        0..1_000 => format!("{sign}{total}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(total, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(total, 1_000_000)),
        _ => {
            let minutes = total / 60_000_000_000;
            let seconds = decimal(total % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// Standard base64, line breaks removed (Go's decoder skips them).
pub(crate) fn base64_text(text: &str) -> Result<String, String> {
    let clean: String;
    let input = if text.contains(['\r', '\n']) {
        clean = text.replace(['\r', '\n'], "");
        &clean
    } else {
        text
    };
    let config = base64::engine::GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    let lenient = base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    match lenient.decode(input) {
        Ok(bytes) => Ok(STANDARD.encode(bytes)),
        Err(_) => Err(format!("illegal base64 data at input byte {}", corrupt_at(text.as_bytes()))),
    }
}

/// Where Go's decoder says that base64 is corrupt.
fn corrupt_at(text: &[u8]) -> usize {
    let is_break = |at: usize| text.get(at).is_some_and(|b| matches!(b, b'\r' | b'\n'));
    let skip_breaks = |mut at: usize| {
        while is_break(at) {
            at += 1;
        }
        at
    };
    let (mut at, mut of_quantum) = (0, 0);
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => {
                of_quantum = (of_quantum + 1) % 4;
            }
            b'\r' | b'\n' => {}
            b'=' if of_quantum >= 2 => {
                if of_quantum == 2 {
                    at = skip_breaks(at);
                    match text.get(at) {
                        None => return text.len(),
                        Some(b'=') => at += 1,
                        Some(_) => return at - 1,
                    }
                }
                return skip_breaks(at);
            }
            _ => return at - 1,
        }
    }
    at - of_quantum
}

/// Bytes as JSON has them.
pub(crate) fn base64_bytes(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A float as Go prints it: integral values without a point.
pub(crate) fn float(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[allow(clippy::cast_possible_truncation)] // integral and below 2^53
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Value::from(value as i64);
    }
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// The canonical spelling of a quantity (`1000m` is `1`); upstream's error text otherwise.
pub(crate) fn quantity(text: &str) -> Result<String, String> {
    // The common small whole numbers are their own canonical form.
    let bytes = text.as_bytes();
    if bytes == b"0"
        || bytes.len() < 3
            && bytes.iter().all(u8::is_ascii_digit)
            && !bytes.starts_with(b"0")
            && !bytes.is_empty()
    {
        return Ok(text.to_owned());
    }
    crate::quantity::Quantity::parse(text)
        .map(|quantity| quantity.to_string())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_and_refused_as_go_does() {
        for (text, expected) in [
            ("2024-02-29T23:59:59Z", Ok("2024-02-29T23:59:59Z")),
            ("2024-02-29T23:59:59.999999999Z", Ok("2024-02-29T23:59:59Z")),
            ("2024-12-31T23:30:00-01:00", Ok("2025-01-01T00:30:00Z")),
            ("0001-01-01T00:00:00Z", Ok("0001-01-01T00:00:00Z")),
            (
                "2023-02-29T00:00:00Z",
                Err("parsing time \"2023-02-29T00:00:00Z\": day out of range"),
            ),
            (
                "2023-13-01T00:00:00Z",
                Err("parsing time \"2023-13-01T00:00:00Z\": month out of range"),
            ),
            (
                "2023-01-01",
                Err(
                    "parsing time \"2023-01-01\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"T\"",
                ),
            ),
            (
                "",
                Err(
                    "parsing time \"\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"2006\"",
                ),
            ),
            (
                "2023-01-01T00:00:00",
                Err(
                    "parsing time \"2023-01-01T00:00:00\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"Z07:00\"",
                ),
            ),
        ] {
            let result = time(text);
            assert_eq!(result.as_deref().map_err(String::as_str), expected, "{text}");
        }
        assert_eq!(
            micro_time("2024-01-01T00:00:00.123456789Z").unwrap(),
            "2024-01-01T00:00:00.123456Z"
        );
        assert!(micro_time("2024-01-01T00:00:00Z").is_err());
    }

    proptest! {
        #[test]
        fn times_agree_with_another_calendar(seconds in -62_135_596_800i64..253_402_300_799) {
            let ours = time_from_parts(seconds, 0, false).unwrap();
            let theirs = jiff::Timestamp::from_second(seconds).unwrap();
            prop_assert_eq!(&ours, &theirs.to_string());
            prop_assert_eq!(time(&ours).unwrap(), ours);
        }

        #[test]
        fn durations_read_what_they_print(nanos in any::<i64>()) {
            prop_assume!(nanos != i64::MIN);
            let text = print_duration(nanos);
            prop_assert_eq!(parse_duration(&text), Some(nanos), "{}", text);
        }
    }

    #[test]
    fn durations_are_spelled_as_go_spells_them() {
        for (text, expected) in [
            ("1h", "1h0m0s"),
            ("90m", "1h30m0s"),
            ("1.5h", "1h30m0s"),
            ("1500ms", "1.5s"),
            ("1us", "1µs"),
            ("-2m3s", "-2m3s"),
            ("0", "0s"),
            ("+5s", "5s"),
            (".5s", "500ms"),
        ] {
            assert_eq!(duration(text).unwrap(), expected, "{text}");
        }
        for text in ["", "1", "s", "1x", "1h-2m", ".s", "99999999999h"] {
            let error = duration(text).unwrap_err();
            assert_eq!(error, format!("time: invalid duration {text:?}"));
        }
    }

    #[test]
    fn base64_names_the_corrupt_byte_as_go_does() {
        for (text, at) in [
            ("abc", 0),
            ("abcde", 4),
            ("ab!d", 2),
            ("a===", 1),
            ("ab=c", 2),
            ("YQ==YQ==", 4),
            ("YQ=", 3),
            ("=", 0),
            ("YWJj\nZ", 5),
        ] {
            let error = base64_text(text).unwrap_err();
            assert_eq!(error, format!("illegal base64 data at input byte {at}"), "{text:?}");
        }
        assert_eq!(base64_text("YW\r\nJj").unwrap(), "YWJj");
        assert_eq!(base64_text("YR==").unwrap(), "YQ==", "trailing bits are ignored");
    }

    #[test]
    fn floats_are_spelled_as_go_spells_them() {
        for (value, expected) in [(1.0, "1"), (-0.5, "-0.5"), (1e3, "1000"), (0.0, "0")] {
            assert_eq!(float(value).to_string(), expected);
        }
    }
}
