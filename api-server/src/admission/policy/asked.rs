//! What the expressions of one policy, asked about one write, may look at.

use std::cell::RefCell;
use std::collections::BTreeMap;

use quorate_api::policy::Condition;
use quorate_cel::{Bindings, Budget, Error, Value, value};
use serde_json::Value as Json;

use super::authorizer;
use crate::authz::Authorizer;
use crate::identity::Identity;

/// The values of variables. Objects are made into values of expressions when the first asks for them.
pub(super) struct Asked<'a> {
    /// An `AdmissionRequest`, with or without its objects.
    pub(super) request: &'a Json,
    pub(super) object: &'a Json,
    pub(super) old: &'a Json,
    /// Null for what is in no namespace.
    pub(super) namespace: &'a Json,
    pub(super) params: &'a Json,
    pub(super) authorizer: &'a Authorizer,
    pub(super) by: &'a Identity,
    pub(super) variables: &'a [Condition],
    known: RefCell<BTreeMap<String, Result<Value, Error>>>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(
        request: &'a Json,
        (object, old): (&'a Json, &'a Json),
        (authorizer, by): (&'a Authorizer, &'a Identity),
    ) -> Self {
        Self {
            request,
            object,
            old,
            namespace: &Json::Null,
            params: &Json::Null,
            authorizer,
            by,
            variables: &[],
            known: RefCell::default(),
        }
    }

    fn once(
        &self,
        name: String,
        make: impl FnOnce() -> Result<Value, Error>,
    ) -> Result<Value, Error> {
        if let Some(known) = self.known.borrow().get(&name) {
            return known.clone();
        }
        let made = make();
        self.known.borrow_mut().insert(name, made.clone());
        made
    }

    /// A variable of the policy, evaluated when the first asks for it.
    fn composed(&self, name: &str, budget: &mut Budget) -> Option<Result<Value, Error>> {
        let variable = self.variables.iter().find(|one| one.name == name)?;
        Some(self.once(format!("variables.{name}"), || {
            let wrong = |how: &str, why: &dyn std::fmt::Display| {
                Error::Failed(format!("composited variable \"{name}\" fails to {how}: {why}"))
            };
            match &variable.program {
                Err(why) => Err(wrong("compile", why)),
                Ok(program) => program.evaluate(self, budget).map_err(|error| match error {
                    Error::Failed(why) => wrong("evaluate", &why),
                    error => error,
                }),
            }
        }))
    }
}

/// A namespace as expressions see it.
fn shown_namespace(namespace: &Json) -> Value {
    let decl = quorate_api::policy::env::namespace_decl();
    value::of_declared(namespace, decl)
}

impl Bindings for Asked<'_> {
    fn variable(&self, name: &str, _: &mut Budget) -> Option<Result<Value, Error>> {
        let json = match name {
            "request" => self.request,
            "object" => self.object,
            "oldObject" => self.old,
            "params" => self.params,
            "namespaceObject" if !self.namespace.is_null() => {
                return Some(self.once(name.to_owned(), || Ok(shown_namespace(self.namespace))));
            }
            "namespaceObject" => return Some(Ok(Value::Null)),
            "authorizer" => return Some(Ok(authorizer::any())),
            _ => return None,
        };
        Some(self.once(name.to_owned(), || Ok(value::of_json(json))))
    }

    fn field(&self, of: &str, name: &str, budget: &mut Budget) -> Option<Result<Value, Error>> {
        match (of, name) {
            ("variables", name) => self.composed(name, budget),
            ("authorizer", "requestResource") => {
                let text = |name: &str| self.request[name].as_str().unwrap_or_default();
                let resource = &self.request["requestResource"];
                let part = |name: &str| resource[name].as_str().unwrap_or_default();
                Some(Ok(authorizer::about(
                    part("group"),
                    part("resource"),
                    text("requestSubResource"),
                    text("namespace"),
                    text("name"),
                )))
            }
            _ => None,
        }
    }

    fn call(&self, target: &Value, name: &str, args: &[Value]) -> Option<Result<Value, Error>> {
        authorizer::call(self.authorizer, self.by, target, name, args)
    }
}
