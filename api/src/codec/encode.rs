//! Objects to Kubernetes' protobuf, driven by the schema: for clients that take no JSON.
//!
//! Fields that are not in the tree are not written: to a reader of protobuf they have their zero value, as in Go. What
//! does not fit the schema is left out.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::protobuf::MAGIC;
use super::scalar;
use super::wire::Message;
use crate::schema::{Field, Kind, Type, TypeId, ids};

/// A whole body: magic and envelope (`runtime.Unknown`) around the object.
#[must_use]
pub fn body(api_version: &str, kind: &str, object: &Value, ty: TypeId) -> Vec<u8> {
    let mut meta = Message::default();
    meta.text(1, api_version);
    meta.text(2, kind);
    let mut envelope = Message::default();
    envelope.message(1, &meta);
    envelope.data(2, &message(object, ty));
    // Content encoding and type, which Go writes though they are empty.
    envelope.text(3, "");
    envelope.text(4, "");
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&envelope.into_bytes());
    out
}

/// A `WatchEvent` with a whole body inside, behind its length: one frame of a watch.
#[must_use]
pub fn event(kind: &str, body: &[u8]) -> Vec<u8> {
    let mut object = Message::default();
    object.data(1, body);
    let mut event = Message::default();
    event.text(1, kind);
    event.message(2, &object);
    let event = event.into_bytes();
    let length = u32::try_from(event.len()).unwrap_or(u32::MAX);
    let mut out = length.to_be_bytes().to_vec();
    out.extend_from_slice(&event);
    out
}

/// An object's message.
#[must_use]
pub fn message(object: &Value, ty: TypeId) -> Vec<u8> {
    structure(object, ty).into_bytes()
}

fn structure(object: &Value, ty: TypeId) -> Message {
    object.as_object().map_or_else(Message::default, |map| fields(map, ty.get(), &[]))
}

/// The fields of the inlined message at `path`, and the messages inlined in it.
fn fields(map: &Map<String, Value>, ty: &'static Type, path: &[u16]) -> Message {
    let mut out = Message::default();
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
        out.message(number, &fields(map, ty, &deeper));
    }
    out
}

fn field(out: &mut Message, field: &Field, content: &Value) {
    match (field.kind, content) {
        (_, Value::Null) => {}
        (Kind::List(item), Value::Array(_)) if field.proto_items() => {
            out.message(field.proto, &items(*item, content));
        }
        (Kind::List(item), Value::Array(list)) => {
            list.iter().for_each(|content| value(out, field.proto, *item, content));
        }
        (Kind::Map(item), Value::Object(map)) => {
            for (key, content) in map {
                let mut entry = Message::default();
                entry.text(1, key);
                match item {
                    Kind::List(item) => entry.message(2, &items(**item, content)),
                    item => value(&mut entry, 2, *item, content),
                }
                out.message(field.proto, &entry);
            }
        }
        (kind, content) => value(out, field.proto, kind, content),
    }
}

fn items(item: Kind, list: &Value) -> Message {
    let mut out = Message::default();
    for content in list.as_array().into_iter().flatten() {
        value(&mut out, 1, item, content);
    }
    out
}

fn value(out: &mut Message, number: u16, kind: Kind, content: &Value) {
    let text = || content.as_str().unwrap_or_default();
    let integer = || content.as_i64().unwrap_or_default().cast_unsigned();
    let mut inner = Message::default();
    match kind {
        Kind::String => return out.text(number, text()),
        Kind::Bool => return out.varint(number, u64::from(content == true)),
        Kind::Int32 | Kind::Int64 => return out.varint(number, integer()),
        Kind::Float => return out.double(number, content.as_f64().unwrap_or_default()),
        Kind::Bytes => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text());
            return out.data(number, &bytes.unwrap_or_default());
        }
        Kind::Ref(ty) => inner = structure(content, ty),
        Kind::Quantity => inner.text(1, text()),
        Kind::Time | Kind::MicroTime => {
            if let Ok(at) = text().parse::<jiff::Timestamp>() {
                inner.varint(1, at.as_second().cast_unsigned());
                inner.varint(2, i64::from(at.subsec_nanosecond()).cast_unsigned());
            }
        }
        Kind::Duration => {
            inner.varint(1, scalar::parse_duration(text()).unwrap_or_default().cast_unsigned());
        }
        Kind::IntOrString => match content {
            Value::String(text) => {
                inner.varint(1, 1);
                inner.varint(2, 0);
                inner.text(3, text);
            }
            _ => {
                inner.varint(1, 0);
                inner.varint(2, integer());
                inner.text(3, "");
            }
        },
        Kind::RawExtension | Kind::FieldsV1 | Kind::Json | Kind::Any => {
            if !content.is_null() {
                inner.text(1, &content.to_string());
            }
        }
        Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStringArray => {
            schema_or(&mut inner, kind, content);
        }
        // Written by their field; there are none inside others.
        Kind::List(_) | Kind::Map(_) => return,
    }
    out.message(number, &inner);
}

fn schema_or(out: &mut Message, kind: Kind, content: &Value) {
    let schema = Kind::Ref(ids::APIEXTENSIONS_V1_JSONSCHEMAPROPS);
    let of_object = if kind == Kind::SchemaOrBool { 2 } else { 1 };
    match content {
        Value::Bool(allows) => out.varint(1, u64::from(*allows)),
        Value::Object(_) => {
            if kind == Kind::SchemaOrBool {
                out.varint(1, 1);
            }
            value(out, of_object, schema, content);
        }
        Value::Array(list) => {
            let item = if kind == Kind::SchemaOrArray { schema } else { Kind::String };
            list.iter().for_each(|content| value(out, 2, item, content));
        }
        _ => {}
    }
}
