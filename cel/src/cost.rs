//! What an expression costs at worst, estimated from the sizes that its schema allows.
//!
//! After upstream's estimator (`cel-go/checker/cost.go`); where that knows nothing and takes the worst, this one takes
//! what the parts allow. So what upstream accepts is accepted here, and what is refused would be refused there.

use std::sync::Arc;

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators,
};
use kube_cel::cel::parser::Expression;

use crate::Program;
use crate::check::form::{Form, Over, form};
use crate::limits::REQUEST_BYTES_MAX;
use crate::schema::Decl;

/// An estimate: the cost, and how large the value can be.
#[derive(Clone, Default)]
struct Of {
    cost: u64,
    max: u64,
    decl: Option<Arc<Decl>>,
    /// Of what was made: its elements.
    elem: Option<Box<Of>>,
}

/// The worst cost of an expression about a value of a schema.
#[must_use]
pub fn estimate(program: &Program, of: &Arc<Decl>) -> u64 {
    let mut estimator = Estimator { root: of, scope: Vec::new() };
    estimator.of(program.tree()).cost
}

/// How often a value of a schema can be there in one request, when no list or map above says how often.
#[must_use]
pub fn cardinality(of: &Decl) -> u64 {
    (REQUEST_BYTES_MAX - 2) / (of.least + 1)
}

/// The words for a cost that is beyond a limit.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "for a message")]
pub fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

struct Estimator<'a> {
    root: &'a Arc<Decl>,
    scope: Vec<(&'a str, Of)>,
}

/// What it costs to look at so many characters.
fn traversal(size: u64) -> u64 {
    size.div_ceil(10)
}

impl Of {
    fn declared(decl: &Arc<Decl>) -> Self {
        Self { cost: 0, max: decl.max, decl: Some(decl.clone()), elem: None }
    }

    fn cost(mut self, cost: u64) -> Self {
        self.cost = cost;
        self
    }

    fn sized(cost: u64, max: u64) -> Self {
        Self { cost, max, ..Self::default() }
    }

    /// Elements of a list, values of a map.
    fn element(&self) -> Self {
        if let Some(elem) = &self.elem {
            return elem.as_ref().clone().cost(0);
        }
        self.decl
            .as_ref()
            .and_then(|decl| decl.elem.as_ref())
            .map(Self::declared)
            .unwrap_or_default()
    }

    fn is_map(&self) -> bool {
        self.decl.as_ref().is_some_and(|decl| matches!(decl.ty, crate::Type::Map(..)))
    }

    fn field(&self, name: &str) -> Self {
        let Some(decl) = &self.decl else { return Self::default() };
        let field = decl.fields.values().find(|(escaped, _)| escaped == name);
        match field {
            Some((_, field)) => Self::declared(field),
            None => self.element(),
        }
    }
}

impl<'a> Estimator<'a> {
    fn of(&mut self, tree: &'a Expression) -> Of {
        match &tree.expr {
            Expr::Unspecified => Of::default(),
            Expr::Literal(LiteralValue::String(text)) => Of::sized(0, text.inner().len() as u64),
            Expr::Literal(LiteralValue::Bytes(bytes)) => Of::sized(0, bytes.inner().len() as u64),
            Expr::Literal(_) => Of::sized(0, 1),
            Expr::Ident(name) => {
                let bound = self.scope.iter().rev().find(|(bound, _)| bound == name);
                match bound {
                    Some((_, of)) => of.clone().cost(1),
                    None if name == "self" || name == "oldSelf" => Of::declared(self.root).cost(1),
                    None => Of::sized(1, 0),
                }
            }
            Expr::Select(select) => {
                let operand = self.of(&select.operand);
                let cost = operand.cost.saturating_add(1);
                if select.test {
                    Of::sized(cost, 1)
                } else {
                    operand.field(&select.field).cost(cost)
                }
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let (cost, elem) = self.all(list.elements.iter(), 10);
                let max = list.elements.len() as u64;
                Of { cost, max, decl: None, elem: elem.map(Box::new) }
            }
            Expr::Map(map) => {
                let entries: Vec<_> = map
                    .entries
                    .iter()
                    .filter_map(|entry| match &entry.expr {
                        EntryExpr::MapEntry(entry) => Some(entry),
                        EntryExpr::StructField(_) => None,
                    })
                    .collect();
                let (keys, _) = self.all(entries.iter().map(|entry| &entry.key), 30);
                let (cost, elem) = self.all(entries.iter().map(|entry| &entry.value), keys);
                Of { cost, max: entries.len() as u64, decl: None, elem: elem.map(Box::new) }
            }
            Expr::Struct(_) => Of::sized(40, 1),
            Expr::Comprehension(all) => self.comprehension(all),
        }
    }

    /// The sum of costs, and the largest.
    fn all(&mut self, all: impl Iterator<Item = &'a Expression>, base: u64) -> (u64, Option<Of>) {
        let mut cost = base;
        let mut largest: Option<Of> = None;
        for one in all {
            let one = self.of(one);
            cost = cost.saturating_add(one.cost);
            if largest.as_ref().is_none_or(|known| known.max < one.max) {
                largest = Some(one);
            }
        }
        (cost, largest)
    }

    fn comprehension(&mut self, all: &'a ComprehensionExpr) -> Of {
        let range = self.of(&all.iter_range);
        let item = if range.is_map() { Of::sized(0, 0) } else { range.element() };
        let init = self.of(&all.accu_init);
        self.scope.push((&all.accu_var, Of::sized(0, 1)));
        self.scope.push((&all.iter_var, item));
        let condition = self.of(&all.loop_cond);
        let step = self.of(&all.loop_step);
        self.scope.truncate(self.scope.len() - 2);
        let each = condition.cost.saturating_add(step.cost);
        let cost = range
            .cost
            .saturating_add(init.cost)
            .saturating_add(range.max.saturating_mul(each))
            .saturating_add(1);
        match &all.accu_init.expr {
            // What a macro gathers is as long as what it goes over.
            Expr::List(_) => Of { cost, max: range.max, decl: None, elem: step.elem },
            _ => Of::sized(cost, 1),
        }
    }

    fn form(&mut self, call: &'a CallExpr) -> Option<Of> {
        Some(match form(call)? {
            Form::Bind { name, value, body } => {
                let value = self.of(value);
                let cost = value.cost;
                self.scope.push((name, value));
                let body = self.of(body);
                self.scope.pop();
                let cost = cost.saturating_add(body.cost);
                body.cost(cost)
            }
            Form::OptMap { target, name, body, .. } => {
                let target = self.of(target);
                let cost = target.cost;
                self.scope.push((name, target));
                let body = self.of(body);
                self.scope.pop();
                let cost = cost.saturating_add(body.cost).saturating_add(1);
                body.cost(cost)
            }
            Form::Two { over, target, names, filter, body } => {
                let range = self.of(target);
                self.scope.push((names.0, Of::sized(0, 0)));
                self.scope.push((names.1, range.element()));
                let filter = filter.map_or(0, |filter| self.of(filter).cost);
                let body = self.of(body);
                self.scope.truncate(self.scope.len() - 2);
                let each = filter.saturating_add(body.cost).saturating_add(2);
                let cost = range.cost.saturating_add(range.max.saturating_mul(each));
                match over {
                    Over::All | Over::Exists | Over::ExistsOne => Of::sized(cost, 1),
                    Over::List | Over::Map | Over::MapEntry => {
                        Of { cost, max: range.max, decl: None, elem: Some(Box::new(body)) }
                    }
                }
            }
        })
    }

    fn call(&mut self, call: &'a CallExpr) -> Of {
        if let Some(of) = self.form(call) {
            return of;
        }
        let name = call.func_name.as_str();
        let target = call.target.as_deref().map(|target| self.of(target));
        let args: Vec<Of> = call.args.iter().map(|arg| self.of(arg)).collect();
        let parts = target.iter().chain(&args);
        let base = parts.clone().fold(0_u64, |sum, part| sum.saturating_add(part.cost));
        let on = target.as_ref().or_else(|| args.first()).cloned().unwrap_or_default();
        let arg = args.get(usize::from(target.is_none())).map_or(0, |arg| arg.max);
        if let Some(of) = shaped(call, base, &on, &args) {
            return of;
        }
        let own = match name {
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::NOT_STRICTLY_FALSE => 0,
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS => traversal(on.max.min(arg)).max(1),
            operators::IN => {
                if args.get(1).is_some_and(Of::is_map) {
                    1
                } else {
                    arg.max(1)
                }
            }
            "contains" | "indexOf" | "lastIndexOf" => {
                traversal(on.max).saturating_mul(traversal(arg)).max(1)
            }
            "matches" | "find" | "findAll" => {
                traversal(on.max.saturating_add(1)).saturating_mul(arg.div_ceil(4).max(1))
            }
            "startsWith" | "endsWith" => traversal(arg).max(1),
            "split" | "replace" | "lowerAscii" | "upperAscii" | "trim" | "substring" | "join"
            | "quantity" | "url" | "ip" | "cidr" | "isIP" | "isCIDR" | "isURL" | "isQuantity"
            | "sum" | "min" | "max" | "isSorted" | "sort" | "distinct" | "bytes" | "string"
            | "format" => {
                let max = on.max.saturating_add(arg);
                let cost = base.saturating_add(traversal(on.max).max(1));
                return Of { cost, max, decl: None, elem: on.elem };
            }
            "orValue" | "or" | "value" => return on.cost(base.saturating_add(1)),
            _ => 1,
        };
        Of::sized(base.saturating_add(own), 1)
    }
}

/// Operators whose value is a part of what they are applied to.
fn shaped(call: &CallExpr, base: u64, on: &Of, args: &[Of]) -> Option<Of> {
    Some(match call.func_name.as_str() {
        operators::CONDITIONAL => {
            let [condition, yes, no] = args else { return None };
            let cost = condition.cost.saturating_add(yes.cost.max(no.cost));
            let mut larger = if yes.max >= no.max { yes.clone() } else { no.clone() };
            // What a macro keeps is what it puts in.
            larger.elem = yes.elem.clone().or_else(|| no.elem.clone());
            larger.cost(cost)
        }
        operators::INDEX | operators::OPT_INDEX => on.element().cost(base.saturating_add(1)),
        operators::OPT_SELECT => {
            let name = match call.args.get(1).map(|field| &field.expr) {
                Some(Expr::Literal(LiteralValue::String(name))) => name.inner(),
                _ => "",
            };
            on.field(name).cost(base.saturating_add(1))
        }
        operators::ADD => {
            let elem = args.iter().find_map(|arg| match (&arg.elem, &arg.decl) {
                (Some(elem), _) => Some(elem.clone()),
                (None, Some(decl)) => decl.elem.as_ref().map(|e| Box::new(Of::declared(e))),
                (None, None) => None,
            });
            let max = args.iter().fold(0_u64, |sum, arg| sum.saturating_add(arg.max));
            let own = if elem.is_some() { 1 } else { traversal(max).max(1) };
            Of { cost: base.saturating_add(own), max, decl: None, elem }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Env, compile};

    fn of(schema: &Value, rule: &str) -> u64 {
        let decl = Arc::new(Decl::of(schema, false).unwrap());
        let env = Env::new([("self", decl.ty.clone())]);
        estimate(&compile(&env, rule).unwrap(), &decl)
    }

    #[test]
    fn what_is_bounded_is_cheap_and_what_is_not_is_dear() {
        use crate::limits::COST_OF_RULE_ESTIMATED_MAX as LIMIT;
        let texts = |more: Value| {
            let mut list = json!({"type": "array", "items": {"type": "string"}});
            list.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            list
        };
        let nested = "self.all(a, self.all(b, a == b))";
        assert!(of(&texts(json!({})), nested) > 100 * LIMIT);
        assert!(of(&texts(json!({"maxItems": 10})), "self.all(a, a == 'x')") < LIMIT);
        let bounded =
            json!({"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 20}});
        assert!(of(&bounded, nested) < LIMIT);
        assert!(of(&bounded, "self.map(a, a + 'x').exists(b, b.startsWith('y'))") < LIMIT);
        assert!(of(&json!({"type": "string"}), "self.contains(self)") > LIMIT);
        assert!(of(&json!({"type": "string"}), "self.startsWith('x') && self.size() < 5") < LIMIT);
        assert_eq!(of(&json!({"type": "integer"}), "self > 1"), 2);
    }

    #[test]
    fn factors_are_told_as_upstream_tells_them() {
        assert!(
            exceeds("x", 1_000, 1).starts_with("x exceeds budget by factor of more than 100x (")
        );
        assert!(exceeds("x", 54, 10).contains("factor of 5.4x ("));
        assert!(exceeds("x", 11, 10).contains("factor of 1.100000x ("));
    }
}
