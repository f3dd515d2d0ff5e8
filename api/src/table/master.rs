//! What `kubectl get masters` shows.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, name, text};

pub(super) static COLUMNS: &[Column] = &[
    NAME,
    text("Role"),
    text("Ready"),
    text("Alarms"),
    text("Version"),
    AGE,
    text("ID").wide(),
    text("API-Address").wide(),
    text("Peer-Address").wide(),
];

pub(super) fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let or_unknown = |value: &Value| {
        let text = value.as_str().filter(|text| !text.is_empty()).unwrap_or("<unknown>");
        json!(text)
    };
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let ready = conditions.clone().find(|condition| condition["type"] == "Ready");
    let alarms: Vec<&str> =
        status["alarms"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let alarms = if alarms.is_empty() { "<none>".to_owned() } else { alarms.join(",") };
    vec![
        json!(name(object)),
        or_unknown(&status["role"]),
        or_unknown(ready.map_or(&Value::Null, |ready| &ready["status"])),
        json!(alarms),
        or_unknown(&status["version"]),
        age(object, now),
        json!(spec["nodeID"].as_i64().unwrap_or_default().to_string()),
        or_unknown(&spec["apiAddress"]),
        or_unknown(&spec["peerAddress"]),
    ]
}
