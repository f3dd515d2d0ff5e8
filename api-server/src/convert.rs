//! Kinds that are kept as another kind's objects: `events.k8s.io/v1` events are core events with
//! other field names (upstream's `pkg/apis/events/v1` conversion).

use quorate_api::convert::{event_from_core, event_to_core};
use quorate_api::resource::{ResourceDef, Storage};
use serde_json::Value;

/// Turns an object as it is stored into one of the kind that is served.
pub(crate) fn to_served(def: &ResourceDef, mut object: Value) -> Value {
    if def.storage != Storage::Own {
        event_from_core(&mut object);
    }
    object
}

/// Turns an object of the kind that is served into one as it is stored.
pub(crate) fn to_stored(def: &ResourceDef, mut object: Value) -> Value {
    if def.storage != Storage::Own {
        event_to_core(&mut object);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn there_and_back() {
        let def = quorate_api::resource::lookup("events.k8s.io", "v1", "events").unwrap();
        let served = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
            "note": "n", "reason": "R", "regarding": {"name": "p"}, "deprecatedCount": 3,
        });
        let stored = to_stored(def, served.clone());
        assert_eq!(stored["message"], "n");
        assert_eq!(stored["involvedObject"]["name"], "p");
        assert_eq!(stored["apiVersion"], "v1");
        assert_eq!(to_served(def, stored), served);
    }
}
