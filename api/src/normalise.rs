//! The normal form of objects: what Go's typed round trip (JSON to struct, storage, to JSON) leaves.
//!
//! Upstream decodes into structs and encodes them again, so that a value that was never set, or
//! was set to its zero value, looks the same everywhere. Without that form a no-op update would
//! change bytes, and patches and ownership would see fields nobody set. The rules:
//!
//! * a null is the field's zero value;
//! * `omitempty` drops false, 0, "", empty lists and maps, unless the field is a pointer;
//! * structs by value are always written, with what their own fields always write;
//! * an empty list or map that may not be dropped is null (storage does not tell it from nil);
//! * quantities, times and base64 are in their canonical spelling.
//!
//! [`normalise`] brings any tree into the form; the decoders of [`crate::codec`] use `keep` and
//! `fill` while they read, which is the same and saves a pass.

use serde_json::{Map, Value};

use crate::codec::scalar;
use crate::schema::{Field, Kind, Type, TypeId};

/// Brings an object of this type into the normal form. Unknown fields stay as they are, and so do
/// values of a wrong type: finding those is decoding's job. Idempotent.
pub fn normalise(value: &mut Value, ty: TypeId) {
    value_of(value, Kind::Ref(ty));
}

fn value_of(value: &mut Value, kind: Kind) {
    if value.is_null() {
        *value = zero(kind);
        return;
    }
    match (kind, &mut *value) {
        (Kind::Ref(id), Value::Object(map)) => struct_of(map, id.get()),
        (Kind::List(item), Value::Array(list)) => {
            for element in list {
                value_of(element, *item);
            }
        }
        (Kind::Map(item), Value::Object(map)) => {
            for (_, element) in map.iter_mut() {
                value_of(element, *item);
            }
        }
        (Kind::Float, Value::Number(number)) => {
            if let Some(float) = number.as_f64() {
                *value = scalar::float(float);
            }
        }
        (Kind::Quantity, Value::Number(number)) => {
            let text = number.to_string();
            *value = scalar::quantity(&text).map_or(Value::String(text), Value::String);
        }
        (_, Value::String(text)) => {
            let canonical = match kind {
                Kind::Quantity => scalar::quantity(text).ok(),
                Kind::Time => scalar::time(text).ok(),
                Kind::MicroTime => scalar::micro_time(text).ok(),
                Kind::Duration => scalar::duration(text).ok(),
                Kind::Bytes => scalar::base64_text(text).ok(),
                _ => None,
            };
            if let Some(canonical) = canonical
                && canonical != *text
            {
                *text = canonical;
            }
        }
        (Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStringArray, other) => {
            schema_or(other);
        }
        _ => {}
    }
}

/// A `JSONSchemaProps` or something simpler: the object form is normalised.
fn schema_or(value: &mut Value) {
    let schema = Kind::Ref(crate::schema::ids::APIEXTENSIONS_V1_JSONSCHEMAPROPS);
    match value {
        Value::Object(_) => value_of(value, schema),
        Value::Array(list) => list.iter_mut().filter(|v| v.is_object()).for_each(|v| {
            value_of(v, schema);
        }),
        _ => {}
    }
}

fn struct_of(map: &mut Map<String, Value>, ty: &Type) {
    map.retain(|name, value| {
        let Some(field) = ty.field(name) else { return true };
        if value.is_null() {
            return false;
        }
        value_of(value, field.kind);
        keep(field, value)
    });
    fill(map, ty);
}

/// Whether Go would write this value of the field: not when it is empty, `omitempty` and no
/// pointer. Empty lists and maps that must be written become null. `value` is in normal form.
pub(crate) fn keep(field: &Field, value: &mut Value) -> bool {
    if value.is_null() {
        return field.always_written() && !field.pointer();
    }
    if field.pointer() {
        return true;
    }
    let empty = match (field.kind, &*value) {
        (Kind::List(_), Value::Array(list)) => list.is_empty(),
        (Kind::Map(_), Value::Object(map)) => map.is_empty(),
        (Kind::Bytes | Kind::String, Value::String(text)) => text.is_empty(),
        (Kind::Bool, Value::Bool(set)) => !set,
        (Kind::Int32 | Kind::Int64, Value::Number(number)) => number.as_i64() == Some(0),
        (Kind::Float, Value::Number(number)) => number.as_f64() == Some(0.0),
        _ => false,
    };
    if !empty {
        return true;
    }
    if field.omitempty() {
        return false;
    }
    if matches!(field.kind, Kind::List(_) | Kind::Map(_)) {
        *value = Value::Null;
    }
    true
}

/// Adds what Go always writes and the map does not have.
pub(crate) fn fill(map: &mut Map<String, Value>, ty: &Type) {
    for field in ty.fields() {
        if field.always_written() && !map.contains_key(field.json) {
            let value = if field.pointer() { Value::Null } else { zero(field.kind) };
            map.insert(field.json.to_owned(), value);
        }
    }
}

/// The zero value of a kind as Go writes it.
pub(crate) fn zero(kind: Kind) -> Value {
    match kind {
        Kind::String => Value::String(String::new()),
        Kind::Bool => Value::Bool(false),
        Kind::Int32 | Kind::Int64 | Kind::Float | Kind::IntOrString => Value::from(0),
        Kind::Quantity => Value::String("0".to_owned()),
        Kind::Duration => Value::String("0s".to_owned()),
        Kind::Bytes => Value::String(String::new()),
        Kind::Ref(id) => {
            let mut map = Map::new();
            fill(&mut map, id.get());
            Value::Object(map)
        }
        Kind::SchemaOrBool => Value::Bool(false),
        Kind::List(_)
        | Kind::Map(_)
        | Kind::Time
        | Kind::MicroTime
        | Kind::RawExtension
        | Kind::FieldsV1
        | Kind::Json
        | Kind::SchemaOrArray
        | Kind::SchemaOrStringArray
        | Kind::Any => Value::Null,
    }
}

#[cfg(test)]
mod tests;
