//! Strategic merge patch: lists are merged by the keys the schema names, and directives in the
//! patch (`$patch`, `$retainKeys`, `$setElementOrder/x`, `$deleteFromPrimitiveList/x`) say what a
//! plain merge cannot.
//!
//! Behaviour follows apimachinery's `util/strategicpatch` as the API server uses it: nulls that
//! match nothing are dropped.

use serde_json::{Map, Value};

use super::{Error, order};
use crate::schema::{Field, Kind, TypeId};
use crate::text;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER_PREFIX: &str = "$setElementOrder/";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";

const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";
const BAD_ORDER: &str = "invalid patch format of setElementOrder list";
const BAD_PRIMITIVE_LIST: &str = "invalid patch format of primitive list";
const LIST_OF_LISTS: &str = "lists of lists are not supported";
const NOT_RETAINED: &str = "patch content doesn't match retainKeys list";

type Object = Map<String, Value>;

/// What the schema says about the value being merged.
#[derive(Clone, Copy)]
enum Node {
    Struct(TypeId),
    Map(&'static Kind),
    Unknown,
}

/// What the schema says about one field: the node below it and how lists merge.
struct Child {
    node: Node,
    merge: bool,
    replace: bool,
    merge_key: &'static str,
}

impl Node {
    fn of(kind: Kind) -> Node {
        match kind {
            Kind::Ref(id) => Node::Struct(id),
            Kind::Map(inner) => Node::Map(inner),
            Kind::List(inner) => Node::of(*inner),
            _ => Node::Unknown,
        }
    }

    fn child(self, name: &str) -> Child {
        let plain = |node| Child { node, merge: false, replace: false, merge_key: "" };
        match self {
            Node::Struct(id) => match id.get().field(name) {
                Some(field) => Child::of(field),
                None => plain(Node::Unknown),
            },
            Node::Map(inner) => plain(Node::of(*inner)),
            Node::Unknown => plain(Node::Unknown),
        }
    }
}

impl Child {
    fn of(field: &'static Field) -> Child {
        Child {
            node: Node::of(field.kind),
            merge: field.patch_merge(),
            replace: field.patch_replace(),
            merge_key: field.merge_key,
        }
    }
}

pub(super) fn apply(object: &Value, patch: &Value, schema: TypeId) -> Result<Value, Error> {
    let (Value::Object(original), Value::Object(patch)) = (object, patch) else {
        return Err(Error::Malformed("invalid JSON document".to_owned()));
    };
    merge_map(original.clone(), patch.clone(), Node::Struct(schema)).map(Value::Object)
}

fn malformed<T>(message: &str) -> Result<T, Error> {
    Err(Error::Malformed(message.to_owned()))
}

/// The patch is well formed, but contradicts itself or the schema (422).
fn rejected<T>(message: &str) -> Result<T, Error> {
    Err(Error::Rejected(message.to_owned()))
}

fn bad_directive<T>(directive: &Value, holder: &Object) -> Result<T, Error> {
    let holder = text::go(&Value::Object(holder.clone()));
    let directive = text::go(directive);
    Err(Error::Unclassified(format!("unknown patch type: {directive} in map: {holder}")))
}

fn merge_map(mut original: Object, mut patch: Object, node: Node) -> Result<Object, Error> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            _ => bad_directive(&directive, &patch),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    ordered_lists(&mut original, &mut patch, node)?;
    for (key, value) in patch {
        if let Some(name) = key.strip_prefix(DELETE_PREFIX) {
            delete_primitives(&mut original, name, value)?;
            continue;
        }
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                let child = node.child(&key);
                if child.replace {
                    Some(Value::Object(new))
                } else {
                    Some(Value::Object(merge_map(old, new, child.node)?))
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let child = node.child(&key);
                if child.merge {
                    Some(Value::Array(merge_list(old, new, &child)?))
                } else {
                    Some(Value::Array(new))
                }
            }
            (_, new) => without_directives(new),
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
    }
    Ok(original)
}

/// `$retainKeys`: the fields that stay; the patch itself may not set others.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else { return malformed(BAD_RETAIN_KEYS) };
    let kept = |name: &str| keys.iter().any(|k| k == name);
    let foreign = patch.iter().any(|(name, value)| {
        let directive = name.starts_with(DELETE_PREFIX) || name.starts_with(ORDER_PREFIX);
        !value.is_null() && !directive && !kept(name)
    });
    if foreign {
        return rejected(NOT_RETAINED);
    }
    original.retain(|name, _| kept(name));
    Ok(())
}

/// Merges the lists that have a `$setElementOrder` and removes both from the patch.
fn ordered_lists(original: &mut Object, patch: &mut Object, node: Node) -> Result<(), Error> {
    let names: Vec<String> =
        patch.keys().filter_map(|key| key.strip_prefix(ORDER_PREFIX)).map(str::to_owned).collect();
    for name in names {
        let order = match patch.remove(&format!("{ORDER_PREFIX}{name}")) {
            Some(Value::Array(order)) => order,
            Some(Value::Null) | None => continue,
            Some(_) => return malformed(BAD_ORDER),
        };
        let child = node.child(&name);
        let server = match original.get(&name) {
            Some(Value::Array(list)) => Some(list.clone()),
            None => None,
            Some(_) => return malformed(BAD_ORDER),
        };
        // A null deletes the list: the general rule does that.
        let new = match patch.get(&name) {
            Some(Value::Array(list)) => Some(list.clone()),
            None => None,
            Some(Value::Null) => continue,
            Some(_) => return malformed(BAD_ORDER),
        };
        if !child.merge_key.is_empty() {
            let keyed = |item: &Value| item.get(child.merge_key).is_some();
            if let Some(item) = order.iter().find(|item| !keyed(item)) {
                return no_merge_key(item, child.merge_key);
            }
        }
        order::check(new.as_deref().unwrap_or_default(), &order, child.merge_key)?;
        let deleted = patch.remove(&format!("{DELETE_PREFIX}{name}"));
        let mut merged = match (&server, new) {
            (Some(server), None) => server.clone(),
            (None, Some(new)) => cleaned(new),
            (Some(server), Some(new)) if child.merge => merge_list(server.clone(), new, &child)?,
            (Some(_), Some(new)) => new,
            (None, None) => continue,
        };
        if let Some(deleted) = deleted {
            let Value::Array(deleted) = deleted else { return malformed(BAD_PRIMITIVE_LIST) };
            merged.retain(|item| !deleted.contains(item));
        }
        let server = server.unwrap_or_default();
        let ordered = order::normalise(merged, &order, &server, child.merge_key);
        original.insert(name.clone(), Value::Array(ordered));
        patch.remove(&name);
    }
    Ok(())
}

fn delete_primitives(original: &mut Object, name: &str, gone: Value) -> Result<(), Error> {
    let Value::Array(gone) = gone else { return malformed(BAD_PRIMITIVE_LIST) };
    if let Some(Value::Array(list)) = original.get_mut(name) {
        list.retain(|item| !gone.contains(item));
    }
    Ok(())
}

fn no_merge_key<T>(item: &Value, key: &str) -> Result<T, Error> {
    let item = text::go(item);
    Err(Error::Unclassified(format!("map: {item} does not contain declared merge key: {key}")))
}

fn merge_list(server: Vec<Value>, patch: Vec<Value>, child: &Child) -> Result<Vec<Value>, Error> {
    let all = || server.iter().chain(&patch);
    if all().any(Value::is_array) {
        return rejected(LIST_OF_LISTS);
    }
    let objects = all().filter(|item| item.is_object()).count();
    if objects == 0 {
        let mut merged: Vec<Value> = Vec::with_capacity(server.len() + patch.len());
        for item in all() {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return Ok(order::normalise(merged, &patch, &server, ""));
    }
    if objects != all().count() {
        return Err(Error::Unclassified("list element types are not identical".to_owned()));
    }
    if child.merge_key.is_empty() {
        return Err(Error::Unclassified(
            "cannot merge lists without merge key for type".to_owned(),
        ));
    }
    merge_objects(server, patch, child)
}

/// Merges a list of objects by its key, obeying the directives among its items.
fn merge_objects(
    mut server: Vec<Value>,
    patch: Vec<Value>,
    child: &Child,
) -> Result<Vec<Value>, Error> {
    let key = child.merge_key;
    let mut plain = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Value::Object(object) = &item else { return rejected(LIST_OF_LISTS) };
        match object.get(DIRECTIVE) {
            None => plain.push(item),
            Some(directive) => match directive.as_str() {
                Some("delete") => match object.get(key) {
                    Some(value) => server.retain(|item| item.get(key) != Some(value)),
                    None => return no_merge_key(&item, key),
                },
                Some("replace") => replace = true,
                Some("merge") => {
                    return malformed("merging lists cannot yet be specified in the patch");
                }
                _ => return bad_directive(directive, object),
            },
        }
    }
    if replace {
        return Ok(cleaned(plain));
    }
    let before = server.clone();
    for item in &plain {
        let Some(value) = item.get(key) else { return no_merge_key(item, key) };
        let found = server.iter_mut().find(|old| old.get(key) == Some(value));
        match (found, item) {
            (Some(slot), Value::Object(new)) => {
                let old = slot.as_object().cloned().unwrap_or_default();
                *slot = Value::Object(merge_map(old, new.clone(), child.node)?);
            }
            _ => server.extend(without_directives(item.clone())),
        }
    }
    Ok(order::normalise(server, &plain, &before, key))
}

/// A value of the patch as it enters the object: without nulls and directives. Nothing, if it
/// says that it is to be deleted.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(mut map) => {
            if map.remove(DIRECTIVE).is_some_and(|d| d == "delete") {
                return None;
            }
            let inner = map.into_iter().filter(|(name, value)| {
                let directive = name == RETAIN_KEYS
                    || name.starts_with(ORDER_PREFIX)
                    || name.starts_with(DELETE_PREFIX);
                !directive && !value.is_null()
            });
            let inner = inner.filter_map(|(name, v)| Some((name, without_directives(v)?)));
            Some(Value::Object(inner.collect()))
        }
        Value::Array(items) => Some(Value::Array(cleaned(items))),
        other => Some(other),
    }
}

/// The items of a patch list that has nothing to merge with. An item that is only a directive
/// leaves nothing.
fn cleaned(items: Vec<Value>) -> Vec<Value> {
    let only_directive =
        |item: &Value| item.as_object().is_some_and(|m| m.len() == 1 && m.contains_key(DIRECTIVE));
    items.into_iter().filter(|i| !only_directive(i)).filter_map(without_directives).collect()
}
