//! Macros that the parser leaves as calls: `cel.bind`, those of optional values, those with two variables.

use kube_cel::cel::common::ast::{CallExpr, Expr};
use kube_cel::cel::parser::Expression;

use super::Checker;
use crate::types::Type;

/// What a macro does with every element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    All,
    Exists,
    ExistsOne,
    List,
    Map,
    MapEntry,
}

/// A macro with its parts.
#[derive(Debug)]
pub(crate) enum Form<'a> {
    Bind {
        name: &'a str,
        value: &'a Expression,
        body: &'a Expression,
    },
    OptMap {
        target: &'a Expression,
        name: &'a str,
        body: &'a Expression,
        flat: bool,
    },
    Two {
        over: Over,
        target: &'a Expression,
        names: (&'a str, &'a str),
        filter: Option<&'a Expression>,
        body: &'a Expression,
    },
}

fn name(tree: &Expression) -> Option<&str> {
    match &tree.expr {
        Expr::Ident(name) => Some(name),
        _ => None,
    }
}

/// The macro that a call is.
pub(crate) fn form(call: &CallExpr) -> Option<Form<'_>> {
    let target = call.target.as_deref()?;
    match (call.func_name.as_str(), call.args.as_slice()) {
        ("bind", [bound, value, body]) if name(target) == Some("cel") => {
            Some(Form::Bind { name: name(bound)?, value, body })
        }
        (function @ ("optMap" | "optFlatMap"), [bound, body]) => {
            Some(Form::OptMap { target, name: name(bound)?, body, flat: function == "optFlatMap" })
        }
        (function, [first, second, rest @ ..]) => {
            let over = match function {
                "all" => Over::All,
                "exists" => Over::Exists,
                "existsOne" | "exists_one" => Over::ExistsOne,
                "transformList" => Over::List,
                "transformMap" => Over::Map,
                "transformMapEntry" => Over::MapEntry,
                _ => return None,
            };
            let (filter, body) = match rest {
                [body] => (None, body),
                [filter, body] if matches!(over, Over::List | Over::Map | Over::MapEntry) => {
                    (Some(filter), body)
                }
                _ => return None,
            };
            Some(Form::Two { over, target, names: (name(first)?, name(second)?), filter, body })
        }
        _ => None,
    }
}

impl Checker<'_> {
    /// The type of a macro; `None` when a call is none.
    pub(super) fn form(&mut self, id: u64, call: &CallExpr) -> Option<Type> {
        Some(match form(call)? {
            Form::Bind { name, value, body } => {
                let ty = self.of(value);
                self.within([(name, ty)], |checker| checker.of(body))
            }
            Form::OptMap { target, name, body, flat } => {
                let ty = self.of(target);
                let ty = self.present(ty, true);
                let body = self.within([(name, ty)], |checker| checker.of(body));
                if flat { body } else { Type::optional(body) }
            }
            Form::Two { over, target, names, filter, body } => {
                let range = self.of(target);
                let (key, value) = self.range(target.id, &range);
                let bound = [(names.0, key.clone()), (names.1, value)];
                let body = self.within(bound, |checker| {
                    if let Some(filter) = filter {
                        checker.must_be_bool(filter);
                    }
                    if matches!(over, Over::All | Over::Exists | Over::ExistsOne) {
                        checker.must_be_bool(body);
                        return Type::Bool;
                    }
                    checker.of(body)
                });
                match over {
                    Over::All | Over::Exists | Over::ExistsOne => Type::Bool,
                    Over::List => Type::list(body),
                    Over::Map => Type::map(key, body),
                    Over::MapEntry => match self.found.resolve(&body) {
                        map @ (Type::Map(..) | Type::Dyn) => map,
                        other => self.wrong(id, format!("expected type 'map' but found '{other}'")),
                    },
                }
            }
        })
    }

    fn must_be_bool(&mut self, tree: &Expression) {
        let ty = self.of(tree);
        if !self.found.assign(&Type::Bool, &ty) {
            let ty = self.found.resolve(&ty);
            self.wrong(tree.id, format!("expected type 'bool' but found '{ty}'"));
        }
    }

    fn within<const N: usize>(
        &mut self,
        bound: [(&str, Type); N],
        work: impl FnOnce(&mut Self) -> Type,
    ) -> Type {
        self.scope.extend(bound.map(|(name, ty)| (name.to_owned(), ty)));
        let ty = work(self);
        self.scope.truncate(self.scope.len() - N);
        ty
    }
}
