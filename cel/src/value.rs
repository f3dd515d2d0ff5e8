//! Values of expressions, from and to JSON.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_cel::cel::objects::{Key, Map, OptionalValue};
use serde_json::{Number, Value as Json};

use crate::schema::Decl;
use crate::time;
use crate::types::Type;

pub use kube_cel::cel::objects::{Opaque, Value};

/// A type as a value: `type(1) == int`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TypeValue(pub(crate) String);

impl Opaque for TypeValue {
    fn runtime_type_name(&self) -> &'static str {
        "type"
    }
}

/// A text.
#[must_use]
pub fn text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

/// Something that only functions look into.
pub fn opaque(value: impl Opaque) -> Value {
    Value::Opaque(Arc::new(value))
}

/// What only functions look into, when it is of this type.
#[must_use]
pub fn inside<T: 'static>(value: &Value) -> Option<&T> {
    match value {
        Value::Opaque(opaque) => opaque.downcast_ref(),
        _ => None,
    }
}

/// A list.
#[must_use]
pub fn list(all: Vec<Value>) -> Value {
    Value::List(Arc::new(all))
}

/// A map from texts.
pub fn map(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
    let entries = entries.into_iter().map(|(key, value)| (Key::String(Arc::new(key)), value));
    Value::Map(Map { map: Arc::new(entries.collect::<HashMap<Key, Value>>()) })
}

/// A value that is there, or is not.
#[must_use]
pub fn optional(value: Option<Value>) -> Value {
    Value::Opaque(Arc::new(value.map_or_else(OptionalValue::none, OptionalValue::of)))
}

/// What an optional value holds; `None` for a value that is not optional.
#[must_use]
pub fn held(value: &Value) -> Option<Option<&Value>> {
    match value {
        Value::Opaque(opaque) => opaque.downcast_ref::<OptionalValue>().map(OptionalValue::value),
        _ => None,
    }
}

/// JSON of which no schema says what it is.
#[must_use]
pub fn of_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => of_number(number),
        Json::String(value) => text(value),
        Json::Array(all) => list(all.iter().map(of_json).collect()),
        Json::Object(fields) => {
            map(fields.iter().map(|(name, value)| (name.clone(), of_json(value))))
        }
    }
}

fn of_number(number: &Number) -> Value {
    match (number.as_i64(), number.as_u64()) {
        (Some(whole), _) => Value::Int(whole),
        (None, Some(whole)) => Value::UInt(whole),
        (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// JSON as its schema has it: fields that expressions cannot name are left out.
#[must_use]
pub fn of_declared(json: &Json, decl: &Decl) -> Value {
    match (json, &decl.ty) {
        (Json::Array(all), Type::List(_)) => match &decl.elem {
            Some(elem) => list(all.iter().map(|one| of_declared(one, elem)).collect()),
            None => of_json(json),
        },
        (Json::Object(fields), Type::Map(..)) => match &decl.elem {
            Some(elem) => {
                map(fields.iter().map(|(key, value)| (key.clone(), of_declared(value, elem))))
            }
            None => of_json(json),
        },
        (Json::Object(fields), Type::Object(_)) => {
            map(fields.iter().filter_map(|(name, value)| {
                let (escaped, decl) = decl.fields.get(name)?;
                Some((escaped.clone(), of_declared(value, decl)))
            }))
        }
        (Json::Number(number), Type::Double) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        (Json::Number(number), Type::Int | Type::Dyn) => match number.as_f64() {
            // `1.0` is a whole number to a schema.
            Some(float) if number.is_f64() && float.fract() == 0.0 => {
                time::whole(float).map_or(Value::Float(float), Value::Int)
            }
            _ => of_number(number),
        },
        (Json::String(value), Type::Bytes) => STANDARD
            .decode(value)
            .map_or_else(|_| text(value), |bytes| Value::Bytes(Arc::new(bytes))),
        (Json::String(value), Type::Timestamp) => {
            time::timestamp(value).map_or_else(|| text(value), Value::Timestamp)
        }
        (Json::String(value), Type::Duration) => {
            time::duration(value).map_or_else(|| text(value), Value::Duration)
        }
        _ => of_json(json),
    }
}

/// A value as JSON.
///
/// # Errors
/// What has no form in JSON: maps with keys that are no texts, types, what only functions look into.
pub fn to_json(value: &Value) -> Result<Json, String> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::UInt(value) => Json::from(*value),
        Value::Float(value) => match time::whole(*value) {
            Some(whole) => Json::from(whole),
            None => Number::from_f64(*value)
                .map(Json::Number)
                .ok_or_else(|| format!("{value} is not a number of JSON"))?,
        },
        Value::String(value) => Json::String(value.to_string()),
        Value::Bytes(bytes) => Json::String(STANDARD.encode(bytes.as_slice())),
        Value::Timestamp(at) => Json::String(time::shown(at)),
        Value::Duration(length) => Json::String(time::shown_duration(length)),
        Value::List(all) => Json::Array(all.iter().map(to_json).collect::<Result<_, _>>()?),
        Value::Map(map) => {
            let mut fields = serde_json::Map::new();
            for (key, value) in map.map.iter() {
                let Key::String(key) = key else {
                    return Err(format!("{key:?} cannot be the name of a field"));
                };
                fields.insert(key.to_string(), to_json(value)?);
            }
            Json::Object(fields)
        }
        Value::Opaque(_) | Value::Function(..) => match held(value) {
            Some(Some(inner)) => to_json(inner)?,
            Some(None) => Json::Null,
            None => return Err(format!("a {} has no form in JSON", type_name(value))),
        },
    })
}

/// The name of a value's type.
pub(crate) fn type_name(value: &Value) -> String {
    match value {
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Function(..) => "function",
        Value::Int(_) => "int",
        Value::UInt(_) => "uint",
        Value::Float(_) => "double",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::Bool(_) => "bool",
        Value::Duration(_) => "google.protobuf.Duration",
        Value::Timestamp(_) => "google.protobuf.Timestamp",
        Value::Null => "null_type",
        Value::Opaque(opaque) => return opaque.runtime_type_name().to_owned(),
    }
    .to_owned()
}

/// How large a value is: characters, bytes, elements; those of elements are not counted.
pub(crate) fn size(value: &Value) -> u64 {
    let size = match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(all) => all.len(),
        Value::Map(map) => map.map.len(),
        _ => 1,
    };
    size as u64
}

/// How large a value is with all that is in it.
pub(crate) fn whole_size(value: &Value) -> u64 {
    match value {
        Value::List(all) => 1 + all.iter().map(whole_size).sum::<u64>(),
        Value::Map(map) => 1 + map.map.values().map(|value| 1 + whole_size(value)).sum::<u64>(),
        _ => size(value).max(1),
    }
}

/// How much of two values is looked at to find out whether they are equal.
pub(crate) fn shared_size(a: &Value, b: &Value) -> u64 {
    match (a, b) {
        (Value::List(a), Value::List(b)) if a.len() == b.len() => {
            1 + a.iter().zip(b.iter()).map(|(a, b)| shared_size(a, b)).sum::<u64>()
        }
        (Value::Map(a), Value::Map(b)) if a.map.len() == b.map.len() => {
            let shared = a.map.iter().map(|(key, value)| match b.map.get(key) {
                Some(other) => 1 + shared_size(value, other),
                None => 1,
            });
            1 + shared.sum::<u64>()
        }
        (Value::String(_), Value::String(_)) | (Value::Bytes(_), Value::Bytes(_)) => {
            size(a).min(size(b)).max(1)
        }
        _ => 1,
    }
}
