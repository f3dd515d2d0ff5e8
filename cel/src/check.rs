//! Whether an expression makes sense: what it names is declared, and functions are given what they take.

pub(crate) mod form;

use std::collections::{BTreeMap, BTreeSet};

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, StructExpr, operators,
};
use kube_cel::cel::parser::Expression;

use crate::overloads;
use crate::types::{Found, Type};

/// What expressions may name.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: BTreeMap<String, Type>,
    /// `Object{}` and `JSONPatch{}` can be made.
    mutates: bool,
}

impl Env {
    /// An environment with these variables.
    #[must_use]
    pub fn new<'a>(variables: impl IntoIterator<Item = (&'a str, Type)>) -> Self {
        let variables = variables.into_iter().map(|(name, ty)| (name.to_owned(), ty)).collect();
        Self { variables, mutates: false }
    }

    /// The same with another variable.
    #[must_use]
    pub fn with(mut self, name: &str, ty: Type) -> Self {
        self.variables.insert(name.to_owned(), ty);
        self
    }

    /// The type of a variable.
    #[must_use]
    pub fn ty(&self, name: &str) -> Option<&Type> {
        self.variables.get(name)
    }

    /// The same where objects and patches can be made.
    #[must_use]
    pub fn mutating(mut self) -> Self {
        self.mutates = true;
        self
    }
}

/// What the checker finds.
pub(crate) struct Checked {
    pub(crate) ty: Type,
    /// Variables of the environment that it names.
    pub(crate) uses: BTreeSet<String>,
    pub(crate) errors: Vec<(u64, String)>,
}

/// Checks an expression.
pub(crate) fn check(env: &Env, tree: &Expression) -> Checked {
    let mut checker = Checker {
        env,
        scope: Vec::new(),
        found: Found::default(),
        uses: BTreeSet::new(),
        errors: Vec::new(),
    };
    let ty = checker.of(tree);
    Checked { ty: checker.found.resolve(&ty), uses: checker.uses, errors: checker.errors }
}

struct Checker<'a> {
    env: &'a Env,
    /// Variables of macros, the nearest last.
    scope: Vec<(String, Type)>,
    found: Found,
    uses: BTreeSet<String>,
    errors: Vec<(u64, String)>,
}

/// `a.b.c` as text, when it is nothing but names.
pub(crate) fn path(tree: &Expression) -> Option<String> {
    match &tree.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => {
            Some(format!("{}.{}", path(&select.operand)?, select.field))
        }
        _ => None,
    }
}

impl Checker<'_> {
    fn wrong(&mut self, id: u64, what: String) -> Type {
        self.errors.push((id, what));
        Type::Dyn
    }

    fn undeclared(&mut self, id: u64, name: &str) -> Type {
        self.wrong(id, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn of(&mut self, tree: &Expression) -> Type {
        match &tree.expr {
            Expr::Unspecified => Type::Dyn,
            Expr::Literal(literal) => literal_type(literal),
            Expr::Ident(name) => match self.variable(name) {
                Some(ty) => ty,
                None => match overloads::named(name) {
                    Some(ty) => Type::Type(ty.into()),
                    None => self.undeclared(tree.id, name),
                },
            },
            Expr::Select(select) => self.select(tree, select),
            Expr::Call(call) => self.call(tree.id, call),
            Expr::List(list) => {
                let elements: Vec<(u64, Type)> = (list.elements.iter().enumerate())
                    .map(|(at, element)| {
                        let ty = self.of(element);
                        (element.id, self.present(ty, list.optional_indices.contains(&at)))
                    })
                    .collect();
                Type::list(self.one_of(elements))
            }
            Expr::Map(map) => self.map(map.entries.iter().map(|entry| &entry.expr)),
            Expr::Struct(of) => self.structure(tree.id, of),
            Expr::Comprehension(all) => self.comprehension(all),
        }
    }

    /// What is bound in a macro hides what the environment has.
    fn variable(&mut self, name: &str) -> Option<Type> {
        if let Some((_, ty)) = self.scope.iter().rev().find(|(bound, _)| bound == name) {
            return Some(ty.clone());
        }
        let ty = self.env.variables.get(name)?;
        self.uses.insert(name.to_owned());
        Some(ty.clone())
    }

    fn is_variable(&self, path: &str) -> bool {
        let root = path.split('.').next().unwrap_or_default();
        self.scope.iter().any(|(bound, _)| bound == root) || self.env.variables.contains_key(root)
    }

    /// The value of an optional element.
    fn present(&mut self, ty: Type, optional: bool) -> Type {
        if !optional {
            return ty;
        }
        let inner = self.found.fresh();
        if self.found.assign(&Type::optional(inner.clone()), &ty) { inner } else { Type::Dyn }
    }

    /// The one type that all have.
    fn one_of(&mut self, all: Vec<(u64, Type)>) -> Type {
        let mut all = all.into_iter();
        let Some((_, first)) = all.next() else { return self.found.fresh() };
        for (id, ty) in all {
            if !self.found.assign(&first, &ty) {
                let (wanted, ty) = (self.found.resolve(&first), self.found.resolve(&ty));
                self.wrong(id, format!("expected type '{wanted}' but found '{ty}'"));
            }
        }
        first
    }

    fn map<'e>(&mut self, entries: impl Iterator<Item = &'e EntryExpr>) -> Type {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for entry in entries {
            let EntryExpr::MapEntry(entry) = entry else { continue };
            keys.push((entry.key.id, self.of(&entry.key)));
            let ty = self.of(&entry.value);
            values.push((entry.value.id, self.present(ty, entry.optional)));
        }
        let key = self.one_of(keys);
        Type::map(key, self.one_of(values))
    }

    /// `Object{}`, `Object.spec{}` and `JSONPatch{}` of mutations.
    fn structure(&mut self, id: u64, of: &StructExpr) -> Type {
        let name = of.type_name.trim_start_matches('.');
        let is_object = name == "Object" || name.starts_with("Object.");
        if !self.env.mutates || !(is_object || name == "JSONPatch") {
            return self.undeclared(id, name);
        }
        for entry in &of.entries {
            let EntryExpr::StructField(field) = &entry.expr else { continue };
            let ty = self.of(&field.value);
            let ty = self.present(ty, field.optional);
            let fits = match (is_object, field.field.as_str()) {
                (true, _) => true,
                (false, "op" | "path" | "from") => self.found.assign(&Type::String, &ty),
                (false, "value") => true,
                (false, unknown) => {
                    self.wrong(entry.id, format!("undefined field '{unknown}'"));
                    true
                }
            };
            if !fits {
                let ty = self.found.resolve(&ty);
                let field = &field.field;
                let what = format!(
                    "expected type of field '{field}' is 'string' but provided type is '{ty}'"
                );
                self.wrong(entry.id, what);
            }
            if let Some(inner) = made(&self.found.resolve(&ty))
                && is_object
                && inner != format!("{name}.{}", field.field)
            {
                let wanted = format!("{name}.{}", field.field);
                let what = format!(
                    "unexpected type name \"{inner}\", expected \"{wanted}\", which matches field name path from root \
                     Object type"
                );
                self.wrong(entry.id, what);
            }
        }
        Type::opaque(name)
    }

    fn select(&mut self, tree: &Expression, select: &SelectExpr) -> Type {
        if let Some(path) = path(tree) {
            let root = path.split('.').next().unwrap_or_default();
            // A variable with a point in its name.
            if self.scope.iter().all(|(bound, _)| bound != root)
                && let Some(ty) = self.env.variables.get(&path)
            {
                return ty.clone();
            }
            if !self.is_variable(&path)
                && let Some(ty) = overloads::named(&path)
            {
                return Type::Type(ty.into());
            }
        }
        let operand = self.of(&select.operand);
        let field = self.field(tree.id, &operand, &select.field);
        if select.test { Type::Bool } else { field }
    }

    fn field(&mut self, id: u64, of: &Type, name: &str) -> Type {
        match self.found.resolve(of) {
            Type::Dyn | Type::Param(_) => Type::Dyn,
            Type::Map(_, value) => (*value).clone(),
            Type::Object(object) => match object.fields.get(name) {
                Some(ty) => ty.clone(),
                None => self.wrong(id, format!("undefined field '{name}'")),
            },
            Type::Optional(inner) => match self.field(id, &inner, name) {
                already @ Type::Optional(_) => already,
                ty => Type::optional(ty),
            },
            other => self.wrong(id, format!("type '{other}' does not support field selection")),
        }
    }

    fn call(&mut self, id: u64, call: &CallExpr) -> Type {
        let name = call.func_name.as_str();
        if name == operators::OPT_SELECT
            && let [operand, field] = call.args.as_slice()
            && let Expr::Literal(LiteralValue::String(field)) = &field.expr
        {
            let operand = self.of(operand);
            return match self.field(id, &operand, field.inner()) {
                already @ Type::Optional(_) if matches!(operand, Type::Optional(_)) => already,
                ty => Type::optional(ty),
            };
        }
        if let Some(ty) = self.form(id, call) {
            return ty;
        }
        if let Some(target) = &call.target {
            let full = path(target).filter(|path| !self.is_variable(path));
            let full = full.map(|path| format!("{path}.{name}"));
            if let Some(full) = full.filter(|full| !overloads::of(full).is_empty()) {
                let args = self.all_of(&call.args);
                return self.overload(id, &full, None, &args);
            }
            let target = self.of(target);
            // Texts are made of values of any kind.
            let args = match call.args.as_slice() {
                [only] if name == "format" => vec![self.mixed(only)],
                args => self.all_of(args),
            };
            return self.overload(id, name, Some(&target), &args);
        }
        let args = self.all_of(&call.args);
        self.overload(id, name, None, &args)
    }

    /// A list whose elements need not be of one type.
    fn mixed(&mut self, tree: &Expression) -> Type {
        match &tree.expr {
            Expr::List(list) => {
                self.all_of(&list.elements);
                Type::list(Type::Dyn)
            }
            _ => self.of(tree),
        }
    }

    fn all_of(&mut self, all: &[Expression]) -> Vec<Type> {
        all.iter().map(|one| self.of(one)).collect()
    }

    fn overload(&mut self, id: u64, name: &str, target: Option<&Type>, args: &[Type]) -> Type {
        let mut result: Option<(Found, Type)> = None;
        let mut known = false;
        for form in overloads::of(name) {
            if form.target.is_some() != target.is_some() {
                continue;
            }
            known = true;
            if form.args.len() != args.len() {
                continue;
            }
            let mut found = self.found.clone();
            let (on, wanted, ty) = form.instance(&mut found);
            let fits = on.iter().zip(target).all(|(wanted, ty)| found.assign(wanted, ty))
                && wanted.iter().zip(args).all(|(wanted, ty)| found.assign(wanted, ty));
            if !fits {
                continue;
            }
            let ty = found.resolve(&ty);
            result = Some(match result {
                None => (found, ty),
                Some((found, other)) if other == ty => (found, ty),
                Some((found, _)) => (found, Type::Dyn),
            });
        }
        if let Some((found, ty)) = result {
            self.found = found;
            return ty;
        }
        if !known {
            return self.undeclared(id, name);
        }
        let told = args.iter().map(|ty| self.found.resolve(ty).to_string());
        let told = told.collect::<Vec<_>>().join(", ");
        let applied = match target {
            Some(target) => format!("{}.({told})", self.found.resolve(target)),
            None => format!("({told})"),
        };
        self.wrong(id, format!("found no matching overload for '{name}' applied to '{applied}'"))
    }

    /// What a macro goes over: keys (or indices) and values.
    fn range(&mut self, id: u64, ty: &Type) -> (Type, Type) {
        match self.found.resolve(ty) {
            Type::List(of) => (Type::Int, (*of).clone()),
            Type::Map(key, value) => ((*key).clone(), (*value).clone()),
            Type::Dyn | Type::Param(_) => (Type::Dyn, Type::Dyn),
            other => {
                let what = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.wrong(id, what);
                (Type::Dyn, Type::Dyn)
            }
        }
    }

    fn comprehension(&mut self, all: &ComprehensionExpr) -> Type {
        let range = self.of(&all.iter_range);
        let range = self.found.resolve(&range);
        let (key, value) = self.range(all.iter_range.id, &range);
        let item = if matches!(range, Type::Map(..)) { key } else { value };
        let accu = self.of(&all.accu_init);
        self.scope.push((all.accu_var.clone(), accu.clone()));
        self.scope.push((all.iter_var.clone(), item));
        self.of(&all.loop_cond);
        let step = self.of(&all.loop_step);
        if !self.found.assign(&accu, &step) {
            let (accu, step) = (self.found.resolve(&accu), self.found.resolve(&step));
            self.wrong(all.loop_step.id, format!("expected type '{accu}' but found '{step}'"));
        }
        self.scope.pop();
        let result = self.of(&all.result);
        self.scope.pop();
        self.found.resolve(&result)
    }
}

/// The object that a mutation makes there, alone or in a list.
fn made(ty: &Type) -> Option<String> {
    match ty {
        Type::Opaque(name) if name.starts_with("Object") => Some(name.to_string()),
        Type::List(of) => made(of),
        _ => None,
    }
}

fn literal_type(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    }
}
