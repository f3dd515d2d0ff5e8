//! Expressions in the Common Expression Language, as Kubernetes v1.36 uses them: in rules of schemas, in admission
//! policies, in match conditions.
//!
//! A [`Program`] is made by [`compile`], which refuses what names something unknown or puts together what does not fit,
//! in upstream's words; it is evaluated against [`Bindings`] within a [`Budget`]. Whatever is written in an expression,
//! this crate neither panics nor runs without bound: see `limits`. Decision 17 says which part is whose.
//!
//! This crate knows no objects and no requests: rules of schemas are in `api/src/custom/rules`, policies in
//! `api-server/src/admission/policy`.

mod budget;
mod check;
pub mod cost;
mod eval;
mod functions;
mod library;
pub mod limits;
mod overloads;
mod parse;
pub mod schema;
mod time;
pub mod types;
pub mod value;

use std::collections::BTreeSet;

use kube_cel::cel::common::ast::{Expr, LiteralValue};
use kube_cel::cel::parser::Expression;
use regex::Regex;

pub use budget::Budget;
pub use check::Env;
pub use eval::{Bindings, Error};
pub use types::Type;
pub use value::Value;

/// An expression, ready to be evaluated.
#[derive(Debug)]
pub struct Program {
    tree: Expression,
    patterns: eval::Patterns,
    ty: Type,
    uses: BTreeSet<String>,
}

/// Compiles an expression.
///
/// # Errors
/// What is wrong with it, in upstream's form: `ERROR: <input>:1:6: undefined field 'x'`, and a picture.
pub fn compile(env: &Env, source: &str) -> Result<Program, String> {
    let tree = parse::parse(source)?;
    let checked = check::check(env, &tree);
    let mut patterns = eval::Patterns::new();
    let mut errors = checked.errors;
    compile_patterns(&tree, &mut patterns, &mut errors);
    if !errors.is_empty() {
        return Err(parse::placed(source, &errors));
    }
    Ok(Program { tree, patterns, ty: checked.ty, uses: checked.uses })
}

/// Regular expressions that are written in an expression are compiled with it.
fn compile_patterns(
    tree: &Expression,
    patterns: &mut eval::Patterns,
    errors: &mut Vec<(u64, String)>,
) {
    if let Expr::Call(call) = &tree.expr
        && matches!(call.func_name.as_str(), "matches" | "find" | "findAll")
        && let Some(pattern) = call.args.get(usize::from(call.target.is_none()))
        && let Expr::Literal(LiteralValue::String(text)) = &pattern.expr
    {
        match Regex::new(text.inner()) {
            Ok(regex) => {
                patterns.insert(text.inner().to_owned(), regex);
            }
            Err(_) => errors.push((pattern.id, "invalid matches argument".to_owned())),
        }
    }
    for child in parse::children(tree) {
        compile_patterns(child, patterns, errors);
    }
}

impl Program {
    /// The type of its value.
    #[must_use]
    pub const fn ty(&self) -> &Type {
        &self.ty
    }

    /// Whether it names a variable.
    #[must_use]
    pub fn uses(&self, variable: &str) -> bool {
        self.uses.contains(variable)
    }

    /// Its value.
    ///
    /// # Errors
    /// [`Error`]: it went wrong, or would have cost too much.
    pub fn evaluate(&self, bindings: &dyn Bindings, budget: &mut Budget) -> Result<Value, Error> {
        let outer = budget.begin();
        let value = eval::evaluate(&self.tree, &self.patterns, bindings, budget);
        budget.resume(outer);
        value
    }

    /// The tree, for the estimate of its cost.
    pub(crate) const fn tree(&self) -> &Expression {
        &self.tree
    }
}

#[cfg(test)]
mod tests;
