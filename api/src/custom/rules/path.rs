//! `fieldPath` of rules: `.a.b['c.d']`.

use serde_json::Value;

use crate::tree;

/// The fields and keys that a path names; why it names none.
fn parts(path: &str) -> Result<Vec<String>, String> {
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[', ']']).unwrap_or(after.len());
            if end == 0 {
                return Err("unexpected end of JSON path".to_owned());
            }
            parts.push(after[..end].to_owned());
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix('[') {
            let Some(quoted) = after.strip_prefix('\'') else {
                let end = after.find(']').unwrap_or(after.len());
                return Err(format!("expected single quoted string but got {}", &after[..end]));
            };
            let (name, after) = unquoted(quoted)?;
            parts.push(name);
            rest = after.strip_prefix(']').ok_or("unexpected end of JSON path")?;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            return Err(format!("expected [ or . but got: {}", &rest[..end]));
        }
    }
    Ok(parts)
}

/// The text up to its quote, and what follows.
fn unquoted(text: &str) -> Result<(String, &str), String> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => return Ok((name, &text[at + 1..])),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => name.push('\n'),
                Some('t') => name.push('\t'),
                Some('r') => name.push('\r'),
                Some(c @ ('\'' | '\\')) => name.push(c),
                Some(c) => {
                    return Err(format!("invalid string literal: invalid escape char \\{c}"));
                }
                None => break,
            },
            c => name.push(c),
        }
    }
    Err("unexpected end of JSON path".to_owned())
}

/// Whether a path names a place of a schema; why it does not.
pub(crate) fn check(path: &str, schema: &Value) -> Result<(), String> {
    let mut at = schema;
    for part in parts(path)? {
        let unknown = || "does not refer to a valid field".to_owned();
        at = if tree::has(at, "properties") {
            tree::get(at, "properties").get(&part).ok_or_else(unknown)?
        } else {
            Some(tree::get(at, "additionalProperties"))
                .filter(|of| of.is_object())
                .ok_or_else(unknown)?
        };
    }
    Ok(())
}

/// A path as errors write it behind that of the value: fields with points between.
pub(crate) fn normal(path: &str) -> String {
    parts(path.trim()).map(|parts| parts.join(".")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_name_fields_and_keys() {
        let schema = json!({"properties": {"a": {"properties": {"b.c": {}}},
            "m": {"additionalProperties": {"properties": {"x": {}}}}}});
        for (path, want) in [
            (".a", Ok(())),
            (".a['b.c']", Ok(())),
            (".m['any'].x", Ok(())),
            (".b", Err("does not refer to a valid field")),
            ("a", Err("expected [ or . but got: a")),
            (".a[0]", Err("expected single quoted string but got 0")),
            (".", Err("unexpected end of JSON path")),
        ] {
            assert_eq!(check(path, &schema), want.map_err(str::to_owned), "{path}");
        }
        assert_eq!(normal(".a['b.c']"), "a.b.c");
    }
}
