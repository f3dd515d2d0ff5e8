//! Kubernetes' protobuf to a tree in normal form, driven by the schema.
//!
//! A body is the magic `k8s\0` and a `runtime.Unknown` message with the object inside. Structs
//! that JSON inlines are messages here, a few types have their own message, and Go writes every
//! non-pointer scalar, zero or not: the normal form takes those out again.

use serde_json::{Map, Value};

use super::scalar;
use super::scan::Scanner;
use crate::limits::NESTING_DEPTH_MAX;
use crate::normalise;
use crate::schema::{Field, Kind, Type, TypeId, ids};

/// The first bytes of each protobuf body.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Why bytes are not an object in protobuf; texts after Go's generated code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another format
    #[error("provided data does not appear to be a protobuf message, expected prefix {MAGIC:?}")]
    NoMagic,
    /// The message ends within a field
    #[error("unexpected EOF")]
    UnexpectedEnd,
    /// A number that has more than 64 bits
    #[error("proto: integer overflow")]
    Overflow,
    /// A field has another wire type than its kind
    #[error("proto: wrong wireType = {0} for field {1}")]
    WireType(u8, &'static str),
    /// Wire types 6 and 7 do not exist, groups are not used
    #[error("proto: illegal wireType {0}")]
    IllegalWireType(u8),
    /// Messages nested too deeply
    #[error("proto: exceeded max depth")]
    TooDeep,
    /// The raw JSON inside an extension is none
    #[error("{0}")]
    Json(String),
}

/// The outer message of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apiVersion`, may be empty
    pub api_version: String,
    /// `kind`, may be empty
    pub kind: String,
    /// The object's own message
    pub raw: &'a [u8],
}

/// Opens the envelope.
///
/// # Errors
///
/// Another format, or a malformed message.
pub fn open(body: &[u8]) -> Result<Envelope<'_>, Error> {
    let message = body.strip_prefix(MAGIC).ok_or(Error::NoMagic)?;
    let mut envelope = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
    let mut wire = Wire(message);
    while let Some((number, value)) = wire.field()? {
        match (number, value) {
            (1, Item::Bytes(bytes)) => {
                let mut meta = Wire(bytes);
                while let Some((number, value)) = meta.field()? {
                    match (number, value) {
                        (1, Item::Bytes(text)) => envelope.api_version = lossy(text),
                        (2, Item::Bytes(text)) => envelope.kind = lossy(text),
                        _ => {}
                    }
                }
            }
            (2, Item::Bytes(bytes)) => envelope.raw = bytes,
            _ => {}
        }
    }
    Ok(envelope)
}

/// Decodes an object's message into the normal form. `apiVersion` and `kind` are not in it.
///
/// # Errors
///
/// A malformed message. Unknown field numbers are skipped, as in Go.
pub fn decode(raw: &[u8], ty: TypeId) -> Result<Value, Error> {
    structure(raw, ty.get(), 0)
}

/// One field's content on the wire.
#[derive(Clone, Copy)]
enum Item<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl Item<'_> {
    fn wire_type(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32 => 5,
        }
    }
}

struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Error::UnexpectedEnd)?;
            self.0 = rest;
            if shift == 63 && *byte > 1 {
                return Err(Error::Overflow);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Overflow)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Error::UnexpectedEnd)?;
        self.0 = rest;
        Ok(head)
    }

    /// The next field; None at the end of the message.
    fn field(&mut self) -> Result<Option<(u64, Item<'a>)>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let item = match key & 7 {
            0 => Item::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                Item::Fixed64(u64::from_le_bytes(
                    bytes.try_into().map_err(|_| Error::UnexpectedEnd)?,
                ))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Error::UnexpectedEnd)?;
                Item::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Item::Fixed32
            }
            other => {
                return Err(Error::IllegalWireType(u8::try_from(other).unwrap_or(u8::MAX)));
            }
        };
        Ok(Some((key >> 3, item)))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn structure(bytes: &[u8], ty: &'static Type, depth: usize) -> Result<Value, Error> {
    let mut map = Map::new();
    message(bytes, ty, &mut Vec::new(), &mut map, depth)?;
    map.retain(|name, value| ty.field(name).is_none_or(|field| normalise::keep(field, value)));
    normalise::fill(&mut map, ty);
    Ok(Value::Object(map))
}

/// Reads the fields of a message into `map`; `path` names the inlined messages entered so far.
fn message(
    bytes: &[u8],
    ty: &'static Type,
    path: &mut Vec<u16>,
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    if depth > NESTING_DEPTH_MAX {
        return Err(Error::TooDeep);
    }
    let mut wire = Wire(bytes);
    while let Some((number, item)) = wire.field()? {
        let Ok(number) = u16::try_from(number) else { continue };
        let fields = ty.fields().iter();
        let own = fields.clone().find(|f| f.proto == number && f.proto_path == path.as_slice());
        if let Some(field) = own {
            one(field, item, map, depth)?;
            continue;
        }
        let level = path.len();
        let inner = fields.clone().any(|f| {
            f.proto_path.len() > level
                && f.proto_path[..level] == path[..]
                && f.proto_path[level] == number
        });
        if let (true, Item::Bytes(bytes)) = (inner, item) {
            path.push(number);
            message(bytes, ty, path, map, depth + 1)?;
            path.pop();
        }
    }
    Ok(())
}

/// Reads one occurrence of a field.
fn one(
    field: &'static Field,
    item: Item<'_>,
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    let wrong = || Error::WireType(item.wire_type(), field.json);
    match field.kind {
        Kind::List(kind) if field.proto_items() => {
            let Item::Bytes(bytes) = item else { return Err(wrong()) };
            map.insert(field.json.to_owned(), items(bytes, *kind, depth)?);
        }
        Kind::List(kind) => {
            let entry = map.entry(field.json).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = entry else { return Err(wrong()) };
            let number = matches!(kind, Kind::Int32 | Kind::Int64 | Kind::Bool);
            match item {
                // Packed: what a writer of proto3 may send.
                Item::Bytes(bytes) if number => {
                    let mut packed = Wire(bytes);
                    while !packed.0.is_empty() {
                        let item = Item::Varint(packed.varint()?);
                        list.push(value(*kind, item, depth)?.ok_or_else(wrong)?);
                    }
                }
                _ => list.push(value(*kind, item, depth)?.ok_or_else(wrong)?),
            }
        }
        Kind::Map(kind) => {
            let Item::Bytes(bytes) = item else { return Err(wrong()) };
            let (key, value) = entry(bytes, *kind, field.proto_items(), depth)?;
            let map = map.entry(field.json).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = map {
                map.insert(key, value);
            }
        }
        kind => {
            let value = value(kind, item, depth)?.ok_or_else(wrong)?;
            map.insert(field.json.to_owned(), value);
        }
    }
    Ok(())
}

/// A nullable list: a message with the repeated field 1.
fn items(bytes: &[u8], kind: Kind, depth: usize) -> Result<Value, Error> {
    let mut list = Vec::new();
    let mut wire = Wire(bytes);
    while let Some((number, item)) = wire.field()? {
        if number == 1
            && let Some(value) = value(kind, item, depth)?
        {
            list.push(value);
        }
    }
    Ok(Value::Array(list))
}

fn entry(bytes: &[u8], kind: Kind, wrapped: bool, depth: usize) -> Result<(String, Value), Error> {
    let (mut key, mut content) = (String::new(), normalise::zero(kind));
    let mut wire = Wire(bytes);
    while let Some((number, item)) = wire.field()? {
        match (number, item) {
            (1, Item::Bytes(text)) => key = lossy(text),
            (2, Item::Bytes(bytes)) if wrapped => {
                if let Kind::List(kind) = kind {
                    content = items(bytes, *kind, depth)?;
                }
            }
            (2, item) => {
                content = value(kind, item, depth)?
                    .ok_or_else(|| Error::WireType(item.wire_type(), "value"))?;
            }
            _ => {}
        }
    }
    Ok((key, content))
}

/// A value of this kind; None when the wire type does not fit.
fn value(kind: Kind, item: Item<'_>, depth: usize) -> Result<Option<Value>, Error> {
    Ok(match (kind, item) {
        (Kind::String, Item::Bytes(bytes)) => Some(Value::String(lossy(bytes))),
        (Kind::Bool, Item::Varint(number)) => Some(Value::Bool(number != 0)),
        #[allow(clippy::cast_possible_truncation)] // Go truncates the same way
        (Kind::Int32, Item::Varint(number)) => Some(Value::from(number as i32)),
        (Kind::Int64, Item::Varint(number)) => Some(Value::from(number.cast_signed())),
        (Kind::Float, Item::Fixed64(bits)) => Some(scalar::float(f64::from_bits(bits))),
        (Kind::Bytes, Item::Bytes(bytes)) => Some(Value::String(scalar::base64_bytes(bytes))),
        (Kind::Ref(id), Item::Bytes(bytes)) => Some(structure(bytes, id.get(), depth + 1)?),
        (Kind::Quantity, Item::Bytes(bytes)) => {
            let text = Parts::read(bytes)?.text(1);
            Some(Value::String(scalar::quantity(&text).unwrap_or(text)))
        }
        (Kind::Time | Kind::MicroTime, Item::Bytes(bytes)) => {
            let parts = Parts::read(bytes)?;
            #[allow(clippy::cast_possible_truncation)] // an int32 on the wire
            let nanos = parts.number(2) as i32;
            let micro = kind == Kind::MicroTime;
            let text = scalar::time_from_parts(parts.number(1), nanos, micro);
            Some(text.filter(|_| !bytes.is_empty()).map_or(Value::Null, Value::String))
        }
        (Kind::Duration, Item::Bytes(bytes)) => {
            let nanos = Parts::read(bytes)?.number(1);
            Some(Value::String(scalar::print_duration(nanos)))
        }
        (Kind::IntOrString, Item::Bytes(bytes)) => {
            let parts = Parts::read(bytes)?;
            Some(match parts.number(1) {
                0 => Value::from(parts.number(2)),
                _ => Value::String(parts.text(3)),
            })
        }
        (Kind::RawExtension | Kind::FieldsV1 | Kind::Json, Item::Bytes(bytes)) => {
            Some(raw_json(&Parts::read(bytes)?.bytes(1))?)
        }
        (Kind::SchemaOrBool, Item::Bytes(bytes)) => {
            let parts = Parts::read(bytes)?;
            Some(match parts.last(2) {
                Some(Item::Bytes(schema)) => schema_props(schema, depth)?,
                _ => Value::Bool(parts.number(1) != 0),
            })
        }
        (Kind::SchemaOrArray | Kind::SchemaOrStringArray, Item::Bytes(bytes)) => {
            let parts = Parts::read(bytes)?;
            if let Some(Item::Bytes(schema)) = parts.last(1) {
                return schema_props(schema, depth).map(Some);
            }
            let mut list = Vec::new();
            for (number, item) in &parts.0 {
                match (number, item) {
                    (2, Item::Bytes(text)) if kind == Kind::SchemaOrStringArray => {
                        list.push(Value::String(lossy(text)));
                    }
                    (2, Item::Bytes(schema)) => list.push(schema_props(schema, depth)?),
                    _ => {}
                }
            }
            Some(Value::Array(list))
        }
        _ => None,
    })
}

fn schema_props(bytes: &[u8], depth: usize) -> Result<Value, Error> {
    structure(bytes, ids::APIEXTENSIONS_V1_JSONSCHEMAPROPS.get(), depth + 1)
}

fn raw_json(bytes: &[u8]) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let mut scanner = Scanner::new(bytes);
    let value = scanner.any().map_err(|e| Error::Json(e.to_string()))?;
    scanner.end().map_err(|e| Error::Json(e.to_string()))?;
    Ok(value)
}

/// The fields of a small message.
struct Parts<'a>(Vec<(u64, Item<'a>)>);

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut parts = Vec::new();
        let mut wire = Wire(bytes);
        while let Some(part) = wire.field()? {
            parts.push(part);
        }
        Ok(Self(parts))
    }

    fn last(&self, number: u64) -> Option<Item<'a>> {
        self.0.iter().rev().find(|(n, _)| *n == number).map(|(_, item)| *item)
    }

    fn number(&self, number: u64) -> i64 {
        match self.last(number) {
            Some(Item::Varint(value)) => value.cast_signed(),
            _ => 0,
        }
    }

    fn bytes(&self, number: u64) -> Vec<u8> {
        match self.last(number) {
            Some(Item::Bytes(bytes)) => bytes.to_vec(),
            _ => Vec::new(),
        }
    }

    fn text(&self, number: u64) -> String {
        lossy(&self.bytes(number))
    }
}
