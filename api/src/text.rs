//! Renders values the way Go's `fmt` does, because clients and people compare our messages with
//! Kubernetes' own.

use serde_json::Value;

/// Name of an Event about an object, as client-go makes it: the object's name, a dot, the time in nanoseconds as hex.
/// So events of one object sort by their time.
#[must_use]
pub fn event_name(object: &str, nanoseconds: i128) -> String {
    format!("{}.{nanoseconds:x}", event_object(object))
}

/// An object's name with room for the rest in the 253 characters of an Event's name.
#[must_use]
pub fn event_object(object: &str) -> &str {
    let end = (0..=object.len().min(236)).rev().find(|end| object.is_char_boundary(*end));
    object[..end.unwrap_or(0)].trim_end_matches(['.', '-'])
}

/// Go's `%q`: a double-quoted string with Go escapes. Printable unicode stays as it is.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A list of strings, each quoted, joined by `, `.
#[must_use]
pub fn quote_list<S: AsRef<str>>(items: &[S]) -> String {
    items.iter().map(|s| quote(s.as_ref())).collect::<Vec<_>>().join(", ")
}

/// Go's `json.Marshal` of a value: like serde_json, but `<`, `>` and `&` are escaped.
#[must_use]
pub fn json(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Go's `%v` of a decoded JSON value: `map[a:1 b:[x y]]`.
#[must_use]
pub fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(go).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(name, value)| format!("{name}:{}", go(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
    }
}

/// Go's `%#U` of a character: `U+0007`, `U+0041 'A'`.
#[must_use]
pub fn code_point(c: char) -> String {
    let code = format!("U+{:04X}", c as u32);
    if c.is_control() { code } else { format!("{code} '{c}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_go_prints_them() {
        let value = serde_json::json!({"b": [1, "x", null], "a": {"c": true}});
        assert_eq!(go(&value), "map[a:map[c:true] b:[1 x <nil>]]");
        assert_eq!(code_point('\u{7}'), "U+0007");
        assert_eq!(code_point('A'), "U+0041 'A'");
    }

    #[test]
    fn quotes_as_go_does() {
        for (input, want) in [
            ("plain", r#""plain""#),
            ("a\"b\\", r#""a\"b\\""#),
            ("tab\tnl\n", r#""tab\tnl\n""#),
            ("\u{1}\u{7f}", r#""\x01\x7f""#),
            ("žluť", "\"žluť\""),
        ] {
            assert_eq!(quote(input), want);
        }
    }
}
