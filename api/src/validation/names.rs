//! The shapes of names, labels, keys, ports and addresses, with upstream's explanations
//! (apimachinery `util/validation`). Each function returns what is wrong; nothing means valid.

use std::net::IpAddr;

type Problems = Vec<String>;

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;
const PORT_NAME_MAX: usize = 15;
const CONFIG_KEY_MAX: usize = 253;

const LABEL_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FORMAT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_FORMAT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

fn explain(message: &str, format: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{format}')");
    }
    let shown: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{format}')", shown.join(" or "))
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// Letters or digits at both ends and `inner` in between.
fn enclosed(text: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [one] => edge(*one),
        [first, middle @ .., last] => {
            edge(*first) && edge(*last) && middle.iter().all(|b| inner(*b))
        }
    }
}

const fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    enclosed(text, lower, |b| lower(b) || b == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_qualified(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    enclosed(text, |b| b.is_ascii_alphanumeric(), inner)
}

/// A lowercase RFC 1123 label of at most 63 bytes.
#[must_use]
pub fn dns1123_label(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > LABEL_MAX {
        problems.push(too_long(LABEL_MAX));
    }
    if !is_label(text) {
        if is_subdomain(text) {
            problems.push("must not contain dots".to_owned());
        } else {
            problems.push(explain(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters \
                 or '-', and must start and end with an alphanumeric character",
                LABEL_FORMAT,
                &["my-name", "123-abc"],
            ));
        }
    }
    problems
}

/// A lowercase RFC 1123 subdomain of at most 253 bytes.
#[must_use]
pub fn dns1123_subdomain(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > SUBDOMAIN_MAX {
        problems.push(too_long(SUBDOMAIN_MAX));
    }
    if !is_subdomain(text) {
        problems.push(explain(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN_FORMAT,
            &["example.com"],
        ));
    }
    problems
}

/// A subdomain below any name: `*.example.com`.
#[must_use]
pub fn wildcard_subdomain(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > SUBDOMAIN_MAX {
        problems.push(too_long(SUBDOMAIN_MAX));
    }
    if !text.strip_prefix("*.").is_some_and(is_subdomain) {
        problems.push(explain(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, \
             which must consist of lower case alphanumeric characters, '-' or '.' and end with an \
             alphanumeric character",
            &format!(r"\*\.{SUBDOMAIN_FORMAT}"),
            &["*.example.com"],
        ));
    }
    problems
}

/// An RFC 1035 label of at most 63 bytes.
#[must_use]
pub fn dns1035_label(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > LABEL_MAX {
        problems.push(too_long(LABEL_MAX));
    }
    if !is_label(text) || !text.as_bytes()[0].is_ascii_lowercase() {
        problems.push(explain(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start \
             with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    problems
}

/// A name with an optional DNS prefix, as label keys and condition types have.
#[must_use]
pub fn qualified_name(text: &str) -> Problems {
    let mut problems = Problems::new();
    let message = "must consist of alphanumeric characters, '-', '_' or '.', and must start and \
                   end with an alphanumeric character";
    let examples = ["MyName", "my.name", "123-abc"];
    let mut parts = text.split('/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let name = match (second, third) {
        (None, _) => first,
        (Some(name), None) => {
            if first.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                let prefix = dns1123_subdomain(first);
                problems.extend(prefix.into_iter().map(|p| format!("prefix part {p}")));
            }
            name
        }
        (Some(_), Some(_)) => {
            let explained = explain(message, QUALIFIED_FORMAT, &examples);
            problems.push(format!(
                "a qualified name {explained} with an optional DNS subdomain prefix and '/' \
                 (e.g. 'example.com/MyName')"
            ));
            return problems;
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        problems.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !is_qualified(name) {
        problems.push(format!("name part {}", explain(message, QUALIFIED_FORMAT, &examples)));
    }
    problems
}

/// The value of a label.
#[must_use]
pub fn label_value(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > LABEL_MAX {
        problems.push(too_long(LABEL_MAX));
    }
    if !text.is_empty() && !is_qualified(text) {
        problems.push(explain(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', \
             '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    problems
}

/// A key of a ConfigMap or Secret.
#[must_use]
pub fn config_key(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > CONFIG_KEY_MAX {
        problems.push(too_long(CONFIG_KEY_MAX));
    }
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(valid) {
        problems.push(explain(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match text {
        "." => problems.push("must not be '.'".to_owned()),
        ".." => problems.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => problems.push("must not start with '..'".to_owned()),
        _ => {}
    }
    problems
}

/// The name of an environment variable: printable ASCII without `=`.
#[must_use]
pub fn env_name(text: &str) -> Problems {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if text.bytes().all(|b| (b == b' ' || b.is_ascii_graphic()) && b != b'=') {
        return Problems::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other \
         than '='"
            .to_owned(),
    ]
}

/// A port number.
#[must_use]
pub fn port_number(port: i64) -> Problems {
    if (1..=65535).contains(&port) { Problems::new() } else { vec![range(1, 65535)] }
}

/// The name of a port (an IANA service name).
#[must_use]
pub fn port_name(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > PORT_NAME_MAX {
        problems.push(too_long(PORT_NAME_MAX));
    }
    if text.is_empty() || !text.bytes().all(|b| lower(b) || b == b'-') {
        let message = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
        problems.push(message.to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}

/// The name of an HTTP header.
#[must_use]
pub fn http_header(text: &str) -> Problems {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Problems::new();
    }
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![explain(message, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// The reason of a condition.
#[must_use]
pub fn condition_reason(text: &str) -> Problems {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let valid = match text.as_bytes() {
        [] => false,
        [first, rest @ ..] => {
            first.is_ascii_alphabetic()
                && rest.iter().all(|b| word(*b) || matches!(b, b',' | b':'))
                && rest.last().is_none_or(|b| word(*b))
        }
    };
    if valid {
        return Problems::new();
    }
    vec![explain(
        "a condition reason must start with alphabetic character, optionally followed by a string \
         of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
    )]
}

/// A name in the language C.
#[must_use]
pub fn c_identifier(text: &str) -> Problems {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let valid = !text.is_empty()
        && text.bytes().all(word)
        && !text.starts_with(|first: char| first.is_ascii_digit());
    if valid {
        return Problems::new();
    }
    vec![explain(
        "a valid C identifier must start with alphabetic character or '_', followed by a string \
         of alphanumeric characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// A user or group id.
#[must_use]
pub fn posix_id(id: i64) -> Problems {
    let max = i64::from(i32::MAX);
    if (0..=max).contains(&id) { Problems::new() } else { vec![range(0, max)] }
}

/// `must be between A and B, inclusive`.
#[must_use]
pub fn range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// A name that can be a segment of an URL path.
#[must_use]
pub fn path_segment(text: &str) -> Problems {
    match text {
        "." => return vec!["may not be '.'".to_owned()],
        ".." => return vec!["may not be '..'".to_owned()],
        _ => {}
    }
    let bad = ["/", "%"].into_iter().filter(|bad| text.contains(bad));
    bad.map(|bad| format!("may not contain '{bad}'")).collect()
}

/// An IP address. Leading zeros in IPv4 are taken, as upstream always did.
#[must_use]
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() != 4 || parts.iter().any(|p| p.is_empty() || p.len() > 3) {
        return None;
    }
    let mut bytes = [0u8; 4];
    for (byte, part) in bytes.iter_mut().zip(parts) {
        *byte = part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    Some(IpAddr::from(bytes))
}

/// A name as the start of a generated one: a trailing dash is fine.
pub(crate) fn as_prefix(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let mut masked = rest.to_owned();
            masked.pop();
            masked.push('a');
            masked
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_shape() {
        type Check = fn(&str) -> Problems;
        let long = "a".repeat(64);
        let cases: &[(Check, &[&str], &[&str])] = &[
            (dns1123_label, &["a", "1", "a-b", "0-0"], &["", "-a", "a-", "A", "a.b", "a_b", &long]),
            (dns1123_subdomain, &["a", "a.b", "1.2.3"], &["", ".", "a.", ".a", "a..b", "A.b"]),
            (dns1035_label, &["a", "a1", "a-b"], &["", "1a", "-a", "a-", "a.b"]),
            (
                qualified_name,
                &["simple", "now-with-dashes", "1-starts", "a.b/c", "example.com/X_y.z"],
                &["", "a/b/c", "/a", "a/", "-a", "a b", "A/b", &long],
            ),
            (label_value, &["", "a", "A_b.c-1"], &["-a", "a-", "a/b", "a b", &long]),
            (config_key, &["a", ".a", "a..b", "_", "-"], &["", ".", "..", "..a", "a/b", "a b"]),
            (env_name, &["A", "a b", "1", "a.b-c"], &["", "a=b", "\u{7f}", "ž"]),
            (
                port_name,
                &["http", "a-1"],
                &["", "80", "a--b", "-a", "a-", "Aa", "abcdefghijklmnop"],
            ),
            (http_header, &["X-A"], &["", "a b", "a_b"]),
            (path_segment, &["a", "a:b", "system:x"], &[".", "..", "a/b", "a%b"]),
        ];
        for (check, good, bad) in cases {
            for text in *good {
                assert_eq!(check(text), Problems::new(), "{text:?}");
            }
            for text in *bad {
                assert_ne!(check(text), Problems::new(), "{text:?}");
            }
        }
    }

    #[test]
    fn addresses() {
        for good in ["1.2.3.4", "010.0.0.1", "::1", "fe80::1", "::ffff:1.2.3.4"] {
            assert!(parse_ip(good).is_some(), "{good}");
        }
        for bad in ["", "1.2.3", "1.2.3.256", "a", "1.2.3.4/24", "1.2.3.-4", ":::"] {
            assert!(parse_ip(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn explanations() {
        assert_eq!(
            dns1123_label("A"),
            ["a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
              '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
              '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]
        );
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(as_prefix("web-"), "wea");
    }
}
