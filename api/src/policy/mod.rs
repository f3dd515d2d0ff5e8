//! Expressions of admission policies and match conditions: what they may name, what they must yield, compiled.
//!
//! [`Policy::of`] compiles a policy, whatever is wrong with it: what does not compile says so when it is asked. What is
//! refused when a policy is written is in `validation/policy_expressions.rs`; they are evaluated in
//! `api-server/src/admission/policy`.

pub mod env;
pub mod typing;

use quorate_cel::{Env, Program, Type, compile};
use serde_json::Value;

use crate::tree;
use env::Names;

/// An expression, or why it is none.
pub type Compiled = Result<Program, String>;

/// A condition of a match, or another expression with a name.
#[derive(Debug)]
pub struct Condition {
    /// What it is called.
    pub name: String,
    /// As it is written.
    pub expression: String,
    /// Yields a bool; a variable anything, a note for the audit text or null.
    pub program: Compiled,
}

/// What a policy asks.
#[derive(Debug)]
pub struct Validation {
    /// As it is written.
    pub expression: String,
    /// Yields a bool.
    pub program: Compiled,
    /// What is said when it does not hold.
    pub message: String,
    /// Yields what is said.
    pub message_program: Option<Compiled>,
    /// The reason of the refusal; "" when nothing is said.
    pub reason: String,
}

/// What a policy changes.
#[derive(Debug)]
pub struct Mutation {
    /// It yields operations of a JSON patch, and not a part of an object.
    pub is_patch: bool,
    /// Yields the change.
    pub program: Compiled,
}

/// An admission policy, validating or mutating.
#[derive(Debug)]
pub struct Policy {
    /// Requests fail with it; else what goes wrong is ignored.
    pub fails: bool,
    /// `apiVersion` and `kind` of its parameters.
    pub param_kind: Option<(String, String)>,
    /// What it is about.
    pub constraints: Value,
    /// What must hold for it to be asked.
    pub conditions: Vec<Condition>,
    /// Expressions with names, for the others.
    pub variables: Vec<Condition>,
    /// What it asks.
    pub validations: Vec<Validation>,
    /// What it would note in an audit.
    pub annotations: Vec<Condition>,
    /// What it changes.
    pub mutations: Vec<Mutation>,
    /// It is asked again when others changed the object after it.
    pub reinvoked: bool,
}

/// Compiles an expression that must yield one of these types.
fn yields(env: &Env, text: &str, wanted: &[Type]) -> Compiled {
    let program = compile(env, text).map_err(|error| format!("compilation failed: {error}"))?;
    if wanted.contains(program.ty()) {
        return Ok(program);
    }
    let told: Vec<String> = wanted.iter().map(named).collect();
    Err(match told.as_slice() {
        [one] => format!("must evaluate to {one}"),
        several => format!("must evaluate to one of [{}]", several.join(" ")),
    })
}

/// A type as upstream calls what must be yielded.
fn named(ty: &Type) -> String {
    match ty {
        Type::Null => "null_type".to_owned(),
        other => other.to_string(),
    }
}

/// The conditions of a list.
#[must_use]
pub fn conditions(list: &Value, names: Names) -> Vec<Condition> {
    let env = env::of(names, None);
    let all = list.as_array().into_iter().flatten();
    all.map(|said| Condition {
        name: tree::text(said, "name").to_owned(),
        expression: tree::text(said, "expression").to_owned(),
        program: yields(&env, tree::text(said, "expression"), &[Type::Bool]),
    })
    .collect()
}

/// The variables of a policy, each with those before it, and the environment of what comes after them.
pub(crate) fn variables(spec: &Value, base: Env) -> (Vec<Condition>, Env) {
    let mut fields: Vec<(String, Type)> = Vec::new();
    let with = |fields: &[(String, Type)]| {
        let fields = fields.iter().map(|(name, ty)| (name.as_str(), ty.clone()));
        base.clone().with("variables", Type::object("kubernetes.variables", fields))
    };
    let mut all = Vec::new();
    for said in tree::list(spec, "variables") {
        let text = tree::text(said, "expression");
        let program = compile(&with(&fields), text);
        let program = program.map_err(|error| format!("compilation failed: {error}"));
        let name = tree::text(said, "name").to_owned();
        let ty = program.as_ref().map_or(Type::Dyn, |program| program.ty().clone());
        fields.push((name.clone(), ty));
        all.push(Condition { name, expression: text.to_owned(), program });
    }
    let env = with(&fields);
    (all, env)
}

impl Policy {
    /// Compiles a policy.
    #[must_use]
    pub fn of(policy: &Value) -> Self {
        let spec = tree::get(policy, "spec");
        let kind = tree::get(spec, "paramKind");
        let param_kind = kind.is_object().then(|| {
            (tree::text(kind, "apiVersion").to_owned(), tree::text(kind, "kind").to_owned())
        });
        let names = Names { params: param_kind.is_some(), authorizer: true };
        let (variables, env) = variables(spec, env::of(names, None));
        let (_, quiet) = self::variables(spec, env::of(Names { authorizer: false, ..names }, None));
        Self {
            fails: tree::text(spec, "failurePolicy") != "Ignore",
            param_kind,
            constraints: tree::get(spec, "matchConstraints").clone(),
            conditions: conditions(tree::get(spec, "matchConditions"), names),
            variables,
            validations: tree::list(spec, "validations")
                .iter()
                .map(|said| validation(said, &env, &quiet))
                .collect(),
            annotations: tree::list(spec, "auditAnnotations")
                .iter()
                .map(|said| Condition {
                    name: tree::text(said, "key").to_owned(),
                    expression: tree::text(said, "valueExpression").to_owned(),
                    program: yields(
                        &env,
                        tree::text(said, "valueExpression"),
                        &[Type::String, Type::Null],
                    ),
                })
                .collect(),
            mutations: tree::list(spec, "mutations")
                .iter()
                .map(|said| mutation(said, env.clone().mutating()))
                .collect(),
            reinvoked: tree::text(spec, "reinvocationPolicy") == "IfNeeded",
        }
    }
}

fn validation(said: &Value, env: &Env, quiet: &Env) -> Validation {
    let message = tree::text(said, "messageExpression");
    let expression = tree::text(said, "expression");
    Validation {
        expression: expression.to_owned(),
        program: yields(env, expression, &[Type::Bool]),
        message: tree::text(said, "message").to_owned(),
        message_program: (!message.trim().is_empty())
            .then(|| yields(quiet, message, &[Type::String])),
        reason: tree::text(said, "reason").to_owned(),
    }
}

fn mutation(said: &Value, env: Env) -> Mutation {
    let is_patch = tree::text(said, "patchType") == "JSONPatch";
    let (place, wanted) = match is_patch {
        true => ("jsonPatch", Type::list(Type::opaque("JSONPatch"))),
        false => ("applyConfiguration", Type::opaque("Object")),
    };
    let text = tree::text(tree::get(said, place), "expression");
    Mutation { is_patch, program: yields(&env, text, &[wanted]) }
}

#[cfg(test)]
mod tests;
