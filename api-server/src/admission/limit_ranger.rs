//! LimitRanger: containers get the amounts that the namespace's limit ranges give to those that ask for none, and
//! nothing is made that asks for less or more than they allow.

use std::collections::BTreeMap;

use quorate_api::quantity::Quantity;
use quorate_api::quota::{Amounts, amounts, pod};
use quorate_state_machine::GroupResource;
use serde_json::{Value, json};

use super::{Context, Draft, Operation, Plugin};
use crate::identity::Identity;
use crate::model::text;
use crate::status_error::Answer;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
const CLAIMS: &str = "persistentvolumeclaims";

pub(super) struct LimitRanger;

impl Plugin for LimitRanger {
    fn mutate(&self, ctx: &Context<'_>, _: &Identity, draft: &mut Draft) -> Answer<()> {
        if concerns(draft) && draft.is("", "pods") && draft.operation == Operation::Create {
            for range in ranges(ctx, draft) {
                fill(&range, &mut draft.object);
            }
        }
        Ok(())
    }

    fn validate(&self, ctx: &Context<'_>, _: &Identity, draft: &Draft) -> Answer<()> {
        if !concerns(draft) {
            return Ok(());
        }
        for range in ranges(ctx, draft) {
            let mut faults = if draft.is("", "pods") {
                pod_faults(&range, &draft.object)
            } else {
                claim_faults(&range, &draft.object)
            };
            let mut told = Vec::new();
            faults.retain(|fault| {
                let new = !told.contains(fault);
                told.push(fault.clone());
                new
            });
            match faults.as_slice() {
                [] => {}
                [one] => return Err(draft.forbidden(one)),
                several => return Err(draft.forbidden(&format!("[{}]", several.join(", ")))),
            }
        }
        Ok(())
    }
}

/// New pods, resized ones, and claims; nothing that is being deleted.
fn concerns(draft: &Draft) -> bool {
    let going = draft.operation == Operation::Update
        && !draft.old["metadata"]["deletionTimestamp"].is_null();
    if going || draft.operation == Operation::Delete {
        return false;
    }
    match draft.sub {
        "" if draft.is("", "pods") => draft.operation == Operation::Create,
        "" => draft.is("", CLAIMS),
        "resize" => draft.is("", "pods"),
        _ => false,
    }
}

fn ranges(ctx: &Context<'_>, draft: &Draft) -> Vec<Value> {
    let all = ctx.view.resource(&GroupResource::new("", "limitranges"));
    let own = all.into_iter().flat_map(|all| all.range(&draft.namespace, None));
    own.filter_map(|stored| serde_json::from_slice(&stored.image.bytes).ok()).collect()
}

/// The limits of a range for things of a type.
fn limits<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = range["spec"]["limits"].as_array().into_iter().flatten();
    all.filter(move |limit| text(&limit["type"]) == kind)
}

// === defaults ===

fn fill(range: &Value, pod: &mut Value) {
    let mut given: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
    for limit in limits(range, "Container") {
        for (list, from) in [("requests", "defaultRequest"), ("limits", "default")] {
            let amounts = limit[from].as_object().into_iter().flatten();
            let amounts = amounts.map(|(name, amount)| (name.clone(), amount.clone()));
            given.entry(list).or_default().extend(amounts);
        }
    }
    let mut told = Vec::new();
    for (containers, called) in [("containers", "container"), ("initContainers", "init container")]
    {
        let all = pod["spec"].get_mut(containers).and_then(Value::as_array_mut);
        for container in all.into_iter().flatten() {
            for (list, word) in [("requests", "request"), ("limits", "limit")] {
                let set = fill_list(container, list, given.get(list));
                if !set.is_empty() {
                    let name = text(&container["name"]);
                    told.push(format!("{} {word} for {called} {name}", set.join(", ")));
                }
            }
        }
    }
    if !told.is_empty() {
        pod["metadata"]["annotations"][ANNOTATION] =
            json!(format!("LimitRanger plugin set: {}", told.join("; ")));
    }
}

/// Sets what is not there; which amounts these were.
fn fill_list<'a>(
    container: &mut Value,
    list: &str,
    given: Option<&'a BTreeMap<String, Value>>,
) -> Vec<&'a str> {
    let mut set = Vec::new();
    for (name, amount) in given.into_iter().flatten() {
        if container["resources"][list][name].is_null() {
            container["resources"][list][name] = amount.clone();
            set.push(name.as_str());
        }
    }
    set
}

// === bounds ===

/// What something asks for.
struct Asked {
    requests: Amounts,
    limits: Amounts,
}

impl Asked {
    fn of(container: &Value) -> Self {
        let resources = &container["resources"];
        Self { requests: amounts(&resources["requests"]), limits: amounts(&resources["limits"]) }
    }
}

fn pod_faults(range: &Value, pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for limit in range["spec"]["limits"].as_array().into_iter().flatten() {
        match text(&limit["type"]) {
            "Container" => {
                for list in ["containers", "initContainers"] {
                    for container in pod["spec"][list].as_array().into_iter().flatten() {
                        bounds(limit, &Asked::of(container), &mut faults);
                    }
                }
            }
            "Pod" => {
                let total = |list| pod::containers_total(&pod["spec"], list);
                let asked = Asked { requests: total("requests"), limits: total("limits") };
                bounds(limit, &asked, &mut faults);
            }
            _ => {}
        }
    }
    faults
}

fn bounds(limit: &Value, asked: &Asked, faults: &mut Vec<String>) {
    let kind = text(&limit["type"]);
    for (name, least) in amounts(&limit["min"]) {
        faults.extend(below(kind, &name, least, asked));
    }
    for (name, most) in amounts(&limit["max"]) {
        faults.extend(above(kind, &name, most, asked));
    }
    for (name, most) in amounts(&limit["maxLimitRequestRatio"]) {
        faults.extend(ratio(kind, &name, most, asked));
    }
}

fn claim_faults(range: &Value, claim: &Value) -> Vec<String> {
    let requests = amounts(&claim["spec"]["resources"]["requests"]);
    let asked = Asked { requests, limits: Amounts::new() };
    let mut faults = Vec::new();
    for limit in limits(range, "PersistentVolumeClaim") {
        let kind = "PersistentVolumeClaim";
        for (name, least) in amounts(&limit["min"]) {
            faults.extend(below(kind, &name, least, &asked));
        }
        for (name, most) in amounts(&limit["max"]) {
            let start = format!("maximum {name} usage per {kind} is {most}");
            match asked.requests.get(&name) {
                None => faults.push(format!("{start}.  No request is specified")),
                Some(request) if *request > most => {
                    faults.push(format!("{start}, but request is {request}"));
                }
                Some(_) => {}
            }
        }
    }
    faults
}

fn below(kind: &str, name: &str, least: Quantity, asked: &Asked) -> Option<String> {
    let start = format!("minimum {name} usage per {kind} is {least}");
    let Some(request) = asked.requests.get(name) else {
        return Some(format!("{start}.  No request is specified"));
    };
    if *request < least {
        return Some(format!("{start}, but request is {request}"));
    }
    let limit = asked.limits.get(name).filter(|limit| **limit < least)?;
    Some(format!("{start}, but limit is {limit}"))
}

fn above(kind: &str, name: &str, most: Quantity, asked: &Asked) -> Option<String> {
    let start = format!("maximum {name} usage per {kind} is {most}");
    let Some(limit) = asked.limits.get(name) else {
        return Some(format!("{start}.  No limit is specified"));
    };
    if *limit > most {
        return Some(format!("{start}, but limit is {limit}"));
    }
    let request = asked.requests.get(name).filter(|request| **request > most)?;
    Some(format!("{start}, but request is {request}"))
}

fn ratio(kind: &str, name: &str, most: Quantity, asked: &Asked) -> Option<String> {
    let start = format!("{name} max limit to request ratio per {kind} is {most}");
    let Some(request) = asked.requests.get(name).filter(|request| !request.is_zero()) else {
        return Some(format!("{start}, but no request is specified or request is 0"));
    };
    let Some(limit) = asked.limits.get(name).filter(|limit| !limit.is_zero()) else {
        return Some(format!("{start}, but no limit is specified or limit is 0"));
    };
    #[allow(clippy::cast_precision_loss, reason = "upstream compares floats, and shows six digits")]
    let float = |quantity: &Quantity| quantity.nano_value() as f64;
    let provided = float(limit) / float(request);
    let exceeds = provided * 1e9 > float(&most);
    exceeds.then(|| format!("{start}, but provided ratio is {provided:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> Value {
        json!({"spec": {"limits": [
            {"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "1", "memory": "1Gi"},
                "default": {"cpu": "500m", "memory": "256Mi"},
                "defaultRequest": {"cpu": "200m", "memory": "128Mi"},
                "maxLimitRequestRatio": {"cpu": "4"}},
            {"type": "Pod", "max": {"cpu": "1500m"}},
            {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}},
        ]}})
    }

    fn pod(resources: &[Value]) -> Value {
        let containers: Vec<Value> = resources
            .iter()
            .zip(["a", "b"])
            .map(|(resources, name)| json!({"name": name, "resources": resources}))
            .collect();
        json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})
    }

    #[test]
    fn containers_get_what_they_do_not_ask_for() {
        let mut pod = pod(&[json!({}), json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}})]);
        fill(&range(), &mut pod);
        let containers = &pod["spec"]["containers"];
        assert_eq!(
            containers[0]["resources"],
            json!({"requests": {"cpu": "200m", "memory": "128Mi"},
                "limits": {"cpu": "500m", "memory": "256Mi"}})
        );
        assert_eq!(
            containers[1]["resources"],
            json!({"requests": {"cpu": "1", "memory": "128Mi"},
                "limits": {"cpu": "1", "memory": "256Mi"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for \
             container a; memory request for container b; memory limit for container b"
        );
        assert!(pod["spec"].get("initContainers").is_none(), "nothing is left where nothing was");
    }

    #[test]
    fn what_is_out_of_bounds_is_told_in_upstreams_words() {
        let of = |cpu: &str, limit: &str| {
            json!({"requests": {"cpu": cpu, "memory": "1Mi"},
                "limits": {"cpu": limit, "memory": "1Mi"}})
        };
        let cases = [
            (vec![of("500m", "1")], vec![]),
            (
                vec![of("50m", "100m")],
                vec!["minimum cpu usage per Container is 100m, but request is 50m"],
            ),
            (
                vec![of("1", "2")],
                vec![
                    "maximum cpu usage per Container is 1, but limit is 2",
                    "maximum cpu usage per Pod is 1500m, but limit is 2",
                ],
            ),
            (
                vec![of("200m", "1")],
                vec![
                    "cpu max limit to request ratio per Container is 4, but provided ratio is \
                     5.000000",
                ],
            ),
            (
                vec![json!({})],
                vec![
                    "minimum cpu usage per Container is 100m.  No request is specified",
                    "maximum cpu usage per Container is 1.  No limit is specified",
                    "maximum memory usage per Container is 1Gi.  No limit is specified",
                    "cpu max limit to request ratio per Container is 4, but no request is \
                     specified or request is 0",
                    "maximum cpu usage per Pod is 1500m.  No limit is specified",
                ],
            ),
            (
                vec![of("500m", "1"), of("500m", "1")],
                vec!["maximum cpu usage per Pod is 1500m, but limit is 2"],
            ),
        ];
        for (containers, faults) in cases {
            assert_eq!(pod_faults(&range(), &pod(&containers)), faults, "{containers:?}");
        }
    }

    #[test]
    fn claims_have_bounds() {
        let of = |storage: Value| json!({"spec": {"resources": {"requests": storage}}});
        let faults = |storage: Value| claim_faults(&range(), &of(storage));
        assert!(faults(json!({"storage": "2Gi"})).is_empty());
        assert_eq!(
            faults(json!({"storage": "3Gi"})),
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]
        );
        assert_eq!(
            faults(json!({"storage": "1Mi"})),
            ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"]
        );
        assert_eq!(
            faults(json!({})),
            [
                "minimum storage usage per PersistentVolumeClaim is 1Gi.  No request is specified",
                "maximum storage usage per PersistentVolumeClaim is 2Gi.  No request is specified",
            ]
        );
    }
}
