//! What only pods have: binding to a node, streams.

use http::Response;
use quorate_api::field::{Error, Path};
use quorate_api::status::{GroupResource, OBJECT_MODIFIED, Status};
use quorate_state_machine::Outcome;
use serde_json::{Value, json};

use super::{Request, WriteOptions, pass};
use crate::admission::{self, Asked, Draft, Operation, Ownership};
use crate::authz::Attributes;
use crate::limits::CONFLICT_RETRIES_MAX;
use crate::model::{self, text};
use crate::reply::{self, Body};
use crate::stamp::propose;
use crate::status_error::{self, Answer};
use crate::streams::StreamRequest;

/// POST of a Binding, to `pods/NAME/binding` or to `bindings`: the pod goes to a node.
pub(super) async fn binding(mut request: Request) -> Answer<Response<Body>> {
    let options = WriteOptions::of(&request.query, "CreateOptions")?;
    let body = request.body().await?;
    let media = request.content_type().to_owned();
    let target = request.sub.map_or_else(|| request.def.target(), |sub| sub.target());
    let mut warnings = Vec::new();
    let binding = model::decode(&media, &body, target, options.validation, &mut warnings)?;
    let binding = pass::webhooks(&request, options.dry_run, binding, &mut warnings).await?;
    let name = text(&binding["metadata"]["name"]).to_owned();
    if request.target.named && name != request.target.name {
        return Err(Box::new(Status::bad_request(format!(
            "name in URL does not match name in Binding object: {} vs {name}",
            request.target.name
        ))));
    }
    validate(&binding, &name)?;
    request.def = quorate_api::resource::lookup("", "v1", "pods")
        .ok_or_else(|| Box::new(Status::resource_not_found()))?;
    request.target.name = name;
    bind(&request, &binding, options).await?;
    let mut response = reply::status(&Status::success(201));
    reply::warn(response.headers_mut(), &warnings);
    Ok(response)
}

fn validate(binding: &Value, name: &str) -> Answer<()> {
    let target = &binding["target"];
    let path = Path::new("target");
    let mut errors = Vec::new();
    if !matches!(text(&target["kind"]), "" | "Node") {
        errors.push(Error::not_supported(
            &path.child("kind"),
            text(&target["kind"]),
            &["Node", "<empty>"],
        ));
    }
    if text(&target["name"]).is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Box::new(Status::invalid(GroupResource::new("", "Binding"), name, &errors)))
}

async fn bind(request: &Request, binding: &Value, options: WriteOptions) -> Answer<()> {
    let pods = GroupResource::new("", "pods/binding");
    let name = request.target.name.as_str();
    let conflict = |why: &str| Box::new(Status::conflict(pods, name, why));
    let mut stored = request.current(false).await?;
    for _ in 0..=CONFLICT_RETRIES_MAX {
        let old = model::tree(request.def, &stored)?;
        let meta = &binding["metadata"];
        for (field, have) in
            [("uid", stored.uid().to_owned()), ("resourceVersion", stored.revision.to_string())]
        {
            let want = text(&meta[field]);
            if !want.is_empty() && want != have {
                return Err(conflict(&format!(
                    "Precondition failed: {field} in precondition: {want}, {field} in object \
                     meta: {have}"
                )));
            }
        }
        if !old["metadata"]["deletionTimestamp"].is_null() {
            return Err(conflict(&format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            )));
        }
        let host = text(&old["spec"]["nodeName"]);
        if !host.is_empty() {
            return Err(conflict(&format!(
                "pod {name} is already assigned to node {}",
                crate::parameters::quoted(host)
            )));
        }
        if model::has_items(&old["spec"]["schedulingGates"]) {
            return Err(conflict(&format!("pod {name} has non-empty .spec.schedulingGates")));
        }
        let object = bound(&old, binding, request.shared.clock.now());
        let draft = Draft {
            def: request.def,
            sub: "binding",
            operation: Operation::Update,
            namespace: request.target.namespace.clone(),
            name: name.to_owned(),
            object,
            old,
            warnings: Vec::new(),
            ownership: Ownership::Keep,
            asked: Asked { silent: true, ..Asked::default() },
        };
        let view = request.shared.store.view();
        let ctx = request.shared.context(&view);
        let admitted = admission::update(&ctx, &request.permitted, draft, &stored).await?;
        if options.dry_run {
            return Ok(());
        }
        let Some(command) = admitted.into_command() else { return Ok(()) };
        match propose(&request.shared.store, command).await? {
            Outcome::Done(_) => return Ok(()),
            Outcome::Conflict(_) => stored = request.current(true).await?,
            other => {
                let namespace = &request.target.namespace;
                let refusal = status_error::of_outcome(&other, request.resource(), namespace, name);
                return refusal.map_or(Ok(()), Err);
            }
        }
    }
    Err(conflict(OBJECT_MODIFIED))
}

/// The pod on its node.
fn bound(old: &Value, binding: &Value, now: jiff::Timestamp) -> Value {
    let mut pod = old.clone();
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    for (key, value) in binding["metadata"]["annotations"].as_object().into_iter().flatten() {
        pod["metadata"]["annotations"][key.as_str()] = value.clone();
    }
    for key in ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"] {
        if let Some(value) = binding["metadata"]["labels"].get(key) {
            pod["metadata"]["labels"][key] = value.clone();
        }
    }
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        conditions.retain(|one| one["type"] != "PodScheduled");
        conditions.push(json!({
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": null,
            "lastTransitionTime": crate::clock::rfc3339(now),
        }));
    }
    pod
}

/// `log`, `exec`, `attach`, `portforward`: for whoever holds the agents' streams.
pub(super) async fn stream(request: Request) -> Answer<Response<Body>> {
    let Some(streams) = request.shared.streams.clone() else {
        return Err(Box::new(Status::service_unavailable(
            "this master has no streams to node agents",
        )));
    };
    let subresource = request.target.subresource.clone();
    if subresource != "log" && request.permitted.info().verb() != "create" {
        // A WebSocket begins with a GET: reading rights alone must not run commands (upstream's
        // AuthorizePodWebsocketUpgradeCreatePermission).
        let info = request.permitted.info();
        let wanted = Attributes { verb: "create".to_owned(), ..Attributes::of(info) };
        request.shared.authorizer.check(request.permitted.identity(), &wanted)?;
    }
    if subresource != "log" {
        pass::connect(&request).await?;
    }
    // As it is now: a pod that somebody has just seen running is bound on this master, too.
    let stored = request.current(true).await?;
    let pod = model::tree(request.def, &stored)?;
    let (permitted, request) = request.into_http();
    let identity = permitted.identity().clone();
    Ok(streams.serve(StreamRequest { subresource, pod, identity, request }).await)
}
