//! Rules: which operations on which resources a webhook is asked about (apiserver's `rules.Matcher`).

use serde_json::Value;

use crate::admission::Operation;
use crate::model::text;

/// What a rule is compared with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) operation: Operation,
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) plural: &'a str,
    /// "" for the object itself.
    pub(super) sub: &'a str,
    /// The object is in a namespace.
    pub(super) in_namespace: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Any,
    Cluster,
    Namespaced,
}

/// One rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource.
    resources: Vec<(String, String)>,
    scope: Scope,
}

impl Rule {
    pub(super) fn of(rule: &Value) -> Self {
        let texts = |field: &str| -> Vec<String> {
            let items = rule[field].as_array().into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let split = |text: String| match text.split_once('/') {
            Some((resource, sub)) => (resource.to_owned(), sub.to_owned()),
            None => (text, String::new()),
        };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources").into_iter().map(split).collect(),
            scope: match text(&rule["scope"]) {
                "Cluster" => Scope::Cluster,
                "Namespaced" => Scope::Namespaced,
                _ => Scope::Any,
            },
        }
    }

    /// Whether it names what is asked for.
    pub(super) fn matches(&self, asked: Asked<'_>) -> bool {
        let among = |all: &[String], one: &str| all.iter().any(|own| own == "*" || own == one);
        let resource = |(resource, sub): &(String, String)| {
            (resource == "*" || resource == asked.plural) && (sub == "*" || sub == asked.sub)
        };
        // A namespace is an object of the cluster.
        let in_cluster =
            !asked.in_namespace || (asked.group.is_empty() && asked.plural == "namespaces");
        let scope = match self.scope {
            Scope::Any => true,
            Scope::Cluster => in_cluster,
            Scope::Namespaced => !in_cluster,
        };
        scope
            && among(&self.operations, asked.operation.name())
            && among(&self.groups, asked.group)
            && among(&self.versions, asked.version)
            && self.resources.iter().any(resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked<'a>(plural: &'a str, sub: &'a str) -> Asked<'a> {
        let (operation, in_namespace) =
            (Operation::Create, plural != "nodes" && plural != "namespaces");
        Asked { operation, group: "", version: "v1", plural, sub, in_namespace }
    }

    #[test]
    fn resources_and_subresources_have_wildcards() {
        let cases = [
            ("pods", "pods", "", true),
            ("pods", "pods", "exec", false),
            ("pods/*", "pods", "", true),
            ("pods/*", "pods", "exec", true),
            ("pods/exec", "pods", "exec", true),
            ("pods/exec", "pods", "attach", false),
            ("*", "pods", "", true),
            ("*", "pods", "exec", false),
            ("*/*", "pods", "exec", true),
            ("*/*", "nodes", "", true),
            ("*/scale", "deployments", "scale", true),
            ("*/scale", "deployments", "", false),
        ];
        for (pattern, plural, sub, matches) in cases {
            let rule = json!({"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"],
                "resources": [pattern], "scope": "*"});
            assert_eq!(
                Rule::of(&rule).matches(asked(plural, sub)),
                matches,
                "{pattern} {plural}/{sub}"
            );
        }
    }

    #[test]
    fn everything_has_to_fit() {
        let rule = |field: &str, value: Value| {
            let mut rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["*"], "scope": "*"});
            rule[field] = value;
            Rule::of(&rule)
        };
        let cases = [
            ("operations", json!(["UPDATE", "CREATE"]), true),
            ("operations", json!(["UPDATE", "DELETE", "CONNECT"]), false),
            ("apiGroups", json!(["*"]), true),
            ("apiGroups", json!(["apps"]), false),
            ("apiVersions", json!(["v1beta1", "*"]), true),
            ("apiVersions", json!(["v2"]), false),
        ];
        for (field, value, matches) in cases {
            assert_eq!(
                rule(field, value.clone()).matches(asked("pods", "")),
                matches,
                "{field} {value}"
            );
        }
        for (scope, pods, nodes, namespaces) in [
            ("*", true, true, true),
            ("Cluster", false, true, true),
            ("Namespaced", true, false, false),
        ] {
            let rule = rule("scope", json!(scope));
            let all = ["pods", "nodes", "namespaces"].map(|plural| rule.matches(asked(plural, "")));
            assert_eq!(all, [pods, nodes, namespaces], "{scope}");
        }
    }
}
