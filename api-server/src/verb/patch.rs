//! PATCH: JSON patch, merge patch, strategic merge patch, on the object or a subresource.

use bytes::Bytes;
use http::Response;
use quorate_api::codec::{MediaType, decode_any};
use quorate_api::status::{GroupResource, Status};
use serde_json::Value;

use super::{Request, WriteOptions, update};
use crate::model;
use crate::reply::Body;
use crate::status_error::Answer;

/// The forms of patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Merge,
    Strategic,
}

const SERVED: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

impl Form {
    /// The form that a content type names, or 415.
    pub(super) fn of(content_type: &str) -> Answer<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            _ => Err(Box::new(Status::unsupported_media_type(&SERVED))),
        }
    }
}

/// A patch that was read.
pub(super) struct Patch {
    form: Form,
    value: Value,
}

impl Patch {
    pub(super) fn read(content_type: &str, body: &Bytes) -> Answer<Self> {
        let form = Form::of(content_type)?;
        let value = decode_any(MediaType::Json, body)
            .map_err(|why| Status::bad_request(format!("error decoding patch: {why}")))?;
        if form != Form::Json && !value.is_object() {
            return Err(Box::new(Status::bad_request(
                "error decoding patch: json: cannot unmarshal array into Go value of type \
                 map[string]interface {}",
            )));
        }
        Ok(Self { form, value })
    }

    /// The object with the patch applied.
    pub(super) fn apply(
        &self,
        kind: GroupResource<'_>,
        schema: quorate_api::schema::TypeId,
        object: &Value,
    ) -> Answer<Value> {
        match self.form {
            Form::Json => model::json_patch(kind, object, &self.value),
            Form::Merge => model::merge_patch(kind, object, &self.value),
            Form::Strategic => model::strategic_patch(kind, schema, object, &self.value),
        }
    }
}

pub(super) async fn run(mut request: Request) -> Answer<Response<Body>> {
    request.check_form()?;
    let options = WriteOptions::of(&request.query, "PatchOptions")?;
    let content_type = request.content_type().to_owned();
    let form = Form::of(&content_type)?;
    if request.query.get("force").is_some_and(|force| !force.is_empty()) {
        let error = quorate_api::field::Error::forbidden(
            &quorate_api::field::Path::new("force"),
            "may not be specified for non-apply patch",
        );
        return Err(Box::new(Status::invalid(
            GroupResource::new("meta.k8s.io", "PatchOptions"),
            "",
            &[error],
        )));
    }
    let body = request.body().await?;
    let patch = Patch::read(&content_type, &body)?;
    debug_assert_eq!(form, patch.form, "the form was read twice from one header");
    let kind = GroupResource::new(request.def.group(), request.def.kind());
    let make = |old: &Value| {
        let patched = patch.apply(kind, request.def.schema, old)?;
        let mut warnings = Vec::new();
        let object =
            model::decode_tree(&patched, request.def.target(), options.validation, &mut warnings)?;
        check_names(old, &object)?;
        let named = &patch.value["metadata"]["resourceVersion"];
        let mut object = object;
        if patch.form != Form::Json && named.is_null() {
            // The version came from the current object: the client did not ask for it.
            crate::stamp::metadata(&mut object).remove("resourceVersion");
        } else if patch.form == Form::Json
            && old["metadata"]["resourceVersion"] == object["metadata"]["resourceVersion"]
        {
            crate::stamp::metadata(&mut object).remove("resourceVersion");
        }
        Ok((object, warnings))
    };
    update::change(&request, None, options, make).await
}

/// A patch changes neither name nor namespace.
fn check_names(old: &Value, new: &Value) -> Answer<()> {
    let (old, new) = (&old["metadata"], &new["metadata"]);
    if model::text(&new["name"]) != model::text(&old["name"]) {
        return Err(Box::new(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            model::text(&new["name"]),
            model::text(&old["name"])
        ))));
    }
    if model::text(&new["namespace"]) != model::text(&old["namespace"]) {
        return Err(Box::new(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )));
    }
    Ok(())
}
