//! The same object in another shape: events of two groups, and the scale of a workload.
//!
//! Events are kept as core events and served in both groups (upstream's `events/v1` conversion).
//! A scale is made from a workload when asked for, and written back into its replicas.

use serde_json::{Value, json};

use crate::resource::{ResourceDef, Storage};

use crate::selector::object::{format, label_selector};
use crate::tree;

pub mod autoscaler;

/// Turns an object as it is kept into one of the resource that is served.
#[must_use]
pub fn to_served(def: &ResourceDef, mut object: Value) -> Value {
    if let Some(custom) = def.custom {
        crate::custom::to_served(def, custom, &mut object);
        return object;
    }
    match def.storage {
        Storage::Own | Storage::Virtual => object,
        Storage::As { group: "autoscaling", .. } => autoscaler::to_v1(&object),
        // The versions differ in nothing else.
        Storage::As { group, .. } if group == def.group() => {
            tree::set(&mut object, "apiVersion", def.api_version());
            object
        }
        Storage::As { .. } => {
            event_from_core(&mut object);
            object
        }
    }
}

/// Turns an object of the resource that is served into one as it is kept.
#[must_use]
pub fn to_stored(def: &ResourceDef, mut object: Value) -> Value {
    if let Some(custom) = def.custom {
        crate::custom::to_stored(custom, &mut object);
        return object;
    }
    match def.storage {
        Storage::Own | Storage::Virtual => object,
        Storage::As { group: "autoscaling", .. } => autoscaler::to_v2(&object),
        Storage::As { group, version, .. } if group == def.group() => {
            tree::set(&mut object, "apiVersion", crate::resource::api_version(group, version));
            object
        }
        Storage::As { .. } => {
            event_to_core(&mut object);
            object
        }
    }
}

/// What the two groups call the same fields of an event: core first.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Turns an event of `events.k8s.io/v1` into one of the core group.
pub fn event_to_core(event: &mut Value) {
    for (core, new) in EVENT_FIELDS {
        rename(event, new, core);
    }
    tree::set(event, "apiVersion", "v1");
}

/// Turns an event of the core group into one of `events.k8s.io/v1`.
pub fn event_from_core(event: &mut Value) {
    for (core, new) in EVENT_FIELDS {
        rename(event, core, new);
    }
    tree::set(event, "apiVersion", "events.k8s.io/v1");
}

fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(map) = object.as_object_mut()
        && let Some(value) = map.remove(from)
    {
        map.insert(to.to_owned(), value);
    }
}

/// The selector of a workload's pods, as a Scale says it; none for one that selects everything or nothing. That of
/// replication controllers is a plain map.
#[must_use]
pub fn scale_selector(workload: &Value) -> Option<String> {
    let plain = tree::text(workload, "kind") == "ReplicationController";
    let wanted = tree::at(workload, &["spec", "selector"]).clone();
    let wanted = if plain { json!({"matchLabels": wanted}) } else { wanted };
    let some = label_selector(&wanted).is_ok_and(|selector| !selector.requirements().is_empty());
    some.then(|| format(&wanted))
}

/// The `autoscaling/v1` Scale of a deployment, replica set or another workload with
/// `spec.replicas`, `spec.selector` and `status.replicas`.
#[must_use]
pub fn scale_of(workload: &Value) -> Value {
    let metadata = tree::get(workload, "metadata");
    let (spec, status) = (tree::get(workload, "spec"), tree::get(workload, "status"));
    let mut own = json!({});
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        tree::copy(metadata, &mut own, name);
    }
    let mut counted = json!({"replicas": tree::int(status, "replicas")});
    if let Some(selector) = scale_selector(workload) {
        tree::set(&mut counted, "selector", selector);
    }
    json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": own,
        "spec": {"replicas": tree::int(spec, "replicas")},
        "status": counted,
    })
}

/// The workload with the replicas of `scale`. The scale's resource version and uid, if it names
/// them, must be checked by the caller as preconditions of the write.
#[must_use]
pub fn scaled(workload: &Value, scale: &Value) -> Value {
    let mut workload = workload.clone();
    let replicas = tree::int(tree::get(scale, "spec"), "replicas");
    if let Some(spec) = tree::child_mut(&mut workload, "spec") {
        tree::set(spec, "replicas", replicas);
    }
    workload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_the_way_there_and_back() {
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod"}, "message": "m", "source": {"component": "c"},
            "firstTimestamp": null, "lastTimestamp": "t", "count": 3, "reason": "r",
            "reportingComponent": "c", "reportingInstance": "i", "type": "Normal",
        });
        let mut event = core.clone();
        event_from_core(&mut event);
        assert_eq!(
            event,
            json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
                "regarding": {"kind": "Pod"}, "note": "m", "deprecatedSource": {"component": "c"},
                "deprecatedFirstTimestamp": null, "deprecatedLastTimestamp": "t",
                "deprecatedCount": 3, "reason": "r", "reportingController": "c",
                "reportingInstance": "i", "type": "Normal",
            })
        );
        event_to_core(&mut event);
        assert_eq!(event, core);
    }

    /// Upstream's fully populated events know no field that the renaming misses.
    #[test]
    fn upstreams_events_convert() {
        let Some(folder) = crate::upstream::folder("roundtrip") else { return };
        let read = |name: &str| -> Value {
            let bytes = std::fs::read(folder.join(name)).expect(name);
            serde_json::from_slice(&bytes).expect(name)
        };
        let keys = |event: &Value| event.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut event = read("events.k8s.io.v1.Event.json");
        event_to_core(&mut event);
        assert_eq!(keys(&event), keys(&read("core.v1.Event.json")));
    }

    #[test]
    fn selectors_of_scales() {
        let of = |workload: Value| scale_selector(&workload).unwrap();
        assert_eq!(of(json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}})), "a=b");
        let controller = json!({"kind": "ReplicationController", "spec": {"selector": {"a": "b"}}});
        assert_eq!(of(controller), "a=b");
    }

    #[test]
    fn the_scale_of_a_deployment() {
        let deployment = json!({
            "metadata": {"name": "d", "namespace": "n", "uid": "u", "resourceVersion": "7",
                         "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}},
            "status": {"replicas": 2},
        });
        let scale = scale_of(&deployment);
        assert_eq!(
            scale,
            json!({
                "apiVersion": "autoscaling/v1", "kind": "Scale",
                "metadata": {"name": "d", "namespace": "n", "uid": "u", "resourceVersion": "7"},
                "spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "app=web"},
            })
        );
        let ten = scaled(&deployment, &json!({"spec": {"replicas": 10}}));
        assert_eq!(ten["spec"]["replicas"], 10);
        assert_eq!(ten["metadata"], deployment["metadata"]);
    }
}
