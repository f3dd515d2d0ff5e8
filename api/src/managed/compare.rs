//! What differs between two objects, field by field, and which fields an object has.

use serde_json::{Map, Value};

use super::set::Set;
use super::shape::Shape;

/// Paths that differ.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Without fields that are reset anyway.
    pub(super) fn without(&self, reset: &Set) -> Self {
        Self {
            added: self.added.without_below(reset),
            modified: self.modified.without_below(reset),
            removed: self.removed.without_below(reset),
        }
    }
}

/// What is to be done to `before` to make it `after`.
pub(super) fn compare(before: &Value, after: &Value, shape: Shape) -> Difference {
    let mut walk = Walk { path: Vec::new(), out: Difference::default() };
    walk.node(Some(before), Some(after), shape);
    walk.out
}

struct Walk {
    path: Vec<String>,
    out: Difference,
}

fn map_of(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn list_of(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl Walk {
    fn node(&mut self, before: Option<&Value>, after: Option<&Value>, shape: Shape) {
        match shape.settled(before, after) {
            Shape::Scalar(_) | Shape::Atomic => return self.leaf(before, after),
            Shape::Struct(_) | Shape::Map(_) | Shape::Node(_) | Shape::Deduced => {
                let (old, new) = (map_of(before), map_of(after));
                // Two empty ones are compared as they are: null is not {}.
                if old.is_none_or(Map::is_empty) && new.is_none_or(Map::is_empty) {
                    return self.leaf(before, after);
                }
                self.maps(old, new, shape);
            }
            Shape::ListSet(_) | Shape::ListMap(_) | Shape::NodeSet(_) | Shape::NodeMap(_) => {
                let (old, new) = (list_of(before), list_of(after));
                if old.is_empty() && new.is_empty() {
                    return self.leaf(before, after);
                }
                self.lists(old, new, shape);
            }
        }
        // What is there as a whole or not at all counts itself.
        if before.is_none() {
            self.out.added.insert(&self.path);
        } else if after.is_none() {
            self.out.removed.insert(&self.path);
        }
    }

    fn leaf(&mut self, before: Option<&Value>, after: Option<&Value>) {
        match (before, after) {
            (None, _) => self.out.added.insert(&self.path),
            (_, None) => self.out.removed.insert(&self.path),
            (Some(before), Some(after)) if before != after => self.out.modified.insert(&self.path),
            (Some(_), Some(_)) => {}
        }
    }

    fn below(
        &mut self,
        element: String,
        before: Option<&Value>,
        after: Option<&Value>,
        shape: Shape,
    ) {
        self.path.push(element);
        self.node(before, after, shape);
        self.path.pop();
    }

    fn maps(
        &mut self,
        old: Option<&Map<String, Value>>,
        new: Option<&Map<String, Value>>,
        shape: Shape,
    ) {
        for (name, before) in old.into_iter().flatten() {
            let after = new.and_then(|new| new.get(name));
            self.below(format!("f:{name}"), Some(before), after, shape.child(name));
        }
        for (name, after) in new.into_iter().flatten() {
            if old.is_none_or(|old| !old.contains_key(name)) {
                self.below(format!("f:{name}"), None, Some(after), shape.child(name));
            }
        }
    }

    fn lists(&mut self, old: &[Value], new: &[Value], shape: Shape) {
        let (old, new) = (shape.indexed(old), shape.indexed(new));
        for (element, before) in &old {
            let after = new.iter().find(|(other, _)| other == element).map(|(_, item)| *item);
            self.below(element.clone(), Some(before), after, shape.item());
        }
        for (element, after) in &new {
            if old.iter().all(|(other, _)| other != element) {
                self.below(element.clone(), None, Some(after), shape.item());
            }
        }
    }
}

/// The fields that an object has.
pub(super) fn to_set(value: &Value, shape: Shape) -> Set {
    let mut set = Set::default();
    collect(value, shape, &mut Vec::new(), &mut set);
    set
}

fn collect(value: &Value, shape: Shape, path: &mut Vec<String>, set: &mut Set) {
    match (shape.settled(Some(value), None), value) {
        (Shape::Scalar(_) | Shape::Atomic, _) => set.insert(path),
        (
            Shape::Struct(_) | Shape::Map(_) | Shape::Node(_) | Shape::Deduced,
            Value::Object(map),
        ) => {
            for (name, child) in map {
                let element = format!("f:{name}");
                let named = shape.names(&element);
                path.push(element);
                collect(child, shape.child(name), path, set);
                // Fields of structs are there through what is below them.
                let empty = child.is_null() || child.as_object().is_some_and(Map::is_empty);
                if !named || empty {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (
            Shape::ListSet(_) | Shape::ListMap(_) | Shape::NodeSet(_) | Shape::NodeMap(_),
            Value::Array(list),
        ) => {
            for (element, item) in shape.indexed(list) {
                path.push(element);
                collect(item, shape.item(), path, set);
                set.insert(path);
                path.pop();
            }
        }
        _ => {}
    }
}
