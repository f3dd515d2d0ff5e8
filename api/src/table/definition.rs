//! Definitions of custom kinds: their name and when they were made, as a time.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, name, text};
use crate::tree;

pub(super) const COLUMNS: &[Column] =
    &[NAME, Column { kind: "date", ..text("Created At").described(AGE.description) }];

pub(super) fn row(object: &Value, _: Timestamp) -> Vec<Value> {
    let created = tree::at(object, &["metadata", "creationTimestamp"]);
    vec![json!(name(object)), created.clone()]
}
