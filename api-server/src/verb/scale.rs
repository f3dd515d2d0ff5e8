//! The `scale` subresource: an autoscaling/v1 Scale over the replicas of an object.

use http::Response;
use quorate_api::codec::Target;
use quorate_api::field::{Error, Path};
use quorate_api::status::{GroupResource, Status};
use quorate_state_machine::Revision;
use quorate_store::Consistency;
use serde_json::{Value, json};

use super::{Request, WriteOptions, patch, update};
use crate::model::{self, text};
use crate::reply::Body;
use crate::status_error::{self, Answer};

fn target(request: &Request) -> Answer<Target> {
    request
        .sub
        .map(|sub| sub.target())
        .ok_or_else(|| Box::new(Status::internal_error("scale without a subresource")))
}

/// The Scale of an object.
fn scale_of(object: &Value) -> Value {
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
    // Go leaves zero replicas out of the spec.
    if let Some(replicas) = object["spec"]["replicas"].as_i64().filter(|replicas| *replicas != 0) {
        scale["spec"]["replicas"] = json!(replicas);
    }
    if let Ok(selector) = quorate_api::selector::object::label_selector(&object["spec"]["selector"])
    {
        let text = selector.to_string();
        if !text.is_empty() {
            scale["status"]["selector"] = json!(text);
        }
    }
    scale
}

pub(super) async fn get(request: Request) -> Answer<Response<Body>> {
    let view = request
        .shared
        .store
        .read(Consistency::Linearizable)
        .await
        .map_err(|error| status_error::of_store(&error))?;
    let stored = view.get(&request.key()).ok_or_else(|| request.not_found())?;
    show(&request, &model::tree(request.def, stored)?)
}

fn show(request: &Request, object: &Value) -> Answer<Response<Body>> {
    request.show_kind(200, ("autoscaling", "Scale"), scale_of(object))
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
    let make = |old: &Value| Ok((scaled(old, &scale), Vec::new()));
    finish(&request, expected, options, make).await
}

pub(super) async fn patch(mut request: Request) -> Answer<Response<Body>> {
    let options = WriteOptions::of(&request.query, "PatchOptions")?;
    let media = request.content_type().to_owned();
    let body = request.body().await?;
    let patch = patch::Patch::read(&media, &body)?;
    let target = target(&request)?;
    let kind = GroupResource::new(target.gvk.group, target.gvk.kind);
    let make = |old: &Value| {
        let before = scale_of(old);
        let patched = patch.apply(kind, target.schema, &before)?;
        let (scale, warnings) = patch.decode(&patched, target, options.validation)?;
        validate(&request, &scale)?;
        let mut object = scaled(old, &scale);
        if scale["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] {
            crate::stamp::metadata(&mut object)
                .insert("resourceVersion".to_owned(), scale["metadata"]["resourceVersion"].clone());
        }
        Ok((object, warnings))
    };
    finish(&request, None, options, make).await
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

fn scaled(old: &Value, scale: &Value) -> Value {
    let mut object = old.clone();
    object["spec"]["replicas"] = json!(scale["spec"]["replicas"].as_i64().unwrap_or(0));
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
    let object = update::change_value(request, expected, options, make).await?;
    show(request, &object)
}
