//! The columns that a definition gives its kind, and the cells of its objects.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::jsonpath::JsonPath;
use crate::table::{self, duration};
use crate::{text, tree};

/// One column beside the name.
#[derive(Debug)]
pub struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    path: Option<JsonPath>,
}

/// The columns of a version; the age when it names none.
pub(super) fn of(version: &Value) -> Vec<Column> {
    let named = tree::list(version, "additionalPrinterColumns");
    if named.is_empty() {
        return vec![Column {
            name: "Age".to_owned(),
            kind: "date".to_owned(),
            format: String::new(),
            description: table::AGE.description.to_owned(),
            priority: 0,
            path: JsonPath::parse(".metadata.creationTimestamp").ok(),
        }];
    }
    named
        .iter()
        .map(|column| Column {
            name: tree::text(column, "name").to_owned(),
            kind: tree::text(column, "type").to_owned(),
            format: tree::text(column, "format").to_owned(),
            description: description(column),
            priority: tree::int(column, "priority"),
            path: JsonPath::parse(tree::text(column, "jsonPath")).ok(),
        })
        .collect()
}

fn description(column: &Value) -> String {
    match tree::text(column, "description") {
        "" => {
            let path = tree::text(column, "jsonPath");
            format!("Custom resource definition column (in JSONPath format): {path}")
        }
        text => text.to_owned(),
    }
}

/// The definitions of a table's columns.
#[must_use]
pub fn definitions(columns: &[Column]) -> Value {
    let own = columns.iter().map(|column| {
        json!({
            "name": column.name,
            "type": column.kind,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    });
    std::iter::once(table::NAME.to_json()).chain(own).collect()
}

/// The cells of one object.
#[must_use]
pub fn cells(columns: &[Column], object: &Value, now: Timestamp) -> Vec<Value> {
    let own = columns.iter().map(|column| {
        let found = column.path.as_ref().and_then(|path| path.find(object).into_iter().next());
        found.map_or(Value::Null, |value| cell(&column.kind, value, now))
    });
    std::iter::once(json!(table::name(object))).chain(own).collect()
}

fn cell(kind: &str, value: &Value, now: Timestamp) -> Value {
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        ("integer", Value::Number(number)) => match number.as_i64() {
            Some(_) => value.clone(),
            #[allow(clippy::cast_possible_truncation)] // as Go converts a float to an int64
            None => json!(number.as_f64().unwrap_or_default() as i64),
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("string", Value::String(_)) => value.clone(),
        ("string", Value::Object(_) | Value::Array(_)) => json!(text::json(value)),
        ("string", other) => json!(other.to_string()),
        ("date", Value::String(time)) => match time.parse::<Timestamp>() {
            Ok(_) => json!(duration::since(time, now)),
            Err(_) => json!("<invalid>"),
        },
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_shown_by_type() {
        let columns = of(&json!({"additionalPrinterColumns": [
            {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
            {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            {"name": "Map", "type": "string", "jsonPath": ".spec.map", "priority": 1, "description": "d"},
        ]}));
        let now: Timestamp = "2026-01-01T00:05:00Z".parse().unwrap();
        let object = json!({
            "metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"replicas": 3, "map": {"a": 1}},
        });
        assert_eq!(json!(cells(&columns, &object, now)), json!(["n", 3, null, "5m", "{\"a\":1}"]));
        let shown = definitions(&columns);
        assert_eq!(shown[0]["name"], "Name");
        assert_eq!(
            shown[1]["description"],
            "Custom resource definition column (in JSONPath format): .spec.replicas"
        );
        assert_eq!((&shown[4]["priority"], &shown[4]["description"]), (&json!(1), &json!("d")));
        assert_eq!(definitions(&of(&json!({})))[1]["name"], "Age");
    }
}
