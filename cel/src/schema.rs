//! What a schema makes of values: their types, their names in expressions, the sizes they can have.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::limits::REQUEST_BYTES_MAX;
use crate::types::{Object, Type};

/// One place in a schema, as expressions see it.
#[derive(Clone, Debug)]
pub struct Decl {
    /// The type of values.
    pub ty: Type,
    /// Characters of texts, elements of lists and maps: no more than so many.
    pub max: u64,
    /// The least bytes that a value takes in a request.
    pub(crate) least: u64,
    /// What a list or map holds.
    pub elem: Option<Arc<Decl>>,
    /// Fields by their name in objects, with that in expressions.
    pub fields: BTreeMap<String, (String, Arc<Decl>)>,
}

const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The name of a field in expressions; `None` when it has none.
#[must_use]
pub fn escape(name: &str) -> Option<String> {
    let mut chars = name.chars();
    let allowed = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '.' | '-' | '/');
    if !chars.next().is_some_and(allowed) || !chars.all(|c| allowed(c) || c.is_ascii_digit()) {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    // In one pass: what is put in has underscores itself.
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let (from, to) = match c {
            '_' if rest.starts_with("__") => ("__", "__underscores__"),
            '.' => (".", "__dot__"),
            '-' => ("-", "__dash__"),
            '/' => ("/", "__slash__"),
            _ => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
        };
        out.push_str(to);
        rest = &rest[from.len()..];
    }
    Some(out)
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn most(schema: &Value, name: &str) -> Option<u64> {
    schema.get(name).and_then(Value::as_u64)
}

impl Decl {
    fn scalar(ty: Type, max: u64, least: u64) -> Self {
        Self { ty, max, least, elem: None, fields: BTreeMap::new() }
    }

    /// What expressions see of a schema; `None` when it does not say what values are. `resource`: the object itself or
    /// an embedded one, of which type and name are known.
    #[must_use]
    pub fn of(schema: &Value, resource: bool) -> Option<Self> {
        Self::named(schema, resource, "object")
    }

    fn named(schema: &Value, resource: bool, name: &str) -> Option<Self> {
        if flag(schema, "x-kubernetes-int-or-string") {
            // As text, and as a number of one digit.
            return Some(Self::scalar(Type::Dyn, REQUEST_BYTES_MAX - 2, 1));
        }
        let resource = resource || flag(schema, "x-kubernetes-embedded-resource");
        let ty = schema.get("type").and_then(Value::as_str);
        match ty {
            Some("array") => Self::list(schema, name),
            Some("string") => Some(Self::text(schema)),
            Some("boolean") => Some(Self::scalar(Type::Bool, 0, 4)),
            Some("number") => Some(Self::scalar(Type::Double, 0, 1)),
            Some("integer") => Some(Self::scalar(Type::Int, 0, 1)),
            Some("object") => {
                Self::map(schema, name).or_else(|| Some(Self::object(schema, resource, name)))
            }
            _ if resource => Some(Self::object(schema, resource, name)),
            _ => None,
        }
    }

    fn list(schema: &Value, name: &str) -> Option<Self> {
        let elem = Self::named(schema.get("items")?, false, &format!("{name}.@idx"))?;
        let fit = (REQUEST_BYTES_MAX - 2) / (elem.least + 1);
        Some(Self {
            ty: Type::list(elem.ty.clone()),
            max: most(schema, "maxItems").unwrap_or(fit),
            least: 2,
            elem: Some(Arc::new(elem)),
            fields: BTreeMap::new(),
        })
    }

    fn map(schema: &Value, name: &str) -> Option<Self> {
        let additional = schema.get("additionalProperties").filter(|of| of.is_object())?;
        let elem = Self::named(additional, false, &format!("{name}.@elem"))?;
        // A key takes at least two quotes and a colon, and a comma follows.
        let fit = (REQUEST_BYTES_MAX - 2) / (elem.least + 6);
        Some(Self {
            ty: Type::map(Type::String, elem.ty.clone()),
            max: most(schema, "maxProperties").unwrap_or(fit),
            least: 2,
            elem: Some(Arc::new(elem)),
            fields: BTreeMap::new(),
        })
    }

    fn object(schema: &Value, resource: bool, name: &str) -> Self {
        let mut fields = BTreeMap::new();
        let mut least = 2;
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let properties = schema.get("properties").and_then(Value::as_object);
        for (field, of) in properties.into_iter().flatten() {
            let Some(decl) = Self::named(of, false, &format!("{name}.{field}")) else { continue };
            if required.contains(&field.as_str()) && of.get("default").is_none() {
                least += field.len() as u64 + decl.least + 4;
            }
            if let Some(escaped) = escape(field) {
                fields.insert(field.clone(), (escaped, Arc::new(decl)));
            }
        }
        if resource {
            let text = || Arc::new(Self::scalar(Type::String, REQUEST_BYTES_MAX - 2, 2));
            for field in ["apiVersion", "kind"] {
                fields.insert(field.to_owned(), (field.to_owned(), text()));
            }
            // Of the metadata only the names, whatever the schema says of the rest.
            let names = ["name", "generateName"];
            let names = names.map(|field| (field.to_owned(), (field.to_owned(), text())));
            let metadata = Self::struct_of(&format!("{name}.metadata"), names.into(), 2);
            fields.insert("metadata".to_owned(), ("metadata".to_owned(), Arc::new(metadata)));
        }
        Self::struct_of(name, fields, least)
    }

    fn struct_of(name: &str, fields: BTreeMap<String, (String, Arc<Decl>)>, least: u64) -> Self {
        let types = fields.values().map(|(escaped, decl)| (escaped.clone(), decl.ty.clone()));
        let ty = Type::Object(Object { name: name.into(), fields: Arc::new(types.collect()) });
        Self { ty, max: 0, least, elem: None, fields }
    }

    fn text(schema: &Value) -> Self {
        let length = most(schema, "maxLength");
        let any = REQUEST_BYTES_MAX - 2;
        match schema.get("format").and_then(Value::as_str) {
            Some("byte") => Self::scalar(Type::Bytes, length.unwrap_or(any), 2),
            Some("duration") => Self::scalar(Type::Duration, 32, 3),
            Some("date") => Self::scalar(Type::Timestamp, 16, 12),
            Some("date-time") => Self::scalar(Type::Timestamp, 42, 22),
            // A character takes up to four bytes.
            _ => Self::scalar(Type::String, length.map_or(any, |length| length * 4), 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_upstream_documents_it() {
        for (name, want) in [
            ("namespace", Some("__namespace__")),
            ("x-prop", Some("x__dash__prop")),
            ("redact__d", Some("redact__underscores__d")),
            ("string", Some("string")),
            ("one_two", Some("one_two")),
            ("a.b/c", Some("a__dot__b__slash__c")),
            ("1st", None),
            ("$x", None),
        ] {
            assert_eq!(escape(name).as_deref(), want, "{name}");
        }
    }
}
