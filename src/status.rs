//! What `quorate status` shows, as the masters serve it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use quorate_raft::{Role, Status};
use quorate_state_machine::{GroupResource, View};
use quorate_store::{Alarm, Masters};
use serde_json::{Value, json};

/// Where the API serves it (for whoever may `get` this non-resource URL).
pub const STATUS_PATH: &str = "/quorate/v1/status";

/// Masters and nodes as this master of a cluster sees them.
pub fn document(cluster_id: &str, masters: &Masters, view: &View) -> Value {
    let (status, raised, vips) = (&masters.status(), masters.alarms(), masters.vips());
    let leader = status.leader;
    let masters: Vec<Value> = status
        .members
        .iter()
        .map(|member| {
            let own = member.id == status.id;
            let role = match (Some(member.id) == leader, member.voter) {
                (true, _) => "leader",
                (false, true) => "follower",
                (false, false) if member.member.standby => "standby",
                (false, false) => "learner",
            };
            json!({
                "name": member.member.name,
                "nodeId": member.id.0,
                "role": role,
                "voter": member.voter,
                "peerAddress": member.member.peer_address,
                "apiAddress": member.member.api_address,
                "term": status.term.0,
                "appliedIndex": if own {
                    status.applied.map(|index| index.0)
                } else {
                    member.matched.map(|index| index.0)
                },
                "lastIndex": own.then_some(status.last_log).flatten().map(|index| index.0),
                "fsyncP99Ms": own.then_some(status.sync_p99).flatten().map(milliseconds),
                "trailsBy": member.lag,
                "lastContactMs": member.last_contact.map(|ago| ago.as_millis()),
                "version": own.then_some(env!("CARGO_PKG_VERSION")),
                "startedAt": own.then(|| started_at().to_string()),
                "stableSince": own.then(|| seconds_ago(status.stable_for)),
                "holds": own.then(|| vips.held.iter().map(ToString::to_string).collect::<Vec<_>>()),
                "alarms": own.then(|| raised.iter().map(|alarm| alarm.name()).collect::<Vec<_>>()),
            })
        })
        .collect();
    let leader_name = status
        .members
        .iter()
        .find(|member| Some(member.id) == leader)
        .map(|member| member.member.name.clone());
    let own = status.members.iter().find(|member| member.id == status.id);
    json!({
        // Where another cluster was made of this one's state, masters of both have each other's addresses.
        "clusterId": cluster_id,
        "answeredBy": own.map(|member| member.member.name.clone()),
        "leader": leader_name,
        "term": status.term.0,
        "appliedIndex": status.applied.map(|index| index.0),
        "revision": view.revision().0,
        "level": view.level().0,
        // The same on all masters that have applied the same entries: who compares them sees a state that went astray.
        "state": {
            "index": view.index().0,
            "revision": view.revision().0,
            "hash": format!("{:032x}", view.hash()),
        },
        // What this master still has: of the log, all behind `purged`; a snapshot has what is before.
        "log": {
            "purged": status.purged.map(|index| index.0),
            "snapshot": status.snapshot.map(|index| index.0),
            "last": status.last_log.map(|index| index.0),
        },
        // Per kind of objects, up to which revision changes are forgotten: no watch can resume before that.
        "history": forgotten(view),
        "summary": summary(status),
        // This master's own: who wants to know all asks all.
        "alarms": alarms(status, &raised),
        // Where clients find the leader, if this master was told any such address.
        "virtualAddresses": vips.set.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "masters": masters,
        "nodes": nodes(view),
    })
}

/// The first look at it is when it is.
static STARTED: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);

/// This process begins.
pub fn begins() {
    LazyLock::force(&STARTED);
}

/// When this process began.
pub fn started_at() -> Timestamp {
    *STARTED
}

fn seconds_ago(ago: Duration) -> String {
    let then = Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH);
    then.round(jiff::Unit::Second).unwrap_or(then).to_string()
}

/// This master's alarms, with what to do.
fn alarms(status: &Status, alarms: &BTreeSet<Alarm>) -> Vec<Value> {
    let own = status.members.iter().find(|member| member.id == status.id);
    let name = own.map(|member| member.member.name.clone());
    let row =
        |alarm: &Alarm| json!({"alarm": alarm.name(), "master": name, "advice": alarm.advice()});
    alarms.iter().map(row).collect()
}

/// To a tenth.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn forgotten(view: &View) -> BTreeMap<String, u64> {
    let some = view.resources().filter(|(_, resource)| resource.compacted().0 > 0);
    some.map(|(name, resource)| (name.to_string(), resource.compacted().0)).collect()
}

/// What the number of voters is good for, in one line.
fn summary(status: &Status) -> String {
    let voters = status.members.iter().filter(|member| member.voter).count();
    let leader = match status.role {
        Role::Leader => "",
        Role::Learner | Role::Follower | Role::Candidate | Role::Stopped => {
            if status.leader.is_some() { "" } else { "; no leader known here" }
        }
    };
    format!("{}{leader}", voters_line(voters))
}

/// The same of a number of voters. An even one costs more and survives no more.
pub fn voters_line(voters: usize) -> String {
    let quorum = voters / 2 + 1;
    let survives = voters - quorum.min(voters);
    let plural = if voters == 1 { "" } else { "s" };
    let even = if voters > 0 && voters.is_multiple_of(2) {
        format!(" (as {} would: an even number adds nothing)", voters - 1)
    } else {
        String::new()
    };
    format!("{voters} voter{plural}, quorum {quorum}, survives the loss of {survives}{even}")
}

fn nodes(view: &View) -> Vec<Value> {
    let Some(nodes) = view.resource(&GroupResource::new("", "nodes")) else { return Vec::new() };
    let mut pods = BTreeMap::<String, u64>::new();
    for pod in view.resource(&GroupResource::new("", "pods")).into_iter().flat_map(|r| r.iter()) {
        let pod: Value = serde_json::from_slice(&pod.image.bytes).unwrap_or_default();
        if let Some(node) = pod["spec"]["nodeName"].as_str() {
            *pods.entry(node.to_owned()).or_default() += 1;
        }
    }
    nodes
        .iter()
        .filter_map(|node| serde_json::from_slice::<Value>(&node.image.bytes).ok())
        .map(|node| node_row(&node, &pods))
        .collect()
}

fn node_row(node: &Value, pods: &BTreeMap<String, u64>) -> Value {
    let name = node["metadata"]["name"].as_str().unwrap_or_default();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let ready = list(&node["status"]["conditions"])
        .into_iter()
        .find(|condition| condition["type"] == "Ready")
        .map(|condition| condition["status"].clone());
    let status = match ready.as_ref().and_then(Value::as_str) {
        Some("True") => "Ready",
        Some("False") => "NotReady",
        _ => "Unknown",
    };
    let address = list(&node["status"]["addresses"])
        .into_iter()
        .find(|address| address["type"] == "InternalIP")
        .map(|address| address["address"].clone());
    json!({
        "name": name,
        "status": status,
        "pods": pods.get(name).copied().unwrap_or_default(),
        "address": address,
        "runtime": node["status"]["nodeInfo"]["containerRuntimeVersion"],
        "version": node["status"]["nodeInfo"]["kubeletVersion"],
    })
}
