//! The `scale` subresource: an autoscaling/v1 Scale over the replicas of an object.

use http::Response;
use quorate_api::codec::{Target, decode_value};
use quorate_api::field::{Error, Path};
use quorate_api::managed;
use quorate_api::resource::ResourceDef;
use quorate_api::status::{GroupResource, Status};
use quorate_state_machine::Revision;
use quorate_store::Consistency;
use serde_json::{Value, json};

use super::{Request, WriteOptions, apply, patch, update};
use crate::model::{self, text};
use crate::reply::{self, Body};
use crate::status_error::{self, Answer, Refusal};

fn target(request: &Request) -> Answer<Target> {
    request
        .sub
        .map(|sub| sub.target())
        .ok_or_else(|| Box::new(Status::internal_error("scale without a subresource")))
}

/// The Scale of an object.
pub(crate) fn scale_of(def: &ResourceDef, object: &Value) -> Value {
    let meta = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
            "creationTimestamp": meta["creationTimestamp"],
        },
        "spec": {},
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)},
    });
    let own = def.custom.and_then(|custom| custom.scale.as_ref());
    let wanted = match own {
        Some(own) => own.wanted(object),
        None => object["spec"]["replicas"].as_i64(),
    };
    // Go leaves zero replicas out of the spec.
    if let Some(replicas) = wanted.filter(|replicas| *replicas != 0) {
        scale["spec"]["replicas"] = json!(replicas);
    }
    if let Some(own) = own {
        scale["status"] = own.status(object);
        return scale;
    }
    if let Some(selector) = quorate_api::convert::scale_selector(object) {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

/// It is the Scale that is not there, as upstream words it.
fn not_found(request: &Request) -> Refusal {
    let plural = format!("{}/scale", request.def.plural);
    let resource = GroupResource::new(request.def.group(), &plural);
    Box::new(Status::not_found(resource, &request.target.name))
}

pub(super) async fn get(request: Request) -> Answer<Response<Body>> {
    let view = request
        .shared
        .store
        .read(Consistency::Linearizable)
        .await
        .map_err(|error| status_error::of_store(&error))?;
    let stored = view.get(&request.key()).ok_or_else(|| not_found(&request))?;
    show(&request, &model::tree(request.def, stored)?)
}

fn show(request: &Request, object: &Value) -> Answer<Response<Body>> {
    request.show_kind(200, ("autoscaling", "Scale"), scale_of(request.def, object))
}

pub(super) async fn update(mut request: Request) -> Answer<Response<Body>> {
    let options = WriteOptions::of(&request.query, "UpdateOptions")?;
    let body = request.body().await?;
    let media = request.content_type().to_owned();
    let mut warnings = Vec::new();
    let scale = model::decode(&media, &body, target(&request)?, options.validation, &mut warnings)?;
    if text(&scale["metadata"]["name"]) != request.target.name {
        return Err(Box::new(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            text(&scale["metadata"]["name"]),
            request.target.name
        ))));
    }
    let expected = update::expected(&scale)?;
    validate(&request, &scale)?;
    let make = |old: &Value| Ok((scaled(request.def, old, &scale), warnings.clone()));
    finish(&request, expected, options, make).await
}

pub(super) async fn patch(mut request: Request) -> Answer<Response<Body>> {
    let media = request.content_type().to_owned();
    if patch::Form::of(&media)? == patch::Form::Apply {
        return apply(request).await;
    }
    let options = WriteOptions::of(&request.query, "PatchOptions")?;
    patch::no_force(&request)?;
    let body = request.body().await?;
    let patch = patch::Patch::read(&media, &body)?;
    let target = target(&request)?;
    let kind = GroupResource::new(target.gvk.group, target.gvk.kind);
    let make = |old: &Value| {
        let before = scale_of(request.def, old);
        let patched = patch.apply(kind, target.schema, &before)?;
        let (scale, warnings) = patch.decode(&patched, target, options.validation)?;
        validate(&request, &scale)?;
        let mut object = scaled(request.def, old, &scale);
        if scale["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] {
            crate::stamp::metadata(&mut object)
                .insert("resourceVersion".to_owned(), scale["metadata"]["resourceVersion"].clone());
        }
        Ok((object, warnings))
    };
    finish(&request, None, options, make).await
}

/// Server-side apply: the replicas become the applier's, in the object as in its Scale.
async fn apply(mut request: Request) -> Answer<Response<Body>> {
    let options = WriteOptions::of_apply(&request.query)?;
    let body = request.body().await?;
    let (config, warnings) = apply::read(&body, options.validation)?;
    let target = target(&request)?;
    let of =
        managed::Target { gvk: target.gvk, schema: target.schema, has_status: true, custom: None };
    let manager = request.field_manager();
    let force = request.query.flag("force");
    let make = |old: &Value| {
        let now = crate::clock::rfc3339(request.shared.clock.now());
        let writer = managed::Writer { manager: &manager, subresource: "scale", now: &now };
        let mut before = scale_of(request.def, old);
        managed::set_field(&mut before, managed::scale::of_scale(old));
        let merged = managed::apply(Some(&before), &config, of, writer, force);
        let merged = merged.map_err(apply::refusal)?;
        let scale = decode_value(&merged, target)
            .map_err(|error| Status::unclassified(error.cause()))?
            .value;
        patch::check_names(&before, &scale)?;
        validate(&request, &scale)?;
        let mut object = scaled(request.def, old, &scale);
        let owners = managed::scale::of_scaled(old, &scale, &request.def.api_version());
        managed::set_field(&mut object, owners);
        name_version(&mut object, &config, &scale);
        Ok((object, warnings.clone()))
    };
    finish(&request, None, options, make).await
}

/// The version that the client asked for, when it named one.
fn name_version(object: &mut Value, asked: &Value, scale: &Value) {
    if asked["metadata"]["resourceVersion"].is_string() {
        let version = scale["metadata"]["resourceVersion"].clone();
        crate::stamp::metadata(object).insert("resourceVersion".to_owned(), version);
    }
}

fn validate(request: &Request, scale: &Value) -> Answer<()> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas >= 0 {
        return Ok(());
    }
    let path = Path::new("spec");
    let error =
        Error::invalid(&path.child("replicas"), replicas, "must be greater than or equal to 0");
    let kind = GroupResource::new("autoscaling", "Scale");
    Err(Box::new(Status::invalid(kind, &request.target.name, &[error])))
}

pub(crate) fn scaled(def: &ResourceDef, old: &Value, scale: &Value) -> Value {
    let mut object = old.clone();
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    match def.custom.and_then(|custom| custom.scale.as_ref()) {
        Some(own) => own.set(&mut object, replicas),
        None => object["spec"]["replicas"] = json!(replicas),
    }
    crate::stamp::metadata(&mut object).remove("resourceVersion");
    object
}

/// Updates the object itself and answers with its Scale.
async fn finish(
    request: &Request,
    expected: Option<Revision>,
    options: WriteOptions,
    make: impl Fn(&Value) -> Answer<(Value, Vec<String>)>,
) -> Answer<Response<Body>> {
    let changed = update::change_value(request, expected, options, make).await;
    let (object, warnings) = changed.map_err(|refusal| match refusal.code {
        404 => not_found(request),
        _ => refusal,
    })?;
    let mut response = show(request, &object)?;
    reply::warn(response.headers_mut(), &warnings);
    Ok(response)
}
