//! Upstream's vectors: every kind fully populated, as JSON, YAML and protobuf.
//!
//! They are not part of the repository; without them this says so and passes.

use std::path::PathBuf;

use serde_json::Value;

use super::super::{encode, json, protobuf, yaml};
use crate::resource;
use crate::schema::TypeId;

/// The struct of `apps.v1.Deployment.json`.
fn schema(stem: &str) -> Option<TypeId> {
    let mut parts = stem.rsplitn(3, '.');
    let (kind, version, group) = (parts.next()?, parts.next()?, parts.next()?);
    let group = if group == "core" { "" } else { group };
    resource::schema_of(group, version, kind)
}

fn difference(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                let at = format!("{path}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => difference(&at, a, b, out),
                    (a, b) => out.push(format!("{at}: ours {a:?}, theirs {b:?}")),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                difference(&format!("{path}[{at}]"), a, b, out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{path}: ours {a}, theirs {b}")),
    }
}

#[test]
fn each_vector_decodes_to_its_json() {
    let Some(folder) = crate::upstream::folder("roundtrip") else { return };
    let mut failures = Vec::new();
    let mut count = 0;
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some((stem, extension)) = name.rsplit_once('.') else { continue };
        let Some(schema) = schema(stem) else {
            failures.push(format!("{name}: no schema"));
            continue;
        };
        let read = |extension: &str| std::fs::read(folder.join(format!("{stem}.{extension}")));
        let theirs: Value = serde_json::from_slice(&read("json").unwrap()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let ours = match extension {
            "json" => json::parse(&bytes, schema).map_err(|e| e.to_string()).and_then(strict),
            "yaml" => yaml::to_json(std::str::from_utf8(&bytes).unwrap())
                .map_err(|e| e.to_string())
                .and_then(|c| json::parse(&c.json, schema).map_err(|e| e.to_string()))
                .and_then(strict),
            "pb" => protobuf::open(&bytes)
                .and_then(|envelope| {
                    let mut value = protobuf::decode(envelope.raw, schema)?;
                    let again = encode::message(&value, schema);
                    assert_eq!(protobuf::decode(&again, schema)?, value, "{name}: encoded again");
                    if !envelope.kind.is_empty() {
                        value["apiVersion"] = Value::String(envelope.api_version);
                        value["kind"] = Value::String(envelope.kind);
                    }
                    Ok(value)
                })
                .map_err(|e| e.to_string()),
            _ => continue,
        };
        count += 1;
        match ours {
            Ok(ours) => {
                let mut again = ours.clone();
                crate::normalise::normalise(&mut again, schema);
                assert_eq!(again, ours, "{name}: normalise changes what decoding made");
                let mut differences = Vec::new();
                difference("", &ours, &theirs, &mut differences);
                failures.extend(differences.iter().map(|d| format!("{name}: {d}")));
            }
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(count > 500, "only {count} vectors");
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}

fn strict(parsed: json::Parsed) -> Result<Value, String> {
    if parsed.strict.is_empty() { Ok(parsed.value) } else { Err(parsed.strict.join(", ")) }
}
