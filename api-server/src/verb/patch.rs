//! PATCH: JSON patch, merge patch, strategic merge patch, on the object or a subresource.

use bytes::Bytes;
use http::Response;
use quorate_api::codec::{FieldValidation, MediaType, Target, decode_any, decode_value, json};
use quorate_api::status::{GroupResource, Status};
use quorate_api::text;
use serde_json::Value;

use super::{Request, WriteOptions, apply, update};
use crate::model;
use crate::reply::Body;
use crate::status_error::Answer;

/// The forms of patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Merge,
    Strategic,
    /// Server-side apply.
    Apply,
}

const SERVED: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Nobody knows how the lists of custom kinds would be merged.
const SERVED_CUSTOM: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

impl Form {
    /// The form that a content type names, or 415.
    pub(super) fn of(content_type: &str) -> Answer<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(Box::new(Status::unsupported_media_type(&SERVED))),
        }
    }
}

/// A patch that was read.
pub(super) struct Patch {
    form: Form,
    value: Value,
    body: Bytes,
}

impl Patch {
    pub(super) fn read(content_type: &str, body: &Bytes) -> Answer<Self> {
        let form = Form::of(content_type)?;
        let bad = |why: &str| {
            // A strategic merge patch's parser is not introduced.
            let words = if form == Form::Strategic { "" } else { "error decoding patch: " };
            Box::new(Status::bad_request(format!("{words}{why}")))
        };
        let value = decode_any(MediaType::Json, body).map_err(|why| bad(&why))?;
        if form != Form::Json && !value.is_object() {
            let found = match value {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            return Err(bad(&format!(
                "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
            )));
        }
        Ok(Self { form, value, body: body.clone() })
    }

    /// The patched object as one of its kind: checked strictly, in normal form. What is wrong with
    /// the patch itself (duplicate fields, unknown ones of an operation) is told with it.
    pub(super) fn decode(
        &self,
        patched: &Value,
        target: Target,
        validation: FieldValidation,
    ) -> Answer<(Value, Vec<String>)> {
        let refused = |why: &str| {
            let shown = match self.form {
                Form::Strategic => text::go(&self.value),
                Form::Json | Form::Merge | Form::Apply => patched.to_string(),
            };
            Box::new(Status::patch_not_decoded(shown, why))
        };
        let decoded = decode_value(patched, target).map_err(|error| {
            let cause = error.cause();
            match self.form {
                Form::Strategic => refused(&unstructured(&cause).unwrap_or(cause)),
                Form::Json | Form::Merge | Form::Apply => refused(&cause),
            }
        })?;
        if validation == FieldValidation::Ignore {
            return Ok((decoded.value, Vec::new()));
        }
        let mut strict = self.own_faults(target);
        strict.extend(decoded.strict);
        if validation == FieldValidation::Strict && !strict.is_empty() {
            return Err(refused(&format!("strict decoding error: {}", strict.join(", "))));
        }
        Ok((decoded.value, strict))
    }

    fn own_faults(&self, target: Target) -> Vec<String> {
        if self.form != Form::Json {
            let parsed = json::parse(&self.body, target.schema);
            let strict = parsed.map(|parsed| parsed.strict).unwrap_or_default();
            return strict.into_iter().filter(|one| one.starts_with("duplicate")).collect();
        }
        let operations = self.value.as_array().into_iter().flatten().enumerate();
        let unknown = operations.flat_map(|(at, operation)| {
            let names = operation.as_object().into_iter().flat_map(serde_json::Map::keys);
            names
                .filter(|name| !matches!(name.as_str(), "op" | "path" | "from" | "value"))
                .map(move |name| format!("json patch unknown field \"[{at}].{name}\""))
        });
        unknown.collect()
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
            // Needs owners, which `apply` knows.
            Form::Apply => Err(Box::new(Status::unsupported_media_type(&SERVED))),
        }
    }
}

/// Upstream reads the result of a strategic merge patch with another decoder, which says otherwise
/// that a value is of the wrong type. `None`: the text is about something else.
fn unstructured(cause: &str) -> Option<String> {
    let rest = cause.strip_prefix("json: cannot unmarshal ")?;
    let (found, rest) = rest.split_once(" into Go struct field ")?;
    let (_, wanted) = rest.split_once(" of type ")?;
    let (kind, name) = match found {
        "array" => ("slice", "[]interface {}"),
        "object" => ("map", "map[string]interface {}"),
        "number" => ("int64", "int64"),
        found if found.starts_with("number") => ("float64", "float64"),
        found => (found, found),
    };
    Some(match wanted {
        wanted if wanted.starts_with("map[") => format!("cannot restore map from {kind}"),
        wanted if wanted.starts_with("[]") => format!("cannot restore slice from {kind}"),
        wanted if wanted.contains('.') => format!("cannot restore struct from: {kind}"),
        wanted => format!("cannot convert {name} to {wanted}"),
    })
}

pub(super) async fn run(mut request: Request) -> Answer<Response<Body>> {
    let content_type = request.content_type().to_owned();
    let form = Form::of(&content_type)?;
    if form == Form::Strategic && request.def.custom.is_some() {
        return Err(Box::new(Status::unsupported_media_type(&SERVED_CUSTOM)));
    }
    request.check_form()?;
    if form == Form::Apply {
        return apply::run(request).await;
    }
    let options = WriteOptions::of(&request.query, "PatchOptions")?;
    no_force(&request)?;
    let body = request.body().await?;
    let patch = Patch::read(&content_type, &body)?;
    debug_assert_eq!(form, patch.form, "the form was read twice from one header");
    let kind = GroupResource::new(request.def.group(), request.def.kind());
    let make = |old: &Value| {
        let patched = patch.apply(kind, request.def.schema, old)?;
        let (object, warnings) =
            patch.decode(&patched, request.def.target(), options.validation)?;
        check_names(old, &object)?;
        let named = &patch.value["metadata"]["resourceVersion"];
        let (mut object, mut warnings) = (object, warnings);
        warnings.extend(crate::stamp::distinct_owners(&mut object));
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

/// Only an apply may be forced.
pub(super) fn no_force(request: &Request) -> Answer<()> {
    if request.query.text("force").is_empty() {
        return Ok(());
    }
    let error = quorate_api::field::Error::forbidden(
        &quorate_api::field::Path::new("force"),
        "may not be specified for non-apply patch",
    );
    let kind = GroupResource::new("meta.k8s.io", "PatchOptions");
    Err(Box::new(Status::invalid(kind, "", &[error])))
}

/// A patch changes neither name nor namespace.
pub(super) fn check_names(old: &Value, new: &Value) -> Answer<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_types_are_told_as_the_decoder_of_strategic_patches_tells_them() {
        let told = |found: &str, wanted: &str| {
            unstructured(&format!(
                "json: cannot unmarshal {found} into Go struct field A.b of type {wanted}"
            ))
        };
        let cases = [
            ("string", "map[string]string", "cannot restore map from string"),
            ("object", "[]v1.Container", "cannot restore slice from map"),
            ("array", "v1.PodSpec", "cannot restore struct from: slice"),
            ("number", "string", "cannot convert int64 to string"),
            ("number 1.5", "int32", "cannot convert float64 to int32"),
            ("object", "bool", "cannot convert map[string]interface {} to bool"),
        ];
        for (found, wanted, text) in cases {
            assert_eq!(told(found, wanted).as_deref(), Some(text), "{found} {wanted}");
        }
        assert_eq!(unstructured("quantities must match the regular expression"), None);
    }
}
