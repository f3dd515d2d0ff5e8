//! Node selectors of a pod, compiled once.
//!
//! Semantics of component-helpers/nodeaffinity: terms are alternatives, the requirements of a term
//! hold together, an empty term matches nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

use crate::node::NodeFacts;

/// Alternatives: one term must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms(Vec<Term>);

/// Requirements that must hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
    /// Kubernetes ignores a term that does not parse; it matches nothing.
    broken: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
}

impl Requirement {
    fn compile(requirement: &NodeSelectorRequirement) -> Option<Self> {
        let values = requirement.values.clone().unwrap_or_default();
        let number = || match values.as_slice() {
            [value] => value.parse::<i64>().ok(),
            _ => None,
        };
        let test = match requirement.operator.as_str() {
            "In" if !values.is_empty() => Test::In(values),
            "NotIn" if !values.is_empty() => Test::NotIn(values),
            "Exists" if values.is_empty() => Test::Exists,
            "DoesNotExist" if values.is_empty() => Test::DoesNotExist,
            "Gt" => Test::Gt(number()?),
            "Lt" => Test::Lt(number()?),
            _ => return None,
        };
        Some(Self { key: requirement.key.clone(), test })
    }

    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
            Test::NotIn(values) => !value.is_some_and(|value| values.iter().any(|v| v == value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Gt(bound) => number().is_some_and(|number| number > *bound),
            Test::Lt(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl Term {
    /// One term.
    #[must_use]
    pub fn compile(term: &NodeSelectorTerm) -> Self {
        let mut compiled = Self { labels: Vec::new(), fields: Vec::new(), broken: false };
        for requirement in term.match_expressions.iter().flatten() {
            match Requirement::compile(requirement) {
                Some(requirement) => compiled.labels.push(requirement),
                None => compiled.broken = true,
            }
        }
        for requirement in term.match_fields.iter().flatten() {
            match Requirement::compile(requirement) {
                Some(requirement) => compiled.fields.push(requirement),
                None => compiled.broken = true,
            }
        }
        compiled
    }

    /// Whether the node has what the term asks for.
    #[must_use]
    pub fn matches(&self, node: &NodeFacts) -> bool {
        if self.broken || (self.labels.is_empty() && self.fields.is_empty()) {
            return false;
        }
        let field = |key: &str| (key == "metadata.name").then_some(&*node.name);
        self.labels.iter().all(|r| r.matches(node.labels.get(&r.key).map(String::as_str)))
            && self.fields.iter().all(|r| r.matches(field(&r.key)))
    }

    /// The nodes that the term names by `matchFields`, when it does.
    fn names(&self) -> Option<BTreeSet<Arc<str>>> {
        let mut names: Option<BTreeSet<Arc<str>>> = None;
        for requirement in self.fields.iter().filter(|r| r.key == "metadata.name") {
            if let Test::In(values) = &requirement.test {
                let these = values.iter().map(|value| Arc::from(value.as_str())).collect();
                names = Some(match names {
                    Some(names) => names.intersection(&these).cloned().collect(),
                    None => these,
                });
            }
        }
        names
    }
}

impl Terms {
    /// A required node affinity.
    #[must_use]
    pub fn compile(selector: &NodeSelector) -> Self {
        Self(selector.node_selector_terms.iter().map(Term::compile).collect())
    }

    /// Whether one term matches.
    #[must_use]
    pub fn matches(&self, node: &NodeFacts) -> bool {
        self.0.iter().any(|term| term.matches(node))
    }

    /// The only nodes that can match, when every term names its nodes (as a `DaemonSet`'s pods do).
    #[must_use]
    pub fn names(&self) -> Option<BTreeSet<Arc<str>>> {
        let mut all = BTreeSet::new();
        for term in &self.0 {
            all.extend(term.names()?);
        }
        (!self.0.is_empty()).then_some(all)
    }
}

/// Whether the node has all labels of a `nodeSelector`.
#[must_use]
pub fn has_labels(wanted: &BTreeMap<String, String>, node: &NodeFacts) -> bool {
    wanted.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}
