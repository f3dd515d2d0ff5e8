//! Which functions there are, and what they take and give: the libraries of upstream's environment for v1.36.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::types::{Found, Type};

/// `NAME(ARGUMENTS) RESULT`, or `TARGET::NAME(ARGUMENTS) RESULT` for what is called on a value. `A` and `B` stand for
/// any type, the same wherever they are.
const DECLARED: &str = include_str!("overloads.txt");

/// One form of a function.
#[derive(Debug)]
pub(crate) struct Overload {
    pub(crate) target: Option<Type>,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
    /// How many types it stands for.
    params: usize,
}

static OVERLOADS: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let mut all: HashMap<&'static str, Vec<Overload>> = HashMap::new();
    for line in DECLARED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((name, overload)) = declared(line) {
            all.entry(name).or_default().push(overload);
        }
    }
    all
});

/// All forms of a function.
pub(crate) fn of(name: &str) -> &'static [Overload] {
    OVERLOADS.get(name).map_or(&[], Vec::as_slice)
}

impl Overload {
    /// This form with types of its own to be found.
    pub(crate) fn instance(&self, found: &mut Found) -> (Option<Type>, Vec<Type>, Type) {
        if self.params == 0 {
            return (self.target.clone(), self.args.clone(), self.result.clone());
        }
        let fresh: Vec<Type> = (0..self.params).map(|_| found.fresh()).collect();
        let put = |ty: &Type| put(ty, &fresh);
        (self.target.as_ref().map(put), self.args.iter().map(put).collect(), put(&self.result))
    }
}

fn put(ty: &Type, fresh: &[Type]) -> Type {
    match ty {
        Type::Param(at) => fresh.get(*at).cloned().unwrap_or(Type::Dyn),
        Type::List(of) => Type::list(put(of, fresh)),
        Type::Optional(of) => Type::optional(put(of, fresh)),
        Type::Type(of) => Type::Type(put(of, fresh).into()),
        Type::Map(key, value) => Type::map(put(key, fresh), put(value, fresh)),
        _ => ty.clone(),
    }
}

fn declared(line: &'static str) -> Option<(&'static str, Overload)> {
    let (head, rest) = line.split_once('(')?;
    let (args, result) = rest.rsplit_once(") ")?;
    let (target, name) = match head.split_once("::") {
        Some((target, name)) => (Some(parsed(target)), name),
        None => (None, head),
    };
    let args: Vec<Type> = parts(args).into_iter().map(parsed).collect();
    let params = if line.contains('B') { 2 } else { 1 };
    let mut overload = Overload { target, args, result: parsed(result.trim()), params };
    if overload.target.iter().chain(&overload.args).chain([&overload.result]).all(is_settled) {
        overload.params = 0;
    }
    Some((name, overload))
}

fn is_settled(ty: &Type) -> bool {
    match ty {
        Type::Param(_) => false,
        Type::List(of) | Type::Optional(of) | Type::Type(of) => is_settled(of),
        Type::Map(key, value) => is_settled(key) && is_settled(value),
        _ => true,
    }
}

/// What commas part, but for those within angles.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    text.split(|c: char| {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
    .collect()
}

fn parsed(text: &str) -> Type {
    if let Some((outer, inner)) = text.split_once('<')
        && let Some(inner) = inner.strip_suffix('>')
    {
        let mut inner = parts(inner).into_iter().map(parsed);
        let first = inner.next().unwrap_or(Type::Dyn);
        return match outer {
            "list" => Type::list(first),
            "optional" => Type::optional(first),
            "type" => Type::Type(first.into()),
            _ => Type::map(first, inner.next().unwrap_or(Type::Dyn)),
        };
    }
    match text {
        "A" => Type::Param(0),
        "B" => Type::Param(1),
        _ => named(text).unwrap_or_else(|| Type::opaque(text)),
    }
}

/// The types that expressions can name.
pub(crate) fn named(name: &str) -> Option<Type> {
    Some(match name {
        "dyn" => Type::Dyn,
        "null_type" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "google.protobuf.Timestamp" | "timestamp" => Type::Timestamp,
        "google.protobuf.Duration" | "duration" => Type::Duration,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "type" => Type::Type(Type::Dyn.into()),
        "optional_type" => Type::optional(Type::Dyn),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_function() {
        for line in DECLARED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            assert!(declared(line).is_some(), "{line}");
        }
        assert_eq!(of("_[_]").len(), 2);
        assert_eq!(of("sets.contains")[0].args.len(), 2);
        assert_eq!(of("find")[0].target, Some(Type::String));
    }
}
