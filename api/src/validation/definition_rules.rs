//! Rules of custom kinds when they are written: they are complete, compile, and do not cost too much.

use std::sync::Arc;

use quorate_cel::limits::{COST_OF_RULE_ESTIMATED_MAX, COST_OF_SCHEMA_ESTIMATED_MAX};
use quorate_cel::schema::Decl;
use quorate_cel::{Program, cost};
use serde_json::{Value, json};

use super::Errors;
use crate::custom::rules::{self, NAME, Rules, compile, path as field_path};
use crate::field::{Error, Path};
use crate::tree;

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
/// Bytes of a message.
const MESSAGE_BYTES_MAX: usize = 2048;
/// How many rules are told of when all together cost too much.
const DEAREST_MAX: usize = 4;

/// What rules say of themselves, at all places of a schema.
pub(super) fn texts(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child(NAME);
    for (at, rule) in tree::list(schema, NAME).iter().enumerate() {
        text(schema, rule, &list.index(at), errors);
    }
    below(schema, path, &mut |schema, path| texts(schema, path, errors));
}

/// Every place below one.
fn below(schema: &Value, path: &Path<'_>, visit: &mut dyn FnMut(&Value, &Path<'_>)) {
    for name in ["items", "additionalProperties"] {
        let below = tree::get(schema, name);
        if below.is_object() {
            visit(below, &path.child(name));
        }
    }
    let properties = path.child("properties");
    for (name, below) in tree::entries(schema, "properties") {
        visit(below, &properties.key(name));
    }
}

fn text(schema: &Value, rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let said = |name: &str| tree::text(rule, name);
    let breaks = |text: &str| text.contains(['\n', '\r']);
    let (message, expression) = (said("message"), said("messageExpression"));
    if said("rule").trim().is_empty() {
        errors.push(Error::required(&path.child("rule"), "rule is not specified"));
    }
    if !message.is_empty() && message.trim().is_empty() {
        let detail = "message must be non-empty if specified";
        errors.push(Error::invalid(&path.child("message"), message, detail));
    } else if message.len() > MESSAGE_BYTES_MAX {
        let shown: String = message.chars().take(10).chain("...".chars()).collect();
        let detail = "message must have a maximum length of 2048 characters";
        errors.push(Error::invalid(&path.child("message"), shown, detail));
    } else if breaks(message.trim()) {
        let detail = "message must not contain line breaks";
        errors.push(Error::invalid(&path.child("message"), message, detail));
    } else if breaks(said("rule").trim()) && message.is_empty() {
        let detail = "message must be specified if rule contains line breaks";
        errors.push(Error::required(&path.child("message"), detail));
    }
    if !expression.is_empty() && expression.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        errors.push(Error::required(&path.child("messageExpression"), detail));
    }
    if let Some(reason) = tree::text_opt(rule, "reason")
        && !REASONS.contains(&reason)
    {
        errors.push(Error::not_supported(&path.child("reason"), reason, &REASONS));
    }
    let field = said("fieldPath");
    let at = path.child("fieldPath");
    if !field.is_empty() && field.trim().is_empty() {
        errors.push(Error::invalid(&at, field, "fieldPath must be non-empty if specified"));
    }
    if breaks(field) {
        errors.push(Error::invalid(&at, field, "fieldPath must not contain line breaks"));
    }
    if let Err(why) = field_path::check(field, schema) {
        let detail = format!("fieldPath must be a valid path: {why}");
        errors.push(Error::invalid(&at, field, detail));
    }
}

/// Compiles all rules of a sound schema.
pub(super) fn compile_all(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !rules::has_any(schema) {
        return;
    }
    let mut compiler = Compiler { errors, total: 0, dear: Vec::new() };
    let decl = Decl::of(schema, true).map(Arc::new);
    let place = Place { decl, times: Some(1), uncorrelated: None };
    compiler.visit(schema, &place, path);
    let (total, mut dear) = (compiler.total, compiler.dear);
    if total > COST_OF_SCHEMA_ESTIMATED_MAX {
        dear.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, field) in dear.into_iter().take(DEAREST_MAX) {
            let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(Error::forbidden(&Path::new(&field), detail));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let detail = cost::exceeds(what, total, COST_OF_SCHEMA_ESTIMATED_MAX);
        errors.push(Error::forbidden(path, detail));
    }
}

/// What is known of a place.
#[derive(Clone)]
struct Place {
    decl: Option<Arc<Decl>>,
    /// How many values can be there in an object; `None` when a list or map above is not bounded.
    times: Option<u64>,
    /// The list above, of whose items one cannot tell what they were before.
    uncorrelated: Option<String>,
}

struct Compiler<'a> {
    errors: &'a mut Errors,
    total: u64,
    /// Rules that cost more than a hundredth of what all may.
    dear: Vec<(u64, String)>,
}

impl Compiler<'_> {
    fn visit(&mut self, schema: &Value, place: &Place, path: &Path<'_>) {
        if !rules::has_any(schema) {
            return;
        }
        self.own(schema, place, path);
        let elem = |max: &str| Place {
            decl: place.decl.as_ref().and_then(|decl| decl.elem.clone()),
            times: place
                .times
                .zip(tree::get(schema, max).as_u64())
                .map(|(times, max)| times.saturating_mul(max)),
            uncorrelated: place.uncorrelated.clone(),
        };
        let items = tree::get(schema, "items");
        if items.is_object() {
            let mut place = elem("maxItems");
            if tree::text(schema, "x-kubernetes-list-type") != "map" {
                place.uncorrelated.get_or_insert_with(|| path.to_string());
            }
            self.visit(items, &place, &path.child("items"));
        }
        let additional = tree::get(schema, "additionalProperties");
        if additional.is_object() {
            self.visit(additional, &elem("maxProperties"), &path.child("additionalProperties"));
        }
        let properties = path.child("properties");
        for (name, below) in tree::entries(schema, "properties") {
            let decl = place.decl.as_ref();
            let decl = decl.and_then(|decl| rules::below(schema, decl, name));
            let place = Place { decl, ..place.clone() };
            self.visit(below, &place, &properties.key(name));
        }
    }

    fn own(&mut self, schema: &Value, place: &Place, path: &Path<'_>) {
        let all = tree::list(schema, NAME);
        if all.is_empty() {
            return;
        }
        let list = path.child(NAME);
        let Some(decl) = &place.decl else {
            let detail =
                "internal error: failed to retrieve type information for x-kubernetes-validations";
            self.errors.push(Error::internal(&list, detail));
            return;
        };
        let env = compile::env(decl);
        for (at, said) in all.iter().enumerate() {
            let rule = compile::rule(&env, said);
            let path = list.index(at);
            let times = place.times.unwrap_or_else(|| cost::cardinality(decl));
            let programs = [
                ("rule", Some(&rule.program)),
                ("messageExpression", rule.message_program.as_ref()),
            ];
            for (name, program) in programs {
                match program {
                    Some(Ok(program)) => self.cost(program, decl, times, name, &path.child(name)),
                    Some(Err(why)) => {
                        self.errors.push(Error::invalid(&path.child(name), shown(said), why));
                    }
                    None => {}
                }
            }
            self.change(&rule, said, place, &path);
        }
    }

    fn cost(
        &mut self,
        program: &Program,
        decl: &Arc<Decl>,
        times: u64,
        name: &str,
        path: &Path<'_>,
    ) {
        let cost = cost::estimate(program, decl).saturating_mul(times);
        if cost > COST_OF_RULE_ESTIMATED_MAX {
            let what = format!("estimated {name} cost");
            let detail = cost::exceeds(&what, cost, COST_OF_RULE_ESTIMATED_MAX);
            self.errors.push(Error::forbidden(path, detail));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= COST_OF_SCHEMA_ESTIMATED_MAX / 100 {
            self.dear.push((cost, path.to_string()));
        }
    }

    /// What a rule about changes must satisfy.
    fn change(&mut self, rule: &compile::Rule, said: &Value, place: &Place, path: &Path<'_>) {
        if rule.uses_old {
            if let Some(list) = &place.uncorrelated {
                let detail = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {list}"
                );
                self.errors.push(Error::invalid(&path.child("rule"), rule.text.as_str(), detail));
            }
        } else if rule.program.is_ok()
            && let Some(optional) = said.get("optionalOldSelf").filter(|value| value.is_boolean())
        {
            let detail = "may not be set if oldSelf is not used in rule";
            self.errors.push(Error::invalid(
                &path.child("optionalOldSelf"),
                optional.clone(),
                detail,
            ));
        }
    }
}

/// A rule as upstream shows it in errors: all its fields, by their names in Go.
fn shown(rule: &Value) -> Value {
    let text = |name: &str| json!(tree::text(rule, name));
    let other = |name: &str| tree::get(rule, name).clone();
    json!({
        "Rule": text("rule"), "Message": text("message"), "MessageExpression": text("messageExpression"),
        "Reason": other("reason"), "FieldPath": text("fieldPath"), "OptionalOldSelf": other("optionalOldSelf"),
    })
}

/// What the rules of a place say of its default.
pub(super) fn default(schema: &Value, default: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !rules::has_any(schema) {
        return;
    }
    let resource = tree::flag(schema, "x-kubernetes-embedded-resource");
    if let Some(rules) = Rules::of(schema, Decl::of(schema, resource).map(Arc::new)) {
        let path = path.to_string();
        errors.extend(rules.check_default(default, &path));
    }
}
