//! `metav1.LabelSelector` (matchLabels and matchExpressions) as a [`Selector`].

use serde_json::Value;

use super::Error;
use super::label::{Operator, Requirement, Selector};
use crate::text::quote;

/// The selector that a `metav1.LabelSelector` means: null or absent selects nothing, an empty one
/// everything. Fails on an operator that does not exist, or that does not go with its values.
pub fn label_selector(selector: &Value) -> Result<Selector, Error> {
    let Some(selector) = selector.as_object() else {
        return Ok(Selector::nothing());
    };
    let mut requirements = Vec::new();
    if let Some(labels) = selector.get("matchLabels").and_then(Value::as_object) {
        for (key, value) in labels {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement::new(key.clone(), Operator::In, vec![value]));
        }
    }
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
        let operator = match text("operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => {
                return Err(Error(format!(
                    "{} is not a valid label selector operator",
                    quote(other)
                )));
            }
        };
        let values = expression.get("values").and_then(Value::as_array);
        let values = values.into_iter().flatten().filter_map(Value::as_str);
        let values: Vec<String> = values.map(str::to_owned).collect();
        let why = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                "for 'in', 'notin' operators, values set can't be empty"
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                "values set must be empty for exists and does not exist"
            }
            _ => "",
        };
        if !why.is_empty() {
            return Err(Error(why.to_owned()));
        }
        requirements.push(Requirement::new(text("key").to_owned(), operator, values));
    }
    Ok(Selector::all(requirements))
}

/// The text `kubectl` shows for a `metav1.LabelSelector`: `<none>` for an empty or absent one.
#[must_use]
pub fn format(selector: &Value) -> String {
    match label_selector(selector) {
        Ok(parsed) if parsed.requirements().is_empty() => "<none>".to_owned(),
        Ok(parsed) => {
            let show = |r: &Requirement| match (r.operator(), r.values()) {
                (Operator::In, [one]) if is_match_label(selector, r.key()) => {
                    format!("{}={one}", r.key())
                }
                _ => r.to_string(),
            };
            parsed.requirements().iter().map(show).collect::<Vec<_>>().join(",")
        }
        Err(_) => "<error>".to_owned(),
    }
}

fn is_match_label(selector: &Value, key: &str) -> bool {
    selector.get("matchLabels").is_some_and(|labels| labels.get(key).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn nothing_is_not_everything() {
        let labels = BTreeMap::new();
        assert!(!label_selector(&Value::Null).unwrap().matches(&labels));
        assert!(label_selector(&json!({})).unwrap().matches(&labels));
    }

    #[test]
    fn shown_as_kubectl_shows_it() {
        for (input, want) in [
            (json!({"matchLabels": {"app": "web", "a": "b"}}), "a=b,app=web"),
            (
                json!({"matchLabels": {"x": "1"},
                       "matchExpressions": [{"key": "t", "operator": "In", "values": ["b", "a"]}]}),
                "t in (a,b),x=1",
            ),
            (json!({"matchExpressions": [{"key": "t", "operator": "DoesNotExist"}]}), "!t"),
            (json!({}), "<none>"),
            (Value::Null, "<none>"),
            (json!({"matchExpressions": [{"key": "t", "operator": "Near"}]}), "<error>"),
            (json!({"matchExpressions": [{"key": "t", "operator": "In"}]}), "<error>"),
            (
                json!({"matchExpressions": [{"key": "t", "operator": "Exists", "values": ["a"]}]}),
                "<error>",
            ),
        ] {
            assert_eq!(format(&input), want, "{input}");
        }
    }
}
