//! Roles, bindings and priority classes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, boolean, integer, name, text};
use crate::tree;

pub(super) static ROLE: &[Column] = &[NAME, Column { kind: "date", ..text("Created At") }];
pub(super) static BINDING: &[Column] = &[
    NAME,
    text("Role"),
    AGE,
    text("Users").wide(),
    text("Groups").wide(),
    text("ServiceAccounts").wide(),
];
pub(super) static PRIORITY: &[Column] =
    &[NAME, integer("Value"), boolean("Global-Default"), AGE, text("PreemptionPolicy")];

pub(super) fn role(role: &Value, _: Timestamp) -> Vec<Value> {
    let created = tree::get(tree::get(role, "metadata"), "creationTimestamp").clone();
    vec![json!(name(role)), created]
}

pub(super) fn binding(binding: &Value, now: Timestamp) -> Vec<Value> {
    let role = tree::get(binding, "roleRef");
    let subjects = tree::list(binding, "subjects");
    let of = |kind: &str| {
        let names = subjects.iter().filter(|s| tree::text(s, "kind") == kind).map(|s| {
            match (kind, tree::text(s, "namespace")) {
                ("ServiceAccount", ns) => format!("{ns}/{}", tree::text(s, "name")),
                _ => tree::text(s, "name").to_owned(),
            }
        });
        json!(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        json!(name(binding)),
        json!(format!("{}/{}", tree::text(role, "kind"), tree::text(role, "name"))),
        age(binding, now),
        of("User"),
        of("Group"),
        of("ServiceAccount"),
    ]
}

pub(super) fn priority(class: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(name(class)),
        json!(tree::int(class, "value")),
        json!(tree::flag(class, "globalDefault")),
        age(class, now),
        json!(tree::text(class, "preemptionPolicy")),
    ]
}
