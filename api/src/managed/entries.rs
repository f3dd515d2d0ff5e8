//! The entries of `metadata.managedFields`.

use serde_json::{Map, Value, json};

use super::Writer;
use super::set::Set;
use crate::limits::UPDATE_MANAGERS_MAX;
use crate::{text, tree};

/// Whose entries are merged when there are too many.
const ANCIENT: &str = "ancient-changes";

/// How a field came to its owner. The order is that of the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// One owner and its fields.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    /// RFC 3339, or empty
    pub(super) time: String,
    pub(super) set: Set,
}

impl Entry {
    pub(super) fn new(
        operation: Operation,
        writer: Writer<'_>,
        api_version: String,
        set: Set,
    ) -> Self {
        Self {
            manager: writer.manager.to_owned(),
            operation,
            api_version,
            subresource: writer.subresource.to_owned(),
            time: writer.now.to_owned(),
            set,
        }
    }

    pub(super) fn is_of(&self, manager: &str, subresource: &str) -> bool {
        self.manager == manager && self.subresource == subresource
    }

    /// As messages name it.
    pub(super) fn shown(&self) -> String {
        let mut out = text::quote(&self.manager);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {}", text::quote(&self.subresource)));
        }
        if self.operation == Operation::Update {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }

    fn encode(self) -> Value {
        let mut out = Map::new();
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        out.insert("apiVersion".to_owned(), Value::String(self.api_version));
        out.insert("fieldsType".to_owned(), json!("FieldsV1"));
        out.insert("fieldsV1".to_owned(), self.set.encode());
        out.insert("operation".to_owned(), json!(operation));
        let rest =
            [("manager", self.manager), ("subresource", self.subresource), ("time", self.time)];
        for (name, value) in rest {
            if !value.is_empty() {
                out.insert(name.to_owned(), Value::String(value));
            }
        }
        Value::Object(out)
    }
}

/// The entries of a list; `None` when it cannot be read.
pub(super) fn decode(list: &Value) -> Option<Vec<Entry>> {
    let Value::Array(list) = list else { return Some(Vec::new()) };
    list.iter().map(entry).collect()
}

fn entry(value: &Value) -> Option<Entry> {
    let operation = match tree::text(value, "operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    let api_version = tree::text(value, "apiVersion");
    if api_version.is_empty() || tree::text(value, "fieldsType") != "FieldsV1" {
        return None;
    }
    let fields = tree::get(value, "fieldsV1");
    Some(Entry {
        manager: tree::text(value, "manager").to_owned(),
        operation,
        api_version: api_version.to_owned(),
        subresource: tree::text(value, "subresource").to_owned(),
        time: tree::text(value, "time").to_owned(),
        set: if fields.is_null() { Set::default() } else { Set::decode(fields)? },
    })
}

/// The list, in upstream's order; null for none.
pub(super) fn encode(mut entries: Vec<Entry>) -> Value {
    if entries.is_empty() {
        return Value::Null;
    }
    entries.sort_by(|a, b| {
        let key = |entry: &Entry| {
            let names = (entry.api_version.clone(), entry.subresource.clone());
            (entry.operation, entry.time.clone(), entry.manager.clone(), names)
        };
        key(a).cmp(&key(b))
    });
    Value::Array(entries.into_iter().map(Entry::encode).collect())
}

/// Merges the oldest updaters' entries of a version when there are more than the limit.
pub(super) fn cap(entries: &mut Vec<Entry>) {
    let updaters = |entries: &[Entry]| {
        let mut found: Vec<usize> =
            (0..entries.len()).filter(|at| entries[*at].operation == Operation::Update).collect();
        found.sort_by(|a, b| entries[*a].time.cmp(&entries[*b].time));
        found
    };
    let found = updaters(entries);
    let Some(surplus) = found.len().checked_sub(UPDATE_MANAGERS_MAX).filter(|more| *more > 0)
    else {
        return;
    };
    let mut old: Vec<usize> = found[..=surplus].to_vec();
    old.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
    let mut merged: Vec<Entry> = Vec::new();
    for at in old {
        let gone = entries.remove(at);
        match merged.iter_mut().find(|entry| entry.api_version == gone.api_version) {
            Some(entry) => {
                entry.set = entry.set.union(&gone.set);
                entry.time = gone.time.max(std::mem::take(&mut entry.time));
            }
            None => merged.push(Entry {
                manager: ANCIENT.to_owned(),
                subresource: String::new(),
                ..gone
            }),
        }
    }
    entries.extend(merged);
}
