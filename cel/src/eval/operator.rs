//! Operators on values.

use std::cmp::Ordering;
use std::sync::Arc;

use kube_cel::cel::common::ast::operators;
use kube_cel::cel::objects::{Key, Value};

use super::{Answer, Error, Evaluator, field, key_of};
use crate::functions::tenth;
use crate::value::{held, list, optional, shared_size, size};

impl Evaluator<'_> {
    /// The value of an operator; `None` when a name is none.
    #[inline(never)]
    pub(super) fn operator(&mut self, name: &str, args: &[Value]) -> Option<Answer> {
        let value = match (name, args) {
            (operators::LOGICAL_NOT, [Value::Bool(value)]) => Ok(Value::Bool(!value)),
            (operators::NEGATE, [value]) => negated(value),
            (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, _) => {
                Err(Error::no_overload())
            }
            (operators::EQUALS, [a, b]) => Ok(Value::Bool(a == b)),
            (operators::NOT_EQUALS, [a, b]) => Ok(Value::Bool(a != b)),
            (operators::LESS, [a, b]) => compared(a, b, Ordering::is_lt),
            (operators::LESS_EQUALS, [a, b]) => compared(a, b, Ordering::is_le),
            (operators::GREATER, [a, b]) => compared(a, b, Ordering::is_gt),
            (operators::GREATER_EQUALS, [a, b]) => compared(a, b, Ordering::is_ge),
            (operators::IN, [a, b]) => contained(a, b),
            (operators::INDEX, [of, at]) => index(of, at),
            (operators::OPT_INDEX, [of, at]) => opt_index(of, at),
            (operators::OPT_SELECT, [of, Value::String(name)]) => match held(of) {
                Some(_) => field(of, name),
                None => match field(of, name) {
                    Ok(value) => Ok(optional(Some(value))),
                    Err(Error::Failed(why)) if why.starts_with("no such key") => Ok(optional(None)),
                    Err(error) => Err(error),
                },
            },
            (
                operators::ADD
                | operators::SUBSTRACT
                | operators::MULTIPLY
                | operators::DIVIDE
                | operators::MODULO,
                [a, b],
            ) => arithmetic(name, a, b),
            _ => return None,
        };
        let cost = match (name, args) {
            // Both are gone through, all that is in them.
            (operators::EQUALS | operators::NOT_EQUALS, [a, b]) => tenth(shared_size(a, b)),
            (operators::IN, [a, Value::List(all)]) => {
                tenth(all.iter().map(|one| shared_size(a, one)).sum())
            }
            (operators::LESS | operators::LESS_EQUALS | operators::GREATER, [a, b])
            | (operators::GREATER_EQUALS, [a, b]) => tenth(size(a).min(size(b))),
            (operators::ADD, [Value::List(a), Value::List(b)]) => (a.len() + b.len()) as u64,
            (operators::ADD, [a, b]) => tenth(size(a) + size(b)),
            _ => 1,
        };
        Some(self.pay(cost.max(1)).and(value))
    }
}

fn negated(value: &Value) -> Answer {
    match value {
        Value::Int(value) => value.checked_neg().map(Value::Int).ok_or_else(overflow),
        Value::Float(value) => Ok(Value::Float(-value)),
        _ => Err(Error::no_overload()),
    }
}

fn overflow() -> Error {
    Error::failed("integer overflow")
}

fn compared(a: &Value, b: &Value, holds: impl Fn(Ordering) -> bool) -> Answer {
    Ok(Value::Bool(compare(a, b)?.is_some_and(holds)))
}

/// How values are ordered; `None` for what is not a number.
#[allow(clippy::cast_precision_loss, reason = "as upstream compares them")]
pub(crate) fn compare(a: &Value, b: &Value) -> Result<Option<Ordering>, Error> {
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::UInt(a), Value::UInt(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::UInt(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::UInt(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Int(a), Value::Float(b)) => (*a as f64).partial_cmp(b),
        (Value::Float(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::UInt(a), Value::Float(b)) => (*a as f64).partial_cmp(b),
        (Value::Float(a), Value::UInt(b)) => a.partial_cmp(&(*b as f64)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        _ => return Err(Error::no_overload()),
    })
}

fn contained(value: &Value, of: &Value) -> Answer {
    match of {
        Value::List(all) => Ok(Value::Bool(all.contains(value))),
        Value::Map(map) => {
            Ok(Value::Bool(key_of(value).is_some_and(|key| map.get(&key).is_some())))
        }
        _ => Err(Error::no_overload()),
    }
}

fn index(of: &Value, at: &Value) -> Answer {
    match of {
        Value::List(all) => {
            let Some(Key::Int(at)) = whole_key(at) else { return Err(Error::no_overload()) };
            let found = usize::try_from(at).ok().and_then(|at| all.get(at));
            found.cloned().ok_or_else(|| Error::Failed(format!("index out of bounds: {at}")))
        }
        Value::Map(map) => {
            let key = key_of(at).ok_or_else(Error::no_overload)?;
            map.get(&key).cloned().ok_or_else(|| match &key {
                Key::Int(key) => Error::no_key(&key.to_string()),
                Key::Uint(key) => Error::no_key(&key.to_string()),
                Key::Bool(key) => Error::no_key(&key.to_string()),
                Key::String(key) => Error::no_key(key),
            })
        }
        _ => match held(of) {
            Some(_) => opt_index(of, at),
            None => Err(Error::no_overload()),
        },
    }
}

fn whole_key(at: &Value) -> Option<Key> {
    Some(match key_of(at)? {
        Key::Uint(at) => Key::Int(i64::try_from(at).ok()?),
        key => key,
    })
}

fn opt_index(of: &Value, at: &Value) -> Answer {
    let of = match held(of) {
        Some(None) => return Ok(optional(None)),
        Some(Some(inner)) => inner,
        None => of,
    };
    match index(of, at) {
        Ok(value) => Ok(optional(Some(value))),
        Err(Error::Failed(why)) if why != "no such overload" => Ok(optional(None)),
        Err(error) => Err(error),
    }
}

fn arithmetic(name: &str, a: &Value, b: &Value) -> Answer {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => {
            let value = match name {
                operators::ADD => a.checked_add(*b),
                operators::SUBSTRACT => a.checked_sub(*b),
                operators::MULTIPLY => a.checked_mul(*b),
                operators::DIVIDE if *b == 0 => return Err(Error::failed("division by zero")),
                operators::DIVIDE => a.checked_div(*b),
                _ if *b == 0 => return Err(Error::failed("modulus by zero")),
                _ => a.checked_rem(*b),
            };
            value.map(Value::Int).ok_or_else(overflow)
        }
        (Value::UInt(a), Value::UInt(b)) => {
            let value = match name {
                operators::ADD => a.checked_add(*b),
                operators::SUBSTRACT => a.checked_sub(*b),
                operators::MULTIPLY => a.checked_mul(*b),
                operators::DIVIDE if *b == 0 => return Err(Error::failed("division by zero")),
                operators::DIVIDE => a.checked_div(*b),
                _ if *b == 0 => return Err(Error::failed("modulus by zero")),
                _ => a.checked_rem(*b),
            };
            value.map(Value::UInt).ok_or_else(|| Error::failed("unsigned integer overflow"))
        }
        (Value::Float(a), Value::Float(b)) => Ok(Value::Float(match name {
            operators::ADD => a + b,
            operators::SUBSTRACT => a - b,
            operators::MULTIPLY => a * b,
            operators::DIVIDE => a / b,
            _ => return Err(Error::no_overload()),
        })),
        _ if name == operators::ADD => added(a, b),
        _ if name == operators::SUBSTRACT => subtracted(a, b),
        _ => Err(Error::no_overload()),
    }
}

fn added(a: &Value, b: &Value) -> Answer {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(Value::String(Arc::new(format!("{a}{b}")))),
        (Value::Bytes(a), Value::Bytes(b)) => {
            Ok(Value::Bytes(Arc::new([a.as_slice(), b.as_slice()].concat())))
        }
        (Value::List(a), Value::List(b)) => Ok(list([a.as_slice(), b.as_slice()].concat())),
        (Value::Duration(a), Value::Duration(b)) => {
            a.checked_add(b).map(Value::Duration).ok_or_else(|| Error::failed("duration overflow"))
        }
        (Value::Timestamp(at), Value::Duration(by))
        | (Value::Duration(by), Value::Timestamp(at)) => at
            .checked_add_signed(*by)
            .map(Value::Timestamp)
            .ok_or_else(|| Error::failed("timestamp overflow")),
        _ => Err(Error::no_overload()),
    }
}

fn subtracted(a: &Value, b: &Value) -> Answer {
    match (a, b) {
        (Value::Duration(a), Value::Duration(b)) => {
            a.checked_sub(b).map(Value::Duration).ok_or_else(|| Error::failed("duration overflow"))
        }
        (Value::Timestamp(at), Value::Duration(by)) => at
            .checked_sub_signed(*by)
            .map(Value::Timestamp)
            .ok_or_else(|| Error::failed("timestamp overflow")),
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            Ok(Value::Duration(a.signed_duration_since(*b)))
        }
        _ => Err(Error::no_overload()),
    }
}
