//! Structural schemas, compiled: what a version of a definition says about its objects, ready to be walked.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use crate::schema::ListType;
use crate::tree;

/// The JSON types that schemas name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// Not said.
    #[default]
    Any,
    /// `object`
    Object,
    /// `array`
    Array,
    /// `string`
    String,
    /// `integer`
    Integer,
    /// `number`
    Number,
    /// `boolean`
    Boolean,
}

impl Type {
    fn of(name: &str) -> Self {
        match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => Self::Any,
        }
    }

    /// As schemas write it; empty when it is not said.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// What `additionalProperties` says.
#[derive(Debug)]
pub enum Additional {
    /// `true`: any value.
    Any,
    /// Values of this form.
    Of(Box<Node>),
}

/// One place in a schema.
#[derive(Debug, Default)]
pub struct Node {
    /// The object itself, or `x-kubernetes-embedded-resource`: type and metadata are implied.
    pub resource: bool,
    /// What values are.
    pub ty: Type,
    /// Null is a value.
    pub nullable: bool,
    /// Fields that are not named stay.
    pub preserve: bool,
    /// A 32-bit integer or text.
    pub int_or_string: bool,
    /// Fields by name.
    pub properties: BTreeMap<String, Node>,
    /// What other keys hold.
    pub additional: Option<Additional>,
    /// What a list holds.
    pub items: Option<Box<Node>>,
    /// What is filled in.
    pub default: Option<Value>,
    /// How a list is merged.
    pub list: Option<ListType>,
    /// The keys when it is a map.
    pub keys: Vec<String>,
    /// The map or struct is owned as a whole.
    pub atomic: bool,
    /// What values must satisfy.
    pub checks: Checks,
}

/// What values must satisfy beside their type.
#[derive(Debug, Default)]
pub struct Checks {
    pub(crate) required: Vec<String>,
    pub(crate) values: Vec<Value>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) format: String,
    pub(crate) minimum: Option<Bound>,
    pub(crate) maximum: Option<Bound>,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) length: Range,
    pub(crate) items: Range,
    pub(crate) properties: Range,
    pub(crate) all_of: Vec<Node>,
    pub(crate) any_of: Vec<Node>,
    pub(crate) one_of: Vec<Node>,
    pub(crate) not: Option<Box<Node>>,
}

/// A regular expression; `None` when it does not compile here, then nothing matches it.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) text: String,
    pub(crate) regex: Option<Regex>,
}

/// A bound of numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) at: f64,
    pub(crate) exclusive: bool,
}

/// Bounds of a length.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range {
    pub(crate) min: Option<u64>,
    pub(crate) max: Option<u64>,
}

impl Node {
    /// The schema of an object of a kind.
    #[must_use]
    pub fn root(schema: &Value) -> Self {
        let mut node = Self::of(schema);
        node.resource = true;
        node.ty = Type::Object;
        node
    }

    /// One place of a schema, with everything below it.
    #[must_use]
    pub fn of(schema: &Value) -> Self {
        let flag = |name: &str| tree::flag(schema, name);
        let list = match tree::text(schema, "x-kubernetes-list-type") {
            "atomic" => Some(ListType::Atomic),
            "set" => Some(ListType::Set),
            "map" => Some(ListType::Map),
            _ => None,
        };
        let additional = match tree::get(schema, "additionalProperties") {
            Value::Bool(true) => Some(Additional::Any),
            of @ Value::Object(_) => Some(Additional::Of(Box::new(Self::of(of)))),
            _ => None,
        };
        let items = tree::get(schema, "items");
        Self {
            resource: flag("x-kubernetes-embedded-resource"),
            ty: Type::of(tree::text(schema, "type")),
            nullable: flag("nullable"),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            properties: tree::entries(schema, "properties")
                .map(|(name, schema)| (name.clone(), Self::of(schema)))
                .collect(),
            additional,
            items: items.is_object().then(|| Box::new(Self::of(items))),
            default: schema.get("default").filter(|value| !value.is_null()).cloned(),
            list,
            keys: tree::texts(schema, "x-kubernetes-list-map-keys").map(str::to_owned).collect(),
            atomic: tree::text(schema, "x-kubernetes-map-type") == "atomic",
            checks: Checks::of(schema),
        }
    }

    /// The schema of a field or key; `None` for one that is not described.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Of(node)) => Some(node),
            Some(Additional::Any) | None => None,
        })
    }

    /// Whether a field may be there without being described.
    #[must_use]
    pub fn keeps(&self, name: &str) -> bool {
        self.preserve
            || matches!(self.additional, Some(Additional::Any))
            || (self.resource && is_type_or_metadata(name))
    }
}

/// The fields that every resource has.
pub(crate) fn is_type_or_metadata(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

impl Checks {
    fn of(schema: &Value) -> Self {
        let all = |name: &str| tree::list(schema, name).iter().map(Node::of).collect();
        let bound = |name: &str, exclusive: &str| {
            let at = tree::get(schema, name).as_f64()?;
            Some(Bound { at, exclusive: tree::flag(schema, exclusive) })
        };
        let range = |min: &str, max: &str| Range {
            min: tree::get(schema, min).as_u64(),
            max: tree::get(schema, max).as_u64(),
        };
        let pattern = tree::text(schema, "pattern");
        let not = tree::get(schema, "not");
        Self {
            required: tree::texts(schema, "required").map(str::to_owned).collect(),
            values: tree::list(schema, "enum").to_vec(),
            pattern: (!pattern.is_empty())
                .then(|| Pattern { text: pattern.to_owned(), regex: Regex::new(pattern).ok() }),
            format: tree::text(schema, "format").to_owned(),
            minimum: bound("minimum", "exclusiveMinimum"),
            maximum: bound("maximum", "exclusiveMaximum"),
            multiple_of: tree::get(schema, "multipleOf").as_f64(),
            length: range("minLength", "maxLength"),
            items: range("minItems", "maxItems"),
            properties: range("minProperties", "maxProperties"),
            all_of: all("allOf"),
            any_of: all("anyOf"),
            one_of: all("oneOf"),
            not: not.is_object().then(|| Box::new(Node::of(not))),
        }
    }
}
