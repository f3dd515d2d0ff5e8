//! The `scale` subresource of a custom kind: where its numbers are.

use serde_json::{Value, json};

use super::jsonpath::JsonPath;
use crate::tree;

/// Paths of fields, each a chain of names.
#[derive(Debug)]
pub struct Scale {
    spec: Vec<String>,
    status: Vec<String>,
    selector: Vec<String>,
}

fn names(path: &str) -> Vec<String> {
    let path = JsonPath::parse(path).ok();
    let names = path.as_ref().and_then(JsonPath::names).unwrap_or_default();
    names.into_iter().map(str::to_owned).collect()
}

impl Scale {
    pub(super) fn of(version: &Value) -> Option<Self> {
        let scale = tree::at(version, &["subresources", "scale"]);
        scale.is_object().then(|| Self {
            spec: names(tree::text(scale, "specReplicasPath")),
            status: names(tree::text(scale, "statusReplicasPath")),
            selector: names(tree::text(scale, "labelSelectorPath")),
        })
    }

    fn at<'a>(object: &'a Value, path: &[String]) -> &'a Value {
        let found = path.iter().fold(object, |value, name| tree::get(value, name));
        if path.is_empty() { &Value::Null } else { found }
    }

    /// The replicas that are wanted; `None` when nobody has said.
    #[must_use]
    pub fn wanted(&self, object: &Value) -> Option<i64> {
        Self::at(object, &self.spec).as_i64()
    }

    /// Where the replicas that are wanted are, for messages: `.spec.replicas`.
    #[must_use]
    pub fn path(&self) -> String {
        self.spec.iter().map(|name| format!(".{name}")).collect()
    }

    /// The names that lead to the replicas that are wanted.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.spec
    }

    /// The status of the Scale.
    #[must_use]
    pub fn status(&self, object: &Value) -> Value {
        let mut status = json!({"replicas": Self::at(object, &self.status).as_i64().unwrap_or(0)});
        if let Some(selector) = Self::at(object, &self.selector).as_str()
            && !selector.is_empty()
        {
            tree::set(&mut status, "selector", selector);
        }
        status
    }

    /// Sets the replicas that are wanted.
    pub fn set(&self, object: &mut Value, replicas: i64) {
        let Some((last, parents)) = self.spec.split_last() else { return };
        let mut at = object;
        for name in parents {
            match tree::child_mut(at, name) {
                Some(child) => at = child,
                None => return,
            }
        }
        tree::set(at, last, replicas);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_where_the_definition_says() {
        let version = json!({"subresources": {"scale": {
            "specReplicasPath": ".spec.pool.size", "statusReplicasPath": ".status.size",
            "labelSelectorPath": ".status.selector"}}});
        let scale = Scale::of(&version).unwrap();
        let mut object = json!({"status": {"size": 2, "selector": "a=b"}});
        assert_eq!(scale.wanted(&object), None);
        scale.set(&mut object, 5);
        assert_eq!(scale.wanted(&object), Some(5));
        assert_eq!(object["spec"]["pool"]["size"], 5);
        assert_eq!(scale.status(&object), json!({"replicas": 2, "selector": "a=b"}));
        assert_eq!(scale.path(), ".spec.pool.size");
        assert!(Scale::of(&json!({})).is_none());
    }
}
