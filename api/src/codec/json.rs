//! JSON text to a tree, driven by the schema: unknown and duplicate fields, types, canonical
//! scalars and the normal form in one pass over the bytes.
//!
//! The error texts are those of Go's `encoding/json` and of upstream's strict decoder.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::scalar;
use super::scan::{Scanner, SyntaxError};
use crate::limits::STRICT_ERRORS_MAX;
use crate::normalise;
use crate::schema::{Field, Kind, Type, TypeId, ids};

/// Why a body is not an object of the type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not JSON
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A value of the wrong type or form; the text names the field
    #[error("{0}")]
    Type(String),
}

/// A tree in normal form and what strict decoding has to say about the text.
#[derive(Debug)]
pub struct Parsed {
    /// The object, unknown fields dropped, in normal form
    pub value: Value,
    /// `unknown field "spec.foo"`, `duplicate field "spec.replicas"`, in the order of the text
    pub strict: Vec<String>,
}

/// Parses JSON text as an object of this type.
///
/// # Errors
///
/// Malformed text, or the first value of a wrong type. Unknown and duplicate fields are no
/// errors here.
pub fn parse(text: &[u8], ty: TypeId) -> Result<Parsed, Error> {
    let mut reader = Reader {
        scan: Scanner::new(text),
        path: Vec::with_capacity(16),
        within: None,
        strict: Vec::new(),
        type_error: None,
        form_error: None,
    };
    let value = match reader.scan.peek()? {
        b'n' => {
            reader.scan.literal("null")?;
            normalise::zero(Kind::Ref(ty))
        }
        b'{' => reader.value(Kind::Ref(ty), "")?,
        _ => {
            let found = reader.found()?;
            let name = ty.get().go_name();
            reader.type_error =
                Some(format!("json: cannot unmarshal {found} into Go value of type {name}"));
            Value::Null
        }
    };
    reader.scan.end()?;
    // A custom form (time, quantity) stops Go's decoder, a wrong type does not: it comes second.
    match reader.form_error.or(reader.type_error) {
        Some(text) => Err(Error::Type(text)),
        None => Ok(Parsed { value, strict: reader.strict }),
    }
}

enum Step<'a> {
    Field(&'static str),
    Key(Cow<'a, str>),
    Index(usize),
}

struct Reader<'a> {
    scan: Scanner<'a>,
    path: Vec<Step<'a>>,
    /// The struct whose field is being read, for error texts
    within: Option<&'static Type>,
    strict: Vec<String>,
    type_error: Option<String>,
    form_error: Option<String>,
}

type Read = Result<Value, SyntaxError>;

impl<'a> Reader<'a> {
    /// A value of this kind; null stays null. `go_type` is for error texts.
    fn value(&mut self, kind: Kind, go_type: &'static str) -> Read {
        match kind {
            Kind::Ref(id) => self.structure(id, go_type, Map::new()),
            Kind::String => match self.scan.peek()? {
                b'"' => Ok(Value::String(self.scan.string()?.into_owned())),
                _ => self.mismatch("string", go_type),
            },
            Kind::List(item) => self.list(*item, go_type),
            Kind::Map(item) => self.map(*item, go_type),
            Kind::Bool => match self.scan.peek()? {
                b't' | b'f' => self.scan.any(),
                _ => self.mismatch("bool", go_type),
            },
            Kind::Int32 => self.integer(i64::from(i32::MIN), i64::from(i32::MAX), "int32", go_type),
            Kind::Int64 => self.integer(i64::MIN, i64::MAX, "int64", go_type),
            Kind::Float => match self.scan.peek()? {
                b'-' | b'0'..=b'9' => {
                    let text = self.scan.number()?;
                    match text.parse::<f64>() {
                        Ok(float) if float.is_finite() => Ok(scalar::float(float)),
                        _ => self.type_error(&format!("number {text}"), "float64", go_type),
                    }
                }
                _ => self.mismatch("float64", go_type),
            },
            Kind::Bytes => self.bytes(go_type),
            Kind::IntOrString => self.int_or_string(),
            Kind::Quantity => self.quantity(),
            Kind::Time => self.formed(scalar::time),
            Kind::MicroTime => self.formed(scalar::micro_time),
            Kind::Duration => self.formed(scalar::duration),
            Kind::RawExtension | Kind::FieldsV1 | Kind::Json | Kind::Any => self.scan.any(),
            Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStringArray => {
                self.schema_or(kind)
            }
        }
    }

    /// A struct, read into `map`: empty, or what an earlier duplicate of the field left.
    fn structure(
        &mut self,
        id: TypeId,
        go_type: &'static str,
        mut map: Map<String, Value>,
    ) -> Read {
        let ty = id.get();
        if self.scan.peek()? != b'{' {
            return self.mismatch("", go_type);
        }
        let merging = !map.is_empty();
        let mut seen: u128 = 0;
        if !self.scan.open(b'}')? {
            let outer = self.within;
            loop {
                let key = self.scan.key()?;
                match ty.field_bytes(key.as_bytes()) {
                    Some((at, field)) => {
                        self.within = Some(ty);
                        self.path.push(Step::Field(field.json));
                        let duplicate = seen & (1 << (at % 128)) != 0;
                        if duplicate {
                            self.strict_error("duplicate field");
                        }
                        seen |= 1 << (at % 128);
                        self.field(&mut map, field, duplicate || merging)?;
                        self.path.pop();
                        self.within = outer;
                    }
                    None => {
                        self.path.push(Step::Key(key));
                        self.strict_error("unknown field");
                        self.path.pop();
                        self.scan.skip()?;
                    }
                }
                if !self.scan.more(b'}')? {
                    break;
                }
            }
        }
        normalise::fill(&mut map, ty);
        Ok(Value::Object(map))
    }

    fn field(
        &mut self,
        map: &mut Map<String, Value>,
        field: &'static Field,
        may_be_there: bool,
    ) -> Result<(), SyntaxError> {
        // Of duplicates the last wins, but structs and maps are merged: Go decodes into what is there.
        let present = if may_be_there { map.get_mut(field.json) } else { None };
        let earlier = match present {
            Some(Value::Object(earlier)) if self.scan.peek()? == b'{' => std::mem::take(earlier),
            _ => Map::new(),
        };
        let mut value = match field.kind {
            Kind::Ref(id) => self.structure(id, field.go_type, earlier)?,
            Kind::Map(item) => match self.map(*item, field.go_type)? {
                Value::Object(later) if !earlier.is_empty() => {
                    Value::Object(earlier.into_iter().chain(later).collect())
                }
                value => value,
            },
            kind => self.value(kind, field.go_type)?,
        };
        if value.is_null() {
            // Go leaves values alone on null and resets pointers, lists and maps.
            if field.pointer() || matches!(field.kind, Kind::List(_) | Kind::Map(_) | Kind::Bytes) {
                map.remove(field.json);
            }
        } else if normalise::keep(field, &mut value) {
            map.insert(field.json.to_owned(), value);
        } else {
            map.remove(field.json);
        }
        Ok(())
    }

    fn list(&mut self, item: Kind, go_type: &'static str) -> Read {
        if self.scan.peek()? != b'[' {
            return self.mismatch("", go_type);
        }
        let item_type = go_type.strip_prefix("[]").unwrap_or("");
        let mut list = Vec::new();
        if !self.scan.open(b']')? {
            loop {
                self.path.push(Step::Index(list.len()));
                let value = self.value(item, item_type)?;
                self.path.pop();
                list.push(if value.is_null() { normalise::zero(item) } else { value });
                if !self.scan.more(b']')? {
                    break;
                }
            }
        }
        Ok(Value::Array(list))
    }

    fn map(&mut self, item: Kind, go_type: &'static str) -> Read {
        if self.scan.peek()? != b'{' {
            return self.mismatch("", go_type);
        }
        let item_type = go_type.split_once(']').map_or("", |(_, item)| item);
        let mut map = Map::new();
        if !self.scan.open(b'}')? {
            loop {
                let key = self.scan.key()?;
                let name = key.clone().into_owned();
                self.path.push(Step::Key(key));
                if map.contains_key(&name) {
                    self.strict_error("duplicate field");
                }
                let value = self.value(item, item_type)?;
                self.path.pop();
                let value = if value.is_null() { normalise::zero(item) } else { value };
                map.insert(name, value);
                if !self.scan.more(b'}')? {
                    break;
                }
            }
        }
        Ok(Value::Object(map))
    }

    fn integer(&mut self, min: i64, max: i64, name: &str, go_type: &'static str) -> Read {
        match self.scan.peek()? {
            b'-' | b'0'..=b'9' => {
                let text = self.scan.number()?;
                match text.parse::<i64>() {
                    Ok(number) if (min..=max).contains(&number) => Ok(Value::from(number)),
                    _ => self.type_error(&format!("number {text}"), name, go_type),
                }
            }
            _ => self.mismatch(name, go_type),
        }
    }

    fn bytes(&mut self, go_type: &'static str) -> Read {
        if self.scan.peek()? != b'"' {
            return self.mismatch("[]uint8", go_type);
        }
        let text = self.scan.string()?;
        match scalar::base64_text(&text) {
            Ok(canonical) => Ok(Value::String(canonical)),
            Err(error) => {
                self.type_error.get_or_insert(error);
                Ok(Value::Null)
            }
        }
    }

    fn int_or_string(&mut self) -> Read {
        match self.scan.peek()? {
            b'"' => Ok(Value::String(self.scan.string()?.into_owned())),
            b'n' => self.scan.any(),
            b'-' | b'0'..=b'9' => {
                let text = self.scan.number()?;
                match text.parse::<i32>() {
                    Ok(number) => Ok(Value::from(number)),
                    Err(_) => self.form_error(format!(
                        "json: cannot unmarshal number {text} into Go value of type int32"
                    )),
                }
            }
            _ => {
                let found = self.found()?;
                self.form_error(format!(
                    "json: cannot unmarshal {found} into Go value of type int32"
                ))
            }
        }
    }

    fn quantity(&mut self) -> Read {
        let parsed = match self.scan.peek()? {
            b'"' => scalar::quantity(self.scan.string()?.trim()),
            b'-' | b'0'..=b'9' => scalar::quantity(self.scan.number()?),
            b'n' => return self.scan.any(),
            _ => {
                self.scan.skip()?;
                scalar::quantity("{}")
            }
        };
        parsed.map(Value::String).or_else(|error| self.form_error(error))
    }

    /// Text with its own parser.
    fn formed(&mut self, parse: fn(&str) -> Result<String, String>) -> Read {
        match self.scan.peek()? {
            b'"' => {
                let parsed = parse(&self.scan.string()?);
                parsed.map(Value::String).or_else(|error| self.form_error(error))
            }
            b'n' => self.scan.any(),
            _ => {
                let found = self.found()?;
                self.form_error(format!(
                    "json: cannot unmarshal {found} into Go value of type string"
                ))
            }
        }
    }

    fn schema_or(&mut self, kind: Kind) -> Read {
        let schema = Kind::Ref(ids::APIEXTENSIONS_V1_JSONSCHEMAPROPS);
        match (self.scan.peek()?, kind) {
            (b'{', _) => self.value(schema, "v1.JSONSchemaProps"),
            (b't' | b'f', Kind::SchemaOrBool) | (b'n', _) => self.scan.any(),
            (b'[', Kind::SchemaOrArray) => self.list(schema, "[]v1.JSONSchemaProps"),
            (b'[', Kind::SchemaOrStringArray) => self.list(Kind::String, "[]string"),
            (_, Kind::SchemaOrBool) => {
                self.scan.skip()?;
                self.form_error("boolean or JSON schema expected".to_owned())
            }
            _ => {
                self.scan.skip()?;
                Ok(Value::Null)
            }
        }
    }

    // === errors ===

    /// Skips a value of the wrong type and returns what Go calls it; null is no mismatch.
    fn mismatch(&mut self, name: &str, go_type: &'static str) -> Read {
        if self.scan.peek()? == b'n' {
            return self.scan.any();
        }
        let found = self.found()?;
        self.type_error(found, name, go_type)
    }

    /// Skips a value and returns what Go calls it in error texts.
    fn found(&mut self) -> Result<&'static str, SyntaxError> {
        let found = match self.scan.peek()? {
            b'{' => "object",
            b'[' => "array",
            b'"' => "string",
            b't' | b'f' => "bool",
            _ => "number",
        };
        self.scan.skip()?;
        Ok(found)
    }

    fn type_error(&mut self, found: &str, name: &str, go_type: &'static str) -> Read {
        if self.type_error.is_none() {
            let go_type = if go_type.is_empty() { name } else { go_type };
            let mut fields = String::new();
            for step in &self.path {
                if let Step::Field(name) = step {
                    fields.push('.');
                    fields.push_str(name);
                }
            }
            let place = match self.within {
                Some(ty) => format!("struct field {}{fields}", ty.name),
                None => "value".to_owned(),
            };
            self.type_error =
                Some(format!("json: cannot unmarshal {found} into Go {place} of type {go_type}"));
        }
        Ok(Value::Null)
    }

    #[allow(clippy::unnecessary_wraps)] // ends readers of one signature
    fn form_error(&mut self, text: String) -> Read {
        self.form_error.get_or_insert(text);
        Ok(Value::Null)
    }

    fn strict_error(&mut self, what: &str) {
        if self.strict.len() >= STRICT_ERRORS_MAX {
            return;
        }
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) => {
                    path.push('.');
                    path.push_str(name);
                }
                Step::Key(name) => {
                    path.push('.');
                    path.push_str(name);
                }
                Step::Index(at) => path.push_str(&format!("[{at}]")),
            }
        }
        let path = path.strip_prefix('.').unwrap_or(&path);
        let text = format!("{what} {}", crate::text::quote(path));
        if !self.strict.contains(&text) {
            self.strict.push(text);
        }
    }
}
