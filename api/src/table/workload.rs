//! Deployments, replica sets and scales.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, integer, name, text};
use crate::selector::object;
use crate::tree;

pub(super) static DEPLOYMENT: &[Column] = &[
    NAME,
    text("Ready").described("Number of the pod with ready state"),
    text("Up-to-date"),
    text("Available"),
    AGE,
    text("Containers").wide().described("Names of each container in the template."),
    text("Images").wide().described("Images referenced by each container in the template."),
    text("Selector").wide(),
];
pub(super) static REPLICA_SET: &[Column] = &[
    NAME,
    integer("Desired"),
    integer("Current"),
    integer("Ready"),
    AGE,
    text("Containers").wide().described("Names of each container in the template."),
    text("Images").wide().described("Images referenced by each container in the template."),
    text("Selector").wide(),
];
pub(super) static SCALE: &[Column] =
    &[Column { format: "", ..NAME }, integer("Desired"), integer("Available"), AGE];

fn containers(spec: &Value) -> [Value; 2] {
    let containers = tree::list(tree::at(spec, &["template", "spec"]), "containers");
    ["name", "image"].map(|field| {
        let texts: Vec<&str> = containers.iter().map(|c| tree::text(c, field)).collect();
        json!(texts.join(","))
    })
}

pub(super) fn deployment(deployment: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (tree::get(deployment, "spec"), tree::get(deployment, "status"));
    let [names, images] = containers(spec);
    let (ready, wanted) = (tree::int(status, "readyReplicas"), tree::int(spec, "replicas"));
    vec![
        json!(name(deployment)),
        json!(format!("{ready}/{wanted}")),
        json!(tree::int(status, "updatedReplicas")),
        json!(tree::int(status, "availableReplicas")),
        age(deployment, now),
        names,
        images,
        json!(object::format(tree::get(spec, "selector"))),
    ]
}

pub(super) fn replica_set(set: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (tree::get(set, "spec"), tree::get(set, "status"));
    let [names, images] = containers(spec);
    vec![
        json!(name(set)),
        json!(tree::int(spec, "replicas")),
        json!(tree::int(status, "replicas")),
        json!(tree::int(status, "readyReplicas")),
        age(set, now),
        names,
        images,
        json!(object::format(tree::get(spec, "selector"))),
    ]
}

pub(super) fn scale(scale: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(name(scale)),
        json!(tree::int(tree::get(scale, "spec"), "replicas")),
        json!(tree::int(tree::get(scale, "status"), "replicas")),
        age(scale, now),
    ]
}
