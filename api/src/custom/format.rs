//! The formats of strings that are checked. Formats that upstream does not know are not checked either.

use std::sync::LazyLock;

use base64::Engine as _;
use regex::Regex;

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        static $name: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new($text).ok());
    };
}

pattern!(UUID, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$");
pattern!(UUID3, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$");
pattern!(UUID4, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$");
pattern!(UUID5, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$");
pattern!(
    HOSTNAME,
    concat!(
        r"^([a-zA-Z0-9\p{L}]([a-zA-Z0-9\-\p{L}]{0,61}[a-zA-Z0-9\p{L}])?)",
        r"(\.[a-zA-Z0-9\p{L}]([a-zA-Z0-9\-\p{L}]{0,61}[a-zA-Z0-9\p{L}])?)*\.?$"
    )
);
pattern!(EMAIL, r#"^[^\s@<>"]+@[^\s@<>"]+$"#);
pattern!(HEX_COLOR, r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$");
pattern!(RGB_COLOR, r"^rgb\(\s*\d{1,3}\s*,\s*\d{1,3}\s*,\s*\d{1,3}\s*\)$");
pattern!(MAC, r"^([0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5,7}|[0-9a-fA-F]{4}(\.[0-9a-fA-F]{4}){2,3})$");
pattern!(SSN, r"^\d{3}[- ]?\d{2}[- ]?\d{4}$");
pattern!(ISBN10, r"^(?:[0-9]{9}X|[0-9]{10})$");
pattern!(ISBN13, r"^(?:[0-9]{13})$");
pattern!(CREDIT_CARD, r"^[0-9]{13,19}$");
pattern!(URI, r"^[a-zA-Z][a-zA-Z0-9+.\-]*:\S*$");
pattern!(
    DURATION,
    concat!(
        r"^-?\+?([0-9]+(\.[0-9]+)?\s*(ns|us|µs|ms|s|m|h|hr|hour|min|minute|sec|second|milli|millisecond",
        r"|micro|microsecond|nano|nanosecond|d|day|w|week|wk)s?)+$"
    )
);

fn fits(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_none_or(|regex| regex.is_match(text))
}

/// Whether a text is of a format.
pub(crate) fn is_valid(format: &str, text: &str) -> bool {
    let dense: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    match format.replace('-', "").as_str() {
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "uri" => fits(&URI, text) || text.starts_with('/'),
        "email" => fits(&EMAIL, text),
        "hostname" => text.len() <= 255 && fits(&HOSTNAME, text),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "mac" => fits(&MAC, text),
        "uuid" => fits(&UUID, text),
        "uuid3" => fits(&UUID3, text),
        "uuid4" => fits(&UUID4, text),
        "uuid5" => fits(&UUID5, text),
        "isbn" => fits(&ISBN10, &dense) || fits(&ISBN13, &dense),
        "isbn10" => fits(&ISBN10, &dense),
        "isbn13" => fits(&ISBN13, &dense),
        "creditcard" => fits(&CREDIT_CARD, &dense),
        "ssn" => fits(&SSN, text),
        "hexcolor" => fits(&HEX_COLOR, text),
        "rgbcolor" => fits(&RGB_COLOR, text),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => text == "0" || fits(&DURATION, text),
        "datetime" => text.len() >= 19 && text.parse::<jiff::Timestamp>().is_ok(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn formats_are_told_apart() {
        let cases = [
            ("date-time", "2026-01-01T00:00:00Z", "2026-01-01"),
            ("date", "2026-01-31", "2026-02-31"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
            ("byte", "aGk=", "?"),
            ("email", "a@b.c", "a b"),
            ("duration", "1h30m", "soon"),
            ("hostname", "a.example.com", "-a"),
        ];
        for (format, good, bad) in cases {
            assert!(is_valid(format, good), "{format} {good}");
            assert!(!is_valid(format, bad), "{format} {bad}");
        }
        assert!(is_valid("something-else", "anything"));
    }
}
