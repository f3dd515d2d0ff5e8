//! Deployments, replica sets and scales.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, integer, labels, name, text};
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
pub(super) static DAEMON_SET: &[Column] = &[
    NAME,
    integer("Desired"),
    integer("Current"),
    integer("Ready"),
    integer("Up-to-date"),
    integer("Available"),
    text("Node Selector"),
    AGE,
    text("Containers").wide().described("Names of each container in the template."),
    text("Images").wide().described("Images referenced by each container in the template."),
    text("Selector").wide(),
];
pub(super) static STATEFUL_SET: &[Column] = &[
    NAME,
    text("Ready").described("Number of the pod with ready state"),
    AGE,
    text("Containers").wide().described("Names of each container in the template."),
    text("Images").wide().described("Images referenced by each container in the template."),
];
pub(super) static POD_TEMPLATE: &[Column] = &[
    NAME,
    text("Containers").described("Names of each container in the template."),
    text("Images").described("Images referenced by each container in the template."),
    text("Pod Labels").described("The labels for the pod template."),
];
pub(super) static REVISION: &[Column] =
    &[NAME, text("Controller").described("Controller of the object"), text("Revision"), AGE];
pub(super) static SCALE: &[Column] =
    &[Column { format: "", ..NAME }, integer("Desired"), integer("Available"), AGE];

/// Names and images of the containers in the template.
pub(super) fn containers(spec: &Value) -> [Value; 2] {
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

pub(super) fn replication_controller(controller: &Value, now: Timestamp) -> Vec<Value> {
    let mut row = replica_set(controller, now);
    row.pop();
    row.push(json!(labels(tree::at(controller, &["spec", "selector"]))));
    row
}

pub(super) fn pod_template(object: &Value, _: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object);
    let pod_labels = tree::at(object, &["template", "metadata", "labels"]);
    vec![json!(name(object)), names, images, json!(labels(pod_labels))]
}

pub(super) fn daemon_set(set: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (tree::get(set, "spec"), tree::get(set, "status"));
    let [names, images] = containers(spec);
    let selector = tree::at(spec, &["template", "spec", "nodeSelector"]);
    let mut row = vec![json!(name(set))];
    row.extend(
        [
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberAvailable",
        ]
        .map(|count| json!(tree::int(status, count))),
    );
    row.extend([
        json!(labels(selector)),
        age(set, now),
        names,
        images,
        json!(object::format(tree::get(spec, "selector"))),
    ]);
    row
}

pub(super) fn stateful_set(set: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (tree::get(set, "spec"), tree::get(set, "status"));
    let [names, images] = containers(spec);
    let (ready, wanted) = (tree::int(status, "readyReplicas"), tree::int(spec, "replicas"));
    vec![json!(name(set)), json!(format!("{ready}/{wanted}")), age(set, now), names, images]
}

pub(super) fn revision(revision: &Value, now: Timestamp) -> Vec<Value> {
    let owners = tree::list(tree::get(revision, "metadata"), "ownerReferences");
    let controller = match owners.iter().find(|owner| tree::flag(owner, "controller")) {
        None => "<none>".to_owned(),
        Some(owner) => {
            let version = tree::text(owner, "apiVersion");
            let kind = tree::text(owner, "kind").to_lowercase();
            let group = version.split_once('/').map_or("", |(group, _)| group);
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}", tree::text(owner, "name"))
        }
    };
    vec![
        json!(name(revision)),
        json!(controller),
        json!(tree::int(revision, "revision")),
        age(revision, now),
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
