//! Rules, asked: upstream's order, words and ratcheting.
//!
//! What a rule says of a value that has not changed is not told, unless the rule asks about the change itself.

use std::collections::HashMap;

use quorate_cel::limits::MESSAGE_BYTES_MAX;
use quorate_cel::{Budget, Error as Failure, Program, Value as Cel, value};
use serde_json::{Value, json};

use super::Rules;
use super::compile::Rule;
use crate::field::{Error, Kind};

const SPENT: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What a value was before, as far as one can tell.
#[derive(Clone, Copy)]
struct Was<'a> {
    /// The old value that this one is a version of.
    current: Option<&'a Value>,
    /// The nearest value above of which one can tell, and what it was.
    above: Option<(&'a Value, &'a Value)>,
}

impl<'a> Was<'a> {
    fn is_unchanged(self, value: &Value) -> bool {
        match self.current {
            Some(old) => old == value,
            None => self.above.is_some_and(|(new, old)| new == old),
        }
    }

    fn below(self, value: &'a Value, old: Option<&'a Value>) -> Self {
        match self.current {
            Some(own) => Was { current: old, above: Some((value, own)) },
            None => self,
        }
    }
}

/// Asks all rules.
pub(super) fn run(
    rules: &Rules,
    value: &Value,
    old: Option<&Value>,
    path: &str,
    ratchets: bool,
) -> Vec<Error> {
    let mut budget = Budget::default();
    let was = Was { current: old.filter(|_| ratchets), above: None };
    let mut runner = Runner { budget: &mut budget, errors: Vec::new() };
    // That no more is asked is told by an error.
    let _ = runner.visit(rules, value, old, was, path);
    runner.errors
}

/// No more rules are asked: the budget is spent.
struct Spent;

struct Runner<'b> {
    budget: &'b mut Budget,
    errors: Vec<Error>,
}

fn error(kind: Kind, path: &str, rules: &Rules, detail: String) -> Error {
    let field = if path.is_empty() { "<nil>".to_owned() } else { path.to_owned() };
    Error { kind, field, bad_value: Some(json!(rules.type_name)), detail }
}

fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl Runner<'_> {
    fn visit<'a>(
        &mut self,
        rules: &Rules,
        value: &'a Value,
        old: Option<&'a Value>,
        was: Was<'a>,
        path: &str,
    ) -> Result<(), Spent> {
        if value.is_null() {
            return Ok(());
        }
        let old = old.filter(|old| !old.is_null());
        self.own(rules, value, old, was, path)?;
        match value {
            Value::Array(list) => {
                let Some(items) = &rules.items else { return Ok(()) };
                let before = old.and_then(Value::as_array);
                for (at, item) in list.iter().enumerate() {
                    let old = before.and_then(|before| counterpart(item, before, rules));
                    let was = was.below(value, old);
                    self.visit(items, item, old, was, &format!("{path}[{at}]"))?;
                }
            }
            Value::Object(map) => {
                for (name, below) in map {
                    let old = old.and_then(|old| old.get(name));
                    // Of an object these two are not what was written: nothing to tell a change by.
                    let hidden =
                        was.above.is_none() && matches!(name.as_str(), "apiVersion" | "kind");
                    let was = match hidden {
                        true => Was { current: None, above: None },
                        false => was.below(value, old),
                    };
                    if let Some(rules) = &rules.additional {
                        self.visit(rules, below, old, was, &format!("{path}[{name}]"))?;
                    }
                    if let Some(rules) = rules.properties.get(name) {
                        self.visit(rules, below, old, was, &child(path, name))?;
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        Ok(())
    }

    fn own(
        &mut self,
        rules: &Rules,
        value: &Value,
        old: Option<&Value>,
        was: Was<'_>,
        path: &str,
    ) -> Result<(), Spent> {
        let Some(decl) = rules.decl.as_ref().filter(|_| !rules.own.is_empty()) else {
            return Ok(());
        };
        let current = value::of_declared(value, decl);
        let before = rules.own.iter().any(|rule| rule.uses_old).then_some(old).flatten();
        let before = before.map(|old| value::of_declared(old, decl));
        for rule in &rules.own {
            if self.budget.is_spent() {
                self.errors.push(error(Kind::Invalid, path, rules, SPENT.to_owned()));
                return Err(Spent);
            }
            let program = match &rule.program {
                Ok(program) => program,
                Err(why) => {
                    let detail = format!("rule compile error: {why}");
                    self.errors.push(error(Kind::Invalid, path, rules, detail));
                    continue;
                }
            };
            if rule.uses_old && before.is_none() && !rule.optional_old {
                continue;
            }
            let mut bindings = HashMap::from([("self", current.clone())]);
            if rule.optional_old {
                bindings.insert("oldSelf", value::optional(before.clone()));
            } else if let Some(before) = &before {
                bindings.insert("oldSelf", before.clone());
            }
            if let Some(broken) = self.ask(rules, rule, program, &bindings, path)?
                && (rule.uses_old || !was.is_unchanged(value))
            {
                self.errors.push(broken);
            }
        }
        Ok(())
    }

    /// The error of a rule that does not hold. What keeps it from being asked is told at once.
    fn ask(
        &mut self,
        rules: &Rules,
        rule: &Rule,
        program: &Program,
        bindings: &HashMap<&str, Cel>,
        path: &str,
    ) -> Result<Option<Error>, Spent> {
        let name = rule.name();
        let detail = match program.evaluate(bindings, self.budget) {
            Ok(Cel::Bool(true)) => return Ok(None),
            Ok(_) => {
                let message = self.message(rules, rule, bindings, path)?;
                return Ok(Some(broken(rules, rule, path, message)));
            }
            Err(Failure::OutOfBudget) => {
                self.errors.push(error(Kind::Invalid, path, rules, SPENT.to_owned()));
                return Err(Spent);
            }
            Err(failure @ Failure::TooCostly) => {
                let detail = format!(
                    "'{failure}': no further validation rules will be run due to call cost exceeds limit for rule: {name}"
                );
                self.errors.push(error(Kind::Invalid, path, rules, detail));
                return Err(Spent);
            }
            Err(Failure::Failed(why)) if why.starts_with("no such overload") => format!(
                "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {name}"
            ),
            Err(Failure::Failed(why)) => format!("{why} evaluating rule: {name}"),
        };
        self.errors.push(error(Kind::Invalid, path, rules, detail));
        Ok(None)
    }

    /// What is said of a rule that does not hold.
    fn message(
        &mut self,
        rules: &Rules,
        rule: &Rule,
        bindings: &HashMap<&str, Cel>,
        path: &str,
    ) -> Result<String, Spent> {
        if let Some(Ok(program)) = &rule.message_program {
            match program.evaluate(bindings, self.budget) {
                Ok(Cel::String(text)) => {
                    let text = text.trim();
                    if !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n') {
                        return Ok(text.to_owned());
                    }
                }
                Err(Failure::OutOfBudget) => {
                    let detail = "messageExpression evaluation failed due to running out of cost budget, no further \
                                  validation rules will be run";
                    self.errors.push(error(Kind::Invalid, path, rules, detail.to_owned()));
                    return Err(Spent);
                }
                // Whatever else becomes of it: the rule has words of its own.
                Ok(_) | Err(Failure::Failed(_) | Failure::TooCostly) => {}
            }
        }
        Ok(match rule.message.trim() {
            "" => format!("failed rule: {}", rule.name()),
            message => message.to_owned(),
        })
    }
}

fn broken(rules: &Rules, rule: &Rule, path: &str, message: String) -> Error {
    let kind = match rule.reason.as_str() {
        "FieldValueForbidden" => Kind::Forbidden,
        "FieldValueRequired" => Kind::Required,
        "FieldValueDuplicate" => Kind::Duplicate,
        _ => Kind::Invalid,
    };
    let path = match rule.field_path.as_str() {
        "" => path.to_owned(),
        below => child(path, below),
    };
    let message = if kind == Kind::Duplicate { String::new() } else { message };
    let mut error = error(kind, &path, rules, message);
    if matches!(kind, Kind::Forbidden | Kind::Required) {
        error.bad_value = None;
    }
    error
}

/// The item of the old list that this one is a version of: only lists with keys have such.
fn counterpart<'a>(item: &Value, before: &'a [Value], rules: &Rules) -> Option<&'a Value> {
    let keys = rules.keys.as_ref()?;
    let key = |item: &Value| -> Vec<Option<Value>> {
        keys.iter().map(|(name, default)| item.get(name).or(default.as_ref()).cloned()).collect()
    };
    let wanted = key(item);
    before.iter().find(|one| key(one) == wanted)
}
