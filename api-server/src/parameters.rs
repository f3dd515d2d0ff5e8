//! Query parameters: a list of decoded pairs, and the options of each verb in them.

use std::time::Duration;

use http::Uri;

use crate::status_error::{Answer, Refusal};
use quorate_api::status::Status;

/// Decoded query parameters in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// The parameters of a request.
    #[must_use]
    pub fn of(uri: &Uri) -> Self {
        let text = uri.query().unwrap_or_default();
        let pairs = text
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (unescape_form(name), unescape_form(value))
            })
            .collect();
        Self { pairs }
    }

    /// The first value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter, "" when it is not there.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.pairs.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// A flag as Kubernetes reads it: there and neither `false` nor `0`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !value.eq_ignore_ascii_case("false") && value != "0")
    }

    /// How long the client wants to wait at most (`timeout=`); `None`: it does not say, or does
    /// not mind.
    ///
    /// # Errors
    /// 400 when it is no duration.
    pub(crate) fn timeout(&self) -> Answer<Option<Duration>> {
        let text = self.text("timeout");
        if text.is_empty() {
            return Ok(None);
        }
        match duration(text) {
            Ok(asked) if asked.is_zero() || text.starts_with('-') => Ok(None),
            Ok(asked) => Ok(Some(asked)),
            Err(why) => Err(bad(&format!("invalid timeout specified in the request URL - {why}"))),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn number(&self, name: &str) -> Answer<Option<i64>> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                bad(&format!("strconv.ParseInt: parsing {}: invalid syntax", quoted(text)))
            }),
        }
    }
}

/// A duration as Go's `time.ParseDuration` reads it, without its sign: `1m30s`.
///
/// # Errors
/// Go's text.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {}", quoted(text));
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = match unit {
            "" => return Err(format!("time: missing unit in duration {}", quoted(text))),
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            other => {
                let (unit, text) = (quoted(other), quoted(text));
                return Err(format!("time: unknown unit {unit} in duration {text}"));
            }
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        if after.is_empty() {
            return Ok(total);
        }
        rest = after;
    }
}

fn bad(message: &str) -> Refusal {
    Box::new(Status::bad_request(message))
}

pub(crate) fn quoted(text: &str) -> String {
    quorate_api::text::quote(text)
}

/// Undoes percent escapes; invalid ones stay as they are.
#[must_use]
pub(crate) fn unescape(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        if let Some(byte) = escaped {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn unescape_form(text: &str) -> String {
    if text.contains('+') { unescape(&text.replace('+', " ")) } else { unescape(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("1m30s", Ok(90_000)),
            ("1.5s", Ok(1500)),
            ("250ms", Ok(250)),
            ("0", Ok(0)),
            ("10", Err("time: missing unit in duration \"10\"")),
            ("1x", Err("time: unknown unit \"x\" in duration \"1x\"")),
            ("abc", Err("time: invalid duration \"abc\"")),
        ];
        for (text, want) in cases {
            let got = duration(text).map(|read| read.as_millis());
            assert_eq!(got, want.map_err(str::to_owned), "{text}");
        }
    }
}
