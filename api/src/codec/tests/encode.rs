//! An encoder of Kubernetes' protobuf for tests: what a Go client would send, from the tables.

use base64::Engine as _;
use serde_json::{Map, Value};

use crate::codec::protobuf::MAGIC;
use crate::schema::{Field, Kind, Type, TypeId, ids};

/// A whole body: magic and envelope.
pub(super) fn body(api_version: &str, kind: &str, object: &Value, ty: TypeId) -> Vec<u8> {
    let mut meta = Vec::new();
    bytes(&mut meta, 1, api_version.as_bytes());
    bytes(&mut meta, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    bytes(&mut out, 1, &meta);
    bytes(&mut out, 2, &message(object, ty));
    out
}

/// An object's message.
pub(super) fn message(object: &Value, ty: TypeId) -> Vec<u8> {
    fields(object.as_object().unwrap(), ty.get(), &[])
}

fn fields(map: &Map<String, Value>, ty: &'static Type, path: &[u16]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut inner: Vec<u16> = Vec::new();
    for f in ty.fields().iter().filter(|f| f.proto != 0 && f.proto_path.starts_with(path)) {
        match f.proto_path.get(path.len()) {
            Some(number) if !inner.contains(number) => inner.push(*number),
            Some(_) => {}
            None => {
                if let Some(content) = map.get(f.json) {
                    field(&mut out, f, content);
                }
            }
        }
    }
    for number in inner {
        let deeper: Vec<u16> = path.iter().copied().chain([number]).collect();
        bytes(&mut out, number, &fields(map, ty, &deeper));
    }
    out
}

fn field(out: &mut Vec<u8>, field: &Field, content: &Value) {
    match (field.kind, content) {
        (_, Value::Null) => {}
        (Kind::List(item), Value::Array(_)) if field.proto_items() => {
            bytes(out, field.proto, &items(*item, content));
        }
        (Kind::List(item), Value::Array(list)) => {
            list.iter().for_each(|content| value(out, field.proto, *item, content));
        }
        (Kind::Map(item), Value::Object(map)) => {
            for (key, content) in map {
                let mut entry = Vec::new();
                bytes(&mut entry, 1, key.as_bytes());
                match item {
                    Kind::List(item) => bytes(&mut entry, 2, &items(**item, content)),
                    item => value(&mut entry, 2, *item, content),
                }
                bytes(out, field.proto, &entry);
            }
        }
        (kind, content) => value(out, field.proto, kind, content),
    }
}

fn items(item: Kind, list: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for content in list.as_array().into_iter().flatten() {
        value(&mut out, 1, item, content);
    }
    out
}

fn value(out: &mut Vec<u8>, number: u16, kind: Kind, content: &Value) {
    let text = || content.as_str().unwrap_or_default();
    let integer = || content.as_i64().unwrap_or_default().cast_unsigned();
    let mut inner = Vec::new();
    match kind {
        Kind::String => return bytes(out, number, text().as_bytes()),
        Kind::Bool => return varint_field(out, number, u64::from(content == true)),
        Kind::Int32 | Kind::Int64 => return varint_field(out, number, integer()),
        Kind::Float => {
            varint(out, u64::from(number) << 3 | 1);
            return out.extend(content.as_f64().unwrap().to_le_bytes());
        }
        Kind::Bytes => {
            inner = base64::engine::general_purpose::STANDARD.decode(text()).unwrap();
        }
        Kind::Ref(ty) => inner = message(content, ty),
        Kind::Quantity => bytes(&mut inner, 1, text().as_bytes()),
        Kind::Time | Kind::MicroTime => {
            if let Ok(at) = text().parse::<jiff::Timestamp>() {
                varint_field(&mut inner, 1, at.as_second().cast_unsigned());
                let nanos = i64::from(at.subsec_nanosecond());
                varint_field(&mut inner, 2, nanos.cast_unsigned());
            }
        }
        Kind::Duration => {
            let whole: i64 = text().trim_end_matches('s').parse().unwrap();
            varint_field(&mut inner, 1, (whole * 1_000_000_000).cast_unsigned());
        }
        Kind::IntOrString => match content {
            Value::String(text) => {
                varint_field(&mut inner, 1, 1);
                bytes(&mut inner, 3, text.as_bytes());
            }
            _ => {
                varint_field(&mut inner, 1, 0);
                varint_field(&mut inner, 2, integer());
            }
        },
        Kind::RawExtension | Kind::FieldsV1 | Kind::Json | Kind::Any => {
            if !content.is_null() {
                bytes(&mut inner, 1, content.to_string().as_bytes());
            }
        }
        Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStringArray => {
            schema_or(&mut inner, kind, content);
        }
        Kind::List(_) | Kind::Map(_) => unreachable!("encoded by their field"),
    }
    bytes(out, number, &inner);
}

fn schema_or(out: &mut Vec<u8>, kind: Kind, content: &Value) {
    let schema = Kind::Ref(ids::APIEXTENSIONS_V1_JSONSCHEMAPROPS);
    let of_object = if kind == Kind::SchemaOrBool { 2 } else { 1 };
    match content {
        Value::Bool(allows) => varint_field(out, 1, u64::from(*allows)),
        Value::Object(_) => value(out, of_object, schema, content),
        Value::Array(list) => {
            let item = if kind == Kind::SchemaOrArray { schema } else { Kind::String };
            list.iter().for_each(|content| value(out, 2, item, content));
        }
        _ => {}
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

fn varint_field(out: &mut Vec<u8>, number: u16, value: u64) {
    varint(out, u64::from(number) << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, number: u16, content: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}
