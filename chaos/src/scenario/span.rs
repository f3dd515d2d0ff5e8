//! Durations as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::limits::CLOCK_SHIFT_MAX;

/// A duration in milliseconds, written `300ms`, `5s`, `2m` or `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

impl Span {
    /// As the standard library has it.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms >= 3_600_000 && ms.is_multiple_of(3_600_000) => {
                write!(f, "{}h", ms / 3_600_000)
            }
            ms if ms >= 60_000 && ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            ms if ms >= 1000 && ms.is_multiple_of(1000) => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!("{text:?} is no duration: write a whole number and ms, s, m or h: 300ms, 5s")
        };
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(refuse()),
        };
        let number: u64 = number.parse().map_err(|_| refuse())?;
        number.checked_mul(unit).map(Self).ok_or_else(refuse)
    }
}

/// A duration forward or back, in milliseconds, written `1h` or `-90s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shift(pub i64);

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}", Span(self.0.unsigned_abs()))
    }
}

impl Serialize for Shift {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Shift {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let span: Span = digits.parse().map_err(|why: String| format!("{why}, -1h"))?;
        let max = CLOCK_SHIFT_MAX;
        match i64::try_from(span.0) {
            Ok(0) => Err("that is no change".into()),
            Ok(ms) if span.duration() <= max => Ok(Self(sign * ms)),
            _ => Err(format!("{text:?} is too far: {} days at most", max.as_secs() / 86_400)),
        }
    }
}

/// Reads `500ms..3s`, or one duration for both ends.
///
/// # Errors
/// A sentence that says what is allowed.
pub fn range(text: &str) -> Result<(Span, Span), String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let (from, to): (Span, Span) = (from.trim().parse()?, to.trim().parse()?);
    if from > to {
        return Err(format!("{text:?} ends before it begins: write the shorter one first"));
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, ms, written) in [
            ("300ms", 300, "300ms"),
            ("5s", 5000, "5s"),
            ("1500ms", 1500, "1500ms"),
            ("120s", 120_000, "2m"),
            ("1h", 3_600_000, "1h"),
            ("0s", 0, "0ms"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.0, span.to_string().as_str()), (ms, written), "{text}");
            assert_eq!(span.to_string().parse(), Ok(span));
        }
    }

    #[test]
    fn everything_else_is_refused_with_what_is_allowed() {
        for text in ["", "5", "s", "5 s", "1.5s", "-1s", "5sec", "99999999999999999999s"] {
            let error = text.parse::<Span>().unwrap_err();
            assert!(error.contains("write a whole number and ms, s, m or h"), "{error}");
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(range("500ms..3s"), Ok((Span(500), Span(3000))));
        assert_eq!(range("2s"), Ok((Span(2000), Span(2000))));
        assert!(range("3s..1s").unwrap_err().contains("ends before it begins"));
        assert!(range("3..1s").is_err());
    }
}
