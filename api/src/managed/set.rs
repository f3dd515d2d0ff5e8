//! Sets of fields, as tries of path elements in their serialised form (`f:name`, `k:{"name":"c"}`,
//! `v:"x"`): what `fieldsV1` holds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::shape::Shape;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    members: BTreeSet<String>,
    /// Never empty ones.
    children: BTreeMap<String, Set>,
}

impl Set {
    pub(super) fn of(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(path);
        }
        set
    }

    /// Adds one path; the empty one is no field.
    pub(super) fn insert<S: AsRef<str>>(&mut self, path: &[S]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.as_ref().to_owned());
            }
            [first, rest @ ..] => {
                self.children.entry(first.as_ref().to_owned()).or_default().insert(rest);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    pub(super) fn has(&self, path: &[String]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.children.get(first).is_some_and(|child| child.has(rest)),
        }
    }

    pub(super) fn holds(&self, element: &str) -> bool {
        self.members.contains(element)
    }

    pub(super) fn below(&self, element: &str) -> Option<&Set> {
        self.children.get(element)
    }

    pub(super) fn union(&self, other: &Set) -> Set {
        let mut children = self.children.clone();
        for (element, theirs) in &other.children {
            let merged = match children.get(element) {
                Some(own) => own.union(theirs),
                None => theirs.clone(),
            };
            children.insert(element.clone(), merged);
        }
        Set { members: &self.members | &other.members, children }
    }

    pub(super) fn difference(&self, other: &Set) -> Set {
        let children = self.children.iter().map(|(element, own)| {
            let left = match other.children.get(element) {
                Some(theirs) => own.difference(theirs),
                None => own.clone(),
            };
            (element.clone(), left)
        });
        Set {
            members: &self.members - &other.members,
            children: children.filter(|(_, child)| !child.is_empty()).collect(),
        }
    }

    pub(super) fn intersection(&self, other: &Set) -> Set {
        let children = self.children.iter().filter_map(|(element, own)| {
            let both = own.intersection(other.children.get(element)?);
            Some((element.clone(), both))
        });
        Set {
            members: &self.members & &other.members,
            children: children.filter(|(_, child)| !child.is_empty()).collect(),
        }
    }

    /// Without the other's members and everything below them.
    pub(super) fn without_below(&self, other: &Set) -> Set {
        if other.is_empty() {
            return self.clone();
        }
        let children = self.children.iter().filter(|(element, _)| !other.holds(element));
        let children = children.map(|(element, own)| {
            let left = match other.children.get(element) {
                Some(theirs) => own.without_below(theirs),
                None => own.clone(),
            };
            (element.clone(), left)
        });
        Set {
            members: &self.members - &other.members,
            children: children.filter(|(_, child)| !child.is_empty()).collect(),
        }
    }

    /// With the fields of structs on the way to members as members, too.
    pub(super) fn with_named_fields(&self, shape: Shape) -> Set {
        let mut members = self.members.clone();
        let named = self.children.keys().filter(|element| shape.names(element));
        members.extend(named.cloned());
        let children = self.children.iter().map(|(element, child)| {
            (element.clone(), child.with_named_fields(shape.below(element)))
        });
        Set { members, children: children.collect() }
    }

    /// Every member, as a path.
    pub(super) fn paths(&self) -> Vec<Vec<String>> {
        let mut out: Vec<Vec<String>> =
            self.members.iter().map(|element| vec![element.clone()]).collect();
        for (element, child) in &self.children {
            out.extend(child.paths().into_iter().map(|mut path| {
                path.insert(0, element.clone());
                path
            }));
        }
        out
    }

    /// As `fieldsV1`.
    pub(super) fn encode(&self) -> Value {
        let mut out: Map<String, Value> = self
            .children
            .iter()
            .map(|(element, child)| (element.clone(), child.encode()))
            .collect();
        for element in &self.members {
            match out.get_mut(element).and_then(Value::as_object_mut) {
                Some(child) => child.insert(".".to_owned(), Value::Object(Map::new())),
                None => out.insert(element.clone(), Value::Object(Map::new())),
            };
        }
        Value::Object(out)
    }

    /// From `fieldsV1`; `None` when it is none.
    pub(super) fn decode(fields: &Value) -> Option<Set> {
        let mut set = Set::default();
        for (element, below) in fields.as_object()? {
            if element == "." {
                continue;
            }
            if !["f:", "k:", "v:", "i:"].iter().any(|kind| element.starts_with(kind)) {
                return None;
            }
            let map = below.as_object()?;
            if map.is_empty() || map.contains_key(".") {
                set.members.insert(element.clone());
            }
            let child = Set::decode(below)?;
            if !child.is_empty() {
                set.children.insert(element.clone(), child);
            }
        }
        Some(set)
    }
}

/// A path as messages show it: `.spec.containers[name="c"].image`.
pub(super) fn display(path: &[String]) -> String {
    let mut out = String::new();
    for element in path {
        match element.split_at_checked(2) {
            Some(("f:", name)) => {
                out.push('.');
                out.push_str(name);
            }
            Some(("k:", keys)) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> =
                    keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                out.push_str(&format!("[{}]", keys.join(",")));
            }
            Some(("v:", value)) => out.push_str(&format!("[={value}]")),
            Some((_, index)) => out.push_str(&format!("[{index}]")),
            None => {}
        }
    }
    out
}
