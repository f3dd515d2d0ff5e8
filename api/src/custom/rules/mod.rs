//! Rules of schemas (`x-kubernetes-validations`): compiled with the schema, run when objects are written.
//!
//! Start reading at [`Rules::of`] and [`Rules::check`]. What is refused when a definition is written is in
//! `validation/definition_rules.rs`; it compiles with [`compile::rule`] too.

pub(crate) mod compile;
pub(crate) mod path;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_cel::schema::Decl;
use serde_json::Value;

use crate::field::Error;
use crate::tree;

/// The name under which schemas have rules.
pub(crate) const NAME: &str = "x-kubernetes-validations";

/// The rules at one place of a schema and below it.
#[derive(Debug)]
pub struct Rules {
    own: Vec<compile::Rule>,
    /// What expressions see of a value; `None` where nothing is said of it, and no rule can be.
    decl: Option<Arc<Decl>>,
    /// What errors say of a value: its type.
    type_name: String,
    properties: BTreeMap<String, Rules>,
    additional: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
    /// The keys of a list that is a map, with what they are when they are not there.
    keys: Option<Vec<(String, Option<Value>)>>,
}

impl Rules {
    /// The rules of a schema; `None` when there are none.
    #[must_use]
    pub fn root(schema: &Value) -> Option<Self> {
        if !has_any(schema) {
            return None;
        }
        let decl = Decl::of(schema, true).map(Arc::new);
        Self::of(schema, decl)
    }

    /// The rules of one place.
    #[must_use]
    pub fn of(schema: &Value, decl: Option<Arc<Decl>>) -> Option<Self> {
        let own = match &decl {
            Some(decl) => {
                let env = compile::env(decl);
                let all = tree::list(schema, NAME).iter();
                all.map(|said| compile::rule(&env, said)).collect()
            }
            None => Vec::new(),
        };
        let below = |name: &str| decl.as_ref().and_then(|decl| below(schema, decl, name));
        let properties: BTreeMap<String, Self> = tree::entries(schema, "properties")
            .filter(|(_, schema)| has_any(schema))
            .filter_map(|(name, schema)| Some((name.clone(), Self::of(schema, below(name))?)))
            .collect();
        let elem = || decl.as_ref().and_then(|decl| decl.elem.clone());
        let part = |name: &str| {
            let schema = tree::get(schema, name);
            let rules = schema.is_object() && has_any(schema);
            rules.then(|| Self::of(schema, elem())).flatten().map(Box::new)
        };
        let (additional, items) = (part("additionalProperties"), part("items"));
        if own.is_empty() && properties.is_empty() && additional.is_none() && items.is_none() {
            return None;
        }
        Some(Self {
            own,
            decl,
            type_name: tree::text(schema, "type").to_owned(),
            properties,
            additional,
            items,
            keys: keys(schema),
        })
    }

    /// What the rules say of an object, and of what it was before.
    #[must_use]
    pub fn check(&self, object: &Value, old: Option<&Value>) -> Vec<Error> {
        run::run(self, object, old, "", true)
    }

    /// What the rules say of a default, which is at `path`: a value that does not change.
    pub(crate) fn check_default(&self, value: &Value, path: &str) -> Vec<Error> {
        run::run(self, value, Some(value), path, false)
    }
}

/// What expressions see of a property: that of a name they have none for is theirs below it.
pub(crate) fn below(schema: &Value, decl: &Decl, name: &str) -> Option<Arc<Decl>> {
    match decl.fields.get(name) {
        Some((_, field)) => Some(field.clone()),
        None => Decl::of(tree::at(schema, &["properties", name]), false).map(Arc::new),
    }
}

/// Whether there is a rule in a schema.
pub(crate) fn has_any(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            map.get(NAME).and_then(Value::as_array).is_some_and(|rules| !rules.is_empty())
                || map.iter().any(|(name, below)| match name.as_str() {
                    "properties" => below.as_object().is_some_and(|all| all.values().any(has_any)),
                    "items" | "additionalProperties" => has_any(below),
                    _ => false,
                })
        }
        _ => false,
    }
}

fn keys(schema: &Value) -> Option<Vec<(String, Option<Value>)>> {
    if tree::text(schema, "x-kubernetes-list-type") != "map" {
        return None;
    }
    let properties = tree::at(schema, &["items", "properties"]);
    let keys = tree::texts(schema, "x-kubernetes-list-map-keys").map(|key| {
        let default = tree::get(tree::get(properties, key), "default");
        (key.to_owned(), (!default.is_null()).then(|| default.clone()))
    });
    Some(keys.collect())
}

/// Whether rules cannot be asked: of an object that is not what its schema says upstream asks none.
pub(crate) fn is_in_the_way(errors: &[Error]) -> bool {
    use crate::field::Kind;
    errors.iter().any(|error| {
        matches!(
            error.kind,
            Kind::Required | Kind::TooLong | Kind::TooMany | Kind::TypeInvalid | Kind::NotSupported
        )
    })
}

/// That the rules were not asked.
pub(crate) fn not_asked() -> Error {
    Error {
        kind: crate::field::Kind::Invalid,
        field: "<nil>".to_owned(),
        bad_value: Some(Value::from("null")),
        detail: "some validation rules were not checked because the object was invalid; correct the existing errors \
                 to complete validation"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
