//! The standard functions: conversions, sizes, texts, times, optional values.

use std::borrow::Cow;
use std::sync::Arc;

use kube_cel::cel::objects::Value;
use regex::Regex;

use crate::eval::{Answer, Error, Patterns};
use crate::time;
use crate::value::{TypeValue, held, optional, size, text, type_name, whole_size};

/// A tenth, and at least one: what a character costs that is looked at.
pub(crate) const fn tenth(size: u64) -> u64 {
    if size < 10 { 1 } else { size / 10 }
}

/// What a call costs before it is made.
pub(crate) fn cost(name: &str, target: Option<&Value>, args: &[Value]) -> u64 {
    let first = || args.first().map_or(1, size);
    let on = || target.map_or_else(first, size);
    match name {
        // Characters of a text are counted fast, and not for nothing.
        "size" => 1 + on() / 1000,
        "startsWith" | "endsWith" => tenth(first()),
        // As upstream: every character is compared with every other.
        "contains" => tenth(on()).saturating_mul(tenth(first())),
        "matches" | "find" | "findAll" => {
            let (of, pattern) = match target {
                Some(target) => (size(target), first()),
                None => (first(), args.get(1).map_or(1, size)),
            };
            tenth(of).saturating_mul((pattern / 4).max(1))
        }
        "replace" => {
            let with = args.get(1).map_or(1, size);
            tenth(on().saturating_add(1).saturating_mul(with.max(1)))
        }
        "indexOf" | "lastIndexOf" => tenth(on().saturating_mul(first())),
        "distinct" | "sets.contains" | "sets.equivalent" | "sets.intersects" => {
            let walked: u64 = target.into_iter().chain(args).map(whole_size).sum();
            let other = args.get(1).map_or_else(on, size);
            tenth(walked).saturating_mul(other.max(1))
        }
        "int"
        | "uint"
        | "double"
        | "bool"
        | "dyn"
        | "type"
        | "value"
        | "hasValue"
        | "or"
        | "orValue"
        | "optional.of"
        | "optional.none"
        | "optional.ofNonZeroValue" => 1,
        "duration" | "timestamp" | "bytes" | "string" => tenth(first()),
        // What is gone through, and what is copied to call a library.
        _ => tenth(target.into_iter().chain(args).map(whole_size).sum()),
    }
}

/// A type as a value.
pub(crate) fn type_value(name: &str) -> Value {
    let name = match name {
        "timestamp" => "google.protobuf.Timestamp",
        "duration" => "google.protobuf.Duration",
        name => name,
    };
    Value::Opaque(Arc::new(TypeValue(name.to_owned())))
}

/// Calls a standard function; `None` when it is none.
pub(crate) fn call(
    name: &str,
    target: Option<&Value>,
    args: &[Value],
    patterns: &Patterns,
) -> Option<Answer> {
    Some(match (name, target, args) {
        ("size", Some(of), []) | ("size", None, [of]) => counted(of),
        ("contains", Some(Value::String(of)), [Value::String(part)]) => {
            Ok(Value::Bool(of.contains(part.as_str())))
        }
        ("startsWith", Some(Value::String(of)), [Value::String(part)]) => {
            Ok(Value::Bool(of.starts_with(part.as_str())))
        }
        ("endsWith", Some(Value::String(of)), [Value::String(part)]) => {
            Ok(Value::Bool(of.ends_with(part.as_str())))
        }
        ("matches", Some(Value::String(of)), [Value::String(pattern)])
        | ("matches", None, [Value::String(of), Value::String(pattern)]) => {
            pattern_of(pattern, patterns).map(|pattern| Value::Bool(pattern.is_match(of)))
        }
        ("contains" | "startsWith" | "endsWith" | "matches", ..) => Err(Error::no_overload()),
        ("dyn", None, [value]) => Ok(value.clone()),
        ("type", None, [value]) => Ok(type_value(&type_name(value))),
        ("bool", None, [value]) => to_bool(value),
        ("int", None, [value]) => to_int(value),
        ("uint", None, [value]) => to_uint(value),
        ("double", None, [value]) => to_double(value),
        ("bytes", None, [value]) => match value {
            Value::Bytes(_) => Ok(value.clone()),
            Value::String(text) => Ok(Value::Bytes(Arc::new(text.as_bytes().to_vec()))),
            _ => Err(Error::no_overload()),
        },
        ("string", None, [value]) => return to_text(value),
        ("duration", None, [value]) => to_duration(value),
        ("timestamp", None, [value]) => to_timestamp(value),
        ("optional.of", None, [value]) => Ok(optional(Some(value.clone()))),
        ("optional.none", None, []) => Ok(optional(None)),
        ("optional.ofNonZeroValue", None, [value]) => {
            Ok(optional((!value.is_zero()).then(|| value.clone())))
        }
        ("value" | "hasValue" | "or" | "orValue", Some(of), args) => {
            return held(of).map(|inner| of_optional(name, of, inner, args));
        }
        ("lists.range", None, [Value::Int(count)]) if *count > crate::limits::RANGE_MAX => {
            Err(Error::failed("lists.range: too many elements"))
        }
        ("format", Some(Value::String(form)), _) if too_precise(form) => {
            Err(Error::failed("format: precision is too large"))
        }
        (part, Some(Value::Timestamp(at)), args) if part.starts_with("get") => match args {
            [] => time::part(at, part, "").map_err(Error::Failed),
            [Value::String(zone)] => time::part(at, part, zone).map_err(Error::Failed),
            _ => Err(Error::no_overload()),
        },
        (part, Some(Value::Duration(length)), []) => match part {
            "getHours" => Ok(Value::Int(length.num_hours())),
            "getMinutes" => Ok(Value::Int(length.num_minutes())),
            "getSeconds" => Ok(Value::Int(length.num_seconds())),
            "getMilliseconds" => Ok(Value::Int(length.num_milliseconds() % 1000)),
            _ => Err(Error::no_overload()),
        },
        _ => return None,
    })
}

fn counted(of: &Value) -> Answer {
    let count = match of {
        Value::String(text) => text.chars().count() as u64,
        Value::Bytes(_) | Value::List(_) | Value::Map(_) => size(of),
        _ => return Err(Error::no_overload()),
    };
    i64::try_from(count).map(Value::Int).map_err(|_| Error::no_overload())
}

fn pattern_of<'p>(text: &str, patterns: &'p Patterns) -> Result<Cow<'p, Regex>, Error> {
    if let Some(known) = patterns.get(text) {
        return Ok(Cow::Borrowed(known));
    }
    Regex::new(text).map(Cow::Owned).map_err(|error| {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Error::Failed(format!("error parsing regexp: {why}: `{text}`"))
    })
}

/// Whether a format asks for more digits than are worth writing.
fn too_precise(form: &str) -> bool {
    form.split("%.").skip(1).any(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        !digits.is_empty()
            && digits.parse::<usize>().map_or(true, |many| many > crate::limits::PRECISION_MAX)
    })
}

fn to_bool(value: &Value) -> Answer {
    match value {
        Value::Bool(_) => Ok(value.clone()),
        Value::String(text) => match text.as_str() {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Value::Bool(false)),
            _ => Err(unconverted("string", "bool")),
        },
        _ => Err(Error::no_overload()),
    }
}

fn unconverted(from: &str, to: &str) -> Error {
    Error::Failed(format!("type conversion error from '{from}' to '{to}'"))
}

fn out_of_range() -> Error {
    Error::failed("integer overflow")
}

#[allow(clippy::cast_possible_truncation, reason = "the range is checked before")]
fn to_int(value: &Value) -> Answer {
    Ok(Value::Int(match value {
        Value::Int(value) => *value,
        Value::UInt(value) => i64::try_from(*value).map_err(|_| out_of_range())?,
        Value::Float(value) if value.abs() < 9.223_372_036_854_775e18 => *value as i64,
        Value::Float(_) => return Err(out_of_range()),
        Value::String(text) => text.parse().map_err(|_| unconverted("string", "int"))?,
        Value::Timestamp(at) => at.timestamp(),
        Value::Duration(length) => length.num_nanoseconds().ok_or_else(out_of_range)?,
        _ => return Err(Error::no_overload()),
    }))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked before"
)]
fn to_uint(value: &Value) -> Answer {
    let overflow = || Error::failed("unsigned integer overflow");
    Ok(Value::UInt(match value {
        Value::UInt(value) => *value,
        Value::Int(value) => u64::try_from(*value).map_err(|_| overflow())?,
        Value::Float(value) if (0.0..1.844_674_407_370_955e19).contains(value) => *value as u64,
        Value::Float(_) => return Err(overflow()),
        Value::String(text) => text.parse().map_err(|_| unconverted("string", "uint"))?,
        _ => return Err(Error::no_overload()),
    }))
}

#[allow(clippy::cast_precision_loss, reason = "what a conversion to a float is")]
fn to_double(value: &Value) -> Answer {
    Ok(Value::Float(match value {
        Value::Float(value) => *value,
        Value::Int(value) => *value as f64,
        Value::UInt(value) => *value as f64,
        Value::String(text) => text.parse().map_err(|_| unconverted("string", "double"))?,
        _ => return Err(Error::no_overload()),
    }))
}

/// A value as text; `None` for what a library shows.
fn to_text(value: &Value) -> Option<Answer> {
    Some(Ok(text(&match value {
        Value::String(_) => return Some(Ok(value.clone())),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::UInt(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Timestamp(at) => time::shown(at),
        Value::Duration(length) => time::shown_duration(length),
        Value::Bytes(bytes) => match String::from_utf8(bytes.to_vec()) {
            Ok(text) => text,
            Err(_) => {
                return Some(Err(Error::failed(
                    "invalid UTF-8 in bytes, cannot convert to string",
                )));
            }
        },
        Value::Opaque(_) if held(value).is_none() => return None,
        _ => return Some(Err(Error::no_overload())),
    })))
}

fn to_duration(value: &Value) -> Answer {
    match value {
        Value::Duration(_) => Ok(value.clone()),
        Value::Int(nanoseconds) => Ok(Value::Duration(chrono::Duration::nanoseconds(*nanoseconds))),
        Value::String(text) => time::duration(text)
            .map(Value::Duration)
            .ok_or_else(|| unconverted("string", "google.protobuf.Duration")),
        _ => Err(Error::no_overload()),
    }
}

fn to_timestamp(value: &Value) -> Answer {
    match value {
        Value::Timestamp(_) => Ok(value.clone()),
        Value::Int(seconds) => time::of_seconds(*seconds)
            .map(Value::Timestamp)
            .ok_or_else(|| Error::failed("timestamp overflow")),
        Value::String(text) => time::timestamp(text)
            .map(Value::Timestamp)
            .ok_or_else(|| unconverted("string", "google.protobuf.Timestamp")),
        _ => Err(Error::no_overload()),
    }
}

fn of_optional(name: &str, of: &Value, inner: Option<&Value>, args: &[Value]) -> Answer {
    match (name, inner, args) {
        ("value", Some(inner), []) => Ok(inner.clone()),
        ("value", None, []) => Err(Error::failed("optional.none() dereference")),
        ("hasValue", inner, []) => Ok(Value::Bool(inner.is_some())),
        ("or", Some(_), [_]) => Ok(of.clone()),
        ("or", None, [other]) => Ok(other.clone()),
        ("orValue", Some(inner), [_]) => Ok(inner.clone()),
        ("orValue", None, [other]) => Ok(other.clone()),
        _ => Err(Error::no_overload()),
    }
}
