//! Macros that the parser leaves as calls.

use std::collections::HashMap;
use std::sync::Arc;

use kube_cel::cel::common::ast::CallExpr;
use kube_cel::cel::objects::{Key, Map, Value};
use kube_cel::cel::parser::Expression;

use super::{Answer, Error, Evaluator, key_of, of_key};
use crate::check::form::{Form, Over, form};
use crate::value::{held, list, optional, size};

impl<'a> Evaluator<'a> {
    /// The value of a macro; `None` when a call is none.
    #[inline(never)]
    pub(super) fn form(&mut self, call: &'a CallExpr) -> Option<Answer> {
        Some(match form(call)? {
            Form::Bind { name, value, body } => {
                self.of(value).and_then(|value| self.within(&[(name, value)], body))
            }
            Form::OptMap { target, name, body, flat } => self.opt_map(target, name, body, flat),
            Form::Two { over, target, names, filter, body } => {
                self.of(target).and_then(|range| self.two(over, &range, names, filter, body))
            }
        })
    }

    fn within(&mut self, bound: &[(&'a str, Value)], body: &'a Expression) -> Answer {
        self.scope.extend_from_slice(bound);
        let value = self.of(body);
        self.scope.truncate(self.scope.len() - bound.len());
        value
    }

    fn opt_map(
        &mut self,
        target: &'a Expression,
        name: &'a str,
        body: &'a Expression,
        flat: bool,
    ) -> Answer {
        let target = self.of(target)?;
        let Some(inner) = held(&target).ok_or_else(Error::no_overload)?.cloned() else {
            return Ok(optional(None));
        };
        let value = self.within(&[(name, inner)], body)?;
        Ok(if flat { value } else { optional(Some(value)) })
    }

    fn two(
        &mut self,
        over: Over,
        range: &Value,
        names: (&'a str, &'a str),
        filter: Option<&'a Expression>,
        body: &'a Expression,
    ) -> Answer {
        let mut made = Vec::new();
        let mut entries = HashMap::new();
        let mut hits = 0;
        let mut failed = None;
        self.pay(size(range))?;
        for (key, value) in pairs(range)? {
            self.pay(2)?;
            let bound = [(names.0, key.clone()), (names.1, value)];
            if let Some(filter) = filter
                && !is_true(&self.within(&bound, filter)?)?
            {
                continue;
            }
            let value = self.within(&bound, body);
            if matches!(over, Over::All | Over::Exists) {
                let decisive = over == Over::Exists;
                match value.and_then(|value| is_true(&value)) {
                    Ok(value) if value == decisive => return Ok(Value::Bool(decisive)),
                    Ok(_) => {}
                    Err(error) if error.is_soft() => failed = Some(error),
                    Err(error) => return Err(error),
                }
                continue;
            }
            let value = value?;
            match over {
                Over::All | Over::Exists => {}
                Over::ExistsOne => hits += u32::from(is_true(&value)?),
                Over::List => made.push(value),
                Over::Map => {
                    entries.insert(key_of(&key).ok_or_else(Error::no_overload)?, value);
                }
                Over::MapEntry => {
                    let Value::Map(map) = &value else { return Err(Error::no_overload()) };
                    for (key, value) in map.map.iter() {
                        if entries.insert(key.clone(), value.clone()).is_some() {
                            return Err(Error::failed("insert failed: key already exists"));
                        }
                    }
                }
            }
        }
        Ok(match (over, failed) {
            (_, Some(error)) => return Err(error),
            (Over::All, None) => Value::Bool(true),
            (Over::Exists, None) => Value::Bool(false),
            (Over::ExistsOne, None) => Value::Bool(hits == 1),
            (Over::List, None) => list(made),
            (Over::Map | Over::MapEntry, None) => Value::Map(Map { map: Arc::new(entries) }),
        })
    }
}

fn is_true(value: &Value) -> Result<bool, Error> {
    match value {
        Value::Bool(value) => Ok(*value),
        _ => Err(Error::no_overload()),
    }
}

/// Indices and elements, or keys and values in order of the keys.
fn pairs(range: &Value) -> Result<Vec<(Value, Value)>, Error> {
    match range {
        Value::List(all) => Ok((0..).map(Value::Int).zip(all.iter().cloned()).collect()),
        Value::Map(map) => {
            let mut pairs: Vec<(&Key, &Value)> = map.map.iter().collect();
            pairs.sort_by(|a, b| a.0.cmp(b.0));
            Ok(pairs.into_iter().map(|(key, value)| (of_key(key), value.clone())).collect())
        }
        _ => Err(Error::no_overload()),
    }
}
