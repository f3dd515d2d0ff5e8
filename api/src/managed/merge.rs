//! Merging a configuration into an object, and taking fields out of one.

use serde_json::{Map, Value};

use super::set::Set;
use super::shape::Shape;

/// The object with what the configuration says.
pub(super) fn merge(object: &Value, config: &Value, shape: Shape) -> Value {
    match (shape, object, config) {
        (
            Shape::Struct(_) | Shape::Map(_) | Shape::Node(_) | Shape::Deduced,
            Value::Object(old),
            Value::Object(new),
        ) => {
            let mut out = old.clone();
            for (name, value) in new {
                let merged = match old.get(name) {
                    Some(old) => merge(old, value, shape.child(name)),
                    None => value.clone(),
                };
                out.insert(name.clone(), merged);
            }
            Value::Object(out)
        }
        // A null says nothing about what is below it.
        (
            Shape::Struct(_) | Shape::Map(_) | Shape::Node(_) | Shape::Deduced,
            Value::Object(old),
            Value::Null,
        ) if !old.is_empty() => object.clone(),
        (_, Value::Array(old), Value::Null) if shape.is_list() && !old.is_empty() => object.clone(),
        (_, Value::Array(old), Value::Array(new)) if shape.is_list() => {
            Value::Array(lists(old, new, shape))
        }
        _ => config.clone(),
    }
}

/// The items of both, merged by their keys: the configuration's in its order, the others where
/// they were among them.
fn lists(old: &[Value], new: &[Value], shape: Shape) -> Vec<Value> {
    let (old, new) = (shape.indexed(old), shape.indexed(new));
    let in_old = |element: &str| old.iter().find(|(own, _)| own == element).map(|(_, item)| *item);
    let in_new = |element: &str| new.iter().any(|(own, _)| own == element);
    let mut shared = new.iter().map(|(element, _)| element).filter(|one| in_old(one).is_some());
    let mut next_shared = shared.next();
    let mut taken: Vec<&str> = Vec::new();
    let mut out = Vec::with_capacity(old.len() + new.len());
    let merged = |element: &str, item: &Value| match in_old(element) {
        Some(before) => merge(before, item, shape.item()),
        None => item.clone(),
    };
    let (mut left, mut right) = (0, 0);
    while left < old.len() || right < new.len() {
        if let (Some((own, _)), Some((theirs, item))) = (old.get(left), new.get(right)) {
            if own == theirs {
                out.push(merged(theirs, item));
                taken.push(theirs);
                (left, right) = (left + 1, right + 1);
                next_shared = shared.next();
                continue;
            }
            if in_new(own) && next_shared.is_some_and(|next| next != own) {
                left += 1;
                continue;
            }
        }
        if let Some((own, item)) = old.get(left) {
            if !in_new(own) {
                out.push((*item).clone());
                left += 1;
                continue;
            }
            if taken.contains(&own.as_str()) {
                left += 1;
            }
        }
        if let Some((theirs, item)) = new.get(right) {
            out.push(merged(theirs, item));
            taken.push(theirs);
            right += 1;
            if next_shared == Some(theirs) {
                next_shared = shared.next();
            }
        }
    }
    out
}

/// The object without the members of a set. What has nothing left becomes null.
pub(super) fn remove(object: &Value, gone: &Set, shape: Shape) -> Value {
    match (shape, object) {
        (
            Shape::Struct(_) | Shape::Map(_) | Shape::Node(_) | Shape::Deduced,
            Value::Object(map),
        ) => {
            let mut out = Map::new();
            for (name, value) in map {
                let element = format!("f:{name}");
                if gone.holds(&element) {
                    continue;
                }
                let value = match gone.below(&element) {
                    Some(below) => remove(value, below, shape.child(name)),
                    None => value.clone(),
                };
                out.insert(name.clone(), value);
            }
            if out.is_empty() { Value::Null } else { Value::Object(out) }
        }
        (
            Shape::ListSet(_) | Shape::ListMap(_) | Shape::NodeSet(_) | Shape::NodeMap(_),
            Value::Array(list),
        ) => {
            let kept = list.iter().filter_map(|item| {
                let Ok(element) = shape.element(item) else { return Some(item.clone()) };
                if gone.holds(&element) {
                    return None;
                }
                Some(match gone.below(&element) {
                    Some(below) => remove(item, below, shape.item()),
                    None => item.clone(),
                })
            });
            let kept: Vec<Value> = kept.collect();
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        (Shape::Scalar(_) | Shape::Deduced, _) => object.clone(),
        _ => Value::Null,
    }
}
