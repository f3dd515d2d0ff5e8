//! One rule, compiled.

use quorate_cel::schema::Decl;
use quorate_cel::{Env, Program, Type, compile};
use serde_json::Value;

use super::path;
use crate::tree;

/// A rule that can be asked, or why it cannot.
#[derive(Debug)]
pub(crate) struct Rule {
    /// As it is written.
    pub(crate) text: String,
    pub(crate) message: String,
    pub(crate) reason: String,
    /// What is added to the path of the value that breaks it.
    pub(crate) field_path: String,
    /// It is asked of new values too, with an `oldSelf` that may be nothing.
    pub(crate) optional_old: bool,
    /// Asks about what was before.
    pub(crate) uses_old: bool,
    pub(crate) program: Result<Program, String>,
    pub(crate) message_program: Option<Result<Program, String>>,
}

impl Rule {
    /// What errors call it.
    pub(crate) fn name(&self) -> &str {
        let message = self.message.trim();
        if message.is_empty() { self.text.trim() } else { message }
    }
}

/// What rules about a value may name.
pub(crate) fn env(decl: &Decl) -> Env {
    Env::new([("self", decl.ty.clone()), ("oldSelf", decl.ty.clone())])
}

/// Compiles a rule.
pub(crate) fn rule(env: &Env, said: &Value) -> Rule {
    let text = tree::text(said, "rule");
    let optional_old = tree::flag(said, "optionalOldSelf");
    let optional_env;
    let env = if optional_old {
        optional_env = optional(env);
        &optional_env
    } else {
        env
    };
    let program = boolean(env, text);
    let message = tree::text(said, "messageExpression");
    let message_program = (!message.trim().is_empty()).then(|| texts(env, message));
    let uses = |program: &Result<Program, String>| {
        program.as_ref().is_ok_and(|program| program.uses("oldSelf"))
    };
    Rule {
        text: text.to_owned(),
        message: tree::text(said, "message").to_owned(),
        reason: tree::text(said, "reason").to_owned(),
        field_path: path::normal(tree::text(said, "fieldPath")),
        optional_old,
        uses_old: uses(&program) || message_program.as_ref().is_some_and(uses),
        program,
        message_program,
    }
}

/// Where what was before may be nothing.
fn optional(env: &Env) -> Env {
    let old = env.ty("oldSelf").cloned().unwrap_or(Type::Dyn);
    env.clone().with("oldSelf", Type::optional(old))
}

fn boolean(env: &Env, text: &str) -> Result<Program, String> {
    let program = compile(env, text).map_err(|error| format!("compilation failed: {error}"))?;
    match program.ty() {
        Type::Bool => Ok(program),
        _ => Err("cel expression must evaluate to a bool".to_owned()),
    }
}

fn texts(env: &Env, text: &str) -> Result<Program, String> {
    let program = compile(env, text)
        .map_err(|error| format!("messageExpression compilation failed: {error}"))?;
    match program.ty() {
        Type::String => Ok(program),
        _ => Err("messageExpression must evaluate to a string".to_owned()),
    }
}
