//! The kinds of `resource.k8s.io`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, name, text};
use crate::tree;

pub(super) static NAMED: &[Column] = &[NAME, AGE];
pub(super) static CLAIM: &[Column] = &[NAME, text("State"), AGE];
pub(super) static SLICE: &[Column] = &[NAME, text("Node"), text("Driver"), text("Pool"), AGE];

pub(super) fn named(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(name(object)), age(object, now)]
}

pub(super) fn claim(claim: &Value, now: Timestamp) -> Vec<Value> {
    let status = tree::get(claim, "status");
    let deleted = tree::has(tree::get(claim, "metadata"), "deletionTimestamp");
    let allocated = tree::has(status, "allocation");
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if allocated {
        states.push("allocated");
        if !tree::list(status, "reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    vec![json!(name(claim)), json!(states.join(",")), age(claim, now)]
}

pub(super) fn slice(slice: &Value, now: Timestamp) -> Vec<Value> {
    let spec = tree::get(slice, "spec");
    vec![
        json!(name(slice)),
        json!(tree::text(spec, "nodeName")),
        json!(tree::text(spec, "driver")),
        json!(tree::text(tree::get(spec, "pool"), "name")),
        age(slice, now),
    ]
}
