//! Bodies to custom objects: metadata as every object's, the rest by the schema of the kind.

use serde_json::{Value, json};

use std::collections::BTreeSet;

use super::{Custom, shape};
use crate::codec::scan::{Scanner, SyntaxError};
use crate::codec::{MediaType, json as typed, yaml};
use crate::limits::STRICT_ERRORS_MAX;
use crate::schema::ids;
use crate::text::quote;

/// A body as a tree, and what is there twice in it.
///
/// # Errors
/// It is no JSON or YAML, or no object.
pub(crate) fn read(media: MediaType, body: &[u8]) -> Result<(Value, Vec<String>), String> {
    let mut strict = Vec::new();
    let converted;
    let text = match media {
        MediaType::Json => body,
        MediaType::Yaml => {
            converted = yaml::to_json(&String::from_utf8_lossy(body)).map_err(|e| e.to_string())?;
            if !converted.duplicates.is_empty() {
                let list = converted.duplicates.join("\n  ");
                strict.push(format!("yaml: unmarshal errors:\n  {list}"));
            }
            converted.json.as_slice()
        }
        MediaType::Protobuf => return Err("custom objects have no protobuf form".to_owned()),
    };
    let mut scanner = Scanner::new(text);
    let value = scanner.any().map_err(|e| e.to_string())?;
    scanner.end().map_err(|e| e.to_string())?;
    if !value.is_object() {
        return Err("couldn't get version/kind; json parse error: the body is no object".to_owned());
    }
    twice(&mut Scanner::new(text), "", &mut strict).map_err(|e| e.to_string())?;
    Ok((value, strict))
}

/// Fields that are there twice.
fn twice(scan: &mut Scanner<'_>, path: &str, strict: &mut Vec<String>) -> Result<(), SyntaxError> {
    match scan.peek()? {
        b'{' => {
            let mut seen = BTreeSet::new();
            if scan.open(b'}')? {
                return Ok(());
            }
            loop {
                let key = scan.key()?.into_owned();
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if !seen.insert(key) && strict.len() < STRICT_ERRORS_MAX {
                    strict.push(format!("duplicate field {}", quote(&below)));
                }
                twice(scan, &below, strict)?;
                if !scan.more(b'}')? {
                    return Ok(());
                }
            }
        }
        b'[' => {
            if scan.open(b']')? {
                return Ok(());
            }
            let mut at = 0;
            loop {
                twice(scan, &format!("{path}[{at}]"), strict)?;
                at += 1;
                if !scan.more(b']')? {
                    return Ok(());
                }
            }
        }
        _ => scan.skip(),
    }
}

/// Brings an object into the form in which it is kept and served: metadata without what it cannot have, nothing that
/// the schema does not know, defaults. What was dropped is told: `unknown field "spec.foo"`.
///
/// # Errors
/// Metadata that is none, of the object or of one embedded in it.
pub fn settle(object: &mut Value, custom: &Custom) -> Result<Vec<String>, String> {
    let mut strict = Vec::new();
    shape::resources(object, &custom.root, "", &mut |value, path| {
        metadata(value, path, &mut strict)
    })?;
    let mut unknown = Vec::new();
    shape::prune(object, &custom.root, &mut unknown);
    strict.extend(unknown.into_iter().map(|path| format!("unknown field {}", quote(&path))));
    strict.sort_unstable();
    shape::fill(object, &custom.root);
    Ok(strict)
}

fn metadata(value: &mut Value, path: &str, strict: &mut Vec<String>) -> Result<(), String> {
    let Some(map) = value.as_object_mut() else { return Ok(()) };
    match map.get("metadata") {
        None => return Ok(()),
        Some(Value::Null) => {
            map.remove("metadata");
            return Ok(());
        }
        Some(_) => {}
    }
    // The object around it lets the texts name the field as part of the metadata.
    let around = json!({"metadata": map["metadata"]}).to_string();
    let parsed = typed::parse(around.as_bytes(), ids::META_V1_PARTIALOBJECTMETADATA)
        .map_err(|error| error.to_string())?;
    let mut parsed_value = parsed.value;
    for text in parsed.strict {
        strict.push(match path {
            "" => text,
            path => text.replacen('"', &format!("\"{path}."), 1),
        });
    }
    map.insert("metadata".to_owned(), parsed_value["metadata"].take());
    Ok(())
}
