//! The masters as objects of the API, `kubectl get masters`: read-only, written by the leader as it sees them. What
//! changes all the time, such as how far somebody trails, is in `quorate masters list` and in the metrics instead: an
//! object is written when something happens, not as time goes by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use quorate_api_server::admit::ControllerAdmit;
use quorate_raft::{MemberStatus, NodeId, Status};
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, ObjectKey};
use quorate_store::admit::{Admit as _, Write};
use quorate_store::{Alarm, Clock, LeaderStore, Masters};
use serde_json::{Value, json};

/// Where they are.
pub(crate) const GROUP: &str = "quorate.io";

/// The masters are looked at this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Alarms and versions are asked for each so many looks.
const LOOKS_PER_QUESTION: u64 = 3;

/// A master that has not answered the leader for so long is not ready.
const CONTACT_MAX: Duration = Duration::from_secs(5);

/// As whom they are written.
const USER: &str = "system:quorate-masters";

/// What the leader has asked of one.
#[derive(Debug, Clone, Default)]
struct Told {
    version: Option<String>,
    alarms: BTreeSet<Alarm>,
}

/// Keeps the objects as the masters are, until the leadership ends.
pub(crate) async fn keep(
    masters: Masters,
    lead: LeaderStore,
    admit: Arc<ControllerAdmit>,
    clock: Clock,
) {
    let mut told: BTreeMap<NodeId, Told> = BTreeMap::new();
    for look in 0_u64.. {
        let status = masters.status();
        if look.is_multiple_of(LOOKS_PER_QUESTION) {
            ask(&masters, &status, &mut told).await;
        }
        let held = masters.vips().held.iter().map(ToString::to_string).collect();
        let wanted = wanted(&status, &told, held);
        for write in writes(&lead, &wanted, &clock) {
            carry_out(&lead, &admit, write).await;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn ask(masters: &Masters, status: &Status, told: &mut BTreeMap<NodeId, Told>) {
    told.retain(|id, _| status.members.iter().any(|known| known.id == *id));
    // One after the other: there are few, and each has a second.
    for known in &status.members {
        let told = told.entry(known.id).or_default();
        if let Some(alarms) = masters.alarms_of(known.id).await {
            told.alarms = alarms;
            told.version = masters.about(known.id).await.map(|about| about.version);
        }
    }
}

/// The objects without what the API server adds, by name. `held` are the virtual addresses that the leader has.
fn wanted(
    status: &Status,
    told: &BTreeMap<NodeId, Told>,
    held: Vec<String>,
) -> BTreeMap<String, Value> {
    let object = |known: &MemberStatus| {
        let own = known.id == status.id;
        let none = Told::default();
        let told = told.get(&known.id).unwrap_or(&none);
        let role = match (known.voter, known.member.standby) {
            _ if own => "Leader",
            (true, _) => "Follower",
            (false, true) => "Standby",
            (false, false) => "Learner",
        };
        let answers = own || known.last_contact.is_some_and(|ago| ago <= CONTACT_MAX);
        let unfit = told.alarms.contains(&Alarm::Corrupt);
        let (ready, reason, message) = match (answers, unfit) {
            (false, _) => ("False", "Silent", "it does not answer the leader"),
            (true, true) => {
                ("False", "Corrupt", "what it has is not what was decided: its log says more")
            }
            (true, false) => ("True", "Answers", "it answers the leader"),
        };
        let alarms: Vec<&str> = told.alarms.iter().map(|alarm| alarm.name()).collect();
        let mut object = json!({
            "apiVersion": format!("{GROUP}/v1"),
            "kind": "Master",
            "metadata": {"name": known.member.name},
            "spec": {
                "nodeID": known.id.0,
                "apiAddress": known.member.api_address,
                "peerAddress": known.member.peer_address,
                "standby": known.member.standby,
            },
            "status": {
                "role": role,
                "voter": known.voter,
                "conditions": [{"type": "Ready", "status": ready, "reason": reason, "message": message}],
            },
        });
        if !alarms.is_empty() {
            object["status"]["alarms"] = json!(alarms);
        }
        if own && !held.is_empty() {
            object["status"]["virtualAddresses"] = json!(held);
        }
        if let Some(version) = &told.version {
            object["status"]["version"] = json!(version);
        }
        (known.member.name.clone(), object)
    };
    status.members.iter().map(object).collect()
}

/// What differs from what is there.
fn writes(lead: &LeaderStore, wanted: &BTreeMap<String, Value>, clock: &Clock) -> Vec<Write> {
    let view = lead.view();
    let resource = GroupResource::new(GROUP, "masters");
    let there = view.resource(&resource);
    let mut writes = Vec::new();
    let now = clock.now();
    for (name, object) in wanted {
        let stored = there.and_then(|there| there.get(&ObjectKey::new("", name)));
        match stored {
            None => {
                let object = dated(object.clone(), None, now);
                writes.push(Write::Create { resource: resource.clone(), object });
            }
            Some(stored) => writes.extend(update(stored, object, now)),
        }
    }
    let gone = there.into_iter().flat_map(|there| there.iter());
    for stored in gone.filter(|stored| !wanted.contains_key(&*stored.key.object.name)) {
        writes.push(Write::Delete {
            stored: stored.clone(),
            grace_period_seconds: None,
            propagation: "Background",
        });
    }
    writes
}

fn update(stored: &StoredRef, wanted: &Value, now: jiff::Timestamp) -> Option<Write> {
    let current: Value = serde_json::from_slice(&stored.to_json()).ok()?;
    let mut object = current.clone();
    let dated = dated(wanted.clone(), Some(&current), now);
    for part in ["spec", "status"] {
        object[part] = dated[part].clone();
    }
    // A number that was given to another one since: the old one is gone, and what is said of it, too.
    let same = without_defaults(&object) == without_defaults(&current);
    (!same).then(|| Write::Update { stored: stored.clone(), object, subresource: "" })
}

/// What is left out when it is false or empty is not a difference.
fn without_defaults(object: &Value) -> Value {
    let mut parts = json!({"spec": object["spec"], "status": object["status"]});
    for part in ["spec", "status"] {
        if let Some(fields) = parts[part].as_object_mut() {
            fields.retain(|_, value| !value.is_null() && *value != json!(false));
        }
    }
    parts
}

/// With the time since when the condition is what it is.
fn dated(mut object: Value, current: Option<&Value>, now: jiff::Timestamp) -> Value {
    let condition = &mut object["status"]["conditions"][0];
    let before = current.map_or(&Value::Null, |current| &current["status"]["conditions"][0]);
    let since = if before["status"] == condition["status"] {
        before["lastTransitionTime"].clone()
    } else {
        Value::Null
    };
    condition["lastTransitionTime"] = match since {
        Value::String(_) => since,
        _ => {
            let now = now.round(jiff::Unit::Second).unwrap_or(now);
            json!(now.to_string())
        }
    };
    object
}

async fn carry_out(lead: &LeaderStore, admit: &ControllerAdmit, write: Write) {
    match admit.admit(&lead.view(), USER, write).await {
        Ok(None) => {}
        Ok(Some(op)) => {
            // A conflict is looked at again in a second; there is no space for it on a full disk.
            if let Err(error) = lead.write_reserved(vec![op]).await {
                tracing::debug!(%error, "the object of a master could not be written yet");
            }
        }
        Err(error) => tracing::warn!(%error, "the object of a master was refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(seconds).unwrap()
    }

    fn said(ready: &str) -> Value {
        json!({"spec": {"nodeID": 1}, "status": {"voter": false, "conditions": [{"type": "Ready", "status": ready}]}})
    }

    #[test]
    fn a_condition_keeps_its_time_for_as_long_as_it_stays() {
        let first = dated(said("True"), None, at(60));
        assert_eq!(first["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:01:00Z");
        let later = dated(said("True"), Some(&first), at(120));
        assert_eq!(later, first);
        let silent = dated(said("False"), Some(&later), at(180));
        assert_eq!(silent["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:03:00Z");
    }

    #[test]
    fn what_is_left_out_when_false_is_no_difference() {
        let mut kept = said("True");
        kept["status"].as_object_mut().unwrap().remove("voter");
        assert_eq!(without_defaults(&kept), without_defaults(&said("True")));
        kept["status"]["voter"] = json!(true);
        assert_ne!(without_defaults(&kept), without_defaults(&said("True")));
    }
}
