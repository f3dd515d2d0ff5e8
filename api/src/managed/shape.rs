//! What the schema says about ownership: which values are owned as a whole, which lists have keys.

use serde_json::{Map, Value};

use crate::schema::{Field, Kind, ListType, TypeId};

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

    /// The shape of a field or map entry. Unknown ones are owned as a whole.
    pub(super) fn child(self, name: &str) -> Self {
        match self {
            Self::Struct(id) => id.get().field(name).map_or(Self::Atomic, Self::of_field),
            Self::Map(kind) => Self::of_kind(*kind),
            Self::Scalar(_) | Self::Atomic | Self::ListSet(_) | Self::ListMap(_) => Self::Atomic,
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
            Self::Scalar(_) | Self::Atomic | Self::Struct(_) | Self::Map(_) => Self::Atomic,
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
        let (Self::Struct(id), Some(name)) = (self, element.strip_prefix("f:")) else {
            return false;
        };
        id.get().field(name).is_some()
    }

    /// Whether it is a list whose items have an identity.
    pub(super) fn is_list(self) -> bool {
        matches!(self, Self::ListSet(_) | Self::ListMap(_))
    }

    /// The path element of a list's item; an error is told without its path.
    pub(super) fn element(self, item: &Value) -> Result<String, String> {
        let Self::ListMap(field) = self else { return Ok(format!("v:{item}")) };
        let Value::Object(item) = item else {
            return Err("associative list with keys may not have non-map elements".to_owned());
        };
        let mut keys = Map::new();
        for name in field.list_map_keys {
            if let Some(value) = item.get(*name).cloned().or_else(|| self.item().default(name)) {
                keys.insert((*name).to_owned(), value);
            }
        }
        if keys.is_empty() {
            let names = field.list_map_keys.iter().map(|name| format!("\"{name}\""));
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and \
                 doesn't have default values for any key fields)",
                names.collect::<Vec<_>>().join(" ")
            ));
        }
        Ok(format!("k:{}", Value::Object(keys)))
    }

    fn default(self, name: &str) -> Option<Value> {
        let Self::Struct(id) = self else { return None };
        let default = id.get().field(name)?.default;
        serde_json::from_str(default).ok()
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
        (Shape::Map(_), Value::Object(map)) => {
            for (name, child) in map {
                visit(child, shape.child(name), &format!("{path}.{name}"), out);
            }
        }
        (Shape::ListSet(_) | Shape::ListMap(_), Value::Array(list)) => {
            items(list, shape, path, out);
        }
        (Shape::Struct(_) | Shape::Map(_), _) => {
            out.push(format!("{path}: expected map, got {value}"));
        }
        (Shape::ListSet(_) | Shape::ListMap(_), _) => {
            out.push(format!("{path}: expected list, got {value}"));
        }
        (Shape::Atomic, _) => {}
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
