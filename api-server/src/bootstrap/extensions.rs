//! What a cluster has of flow control, of API services and of component statuses from the beginning: upstream's
//! mandatory and suggested objects, and an API service for each group version that is served.

use quorate_api::resource;
use quorate_api::validation::flow::{mandatory_level, mandatory_schema};
use quorate_state_machine::Key;
use serde_json::{Value, json};

use super::{Wanted, add_metadata, keep};
use crate::model::text;

const FLOW: &str = "flowcontrol.apiserver.k8s.io";
/// Says that the spec of an object is ours to keep right.
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const AUTO_MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// The components that upstream tells of.
const COMPONENTS: [&str; 3] = ["scheduler", "controller-manager", "etcd-0"];
/// The group without an API service: it is what serves them.
const AGGREGATOR: &str = "apiregistration.k8s.io";

/// Everything of this module.
pub(super) fn wanted() -> Vec<Wanted> {
    let mut all = levels();
    all.extend(schemas());
    all.extend(api_services());
    all.extend(components());
    all
}

/// Name, shares, percentage that may be lent, (queues, hand size, length of a queue).
type Level = (&'static str, i64, i64, [i64; 3]);

const LEVELS: [Level; 6] = [
    ("system", 30, 33, [64, 6, 50]),
    ("node-high", 40, 25, [64, 6, 50]),
    ("leader-election", 10, 0, [16, 4, 50]),
    ("workload-high", 40, 50, [128, 6, 50]),
    ("workload-low", 100, 90, [128, 6, 50]),
    ("global-default", 20, 50, [128, 6, 50]),
];

fn levels() -> Vec<Wanted> {
    let mandatory = ["exempt", "catch-all"];
    let mandatory = mandatory.into_iter().filter_map(|name| Some((name, mandatory_level(name)?)));
    let suggested = LEVELS.into_iter().map(|(name, shares, lendable, [queues, hand, length])| {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": length});
        let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": queuing}});
        (name, json!({"type": "Limited", "limited": limited}))
    });
    let all = mandatory.chain(suggested);
    all.map(|(name, spec)| flow("PriorityLevelConfiguration", name, spec)).collect()
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

fn accounts(names: &[&str]) -> Vec<Value> {
    let account = |name: &&str| {
        json!({"kind": "ServiceAccount",
            "serviceAccount": {"namespace": "kube-system", "name": name}})
    };
    names.iter().map(account).collect()
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], in_cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources,
        "namespaces": ["*"]});
    if in_cluster {
        rule["clusterScope"] = json!(true);
    }
    rule
}

fn everything(subjects: Vec<Value>) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn schema(level: &str, precedence: i64, method: &str, rule: Value) -> Value {
    let mut spec = json!({"priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence, "rules": [rule]});
    if !method.is_empty() {
        spec["distinguisherMethod"] = json!({"type": method});
    }
    spec
}

fn schemas() -> Vec<Wanted> {
    const MANAGER: &str = "system:kube-controller-manager";
    const SCHEDULER: &str = "system:kube-scheduler";
    const LEASES: &str = "coordination.k8s.io";
    let everybody = || groups(&["system:unauthenticated", "system:authenticated"]);
    let kept = ["get", "create", "update"];
    let leases = resources(&kept, LEASES, &["leases"], false);
    let mut leaders = users(&[MANAGER, SCHEDULER]);
    leaders.extend(accounts(&["*"]));
    let mut endpoints = users(&[MANAGER]);
    endpoints.extend(accounts(&["endpoint-controller", "endpointslicemirroring-controller"]));
    let probes = json!({"subjects": everybody(), "nonResourceRules": [
        {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]});
    let nodes = json!({"subjects": groups(&["system:nodes"]), "resourceRules": [
        resources(&["*"], "", &["nodes", "nodes/status"], true),
        resources(&["*"], LEASES, &["leases"], false)]});
    let led = json!({"subjects": leaders, "resourceRules": [leases]});
    let endpoints = json!({"subjects": endpoints,
        "resourceRules": [resources(&kept, "", &["endpoints"], false)]});
    let workloads = json!({"subjects": accounts(&["*"]), "resourceRules": [
        resources(&kept, "", &["endpoints", "configmaps"], false), leases]});
    let suggested = [
        ("system-nodes", "system", 500, "ByUser", everything(groups(&["system:nodes"]))),
        ("system-node-high", "node-high", 400, "ByUser", nodes),
        ("probes", "exempt", 2, "", probes),
        ("system-leader-election", "leader-election", 100, "ByUser", led),
        ("endpoint-controller", "workload-high", 150, "ByUser", endpoints),
        ("workload-leader-election", "leader-election", 200, "ByUser", workloads),
        (
            "kube-controller-manager",
            "workload-high",
            800,
            "ByNamespace",
            everything(users(&[MANAGER])),
        ),
        ("kube-scheduler", "workload-high", 800, "ByNamespace", everything(users(&[SCHEDULER]))),
        (
            "kube-system-service-accounts",
            "workload-high",
            900,
            "ByNamespace",
            everything(accounts(&["*"])),
        ),
        (
            "service-accounts",
            "workload-low",
            9000,
            "ByUser",
            everything(groups(&["system:serviceaccounts"])),
        ),
        ("global-default", "global-default", 9900, "ByUser", everything(everybody())),
    ];
    let mandatory = ["exempt", "catch-all"];
    let mandatory = mandatory.into_iter().filter_map(|name| Some((name, mandatory_schema(name)?)));
    let suggested = suggested.into_iter().map(|(name, level, precedence, method, rule)| {
        (name, schema(level, precedence, method, rule))
    });
    mandatory.chain(suggested).map(|(name, spec)| flow("FlowSchema", name, spec)).collect()
}

fn flow(kind: &str, name: &str, spec: Value) -> Wanted {
    let plural = if kind == "FlowSchema" { "flowschemas" } else { "prioritylevelconfigurations" };
    Wanted {
        key: Key::new(FLOW, plural, "", name),
        object: json!({
            "apiVersion": format!("{FLOW}/v1"),
            "kind": kind,
            "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
            "spec": spec,
        }),
        merge: flow_merge,
    }
}

/// Who takes the annotation away, or turns it off, keeps what he wrote.
fn flow_merge(current: &Value, wanted: &Value) -> Option<Value> {
    let ours = text(&current["metadata"]["annotations"][AUTO_UPDATE]) == "true";
    if !ours || current["spec"] == wanted["spec"] {
        return None;
    }
    let mut object = current.clone();
    object["spec"] = wanted["spec"].clone();
    Some(object)
}

/// Where a group stands among the groups, and a version among its versions.
fn priorities(group: &str, version: &str) -> (i64, i64) {
    let of_group = match group {
        "" => 18_000,
        "apps" => 17_800,
        "events.k8s.io" => 17_750,
        "authentication.k8s.io" => 17_700,
        "authorization.k8s.io" => 17_600,
        "autoscaling" => 17_500,
        "batch" => 17_400,
        "certificates.k8s.io" => 17_300,
        "networking.k8s.io" => 17_200,
        "policy" => 17_100,
        "rbac.authorization.k8s.io" => 17_000,
        "storage.k8s.io" => 16_800,
        "apiextensions.k8s.io" | "admissionregistration.k8s.io" => 16_700,
        "scheduling.k8s.io" => 16_600,
        "coordination.k8s.io" => 16_500,
        "node.k8s.io" => 16_300,
        "discovery.k8s.io" => 16_200,
        FLOW => 16_100,
        "resource.k8s.io" => 15_900,
        "storagemigration.k8s.io" => 15_800,
        _ => 15_700,
    };
    let of_version = match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        (FLOW, "v1") => 21,
        (_, "v1") => 15,
        _ => 9,
    };
    (of_group, of_version)
}

fn api_services() -> impl Iterator<Item = Wanted> {
    let groups = resource::groups().iter().filter(|group| group.name != AGGREGATOR);
    let versions = groups.flat_map(|g| g.versions.iter().map(|version| (g.name, *version)));
    versions.map(|(group, version)| {
        let (of_group, of_version) = priorities(group, version);
        let name = format!("{version}.{group}");
        let mut spec = json!({"version": version, "groupPriorityMinimum": of_group,
            "versionPriority": of_version});
        if !group.is_empty() {
            spec["group"] = json!(group);
        }
        Wanted {
            key: Key::new(AGGREGATOR, "apiservices", "", &name),
            object: json!({
                "apiVersion": format!("{AGGREGATOR}/v1"),
                "kind": "APIService",
                "metadata": {"name": name, "labels": {AUTO_MANAGED: "onstart"}},
                "spec": spec,
            }),
            merge: api_service_merge,
        }
    })
}

fn api_service_merge(current: &Value, wanted: &Value) -> Option<Value> {
    let mut object = current.clone();
    let labels = add_metadata(&mut object, wanted);
    if !labels && object["spec"] == wanted["spec"] {
        return None;
    }
    object["spec"] = wanted["spec"].clone();
    Some(object)
}

/// Scheduler, controllers and store are part of the leader that writes this: without them there is nobody to ask.
fn components() -> impl Iterator<Item = Wanted> {
    COMPONENTS.into_iter().map(|name| Wanted {
        key: Key::new("", "componentstatuses", "", name),
        object: json!({
            "apiVersion": "v1",
            "kind": "ComponentStatus",
            "metadata": {"name": name},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
        }),
        merge: keep,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::{defaults, validation};

    /// Everything passes our own validation, and is what it will be read back as.
    #[test]
    fn all_of_it_is_valid() {
        let all = wanted();
        assert_eq!(
            all.iter().filter(|one| &*one.key.resource.resource == "flowschemas").count(),
            13
        );
        for one in all {
            let (group, kind) = (&*one.key.resource.group, text(&one.object["kind"]).to_owned());
            let version = text(&one.object["apiVersion"]).rsplit('/').next().unwrap().to_owned();
            let mut object = one.object.clone();
            defaults::apply(group, &version, &kind, &mut object);
            assert_eq!(validation::create(group, &version, &kind, &object), [], "{}", one.key);
            assert_eq!(
                object["spec"], one.object["spec"],
                "{}: nothing is left to default",
                one.key
            );
        }
    }

    #[test]
    fn what_people_took_over_is_theirs() {
        let ours = flow("FlowSchema", "probes", json!({"matchingPrecedence": 2}));
        let mut current = ours.object.clone();
        assert_eq!(flow_merge(&current, &ours.object), None);
        current["spec"]["matchingPrecedence"] = json!(3);
        assert_eq!(flow_merge(&current, &ours.object), Some(ours.object.clone()));
        current["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
        assert_eq!(flow_merge(&current, &ours.object), None);
    }
}
