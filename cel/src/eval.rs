//! Evaluation of checked expressions, step by step, each of which is paid for.
//!
//! The `cel` crate could do it too; it has no limit, clones what it goes through, and reads a missing field of a value
//! that is no map as `false`. Functions of libraries are its and `kube-cel`'s: see `library.rs`.

mod form;
mod operator;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, ListExpr, LiteralValue, MapExpr, SelectExpr,
    StructExpr, operators,
};
use kube_cel::cel::objects::{Key, Map, Value};
use kube_cel::cel::parser::Expression;
use regex::Regex;

use crate::budget::{Budget, Stop};
use crate::check::path;
use crate::value::{held, list, optional, text};
use crate::{functions, library, overloads};

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It went wrong: `no such key: x`.
    Failed(String),
    /// It cost more than one expression may.
    TooCostly,
    /// It cost more than was left for the request.
    OutOfBudget,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => f.write_str(why),
            Self::TooCostly => f.write_str("operation cancelled: actual cost limit exceeded"),
            Self::OutOfBudget => f.write_str("operation cancelled: cost budget exceeded"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Call => Self::TooCostly,
            Stop::Request => Self::OutOfBudget,
        }
    }
}

impl Error {
    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }

    pub(crate) fn no_overload() -> Self {
        Self::failed("no such overload")
    }

    pub(crate) fn no_key(key: &str) -> Self {
        Self::Failed(format!("no such key: {key}"))
    }

    /// Whether evaluation may go on with another part: `a || b` is true when `b` is, whatever becomes of `a`.
    const fn is_soft(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

pub(crate) type Answer = Result<Value, Error>;

/// What an expression's variables stand for.
pub trait Bindings {
    /// The value of a variable.
    fn variable(&self, name: &str, budget: &mut Budget) -> Option<Result<Value, Error>>;

    /// The field of a variable whose fields are computed when they are asked for.
    fn field(&self, _: &str, _: &str, _: &mut Budget) -> Option<Result<Value, Error>> {
        None
    }

    /// What is called on a value that only these bindings know (the authorizer).
    fn call(&self, _: &Value, _: &str, _: &[Value]) -> Option<Result<Value, Error>> {
        None
    }
}

/// Variables with values that are there.
impl Bindings for HashMap<&str, Value> {
    fn variable(&self, name: &str, _: &mut Budget) -> Option<Result<Value, Error>> {
        self.get(name).cloned().map(Ok)
    }
}

/// Regular expressions of an expression that are written in it, compiled once.
pub(crate) type Patterns = HashMap<String, Regex>;

/// Evaluates an expression.
pub(crate) fn evaluate(
    tree: &Expression,
    patterns: &Patterns,
    bindings: &dyn Bindings,
    budget: &mut Budget,
) -> Answer {
    let mut evaluator = Evaluator { patterns, bindings, budget, scope: Vec::new() };
    evaluator.of(tree)
}

struct Evaluator<'a> {
    patterns: &'a Patterns,
    bindings: &'a dyn Bindings,
    budget: &'a mut Budget,
    /// Variables of macros, the nearest last.
    scope: Vec<(&'a str, Value)>,
}

impl<'a> Evaluator<'a> {
    fn pay(&mut self, cost: u64) -> Result<(), Error> {
        Ok(self.budget.pay(cost)?)
    }

    fn of(&mut self, tree: &'a Expression) -> Answer {
        match &tree.expr {
            Expr::Unspecified => Err(Error::failed("nothing to evaluate")),
            Expr::Literal(literal) => Ok(literal_value(literal)),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.select(tree, select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.list(list),
            Expr::Map(map) => self.map(map),
            Expr::Struct(of) => self.structure(of),
            Expr::Comprehension(all) => self.comprehension(all),
        }
    }

    fn bound(&self, name: &str) -> Option<&Value> {
        self.scope.iter().rev().find(|(bound, _)| *bound == name).map(|(_, value)| value)
    }

    #[inline(never)]
    fn variable(&mut self, name: &str) -> Answer {
        self.pay(1)?;
        if let Some(value) = self.bound(name) {
            return match failure(value) {
                Some(why) => Err(Error::Failed(why)),
                None => Ok(value.clone()),
            };
        }
        if let Some(value) = self.bindings.variable(name, self.budget) {
            return value;
        }
        match overloads::named(name) {
            Some(_) => Ok(functions::type_value(name)),
            None => Err(Error::Failed(format!("no such attribute(s): {name}"))),
        }
    }

    #[inline(never)]
    fn select(&mut self, tree: &'a Expression, select: &'a SelectExpr) -> Answer {
        if let Expr::Ident(root) = &select.operand.expr
            && self.bound(root).is_none()
        {
            self.pay(1)?;
            if let Some(value) = self.bindings.field(root, &select.field, self.budget) {
                return if select.test { Ok(Value::Bool(value.is_ok())) } else { value };
            }
        }
        if let Some(path) = path(tree)
            && path.starts_with("google.protobuf.")
            && overloads::named(&path).is_some()
        {
            return Ok(functions::type_value(&path));
        }
        let operand = self.of(&select.operand)?;
        self.pay(1)?;
        if select.test {
            return has(&operand, &select.field);
        }
        field(&operand, &select.field)
    }

    #[inline(never)]
    fn list(&mut self, of: &'a ListExpr) -> Answer {
        self.pay(10)?;
        let mut all = Vec::with_capacity(of.elements.len());
        for (at, element) in of.elements.iter().enumerate() {
            let value = self.of(element)?;
            if of.optional_indices.contains(&at) {
                all.extend(held(&value).ok_or_else(Error::no_overload)?.cloned());
            } else {
                all.push(value);
            }
        }
        Ok(list(all))
    }

    #[inline(never)]
    fn map(&mut self, of: &'a MapExpr) -> Answer {
        self.pay(30)?;
        let mut map = HashMap::with_capacity(of.entries.len());
        for entry in &of.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
            let key = self.of(&entry.key)?;
            let key = key_of(&key).ok_or_else(|| Error::failed("unsupported key type"))?;
            let value = self.of(&entry.value)?;
            let value = present(value, entry.optional)?;
            if let Some(value) = value
                && map.insert(key, value).is_some()
            {
                return Err(Error::failed("Failed with repeated key"));
            }
        }
        Ok(Value::Map(Map { map: Arc::new(map) }))
    }

    #[inline(never)]
    fn structure(&mut self, of: &'a StructExpr) -> Answer {
        self.pay(40)?;
        let mut map = HashMap::with_capacity(of.entries.len());
        for entry in &of.entries {
            let EntryExpr::StructField(field) = &entry.expr else { continue };
            let value = self.of(&field.value)?;
            if let Some(value) = present(value, field.optional)? {
                map.insert(Key::String(Arc::new(field.field.clone())), value);
            }
        }
        Ok(Value::Map(Map { map: Arc::new(map) }))
    }

    #[inline(never)]
    fn call(&mut self, call: &'a CallExpr) -> Answer {
        let name = call.func_name.as_str();
        if let [left, right] = call.args.as_slice()
            && matches!(name, operators::LOGICAL_AND | operators::LOGICAL_OR)
        {
            return self.logical(left, right, name == operators::LOGICAL_OR);
        }
        if let [condition, yes, no] = call.args.as_slice()
            && name == operators::CONDITIONAL
        {
            return match self.of(condition)? {
                Value::Bool(true) => self.of(yes),
                Value::Bool(false) => self.of(no),
                _ => Err(Error::no_overload()),
            };
        }
        if let Some(value) = self.form(call) {
            return value;
        }
        if let Some(value) = self.appended(call) {
            return value;
        }
        self.function(call)
    }

    #[inline(never)]
    fn function(&mut self, call: &'a CallExpr) -> Answer {
        let name = call.func_name.as_str();
        let mut full = None;
        if let Some(target) = call.target.as_deref()
            && let Some(path) = path(target)
            && self.bound(path.split('.').next().unwrap_or_default()).is_none()
        {
            full = Some(format!("{path}.{name}")).filter(|full| !overloads::of(full).is_empty());
        }
        let target = match (&full, &call.target) {
            (None, Some(target)) => Some(self.of(target)?),
            _ => None,
        };
        if call.target.is_none() && name == operators::NOT_STRICTLY_FALSE {
            return match call.args.first().map(|arg| self.of(arg)) {
                Some(Ok(Value::Bool(false))) => Ok(Value::Bool(false)),
                Some(Err(error)) if !error.is_soft() => Err(error),
                _ => Ok(Value::Bool(true)),
            };
        }
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            args.push(self.of(arg)?);
        }
        if target.is_none()
            && full.is_none()
            && let Some(value) = self.operator(name, &args)
        {
            return value;
        }
        let name = full.as_deref().unwrap_or(name);
        self.pay(functions::cost(name, target.as_ref(), &args))?;
        if let Some(target) = &target
            && let Some(value) = self.bindings.call(target, name, &args)
        {
            return value;
        }
        if let Some(value) = functions::call(name, target.as_ref(), &args, self.patterns) {
            return value;
        }
        let value = library::call(name, target, args)?;
        // What it made may be much larger than what it was made of.
        self.pay(functions::tenth(crate::value::size(&value)))?;
        Ok(value)
    }

    fn logical(&mut self, left: &'a Expression, right: &'a Expression, decisive: bool) -> Answer {
        let left = self.of(left);
        match &left {
            Ok(Value::Bool(value)) if *value == decisive => return left,
            Err(error) if !error.is_soft() => return left,
            _ => {}
        }
        let right = self.of(right);
        match (left, right) {
            (_, Ok(Value::Bool(value))) if value == decisive => Ok(Value::Bool(decisive)),
            (_, Err(error)) if !error.is_soft() => Err(error),
            (Ok(Value::Bool(_)), Ok(Value::Bool(_))) => Ok(Value::Bool(!decisive)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            _ => Err(Error::no_overload()),
        }
    }

    /// `@result + [x]` of macros: put in where it is, and not into a copy.
    #[inline(never)]
    fn appended(&mut self, call: &'a CallExpr) -> Option<Answer> {
        let [left, right] = call.args.as_slice() else { return None };
        let (Expr::Ident(accu), Expr::List(elements)) = (&left.expr, &right.expr) else {
            return None;
        };
        let ([element], true) = (elements.elements.as_slice(), accu == "@result") else {
            return None;
        };
        Some((|| {
            self.pay(2)?;
            let value = self.of(element)?;
            let slot = self.scope.iter_mut().rev().find(|(bound, _)| bound == accu);
            let (_, slot) = slot.ok_or_else(Error::no_overload)?;
            match std::mem::replace(slot, Value::Null) {
                Value::List(mut all) => {
                    Arc::make_mut(&mut all).push(value);
                    Ok(Value::List(all))
                }
                other => Err(failure(&other).map_or_else(Error::no_overload, Error::Failed)),
            }
        })())
    }

    #[inline(never)]
    fn comprehension(&mut self, all: &'a ComprehensionExpr) -> Answer {
        let range = self.of(&all.iter_range)?;
        let items = self.items(range)?;
        let mut accu = self.of(&all.accu_init)?;
        for item in 0..items.len() {
            let item = items[item].clone();
            self.scope.push((all.accu_var.as_str(), accu));
            // The condition sees the result only.
            let goes_on = self.of(&all.loop_cond);
            self.scope.push((all.iter_var.as_str(), item));
            let step = match goes_on {
                Ok(Value::Bool(true)) => Some(self.soft_step(&all.loop_step)),
                Ok(Value::Bool(false)) => None,
                Ok(_) => Some(Err(Error::no_overload())),
                Err(error) => Some(Err(error)),
            };
            self.scope.pop();
            let before = self.scope.pop().map_or(Value::Null, |(_, before)| before);
            match step {
                None => {
                    accu = before;
                    break;
                }
                Some(step) => accu = step?,
            }
        }
        self.scope.push((all.accu_var.as_str(), accu));
        let result = self.of(&all.result);
        self.scope.pop();
        result.and_then(|value| match failure(&value) {
            Some(why) => Err(Error::Failed(why)),
            None => Ok(value),
        })
    }

    /// What a macro goes over: elements, or keys in order. A list is not copied: it may be left at once.
    fn items(&mut self, range: Value) -> Result<Arc<Vec<Value>>, Error> {
        match range {
            Value::List(all) => Ok(all),
            Value::Map(map) => {
                self.pay(functions::tenth(map.map.len() as u64))?;
                let mut keys: Vec<&Key> = map.map.keys().collect();
                keys.sort();
                Ok(Arc::new(keys.into_iter().map(of_key).collect()))
            }
            _ => Err(Error::no_overload()),
        }
    }

    /// An error in one element is the result so far: `exists` is true when another element says so.
    fn soft_step(&mut self, step: &'a Expression) -> Answer {
        match self.of(step) {
            Err(Error::Failed(why)) => Ok(failed(why)),
            other => other,
        }
    }
}

/// An error on its way through a macro.
#[derive(Debug, PartialEq, Eq)]
struct Failure(String);

impl kube_cel::cel::objects::Opaque for Failure {
    fn runtime_type_name(&self) -> &'static str {
        "error"
    }
}

fn failed(why: String) -> Value {
    Value::Opaque(Arc::new(Failure(why)))
}

fn failure(value: &Value) -> Option<String> {
    match value {
        Value::Opaque(opaque) => opaque.downcast_ref::<Failure>().map(|failure| failure.0.clone()),
        _ => None,
    }
}

fn of_key(key: &Key) -> Value {
    match key {
        Key::Int(value) => Value::Int(*value),
        Key::Uint(value) => Value::UInt(*value),
        Key::Bool(value) => Value::Bool(*value),
        Key::String(value) => Value::String(value.clone()),
    }
}

fn key_of(value: &Value) -> Option<Key> {
    Some(match value {
        Value::Int(value) => Key::Int(*value),
        Value::UInt(value) => Key::Uint(*value),
        Value::Float(value) => Key::Int(crate::time::whole(*value)?),
        Value::Bool(value) => Key::Bool(*value),
        Value::String(value) => Key::String(value.clone()),
        _ => return None,
    })
}

fn present(value: Value, optional: bool) -> Result<Option<Value>, Error> {
    if !optional {
        return Ok(Some(value));
    }
    held(&value).map(|value| value.cloned()).ok_or_else(Error::no_overload)
}

fn has(of: &Value, name: &str) -> Answer {
    match (of, held(of)) {
        (_, Some(Some(inner))) => has(inner, name),
        (_, Some(None)) => Ok(Value::Bool(false)),
        (Value::Map(map), None) => {
            Ok(Value::Bool(map.map.contains_key(&Key::String(Arc::new(name.to_owned())))))
        }
        _ => Err(Error::no_overload()),
    }
}

fn field(of: &Value, name: &str) -> Answer {
    match (of, held(of)) {
        (_, Some(inner)) => {
            let value = inner.map(|inner| field(inner, name)).transpose();
            match value {
                Ok(value) => Ok(optional(value)),
                Err(Error::Failed(_)) => Ok(optional(None)),
                Err(error) => Err(error),
            }
        }
        (Value::Map(map), None) => {
            let found = map.get(&Key::String(Arc::new(name.to_owned())));
            found.cloned().ok_or_else(|| Error::no_key(name))
        }
        (Value::Null, None) => Err(Error::no_key(name)),
        _ => Err(Error::no_overload()),
    }
}

fn literal_value(literal: &LiteralValue) -> Value {
    match literal {
        LiteralValue::Boolean(value) => Value::Bool(*value.inner()),
        LiteralValue::Bytes(value) => Value::Bytes(Arc::new(value.inner().to_vec())),
        LiteralValue::Double(value) => Value::Float(*value.inner()),
        LiteralValue::Int(value) => Value::Int(*value.inner()),
        LiteralValue::Null => Value::Null,
        LiteralValue::String(value) => text(value.inner()),
        LiteralValue::UInt(value) => Value::UInt(*value.inner()),
    }
}
