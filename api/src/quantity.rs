//! `resource.Quantity`: amounts such as `100m`, `1.5Gi` or `2e3`, exact to a billionth.
//!
//! Follows apimachinery's `pkg/api/resource`: what parses, the canonical form (the largest suffix
//! that leaves an integer), rounding up of what is smaller than a billionth, and the cap at
//! 2^63-1 for amounts that do not fit. The value is `Copy` and compares as a number, so scheduler
//! and node agent can calculate with it directly.

use serde_json::Value;
use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Mul, Neg, Sub, SubAssign};
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
const CAP: i128 = i64::MAX as i128 * NANO;
/// More digits than this cannot be part of an amount that is not capped.
const DIGITS_MAX: usize = 29;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `k`, `M`, `G` and `m`, `u`, `n`.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, `Gi`.
    BinarySi,
    /// `e3`, `e6`.
    DecimalExponent,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not look like one.
    #[error(
        "quantities must match the regular expression \
         '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The suffix is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// The number cannot be read.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
}

/// An amount of something, in billionths, and how it is written. Equality and order are those of
/// the number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity { nano: 0, format: Format::DecimalSi };

    /// `value` whole units, written in `format`.
    #[must_use]
    pub const fn new(value: i64, format: Format) -> Quantity {
        Quantity { nano: value as i128 * NANO, format }
    }

    /// `milli` thousandths, written in `format`.
    #[must_use]
    pub const fn from_milli(milli: i64, format: Format) -> Quantity {
        Quantity { nano: milli as i128 * 1_000_000, format }
    }

    /// Reads the text of a quantity.
    pub fn parse(text: &str) -> Result<Quantity, Error> {
        parse(text)
    }

    /// Reads a quantity as JSON has it: a string or a number. Null and absence are zero.
    pub fn from_json(value: &Value) -> Result<Quantity, Error> {
        match value {
            Value::String(text) => parse(text.trim()),
            Value::Number(number) => parse(&number.to_string()),
            Value::Null => Ok(Quantity::ZERO),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(Error::Format),
        }
    }

    /// Whole units, rounded up (away from zero), capped to what fits.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.scaled(NANO)
    }

    /// Thousandths, rounded up (away from zero), capped to what fits.
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        self.scaled(1_000_000)
    }

    /// The amount in billionths.
    #[must_use]
    pub const fn nano_value(&self) -> i128 {
        self.nano
    }

    /// How it is written.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// -1, 0 or 1.
    #[must_use]
    pub const fn sign(&self) -> i32 {
        self.nano.signum() as i32
    }

    /// Whether it is a whole number of thousandths.
    #[must_use]
    pub const fn is_whole_milli(&self) -> bool {
        self.nano % 1_000_000 == 0
    }

    /// Whether it is a whole number.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.nano % NANO == 0
    }

    /// Rounded up (away from zero) to thousandths, as the API does with resource lists.
    #[must_use]
    pub const fn round_up_to_milli(self) -> Quantity {
        Quantity { nano: div_up(self.nano, 1_000_000) * 1_000_000, format: self.format }
    }

    fn scaled(&self, unit: i128) -> i64 {
        let value = div_up(self.nano, unit);
        i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
    }

    fn combine(self, nano: Option<i128>, other: Quantity) -> Quantity {
        let format = if self.nano == 0 { other.format } else { self.format };
        let nano = nano.unwrap_or(if other.nano < 0 { i128::MIN } else { i128::MAX });
        Quantity { nano, format }
    }
}

/// Integer division that rounds away from zero.
const fn div_up(n: i128, unit: i128) -> i128 {
    let whole = n / unit;
    if n % unit == 0 { whole } else { whole + n.signum() }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        self.combine(self.nano.checked_add(other.nano), other)
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Quantity) {
        *self = *self + other;
    }
}

impl Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        let format = if self.nano == 0 { other.format } else { self.format };
        Quantity { nano: self.nano.saturating_sub(other.nano), format }
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        *self = *self - other;
    }
}

impl Neg for Quantity {
    type Output = Quantity;

    fn neg(self) -> Quantity {
        Quantity { nano: self.nano.saturating_neg(), format: self.format }
    }
}

impl Mul<i64> for Quantity {
    type Output = Quantity;

    fn mul(self, factor: i64) -> Quantity {
        Quantity { nano: self.nano.saturating_mul(i128::from(factor)), format: self.format }
    }
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Quantity, Error> {
        parse(text)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let small = self.nano.abs() < 1024 * NANO;
        if self.format == Format::BinarySi && !small && self.is_whole() {
            let (mut number, mut power) = (self.nano / NANO, 0usize);
            while number % 1024 == 0 && power < BINARY.len() - 1 {
                number /= 1024;
                power += 1;
            }
            return write!(f, "{number}{}", BINARY[power]);
        }
        let (mut number, mut exponent) = (self.nano, -9i32);
        while number % 1000 == 0 && (exponent < 18 || self.format == Format::DecimalExponent) {
            number /= 1000;
            exponent += 3;
        }
        match (self.format, exponent) {
            (_, 0) => write!(f, "{number}"),
            (Format::DecimalExponent, e) => write!(f, "{number}e{e}"),
            (Format::DecimalSi | Format::BinarySi, e) => {
                let suffix = DECIMAL.iter().find(|(_, exp)| *exp == e).map_or("", |(s, _)| *s);
                write!(f, "{number}{suffix}")
            }
        }
    }
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

/// The parts of a quantity's text.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, Error> {
    let (negative, rest) = match text.as_bytes().first() {
        None => return Err(Error::Format),
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
    };
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let letters = suffix.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let tail = &suffix[letters..];
    let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if digits(tail) != tail.len() {
        return Err(Error::Format);
    }
    Ok(Parts { negative, whole: whole.trim_start_matches('0'), fraction, suffix })
}

fn parse(text: &str) -> Result<Quantity, Error> {
    let parts = split(text)?;
    let (format, exponent) = if let Some(power) = BINARY.iter().position(|s| *s == parts.suffix)
        && power > 0
    {
        (Format::BinarySi, i32::try_from(power * 10).unwrap_or(0))
    } else if let Some((_, e)) = DECIMAL.iter().find(|(s, _)| *s == parts.suffix) {
        (Format::DecimalSi, *e)
    } else if parts.suffix.len() > 1 && parts.suffix.starts_with(['e', 'E']) {
        let digits = &parts.suffix[1..];
        let digits = digits.strip_prefix('+').unwrap_or(digits);
        let exponent = digits.parse::<i32>().map_err(|_| Error::Suffix)?;
        (Format::DecimalExponent, exponent)
    } else {
        return Err(Error::Suffix);
    };
    let magnitude = if format == Format::BinarySi {
        binary(parts.whole, parts.fraction, exponent)
    } else {
        decimal(parts.whole, parts.fraction, exponent)
    };
    let nano = if parts.negative { -magnitude } else { magnitude };
    let format = match format {
        Format::BinarySi if magnitude > 0 && magnitude < NANO => Format::DecimalSi,
        other => other,
    };
    Ok(Quantity { nano, format })
}

/// `whole.fraction * 2^power` in billionths; more than that is rounded up.
fn binary(whole: &str, fraction: &str, power: i32) -> i128 {
    if whole.len() > DIGITS_MAX {
        return CAP;
    }
    let factor = 1i128 << power;
    let whole = number(whole).checked_mul(factor).and_then(|n| n.checked_mul(NANO));
    let (kept, rest) = fraction.split_at(fraction.len().min(9));
    let scale = 10i128.pow(u32::try_from(kept.len()).unwrap_or(9));
    let mut part = div_up(number(kept) * factor * NANO, scale);
    if rest.bytes().any(|b| b != b'0') {
        part += 1;
    }
    whole.and_then(|n| n.checked_add(part)).map_or(CAP, |n| n.min(CAP))
}

/// `whole.fraction * 10^exponent` in billionths; more than that is rounded up.
fn decimal(whole: &str, fraction: &str, exponent: i32) -> i128 {
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let places = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    let shift = i64::from(exponent) + 9 - places;
    if shift >= 0 {
        let length = i64::try_from(digits.len()).unwrap_or(i64::MAX);
        if length.saturating_add(shift) > 37 {
            return CAP;
        }
        let shift = u32::try_from(shift).unwrap_or(0);
        let nano = number(digits) * 10i128.pow(shift);
        // What upstream keeps in 18 digits it does not cap.
        return if digits.len() > 18 { nano.min(CAP) } else { nano };
    }
    let drop = usize::try_from(-shift).unwrap_or(usize::MAX);
    if drop >= digits.len() {
        return 1;
    }
    let (kept, rest) = digits.split_at(digits.len() - drop);
    if kept.len() > 37 {
        return CAP;
    }
    (number(kept) + i128::from(rest.bytes().any(|b| b != b'0'))).min(CAP)
}

/// The value of at most 37 ASCII digits.
fn number(digits: &str) -> i128 {
    digits.bytes().fold(0, |n, b| n * 10 + i128::from(b - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_forms() {
        for (input, want) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("-0.0m", "0"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            ("2000m", "2"),
            ("100m", "100m"),
            ("1.5", "1500m"),
            ("+5", "5"),
            ("-5", "-5"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000Mi", "1000Mi"),
            ("0.5Ki", "512"),
            ("0.5Gi", "512Mi"),
            ("1023", "1023"),
            ("1Ki", "1Ki"),
            ("512Ki", "512Ki"),
            ("1000", "1k"),
            ("12000000", "12M"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("1e-3", "1e-3"),
            ("100e4", "1e6"),
            ("1E", "1E"),
            ("1G", "1G"),
            ("001", "1"),
            (".5", "500m"),
            ("5.", "5"),
            ("1.001k", "1001"),
            ("0.0000000001", "1n"),
            ("1n", "1n"),
            ("1u", "1u"),
            ("0.001Ki", "1024m"),
            ("1.1Ki", "1126400m"),
            ("9223372036854775807", "9223372036854775807"),
            ("99999999999999999999999", "9223372036854775807"),
            ("100Ei", "9223372036854775807"),
            ("8Ei", "9223372036854775807"),
            ("-100Ei", "-9223372036854775807"),
        ] {
            let quantity = Quantity::parse(input).expect(input);
            assert_eq!(quantity.to_string(), want, "{input}");
            assert_eq!(Quantity::parse(want).unwrap(), quantity, "{input}");
        }
    }

    #[test]
    fn what_is_no_quantity() {
        for (input, want) in [
            ("", Error::Format),
            ("abc", Error::Format),
            ("1 ", Error::Format),
            ("1.5.5", Error::Format),
            ("10mm", Error::Suffix),
            ("1ki", Error::Suffix),
            ("1KiB", Error::Format),
            ("1e", Error::Suffix),
            ("1em", Error::Suffix),
            ("1-1", Error::Suffix),
            ("--1", Error::Suffix),
            ("1e99999999999", Error::Suffix),
        ] {
            assert_eq!(Quantity::parse(input).expect_err(input), want, "{input}");
        }
    }

    #[test]
    fn values_round_up() {
        for (input, value, milli) in [
            ("100m", 1, 100),
            ("1", 1, 1000),
            ("1n", 1, 1),
            ("-1500m", -2, -1500),
            ("1Gi", 1 << 30, (1 << 30) * 1000),
            ("9223372036854775807", i64::MAX, i64::MAX),
        ] {
            let quantity = Quantity::parse(input).unwrap();
            assert_eq!((quantity.value(), quantity.milli_value()), (value, milli), "{input}");
        }
        assert_eq!(Quantity::parse("1u").unwrap().round_up_to_milli().to_string(), "1m");
    }

    #[test]
    fn sums_keep_the_first_format() {
        let q = |s: &str| Quantity::parse(s).unwrap();
        assert_eq!((q("1Gi") + q("1000")).to_string(), "1073742824");
        assert_eq!((q("0") + q("1Gi")).to_string(), "1Gi");
        assert_eq!((q("1Gi") - q("512Mi")).to_string(), "512Mi");
        assert_eq!((-q("100m")).to_string(), "-100m");
        assert_eq!((q("250m") * 4).to_string(), "1");
        assert!(q("1k") == q("1000") && q("1Ki") > q("1k"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn canonical_text_is_a_fixed_point(
            number in "[+-]?[0-9]{1,25}(\\.[0-9]{0,25})?",
            suffix in "(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9]{1,2})?",
        ) {
            let quantity = Quantity::parse(&format!("{number}{suffix}")).unwrap();
            // Above the cap upstream itself has none: 1000000000000.0001G is kept, and written
            // with 19 digits, which are capped when they are read.
            prop_assume!(quantity.nano.abs() <= CAP);
            let text = quantity.to_string();
            let again = Quantity::parse(&text).unwrap();
            prop_assert_eq!(again.to_string(), text);
            prop_assert_eq!(again, quantity);
        }
    }
}
