//! Kinds that are kept as another kind's objects, or in another version: events of `events.k8s.io/v1` are core events
//! with other field names, autoscalers of `autoscaling/v1` are kept as v2.

pub(crate) use quorate_api::convert::{to_served, to_stored};

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
