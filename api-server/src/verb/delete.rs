//! DELETE: at once, or by grace period and finalizers (apiserver's `rest.BeforeDelete` and
//! `registry.Store`'s finalizer rules).

use http::Response;
use jiff::Timestamp;
use quorate_api::codec::{FieldValidation, Target};
use quorate_api::custom;
use quorate_api::field::{Error, Path};
use quorate_api::resource::ResourceDef;
use quorate_api::status::{GroupResource, Status};
use quorate_state_machine::Outcome;
use quorate_state_machine::object::{Stored, StoredRef};
use serde_json::{Value, json};

use super::{Request, options, update};
use crate::admission::{self, Admitted, Asked, Draft, Operation, Options, Ownership};
use crate::limits::DELETE_RETRIES_MAX;
use crate::model::{self, text};
use crate::parameters::Query;
use crate::reply::{self, Body};
use crate::stamp::{self, propose};
use crate::status_error::{self, Answer};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// metav1 `DeleteOptions`.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    /// `Orphan`, `Background` or `Foreground`; `None`: the kind's default.
    pub(crate) propagation: Option<String>,
    /// `orphanDependents` was given, as false.
    pub(crate) cascade_asked: bool,
    /// It is an eviction: the pod's conditions say so.
    pub(crate) evicted: bool,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// From the body when there is one, else from the query.
    pub(crate) fn of(content_type: &str, body: &[u8], query: &Query) -> Answer<Self> {
        let object = if body.is_empty() {
            from_query(query)?
        } else {
            let mut ignored = Vec::new();
            model::decode(
                content_type,
                body,
                Target::DELETE_OPTIONS,
                FieldValidation::Ignore,
                &mut ignored,
            )?
        };
        let mut errors = Vec::new();
        let in_body = object["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let dry_run = options::dry_run(in_body.chain(query.all("dryRun")), &mut errors);
        let propagation = object["propagationPolicy"].as_str().map(str::to_owned);
        let orphan = object["orphanDependents"].as_bool();
        if let Some(policy) = &propagation {
            if orphan.is_some() {
                errors.push(Error::invalid(
                    &Path::new("propagationPolicy"),
                    policy.as_str(),
                    "orphanDependents and deletionPropagation cannot be both set",
                ));
            }
            if !matches!(policy.as_str(), "Orphan" | "Background" | "Foreground") {
                errors.push(Error::not_supported(
                    &Path::new("propagationPolicy"),
                    policy.as_str(),
                    &["Foreground", "Background", "Orphan", "nil"],
                ));
            }
        }
        if !errors.is_empty() {
            let kind = GroupResource::new("meta.k8s.io", "DeleteOptions");
            return Err(Box::new(Status::invalid(kind, "", &errors)));
        }
        let preconditions = &object["preconditions"];
        Ok(Self {
            grace_period_seconds: object["gracePeriodSeconds"].as_i64(),
            uid: preconditions["uid"].as_str().map(str::to_owned),
            resource_version: preconditions["resourceVersion"].as_str().map(str::to_owned),
            propagation: propagation.or_else(|| {
                orphan.map(|orphan| if orphan { "Orphan" } else { "Background" }.to_owned())
            }),
            cascade_asked: orphan == Some(false),
            evicted: false,
            dry_run,
        })
    }
}

impl DeleteOptions {
    /// As webhooks see them, without apiVersion and kind.
    pub(crate) fn to_json(&self) -> Value {
        let mut options = json!({});
        if let Some(seconds) = self.grace_period_seconds {
            options["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(policy) = &self.propagation {
            options["propagationPolicy"] = json!(policy);
        }
        for (name, value) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(value) = value {
                options["preconditions"][name] = json!(value);
            }
        }
        options
    }
}

fn from_query(query: &Query) -> Answer<Value> {
    let mut object = json!({});
    if let Some(seconds) = query.number("gracePeriodSeconds")? {
        object["gracePeriodSeconds"] = json!(seconds);
    }
    if let Some(policy) = query.get("propagationPolicy").filter(|text| !text.is_empty()) {
        object["propagationPolicy"] = json!(policy);
    }
    if query.get("orphanDependents").is_some() {
        object["orphanDependents"] = json!(query.flag("orphanDependents"));
    }
    Ok(object)
}

/// What a delete comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DeletePlan {
    /// Gone at once.
    Remove,
    /// Marked; somebody else finishes it. Equal to the old version when nothing is left to mark.
    Mark(Value),
}

/// What deleting `old` comes to: pure.
pub(crate) fn plan(
    def: &ResourceDef,
    old: &Value,
    options: &DeleteOptions,
    now: Timestamp,
) -> DeletePlan {
    let mut plan = plan_any(def, old, options, now);
    if options.evicted
        && let DeletePlan::Mark(pod) = &mut plan
        && *pod != *old
    {
        evicted(pod, now);
    }
    plan
}

/// A pod that was evicted says so while it ends: Jobs tell disruptions from failures by this (upstream's
/// `addConditionAndDeletePod`).
fn evicted(pod: &mut Value, now: Timestamp) {
    const DISRUPTION_TARGET: &str = "DisruptionTarget";
    let generation = pod["metadata"]["generation"].clone();
    let mut condition = json!({
        "type": DISRUPTION_TARGET,
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastProbeTime": null,
        "lastTransitionTime": crate::clock::rfc3339(now),
    });
    if !generation.is_null() {
        condition["observedGeneration"] = generation;
    }
    let before = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let others = before.into_iter().filter(|one| one["type"] != DISRUPTION_TARGET);
    pod["status"]["conditions"] = others.chain([condition]).collect();
}

fn plan_any(def: &ResourceDef, old: &Value, options: &DeleteOptions, now: Timestamp) -> DeletePlan {
    if def.group().is_empty() && def.plural == "namespaces" {
        return plan_namespace(old, options, now);
    }
    let definition = def.group() == custom::GROUP && def.plural == custom::PLURAL;
    if definition && old["metadata"]["deletionTimestamp"].is_null() {
        return plan_definition(old, options, now);
    }
    let mut object = old.clone();
    let grace = graceful(def, old, options);
    let deleting = !old["metadata"]["deletionTimestamp"].is_null();
    if deleting && let Some(grace) = grace {
        // Only a shorter grace period counts, and finalizers are no longer touched.
        let pending = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        let shorter = options.grace_period_seconds.map(|_| grace).filter(|grace| *grace < pending);
        match shorter {
            None if pending > 0 || model::has_items(&old["metadata"]["finalizers"]) => {
                return DeletePlan::Mark(object);
            }
            None => return DeletePlan::Remove,
            Some(grace) => shorten(&mut object, pending, grace),
        }
        if grace == 0 && !model::has_items(&object["metadata"]["finalizers"]) {
            return DeletePlan::Remove;
        }
        return DeletePlan::Mark(object);
    }
    set_finalizers(&mut object, options, orphans_by_default(def));
    let finalizers = model::has_items(&object["metadata"]["finalizers"]);
    match grace {
        Some(grace) if grace > 0 || finalizers => {
            stamp::deleting(&mut object, now, grace);
            DeletePlan::Mark(object)
        }
        None if finalizers && deleting => DeletePlan::Mark(object),
        None if finalizers => {
            stamp::deleting(&mut object, now, 0);
            DeletePlan::Mark(object)
        }
        Some(_) | None => DeletePlan::Remove,
    }
}

/// The grace period, for kinds that have one: pods.
fn graceful(def: &ResourceDef, object: &Value, options: &DeleteOptions) -> Option<i64> {
    if !def.group().is_empty() || def.plural != "pods" {
        return None;
    }
    let own = object["spec"]["terminationGracePeriodSeconds"].as_i64();
    let grace = options.grace_period_seconds.or(own).unwrap_or(0);
    let over = matches!(text(&object["status"]["phase"]), "Succeeded" | "Failed");
    if over || text(&object["spec"]["nodeName"]).is_empty() {
        return Some(0);
    }
    Some(if grace < 0 { 1 } else { grace })
}

fn shorten(object: &mut Value, pending: i64, grace: i64) {
    let at = object["metadata"]["deletionTimestamp"]
        .as_str()
        .and_then(crate::clock::parse_seconds)
        .unwrap_or(0);
    let at = Timestamp::from_second(at - pending + grace).unwrap_or(Timestamp::UNIX_EPOCH);
    let meta = stamp::metadata(object);
    meta.insert("deletionTimestamp".to_owned(), json!(crate::clock::rfc3339(at)));
    meta.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
}

/// Kinds older than the garbage collector: who says nothing keeps their dependents.
fn orphans_by_default(def: &ResourceDef) -> bool {
    matches!((def.group(), def.plural), ("batch", "jobs") | ("", "replicationcontrollers"))
}

/// The garbage collector's finalizers follow from the propagation policy; without one those that
/// are there stay, and where there are none the kind's default holds.
fn set_finalizers(object: &mut Value, options: &DeleteOptions, orphans: bool) {
    let has = |finalizers: &Value, name: &str| {
        finalizers.as_array().is_some_and(|all| all.iter().any(|one| one == name))
    };
    let wanted = match options.propagation.as_deref() {
        None => {
            let there = &object["metadata"]["finalizers"];
            if !orphans || has(there, ORPHAN) || has(there, FOREGROUND) {
                return;
            }
            Some(ORPHAN)
        }
        Some("Orphan") => Some(ORPHAN),
        Some("Foreground") => Some(FOREGROUND),
        Some(_) => None,
    };
    let meta = stamp::metadata(object);
    let mut finalizers: Vec<Value> = meta
        .get("finalizers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|one| *one != ORPHAN && *one != FOREGROUND)
        .cloned()
        .collect();
    finalizers.extend(wanted.map(|one| json!(one)));
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".to_owned(), Value::Array(finalizers));
    }
}

/// A namespace is emptied by its controller first.
fn plan_namespace(old: &Value, options: &DeleteOptions, now: Timestamp) -> DeletePlan {
    let mut object = old.clone();
    if old["metadata"]["deletionTimestamp"].is_null() {
        set_finalizers(&mut object, options, false);
        let meta = stamp::metadata(&mut object);
        meta.insert("deletionTimestamp".to_owned(), json!(crate::clock::rfc3339(now)));
        object["status"]["phase"] = json!("Terminating");
    }
    let empty = !model::has_items(&object["spec"]["finalizers"])
        && !model::has_items(&object["metadata"]["finalizers"]);
    if empty { DeletePlan::Remove } else { DeletePlan::Mark(object) }
}

/// The objects of a custom kind go first: its controller takes the finalizer away.
fn plan_definition(old: &Value, options: &DeleteOptions, now: Timestamp) -> DeletePlan {
    let mut object = old.clone();
    set_finalizers(&mut object, options, false);
    stamp::deleting(&mut object, now, 0);
    let finalizers = &mut object["metadata"]["finalizers"];
    if finalizers.is_null() {
        *finalizers = json!([]);
    }
    if let Some(finalizers) = finalizers.as_array_mut()
        && !finalizers.iter().any(|one| one == custom::FINALIZER)
    {
        finalizers.push(json!(custom::FINALIZER));
    }
    let others = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let others = others.into_iter().filter(|one| one["type"] != "Terminating");
    let condition = json!({
        "type": "Terminating",
        "status": "True",
        "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        "lastTransitionTime": crate::clock::rfc3339(now),
    });
    object["status"]["conditions"] = others.chain([condition]).collect();
    DeletePlan::Mark(object)
}

pub(super) async fn run(mut request: Request) -> Answer<Response<Body>> {
    request.check_form()?;
    let body = request.body().await?;
    let media = request.content_type().to_owned();
    let options = DeleteOptions::of(&media, &body, &request.query)?;
    let mut response = delete(&request, &options).await?;
    reply::warn(response.headers_mut(), &default_warning(request.def, &options));
    Ok(response)
}

/// Deletes the request's object.
pub(super) async fn delete(request: &Request, options: &DeleteOptions) -> Answer<Response<Body>> {
    let mut stored = request.current(false).await?;
    for _ in 0..DELETE_RETRIES_MAX {
        let admitted = match admit(request, &stored, options).await {
            Ok(admitted) => admitted,
            // What this master has may be old: preconditions are judged on the newest version.
            Err(refusal) if refusal.code == 409 => {
                let newest = request.current(true).await?;
                if newest.revision == stored.revision {
                    return Err(refusal);
                }
                stored = newest;
                continue;
            }
            Err(refusal) => return Err(refusal),
        };
        let removed = admitted.is_removal();
        let image = admitted.image().cloned();
        let object = admitted.object().clone();
        let command = if options.dry_run { None } else { admitted.into_command() };
        let revision = match command {
            None => stored.revision,
            Some(command) => match propose(&request.shared.store, command).await? {
                Outcome::Done(revision) => revision,
                Outcome::Conflict(_) | Outcome::OtherUid(_) => {
                    stored = request.current(true).await?;
                    continue;
                }
                Outcome::NotFound => return Err(request.not_found()),
                other => {
                    return Err(status_error::of_outcome(
                        &other,
                        request.resource(),
                        &request.target.namespace,
                        &request.target.name,
                    )
                    .unwrap_or_else(|| Box::new(Status::internal_error("unexpected outcome"))));
                }
            },
        };
        if removed && !request.def.delete_returns_object {
            let status = Status::deleted(request.resource(), &request.target.name, stored.uid());
            return Ok(reply::status(&status));
        }
        let code = if !removed && options.cascade_asked { 202 } else { 200 };
        return match image {
            Some(image) => request.show_stored(code, &Stored::new(request.key(), revision, image)),
            None => request.show(code, update::at(object, revision)),
        };
    }
    Err(Box::new(Status::conflict(
        request.resource(),
        &request.target.name,
        quorate_api::status::OBJECT_MODIFIED,
    )))
}

/// What a client is told that deletes a job and leaves its pods, without having asked for that.
fn default_warning(def: &ResourceDef, options: &DeleteOptions) -> Vec<String> {
    if options.propagation.is_some() || def.plural != "jobs" || !orphans_by_default(def) {
        return Vec::new();
    }
    vec![
        "child pods are preserved by default when jobs are deleted; set \
         propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress \
         this warning"
            .to_owned(),
    ]
}

/// What deleting a stored object comes to, admitted.
pub(super) async fn admit(
    request: &Request,
    stored: &StoredRef,
    options: &DeleteOptions,
) -> Answer<Admitted> {
    let shared = &request.shared;
    let name = stored.key.object.name.to_string();
    let kind = GroupResource::new(request.def.group(), request.def.kind());
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != stored.uid()) {
        return Err(Box::new(Status::delete_uid_conflict(kind, &name, uid, stored.uid())));
    }
    let revision = stored.revision.to_string();
    if let Some(wanted) = options.resource_version.as_deref().filter(|one| *one != revision) {
        return Err(Box::new(Status::delete_version_conflict(kind, &name, wanted, &revision)));
    }
    let view = shared.store.view();
    let ctx = shared.context(&view);
    let old = model::tree(request.def, stored)?;
    let plan = plan(request.def, &old, options, ctx.now);
    let draft = Draft {
        def: request.def,
        sub: "",
        operation: Operation::Delete,
        namespace: stored.key.object.namespace.to_string(),
        name,
        object: old.clone(),
        old,
        warnings: Vec::new(),
        ownership: Ownership::Keep,
        asked: Asked {
            dry_run: options.dry_run,
            options: Options::Delete(options.clone()),
            silent: options.evicted,
        },
    };
    match plan {
        DeletePlan::Remove => admission::delete(&ctx, &request.permitted, draft, stored).await,
        DeletePlan::Mark(marked) => {
            admission::mark_deleting(&ctx, &request.permitted, draft, stored, marked).await
        }
    }
}

#[cfg(test)]
mod tests;
