//! What the schema says about ownership: which values are owned as a whole, which lists have keys.

use serde_json::{Map, Value};

use crate::custom::node::{Node, Type, is_type_or_metadata};
use crate::schema::{Field, Kind, ListType, TypeId, ids};

/// How a value is owned and merged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A text, number or bool of this kind
    Scalar(Kind),
    /// A struct, map or list that is owned as a whole
    Atomic,
    /// A struct, field by field
    Struct(TypeId),
    /// A map, key by key
    Map(&'static Kind),
    /// A list of scalars without duplicates
    ListSet(&'static Kind),
    /// A list of structs with keys
    ListMap(&'static Field),
    /// An object as a definition describes it
    Node(&'static Node),
    /// A list of scalars without duplicates, in a definition
    NodeSet(&'static Node),
    /// A list of objects with keys, in a definition
    NodeMap(&'static Node),
    /// What nothing describes: maps key by key, anything else as a whole
    Deduced,
}

impl Shape {
    fn of_field(field: &'static Field) -> Self {
        match field.kind {
            _ if field.atomic_map() => Self::Atomic,
            Kind::Ref(id) if id.get().atomic && !field.granular_struct() => Self::Atomic,
            Kind::List(item) => match field.list_type {
                ListType::Unset | ListType::Atomic => Self::Atomic,
                ListType::Set => Self::ListSet(item),
                ListType::Map => Self::ListMap(field),
            },
            kind => Self::of_kind(kind),
        }
    }

    fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Ref(id) if id.get().atomic => Self::Atomic,
            Kind::Ref(id) => Self::Struct(id),
            Kind::Map(item) => Self::Map(item),
            Kind::List(_)
            | Kind::RawExtension
            | Kind::FieldsV1
            | Kind::Json
            | Kind::SchemaOrBool
            | Kind::SchemaOrArray
            | Kind::SchemaOrStringArray
            | Kind::Any => Self::Atomic,
            Kind::String
            | Kind::Bool
            | Kind::Int32
            | Kind::Int64
            | Kind::Float
            | Kind::Bytes
            | Kind::Quantity
            | Kind::Time
            | Kind::MicroTime
            | Kind::Duration
            | Kind::IntOrString => Self::Scalar(kind),
        }
    }

    /// The shape of a place in a definition's schema.
    fn of_node(node: &'static Node) -> Self {
        if node.int_or_string {
            return Self::Scalar(Kind::IntOrString);
        }
        match (node.ty, node.list) {
            (Type::Object, _) if node.atomic => Self::Atomic,
            (Type::Object, _) => Self::Node(node),
            (Type::Array, Some(ListType::Set)) => Self::NodeSet(node),
            (Type::Array, Some(ListType::Map)) => Self::NodeMap(node),
            (Type::Array, _) => Self::Atomic,
            (Type::String, _) => Self::Scalar(Kind::String),
            (Type::Integer, _) => Self::Scalar(Kind::Int64),
            (Type::Number, _) => Self::Scalar(Kind::Float),
            (Type::Boolean, _) => Self::Scalar(Kind::Bool),
            (Type::Any, _) => Self::Deduced,
        }
    }

    fn child_of_node(node: &'static Node, name: &str) -> Self {
        if node.resource && is_type_or_metadata(name) {
            return match name {
                "metadata" => Self::Struct(ids::META_V1_OBJECTMETA),
                _ => Self::Scalar(Kind::String),
            };
        }
        node.child(name).map_or(Self::Deduced, Self::of_node)
    }

    /// What is deduced from values: a map, or something that is owned as a whole.
    pub(super) fn settled(self, before: Option<&Value>, after: Option<&Value>) -> Self {
        let is_map = |value: Option<&Value>| value.is_some_and(Value::is_object);
        match self {
            Self::Deduced if !is_map(before) && !is_map(after) => Self::Atomic,
            shape => shape,
        }
    }

    /// The shape of a field or map entry. Unknown ones are owned as a whole.
    pub(super) fn child(self, name: &str) -> Self {
        match self {
            Self::Struct(id) => id.get().field(name).map_or(Self::Atomic, Self::of_field),
            Self::Map(kind) => Self::of_kind(*kind),
            Self::Node(node) => Self::child_of_node(node, name),
            Self::Deduced => Self::Deduced,
            Self::Scalar(_)
            | Self::Atomic
            | Self::ListSet(_)
            | Self::ListMap(_)
            | Self::NodeSet(_)
            | Self::NodeMap(_) => Self::Atomic,
        }
    }

    /// The shape of a list's items.
    pub(super) fn item(self) -> Self {
        match self {
            Self::ListSet(kind) => Self::of_kind(*kind),
            Self::ListMap(field) => match field.kind {
                Kind::List(kind) => Self::of_kind(*kind),
                _ => Self::Atomic,
            },
            Self::NodeSet(node) | Self::NodeMap(node) => {
                node.items.as_deref().map_or(Self::Deduced, Self::of_node)
            }
            Self::Scalar(_)
            | Self::Atomic
            | Self::Struct(_)
            | Self::Map(_)
            | Self::Node(_)
            | Self::Deduced => Self::Atomic,
        }
    }

    /// The shape of what a path element leads to.
    pub(super) fn below(self, element: &str) -> Self {
        match element.strip_prefix("f:") {
            Some(name) => self.child(name),
            None => self.item(),
        }
    }

    /// Whether a path element is a field of this struct.
    pub(super) fn names(self, element: &str) -> bool {
        let Some(name) = element.strip_prefix("f:") else { return false };
        match self {
            Self::Struct(id) => id.get().field(name).is_some(),
            Self::Node(node) => {
                node.properties.contains_key(name) || node.resource && is_type_or_metadata(name)
            }
            _ => false,
        }
    }

    /// Whether it is a list whose items have an identity.
    pub(super) fn is_list(self) -> bool {
        matches!(self, Self::ListSet(_) | Self::ListMap(_) | Self::NodeSet(_) | Self::NodeMap(_))
    }

    /// The path element of a list's item; an error is told without its path.
    pub(super) fn element(self, item: &Value) -> Result<String, String> {
        let names: Vec<&str> = match self {
            Self::ListMap(field) => field.list_map_keys.to_vec(),
            Self::NodeMap(node) => node.keys.iter().map(String::as_str).collect(),
            _ => return Ok(format!("v:{item}")),
        };
        let Value::Object(item) = item else {
            return Err("associative list with keys may not have non-map elements".to_owned());
        };
        let mut keys = Map::new();
        for name in &names {
            if let Some(value) = item.get(*name).cloned().or_else(|| self.item().default(name)) {
                keys.insert((*name).to_owned(), value);
            }
        }
        if keys.is_empty() {
            let names = names.iter().map(|name| format!("\"{name}\""));
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and \
                 doesn't have default values for any key fields)",
                names.collect::<Vec<_>>().join(" ")
            ));
        }
        Ok(format!("k:{}", Value::Object(keys)))
    }

    fn default(self, name: &str) -> Option<Value> {
        match self {
            Self::Struct(id) => serde_json::from_str(id.get().field(name)?.default).ok(),
            Self::Node(node) => node.properties.get(name)?.default.clone(),
            _ => None,
        }
    }

    /// The items of a list with their path elements; of items with the same one the first.
    pub(super) fn indexed(self, list: &[Value]) -> Vec<(String, &Value)> {
        let mut out: Vec<(String, &Value)> = Vec::with_capacity(list.len());
        for item in list {
            if let Ok(element) = self.element(item)
                && out.iter().all(|(other, _)| *other != element)
            {
                out.push((element, item));
            }
        }
        out
    }
}

/// What is wrong with a configuration: unknown fields, wrong types, items without or with the same
/// keys. Nulls are fine everywhere.
pub(super) fn errors(value: &Value, shape: Shape) -> Vec<String> {
    let mut out = Vec::new();
    visit(value, shape, "", &mut out);
    out
}

fn visit(value: &Value, shape: Shape, path: &str, out: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    match (shape, value) {
        (Shape::Scalar(kind), _) => scalar(value, kind, path, out),
        (Shape::Struct(id), Value::Object(map)) => {
            for (name, child) in map {
                if id.get().field(name).is_none() {
                    out.push(format!("{path}.{name}: field not declared in schema"));
                    continue;
                }
                visit(child, shape.child(name), &format!("{path}.{name}"), out);
            }
        }
        (Shape::Node(node), Value::Object(map)) => {
            for (name, child) in map {
                if node.child(name).is_none() && !node.keeps(name) {
                    out.push(format!("{path}.{name}: field not declared in schema"));
                    continue;
                }
                visit(child, shape.child(name), &format!("{path}.{name}"), out);
            }
        }
        (Shape::Map(_), Value::Object(map)) => {
            for (name, child) in map {
                visit(child, shape.child(name), &format!("{path}.{name}"), out);
            }
        }
        (
            Shape::ListSet(_) | Shape::ListMap(_) | Shape::NodeSet(_) | Shape::NodeMap(_),
            Value::Array(list),
        ) => {
            items(list, shape, path, out);
        }
        (Shape::Struct(_) | Shape::Map(_) | Shape::Node(_), _) => {
            out.push(format!("{path}: expected map, got {value}"));
        }
        (Shape::ListSet(_) | Shape::ListMap(_) | Shape::NodeSet(_) | Shape::NodeMap(_), _) => {
            out.push(format!("{path}: expected list, got {value}"));
        }
        (Shape::Atomic | Shape::Deduced, _) => {}
    }
}

fn items(list: &[Value], shape: Shape, path: &str, out: &mut Vec<String>) {
    let mut seen: Vec<String> = Vec::with_capacity(list.len());
    for (at, item) in list.iter().enumerate() {
        match shape.element(item) {
            Err(why) => out.push(format!("{path}: element {at}: {why}")),
            Ok(element) => {
                let shown = super::set::display(std::slice::from_ref(&element));
                if seen.contains(&element) {
                    out.push(format!("{path}: duplicate entries for key {shown}"));
                }
                visit(item, shape.item(), &format!("{path}{shown}"), out);
                seen.push(element);
            }
        }
    }
}

fn scalar(value: &Value, kind: Kind, path: &str, out: &mut Vec<String>) {
    let found = match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Null => "<nil>",
    };
    let wanted = match kind {
        Kind::Bool if !value.is_boolean() => "boolean",
        Kind::Int32 | Kind::Int64 | Kind::Float if !value.is_number() => "numeric (int or float)",
        Kind::String | Kind::Time | Kind::MicroTime | Kind::Duration | Kind::Bytes
            if !value.is_string() =>
        {
            "string"
        }
        Kind::Quantity | Kind::IntOrString if !value.is_number() && !value.is_string() => {
            "any scalar"
        }
        _ => return,
    };
    out.push(format!("{path}: expected {wanted}, got {found}"));
}
