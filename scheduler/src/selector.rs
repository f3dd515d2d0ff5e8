//! Selectors of a pod for nodes and for other pods, compiled once.
//!
//! Semantics of component-helpers/nodeaffinity: terms are alternatives, the requirements of a term
//! hold together, an empty term matches nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

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
        let NodeSelectorRequirement { key, operator, values } = requirement;
        Self::new(key, operator, values.clone().unwrap_or_default())
    }

    fn new(key: &str, operator: &str, values: Vec<String>) -> Option<Self> {
        let number = || match values.as_slice() {
            [value] => value.parse::<i64>().ok(),
            _ => None,
        };
        let test = match operator {
            "In" if !values.is_empty() => Test::In(values),
            "NotIn" if !values.is_empty() => Test::NotIn(values),
            "Exists" if values.is_empty() => Test::Exists,
            "DoesNotExist" if values.is_empty() => Test::DoesNotExist,
            "Gt" => Test::Gt(number()?),
            "Lt" => Test::Lt(number()?),
            _ => return None,
        };
        Some(Self { key: key.to_owned(), test })
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

/// A `LabelSelector`: requirements that must hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels(Option<Vec<Requirement>>);

impl Labels {
    /// A selector. One that is not there selects nothing, nor does one that does not parse (which
    /// validation lets nobody store); an empty one selects everything.
    #[must_use]
    pub fn compile(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else {
            return Self(None);
        };
        let equal = selector.match_labels.iter().flatten();
        let equal = equal.map(|(key, value)| Requirement::new(key, "In", vec![value.clone()]));
        let expressions = selector.match_expressions.iter().flatten().map(|expression| {
            let values = expression.values.clone().unwrap_or_default();
            Requirement::new(&expression.key, &expression.operator, values)
        });
        Self(equal.chain(expressions).collect())
    }

    /// Whether labels are selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.as_ref().is_some_and(|requirements| {
            requirements.iter().all(|r| r.matches(labels.get(&r.key).map(String::as_str)))
        })
    }

    /// Whether it asks for nothing and so selects everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.as_ref().is_some_and(Vec::is_empty)
    }
}
