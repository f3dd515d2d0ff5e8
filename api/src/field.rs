//! Field errors: what is wrong with which field, in Kubernetes' words.
//!
//! Behaviour follows apimachinery's `util/validation/field`: the rendering of each error kind and
//! the path syntax (`spec.containers[0].env[KEY]`).

use serde_json::Value;
use std::fmt;

use crate::text;

/// The path of a field, as a chain on the stack: building one costs nothing until an error needs
/// its text. `child` also takes several joined names (`"spec.template"`).
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// A path that starts at a top-level field. An empty name is the object itself.
    #[must_use]
    pub const fn new(name: &'a str) -> Path<'a> {
        Path { parent: None, segment: Segment::Name(name) }
    }

    /// The field `name` below this one.
    #[must_use]
    pub const fn child(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), segment: Segment::Name(name) }
    }

    /// The item at `index` of this list.
    #[must_use]
    pub const fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), segment: Segment::Index(index) }
    }

    /// The entry `key` of this map.
    #[must_use]
    pub const fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), segment: Segment::Key(key) }
    }

    fn write(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(out);
        }
        match self.segment {
            Segment::Name(name) => {
                if !out.is_empty() && !name.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Segment::Index(index) => {
                out.push('[');
                out.push_str(&index.to_string());
                out.push(']');
            }
            Segment::Key(key) => {
                out.push('[');
                out.push_str(key);
                out.push(']');
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        f.write_str(if text.is_empty() { "<nil>" } else { &text })
    }
}

/// What is wrong with a field. The text form is the cause's `reason` in a `Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A referenced value does not exist.
    NotFound,
    /// The value is missing or empty.
    Required,
    /// The value must be unique and is not.
    Duplicate,
    /// The value is malformed or out of bounds.
    Invalid,
    /// The value is not in the list of known values.
    NotSupported,
    /// The value is well formed but not permitted here.
    Forbidden,
    /// The value is too long; it is not repeated in the message.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// Something failed that is not the user's fault.
    Internal,
    /// The value has the wrong type.
    TypeInvalid,
}

impl Kind {
    /// The `reason` of the cause in a `Status`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Kind::NotFound => "FieldValueNotFound",
            Kind::Required => "FieldValueRequired",
            Kind::Duplicate => "FieldValueDuplicate",
            Kind::Invalid => "FieldValueInvalid",
            Kind::NotSupported => "FieldValueNotSupported",
            Kind::Forbidden => "FieldValueForbidden",
            Kind::TooLong => "FieldValueTooLong",
            Kind::TooMany => "FieldValueTooMany",
            Kind::Internal => "InternalError",
            Kind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    /// The words the message begins with.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Kind::NotFound => "Not found",
            Kind::Required => "Required value",
            Kind::Duplicate => "Duplicate value",
            Kind::Invalid | Kind::TypeInvalid => "Invalid value",
            Kind::NotSupported => "Unsupported value",
            Kind::Forbidden => "Forbidden",
            Kind::TooLong => "Too long",
            Kind::TooMany => "Too many",
            Kind::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field}: {}", self.body())]
pub struct Error {
    /// What is wrong.
    pub kind: Kind,
    /// The path of the field, rendered.
    pub field: String,
    /// The offending value, when the message shows it.
    pub bad_value: Option<Value>,
    /// What would be right; may be empty.
    pub detail: String,
}

impl Error {
    fn new(kind: Kind, path: &Path<'_>, bad: Option<Value>, detail: impl Into<String>) -> Error {
        Error { kind, field: path.to_string(), bad_value: bad, detail: detail.into() }
    }

    /// The value does not exist.
    pub fn not_found(path: &Path<'_>, bad: impl Into<Value>) -> Error {
        Error::new(Kind::NotFound, path, Some(bad.into()), "")
    }

    /// The field must be set.
    pub fn required(path: &Path<'_>, detail: impl Into<String>) -> Error {
        Error::new(Kind::Required, path, None, detail)
    }

    /// The value appears twice.
    pub fn duplicate(path: &Path<'_>, bad: impl Into<Value>) -> Error {
        Error::new(Kind::Duplicate, path, Some(bad.into()), "")
    }

    /// The value is malformed.
    pub fn invalid(path: &Path<'_>, bad: impl Into<Value>, detail: impl Into<String>) -> Error {
        Error::new(Kind::Invalid, path, Some(bad.into()), detail)
    }

    /// Something is wrong that is no one value's fault.
    pub fn invalid_whole(path: &Path<'_>, detail: impl Into<String>) -> Error {
        Error::new(Kind::Invalid, path, None, detail)
    }

    /// The value has the wrong type.
    pub fn type_invalid(
        path: &Path<'_>,
        bad: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Error {
        Error::new(Kind::TypeInvalid, path, Some(bad.into()), detail)
    }

    /// The value is none of `valid`.
    pub fn not_supported<S: AsRef<str>>(
        path: &Path<'_>,
        bad: impl Into<Value>,
        valid: &[S],
    ) -> Error {
        let detail = if valid.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", text::quote_list(valid))
        };
        Error::new(Kind::NotSupported, path, Some(bad.into()), detail)
    }

    /// The value is not permitted here.
    pub fn forbidden(path: &Path<'_>, detail: impl Into<String>) -> Error {
        Error::new(Kind::Forbidden, path, None, detail)
    }

    /// The value has more than `max` bytes.
    pub fn too_long(path: &Path<'_>, max: usize) -> Error {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Error::new(Kind::TooLong, path, None, format!("may not be more than {max} {unit}"))
    }

    /// The list has `actual` items, more than `max`.
    pub fn too_many(path: &Path<'_>, actual: usize, max: usize) -> Error {
        let unit = if max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max} {unit}");
        Error::new(Kind::TooMany, path, Some(actual.into()), detail)
    }

    /// Something failed on our side.
    pub fn internal(path: &Path<'_>, detail: impl Into<String>) -> Error {
        Error::new(Kind::Internal, path, None, detail)
    }

    /// The message without the field's path.
    #[must_use]
    pub fn body(&self) -> String {
        let mut out = self.kind.words().to_owned();
        match &self.bad_value {
            Some(Value::String(s)) => {
                out.push_str(": ");
                out.push_str(&text::quote(s));
            }
            Some(value) => {
                out.push_str(": ");
                out.push_str(&text::json(value));
            }
            None => {}
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

/// The errors as one line: one error alone, several in brackets, repeated ones once.
#[must_use]
pub fn aggregate(errors: &[Error]) -> String {
    let mut seen: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let line = error.to_string();
        if !seen.contains(&line) {
            seen.push(line);
        }
    }
    match seen.len() {
        1 => seen.remove(0),
        _ => format!("[{}]", seen.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_read_as_upstream_writes_them() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        let annotations = Path::new("metadata");
        let annotations = annotations.child("annotations");
        let cases = [
            (
                Error::invalid(&spec.child("replicas"), -1, "must be greater than or equal to 0"),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (Error::required(&first.child("name"), ""), "spec.containers[0].name: Required value"),
            (
                Error::not_supported(&first.child("imagePullPolicy"), "Now", &["Always", "Never"]),
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Now\": \
                 supported values: \"Always\", \"Never\"",
            ),
            (
                Error::duplicate(&first.child("name"), "a"),
                "spec.containers[0].name: Duplicate value: \"a\"",
            ),
            (
                Error::forbidden(&annotations.key("k"), "no"),
                "metadata.annotations[k]: Forbidden: no",
            ),
            (Error::too_long(&spec, 64), "spec: Too long: may not be more than 64 bytes"),
            (Error::too_many(&spec, 4, 3), "spec: Too many: 4: must have at most 3 items"),
            (
                Error::invalid(&spec.child("selector"), json!({"a": "<b>"}), "field is immutable"),
                "spec.selector: Invalid value: {\"a\":\"\\u003cb\\u003e\"}: field is immutable",
            ),
            (Error::invalid(&spec, Value::Null, "x"), "spec: Invalid value: null: x"),
            (Error::not_found(&spec, "v"), "spec: Not found: \"v\""),
        ];
        for (error, want) in cases {
            assert_eq!(error.to_string(), want);
        }
    }

    #[test]
    fn aggregates_say_each_thing_once() {
        let path = Path::new("a");
        let one = Error::required(&path, "");
        let two = Error::required(&Path::new("b"), "");
        assert_eq!(aggregate(std::slice::from_ref(&one)), "a: Required value");
        assert_eq!(aggregate(&[one.clone(), one.clone()]), "a: Required value");
        assert_eq!(aggregate(&[one.clone(), two, one]), "[a: Required value, b: Required value]");
    }
}
