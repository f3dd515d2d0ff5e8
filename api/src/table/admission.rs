//! Webhooks, admission policies, flow control, API services, migrations, components.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, integer, name, text};
use crate::selector::object::format;
use crate::tree;

pub(super) static WEBHOOKS: &[Column] = &[
    NAME,
    integer("Webhooks")
        .described("Webhooks indicates the number of webhooks registered in this configuration"),
    AGE,
];
pub(super) static VALIDATING: &[Column] = &[NAME, integer("Validations"), text("ParamKind"), AGE];
pub(super) static MUTATING: &[Column] = &[NAME, integer("Mutations"), text("ParamKind"), AGE];
pub(super) static BINDING: &[Column] = &[NAME, text("PolicyName"), text("ParamRef"), AGE];
pub(super) static SCHEMA: &[Column] = &[
    NAME,
    text("PriorityLevel"),
    text("MatchingPrecedence"),
    text("DistinguisherMethod"),
    AGE,
    text("MissingPL"),
];
pub(super) static LEVEL: &[Column] = &[
    NAME,
    text("Type"),
    text("NominalConcurrencyShares"),
    text("Queues"),
    text("HandSize"),
    text("QueueLengthLimit"),
    AGE,
];
pub(super) static API_SERVICE: &[Column] = &[
    NAME,
    text("Service").described("The reference to the service that hosts this API endpoint."),
    text("Available").described("Whether this service is available."),
    AGE,
];
pub(super) static MIGRATION: &[Column] =
    &[Column { format: "", ..NAME }, text("Resource"), text("Status")];
pub(super) static COMPONENT: &[Column] = &[NAME, text("Status"), text("Message"), text("Error")];

pub(super) fn webhooks(object: &Value, now: Timestamp) -> Vec<Value> {
    let count = tree::list(object, "webhooks").len();
    vec![json!(name(object)), json!(count), age(object, now)]
}

fn param_kind(spec: &Value) -> String {
    match tree::get(spec, "paramKind") {
        Value::Null => "<unset>".to_owned(),
        kind => format!("{}/{}", tree::text(kind, "apiVersion"), tree::text(kind, "kind")),
    }
}

fn policy(object: &Value, list: &str, now: Timestamp) -> Vec<Value> {
    let spec = tree::get(object, "spec");
    let count = tree::list(spec, list).len();
    vec![json!(name(object)), json!(count), json!(param_kind(spec)), age(object, now)]
}

pub(super) fn validating(object: &Value, now: Timestamp) -> Vec<Value> {
    policy(object, "validations", now)
}

pub(super) fn mutating(object: &Value, now: Timestamp) -> Vec<Value> {
    policy(object, "mutations", now)
}

pub(super) fn binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = tree::get(object, "spec");
    let reference = tree::get(spec, "paramRef");
    let shown = match (tree::text(reference, "namespace"), tree::text(reference, "name")) {
        (_, "") if tree::has(reference, "selector") => format(tree::get(reference, "selector")),
        (_, "") => "<unset>".to_owned(),
        ("", param) => format!("*/{param}"),
        (namespace, param) => format!("{namespace}/{param}"),
    };
    let policy = tree::text(spec, "policyName");
    vec![json!(name(object)), json!(policy), json!(shown), age(object, now)]
}

pub(super) fn schema(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = tree::get(object, "spec");
    let level = tree::text(tree::get(spec, "priorityLevelConfiguration"), "name");
    let method = tree::text_opt(tree::get(spec, "distinguisherMethod"), "type");
    let conditions = tree::list(tree::get(object, "status"), "conditions");
    let dangling = conditions.iter().find(|one| tree::text(one, "type") == "Dangling");
    vec![
        json!(name(object)),
        json!(level),
        json!(tree::int(spec, "matchingPrecedence")),
        json!(method.unwrap_or("<none>")),
        age(object, now),
        json!(dangling.map_or("?", |one| tree::text(one, "status"))),
    ]
}

pub(super) fn level(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = tree::get(object, "spec");
    let limited = tree::get(spec, "limited");
    let queuing = tree::at(limited, &["limitResponse", "queuing"]);
    let number = |holder: &Value, field: &str| match tree::int_opt(holder, field) {
        Some(number) => json!(number),
        None => json!("<none>"),
    };
    vec![
        json!(name(object)),
        json!(tree::text(spec, "type")),
        number(limited, "nominalConcurrencyShares"),
        number(queuing, "queues"),
        number(queuing, "handSize"),
        number(queuing, "queueLengthLimit"),
        age(object, now),
    ]
}

pub(super) fn api_service(object: &Value, now: Timestamp) -> Vec<Value> {
    let service = match tree::at(object, &["spec", "service"]) {
        Value::Null => "Local".to_owned(),
        service => format!("{}/{}", tree::text(service, "namespace"), tree::text(service, "name")),
    };
    let conditions = tree::list(tree::get(object, "status"), "conditions");
    let available = conditions.iter().find(|one| tree::text(one, "type") == "Available");
    let shown = available.map_or_else(
        || "Unknown".to_owned(),
        |condition| match (tree::text(condition, "status"), tree::text(condition, "reason")) {
            ("True", _) => "True".to_owned(),
            (status, "") => status.to_owned(),
            (status, reason) => format!("{status} ({reason})"),
        },
    );
    vec![json!(name(object)), json!(service), json!(shown), age(object, now)]
}

pub(super) fn migration(object: &Value, _: Timestamp) -> Vec<Value> {
    let wanted = tree::at(object, &["spec", "resource"]);
    let (group, resource) = (tree::text(wanted, "group"), tree::text(wanted, "resource"));
    let shown = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let conditions = tree::list(tree::get(object, "status"), "conditions");
    let holds = conditions.iter().find(|one| tree::text(one, "status") == "True");
    let status = holds.map_or("Unknown", |one| tree::text(one, "type"));
    vec![json!(name(object)), json!(shown), json!(status)]
}

pub(super) fn component(object: &Value, _: Timestamp) -> Vec<Value> {
    let mut cells = [json!("Unknown"), json!(""), json!("")];
    for condition in tree::list(object, "conditions") {
        if tree::text(condition, "type") == "Healthy" {
            let healthy = tree::text(condition, "status") == "True";
            cells = [
                json!(if healthy { "Healthy" } else { "Unhealthy" }),
                json!(tree::text(condition, "message")),
                json!(tree::text(condition, "error")),
            ];
            break;
        }
    }
    let [status, message, error] = cells;
    vec![json!(name(object)), status, message, error]
}
