//! POST of an Eviction: a delete, for as long as the pod's disruption budget allows it.
//!
//! Taking one of the budget's `disruptionsAllowed` and deleting the pod are one transaction, and both name the version
//! that they were computed from: two evictions, at whichever masters, never pass one budget that allows one.

use http::Response;
use quorate_api::codec::FieldValidation;
use quorate_api::selector::object::label_selector;
use quorate_api::status::{Cause, GroupResource, Status};
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{Op, Outcome, View};
use serde_json::{Value, json};

use super::{Request, WriteOptions, delete, pass};
use crate::limits::{DISRUPTED_PODS_MAX, EVICTION_RETRIES_MAX};
use crate::model::{self, text};
use crate::parameters::quoted;
use crate::reply::{self, Body};
use crate::stamp::{self, propose};
use crate::status_error::{self, Answer, Refusal};

const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const CAUSE: &str = "DisruptionBudget";
const CONDITION: &str = "DisruptionAllowed";

/// After how many seconds a client asks again while a budget has not been counted.
const UNCOUNTED_RETRY_SECONDS: u32 = 10;

pub(super) async fn run(mut request: Request) -> Answer<Response<Body>> {
    let options = WriteOptions::of(&request.query, "CreateOptions")?;
    let body = request.body().await?;
    let media = request.content_type().to_owned();
    let mut target = request.sub.map_or_else(|| request.def.target(), |sub| sub.target());
    // Evictions of policy/v1beta1 are taken for ever: old clients drain nodes with them.
    target.any_version = true;
    let mut warnings = Vec::new();
    let eviction = model::decode(&media, &body, target, FieldValidation::Ignore, &mut warnings)?;
    let dry_run = options.dry_run || model::has_items(&eviction["deleteOptions"]["dryRun"]);
    let eviction = pass::webhooks(&request, dry_run, eviction, &mut warnings).await?;
    let name = text(&eviction["metadata"]["name"]);
    if name != request.target.name {
        return Err(Box::new(Status::bad_request(
            "name in URL does not match name in Eviction object",
        )));
    }
    let wanted = &eviction["deleteOptions"];
    let delete_options = delete::DeleteOptions {
        grace_period_seconds: wanted["gracePeriodSeconds"].as_i64(),
        uid: wanted["preconditions"]["uid"].as_str().map(str::to_owned),
        resource_version: wanted["preconditions"]["resourceVersion"].as_str().map(str::to_owned),
        propagation: wanted["propagationPolicy"].as_str().map(str::to_owned),
        cascade_asked: false,
        evicted: true,
        dry_run,
    };
    let mut response = evict(&request, &delete_options).await?;
    reply::warn(response.headers_mut(), &warnings);
    Ok(response)
}

async fn evict(request: &Request, options: &delete::DeleteOptions) -> Answer<Response<Body>> {
    let mut budget = String::new();
    for _ in 0..EVICTION_RETRIES_MAX {
        // Budgets as they are now: what another master has just taken counts.
        let view = request.shared.newest().await?;
        let stored = view.get(&request.key()).cloned().ok_or_else(|| request.not_found())?;
        let pod = model::tree(request.def, &stored)?;
        let charge = charge(request, &view, &pod)?;
        let mut admitted = delete::admit(request, &stored, options).await?;
        if options.dry_run {
            return Ok(reply::status(&Status::success(201)));
        }
        if let Some(charge) = charge {
            budget = charge.key().object.name.to_string();
            admitted = admitted.with(charge);
        }
        let Some(command) = admitted.into_command() else {
            return Ok(reply::status(&Status::success(201)));
        };
        match propose(&request.shared.store, command).await? {
            Outcome::Done(_) => return Ok(reply::status(&Status::success(201))),
            // The pod or its budget changed meanwhile.
            Outcome::Conflict(_) | Outcome::OtherUid(_) | Outcome::Aborted => {}
            Outcome::NotFound => return Err(request.not_found()),
            other => {
                let (namespace, name) = (&request.target.namespace, &request.target.name);
                return Err(status_error::of_outcome(&other, request.resource(), namespace, name)
                    .unwrap_or_else(|| Box::new(Status::internal_error("unexpected outcome"))));
            }
        }
    }
    let why = format!("couldn't update PodDisruptionBudget {} due to conflicts", quoted(&budget));
    Err(Box::new(Status::timeout(&why, UNCOUNTED_RETRY_SECONDS)))
}

/// Pods that have ended, have not begun, or are going already disrupt nothing.
fn ignores_budgets(pod: &Value) -> bool {
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed" | "Pending")
        || !pod["metadata"]["deletionTimestamp"].is_null()
}

/// The write that takes one disruption from the pod's budget; `None` when none is needed.
fn charge(request: &Request, view: &View, pod: &Value) -> Answer<Option<Op>> {
    if ignores_budgets(pod) {
        return Ok(None);
    }
    let budgets = budgets(view, &request.target.namespace, pod);
    let [(stored, budget)] = budgets.as_slice() else {
        if budgets.is_empty() {
            return Ok(None);
        }
        return Err(Box::new(Status::unexplained(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does \
             not support.",
        )));
    };
    if !is_ready(pod) && unhealthy_may_go(budget) {
        return Ok(None);
    }
    let name = text(&pod["metadata"]["name"]);
    let taken = take(budget, name, request.shared.clock.now())?;
    let Some(def) = model::owner_of(&stored.key.resource) else { return Ok(None) };
    let image = model::image(def, &taken, stored.image.header.claims.clone())?;
    Ok(Some(Op::Update { key: stored.key.clone(), expect: stored.revision, image }))
}

/// The budgets that select a pod.
fn budgets(view: &View, namespace: &str, pod: &Value) -> Vec<(StoredRef, Value)> {
    let resource = quorate_state_machine::GroupResource::new("policy", "poddisruptionbudgets");
    let labels = pod["metadata"]["labels"].as_object().into_iter().flatten();
    let labels = labels.map(|(key, value)| (key.clone(), text(value).to_owned()));
    let labels: Vec<(String, String)> = labels.collect();
    let all = view.resource(&resource);
    let all = all.into_iter().flat_map(|all| all.range(namespace, None));
    let decoded = all.filter_map(|stored| {
        Some((stored.clone(), serde_json::from_slice::<Value>(&stored.image.bytes).ok()?))
    });
    decoded
        .filter(|(_, budget)| {
            let selector = label_selector(&budget["spec"]["selector"]);
            selector.is_ok_and(|selector| selector.matches(labels.as_slice()))
        })
        .collect()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// A pod that is not healthy is not among those that the budget counts on.
fn unhealthy_may_go(budget: &Value) -> bool {
    let status = &budget["status"];
    let wanted = number(&status["desiredHealthy"]);
    budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        || (number(&status["currentHealthy"]) >= wanted && wanted > 0)
}

fn refused(message: String, seconds: u32) -> Refusal {
    let mut status = Status::too_many_requests(REFUSED, seconds);
    let cause = Cause { reason: CAUSE.to_owned(), message, field: String::new() };
    status.details.get_or_insert_default().causes.push(cause);
    Box::new(status)
}

/// The budget with one disruption less, which is this pod's.
fn take(budget: &Value, pod: &str, now: jiff::Timestamp) -> Answer<Value> {
    let (name, status) = (text(&budget["metadata"]["name"]), &budget["status"]);
    if number(&status["observedGeneration"]) < number(&budget["metadata"]["generation"]) {
        let message =
            format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused(message, UNCOUNTED_RETRY_SECONDS));
    }
    let forbidden = |why: &str| {
        Box::new(Status::forbidden(GroupResource::new("policy", "poddisruptionbudget"), name, why))
    };
    let allowed = number(&status["disruptionsAllowed"]);
    if allowed < 0 {
        return Err(forbidden("pdb disruptions allowed is negative"));
    }
    if status["disruptedPods"].as_object().map_or(0, serde_json::Map::len) > DISRUPTED_PODS_MAX {
        return Err(forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        return Err(refused(why_not(name, status), 0));
    }
    let mut taken = budget.clone();
    taken["status"]["disruptionsAllowed"] = json!(allowed - 1);
    taken["status"]["disruptedPods"][pod] = json!(crate::clock::rfc3339(now));
    if allowed == 1 {
        exhausted(&mut taken["status"], now);
    }
    stamp::metadata(&mut taken).remove("resourceVersion");
    Ok(taken)
}

fn condition(status: &Value) -> Option<&Value> {
    status["conditions"].as_array()?.iter().find(|one| one["type"] == CONDITION)
}

fn why_not(name: &str, status: &Value) -> String {
    let told = condition(status).filter(|one| one["status"] == "False");
    let told = told.map(|one| (text(&one["reason"]), text(&one["message"])));
    let told = told.filter(|(_, message)| !message.is_empty());
    let (wanted, have) = (number(&status["desiredHealthy"]), number(&status["currentHealthy"]));
    let start = format!("The disruption budget {name}");
    match told {
        Some(("SyncFailed", why)) => {
            format!("{start} does not allow evicting pods currently because it failed sync: {why}")
        }
        _ if have <= wanted => {
            format!("{start} needs {wanted} healthy pods and has {have} currently")
        }
        Some((reason, why)) => {
            format!("{start} does not allow evicting pods currently ({reason}): {why}")
        }
        None => format!("{start} does not allow evicting pods currently"),
    }
}

/// The condition of a budget that has nothing left.
fn exhausted(status: &mut Value, now: jiff::Timestamp) {
    let mut new = json!({"type": CONDITION, "status": "False", "reason": "InsufficientPods",
        "message": "", "lastTransitionTime": crate::clock::rfc3339(now)});
    if !status["observedGeneration"].is_null() {
        new["observedGeneration"] = status["observedGeneration"].clone();
    }
    let others = status["conditions"].as_array().cloned().unwrap_or_default();
    let others = others.into_iter().filter(|one| one["type"] != CONDITION);
    status["conditions"] = others.chain([new]).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> jiff::Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn budget(allowed: i64) -> Value {
        json!({"metadata": {"name": "b", "generation": 2}, "status": {"observedGeneration": 2,
            "disruptionsAllowed": allowed, "desiredHealthy": 2, "currentHealthy": 2 + allowed,
            "conditions": [{"type": CONDITION, "status": "True", "reason": "SufficientPods",
                "message": ""}]}})
    }

    #[test]
    fn each_eviction_takes_one() {
        let first = take(&budget(2), "p", now()).unwrap();
        assert_eq!(first["status"]["disruptionsAllowed"], 1);
        assert_eq!(first["status"]["disruptedPods"], json!({"p": "2026-01-01T00:00:00Z"}));
        assert_eq!(first["status"]["conditions"][0]["reason"], "SufficientPods");
        let second = take(&first, "q", now()).unwrap();
        assert_eq!(second["status"]["disruptionsAllowed"], 0);
        assert_eq!(second["status"]["conditions"][0]["reason"], "InsufficientPods");
        assert!(take(&second, "r", now()).is_err());
    }

    #[test]
    fn who_is_refused_hears_why() {
        let cause = |budget: &Value| {
            let status = take(budget, "p", now()).unwrap_err();
            assert_eq!((status.code, status.message.as_str()), (429, REFUSED));
            let cause = status.details.as_ref().unwrap().causes[0].clone();
            assert_eq!(cause.reason, CAUSE);
            (cause.message, status.retry_after_seconds())
        };
        let empty = budget(0);
        let words = "The disruption budget b needs 2 healthy pods and has 2 currently";
        assert_eq!(cause(&empty), (words.to_owned(), None));
        let mut failed = budget(0);
        failed["status"]["conditions"][0] = json!({"type": CONDITION, "status": "False",
            "reason": "SyncFailed", "message": "it did"});
        let words = "The disruption budget b does not allow evicting pods currently because it \
            failed sync: it did";
        assert_eq!(cause(&failed).0, words);
        let mut old = budget(2);
        old["metadata"]["generation"] = json!(3);
        let words = "The disruption budget b is still being processed by the server.";
        assert_eq!(cause(&old), (words.to_owned(), Some(10)));
        let negative = take(&budget(-1), "p", now()).unwrap_err();
        assert_eq!(negative.code, 403);
    }

    #[test]
    fn unhealthy_pods_go_while_enough_are_healthy() {
        let mut one = budget(0);
        assert!(unhealthy_may_go(&one));
        one["status"]["currentHealthy"] = json!(1);
        assert!(!unhealthy_may_go(&one));
        one["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        assert!(unhealthy_may_go(&one));
    }
}
