//! Field selectors: a few fields per kind can be selected by value.
//!
//! The grammar follows apimachinery's `pkg/fields`; which fields a kind has follows the
//! conversions in each API group. A kind without its own row has `metadata.name` and
//! `metadata.namespace`.

use serde_json::Value;
use std::borrow::Cow;

use super::Error;
use crate::text::quote;

/// One selectable field: its name in the selector, the path in the object, and the value an
/// absent field counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selectable {
    /// The label in the selector.
    pub name: &'static str,
    /// Where the value is in the object as it is kept.
    pub path: &'static [&'static str],
    /// What a missing value equals.
    pub missing: &'static str,
}

const fn at(name: &'static str, path: &'static [&'static str]) -> Selectable {
    Selectable { name, path, missing: "" }
}

const fn flag(name: &'static str, path: &'static [&'static str]) -> Selectable {
    Selectable { name, path, missing: "false" }
}

const NAME: Selectable = at("metadata.name", &["metadata", "name"]);
const NAMESPACE: Selectable = at("metadata.namespace", &["metadata", "namespace"]);

const OTHER: &[Selectable] = &[NAME, NAMESPACE];
const POD: &[Selectable] = &[
    NAME,
    NAMESPACE,
    at("spec.nodeName", &["spec", "nodeName"]),
    at("spec.host", &["spec", "nodeName"]),
    at("spec.restartPolicy", &["spec", "restartPolicy"]),
    at("spec.schedulerName", &["spec", "schedulerName"]),
    at("spec.serviceAccountName", &["spec", "serviceAccountName"]),
    flag("spec.hostNetwork", &["spec", "hostNetwork"]),
    at("status.phase", &["status", "phase"]),
    at("status.podIP", &["status", "podIP"]),
    at("status.podIPs", &["status", "podIP"]),
    at("status.nominatedNodeName", &["status", "nominatedNodeName"]),
];
const NODE: &[Selectable] = &[NAME, flag("spec.unschedulable", &["spec", "unschedulable"])];
const SIGNING: &[Selectable] = &[NAME, at("spec.signerName", &["spec", "signerName"])];
const NAMESPACE_KIND: &[Selectable] = &[NAME, at("status.phase", &["status", "phase"])];
const SECRET: &[Selectable] = &[NAME, NAMESPACE, at("type", &["type"])];
const SERVICE: &[Selectable] = &[
    NAME,
    NAMESPACE,
    at("spec.clusterIP", &["spec", "clusterIP"]),
    at("spec.type", &["spec", "type"]),
];
const REPLICA_SET: &[Selectable] = &[
    NAME,
    NAMESPACE,
    Selectable { name: "status.replicas", path: &["status", "replicas"], missing: "0" },
];
const SLICE: &[Selectable] =
    &[NAME, at("spec.nodeName", &["spec", "nodeName"]), at("spec.driver", &["spec", "driver"])];
const JOB: &[Selectable] = &[
    NAME,
    NAMESPACE,
    Selectable { name: "status.successful", path: &["status", "succeeded"], missing: "0" },
];
const CORE_EVENT: &[Selectable] = &[
    NAME,
    NAMESPACE,
    at("involvedObject.kind", &["involvedObject", "kind"]),
    at("involvedObject.namespace", &["involvedObject", "namespace"]),
    at("involvedObject.name", &["involvedObject", "name"]),
    at("involvedObject.uid", &["involvedObject", "uid"]),
    at("involvedObject.apiVersion", &["involvedObject", "apiVersion"]),
    at("involvedObject.resourceVersion", &["involvedObject", "resourceVersion"]),
    at("involvedObject.fieldPath", &["involvedObject", "fieldPath"]),
    at("reason", &["reason"]),
    at("reportingComponent", &["reportingComponent"]),
    at("source", &["source", "component"]),
    at("type", &["type"]),
];
/// Events are kept as core events, so the paths are those of the core group.
const NEW_EVENT: &[Selectable] = &[
    NAME,
    NAMESPACE,
    at("regarding.kind", &["involvedObject", "kind"]),
    at("regarding.namespace", &["involvedObject", "namespace"]),
    at("regarding.name", &["involvedObject", "name"]),
    at("regarding.uid", &["involvedObject", "uid"]),
    at("regarding.apiVersion", &["involvedObject", "apiVersion"]),
    at("regarding.resourceVersion", &["involvedObject", "resourceVersion"]),
    at("regarding.fieldPath", &["involvedObject", "fieldPath"]),
    at("reason", &["reason"]),
    at("reportingController", &["reportingComponent"]),
    at("type", &["type"]),
];

/// The fields of a kind that selectors may name.
#[must_use]
pub fn selectable(group: &str, kind: &str) -> &'static [Selectable] {
    match (group, kind) {
        ("", "Pod") => POD,
        ("", "Node") => NODE,
        ("", "Namespace") => NAMESPACE_KIND,
        ("", "Secret") => SECRET,
        ("", "Service") => SERVICE,
        ("", "Event") => CORE_EVENT,
        ("events.k8s.io", "Event") => NEW_EVENT,
        ("apps", "ReplicaSet") | ("", "ReplicationController") => REPLICA_SET,
        ("batch", "Job") => JOB,
        ("certificates.k8s.io", "CertificateSigningRequest") => SIGNING,
        ("resource.k8s.io", "ResourceSlice") => SLICE,
        _ => OTHER,
    }
}

/// One demand on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The field.
    pub field: Selectable,
    /// Whether the value must equal (`=`) or differ (`!=`).
    pub equal: bool,
    /// The value.
    pub value: String,
}

impl Requirement {
    /// Whether a field with this value fulfils it.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        (self.value == value) == self.equal
    }
}

/// A conjunction of demands on fields of one kind. The empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

impl Selector {
    /// Reads the text of a field selector for a kind. The error is the message of the 400.
    pub fn parse(text: &str, group: &str, kind: &str) -> Result<Selector, Error> {
        Self::parse_of(text, selectable(group, kind))
    }

    /// Reads the text of a field selector that may name these fields.
    ///
    /// # Errors
    /// The message of the 400.
    pub fn parse_of(text: &str, fields: &[Selectable]) -> Result<Selector, Error> {
        let mut requirements = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let Some((name, equal, value)) = split_term(term) else {
                return Err(Error(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
            };
            let value = unescape(value)?;
            let Some(field) = fields.iter().find(|f| f.name == name) else {
                return Err(unsupported(fields, name));
            };
            requirements.push(Requirement { field: *field, equal, value });
        }
        Ok(Selector { requirements })
    }

    /// Whether it selects every object.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// What it demands.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The value a field is required to have, if there is one: `metadata.name=x` is a get.
    #[must_use]
    pub fn exact(&self, name: &str) -> Option<&str> {
        let found = self.requirements.iter().find(|r| r.equal && r.field.name == name);
        found.map(|r| r.value.as_str())
    }

    /// Whether the object, in the version it is kept in, is selected.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        self.requirements.iter().all(|r| r.matches(&value_of(object, &r.field)))
    }

    /// Whether an object is selected whose fields `lookup` knows.
    pub fn matches_with<'a>(&self, lookup: impl Fn(&Selectable) -> Cow<'a, str>) -> bool {
        self.requirements.iter().all(|r| r.matches(&lookup(&r.field)))
    }
}

/// The value of a selectable field of an object.
#[must_use]
pub fn value_of<'a>(object: &'a Value, field: &Selectable) -> Cow<'a, str> {
    let mut value = object;
    for name in field.path {
        match value.get(name) {
            Some(next) => value = next,
            None => return Cow::Borrowed(field.missing),
        }
    }
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Null => Cow::Borrowed(field.missing),
        other => Cow::Owned(other.to_string()),
    }
}

fn unsupported(fields: &[Selectable], name: &str) -> Error {
    if fields == OTHER {
        return Error(format!(
            "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            quote(name)
        ));
    }
    Error(format!("field label not supported: {name}"))
}

/// The parts between commas that are not escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for i in term.char_indices().map(|(i, _)| i) {
        let rest = &term[i..];
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..i], equal, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return Err(Error(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(Error(format!(
                    "invalid field selector: unescaped character in value: {}",
                    c as u32
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selecting_pods() {
        let pod = json!({
            "metadata": {"name": "a", "namespace": "n"},
            "spec": {"nodeName": "node-1", "restartPolicy": "Always"},
            "status": {"phase": "Running"},
        });
        for (selector, want) in [
            ("", true),
            ("metadata.name=a", true),
            ("metadata.name==a,metadata.namespace=n", true),
            ("spec.nodeName=node-1,status.phase!=Succeeded,status.phase!=Failed", true),
            ("status.phase!=Running", false),
            ("spec.hostNetwork=false", true),
            ("spec.hostNetwork=true", false),
            ("status.podIP=", true),
            (",,", true),
        ] {
            let got = Selector::parse(selector, "", "Pod").expect(selector).matches(&pod);
            assert_eq!(got, want, "{selector}");
        }
    }

    #[test]
    fn what_cannot_be_selected() {
        for (group, kind, selector, want) in [
            ("", "Pod", "spec.x=1", "field label not supported: spec.x"),
            (
                "apps",
                "Deployment",
                "spec.replicas=1",
                "\"spec.replicas\" is not a known field selector: only \"metadata.name\", \
                 \"metadata.namespace\"",
            ),
            (
                "",
                "Pod",
                "status.phase",
                "invalid selector: 'status.phase'; can't understand 'status.phase'",
            ),
            (
                "",
                "Pod",
                "metadata.name=a\\x",
                "invalid field selector: invalid escape sequence: \\x",
            ),
        ] {
            assert_eq!(Selector::parse(selector, group, kind).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn events_are_selected_by_both_groups_names() {
        let kept = json!({"involvedObject": {"name": "p"}, "reportingComponent": "c"});
        for (group, selector) in [
            ("", "involvedObject.name=p,reportingComponent=c"),
            ("events.k8s.io", "regarding.name=p,reportingController=c"),
        ] {
            assert!(Selector::parse(selector, group, "Event").unwrap().matches(&kept));
        }
    }

    #[test]
    fn escapes_and_lookups() {
        let selector = Selector::parse(r"metadata.name=a\,b\=c\\", "", "ConfigMap").unwrap();
        assert_eq!(selector.exact("metadata.name"), Some(r"a,b=c\"));
        assert!(selector.matches(&json!({"metadata": {"name": r"a,b=c\"}})));
        assert!(selector.matches_with(|_| Cow::Borrowed(r"a,b=c\")));
    }
}
