//! The small kinds: namespaces, ConfigMaps, secrets, service accounts, events and leases.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, duration, name, text};
use crate::tree;

pub(super) static NAMESPACE: &[Column] =
    &[NAME, text("Status").described("The status of the namespace"), AGE];
pub(super) static CONFIG_MAP: &[Column] = &[NAME, text("Data"), AGE];
pub(super) static SECRET: &[Column] = &[NAME, text("Type"), text("Data"), AGE];
pub(super) static SERVICE_ACCOUNT: &[Column] = &[NAME, AGE];
pub(super) static LEASE: &[Column] = &[NAME, text("Holder"), AGE];
pub(super) static QUOTA: &[Column] = &[
    NAME,
    text("Request").described(
        "Request represents a minimum amount of cpu/memory that a container may consume.",
    ),
    text("Limit").described(
        "Limits control the maximum amount of cpu/memory that a container may use independent of \
         contention on the node.",
    ),
    AGE,
];
pub(super) static EVENT: &[Column] = &[
    text("Last Seen"),
    text("Type"),
    text("Reason"),
    text("Object"),
    text("Subobject").wide(),
    text("Source").wide(),
    text("Message"),
    text("First Seen").wide(),
    text("Count").wide(),
    Column { priority: 1, ..NAME },
];

fn entries(object: &Value, names: &[&str]) -> Value {
    let count: usize = names.iter().map(|n| tree::entries(object, n).count()).sum();
    json!(count)
}

pub(super) fn quota(object: &Value, now: Timestamp) -> Vec<Value> {
    let status = tree::get(object, "status");
    let used = tree::get(status, "used");
    let column = |limits: bool| {
        let amount = |value: &Value| value.as_str().unwrap_or("0").to_owned();
        let parts: Vec<String> = tree::entries(status, "hard")
            .filter(|(name, _)| name.starts_with("limits") == limits)
            .map(|(name, hard)| {
                format!("{name}: {}/{}", amount(tree::get(used, name)), amount(hard))
            })
            .collect();
        json!(parts.join(", "))
    };
    vec![json!(name(object)), column(false), column(true), age(object, now)]
}

pub(super) fn namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    let phase = tree::text(tree::get(object, "status"), "phase");
    vec![json!(name(object)), json!(phase), age(object, now)]
}

pub(super) fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(name(object)), entries(object, &["data", "binaryData"]), age(object, now)]
}

pub(super) fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    let kind = tree::text(object, "type");
    vec![json!(name(object)), json!(kind), entries(object, &["data"]), age(object, now)]
}

pub(super) fn service_account(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(name(object)), age(object, now)]
}

pub(super) fn lease(object: &Value, now: Timestamp) -> Vec<Value> {
    let holder = tree::text(tree::get(object, "spec"), "holderIdentity");
    vec![json!(name(object)), json!(holder), age(object, now)]
}

/// An event of the core group or of `events.k8s.io`: the same object with other field names.
pub(super) fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let either = |new: &str, old: &str| match tree::get(event, new) {
        Value::Null => tree::get(event, old).clone(),
        value => value.clone(),
    };
    let object = either("regarding", "involvedObject");
    let source = either("deprecatedSource", "source");
    let first = either("deprecatedFirstTimestamp", "firstTimestamp");
    let last = either("deprecatedLastTimestamp", "lastTimestamp");
    let message = either("note", "message");
    let since = |time: &Value| duration::since(time.as_str().unwrap_or_default(), now);
    let precise = since(tree::get(event, "eventTime"));
    let first_seen = if first.is_null() { precise } else { since(&first) };
    let series = tree::get(event, "series");
    let mut count = either("deprecatedCount", "count").as_i64().unwrap_or(0);
    let last_seen = if series.is_null() {
        if last.is_null() { first_seen.clone() } else { since(&last) }
    } else {
        count = tree::int(series, "count");
        since(tree::get(series, "lastObservedTime"))
    };
    if count == 0 {
        count = 1;
    }
    let controller = {
        let new = tree::text(event, "reportingController");
        if new.is_empty() { tree::text(event, "reportingComponent") } else { new }
    };
    vec![
        json!(last_seen),
        json!(tree::text(event, "type")),
        json!(tree::text(event, "reason")),
        json!(target(&object)),
        json!(tree::text(&object, "fieldPath")),
        json!(origin(&source, controller, tree::text(event, "reportingInstance"))),
        json!(message.as_str().unwrap_or_default().trim()),
        json!(first_seen),
        json!(count.to_string()),
        json!(name(event)),
    ]
}

fn target(object: &Value) -> String {
    let (kind, name) = (tree::text(object, "kind"), tree::text(object, "name"));
    if name.is_empty() { kind.to_lowercase() } else { format!("{}/{name}", kind.to_lowercase()) }
}

fn origin(source: &Value, controller: &str, instance: &str) -> String {
    let component = match tree::text(source, "component") {
        "" => controller,
        component => component,
    };
    let host = match tree::text(source, "host") {
        "" => instance,
        host => host,
    };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}
